"""Arithmetic, element by element; concatenation. Operands of unequal element types are promoted as PyTorch does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir import DType, Quant, Value
from ..quant import array_of
from .context import Context
from .formula import Operand, cast, documented, part, promoted, real, result, scaled, spread
from .registry import lowers

# What PyTorch computes on truth values.
LOGICAL = {"ADD": "LOGICAL_OR", "MUL": "LOGICAL_AND", "MAXIMUM": "LOGICAL_OR", "MINIMUM": "LOGICAL_AND"}


@lowers("quantized::add", "_quantized::add", op="ADD", act="NONE")
@lowers("quantized::add_relu", op="ADD", act="RELU")
@lowers("quantized::mul", op="MUL", act="NONE")
@lowers("quantized::mul_relu", op="MUL", act="RELU")
def quantized_binary(c: Context, x: Value, qb: Value, op: str, act: str) -> Value:
    return c.emit(op, x, qb, fused_activation_function=act)


@lowers("quantized::add_scalar", "quantized::add_scalar.Tensor", "quantized::add.Scalar", op="ADD", act="NONE")
@lowers("quantized::add_scalar_relu", "quantized::add_scalar_relu.Tensor", "quantized::add_relu.Scalar", op="ADD", act="RELU")
@lowers("quantized::mul_scalar", "quantized::mul_scalar.Tensor", "quantized::mul.Scalar", op="MUL", act="NONE")
@lowers("quantized::mul_scalar_relu", "quantized::mul_scalar_relu.Tensor", "quantized::mul_relu.Scalar", op="MUL", act="RELU")
def quantized_by_number(c: Context, x: Value, b: Operand, op: str, act: str) -> Value:
    """PyTorch adds a whole number of steps, and chooses the result's scale and zero point so that the integers mostly stay as they are."""
    if isinstance(b, Value):
        c.only(b.data is not None, "b", "a tensor computed from an input", "a number")
        b = float(b.array())
    given, out = c.recorded("qa"), c.outs[0]
    if act == "RELU":
        documented(c, np.maximum(array_of(out), out.q_zero_point()), "forgets the relu")
    number = np.rint(b / given.q_scale()) * given.q_scale() if op == "ADD" else b
    if op == "ADD" and out.q_scale() != given.q_scale():  # next to a large number, integer kernels have few bits left for ``x``
        return result(c, op, real(c, x), number, fused_activation_function=act)
    # the number is one step of its own scale, above or below its zero point
    quant = Quant.per_tensor(abs(float(number)) or 1.0, int(number < 0))
    return result(c, op, x, c.const(np.array(number > 0, x.type.dtype.numpy), quant=quant), fused_activation_function=act)


@lowers("quantized::add.Scalar2", op="ADD", act="NONE")
@lowers("quantized::add_relu.Scalar2", op="ADD", act="RELU")
@lowers("quantized::mul.Scalar2", op="MUL", act="NONE")
@lowers("quantized::mul_relu.Scalar2", op="MUL", act="RELU")
def number_by_quantized(c: Context, x: float, qa: Value, op: str, act: str) -> Value:
    return quantized_by_number(c, qa, x, op, act)


@lowers("aten::mul.Tensor", "aten::mul.Scalar", op="MUL")
@lowers("aten::div.Tensor", "aten::div.Scalar", op="DIV")
@lowers("aten::maximum", op="MAXIMUM")
@lowers("aten::minimum", op="MINIMUM")
def binary(c: Context, x: Operand, other: Operand, op: str) -> Value:
    op = LOGICAL.get(op, op) if c.out_type().dtype is DType.BOOL else op
    return result(c, op, *promoted(c, x, other, dtype=c.out_type().dtype))


@lowers("aten::atan2")
def atan2(c: Context, x: Value, other: Value) -> Value:
    """LiteRT's kernel dies of operands that broadcast."""
    shape = tuple(c.out_shape[d] for d in c.result_order(0, None))
    return result(c, "ATAN2", *(spread(c, cast(c, v, c.out_type().dtype), shape) for v in (x, other)))


@lowers("aten::hypot")
def hypot(c: Context, x: Value, other: Value) -> Value:
    return result(c, "SQRT", part(c, "ADD", part(c, "MUL", x, x), part(c, "MUL", other, other)))


@lowers("aten::add.Tensor", "aten::add.Scalar", op="ADD")
@lowers("aten::sub.Tensor", "aten::sub.Scalar", op="SUB")
def scaled_binary(c: Context, x: Operand, other: Operand, alpha: float, op: str) -> Value:
    x, other = promoted(c, x, other, dtype=c.out_type().dtype)
    return binary(c, x, scaled(c, other, alpha), op)


@lowers("aten::rsub.Scalar", "aten::rsub.Tensor")
def reversed_sub(c: Context, x: Value, other: Operand, alpha: float) -> Value:
    """``other - alpha * x``"""
    return scaled_binary(c, other, x, alpha, "SUB")


@lowers("aten::pow.Tensor_Scalar")
def power(c: Context, x: Value, exponent: float) -> Value:
    x = cast(c, x, c.out_type().dtype)
    if exponent == 2:
        return result(c, "MUL", x, x)
    return result(c, "SQRT", x) if exponent == 0.5 else result(c, "POW", x, exponent)


@lowers("aten::pow.Tensor_Tensor", "aten::pow.Scalar")
def power_by_tensor(c: Context, x: Operand, exponent: Value) -> Value:
    return binary(c, x, exponent, "POW")


@lowers("aten::div.Tensor_mode", "aten::div.Scalar_mode")
def rounded_division(c: Context, x: Operand, other: Operand, rounding_mode: str | None) -> Value:
    x, other = promoted(c, x, other, dtype=c.out_type().dtype)
    if rounding_mode is None:
        return result(c, "DIV", x, other)
    if not x.type.dtype.is_float:  # integers divided in the files are rounded to zero
        return result(c, "FLOOR_DIV" if rounding_mode == "floor" else "DIV", x, other)
    if rounding_mode == "trunc":
        return truncated(c, part(c, "DIV", x, other))
    # without what remains the quotient is whole; rounded up to a whole number it must not count as one
    return result(c, "ROUND", part(c, "DIV", part(c, "SUB", x, part(c, "FLOOR_MOD", x, other)), other))


@lowers("aten::floor_divide")
def floor_divide(c: Context, x: Value, other: Operand) -> Value:
    return rounded_division(c, x, other, "floor")


@lowers("aten::trunc")
def trunc(c: Context, x: Value) -> Value:
    return truncated(c, x)


def truncated(c: Context, x: Value) -> Value:
    """The whole part of each sign: of a negative number, the other one is zero."""
    return result(c, "SUB", part(c, "FLOOR", part(c, "RELU", x)), part(c, "FLOOR", part(c, "RELU", part(c, "NEG", x))))


@lowers("aten::remainder.Tensor", "aten::remainder.Scalar", "aten::remainder.Scalar_Tensor")
def remainder(c: Context, x: Operand, other: Operand) -> Value:
    """With the sign of ``other``."""
    return result(c, "FLOOR_MOD", *promoted(c, x, other, dtype=c.out_type().dtype))


@lowers("aten::fmod.Tensor", "aten::fmod.Scalar")
def fmod(c: Context, x: Value, other: Operand) -> Value:
    """With the sign of ``x``."""
    x = cast(c, x, c.out_type().dtype)
    size = part(c, "ABS", cast(c, other, x.type.dtype)) if isinstance(other, Value) else abs(other)
    left = part(c, "FLOOR_MOD", part(c, "ABS", x), size)
    return result(c, "SELECT_V2", part(c, "LESS", x, 0, dtype=DType.BOOL), part(c, "NEG", left), left)


@lowers("aten::lerp.Scalar")
def lerp(c: Context, x: Value, end: Value, weight: float) -> Value:
    return result(c, "ADD", x, scaled(c, part(c, "SUB", end, x), weight))


@lowers("quantized::cat")
def quantized_cat(c: Context, x: Sequence[Value], dim: int) -> Value:
    return c.emit("CONCATENATION", *x, axis=c.axis(dim), fused_activation_function="NONE")


@lowers("quantized::cat_relu")
def quantized_cat_relu(c: Context, x: Sequence[Value], dim: int) -> Value:
    joined = c.emit_as(c.out_type().permute(c.order), "CONCATENATION", *x, axis=c.axis(dim), fused_activation_function="NONE")
    return c.emit("RELU", joined)


@lowers("aten::cat")
def cat(c: Context, x: Sequence[Value], dim: int) -> Value:
    parts = promoted(c, *(part for part in x if part.type.size), dtype=c.out_type().dtype)
    return c.emit("CONCATENATION", *parts, axis=c.axis(dim), fused_activation_function="NONE")
