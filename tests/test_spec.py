"""The keys of the capability tables, and the tables themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from torch2circle.format.facts import CIRCLE_ONLY
from torch2circle.ir import Constant, DType, Node, Quant, Type, Value
from torch2circle.spec import OPS, scheme, version
from torch2circle.targets import TARGETS
from torch2circle.targets.base import RIGHT, measured

F32, I8, U8, I32, I64, BOOL = DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT32, DType.INT64, DType.BOOL
FINE, COARSE = Quant.per_tensor(0.1, 3), Quant.per_tensor(0.2, 3)


def value(dtype: DType, *shape: int, quant: Quant | None = FINE, data: Any = None) -> Value:
    type_ = Type(shape, dtype, quant if dtype in (I8, U8) else None)
    return Value(type_, data=None if data is None else Constant.of(np.array(data, dtype.numpy)))


def node(op: str, *inputs: Value | None, out: Value, **attrs: Any) -> Node:
    return Node.make(op, inputs, [out], attrs)


def weight(dtype: DType, *shape: int, channels: bool = True, zero: int = 0, data: Any = 0) -> Value:
    count = shape[0] if channels else 1
    quant = Quant(np.ones(count, np.float32), np.full(count, zero + (128 if dtype is U8 else 0)), 0 if channels else None)
    return value(dtype, *shape, quant=quant, data=data)


IMAGE, IMAGES, MADE = value(F32, 1, 5, 6, 4), value(F32, 3, 5, 6, 4), value(F32, 7, 1, 1, 4)
AXES, OTHERS = value(I32, 2, data=[1, -2]), value(I32, 2, data=[2, 3])
SCHEMES = [
    (node("ADD", IMAGE, IMAGE, out=IMAGE), "f32", 1),
    (node("CONV_2D", IMAGE, MADE, None, out=IMAGE), "f32+computed", 1),
    (node("CONV_2D", IMAGE, weight(I8, 7, 1, 1, 4), None, out=IMAGE), "f32/i8pc", 5),
    (node("CONV_2D", IMAGES, weight(I8, 7, 1, 1, 4), None, out=IMAGES), "f32/i8pc+batch", 5),
    (node("CONV_2D", IMAGES, weight(I8, 7, 1, 1, 2, channels=False), None, out=IMAGES), "f32/i8pt+grouped+batch", 2),
    (node("FULLY_CONNECTED", value(F32, 9, 4), weight(I8, 7, 4), None, out=value(F32, 9, 7)), "f32/i8pc", 12),
    (node("CONV_2D", value(I8, 1, 5, 6, 4), weight(I8, 7, 1, 1, 4, zero=2), None, out=value(I8, 1, 5, 6, 7)), "i8/i8pc+affine", 3),
    (node("TRANSPOSE_CONV", AXES, weight(I8, 7, 1, 1, 4), value(I8, 1, 5, 6, 4), None, out=value(I8, 1, 5, 6, 7)), "i8/i8pc", 3),
    (node("BATCH_MATMUL", value(U8, 4, 5), value(U8, 5, 6, quant=Quant.per_tensor(1, 128)), out=value(U8, 4, 6)), "u8/u8pt+computed", 1),
    (node("DEQUANTIZE", weight(I8, 7, 4), out=value(F32, 7, 4)), "i8->f32+pc", 5),
    (node("GATHER", value(U8, 5), value(I64, 3), out=value(U8, 3), axis=0), "u8+i64", 1),
    (node("GATHER", value(U8, 5), value(I32, 3), out=value(U8, 3, quant=COARSE), axis=0), "u8+requant", 1),
    (node("SPLIT", value(I32, data=0), value(I8, 4), out=value(I8, 2), num_splits=2), "i8", 2),
    (node("SELECT_V2", value(BOOL, 4), value(I8, 4), value(I8, 4, quant=COARSE), out=value(I8, 4)), "i8+requant", 1),
    (node("GREATER", value(I8, 4), value(I8, 4), out=value(BOOL, 4)), "i8->bool", 2),
    (node("GREATER", value(U8, 4), value(U8, 4, quant=COARSE), out=value(BOOL, 4)), "u8->bool+requant", 1),
    (node("LOGISTIC", value(I8, 4), out=value(I8, 4)), "i8+rescaled", 2),
    (node("RESIZE_BILINEAR", IMAGE, AXES, out=IMAGE, half_pixel_centers=True), "f32+half_pixel", 3),
    (node("REVERSE_V2", IMAGE, AXES, out=IMAGE), "f32+axes", 1),
    (node("BROADCAST_TO", value(I8, 1), AXES, out=value(I8, 4, 5)), "i8", 3),
    (node("SUM", IMAGE, AXES, out=value(F32, 1, 4), keep_dims=False), "f32", 1),
    (node("SUM", IMAGE, OTHERS, out=value(F32, 1, 5), keep_dims=False), "f32+dropped", 1),
    (node("SUM", IMAGE, OTHERS, out=value(F32, 1, 5, 1, 1), keep_dims=True), "f32", 1),
]


@pytest.mark.parametrize(("made", "key", "number"), SCHEMES, ids=[f"{made.op}-{key}" for made, key, _ in SCHEMES])
def test_what_a_runtime_may_treat_differently_has_a_key(made: Node, key: str, number: int) -> None:
    assert (scheme(made), version(made)) == (key, number)


@pytest.mark.parametrize("runtime", ["onert", "litert"])
def test_every_operator_was_measured(runtime: str) -> None:
    table = measured(runtime)
    others = {op for op in OPS if runtime == "litert" and f"BuiltinOperator.{op}" in CIRCLE_ONLY}
    assert table.keys() ^ OPS.keys() == others | {"CUSTOM"}  # whose kernel is the application's
    assert {verdict for cells in table.values() for verdict in cells.values()} == {*RIGHT, "wrong", "refused", "crash"}


def test_more_dimensions_than_a_kernel_has() -> None:
    """onert's SLICE gives wrong numbers beyond four dimensions, its files have no more than six."""

    def sliced(rank: int) -> Node:
        x = value(F32, *range(2, 2 + rank))
        begins = value(I32, rank, data=[0] * rank)
        return node("SLICE", x, begins, replace(begins), out=x)

    verdicts = [TARGETS["onert"].verdict(sliced(rank)) for rank in (4, 5, 6, 7)]
    assert verdicts == ["exact", "wrong", "wrong", "more than 6 dimensions"]
    assert TARGETS["litert"].verdict(sliced(5)) == "exact"
