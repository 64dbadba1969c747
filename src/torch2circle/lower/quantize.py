"""Into integers and back, and between other element types."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import Value
from .context import Context
from .registry import lowers


@lowers("aten::quantize_per_tensor", "aten::quantize_per_tensor.tensor_qparams")
def quantize(c: Context, x: Value) -> Value:
    return c.emit("QUANTIZE", x)


@lowers("aten::dequantize.self")
def dequantize(c: Context, x: Value) -> Value:
    emit = c.builder.dequantize.get(c.call.args["self"].index)
    return emit(c) if emit else c.emit("DEQUANTIZE", x)


@lowers("aten::quantize_per_tensor.tensors", op="QUANTIZE", ignores=("scales", "zero_points"))
@lowers("aten::dequantize.tensors", op="DEQUANTIZE")
def each(c: Context, x: Sequence[Value], op: str) -> Sequence[Value]:
    return [c.emit_result(i, op, one) for i, one in enumerate(x)]


@lowers("aten::to.dtype", "aten::_to_copy")
def to(c: Context, x: Value) -> Value:
    before, after = x.type.dtype, c.out_type().dtype
    return x if before is after else c.emit("CAST", x, in_data_type=before.name, out_data_type=after.name)
