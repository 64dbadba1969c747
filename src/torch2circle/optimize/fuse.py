"""Fewer operators: activations go into what computes their operand, and integers that come out again stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import DType, Node, Value
from .engine import Replacement, emit, rule
from .layout import operand

ACTIVATIONS = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}
FUSING = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL")


def represents(value: Value, low: float, high: float) -> bool:
    """Whether every integer of a quantized value lies within [low, high] anyhow."""
    quant = value.type.quant
    if quant is None:
        return False
    least, most = ends(value)
    # half a step of slack: an end that would round to the bound is the bound
    return bool(least >= low - quant.scale[0] / 2 and most <= high + quant.scale[0] / 2)


def ends(value: Value) -> tuple[np.float64, np.float64]:
    """The least and the largest number that the integers of a value with one scale stand for."""
    info, quant = np.iinfo(value.type.dtype.numpy), value.type.quant
    assert quant is not None
    least, most = (np.array([info.min, info.max]) - quant.zero_point[0]) * np.float64(quant.scale[0])
    return least, most


def _drop_activation(node: Node) -> Replacement:
    x = operand(node)
    return x if x.type == node.out.type and represents(x, *ACTIVATIONS[node.op]) else None


drop_activation = [rule(op, why="the integers of the operand hold nothing outside its bounds")(_drop_activation) for op in ACTIVATIONS]


def _fuse_activation(node: Node, producer: Node) -> Replacement:
    """The same quantization on both sides: then clamping before or after storing the integer is the same."""
    if producer.op not in FUSING or producer.attrs.get("fused_activation_function") != "NONE" or producer.out.type != node.out.type:
        return None
    return producer.rebuilt(attrs={**producer.attrs, "fused_activation_function": node.op}, outputs=(replace(node.out, origin=None),)).out


fuse_activation = [rule(op, "*", why="the producer clamps for nothing")(_fuse_activation) for op in ACTIVATIONS]


@rule("QUANTIZE", why="the same integers come out again, whoever else reads the floats")
def drop_round_trip(node: Node) -> Replacement:
    inner = operand(node).node
    return operand(inner) if inner and inner.op == "DEQUANTIZE" and operand(inner).type == node.out.type else None


@rule("QUANTIZE", why="the integers are the same")
def drop_identity_quantize(node: Node) -> Replacement:
    return operand(node) if operand(node).type == node.out.type else None


def _compare_integers(node: Node) -> Replacement:
    """Scales are positive: of one scale and zero point, the integers are in the order of the numbers they stand for."""
    x, y = (v.node.inputs[0] if v is not None and v.node is not None and v.node.op == "DEQUANTIZE" else None for v in node.inputs)
    if x is None or y is None or x.type.quant != y.type.quant or x.type.dtype is not y.type.dtype:
        return None
    return emit(node.op, node.out.type, x, y, like=node)


COMPARISONS = ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
compare_integers = [rule(op, why="integers of one scale compare as the numbers do")(_compare_integers) for op in COMPARISONS]

@rule("PADV2", why="PAD fills with that number, and XNNPACK runs it")
def pad_with_zero(node: Node) -> Replacement:
    x, fill = operand(node), operand(node, 2)
    if fill.data is None or x.type.dtype.is_float != (x.type.quant is None):
        return None
    zero = 0 if x.type.quant is None else x.type.quant.zero_point[0]
    return emit("PAD", node.out.type, x, node.inputs[1], like=node) if fill.array() == zero else None


@rule("MAX_POOL_2D", "PADV2", why="each window has an element, and none is below zero, so zeros are never larger; XNNPACK runs PAD")
def pool_padded_with_zero(node: Node, pad: Node) -> Replacement:
    x, amounts, fill = operand(pad), operand(pad, 1), operand(pad, 2)
    made = x.node
    clamp = "" if made is None else made.attrs.get("fused_activation_function", made.op)
    if x.type.dtype is not DType.FLOAT32 or ACTIVATIONS.get(clamp, (-1, 0))[0] != 0 or amounts.data is None or fill.data is None:
        return None
    size = node.attrs["filter_height"], node.attrs["filter_width"]
    inside = (amounts.array()[1:3] < np.array(size)[:, None]).all() and not amounts.array()[[0, 3]].any()
    if fill.array() > 0 or not inside:
        return None
    padded = emit("PAD", pad.out.type, x, amounts, name=pad.out.name, like=pad)
    return node.rebuilt(inputs=(padded,), outputs=(replace(node.out, origin=None),)).out


RULES = [
    pad_with_zero,
    pool_padded_with_zero,
    *drop_activation,
    *fuse_activation,
    drop_round_trip,
    drop_identity_quantize,
    *compare_integers,
]
