"""Linear layers: FULLY_CONNECTED over the last dimension."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..ir import Value
from ..quant import Weights
from .context import Context, reshaped
from .registry import Order, lowers
from .weighted import Documented, weight_and_bias


@lowers("quantized::linear", order=Order.PLAIN, ignores=("Y_scale_i", "Y_zero_point_i"), act="NONE")
@lowers("quantized::linear_relu", order=Order.PLAIN, ignores=("Y_scale_i", "Y_zero_point_i"), act="RELU")
def quantized_linear(c: Context, x: Value, W_prepack: Any, act: str) -> Value:
    return fully_connected(c, x, Weights.packed(W_prepack, c.where), act)


@lowers("aten::linear", order=Order.PLAIN)
def float_linear(c: Context, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    return fully_connected(c, x, Weights.of(weight, bias), "NONE")


def fully_connected(c: Context, x: Value, weights: Weights, act: str) -> Value:
    def documented(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        real = torch.nn.functional.linear(rows, weight, bias)
        return real.relu() if act == "RELU" else real

    rows = x if x.type.rank > 1 else reshaped(c, x, (1, x.type.size))  # the operator has no form for a vector
    weight, bias = weight_and_bias(c, rows, weights, lambda w: w, Documented(documented))
    attrs: dict[str, Any] = {"fused_activation_function": act, "keep_num_dims": rows.type.rank > 2}
    if rows is x:
        return c.emit("FULLY_CONNECTED", x, weight, bias, **attrs)
    made = c.emit_as(c.out_type().reshape((1, *c.out_shape)), "FULLY_CONNECTED", rows, weight, bias, **attrs)
    return c.emit("RESHAPE", made, c.const(list(c.out_shape), "shape"), new_shape=list(c.out_shape))
