"""What several rules need."""

from __future__ import annotations

from ...ir import DType, Type, Value

EIGHT_BIT = (DType.INT8, DType.UINT8)


def float_type(type_: Type) -> Type:
    return Type(type_.shape, DType.FLOAT32)


def present(value: Value | None) -> Value:
    assert value is not None
    return value
