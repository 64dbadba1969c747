"""Operators that a runtime has in float only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...ir import Constant, DType, Node, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import operand
from .common import float_type


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


# What may run as a float island; convolutions and the like never do, so that no layer becomes float unseen.
ISLANDS = ("HARD_SWISH", "LOGISTIC", "TANH", "SOFTMAX", "DIV", "MAXIMUM", "MINIMUM", "MEAN", "STRIDED_SLICE", "SUB", "BATCH_MATMUL")


def island(runs: Callable[[Node], bool], ops: Sequence[str]) -> list[Rule]:
    """DEQUANTIZE -> float operator -> QUANTIZE for 8-bit operators the runtime does not execute: what PyTorch itself computes there."""

    def through_float(node: Node) -> Replacement:
        if node.out.type.quant is None or runs(node):
            return None
        inputs = [v if v is None or v.type.quant is None else emit("DEQUANTIZE", float_type(v.type), v, like=node) for v in node.inputs]
        outs = [Value(float_type(out.type), f"{out.name}.float") for out in node.outputs]
        inner = Node.make(node.op, inputs, outs, node.attrs, node.where)
        return [emit("QUANTIZE", old.type, new, name=old.name, like=node) for old, new in zip(node.outputs, inner.outputs, strict=True)]

    return [rule(op, why="the runtime has this operator in float only")(through_float) for op in ops]
