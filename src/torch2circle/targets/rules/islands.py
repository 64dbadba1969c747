"""Operators that a runtime has in float only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...arithmetic import dequantized
from ...ir import DType, Node, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from .common import float_type

# What may run as a float island; convolutions and the like never do, so that no layer becomes float unseen.
ISLANDS = (
    "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU", "ELU", "GELU", "HARD_SWISH", "LOGISTIC", "TANH", "SOFTMAX",
    "DIV", "MAXIMUM", "MINIMUM", "MEAN", "STRIDED_SLICE", "SUB", "BATCH_MATMUL", "SELECT_V2",
)  # fmt: skip


IN_FLOAT_ONLY = "the runtime has this operator in float only"


def island(runs: Callable[[Node], bool], ops: Sequence[str], why: str = IN_FLOAT_ONLY) -> list[Rule]:
    """DEQUANTIZE -> float operator -> QUANTIZE for 8-bit operators the runtime does not execute: what PyTorch itself computes there."""

    def through_float(node: Node) -> Replacement:
        if node.out.type.quant is None or runs(node):
            return None
        inputs = [v if v is None or v.type.quant is None else _in_float(node, v) for v in node.inputs]
        outs = [Value(float_type(out.type), f"{out.name}.float") for out in node.outputs]
        inner = Node.make(node.op, inputs, outs, node.attrs, node.where)
        return [emit("QUANTIZE", old.type, new, name=old.name, like=node) for old, new in zip(node.outputs, inner.outputs, strict=True)]

    return [rule(op, why=why)(through_float) for op in ops]


def faster_in_float(*ops: str) -> list[Rule]:
    """The same for operators whose kernel on integers is right, but slow."""
    why = "XNNPACK runs this in float only, and another kernel in between takes longer than that"
    return island(lambda node: node.out.type.dtype is DType.INT16, ops, why)


def _in_float(node: Node, value: Value) -> Value:
    quant = value.type.quant
    if value.data is None or quant is None:
        return emit("DEQUANTIZE", float_type(value.type), value, like=node)
    return replace(value, type=float_type(value.type), data=value.data.map(lambda q: dequantized(q, quant)))
