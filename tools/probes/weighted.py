"""Convolutions, products of matrices, matrices_of_nibbles, sequences, embeddings: operators with weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from torch2circle.ir import Array, DType, Quant, Type

from .making import F32, I4, I8, I16, I32, I64, SHAPE, U8, Attrs, Operand, Probe, const, draw, probe

# scheme -> element types of activation and weight, and whether each output channel has its own scale
WEIGHTS = {
    "f32": (F32, F32, False), "i8/i8pc": (I8, I8, True), "i8/i8pt": (I8, I8, False),
    "u8/u8pc": (U8, U8, True), "u8/u8pt": (U8, U8, False), "u8/i8pc": (U8, I8, True),
    "f32/i8pc": (F32, I8, True), "f32/i8pt": (F32, I8, False), "f32/u8pc": (F32, U8, True), "f32/u8pt": (F32, U8, False),
    "i16/i8pc": (I16, I8, True), "i16/i8pt": (I16, I8, False),
}  # fmt: skip


FOUR_BITS = {"i8/i4pc": (I8, I4, True), "i8/i4pt": (I8, I4, False), "f32/i4pc": (F32, I4, True), "f32/i4pt": (F32, I4, False)}


def window(x: Array, size: Sequence[int], stride: int, dilation: int, same: bool, fill: float) -> Array:
    """[N, spatial..., C, taps]: what each output position sees of an array with channels last."""
    spatial = range(1, x.ndim - 1)
    pads = [(0, 0)] * x.ndim
    for axis in spatial:
        reach = (size[axis - 1] - 1) * dilation + 1
        total = max(0, (-(-x.shape[axis] // stride) - 1) * stride + reach - x.shape[axis]) if same else 0
        pads[axis] = (total // 2, total - total // 2)
    x = np.pad(x, pads, constant_values=fill)
    reaches = [x.shape[axis] - (size[axis - 1] - 1) * dilation for axis in spatial]
    starts = [[tap * dilation for tap in taps] for taps in np.ndindex(*size)]
    seen = [(slice(None), *(slice(a, a + reach, stride) for a, reach in zip(start, reaches, strict=True))) for start in starts]
    return np.stack([x[part] for part in seen], -1)


def convolve(x: Array, w: Array, stride: int, dilation: int, same: bool, groups: int) -> Array:
    """``w`` is [O, KH, KW, I / groups]."""
    seen = window(x, w.shape[1:-1], stride, dilation, same, 0)
    parts = zip(np.split(seen, groups, -2), np.split(w.reshape(w.shape[0], -1, w.shape[-1]), groups, 0), strict=True)
    return np.concatenate([np.einsum("...ck,okc->...o", s, f, optimize=True) for s, f in parts], -1)


def spread(x: Array, w: Array, stride: int, shape: Sequence[int]) -> Array:
    """The transpose of a convolution: ``w`` is [O, spatial..., I], ``shape`` the spatial extents of the result; it may end in zeros."""
    size = w.shape[1:-1]
    reached = ((n - 1) * stride + k for n, k in zip(x.shape[1:-1], size, strict=True))
    full = np.zeros((x.shape[0], *map(max, reached, shape), w.shape[0]))
    every = (slice(None),)
    for taps in np.ndindex(*size):
        places = tuple(slice(tap, tap + (n - 1) * stride + 1, stride) for tap, n in zip(taps, x.shape[1:-1], strict=True))
        full[every + places] += x @ w[every + taps].T
    starts = [max(0, have - want) // 2 for have, want in zip(full.shape[1:-1], shape, strict=True)]
    return full[every + tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=True))]


def activate(real: Array, name: str) -> Array:
    return real if name == "NONE" else np.clip(real, 0, 6 if name == "RELU6" else None)


def weight(shape: Sequence[int], dtype: DType, axis: int | None) -> Operand:
    """Symmetric in [-127, 127], uint8 around 128, or 4 bits; channel scales a factor of 3 apart."""
    if dtype is F32:
        return draw("w", shape, F32, const=True)
    rng = np.random.default_rng(5)
    count = 1 if axis is None else shape[axis]
    zero = 128 if dtype is U8 else 0
    quant = Quant((0.004 * rng.uniform(0.6, 1.8, count)).astype(np.float32), np.full(count, zero, np.int64), axis)
    ends = (-8, 8) if dtype is I4 else (-127, 128)
    return Operand(Type(tuple(shape), dtype, quant), (rng.integers(*ends, shape) + zero).astype(dtype.numpy), const=True)


def bias(x: Operand, w: Operand, count: int) -> Operand:
    if x.type.dtype is F32 or x.type.quant is None or w.type.quant is None:
        return draw("bias", (count,), F32, const=True)
    quant = Quant(x.type.quant.scale * w.type.quant.scale, np.zeros_like(w.type.quant.zero_point), None if w.type.quant.axis is None else 0)
    dtype = I64 if x.type.dtype is I16 else I32
    array = np.random.default_rng(6).integers(-20000, 20000, count).astype(dtype.numpy)
    return Operand(Type((count,), dtype, quant), array, const=True)


def activation(shape: Sequence[int], dtype: DType) -> Operand:
    """Float samples of unequal magnitude, which a kernel that quantizes them must not treat as one."""
    x = draw("x", shape, dtype)
    if dtype is not F32:
        return x
    size = 1 / (1 + np.arange(shape[0], dtype=np.float32) % 3)
    return Operand(x.type, x.array * size.reshape(-1, *[1] * (len(shape) - 1)))


def hybrid_bound(x: Operand, w: Operand, weight_sums: Array, rank: int) -> Array | None:
    """A kernel that quantizes each float sample to 8 bits rounds each activation by half a step: times the sum of the absolute weights."""
    if x.type.dtype is not F32 or w.type.dtype is F32:
        return None
    steps = np.abs(x.real).reshape(x.type.shape[0], -1).max(1) / 127
    return np.asarray(steps.reshape(-1, *[1] * (rank - 1)) / 2 * weight_sums)


def computed(w: Operand) -> Iterator[Operand]:
    """A float weight that is no constant: given, or made of a constant of integers."""
    yield Operand(w.type, w.array)
    for dtype in (I8, U8):
        stored = weight(w.type.shape, dtype, None)
        yield Operand(w.type, stored.real.astype(np.float32), stored=stored)


def convolutions() -> Iterator[Probe]:
    # filter size, output channels of each input channel (depthwise) or 0, groups, stride, dilation, padding, fused activation
    cases = [
        (1, 0, 1, 1, 1, "VALID", "NONE"), (3, 0, 1, 2, 1, "SAME", "NONE"), (3, 0, 1, 1, 1, "VALID", "RELU"),
        (3, 0, 1, 1, 2, "SAME", "RELU6"), (3, 0, 2, 1, 1, "SAME", "NONE"), (1, 0, 4, 1, 1, "VALID", "NONE"),
        (3, 1, 16, 1, 1, "SAME", "NONE"), (3, 2, 16, 1, 1, "VALID", "RELU"),
        (5, 1, 16, 2, 1, "SAME", "RELU6"), (3, 1, 16, 1, 2, "SAME", "NONE"),
    ]  # fmt: skip
    for images in (1, 3):
        for x_type, w_type, channels in WEIGHTS.values():
            for size, multiplier, groups, stride, dilation, padding, act in cases:
                x = activation((images, *SHAPE[1:]), x_type)
                shape = (1, size, size, 16 * multiplier) if multiplier else (24, size, size, 16 // groups)
                w = weight(shape, w_type, None if not channels else 3 if multiplier else 0)
                for used in (w, *computed(w)) if w_type is F32 else (w,):
                    b = bias(x, used, 16 * multiplier or 24)
                    kernel = used.real.transpose(3, 1, 2, 0) if multiplier else used.real
                    real = activate(convolve(x.real, kernel, stride, dilation, padding == "SAME", groups) + b.real, act)
                    attrs: Attrs = {"stride_w": stride, "stride_h": stride}
                    attrs |= {"dilation_w_factor": dilation, "dilation_h_factor": dilation}
                    attrs |= {"depth_multiplier": multiplier} if multiplier else {}
                    op = "DEPTHWISE_CONV_2D" if multiplier else "CONV_2D"
                    bound = hybrid_bound(x, used, np.abs(kernel).sum((1, 2, 3)), 4)
                    yield probe(op, [x, used, b], real, x_type, bound=bound, padding=padding, fused_activation_function=act, **attrs)


def transposed_convolutions() -> Iterator[Probe]:
    cases = [  # filter size, stride, extents of the result, padding
        (3, 1, (8, 9), "SAME"), (3, 2, (16, 18), "SAME"), (4, 2, (18, 20), "VALID"),
        (2, 2, (16, 18), "VALID"), (5, 3, (26, 29), "VALID"), (3, 3, (25, 27), "VALID"),
    ]  # fmt: skip
    for images in (1, 3):
        for x_type, w_type, channels in WEIGHTS.values():
            for size, stride, extents, padding in cases:
                for biased in (True, False):
                    x = activation((images, 8, 9, 16), x_type)
                    w = weight((24, size, size, 16), w_type, 0 if channels else None)
                    for used in (w, *computed(w)) if w_type is F32 else (w,):
                        b = bias(x, used, 24) if biased else None
                        real = spread(x.real, used.real, stride, extents) + (0 if b is None else b.real)
                        attrs: Attrs = {"padding": padding, "stride_w": stride, "stride_h": stride, "fused_activation_function": "NONE"}
                        bound = hybrid_bound(x, used, np.abs(used.real).sum((1, 2, 3)), 4)
                        yield probe("TRANSPOSE_CONV", [const((images, *extents, 24)), used, x, b], real, x_type, bound=bound, **attrs)


def volumes() -> Iterator[Probe]:
    cases = [(1, 1, 1, "VALID", "NONE"), (3, 1, 1, "SAME", "RELU"), (2, 2, 1, "VALID", "NONE"), (3, 1, 2, "VALID", "NONE")]
    for images in (1, 2):
        b = draw("bias", (12,), F32, const=True)
        for size, stride, dilation, padding, act in cases:
            x, w = draw("x", (images, 8, 9, 10, 6), F32), weight((size, size, size, 6, 12), F32, None)
            attrs: Attrs = {f"stride_{d}": stride for d in "dwh"} | {f"dilation_{d}_factor": dilation for d in "dwh"}
            attrs |= {"padding": padding, "fused_activation_function": act}
            for used in (w, *computed(w)):
                real = convolve(x.real, used.real.transpose(4, 0, 1, 2, 3), stride, dilation, padding == "SAME", 1) + b.real
                yield probe("CONV_3D", [x, used, b], activate(real, act), F32, **attrs)
        for size, stride, padding in ((2, 2, "VALID"), (3, 2, "SAME"), (3, 1, "VALID")):
            x, w = draw("x", (images, 4, 5, 6, 6), F32), weight((size, size, size, 12, 6), F32, None)
            extents = [n * stride if padding == "SAME" else (n - 1) * stride + size for n in (4, 5, 6)]
            attrs = {f"stride_{d}": stride for d in "dwh"} | {"padding": padding, "fused_activation_function": "NONE"}
            real = spread(x.real, w.real.transpose(3, 0, 1, 2, 4), stride, extents)
            for added, total in ((b, real + b.real), (None, real)):
                yield probe("CONV_3D_TRANSPOSE", [const((images, *extents, 12)), w, x, added], total, F32, **attrs)


def matrices() -> Iterator[Probe]:
    for x_type, w_type, channels in WEIGHTS.values():
        # two dimensions only: onert flattens others whatever keep_num_dims says
        for rows, act in ((1, "NONE"), (40, "RELU"), (7, "RELU6")):
            x = activation((rows, 64), x_type)
            w = weight((200, 64), w_type, 0 if channels else None)
            for used in (w, *computed(w)) if w_type is F32 else (w, Operand(w.type, w.array)):
                for b in (bias(x, used, 200), None):
                    real = activate(x.real @ used.real.T + (0 if b is None else b.real), act)
                    bound = hybrid_bound(x, used, np.abs(used.real).sum(1), 2)
                    yield probe("FULLY_CONNECTED", [x, used, b], real, x_type, bound=bound, fused_activation_function=act)


def matrices_of_nibbles() -> Iterator[Probe]:
    """Rows that end in the middle of a byte, too."""
    for x_type, w_type, channels in FOUR_BITS.values():
        for rows, depth, units in ((1, 64, 200), (40, 33, 200), (7, 31, 33), (5, 1, 8), (3, 256, 1), (40, 34, 33)):
            x, w = activation((rows, depth), x_type), weight((units, depth), w_type, 0 if channels else None)
            b = bias(x, w, units)
            bound = hybrid_bound(x, w, np.abs(w.real).sum(1), 2)
            yield probe("FULLY_CONNECTED", [x, w, b], x.real @ w.real.T + b.real, x_type, bound=bound, fused_activation_function="NONE")


def matrix_products() -> Iterator[Probe]:
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((20, 30), (30, 24)), ((5, 20, 30), (5, 30, 24)), ((2, 5, 20, 30), (2, 5, 30, 24)),
        ((2, 3, 2, 10, 30), (2, 3, 2, 30, 24)), ((2, 3, 2, 2, 10, 30), (2, 3, 2, 2, 30, 24)),
        ((5, 20, 30), (30, 24)), ((5, 20, 30), (1, 30, 24)), ((2, 5, 20, 30), (1, 5, 30, 24)),
        ((1, 5, 20, 30), (2, 1, 30, 24)), ((1, 20, 30), (5, 30, 24)), ((2, 5, 20, 30), (5, 30, 24)), ((20, 30), (5, 30, 24)),
        ((5, 1, 30), (5, 30, 24)), ((5, 20, 30), (5, 30, 1)),
    ]  # fmt: skip
    for x_type, w_type, channels in WEIGHTS.values():
        for left, right in shapes:
            for flip_left, flip_right in ((False, False), (False, True), (True, False)):
                x = draw("x", (*left[:-2], left[-1], left[-2]) if flip_left else left, x_type)
                stored, axis = ((*right[:-2], right[-1], right[-2]), -2) if flip_right else (right, -1)
                w = weight(stored, w_type, len(stored) + axis if channels else None)
                a = np.swapaxes(x.real, -1, -2) if flip_left else x.real
                attrs: Attrs = {"adjoint_lhs": flip_left, "adjoint_rhs": flip_right}
                for y in (w, Operand(w.type, w.array), draw("y", stored, w_type, 0.021, 9)) if not channels else (w,):
                    b = np.swapaxes(y.real, -1, -2) if flip_right else y.real
                    hybrid = x_type is F32 and w_type is not F32
                    bound = np.abs(a).max(-1, keepdims=True) / 127 / 2 * np.abs(b).sum(-2, keepdims=True) if hybrid else None
                    yield probe("BATCH_MATMUL", [x, y], a @ b, x_type, bound=bound, **attrs)


def sequences() -> Iterator[Probe]:
    """[input, 4 input weights, 4 recurrent ones, 3 peepholes, 4 biases, projection and its bias, output state, cell state]; i, f, g, o."""
    batch, steps, depth, units = 3, 5, 10, 12
    rng = np.random.default_rng(0)

    def given(shape: Sequence[int]) -> Operand:
        return Operand(Type(tuple(shape), F32), rng.uniform(-0.6, 0.6, shape).astype(np.float32), const=True)

    def stored(w: Operand, dtype: DType, channels: bool) -> Operand:
        scale = (np.abs(w.array).max(1) if channels else np.abs(w.array).max(keepdims=True).reshape(1)) / np.float32(127)
        zero = np.full(len(scale), 128 if dtype is U8 else 0)
        array = np.rint(w.array / scale.reshape(-1, 1)) + zero.reshape(-1, 1)
        return Operand(Type(w.type.shape, dtype, Quant(scale, zero, 0 if channels else None)), array.astype(dtype.numpy), const=True)

    def computed(w: Operand, dtype: DType) -> Operand:
        inner = stored(w, dtype, False)
        return Operand(w.type, inner.real.astype(np.float32), stored=inner)

    # unequal rows, so that one scale cannot pass for another
    sizes = [np.float32(size) for size in (1, 0.7, 0.4)] * 4
    for projected in (False, True):
        out = 5 if projected else units
        floats = [given((units, depth)) for _ in range(4)] + [given((units, out)) for _ in range(4)]
        floats = [Operand(w.type, w.array * np.array(sizes)[:, None], const=True) for w in floats]
        floats += [given((out, units))] if projected else []
        biases = [given((units,)) for _ in range(4)]
        states = [given((batch, out)), given((batch, units))]
        kinds = [floats, *([computed(w, dtype) for w in floats] for dtype in (I8, U8))]
        kinds += [[stored(w, dtype, channels) for w in floats] for dtype in (I8, U8) for channels in (False, True)]
        for weights in kinds:
            for time_major in (False, True):
                x = draw("x", (steps, batch, depth) if time_major else (batch, steps, depth), F32)
                in_time = x.real if time_major else x.real.swapaxes(0, 1)
                for variable in (False, True):  # a variable is zero at first
                    state = [Operand(s.type, s.array * (not variable), not variable, variable=variable) for s in states]
                    real, bound = lstm(in_time, weights, biases, state)
                    real, bound = (a if time_major else a.swapaxes(0, 1) for a in (real, bound))
                    operands = [x, *weights[:8], None, None, None, *biases, *weights[8:], *[None] * (1 + (not projected)), *state]
                    attrs: Attrs = {"fused_activation_function": "TANH", "time_major": time_major}
                    hybrid = bound if weights[0].type.dtype is not F32 else None
                    yield probe("UNIDIRECTIONAL_SEQUENCE_LSTM", [*operands, *[None] * 4], real, F32, bound=hybrid, **attrs)


def lstm(x: Array, weights: Sequence[Operand], biases: Sequence[Operand], states: Sequence[Operand]) -> tuple[Array, Array]:
    """[time, batch, units], and how far it may be off if each activation is rounded to 8 bits with the scale of its row.

    The slope of a sigmoid is at most 1/4, that of tanh 1.
    """
    w, (h, c) = [each.real for each in weights], (state.real for state in states)
    outs, bounds, off_h, off_c = [], [], np.zeros_like(h), np.zeros_like(c)

    def half_step(row: Array) -> Array:
        return np.asarray(np.abs(row).max(1, keepdims=True) / 127 / 2)

    for row in x:
        off_seen = off_h + half_step(h)
        pre = [row @ w[k].T + h @ w[4 + k].T + biases[k].real for k in range(4)]
        off = [half_step(row) * np.abs(w[k]).sum(1) + off_seen @ np.abs(w[4 + k]).T for k in range(4)]
        i, f, o = (1 / (1 + np.exp(-pre[k])) for k in (0, 1, 3))
        g = np.tanh(pre[2])
        off_c = f * off_c + off[1] / 4 * (np.abs(c) + off_c) + off[0] / 4 * np.abs(g) + i * off[2]
        c = f * c + i * g
        h, off_h = o * np.tanh(c), off[3] / 4 + off_c
        if len(w) > 8:
            h, off_h = h @ w[8].T, (off_h + half_step(h)) @ np.abs(w[8]).T
        outs.append(h)
        bounds.append(off_h)
    return np.stack(outs), np.stack(bounds)


def embeddings() -> Iterator[Probe]:
    for ids_type in (I32, I64):
        ids = Operand(Type((20,), ids_type), np.random.default_rng(0).integers(0, 50, 20).astype(ids_type.numpy))
        for table in (draw("w", (50, 16), F32, const=True), *(weight((50, 16), dtype, axis) for dtype in (I8, U8) for axis in (0, None))):
            yield probe("EMBEDDING_LOOKUP", [ids, table], table.real[ids.array], F32)
            if table.type.dtype is not F32 and table.type.quant and table.type.quant.axis is None:
                yield probe("EMBEDDING_LOOKUP", [ids, table], table.real[ids.array], table.type.dtype, table.type.quant)


FAMILIES = (convolutions, transposed_convolutions, volumes, matrices, matrices_of_nibbles, matrix_products, sequences, embeddings)
