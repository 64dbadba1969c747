"""Into integers and back, and between other element types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir import Quant, Type, Value
from .context import Context
from .registry import lowers


@lowers("aten::quantize_per_tensor", "aten::quantize_per_tensor.tensor_qparams")
def quantize(c: Context, x: Value) -> Value:
    return c.emit("QUANTIZE", x)


@lowers("aten::dequantize.self")
def dequantize(c: Context, x: Value) -> Value:
    emit = c.builder.dequantize.get(c.call.args["self"].index)
    return emit(c) if emit else c.emit("DEQUANTIZE", x)


WHOLE = ("quantized_decomposed::quantize_per_tensor", "quantized_decomposed::quantize_per_tensor.tensor")
BACK = ("quantized_decomposed::dequantize_per_tensor", "quantized_decomposed::dequantize_per_tensor.tensor")


@lowers(*WHOLE)
def quantize_wide(c: Context, x: Value, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Value:
    """int16, which no quantized tensor of PyTorch has: the call alone knows the scale."""
    c.only(int(zero_point) == 0, "zero_point of int16", int(zero_point), "0, as the kernels have it")
    info = np.iinfo(np.int16)
    c.only(info.min <= quant_min <= info.min + 1 and quant_max == info.max, "range of int16", (quant_min, quant_max), "all of it")
    quant = c.builder.quants[c.call.outs[0]] = Quant.per_tensor(float(scale), 0)
    if quant_min == info.min:
        return c.emit("QUANTIZE", x)
    lowest = c.const(np.array(quant_min, np.int16), "lowest", quant)
    return c.emit("MAXIMUM", c.emit_as(Type(x.type.shape, c.out_type().dtype, quant), "QUANTIZE", x), lowest)


@lowers(*BACK, ignores=("quant_min", "quant_max", "out_dtype"))
def dequantize_wide(c: Context, x: Value, scale: Any) -> Value:
    c.only(x.type.quant == Quant.per_tensor(float(scale), 0), "scale", float(scale), "the one that the integers were made with")
    return c.emit("DEQUANTIZE", x)


@lowers("aten::quantize_per_tensor.tensors", op="QUANTIZE", ignores=("scales", "zero_points"))
@lowers("aten::dequantize.tensors", op="DEQUANTIZE")
def each(c: Context, x: Sequence[Value], op: str) -> Sequence[Value]:
    return [c.emit_result(i, op, one) for i, one in enumerate(x)]


@lowers("aten::to.dtype", "aten::_to_copy")
def to(c: Context, x: Value) -> Value:
    before, after = x.type.dtype, c.out_type().dtype
    return x if before is after else c.emit("CAST", x, in_data_type=before.name, out_data_type=after.name)
