"""Functions of one element. On quantized operands those marked ``island`` are what PyTorch computes in float."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import quantized
from ..ir import DType, Value
from ..quant import constant_of, type_of
from .context import Context, Placed
from .formula import Operand, cast, documented, part, real, result, scaled
from .registry import Order, lowers


@lowers("aten::relu", op="RELU")
@lowers("aten::relu6", "quantized::relu6", op="RELU6")
@lowers("aten::sigmoid", "quantized::sigmoid", op="LOGISTIC")
@lowers("aten::tanh", op="TANH")
@lowers("aten::hardswish", "quantized::hardswish", op="HARD_SWISH")
@lowers("aten::abs", op="ABS")
@lowers("aten::neg", op="NEG")
@lowers("aten::sign", op="SIGN")
@lowers("aten::sqrt", op="SQRT")
@lowers("aten::rsqrt", op="RSQRT")
@lowers("aten::exp", op="EXP")
@lowers("aten::log", op="LOG")
@lowers("aten::sin", op="SIN")
@lowers("aten::cos", op="COS")
@lowers("aten::floor", op="FLOOR")
@lowers("aten::ceil", op="CEIL")
@lowers("aten::round", op="ROUND")
def unary(c: Context, x: Value, op: str) -> Value:
    return c.emit(op, cast(c, x, c.out_type().dtype))


@lowers("aten::reciprocal")
def reciprocal(c: Context, x: Value) -> Value:
    return result(c, "DIV", 1.0, cast(c, x, c.out_type().dtype))


@lowers("aten::exp2")
def exp2(c: Context, x: Value) -> Value:
    return result(c, "POW", 2.0, cast(c, x, c.out_type().dtype))


@lowers("aten::log2", base=2)
@lowers("aten::log10", base=10)
def log_of_base(c: Context, x: Value, base: int) -> Value:
    return result(c, "MUL", part(c, "LOG", cast(c, x, c.out_type().dtype)), 1 / math.log(base))


@lowers("aten::expm1")
def expm1(c: Context, x: Value) -> Value:
    """``exp(x) - 1``, which is 6e-8 off where PyTorch's is not: near zero."""
    return result(c, "SUB", part(c, "EXP", cast(c, x, c.out_type().dtype)), 1.0)


@lowers("aten::log1p")
def log1p(c: Context, x: Value) -> Value:
    """``log(1 + x)``, which is 6e-8 off where PyTorch's is not: near zero."""
    return result(c, "LOG", part(c, "ADD", cast(c, x, c.out_type().dtype), 1.0))


@lowers("aten::erf")
def erf(c: Context, x: Value) -> Value:
    return c.as_result(_erf(c, x))


def _erf(c: Context, x: Value) -> Value:
    """From ``gelu(z) = z / 2 * (1 + erf(z / sqrt(2)))``: 5e-7 off at most."""
    z = part(c, "MUL", cast(c, x, c.out_type().dtype), math.sqrt(2))
    ratio = part(c, "DIV", part(c, "GELU", z, approximate=False), z)
    return part(c, "SELECT_V2", part(c, "EQUAL", z, 0.0, dtype=DType.BOOL), 0.0, part(c, "SUB", part(c, "MUL", ratio, 2.0), 1.0))


@lowers("aten::erfc")
def erfc(c: Context, x: Value) -> Value:
    return result(c, "SUB", 1.0, _erf(c, x))


@lowers("aten::tan")
def tan(c: Context, x: Value) -> Value:
    return result(c, "DIV", part(c, "SIN", x), part(c, "COS", x))


@lowers("aten::atan")
def atan(c: Context, x: Value) -> Value:
    return result(c, "ATAN2", x, c.const(np.ones(x.type.shape, x.type.dtype.numpy)))  # LiteRT's dies of one number for all


@lowers("aten::asin")
def asin(c: Context, x: Value) -> Value:
    return result(c, "ATAN2", x, _leg(c, x))


@lowers("aten::acos")
def acos(c: Context, x: Value) -> Value:
    return result(c, "ATAN2", _leg(c, x), x)


def _leg(c: Context, x: Value) -> Value:
    """``sqrt(1 - x * x)``, without the loss of digits near 1."""
    return part(c, "SQRT", part(c, "MUL", part(c, "SUB", 1.0, x), part(c, "ADD", x, 1.0)))


@lowers("aten::softplus")
def softplus(c: Context, x: Value, beta: float, threshold: float) -> Value:
    """``relu(x) + log(1 + exp(-|x|))``, which no number overflows, of ``beta * x``; PyTorch's is ``x`` above the threshold."""
    large = scaled(c, x, beta)
    rest = part(c, "LOG", part(c, "ADD", part(c, "EXP", part(c, "NEG", part(c, "ABS", large))), 1.0))
    if threshold >= EXACT_ABOVE:
        return result(c, "ADD", part(c, "RELU", x), scaled(c, rest, 1 / beta))
    soft = part(c, "ADD", part(c, "RELU", x), scaled(c, rest, 1 / beta))
    return result(c, "SELECT_V2", part(c, "GREATER", large, threshold, dtype=DType.BOOL), x, soft)


EXACT_ABOVE = 17.0
"""Where ``log(1 + exp(-x))`` is less than half of the last digit of ``x``."""


@lowers("aten::hardsigmoid", island=True)
def hardsigmoid(c: Context, x: Value) -> Value:
    """relu6(x + 3) / 6"""
    return result(c, "MUL", part(c, "ADD", x, 3.0, fused_activation_function="RELU6"), 1 / 6)


ACTIVATIONS: dict[object, str] = {(0, None): "RELU", (0, 6): "RELU6", (-1, 1): "RELU_N1_TO_1"}


@lowers("aten::clamp", "aten::clamp.Tensor", "quantized::clamp")
def clamp(c: Context, x: Value, min: Operand | None, max: Operand | None) -> Value:
    """On quantized tensors the bounds are rounded to integers, and these are compared."""
    dtype = c.out_type().dtype
    if (op := ACTIVATIONS.get((min, max))) and dtype in (DType.FLOAT32, DType.UINT8, DType.INT8):
        return c.emit(op, cast(c, x, dtype))
    x, (low, high) = cast(c, x, dtype), (cast(c, v, dtype) if isinstance(v, Value) else v for v in (min, max))
    if low is not None:
        if high is None:
            return result(c, "MAXIMUM", x, low)
        x = part(c, "MAXIMUM", x, low)
    assert high is not None  # PyTorch wants one of the two
    return result(c, "MINIMUM", x, high)


@lowers("aten::clamp_min", "aten::clamp_min.Tensor")
def clamp_min(c: Context, x: Value, min: Operand) -> Value:
    return clamp(c, x, min, None)


@lowers("aten::clamp_max", "aten::clamp_max.Tensor")
def clamp_max(c: Context, x: Value, max: Operand) -> Value:
    return clamp(c, x, None, max)


@lowers("aten::hardtanh")
def hardtanh(c: Context, x: Value, min_val: float, max_val: float) -> Value:
    return clamp(c, x, min_val, max_val)


@lowers("aten::threshold", "quantized::threshold", island=True)
def threshold(c: Context, x: Value, threshold: float, value: float) -> Value:
    return result(c, "SELECT_V2", part(c, "GREATER", x, threshold, dtype=DType.BOOL), x, value)


@lowers("aten::softshrink")
def softshrink(c: Context, x: Value, lambd: float) -> Value:
    """What is left of ``x`` outside [-lambd, lambd]."""
    return result(c, "SUB", x, part(c, "MINIMUM", part(c, "MAXIMUM", x, -lambd), lambd))


@lowers("aten::leaky_relu", "quantized::leaky_relu")
def leaky_relu(c: Context, x: Value, negative_slope: float) -> Value:
    return c.emit("LEAKY_RELU", x, alpha=float(negative_slope))


@lowers("aten::rrelu", ignores=("generator",))
def rrelu(c: Context, x: Value, lower: float, upper: float, training: bool) -> Value:
    """With the mean of the slopes that training draws from."""
    c.only(not training, "training", training, "False")
    return c.emit("LEAKY_RELU", x, alpha=(lower + upper) / 2)


@lowers("aten::round.decimals")
def round_decimals(c: Context, x: Value, decimals: int) -> Value:
    return result(c, "DIV", part(c, "ROUND", part(c, "MUL", x, 10.0**decimals)), 10.0**decimals)


@lowers("aten::gelu")
def gelu(c: Context, x: Value, approximate: str) -> Value:
    return c.emit("GELU", x, approximate=approximate == "tanh")


@lowers("aten::elu", "quantized::elu")
def elu(c: Context, x: Value, alpha: float, scale: float, input_scale: float) -> Value:
    """scale * x above zero, else alpha * scale * (exp(input_scale * x) - 1); the file's ELU knows none of the three."""
    if alpha == scale == input_scale == 1:
        return c.emit("ELU", x)
    x = real(c, x)
    below = scaled(c, part(c, "ELU", scaled(c, part(c, "MINIMUM", x, 0.0), input_scale)), alpha * scale)
    return result(c, "ADD", scaled(c, part(c, "RELU", x), scale), below)


@lowers("aten::celu", "quantized::celu")
def celu(c: Context, x: Value, alpha: float) -> Value:
    return elu(c, x, 1, 1, 1) if alpha == 1 else result(c, "MUL", part(c, "ELU", scaled(c, real(c, x), 1 / alpha)), alpha)


@lowers("aten::prelu", "aten::_prelu_kernel")
def prelu(c: Context, x: Value, weight: Tensor) -> Value:
    """``weight * x`` below zero, with a weight for each channel or one for all."""
    type_ = type_of(weight, c.where)
    shape = [1] * x.type.rank
    if type_.size > 1:
        shape[c.axis(1)] = type_.size
    slopes = Value(type_.reshape(shape), c.builder.name("slope"), data=constant_of(lambda: weight).map(lambda array: array.reshape(shape)))
    return c.emit("PRELU", x, slopes)


@lowers("quantized::prelu")
def quantized_prelu(c: Context, x: Value, weight: Tensor) -> Value:
    """PyTorch multiplies what is above zero by 1 as the weight's integers hold it, which is less if their range ends below 1."""
    given = c.recorded("qx").dequantize()
    integers = quantized(torch.prelu(given, weight.dequantize()).numpy(), c.out_type())
    documented(c, integers, "shrinks what is above zero")
    return prelu(c, x, weight)


@lowers("aten::softmax.int", "aten::_softmax", op="SOFTMAX", order=Order.FREE, ignores=("half_to_float",))
@lowers("quantized::softmax", op="SOFTMAX", order=Order.FREE)
@lowers("aten::log_softmax.int", "aten::_log_softmax", op="LOG_SOFTMAX", order=Order.FREE, ignores=("half_to_float",))
def softmax(c: Context, x: Placed, dim: int, op: str) -> Value:
    """Along the last axis, to which ``dim`` is brought if it is not there."""
    dim %= len(x.order)
    order = (*(d for d in x.order if d != dim), dim)
    attrs = {"beta": 1.0} if op == "SOFTMAX" else {}
    return c.emit(op, cast(c, c.builder.arrange(x, order), c.out_type().dtype), order=order, **attrs)
