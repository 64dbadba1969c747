"""What a model writes as DEQUANTIZE, float operators, QUANTIZE, as operators on the integers: reference models and mixed ones.

In float PyTorch computes on the numbers that the integers stand for, and rounds the result once; so does an operator on integers. The two
differ by one step where the result, with its bias in int32, lies in the middle of two. Only what the model itself quantizes is folded:
a float island of a lowering is there because the operator on integers would be further off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..arithmetic import quantize_bias
from ..ir import Constant, DType, Node, Type, Value
from ..spec import OPS
from .engine import Replacement, emit, rule
from .fuse import ACTIVATIONS
from .layout import operand

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
# Those that are the same function of numbers in float and in 8 bits. Weights and biases are the only constants that are folded.
FOLDED = (
    *WEIGHTED, "BATCH_MATMUL", "ADD", "SUB", "MUL", "CONCATENATION", "MEAN", "AVERAGE_POOL_2D", "SOFTMAX",
    "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "ELU", "HARD_SWISH", "LOGISTIC", "TANH",
)  # fmt: skip
# Those whose results are some of their operands.
MOVERS = (
    "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "SPLIT", "CONCATENATION", "GATHER", "PAD", "MAX_POOL_2D",
    "DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2",
)  # fmt: skip
# Those among them behind which a result may be quantized as well as in front.
SHAPES = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "PAD", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
ARITHMETIC = ("ADD", "SUB", "MUL")
LOWEST = np.finfo(np.float32).min
MOST_UNEQUAL = 2.0**16


def integers_behind(value: Value | None, *, constants: bool = False) -> Value | None:
    """The activation in integers, of one scale, that a float value is the DEQUANTIZE of, whoever else reads that; or a constant."""
    if value is None or value.node is None or value.node.op != "DEQUANTIZE":
        return None
    source = operand(value.node)
    scaled = source.type.quant is not None and source.type.quant.axis is None
    return source if scaled and (constants or source.data is None) else None


def quantized_by_the_model(node: Node) -> bool:
    return "::quantize" in node.where.op and node.out.type.quant is not None and node.out.type.quant.axis is None


def _move_integers(node: Node) -> Replacement:
    moved = [v for v in node.inputs if v is not None and v.type.dtype is DType.FLOAT32]
    sources = {v: source for v in moved if (source := integers_behind(v)) is not None}
    if len(sources) < len(set(moved)) or len({(source.type.dtype, source.type.quant) for source in sources.values()}) != 1:
        return None
    like = sources[moved[0]].type
    outs = [Value(replace(like, shape=out.type.shape), f"{out.name}.integers") for out in node.outputs]
    integers = node.rebuilt(inputs=[v and sources.get(v, v) for v in node.inputs], outputs=outs).outputs
    return [Node.make("DEQUANTIZE", (v,), (out,), where=node.where).out for v, out in zip(integers, node.outputs, strict=True)]


move_integers = [rule(op, why="integers are a quarter of the bytes to move, and stay what they are")(_move_integers) for op in MOVERS]


@rule("MAX_POOL_2D", "PADV2", why="the lowest integer is in no window that has another, as the lowest number is not")
def pool_integers(node: Node, pad: Node) -> Replacement:
    source = integers_behind(pad.inputs[0])
    if source is None or not _fills_with_lowest(pad):
        return None
    filling = _lowest(source.type, pad)
    padded = emit("PADV2", replace(source.type, shape=pad.out.type.shape), source, pad.inputs[1], filling, like=pad)
    pooled = emit("MAX_POOL_2D", replace(source.type, shape=node.out.type.shape), padded, like=node, **node.attrs)
    return emit("DEQUANTIZE", node.out.type, pooled, like=node)


def _fills_with_lowest(pad: Node) -> bool:
    fill = operand(pad, 2)
    return fill.data is not None and bool(fill.array() == LOWEST)


def _lowest(like: Type, pad: Node) -> Value:
    """The integer in place of the lowest number."""
    lowest = np.array(np.iinfo(like.dtype.numpy).min, like.dtype.numpy)
    return Value(replace(like, shape=()), operand(pad, 2).name, data=Constant.of(lowest))


@rule("QUANTIZE", "*", why="the integers are then moved, and what computes the operand may have integers, too")
def quantize_before_moving(node: Node, mover: Node) -> Replacement:
    """The largest of some numbers, rounded, is the largest of the rounded ones."""
    fills = mover.op == "PADV2" and _fills_with_lowest(mover)
    if not (mover.op in (*SHAPES, "MAX_POOL_2D") or fills) or not quantized_by_the_model(node):
        return None
    x = operand(mover)
    out = Value(replace(node.out.type, shape=x.type.shape), f"{x.name}.quantized")
    early = Node.make("QUANTIZE", (x,), (out,), where=replace(mover.where, op=node.where.op)).out
    others = (mover.inputs[1], _lowest(out.type, mover)) if fills else mover.inputs[1:]
    return mover.rebuilt(inputs=(early, *others), outputs=(_named(node.out, mover.out),)).out


def _activate_before_shaping(node: Node, reshape: Node) -> Replacement:
    """So that it may become a part of what computes its operand."""
    x = operand(reshape)
    if node.out.type != reshape.out.type:
        return None
    active = emit(node.op, x.type, x, like=node)
    return reshape.rebuilt(inputs=(active, *reshape.inputs[1:]), outputs=(replace(node.out, origin=None),)).out


activate_before_shaping = [rule(op, "RESHAPE", why="a shape does not matter to it")(_activate_before_shaping) for op in ACTIVATIONS]


@rule("QUANTIZE", "*", why="on integers it is the same function, rounded once")
def fold_float(node: Node, inner: Node) -> Replacement:
    if inner.op not in FOLDED or not quantized_by_the_model(node):
        return None
    behind = [integers_behind(v, constants=inner.op in ARITHMETIC) or v for v in inner.inputs]
    operands = on_integer_weights(inner) if inner.op in WEIGHTED else behind
    if operands is None or any(v is not None and v.type.dtype.is_float for v in operands) or not of_one_width(node, inner):
        return None
    if inner.op in ("ADD", "SUB") and not of_comparable_steps([node.out, *operands]):
        return None
    return inner.rebuilt(inputs=operands, outputs=(_named(node.out, inner.out),)).out


def of_comparable_steps(values: Sequence[Value | None]) -> bool:
    """Kernels add on a common scale of some twenty bits; a mask with the lowest float32 has steps that nothing else is seen next to."""
    steps = [v.type.quant.scale[0] for v in values if v is not None and v.type.quant is not None]
    return float(max(steps)) <= MOST_UNEQUAL * float(min(steps))


def of_one_width(node: Node, inner: Node) -> bool:
    """Whether the result has as many bits as the activations it is made of: kernels that mix 8 and 16 are none of the runtimes'."""
    sources = [integers_behind(v, constants=inner.op in ARITHMETIC) for v in inner.inputs]
    return len({source.type.dtype is DType.INT16 for source in (node.out, *sources) if source is not None}) == 1


def _named(result: Value, like: Value) -> Value:
    return replace(result, name=like.name)


def on_integer_weights(node: Node) -> Sequence[Value | None] | None:
    """The operands with the weight's integers and the bias in int32; None where a bias does not fit, and the operator stays in float."""
    data, weight, bias = operand(node, OPS[node.op].data), operand(node, 1), node.inputs[-1]
    x = integers_behind(data)
    stored = operand(weight.node) if weight.node is not None and weight.node.op == "DEQUANTIZE" else None
    if x is None or x.type.quant is None or stored is None or stored.data is None or not _plain(stored.type, x.type.dtype):
        return None
    assert stored.type.quant is not None
    moved: dict[Value | None, Value | None] = {data: x, weight: stored}
    if bias is not None:
        if bias.data is None:
            return None
        wide = x.type.dtype is DType.INT16
        accumulated = stored.type.size // bias.type.size * 255 * (2**15 if wide else 255)
        fitted = quantize_bias(bias.array(), x.type.quant.scale[0], stored.type.quant.scale, accumulated, wide=wide)
        if len(fitted.raised):
            return None
        moved[bias] = replace(bias, type=fitted.value_type(), data=Constant.of(fitted.q))
    return [moved.get(v, v) for v in node.inputs]


def _plain(type_: Type, x: DType) -> bool:
    """Whether kernels on integers take such a weight: 8 bits, and a zero point only if there is one scale, and it is next to 8 bits."""
    quant, zero_point = type_.quant, 128 if type_.dtype is DType.UINT8 else 0
    if quant is None or type_.dtype not in (DType.INT8, DType.UINT8):
        return False
    return (quant.axis is None and x is not DType.INT16) or not (quant.zero_point != zero_point).any()


RULES = [*move_integers, pool_integers, *activate_before_shaping, quantize_before_moving, fold_float]
