"""Activations of int16, whose zero point is 0, next to weights of int8: what quantizers for more than 8 bits make."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from torch2circle.ir import DType, Quant

from .elementwise import BINARY, FUNCTIONS, FUSED
from .making import BY_RANK, BYTES, F32, I16, SHAPE, Attrs, Probe, const, draw, probe
from .weighted import activate, window

SHAPES = (SHAPE, *BY_RANK.values())
COARSE = Quant.per_tensor(0.0007, 0)


def arithmetic() -> Iterator[Probe]:
    for op in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"):
        moves = op in ("MAXIMUM", "MINIMUM")
        for shape in SHAPES:
            for other in (shape, (shape[-1],), ()):
                for alike in (True, False):
                    x = draw("a", shape, I16)
                    y = draw("b", other, I16, 0.0004 if alike else 0.0003, const=other != shape)
                    for act in ("NONE", "RELU", "RELU6") if op in FUSED else ("NONE",):
                        attrs: Attrs = {"fused_activation_function": act} if op in FUSED else {}
                        real = activate(BINARY[op](x.real, y.real), act)
                        yield probe(op, [x, y], real, I16, x.type.quant if moves and alike else "fit", **attrs)
    for shape in ((40, 96), (3, 40, 96), (2, 3, 40, 96)):
        for flip in (False, True):
            x, y = draw("x", shape, I16), draw("y", (*shape[:-2], 24, 96) if flip else (*shape[:-2], 96, 24), I16)
            real = x.real @ (y.real.swapaxes(-1, -2) if flip else y.real)
            yield probe("BATCH_MATMUL", [x, y], real, I16, adjoint_lhs=False, adjoint_rhs=flip)


def functions() -> Iterator[Probe]:
    for op, compute, attrs in FUNCTIONS:
        for shape in SHAPES if op in ("RELU", "RELU6", "LEAKY_RELU") else ():
            x = draw("x", shape, I16)
            yield from (probe(op, [x], compute(x.real), I16, quant, **attrs) for quant in ("fit", x.type.quant))


def pools() -> Iterator[Probe]:
    for shape in (SHAPE, BY_RANK[4]):
        x = draw("x", shape, I16)
        for op, reduce, fill in (("MAX_POOL_2D", np.nanmax, -np.inf), ("AVERAGE_POOL_2D", np.nanmean, np.nan)):
            for size, stride, padding in (((2, 2), 2, "VALID"), ((3, 3), 2, "SAME"), (shape[1:3], 1, "VALID")):
                real = reduce(window(x.real, size, stride, 1, padding == "SAME", fill), -1)
                attrs: Attrs = {"padding": padding, "stride_w": stride, "stride_h": stride, "fused_activation_function": "NONE"}
                attrs |= {"filter_height": size[0], "filter_width": size[1]}
                yield from (probe(op, [x], real, I16, quant, **attrs) for quant in (x.type.quant, COARSE))
        for axes in ((1, 2), (3,), (1, 2, 3)):
            for keep in (True, False):
                for quant in (x.type.quant, "fit"):
                    yield probe("MEAN", [x, const(axes)], x.real.mean(axes, keepdims=keep), I16, quant, keep_dims=keep)


def moves() -> Iterator[Probe]:
    for shape in SHAPES:
        x, y = draw("x", shape, I16), draw("y", shape, I16)
        low, sizes = [min(1, n - 1) for n in shape], [max(1, n - 2) for n in shape]
        pads, axis, rank = [[1, 2]] * len(shape), len(shape) - 1, len(shape)
        box = tuple(slice(b, b + n) for b, n in zip(low, sizes, strict=True))
        lowest = draw("value", (), I16, const=True)
        for quant in (x.type.quant, COARSE):
            attrs: Attrs = {"axis": axis, "fused_activation_function": "NONE"}
            yield probe("CONCATENATION", [x, y], np.concatenate([x.real, y.real], axis), I16, quant, **attrs)
            yield probe("SPLIT", [const(axis), x], np.split(x.real, shape[axis], axis), I16, quant, num_splits=shape[axis])
            yield probe("SLICE", [x, const(low), const(sizes)], x.real[box], I16, quant)
            ends, steps = [b + n for b, n in zip(low, sizes, strict=True)], [1] * rank
            yield probe("STRIDED_SLICE", [x, const(low), const(ends), const(steps)], x.real[box], I16, quant)
            yield probe("PAD", [x, const(pads)], np.pad(x.real, pads), I16, quant)
            yield probe("PADV2", [x, const(pads), lowest], np.pad(x.real, pads, constant_values=lowest.real), I16, quant)
            yield probe("RESHAPE", [x, const((x.type.size,))], x.real.reshape(-1), I16, quant, new_shape=(x.type.size,))
            perms = {tuple(range(rank))[::-1], (*range(1, rank), 0), *(((0, 3, 1, 2), (0, 2, 3, 1)) if rank == 4 else ())}
            for perm in sorted(perms):
                yield probe("TRANSPOSE", [x, const(perm)], x.real.transpose(perm), I16, quant)
            index = const(np.random.default_rng(0).integers(0, shape[0], (3, 4)))
            if rank < 6:
                yield probe("GATHER", [x, index], np.take(x.real, index.array, 0), I16, quant, axis=0, batch_dims=0)


def conversions() -> Iterator[Probe]:
    for shape in SHAPES:
        x = draw("x", shape, I16)
        yield probe("DEQUANTIZE", [x], x.real, F32)
        yield probe("QUANTIZE", [x], x.real, I16)
        for other in (F32, *BYTES):
            y = draw("x", shape, other)
            yield probe("QUANTIZE", [y], y.real, I16)
            if other in BYTES:
                yield probe("QUANTIZE", [x], x.real, DType(other))


FAMILIES = (arithmetic, functions, pools, moves, conversions)
