"""Parts of tensors."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from .making import FLOAT, NCHW, WEIGHTED, Call, Case, Seq, eager, floating, ints


def every_other_assigned(x: Tensor) -> Tensor:
    x = x + 1
    x[:, 1::2] = 0
    return x


CASES = [
    Case("slice", lambda: ints(lambda a: a[:, 1:4], (2, 5, 7, 3))),
    Case("slice.whole", lambda: ints(lambda a: torch.ops.aten.slice.Tensor(a, 0, 0, sys.maxsize)[:, 1:4], (2, 5, 7, 3))),
    Case("slice.step", lambda: ints(lambda a: a[:, :, 1::2], (2, 5, 7, 3))),
    Case("slice.step_two_axes", lambda: ints(lambda a: a[:, :, ::2, 1::3], (2, 5, 7, 11))),
    Case("slice.negative", lambda: ints(lambda a: a[:, -3:-1], (2, 5, 7, 3))),
    Case("slice.empty", lambda: floating(lambda a: torch.cat([a, a[:, 2:2]], 1), (2, 5))),
    Case("slice.int8", lambda: ints(lambda a: a[:, :, 1::2], (2, 5, 7, 3), dtype=torch.qint8)),
    Case("slice.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a[:, 1:4, ::2])), NCHW), WEIGHTED),
    Case("select", lambda: ints(lambda a: a[:, 2], (2, 5, 7, 3))),
    Case("select.negative", lambda: ints(lambda a: a[..., -1], (2, 5, 7, 3))),
    Case("chunk", lambda: ints(lambda a: a.chunk(3, 1), (2, 6, 7, 3))),
    Case("chunk.uneven", lambda: ints(lambda a: a.chunk(2, 1), (2, 5, 7, 3))),
    Case("chunk.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 6, 3), Call(lambda a: a.chunk(2, 1)[1])), NCHW), WEIGHTED),
    Case("split", lambda: ints(lambda a: a.split(2, -2), (2, 5, 6, 3))),
    Case("split.uneven", lambda: ints(lambda a: a.split(3, 2), (2, 5, 7, 3))),
    Case("split.sizes", lambda: ints(lambda a: a.split([1, 4, 2], 2), (2, 5, 7, 3))),
    Case("split.with_sizes", lambda: floating(lambda a: torch.ops.aten.split_with_sizes(a, [1, 4, 2], 2), (2, 5, 7, 3))),
    Case("split.by_name", lambda: floating(lambda a: torch.ops.aten.split.sizes(a, [1, 4, 2], 2), (2, 5, 7, 3))),
    Case("float.slice_step", lambda: floating(lambda a: a[:, 1::2, :, -2:], (2, 5, 7, 3))),
    Case("float.split", lambda: floating(lambda a: a.split(2, 1), (2, 6, 7, 3))),
    Case("float.select", lambda: floating(lambda a: a.select(3, 1), (2, 5, 7, 3))),
    Case("unbind", lambda: ints(lambda a: a.unbind(1), (2, 5, 7, 3))),
    Case("unbind.one_read", lambda: ints(lambda a: a.unbind(-1)[1], (2, 5, 7, 3), dtype=torch.qint8)),
    Case("float.unbind_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 4, 3), Call(lambda a: a.unbind(1))), NCHW), FLOAT),
    Case("split.unsafe", lambda: ints(lambda a: torch.unsafe_split(a, 2, 1), (2, 6, 7, 3))),
    Case("split.unsafe_sizes", lambda: floating(lambda a: torch.unsafe_split_with_sizes(a, [1, 4, 2], 2), (2, 5, 7, 3))),
    Case("split.tensor_split", lambda: ints(lambda a: a.tensor_split(3, 1), (2, 5, 7, 3))),
    Case("select_scatter", lambda: floating(lambda a, b: torch.select_scatter(a, b, 1, -2), (2, 5, 7), (2, 7))),
    Case("slice_scatter.step", lambda: floating(lambda a, b: torch.slice_scatter(a, b, 1, 1, 5, 2), (2, 5, 7), (2, 2, 7))),
    Case("assign.step", lambda: floating(every_other_assigned, (2, 6, 7, 3))),
    Case("diagonal", lambda: ints(lambda a: a.diagonal(1, 1, -1), (2, 5, 7, 6))),
    Case("float.diagonal_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 4, 3), Call(lambda a: a.diagonal(-2, 2, 3))), NCHW), FLOAT),
    Case("as_strided", lambda: ints(lambda a: a.as_strided((3, 2, 2), (7, 2, 1), 4), (5, 7))),
    Case("narrow", lambda: ints(lambda a: a.narrow(2, 1, 4), (2, 5, 7, 3))),
]  # fmt: skip
