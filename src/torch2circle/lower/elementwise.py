"""Arithmetic on two operands, concatenation."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Value
from .context import Context
from .registry import lowers


@lowers("quantized::add", op="ADD", act="NONE")
@lowers("quantized::add_relu", op="ADD", act="RELU")
@lowers("quantized::mul", op="MUL", act="NONE")
@lowers("quantized::mul_relu", op="MUL", act="RELU")
def quantized_binary(c: Context, x: Value, qb: Value, op: str, act: str) -> Value:
    return c.emit(op, x, qb, fused_activation_function=act)


@lowers("aten::mul.Tensor", op="MUL")
@lowers("aten::div.Tensor", op="DIV")
def binary(c: Context, x: Value, other: Value, op: str) -> Value:
    return c.emit(op, *_operands(c, x, other), fused_activation_function="NONE")


@lowers("aten::add.Tensor", op="ADD")
@lowers("aten::sub.Tensor", op="SUB")
def scaled_binary(c: Context, x: Value | float, other: Value | float, alpha: float, op: str) -> Value:
    x, other = _operands(c, x, other)
    if alpha != 1:
        other = c.emit_as(other.type, "MUL", other, c.const(float(alpha)), fused_activation_function="NONE")
    return c.emit(op, x, other, fused_activation_function="NONE")


@lowers("aten::rsub.Scalar", "aten::rsub.Tensor")
def reversed_sub(c: Context, x: Value, other: Value | float, alpha: float) -> Value:
    """``other - alpha * x``"""
    return scaled_binary(c, other, x, alpha, "SUB")


def _operands(c: Context, *operands: Value | float) -> list[Value]:
    """A Python number becomes a constant of the result's type; operands of unequal types are refused, since PyTorch would promote them."""
    dtype = c.out_type().dtype
    values = [v if isinstance(v, Value) else c.const(dtype.numpy.type(v) * dtype.numpy.type(1)) for v in operands]
    for value in values:
        c.only(value.type.dtype is dtype, "operand type", value.type.dtype.value, dtype.value)
    return values


@lowers("quantized::cat")
def quantized_cat(c: Context, x: Sequence[Value], dim: int) -> Value:
    return c.emit("CONCATENATION", *x, axis=c.axis(dim), fused_activation_function="NONE")


@lowers("quantized::cat_relu")
def quantized_cat_relu(c: Context, x: Sequence[Value], dim: int) -> Value:
    joined = c.emit_as(c.out_type().permute(c.order), "CONCATENATION", *x, axis=c.axis(dim), fused_activation_function="NONE")
    return c.emit("RELU", joined)


@lowers("aten::cat")
def cat(c: Context, x: Sequence[Value], dim: int) -> Value:
    return c.emit("CONCATENATION", *_operands(c, *x), axis=c.axis(dim), fused_activation_function="NONE")
