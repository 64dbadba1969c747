"""Constructions that replace what a runtime lacks or gets wrong, each exact or within the error it states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..arithmetic import dequantized, moved_by_128, quantized
from ..ir import Array, Constant, DType, Node, Quant, Type, Value
from ..optimize.engine import Replacement, Rule, emit, rule
from ..optimize.layout import const, operand, reshape
from ..spec import OPS, scheme

EIGHT_BIT = (DType.INT8, DType.UINT8)


@rule("QUANTIZE", why="the runtime's own QUANTIZE between 8-bit types is off by one in some 4 % of values; through float none is")
def requantize_through_float(node: Node) -> Replacement:
    x = operand(node)
    if x.type.dtype not in EIGHT_BIT or x.type.dtype != node.out.type.dtype:
        return None
    return emit("QUANTIZE", node.out.type, emit("DEQUANTIZE", _float(x.type), x, like=node), like=node)


FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "QUANTIZE": lambda x: x,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def lookup(op: str) -> Rule:
    """A function of one uint8 is a table of 256: CAST to an index and GATHER. Exact, and faster than the float operators."""

    @rule(op, why="the runtime has no such operator on uint8; a table of its 256 results is exact")
    def by_table(node: Node) -> Replacement:
        x, out = operand(node).type, node.out.type
        if x.dtype is not DType.UINT8 or out.dtype is not DType.UINT8 or x.quant is None:
            return None
        results = quantized(FUNCTIONS[op](dequantized(np.arange(256), x.quant)), out)
        table = Value(Type((256,), DType.UINT8, out.quant), f"{node.out.name}.table", data=Constant.of(results))
        # onert takes the operand of CAST for one without a scale, which any producer but RESHAPE then refuses
        line = reshape(operand(node), (x.size,) if x.rank != 1 else (x.size, 1), node)
        index = emit("CAST", Type(line.type.shape, DType.INT32), line, like=node, in_data_type="UINT8", out_data_type="INT32")
        found = emit("GATHER", out.reshape(line.type.shape), table, index, like=node, axis=0, batch_dims=0)
        return reshape(found, out.shape, node)

    return by_table


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
    parts = [
        v if v.type.quant == target.quant else emit("QUANTIZE", replace(v.type, quant=target.quant), v, like=node)
        for v in map(_present, node.inputs)
    ]
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


@rule("MEAN", why="the runtime drops dimensions of rank 4 only if they are the rows and columns of an NHWC image")
def mean_then_reshape(node: Node) -> Replacement:
    x, axes = operand(node), operand(node, 1)
    gone = set(axes.array().tolist())
    if node.attrs["keep_dims"] or x.type.rank != 4 or gone == {1, 2}:
        return None
    shape = tuple(1 if axis in gone else size for axis, size in enumerate(x.type.shape))
    return reshape(emit("MEAN", node.out.type.reshape(shape), x, axes, like=node, keep_dims=True), node.out.type.shape, node)


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


@rule(
    "AVERAGE_POOL_2D",
    why="the runtime rounds ties away from zero; a depthwise convolution with equal weights rounds to even, and XNNPACK runs it",
)
def average_pool_as_depthwise(node: Node) -> Replacement:
    x = operand(node)
    if x.type.dtype is not DType.INT8 or x.type.quant is None or node.attrs["padding"] != "VALID":
        return None
    kh, kw, channels = node.attrs["filter_height"], node.attrs["filter_width"], x.type.shape[3]
    # the largest weight, not 1: kernels that round the multiplier to fixed point lose least with a large accumulator
    scale = np.float32(1 / (127 * kh * kw))
    weight = _filled((1, kh, kw, channels), Type((), DType.INT8, Quant.per_tensor(float(scale), 0)), 127, f"{node.out.name}.weight")
    bias = _filled(
        (channels,), Type((), DType.INT32, Quant.per_tensor(float(x.type.quant.scale[0] * scale), 0)), 0, f"{node.out.name}.bias"
    )
    attrs = {"padding": "VALID", "stride_h": node.attrs["stride_h"], "stride_w": node.attrs["stride_w"], "depth_multiplier": 1}
    return emit("DEPTHWISE_CONV_2D", node.out.type, x, weight, bias, like=node, fused_activation_function="NONE", **attrs)


def _filled(shape: tuple[int, ...], like: Type, number: int, name: str) -> Value:
    type_ = replace(like, shape=shape)
    return Value(type_, name, data=Constant(lambda: np.full(shape, number, type_.dtype.numpy)))


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


def island(runs: Callable[[Node], bool], ops: Sequence[str]) -> list[Rule]:
    """DEQUANTIZE -> float operator -> QUANTIZE for 8-bit operators the runtime does not execute: what PyTorch itself computes there."""

    def through_float(node: Node) -> Replacement:
        if node.out.type.quant is None or runs(node):
            return None
        inputs = [v if v is None or v.type.quant is None else emit("DEQUANTIZE", _float(v.type), v, like=node) for v in node.inputs]
        outs = [Value(_float(out.type), f"{out.name}.float") for out in node.outputs]
        inner = Node.make(node.op, inputs, outs, node.attrs, node.where)
        return [emit("QUANTIZE", old.type, new, name=old.name, like=node) for old, new in zip(node.outputs, inner.outputs, strict=True)]

    return [rule(op, why="the runtime has this operator in float only")(through_float) for op in ops]


def _float(type_: Type) -> Type:
    return Type(type_.shape, DType.FLOAT32)


# What may run as a float island; convolutions and the like never do, so that no layer becomes float unseen.
ISLANDS = ("HARD_SWISH", "LOGISTIC", "TANH", "SOFTMAX", "DIV", "MAXIMUM", "MINIMUM", "MEAN", "STRIDED_SLICE", "SUB")
