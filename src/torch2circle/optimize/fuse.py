"""Fewer operators: activations and batch normalization go into what computes their operand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Array, Node, Value
from .engine import Replacement, rule
from .layout import operand

ACTIVATIONS = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0)}
FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL")


def represents(value: Value, low: float, high: float) -> bool:
    """Whether every integer of a quantized value lies within [low, high] anyhow."""
    quant = value.type.quant
    if quant is None:
        return False
    info = np.iinfo(value.type.dtype.numpy)
    ends = (np.array([info.min, info.max]) - quant.zero_point[0]) * np.float64(quant.scale[0])
    # half a step of slack: an end that would round to the bound is the bound
    return bool(ends[0] >= low - quant.scale[0] / 2 and ends[1] <= high + quant.scale[0] / 2)


def _drop_activation(node: Node) -> Replacement:
    x = operand(node)
    return x if x.type == node.out.type and represents(x, *ACTIVATIONS[node.op]) else None


drop_relu = rule("RELU", why="the integers of the operand hold no negative number")(_drop_activation)
drop_relu6 = rule("RELU6", why="the integers of the operand hold only 0 to 6")(_drop_activation)


def _fuse_activation(node: Node, producer: Node) -> Replacement:
    """The same quantization on both sides: then clamping before or after storing the integer is the same."""
    if producer.op not in FUSING or producer.attrs.get("fused_activation_function") != "NONE" or producer.out.type != node.out.type:
        return None
    return producer.rebuilt(attrs={**producer.attrs, "fused_activation_function": node.op}, outputs=(replace(node.out, origin=None),)).out


fuse_relu = rule("RELU", "*", why="the producer clamps for nothing")(_fuse_activation)
fuse_relu6 = rule("RELU6", "*", why="the producer clamps for nothing")(_fuse_activation)


@rule("MUL", "*", why="a factor a channel is part of the weights")
def fold_factor(node: Node, producer: Node) -> Replacement:
    factor = _per_channel(node, producer)
    if factor is None:
        return None
    weight, bias = operand(producer, 1), operand(producer, 2)
    axis = 3 if producer.op == "DEPTHWISE_CONV_2D" else 0
    shape = [1] * weight.type.rank
    shape[axis] = -1
    assert weight.data is not None and bias.data is not None
    # in float64, and rounded once
    scaled = weight.data.map(lambda w: (w.astype(np.float64) * factor.reshape(shape)).astype(np.float32))
    shifted = bias.data.map(lambda b: (b.astype(np.float64) * factor).astype(np.float32))
    inputs = (producer.inputs[0], replace(weight, data=scaled), replace(bias, data=shifted))
    return _taking_over(node, producer, inputs)


@rule("ADD", "*", why="an offset a channel is part of the bias")
def fold_offset(node: Node, producer: Node) -> Replacement:
    offset = _per_channel(node, producer)
    if offset is None:
        return None
    bias = operand(producer, 2)
    assert bias.data is not None
    summed = bias.data.map(lambda b: (b.astype(np.float64) + offset).astype(np.float32))
    return _taking_over(node, producer, (*producer.inputs[:2], replace(bias, data=summed)))


def _taking_over(node: Node, producer: Node, inputs: tuple[Value | None, ...]) -> Value:
    attrs = {**producer.attrs, "fused_activation_function": node.attrs["fused_activation_function"]}
    return producer.rebuilt(inputs=inputs, attrs=attrs, outputs=(replace(node.out, origin=None),)).out


def _per_channel(node: Node, producer: Node) -> Array | None:
    """The constant operand of a float MUL or ADD behind a convolution or linear layer, one number an output channel."""
    constant = operand(node, 1)
    weighted = producer.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    if not weighted or constant.data is None or producer.out is not node.inputs[0]:
        return None
    channels = producer.out.type.shape[-1]
    if producer.attrs["fused_activation_function"] != "NONE" or not producer.out.type.dtype.is_float or producer.out.type != node.out.type:
        return None
    last = constant.type.shape[-1:] == (channels,) and constant.type.size == channels
    if not (last or constant.type.size == 1) or any(operand(producer, i).data is None for i in (1, 2)):
        return None
    return np.broadcast_to(constant.array().reshape(-1), (channels,)).astype(np.float64)


@rule("QUANTIZE", "DEQUANTIZE", why="the same integers come out again")
def drop_round_trip(node: Node, inner: Node) -> Replacement:
    return operand(inner) if operand(inner).type == node.out.type else None


@rule("QUANTIZE", why="the integers are the same")
def drop_identity_quantize(node: Node) -> Replacement:
    return operand(node) if operand(node).type == node.out.type else None


RULES = [drop_relu, drop_relu6, fuse_relu, fuse_relu6, fold_factor, fold_offset, drop_round_trip, drop_identity_quantize]
