"""Linear layers: FULLY_CONNECTED over the last dimension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..ir import Array, DType, Quant, Type, Value
from ..quant import Weights, array_of, constant_of
from .context import Context, Placed, plain, reshaped
from .formula import part
from .registry import Order, lowers
from .weighted import Documented, result_type, weight_and_bias

SCALES = ("Y_scale_i", "Y_zero_point_i")


@lowers("quantized::linear", "_quantized::linear", order=Order.PLAIN, ignores=SCALES, act="NONE")
@lowers("quantized::linear_relu", order=Order.PLAIN, ignores=SCALES, act="RELU")
def quantized_linear(c: Context, x: Value, W_prepack: Any, act: str) -> Value:
    return fully_connected(c, x, c.packed(W_prepack), act)


@lowers("sparse::qlinear", order=Order.PLAIN, ignores=SCALES, act="NONE")
@lowers("sparse::qlinear_relu", order=Order.PLAIN, ignores=SCALES, act="RELU")
def sparse_linear(c: Context, x: Value, W_prepack: Any, act: str) -> Value:
    """The zeros are stored."""
    weight, bias, _ = torch.ops.sparse.qlinear_unpack(W_prepack)
    return fully_connected(c, x, Weights.of(weight, bias), act)


@lowers("quantized::linear_leaky_relu", order=Order.PLAIN, ignores=SCALES)
def linear_leaky_relu(c: Context, x: Value, W_prepack: Any, negative_slope: float) -> Value:
    """The larger one of the layer and of the layer with ``negative_slope`` times its weights, both in the steps of the result."""
    c.only(negative_slope > 0, "negative_slope", negative_slope, "more than 0")
    weights = c.packed(W_prepack)

    def leaky(factor: float) -> Callable[[Tensor], Tensor]:
        return lambda real: F.leaky_relu(real / factor, negative_slope)

    flatter = _times(weights, negative_slope)
    larger = "MAXIMUM" if negative_slope <= 1 else "MINIMUM"
    return c.emit(larger, connected(c, x, weights, behind=leaky(1)), connected(c, x, flatter, behind=leaky(negative_slope)))


def _times(weights: Weights, factor: float) -> Weights:
    """The same integers with other scales."""
    w, bias = weights.load(), weights.bias
    if weights.type.quant is not None and weights.type.quant.axis is not None:
        facts = w.q_per_channel_scales() * factor, w.q_per_channel_zero_points(), w.q_per_channel_axis()
        other = torch._make_per_channel_quantized_tensor(w.int_repr(), *facts)
    else:
        other = torch._make_per_tensor_quantized_tensor(w.int_repr(), w.q_scale() * factor, w.q_zero_point())
    return Weights.of(other, None if bias is None else bias * factor)


@lowers("quantized::linear_tanh", order=Order.PLAIN, ignores=SCALES, island=True)
def linear_tanh(c: Context, x: Value, W_prepack: Any) -> Value:
    """In float, as PyTorch computes what comes behind its sums: no integers hold a sum finely enough for a curve."""
    return c.emit("TANH", connected(c, x, c.packed(W_prepack)))


WRAPPED = ("X_scale", "X_zero_point", "W_scale", "W_zero_point", "output_scale", "output_zero_point", "out_channel")


@lowers("_quantized::wrapped_quantized_linear", order=Order.PLAIN, ignores=WRAPPED)
def wrapped_linear(c: Context, x: Value, W: Tensor, B: Tensor) -> Value:
    """Float outside, quantized inside."""

    def quant(name: str) -> tuple[float, int]:
        return float(c.recorded(f"{name}_scale")), int(c.recorded(f"{name}_zero_point"))

    rows = c.emit_as(Type(x.type.shape, DType.UINT8, Quant.per_tensor(*quant("X"))), "QUANTIZE", x)
    weights = Weights.of(torch.quantize_per_tensor(W, *quant("W"), torch.qint8), B)
    made = Type(c.out_shape, DType.UINT8, Quant.per_tensor(*quant("output")))
    return c.emit("DEQUANTIZE", c.emit_as(made, "FULLY_CONNECTED", rows, *weight_and_bias(c, rows, weights, _as_it_is), **_options(x)))


@lowers("aten::linear", order=Order.FREE)
def float_linear(c: Context, x: Placed, weight: Tensor, bias: Tensor | None) -> Value:
    """Over the last dimension, whatever order the others are in. A weight of one dimension is one output, without a dimension."""
    rank = len(x.order)
    if weight.dim() > 1 and weight.dtype is torch.float32 and x.order[-1] == rank - 1 and x.order != plain(rank):
        return c.as_result(connected(c, x.value, Weights.of(weight, bias)), x.order)
    weight, bias = (weight[None], None if bias is None else bias.reshape(1)) if weight.dim() == 1 else (weight, bias)
    return fully_connected(c, c.builder.arrange(x, plain(rank)), Weights.of(weight, bias), "NONE")


def fully_connected(c: Context, x: Value, weights: Weights, act: str) -> Value:
    """The call's result: a linear layer in float, in integers, or on float ``x`` with integer weights."""
    made = connected(c, x, weights, act)
    if made.type.shape == c.out_shape:
        return c.as_result(made)
    return c.emit("RESHAPE", made, c.const(list(c.out_shape), "shape"), new_shape=list(c.out_shape))


def connected(c: Context, x: Value, weights: Weights, act: str = "NONE", behind: Callable[[Tensor], Tensor] | None = None) -> Value:
    """``x`` through a linear layer, not yet the call's result; ``behind``: what PyTorch documents to follow."""

    def documented(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        real = F.linear(rows, weight, bias)
        real = real.relu() if act == "RELU" else real
        return real if behind is None else behind(real)

    rows = x if x.type.rank > 1 else reshaped(c, x, (1, x.type.size))  # the operator has no form for a vector
    if weights.type.shape[-1] != rows.type.shape[-1]:
        weight, bias = _in_groups(c, weights, rows.type.shape[-1])
    else:
        weight, bias = weight_and_bias(c, rows, weights, _as_it_is, Documented(documented))
    type_ = result_type(c, x, (*rows.type.shape[:-1], weight.type.shape[0]))
    return c.emit_as(type_, "FULLY_CONNECTED", rows, weight, bias, **_options(rows, act))


def _in_groups(c: Context, weights: Weights, depth: int) -> tuple[Value, Value]:
    """A float weight of rows of ``depth``, computed of integers: each group that has a scale is a row of ``weights``."""
    quant, units = weights.type.quant, weights.type.size // depth
    assert quant is not None
    unscaled = replace(weights.type, quant=Quant.per_tensor(1, 0))
    integers = Value(unscaled, c.builder.name(f"{c.stem}.weight"), data=constant_of(weights.load))
    real = part(c, "DEQUANTIZE", integers, dtype=DType.FLOAT32)
    if quant.zero_point.any():
        real = part(c, "SUB", real, c.const(quant.zero_point.astype(np.float32)[:, None], "zero_points"))
    real = part(c, "MUL", real, c.const(quant.scale[:, None], "scales"))
    bias = np.zeros(units, np.float32) if weights.bias is None else array_of(weights.bias)
    return reshaped(c, real, (units, depth)), c.const(bias, f"{c.stem}.bias")


def _as_it_is(weight: Array) -> Array:
    return weight


def _options(x: Value, act: str = "NONE") -> dict[str, Any]:
    return {"fused_activation_function": act, "keep_num_dims": x.type.rank > 2}
