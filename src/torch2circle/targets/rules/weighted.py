"""Convolutions and linear layers in the forms that a runtime gets right."""

from __future__ import annotations

from dataclasses import replace

from ...arithmetic import moved_by_128
from ...ir import DType, Node, Quant, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import const, operand, reshape


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


def affine_weight_in_uint8(op: str) -> Rule:
    """Weights with a zero point other than 0, per tensor: uint8 kernels take any, int8 kernels none."""

    @rule(op, why="int8 kernels demand weight zero point 0, uint8 kernels do not")
    def affine(node: Node) -> Replacement:
        weight = operand(node, 1)
        quant = weight.type.quant
        if weight.type.dtype is not DType.INT8 or quant is None or quant.axis is not None or quant.zero_point[0] == 0:
            return None
        x = operand(node)
        inputs = (emit("QUANTIZE", x.type.as_eight_bit(DType.UINT8), x, like=node), _constant_as_uint8(weight), node.inputs[2])
        inner = emit(op, node.out.type.as_eight_bit(DType.UINT8), *inputs, like=node, **node.attrs)
        return emit("QUANTIZE", node.out.type, inner, like=node)

    return affine


def _constant_as_uint8(value: Value) -> Value:
    assert value.data is not None
    return replace(value, type=value.type.as_eight_bit(DType.UINT8), data=value.data.map(lambda q: moved_by_128(q, DType.UINT8)))
