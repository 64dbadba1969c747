"""Comparisons, logic, and choices by truth values. PyTorch compares quantized tensors by the numbers they stand for."""

from __future__ import annotations

import numpy as np

from ..ir import DType, Value
from .context import Context
from .formula import Operand, cast, part, promoted, result
from .registry import lowers


@lowers("aten::eq.Tensor", "aten::eq.Scalar", op="EQUAL", island=True)
@lowers("aten::ne.Tensor", "aten::ne.Scalar", op="NOT_EQUAL", island=True)
@lowers("aten::gt.Tensor", "aten::gt.Scalar", op="GREATER", island=True)
@lowers("aten::ge.Tensor", "aten::ge.Scalar", op="GREATER_EQUAL", island=True)
@lowers("aten::lt.Tensor", "aten::lt.Scalar", op="LESS", island=True)
@lowers("aten::le.Tensor", "aten::le.Scalar", op="LESS_EQUAL", island=True)
def compare(c: Context, x: Value, other: Operand, op: str) -> Value:
    return result(c, op, *promoted(c, x, other))


@lowers("aten::logical_and", op="LOGICAL_AND")
@lowers("aten::logical_or", op="LOGICAL_OR")
@lowers("aten::logical_xor", op="NOT_EQUAL")
def logical(c: Context, x: Value, other: Value, op: str) -> Value:
    return result(c, op, *promoted(c, x, other, dtype=DType.BOOL))


@lowers("aten::bitwise_and.Tensor", "aten::bitwise_and.Scalar", op="LOGICAL_AND")
@lowers("aten::bitwise_or.Tensor", "aten::bitwise_or.Scalar", op="LOGICAL_OR")
@lowers("aten::bitwise_xor.Tensor", "aten::bitwise_xor.Scalar", op="NOT_EQUAL")
def bitwise(c: Context, x: Value, other: Operand, op: str) -> Value:
    _only_bool(c)
    return result(c, op, *promoted(c, x, other, dtype=DType.BOOL))


@lowers("aten::logical_not")
def logical_not(c: Context, x: Value) -> Value:
    return result(c, "LOGICAL_NOT", cast(c, x, DType.BOOL))


@lowers("aten::bitwise_not")
def bitwise_not(c: Context, x: Value) -> Value:
    _only_bool(c)
    return logical_not(c, x)


def _only_bool(c: Context) -> None:
    c.only(c.out_type().dtype is DType.BOOL, "element type", c.out_type().dtype.value, "bool")


@lowers("aten::isnan")
def isnan(c: Context, x: Value) -> Value:
    return result(c, "NOT_EQUAL", x, x)


@lowers("aten::isinf")
def isinf(c: Context, x: Value) -> Value:
    return result(c, "EQUAL", part(c, "ABS", x), np.inf)


@lowers("aten::isfinite")
def isfinite(c: Context, x: Value) -> Value:
    return result(c, "LESS", part(c, "ABS", x), np.inf)


@lowers("aten::where.self")
def where(c: Context, x: Value, self: Value, other: Value) -> Value:
    return result(c, "SELECT_V2", cast(c, x, DType.BOOL), *promoted(c, self, other, dtype=c.out_type().dtype))


@lowers("aten::masked_fill.Scalar", "aten::masked_fill.Tensor")
def masked_fill(c: Context, x: Value, mask: Value, value: Operand) -> Value:
    if isinstance(value, Value):
        if x.type.quant is None:
            return where(c, mask, value, x)
        c.only(value.data is not None, "value", "a tensor computed from an input", "a number")
        value = float(value.array())
    return result(c, "SELECT_V2", mask, value, x)
