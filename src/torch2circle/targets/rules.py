"""Constructions that replace what a runtime lacks or gets wrong, each exact or within the error it states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..ir import Constant, DType, Node, Quant, Type, Value
from ..optimize.engine import Replacement, Rule, emit, rule
from ..optimize.layout import const, operand, reshape
from ..spec import OPS, scheme

EIGHT_BIT = (DType.INT8, DType.UINT8)


def requantized(x: Value, type_: Type, like: Node, act: str = "NONE") -> Value:
    """``x`` at another scale by adding zero: one rounding, half to even, which QUANTIZE does not give on every runtime."""
    assert x.type.quant is not None
    zero = Value(Type((), x.type.dtype, x.type.quant), f"{like.out.name}.zero", data=Constant.of(np.array(x.type.quant.zero_point[0], x.type.dtype.numpy)))
    return emit("ADD", type_, x, zero, like=like, fused_activation_function=act)


@rule("QUANTIZE", why="the runtime refuses QUANTIZE between equal types; adding zero requantizes with one rounding")
def requantize_by_adding_zero(node: Node) -> Replacement:
    x = operand(node)
    return requantized(x, node.out.type, node) if x.type.dtype in EIGHT_BIT and x.type.dtype == node.out.type.dtype else None


def _relu_by_adding_zero(node: Node) -> Replacement:
    x = operand(node)
    return requantized(x, node.out.type, node, act=node.op) if x.type.dtype in EIGHT_BIT else None


relu_by_adding_zero = rule("RELU", why="the runtime clamps integers only inside an arithmetic operator")(_relu_by_adding_zero)
relu6_by_adding_zero = rule("RELU6", why="the runtime clamps integers only inside an arithmetic operator")(_relu_by_adding_zero)


def _move_then_requantize(node: Node) -> Replacement:
    """An operator that only moves integers keeps their scale, and a QUANTIZE behind it changes the scale."""
    if not scheme(node).endswith("+requant"):
        return None
    quant = operand(node, 1 if node.op == "SPLIT" else 0).type.quant
    moved = node.rebuilt(outputs=[Value(replace(o.type, quant=quant), f"{o.name}.moved") for o in node.outputs])
    return [emit("QUANTIZE", o.type, m, name=o.name, like=node) for o, m in zip(node.outputs, moved.outputs, strict=True)]


move_then_requantize: list[Rule] = [
    rule(op, why="the runtime copies the integers and ignores the scales")(_move_then_requantize)
    for op, spec in OPS.items()
    if spec.moves and op not in ("CONCATENATION", "AVERAGE_POOL_2D")
]


@rule("CONCATENATION", why="the runtime joins integers of one scale only")
def requantize_before_joining(node: Node) -> Replacement:
    if not scheme(node).endswith("+requant"):
        return None
    target = node.out.type
    parts = [v if v.type.quant == target.quant else requantized(v, replace(v.type, quant=target.quant), node) for v in map(_present, node.inputs)]
    return node.rebuilt(inputs=parts, outputs=(replace(node.out, origin=None),)).out


def _present(value: Value | None) -> Value:
    assert value is not None
    return value


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
        emit("CONV_2D", part_type, part, *(_channels(v, g, groups) for v in (weight, bias)), name=f"{node.out.name}.out{g}", like=node, **node.attrs)
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


@rule("STRIDED_SLICE", why="the runtime has no 8-bit STRIDED_SLICE; its GATHER takes any step")
def strided_slice_as_gather(node: Node) -> Replacement:
    x = operand(node)
    begins, ends, steps = (operand(node, i).array() for i in (1, 2, 3))
    strided = [axis for axis in range(x.type.rank) if steps[axis] != 1]
    if x.type.dtype not in EIGHT_BIT or len(strided) != 1:
        return None
    axis = strided[0]
    index = const(f"{node.out.name}.index", np.arange(begins[axis], ends[axis], steps[axis]))
    return emit("GATHER", node.out.type, x, index, like=node, axis=axis, batch_dims=0)


@rule("HARD_SWISH", why="the runtime has no HARD_SWISH: x * relu6(x + 3) / 6")
def hard_swish_as_products(node: Node) -> Replacement:
    x = operand(node)
    if not x.type.dtype.is_float:
        return None
    three, sixth = (_number(f"{node.out.name}.{name}", value) for name, value in (("three", 3.0), ("sixth", 1 / 6)))
    gate = emit("ADD", x.type, x, three, like=node, fused_activation_function="RELU6")
    product = emit("MUL", x.type, x, gate, like=node, fused_activation_function="NONE")
    return emit("MUL", x.type, product, sixth, like=node, fused_activation_function="NONE")


def _number(name: str, value: float) -> Value:
    return Value(Type((), DType.FLOAT32), name, data=Constant.of(np.array(value, np.float32)))


@rule("AVERAGE_POOL_2D", why="the runtime's average rounds ties away from zero; a depthwise convolution with weights 1 rounds as PyTorch does")
def average_pool_as_depthwise(node: Node) -> Replacement:
    x = operand(node)
    if x.type.quant is None or node.attrs["padding"] != "VALID":
        return None
    kh, kw, channels = node.attrs["filter_height"], node.attrs["filter_width"], x.type.shape[3]
    scale = np.float32(1 / (kh * kw))
    weight_type = Type((1, kh, kw, channels), x.type.dtype, Quant.per_tensor(float(scale), 128 if x.type.dtype is DType.UINT8 else 0))
    one = 129 if x.type.dtype is DType.UINT8 else 1
    weight = Value(weight_type, f"{node.out.name}.ones", data=Constant(lambda: np.full((1, kh, kw, channels), one, x.type.dtype.numpy)))
    bias_type = Type((channels,), DType.INT32, Quant.per_tensor(float(x.type.quant.scale[0] * scale), 0))
    bias = Value(bias_type, f"{node.out.name}.zero", data=Constant(lambda: np.zeros(channels, np.int32)))
    attrs = {"padding": "VALID", "stride_h": node.attrs["stride_h"], "stride_w": node.attrs["stride_w"], "depth_multiplier": 1}
    return emit("DEPTHWISE_CONV_2D", node.out.type, x, weight, bias, like=node, fused_activation_function="NONE", **attrs)


def affine_weight_in_uint8(op: str) -> Rule:
    """Weights with a zero point other than 0, per tensor: uint8 kernels take any, int8 kernels none."""

    @rule(op, why="int8 kernels demand weight zero point 0, uint8 kernels do not")
    def affine(node: Node) -> Replacement:
        weight = operand(node, 1)
        quant = weight.type.quant
        if weight.type.dtype is not DType.INT8 or quant is None or quant.axis is not None or quant.zero_point[0] == 0:
            return None
        x = operand(node)
        inputs = (emit("QUANTIZE", _as_uint8(x.type), x, like=node), _constant_as_uint8(weight), node.inputs[2])
        inner = emit(op, _as_uint8(node.out.type), *inputs, like=node, **node.attrs)
        return emit("QUANTIZE", node.out.type, inner, like=node)

    return affine


def _as_uint8(type_: Type) -> Type:
    assert type_.quant is not None
    return replace(type_, dtype=DType.UINT8, quant=type_.quant.shifted(128))


def _constant_as_uint8(value: Value) -> Value:
    assert value.data is not None
    return replace(value, type=_as_uint8(value.type), data=value.data.map(lambda a: (a.astype(np.int16) + 128).astype(np.uint8)))


def island(runs: Callable[[Node], bool], ops: Sequence[str]) -> list[Rule]:
    """DEQUANTIZE -> float operator -> QUANTIZE for 8-bit operators the runtime does not execute: what PyTorch itself computes there."""

    def wrapped(node: Node) -> Replacement:
        if node.out.type.quant is None or runs(node):
            return None
        inputs = [v if v is None or v.type.quant is None else emit("DEQUANTIZE", _float(v.type), v, like=node) for v in node.inputs]
        outs = [Value(_float(out.type), f"{out.name}.float") for out in node.outputs]
        inner = Node.make(node.op, inputs, outs, node.attrs, node.where)
        return [emit("QUANTIZE", old.type, new, name=old.name, like=node) for old, new in zip(node.outputs, inner.outputs, strict=True)]

    return [rule(op, why="the runtime has this operator in float only")(wrapped) for op in ops]


def _float(type_: Type) -> Type:
    return Type(type_.shape, DType.FLOAT32)


# What may run as a float island; convolutions and the like never do, so that no layer becomes float unseen.
ISLANDS = ("HARD_SWISH", "LOGISTIC", "TANH", "SOFTMAX", "DIV", "MAXIMUM", "MINIMUM", "MEAN", "STRIDED_SLICE", "SUB")
