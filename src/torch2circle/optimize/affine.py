"""A factor and an offset a channel, as batch normalization is, as a part of the weights of the layer behind or in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir import Array, Node, Value
from .engine import Replacement, emit, rule
from .layout import operand

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
ACTIVATING = WEIGHTED[:3]
"""Those that have an activation of their own in both runtimes."""


def _float_constants(node: Node) -> bool:
    stored = [v is not None and v.data is not None and v.type.dtype.is_float for v in (operand(node, 1), node.inputs[-1])]
    return all(stored) and node.out.type.dtype.is_float


def per_channel(node: Node, channels: int) -> Array | None:
    """The constant operand of a float MUL or ADD, one number a channel, which is the last axis; None if it is none."""
    constant = operand(node, 1)
    if constant.data is None or operand(node).data is not None or not node.out.type.dtype.is_float or operand(node).type != node.out.type:
        return None
    last = constant.type.shape[-1:] == (channels,) and constant.type.size == channels
    if not (last or constant.type.size == 1):
        return None
    return np.broadcast_to(constant.array().reshape(-1), (channels,)).astype(np.float64)


def _changed(value: Value, change: np.ufunc, by: Array) -> Value:
    """In float64, and rounded once."""
    assert value.data is not None
    return replace(value, data=value.data.map(lambda array: change(array.astype(np.float64), by).astype(np.float32)))


# -- behind a layer


def _behind(node: Node, producer: Node) -> Array | None:
    if producer.op not in WEIGHTED or producer.out is not node.inputs[0] or producer.attrs["fused_activation_function"] != "NONE":
        return None
    if not _float_constants(producer) or (node.attrs["fused_activation_function"] != "NONE" and producer.op not in ACTIVATING):
        return None
    return per_channel(node, producer.out.type.shape[-1])


@rule("MUL", "*", why="a factor a channel is part of the weights")
def fold_factor(node: Node, producer: Node) -> Replacement:
    factor = _behind(node, producer)
    if factor is None:
        return None
    weight, bias = operand(producer, 1), operand(producer, len(producer.inputs) - 1)
    shape = [1] * weight.type.rank
    shape[3 if producer.op == "DEPTHWISE_CONV_2D" else 0] = -1
    changed = {weight: _changed(weight, np.multiply, factor.reshape(shape)), bias: _changed(bias, np.multiply, factor)}
    return _taking_over(node, producer, changed)


@rule("ADD", "*", why="an offset a channel is part of the bias")
def fold_offset(node: Node, producer: Node) -> Replacement:
    offset = _behind(node, producer)
    if offset is None:
        return None
    bias = operand(producer, len(producer.inputs) - 1)
    return _taking_over(node, producer, {bias: _changed(bias, np.add, offset)})


def _taking_over(node: Node, producer: Node, changed: dict[Value, Value]) -> Value:
    attrs = {**producer.attrs, "fused_activation_function": node.attrs["fused_activation_function"]}
    inputs = [v and changed.get(v, v) for v in producer.inputs]
    return producer.rebuilt(inputs=inputs, attrs=attrs, outputs=(replace(node.out, origin=None),)).out


def _nearer_to_the_layer(node: Node, mover: Node) -> Replacement:
    """So that it becomes a part of the layer from which only a RESHAPE or SLICE parts it, neither of the channels."""
    x = operand(mover)
    channels = node.out.type.shape[-1:]
    if not _made_by_layer(x) or x.type.shape[-1:] != channels or not channels or per_channel(node, channels[0]) is None:
        return None
    constant = operand(node, 1)
    flat = (constant.type.size,) if constant.type.size > 1 else ()
    data = constant.data and constant.data.map(lambda array: array.reshape(flat))
    number = replace(constant, type=constant.type.reshape(flat), data=data)
    early = emit(node.op, x.type, x, number, like=node, **node.attrs)
    return mover.rebuilt(inputs=(early, *mover.inputs[1:]), outputs=(replace(node.out, origin=None),)).out


def _made_by_layer(value: Value) -> bool:
    while value.node is not None and value.node.op in ("RESHAPE", "SLICE") and operand(value.node).type.shape[-1:] == value.type.shape[-1:]:
        value = operand(value.node)
    return value.node is not None and value.node.op in WEIGHTED and value.node.attrs["fused_activation_function"] == "NONE"


nearer_to_the_layer = [
    rule(op, mover, why="it may become a part of the layer there")(_nearer_to_the_layer)
    for op in ("MUL", "ADD")
    for mover in ("RESHAPE", "SLICE")
]


# -- in front of a layer


def _in_front(node: Node, affine: Node) -> tuple[Array, Array] | None:
    """The layer's weight in float64 and the number for each of its elements."""
    x = operand(node)
    if affine.out is not x or not x.type.rank or affine.attrs["fused_activation_function"] != "NONE" or not _float_constants(node):
        return None
    numbers, weight = per_channel(affine, x.type.shape[-1]), operand(node, 1)
    times, rest = divmod(weight.type.shape[-1], x.type.shape[-1])
    if numbers is None or rest or (times != 1 and node.op != "DEPTHWISE_CONV_2D"):
        return None  # a grouped convolution, or a linear layer on several rows made one
    return weight.array().astype(np.float64), np.repeat(numbers, times)


def _factor_in_front(node: Node, affine: Node) -> Replacement:
    if (found := _in_front(node, affine)) is None:
        return None
    weight = operand(node, 1)
    return _on(node, affine, {weight: _changed(weight, np.multiply, found[1])})


def _offset_in_front(node: Node, affine: Node) -> Replacement:
    """What the offset adds to each result; not where zeros around the image are no image."""
    if (found := _in_front(node, affine)) is None or node.attrs.get("padding", "VALID") != "VALID":
        return None
    weight, offset = found
    axes: Sequence[int] = (0, 1, 2) if node.op == "DEPTHWISE_CONV_2D" else range(1, weight.ndim)
    bias = operand(node, 2)
    return _on(node, affine, {bias: _changed(bias, np.add, (weight * offset).sum(tuple(axes)))})


def _on(node: Node, affine: Node, changed: dict[Value, Value]) -> Value:
    inputs = [operand(affine), *(v and changed.get(v, v) for v in node.inputs[1:])]
    return node.rebuilt(inputs=inputs, outputs=(replace(node.out, origin=None),)).out


factor_in_front = [rule(op, "MUL", why="a factor a channel is part of the weights")(_factor_in_front) for op in ACTIVATING]
offset_in_front = [rule(op, "ADD", why="an offset a channel is part of the bias")(_offset_in_front) for op in ACTIVATING]

RULES = [fold_factor, fold_offset, *nearer_to_the_layer, *factor_in_front, *offset_in_front]
