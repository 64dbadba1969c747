"""Operators as formulas of others: numbers, element types, and operators on the way to the result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..arithmetic import quantized
from ..ir import Array, DType, Type, Value
from ..quant import array_of, type_of
from ..spec import OPS
from .context import Context, reshaped

Operand = Value | float

WITH_ACTIVATION = ("ADD", "SUB", "MUL", "DIV", "CONCATENATION")


def part(c: Context, op: str, *operands: Operand, dtype: DType | None = None, **attrs: Any) -> Value:
    """An operator on the way to the result, of the type of its data operand or of ``dtype``; a Python number becomes a constant."""
    values = _constants(c, op, operands)
    shape = np.broadcast_shapes(*(v.type.shape for v in values))
    type_ = replace(values[OPS[op].data].type, shape=shape) if dtype is None else Type(shape, dtype)
    return c.emit_as(type_, op, *values, **_complete(op, attrs))


def result(c: Context, op: str, *operands: Operand, **attrs: Any) -> Value:
    """The operator that gives PyTorch's result; a float one is quantized behind it where PyTorch's is quantized."""
    values = _constants(c, op, operands)
    if c.out_type().quant is not None and values[OPS[op].data].type.quant is None:
        return c.emit("QUANTIZE", part(c, op, *values, **attrs))
    return c.emit(op, *values, **_complete(op, attrs))


def real(c: Context, x: Value) -> Value:
    """``x`` in float32 if it is quantized."""
    return x if x.type.quant is None else c.emit_as(Type(x.type.shape, DType.FLOAT32), "DEQUANTIZE", x)


def scaled(c: Context, x: Value, factor: float) -> Value:
    """``factor * x``"""
    return x if factor == 1 else part(c, "MUL", x, factor)


def cast(c: Context, x: Value, dtype: DType) -> Value:
    """``x`` as ``dtype``; a constant when it is written, anything else by a CAST."""
    type_ = Type(x.type.shape, dtype)
    if x.type.dtype is dtype:
        return x
    if x.data is not None:
        return replace(x, type=type_, data=x.data.map(lambda array: array.astype(dtype.numpy)))
    return c.emit_as(type_, "CAST", x, in_data_type=x.type.dtype.name, out_data_type=dtype.name)


def spread(c: Context, value: Value, shape: tuple[int, ...]) -> Value:
    """``value`` broadcast to ``shape``."""
    if value.type.shape == shape:
        return value
    if value.data is not None:
        return replace(value, type=value.type.reshape(shape), data=value.data.map(lambda array: np.broadcast_to(array, shape).copy()))
    value = reshaped(c, value, (*(1,) * (len(shape) - value.type.rank), *value.type.shape))
    if value.type.shape == shape:
        return value
    return c.emit_as(value.type.reshape(shape), "BROADCAST_TO", value, c.const(list(shape), "shape"))


def promoted(c: Context, *operands: Operand, dtype: DType | None = None) -> list[Value]:
    """The operands as tensors of one element type: ``dtype``, or that to which PyTorch promotes the two."""
    dtype = dtype or common_type(c, *operands)
    return [cast(c, v, dtype) if isinstance(v, Value) else c.const(np.array(v, dtype.numpy)) for v in operands]


def common_type(c: Context, x: Operand, other: Operand) -> DType:
    """The element type to which PyTorch promotes two operands: a number counts only if its kind is higher than the tensor's."""
    dtype = torch.result_type(_alike(x), _alike(other))
    return type_of(torch.empty(0, dtype=dtype), c.where).dtype


def _alike(x: Operand) -> torch.Tensor | float:
    return torch.empty((1,) * x.type.rank, dtype=getattr(torch, x.type.dtype.value)) if isinstance(x, Value) else x


def number(c: Context, value: float, like: Type) -> Value:
    """A Python number as a constant for use with a tensor of type ``like``: in its integers if it is quantized."""
    if like.quant is None:
        return c.const(np.array(value, like.dtype.numpy))
    return c.const(np.asarray(quantized(np.array(value), like)), quant=like.quant)


def documented(c: Context, integers: Array, defect: str) -> None:
    """Hold the file to what PyTorch documents, where its kernel has the ``defect``."""
    if off := np.abs(integers.astype(np.int64) - array_of(c.outs[0])).max(initial=0):
        c.builder.corrected[c.call.outs[0]] = integers
    if off > 1:
        c.note("warning", "kernel-deviates", f"PyTorch's own kernel {defect} and is up to {off} LSB off; the file is not")


def _constants(c: Context, op: str, operands: tuple[Operand, ...]) -> list[Value]:
    like = next(v.type for v in operands[OPS[op].data :] if isinstance(v, Value))
    return [v if isinstance(v, Value) else number(c, v, like) for v in operands]


def _complete(op: str, attrs: dict[str, Any]) -> dict[str, Any]:
    return {"fused_activation_function": "NONE", **attrs} if op in WITH_ACTIVATION else attrs
