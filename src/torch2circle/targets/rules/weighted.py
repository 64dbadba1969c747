"""Convolutions and linear layers in the forms that a runtime gets right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...arithmetic import moved_by_128
from ...ir import Array, Constant, DType, Node, Quant, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import const, operand, reshape, transpose
from ...spec import OPS

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


@rule("FULLY_CONNECTED", why="the runtime uses the first of the per-channel scales for all; its 1x1 convolution does not")
def per_channel_linear_as_conv(node: Node) -> Replacement:
    x, weight, bias = operand(node), operand(node, 1), operand(node, 2)
    if weight.type.quant is None or weight.type.quant.axis is None or weight.data is None:
        return None
    units, depth = weight.type.shape
    pixels = reshape(x, (x.type.size // depth, 1, 1, depth), node)
    kernel = replace(weight, type=weight.type.reshape((units, 1, 1, depth)), data=weight.data.map(lambda w: w.reshape(units, 1, 1, depth)))
    attrs = {"padding": "VALID", "stride_h": 1, "stride_w": 1, "fused_activation_function": node.attrs["fused_activation_function"]}
    out = emit("CONV_2D", node.out.type.reshape((pixels.type.shape[0], 1, 1, units)), pixels, kernel, bias, like=node, **attrs)
    return reshape(out, node.out.type.shape, node)


@rule("FULLY_CONNECTED", why="the runtime ignores keep_num_dims and gives a matrix")
def linear_on_a_matrix(node: Node) -> Replacement:
    x, units = operand(node), node.out.type.shape[-1]
    if x.type.rank == 2:
        return None
    rows = reshape(x, (x.type.size // x.type.shape[-1], x.type.shape[-1]), node)
    attrs = {**node.attrs, "keep_num_dims": False}
    out = emit("FULLY_CONNECTED", node.out.type.reshape((rows.type.shape[0], units)), rows, *node.inputs[1:], like=node, **attrs)
    return reshape(out, node.out.type.shape, node)


@rule("CONV_2D", why="the runtime reads a grouped filter as a dense one, so each group is a convolution of its own")
def grouped_conv_as_many(node: Node) -> Replacement:
    x, weight, bias = operand(node), operand(node, 1), operand(node, 2)
    groups, channels = x.type.shape[3] // weight.type.shape[3], weight.type.shape[0]
    if groups == 1:
        return None
    parts = [Value(replace(x.type, shape=(*x.type.shape[:3], weight.type.shape[3])), f"{node.out.name}.in{g}") for g in range(groups)]
    split = Node.make("SPLIT", (const(f"{node.out.name}.axis", 3), x), parts, {"num_splits": groups}, node.where)
    part_type = replace(node.out.type, shape=(*node.out.type.shape[:3], channels // groups))
    outs = [
        emit(
            "CONV_2D",
            part_type,
            part,
            *(_channels(v, g, groups) for v in (weight, bias)),
            name=f"{node.out.name}.out{g}",
            like=node,
            **node.attrs,
        )
        for g, part in enumerate(split.outputs)
    ]
    return emit("CONCATENATION", node.out.type, *outs, like=node, axis=3, fused_activation_function="NONE")


def _channels(value: Value, group: int, groups: int) -> Value:
    """The output channels of one group of a weight or bias."""
    assert value.data is not None
    size = value.type.shape[0] // groups
    mine = slice(group * size, (group + 1) * size)
    quant = value.type.quant
    if quant is not None and quant.axis is not None:
        quant = Quant(quant.scale[mine], quant.zero_point[mine], quant.axis)
    type_ = Type((size, *value.type.shape[1:]), value.type.dtype, quant)
    return replace(value, type=type_, name=f"{value.name}.{group}", data=value.data.map(lambda array: array[mine]))


@rule("TRANSPOSE_CONV", why="the runtime has none; a convolution gives the results between two operands as channels, which then move apart")
def transposed_conv_as_conv(node: Node) -> Replacement:
    weight, x, bias = operand(node, 1), operand(node, 2), operand(node, 3)
    if weight.data is None or bias.data is None:
        return None
    n, *sizes, _ = x.type.shape
    units, *kernel, _ = weight.type.shape
    outs, strides = node.out.type.shape[1:3], (node.attrs["stride_h"], node.attrs["stride_w"])
    spans = [_Span.of(*facts, node.attrs["padding"]) for facts in zip(sizes, outs, kernel, strides, strict=True)]
    padded = _padded(x, [(0, 0), *((span.before, span.behind) for span in spans), (0, 0)], node)
    blocks = [span.count for span in spans]
    attrs = {"padding": "VALID", "stride_h": 1, "stride_w": 1, "fused_activation_function": node.attrs["fused_activation_function"]}
    parts = strides[0] * strides[1]
    constants = _phases(weight, strides), _repeated(bias, parts, bias.data.map(lambda b: np.tile(b, parts)))
    made = emit("CONV_2D", node.out.type.reshape((n, *blocks, parts * units)), padded, *constants, like=node, **attrs)
    whole = _apart(made, strides, node)
    begins = [0, *(span.cut for span in spans), 0]
    if whole.type.shape == node.out.type.shape:
        return whole
    place = (const(f"{node.out.name}.{name}", numbers) for name, numbers in (("begin", begins), ("size", node.out.type.shape)))
    return emit("SLICE", node.out.type, whole, *place, like=node)


@dataclass(frozen=True)
class _Span:
    """One dimension of a transposed convolution in blocks of ``stride`` results: how many, the zeros around the operand that they
    depend on, and the results in front that are cut off."""

    count: int
    before: int
    behind: int
    cut: int

    @staticmethod
    def of(size: int, out: int, kernel: int, stride: int, padding: str) -> _Span:
        front = max((size - 1) * stride + kernel - out, 0) // 2 if padding == "SAME" else 0
        first, last = front // stride, (front + out - 1) // stride
        return _Span(last - first + 1, -(-kernel // stride) - 1 - first, last - (size - 1), front % stride)


def _padded(x: Value, pads: Sequence[tuple[int, int]], node: Node) -> Value:
    shape = tuple(size + a + b for size, (a, b) in zip(x.type.shape, pads, strict=True))
    return x if shape == x.type.shape else emit("PAD", x.type.reshape(shape), x, const(f"{node.out.name}.paddings", pads), like=node)


def _phases(weight: Value, strides: tuple[int, int]) -> Value:
    """[O, KH, KW, I] -> [sh * sw * O, ceil(KH / sh), ceil(KW / sw), I]: what each of the results in a block sees, backwards."""
    assert weight.data is not None
    units, *kernel, channels = weight.type.shape
    (sh, sw), (th, tw) = strides, (-(-k // s) for k, s in zip(kernel, strides, strict=True))
    quant = weight.type.quant
    zero = np.zeros(1) if quant is None else quant.zero_point

    def phases(w: Array) -> Array:
        full = np.empty((units, th * sh, tw * sw, channels), w.dtype)
        full[:] = zero.reshape(-1, 1, 1, 1)
        full[:, : kernel[0], : kernel[1]] = w
        blocks = full.reshape(units, th, sh, tw, sw, channels)[:, ::-1, :, ::-1]
        result: Array = blocks.transpose(2, 4, 0, 1, 3, 5).reshape(sh * sw * units, th, tw, channels)
        return result

    repeated = _repeated(weight, sh * sw, weight.data.map(phases))
    return replace(repeated, type=replace(repeated.type, shape=(sh * sw * units, th, tw, channels)))


def _repeated(value: Value, times: int, data: Constant) -> Value:
    """A weight or bias with ``times`` as many output channels, in its first axis."""
    quant = value.type.quant
    if quant is not None and quant.axis is not None:
        quant = Quant(np.tile(quant.scale, times), np.tile(quant.zero_point, times), quant.axis)
    return replace(value, type=Type((times * value.type.shape[0], *value.type.shape[1:]), value.type.dtype, quant), data=data)


def _apart(x: Value, strides: tuple[int, int], node: Node) -> Value:
    """[N, H, W, sh * sw * O] -> [N, H * sh, W * sw, O]"""
    (n, h, w, channels), (sh, sw) = x.type.shape, strides
    shape = (n, h * sh, w * sw, channels // (sh * sw))
    if sh == sw:
        return emit("DEPTH_TO_SPACE", x.type.reshape(shape), x, like=node, block_size=sh)
    if sh > 1:
        x = transpose(reshape(x, (n * h, w, sh, channels // sh), node), [0, 2, 1, 3], node)
    return reshape(x, shape, node)


def affine_channels_in_parts(op: str) -> Rule:
    """Weights with a zero point for each channel, which need up to nine bits without it: the sum of two or three in eight bits.

    The operand is repeated for them, in its channels, or in its rows if each group of channels has a kernel of its own. So the products
    are PyTorch's, and their sum is rounded once.
    """

    @rule(
        op, why="kernels want one zero point for all channels; a weight of several parts, on an operand repeated as often, needs no other"
    )
    def in_parts(node: Node) -> Replacement:
        x, weight = operand(node, OPS[op].data), operand(node, 1)
        quant = weight.type.quant
        if weight.data is None or x.type.quant is None or quant is None or quant.axis is None:
            return None
        middle = Quant(quant.scale, np.full_like(quant.zero_point, 128 if weight.type.dtype is DType.UINT8 else 0), quant.axis)
        if quant == middle:
            return None
        centred = _centred(weight)
        count = max(1, -(-int(np.abs(centred.load()).max(initial=0)) // 127))
        grouped = op == "DEPTHWISE_CONV_2D" or weight.type.shape[-1] != x.type.shape[-1]
        parts = centred.map(
            lambda w: np.stack([(w + i) // count + middle.zero_point[0] for i in range(count)]).astype(weight.type.dtype.numpy)
        )
        if count > 1 and grouped:
            return _parts_in_rows(node, parts, count, middle)
        repeated = x
        if count > 1:
            wide = x.type.reshape((*x.type.shape[:-1], count * x.type.shape[-1]))
            repeated = emit("CONCATENATION", wide, *[x] * count, like=node, axis=x.type.rank - 1, fused_activation_function="NONE")
        shape = (*weight.type.shape[:-1], count * weight.type.shape[-1])
        joined = replace(weight, type=Type(shape, weight.type.dtype, middle), data=parts.map(lambda p: np.concatenate(list(p), -1)))
        new = {x: repeated, weight: joined}
        return node.rebuilt(inputs=[v and new.get(v, v) for v in node.inputs], outputs=(replace(node.out, origin=None),)).out

    return in_parts


def _centred(weight: Value) -> Constant:
    """The integers without their zero points."""
    quant = weight.type.quant
    assert weight.data is not None and quant is not None and quant.axis is not None
    shape = [1] * weight.type.rank
    shape[quant.axis] = -1
    zero_points = quant.zero_point.astype(np.int16).reshape(shape)
    return weight.data.map(lambda q: q.astype(np.int16) - zero_points)


def _parts_in_rows(node: Node, parts: Constant, count: int, quant: Quant) -> Value:
    """Each row of the operand ``count`` times, and the rows of the parts in turn; dilated ones with rows of zeros between."""
    x, weight, bias = operand(node), operand(node, 1), operand(node, 2)
    outs, kernel, gaps = node.out.type.shape[1:3], weight.type.shape[1:3], node.attrs["dilation_h_factor"]
    strides, dilations = (node.attrs["stride_h"], node.attrs["stride_w"]), (gaps, node.attrs["dilation_w_factor"])
    if node.attrs["padding"] == "SAME":
        facts = zip(x.type.shape[1:3], outs, strides, kernel, dilations, strict=True)
        total = [max((out - 1) * s + (k - 1) * d + 1 - size, 0) for size, out, s, k, d in facts]
        x = _padded(x, [(0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)], node)
    n, h, w, channels = x.type.shape
    lines = reshape(x, (n * h, w * channels), node)
    wide = emit(
        "CONCATENATION",
        x.type.reshape((n * h, count * w * channels)),
        *[lines] * count,
        like=node,
        axis=1,
        fused_activation_function="NONE",
    )
    first, rows, *rest = weight.type.shape
    tall = (first, (rows - 1) * gaps + 1, count, *rest)

    def in_turn(p: Array) -> Array:
        full = np.full(tall, quant.zero_point[0], p.dtype)
        full[:, ::gaps] = np.moveaxis(p, 0, 2)
        return full.reshape(first, -1, *rest)

    joined = replace(weight, type=Type((first, tall[1] * count, *rest), weight.type.dtype, quant), data=parts.map(in_turn))
    attrs = {**node.attrs, "padding": "VALID", "stride_h": strides[0] * count, "dilation_h_factor": 1}
    return emit(node.op, node.out.type, reshape(wide, (n, h * count, w, channels), node), joined, bias, like=node, **attrs)


def weight_in_int16(op: str) -> Rule:
    """The same weights in int16, whose zero point is 0."""

    @rule(op, why="the toolchain's kernels on int16 have weights of int16, too")
    def widened(node: Node) -> Replacement:
        x, weight = operand(node, OPS[op].data), operand(node, 1)
        quant = weight.type.quant
        if x.type.dtype is not DType.INT16 or weight.type.dtype is not DType.UINT8 or weight.data is None or quant is None:
            return None
        middle = Quant(quant.scale, np.zeros_like(quant.zero_point), quant.axis)
        type_, zero_point = Type(weight.type.shape, DType.INT16, middle), quant.zero_point[0].astype(np.int16)
        wide = replace(weight, type=type_, data=weight.data.map(lambda q: q.astype(np.int16) - zero_point))
        return node.rebuilt(inputs=[wide if v is weight else v for v in node.inputs], outputs=(replace(node.out, origin=None),)).out

    return widened


def affine_weight_in_uint8(op: str) -> Rule:
    """Weights with a zero point other than 0, per tensor: uint8 kernels take any, int8 kernels none."""

    @rule(op, why="int8 kernels demand weight zero point 0, uint8 kernels do not")
    def affine(node: Node) -> Replacement:
        x, weight = operand(node, OPS[op].data), operand(node, 1)
        quant = weight.type.quant
        if (
            weight.type.dtype is not DType.INT8
            or x.type.quant is None
            or quant is None
            or quant.axis is not None
            or not quant.zero_point[0]
        ):
            return None
        moved = {x: emit("QUANTIZE", x.type.as_eight_bit(DType.UINT8), x, like=node), weight: _constant_as_uint8(weight)}
        inputs = [v and moved.get(v, v) for v in node.inputs]
        inner = emit(op, node.out.type.as_eight_bit(DType.UINT8), *inputs, like=node, **node.attrs)
        return emit("QUANTIZE", node.out.type, inner, like=node)

    return affine


def _constant_as_uint8(value: Value) -> Value:
    assert value.data is not None
    return replace(value, type=value.type.as_eight_bit(DType.UINT8), data=value.data.map(lambda q: moved_by_128(q, DType.UINT8)))
