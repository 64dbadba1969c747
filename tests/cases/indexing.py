"""Elements by their positions, and what is written at positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import FLOAT, NCHW, Call, Case, Made, OnIntegers, Seq, floating, inputs, ints

SHAPE = (4, 5, 6)
INT8 = torch.qint8
PLACES = torch.from_numpy(np.random.default_rng(8).integers(0, 5, (4, 3, 6)))
COLUMNS = torch.tensor([[1, -1], [0, 4]])
ONCE = torch.from_numpy(np.random.default_rng(9).permuted(np.tile(np.arange(5)[:, None], (4, 1, 6)), axis=1)[:, :3])
MASK = torch.from_numpy(np.random.default_rng(10).random(SHAPE) > 0.5)


def given(function: Callable[..., Any], *more: Tensor, shapes: tuple[tuple[int, ...], ...] = (SHAPE,)) -> Made:
    return Call(function).eval(), (*inputs(shapes), *more)


def quantized(function: Callable[..., Any], *more: Tensor, dtype: torch.dtype = torch.quint8) -> Made:
    """Only the first operand is quantized."""
    return OnIntegers(lambda x, *rest: function(x, *(more or rest)), dtype).eval(), inputs([SHAPE])


def written(index: Any) -> Callable[..., Tensor]:
    def write(x: Tensor, value: Any) -> Tensor:
        x = x.clone()
        x[index] = value
        return x

    return write


CASES = [
    Case("index.list", lambda: ints(lambda x: x[:, [0, 2, -1]], SHAPE)),
    Case("index.int8", lambda: ints(lambda x: x[:, [0, 2, -1]], SHAPE, dtype=INT8)),
    Case("index.matrix", lambda: ints(lambda x: x[:, COLUMNS], SHAPE)),
    Case("index.neighbours", lambda: ints(lambda x: x[:, [0, 2], [1, -1]], SHAPE)),
    Case("index.apart", lambda: ints(lambda x: x[[0, 2], :, [1, -1]], SHAPE)),
    Case("index.apart_int8", lambda: ints(lambda x: x[[0, 2], :, [1, -1]], SHAPE, dtype=INT8)),
    Case("index.mask", lambda: ints(lambda x: x[:, torch.eye(5, 6, dtype=torch.bool)], SHAPE)),
    Case("index.behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda x: x[:, [4, 0]])), NCHW), FLOAT),
    Case("index_select", lambda: ints(lambda x: x.index_select(-1, torch.tensor([3, 1])), SHAPE)),
    Case("index_select.int8", lambda: ints(lambda x: x.index_select(1, torch.tensor([3, 1, 3])), SHAPE, dtype=INT8)),
    Case("float.index_computed", lambda: given(lambda x, i: x[:, i], COLUMNS)),
    Case("float.index_computed_int32", lambda: given(lambda x, i: x[i], torch.tensor([1, -1], dtype=torch.int32))),
    Case("float.index_computed_pair", lambda: given(lambda x, i, j: x[i, j], torch.tensor([[1], [-2]]), torch.tensor([0, 4, 3]))),
    Case("float.index_last", lambda: given(lambda x, i: x[torch.arange(4), i], torch.tensor([1, 2, -3, 0]))),
    Case("float.index_one_row", lambda: given(lambda x, i: x[torch.zeros(3, dtype=torch.int64), i], torch.tensor([2]))),
    Case("float.index_apart_computed", lambda: given(lambda x, i: x[[0, 2], :, i], torch.tensor([1, -1]))),
    Case("float.index_select_computed", lambda: given(
        lambda x, i: x.permute(2, 0, 1).index_select(1, i), torch.tensor([3, 1]))),
    Case("int64.index", lambda: (Call(lambda x: x[:, [0, 2]]).eval(), (torch.arange(20).view(4, 5),)), refused={"onert": "GATHER (i64"}),
    Case("int32.index", lambda: (Call(lambda x: x[:, [0, 2]]).eval(), (torch.arange(20, dtype=torch.int32).view(4, 5),))),
    Case("float.gather", lambda: given(lambda x, i: x.gather(1, i), PLACES)),
    Case("float.gather_last", lambda: given(lambda x, i: x.gather(-1, i), PLACES[:, :, :2])),
    Case("float.gather_int32", lambda: given(lambda x, i: x.gather(0, i), (PLACES % 4)[:2].int())),
    Case("float.gather_constant", lambda: given(lambda x: x.gather(1, PLACES))),
    Case("float.take", lambda: given(lambda x: x.take(torch.tensor([[1, -2, 7]])))),
    Case("float.take_along_dim", lambda: given(lambda x, i: torch.take_along_dim(x, i, 1), PLACES[:1])),
    Case("write.rows", lambda: given(written([1, -1]), shapes=(SHAPE, (2, 5, 6)))),
    Case("write.rows_broadcast", lambda: given(written((slice(None), [1, -1])), shapes=(SHAPE, (2, 1)))),
    Case("write.apart", lambda: given(written(([1, 2], slice(None), [3, 4])), shapes=(SHAPE, (2, 5)))),
    Case("write.number", lambda: floating(lambda x: written((slice(None), [0, 2]))(x, 1.5), SHAPE)),
    Case("write.fixed_mask", lambda: given(written(torch.tensor([True, False, True, False])), shapes=(SHAPE, (2, 5, 6)))),
    Case("write.computed_mask", lambda: floating(lambda x: written(x > 0)(x, -1.0), SHAPE)),
    Case("write.computed_row_mask", lambda: floating(lambda x: written(x[:, 0, 0] > 0)(x, -1.0), SHAPE)),
    Case("write.added", lambda: given(
        lambda x, v: x.index_put([torch.tensor([1, 1, 2])], v, accumulate=True), shapes=(SHAPE, (3, 5, 6))), FLOAT),
    Case("write.quantized", lambda: quantized(lambda x: torch.index_put(x, [torch.tensor([1, 2])], torch.full((5, 6), 1.3)))),
    Case("write.quantized_int8", lambda: quantized(
        lambda x: torch.index_put(x, [torch.tensor([1, 2])], torch.full((5, 6), 1.3)), dtype=INT8)),
    Case("write.quantized_mask", lambda: quantized(lambda x: torch.index_put(x, [x.dequantize() > 0], torch.tensor(1.3)))),
    Case("write.quantized_computed", lambda: quantized(lambda x: torch.index_put(x, [torch.tensor([1, 2])], x.dequantize()[0] * 2))),
    Case("float.index_add", lambda: given(lambda x, v: x.index_add(1, torch.tensor([1, 2]), v), shapes=(SHAPE, (4, 2, 6))), FLOAT),
    Case("float.index_copy", lambda: given(lambda x, v: x.index_copy(1, torch.tensor([1, 2]), v), shapes=(SHAPE, (4, 2, 6)))),
    Case("float.index_fill", lambda: given(lambda x: x.index_fill(1, torch.tensor([1, 2]), 2.0))),
    Case("float.scatter", lambda: given(lambda x, v: x.scatter(1, ONCE, v), shapes=(SHAPE, (4, 3, 6)))),
    Case("float.scatter_number", lambda: given(lambda x, i: x.scatter(1, i, 2.0), PLACES)),
    Case("float.scatter_one_hot", lambda: (Call(lambda i: torch.zeros(4, 7).scatter(1, i, 1.0)).eval(), (PLACES[:, :1, 0],))),
    Case("int64.scatter_one_hot", lambda: (
        Call(lambda i: torch.zeros(4, 7, dtype=torch.int64).scatter_(1, i, 1)).eval(), (PLACES[:, :1, 0],))),
    Case("float.scatter_add", lambda: given(lambda x, v, i: x.scatter_add(1, i, v), PLACES, shapes=(SHAPE, (4, 3, 6))), FLOAT),
    Case("float.scatter_add_constant", lambda: given(lambda x, v: x.scatter_add(1, PLACES, v), shapes=(SHAPE, (4, 3, 6))), FLOAT),
    Case("one_hot", lambda: (Call(lambda i: F.one_hot(i, 6)).eval(), (PLACES,))),
    Case("float.masked_fill", lambda: given(lambda x, m: x.masked_fill(m, -1e9), MASK)),
    Case("float.masked_fill_infinite", lambda: given(lambda x, m: x.masked_fill(m, -torch.inf), MASK)),
    Case("float.where_broadcast", lambda: given(lambda x, y, m: torch.where(m, x, y), MASK, shapes=(SHAPE, (6,)))),
    Case("float.tril", lambda: floating(lambda x: x.tril(-1), SHAPE)),
    Case("float.triu", lambda: floating(lambda x: x.triu(1), SHAPE)),
    Case("float.cumsum", lambda: floating(lambda x: x.cumsum(1), SHAPE), FLOAT),
    Case("float.cumsum_long", lambda: floating(lambda x: x.cumsum(-1), (3, 37)), FLOAT),
    Case("float.cumsum_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda x: x.cumsum(1))), NCHW), FLOAT),
    Case("int64.cumsum", lambda: (Call(lambda x: x.cumsum(1)).eval(), (PLACES,))),
    Case("int32.cumsum", lambda: (Call(lambda x: x.cumsum(0)).eval(), (PLACES.int(),))),
    Case("bool.cumsum", lambda: (Call(lambda x: x.cumsum(2)).eval(), (MASK,))),
    Case("repeat_interleave.each", lambda: ints(lambda x: x.repeat_interleave(torch.tensor([1, 2, 0, 3]), 0), SHAPE)),
]  # fmt: skip
