"""Batch normalization with its running statistics: one product and one sum a channel."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..ir import Value
from ..quant import array_of
from .context import Context
from .registry import lowers


@lowers("aten::batch_norm", ignores=("momentum",))
def batch_norm(
    c: Context, x: Value, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor, running_var: Tensor, training: bool, eps: float
) -> Value:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, its two constants computed in float64."""
    c.only(not training and running_mean is not None, "training", training, "False")
    mean, var = array_of(running_mean).astype(np.float64), array_of(running_var).astype(np.float64)
    factor = (1 if weight is None else array_of(weight)) / np.sqrt(var + eps)
    offset = (0 if bias is None else array_of(bias)) - mean * factor
    shape = [1] * x.type.rank
    shape[c.axis(1)] = -1
    product = c.emit_as(x.type, "MUL", x, c.const(factor.astype(np.float32).reshape(shape), "factor"), fused_activation_function="NONE")
    return c.emit("ADD", product, c.const(offset.astype(np.float32).reshape(shape), "offset"), fused_activation_function="NONE")
