"""Functions of one element. On quantized operands those marked ``island`` are what PyTorch computes in float."""

from __future__ import annotations

from dataclasses import replace

from ..ir import Value
from .context import Context
from .registry import Order, lowers


@lowers("aten::relu", op="RELU")
@lowers("aten::relu6", op="RELU6")
@lowers("quantized::relu6", op="RELU6")
@lowers("aten::sigmoid", op="LOGISTIC")
@lowers("quantized::sigmoid", op="LOGISTIC")
@lowers("aten::tanh", op="TANH")
@lowers("aten::hardswish", op="HARD_SWISH")
@lowers("quantized::hardswish", op="HARD_SWISH")
def unary(c: Context, x: Value, op: str) -> Value:
    return c.emit(op, x)


@lowers("aten::hardsigmoid", island=True)
def hardsigmoid(c: Context, x: Value) -> Value:
    """relu6(x + 3) / 6"""
    shifted = c.emit_as(replace(x.type), "ADD", x, c.const(3.0), fused_activation_function="RELU6")
    return c.emit("MUL", shifted, c.const(1 / 6), fused_activation_function="NONE")


@lowers("aten::hardtanh")
def hardtanh(c: Context, x: Value, min_val: float, max_val: float) -> Value:
    c.only((min_val, max_val) == (0, 6), "(min_val, max_val)", (min_val, max_val), "(0, 6)")
    return c.emit("RELU6", x)


@lowers("aten::softmax.int", "aten::_softmax", order=Order.PLAIN, ignores=("half_to_float",))
@lowers("quantized::softmax", order=Order.PLAIN)
def softmax(c: Context, x: Value, dim: int) -> Value:
    c.only(dim % x.type.rank == x.type.rank - 1, "dim", dim, "the last one")
    return c.emit("SOFTMAX", x, beta=1.0)
