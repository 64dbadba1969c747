"""A layer and what is added to it, which a model rounds once, behind the sum: operators on integers must round in between.

The sum lies between the ends of its integers, or is clipped to them. So the layer matters between these ends less what is added, and
however it is rounded or clipped beyond, a result is off by half of the layer's step at most.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Constant, DType, Node, Quant, Type, Value
from .engine import Replacement, emit, rule
from .fold import WEIGHTED, integers_behind, of_comparable_steps, of_one_width, on_integer_weights, quantized_by_the_model
from .fuse import ends

MOST = 127  # the largest weight


@rule("QUANTIZE", "ADD", why="the sum is rounded once, the layer before by half a step of the result")
def fold_sum(node: Node, add: Node) -> Replacement:
    if not quantized_by_the_model(node) or not of_one_width(node, add):
        return None
    for layer, other in (add.inputs, add.inputs[::-1]):
        added = integers_behind(other)
        if layer is None or layer.node is None or layer.node.op not in WEIGHTED or added is None or not of_one_width(node, layer.node):
            continue
        total = replace(node.out, name=add.out.name)
        if of_comparable_steps((total, added)) and (made := _in_one(total, add, layer, added) or _in_two(total, add, layer.node, added)):
            return made
    return None


def _step(value: Value) -> float:
    assert value.type.quant is not None
    return float(value.type.quant.scale[0])


def _in_one(total: Value, add: Node, layer: Value, added: Value) -> Value | None:
    """A layer with a step that is the sum of both steps: with what is added no coarser than the result, at most two of the result's."""
    operands = on_integer_weights(layer.node) if layer.node else None
    if operands is None or _step(added) > _step(total) or layer.node is None:
        return None
    low, step = ends(total)[0] - ends(added)[1], _step(total) + _step(added)
    zero_point = 0 if total.type.dtype is DType.INT16 else int(np.rint(np.iinfo(total.type.dtype.numpy).min - low / step))
    quant = Quant.per_tensor(step, zero_point)
    part = Value(Type(layer.type.shape, total.type.dtype, quant), f"{layer.name}.part")
    made = layer.node.rebuilt(inputs=operands, outputs=(part,)).out
    return add.rebuilt(inputs=[made if v is layer else added for v in add.inputs], outputs=(total,)).out


def _in_two(total: Value, add: Node, layer: Node, added: Value) -> Value | None:
    """Two layers with the step of what is added, each for half of the range, and all three summed up by a depthwise convolution."""
    alike = layer.out.type.shape == added.type.shape == total.type.shape
    if total.type.dtype is DType.INT16 or _step(added) > 2 * _step(total) or total.type.rank != 4 or not alike:
        return None
    (n, h, w, c), (least, most) = total.type.shape, ends(added)
    low = ends(total)[0] - most
    parts = [_shifted(layer, least - low - half * (most - least), added.type) for half in range(2)]
    if None in parts:
        return None
    rows = emit("CONCATENATION", added.type.reshape((n, 3 * h, w, c)), *parts, added, like=add, axis=1, fused_activation_function="NONE")
    unit = np.float32(1 / MOST)
    kernel = Type((1, 3, 1, c), DType.INT8, Quant.per_tensor(float(unit), 0))
    ones = Value(kernel, f"{total.name}.ones", data=Constant.of(np.full(kernel.shape, MOST, np.int8)))
    step = np.float32(_step(added)) * unit
    back = np.full(c, np.rint((low - 2 * least) / step), np.int32)
    bias = Value(Type((c,), DType.INT32, Quant.per_tensor(float(step), 0)), f"{total.name}.shift", data=Constant.of(back))
    attrs = {**add.attrs, "stride_h": 1, "stride_w": 1, "dilation_h_factor": h, "dilation_w_factor": 1, "depth_multiplier": 1}
    return Node.make("DEPTHWISE_CONV_2D", (rows, ones, bias), (total,), {**attrs, "padding": "VALID"}, add.where).out


def _shifted(layer: Node, shift: float, type_: Type) -> Value | None:
    """The layer plus ``shift``, in integers of ``type_``."""
    bias = layer.inputs[-1]
    if bias is None or bias.data is None:
        return None
    moved = replace(bias, data=bias.data.map(lambda b: b + np.float32(shift)))
    operands = on_integer_weights(layer.rebuilt(inputs=(*layer.inputs[:-1], moved)))
    return layer.rebuilt(inputs=operands, outputs=(Value(type_, f"{layer.out.name}.part"),)).out if operands else None


RULES = [fold_sum]
