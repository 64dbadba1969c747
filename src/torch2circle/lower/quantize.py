"""Into integers and back."""

from __future__ import annotations

from ..ir import Value
from .context import Context
from .registry import lowers


@lowers("aten::quantize_per_tensor", "aten::quantize_per_tensor.tensor_qparams")
def quantize(c: Context, x: Value) -> Value:
    return c.emit("QUANTIZE", x)


@lowers("aten::dequantize.self")
def dequantize(c: Context, x: Value) -> Value:
    return c.emit("DEQUANTIZE", x)
