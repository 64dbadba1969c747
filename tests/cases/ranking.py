"""Sorting."""

from __future__ import annotations

import torch
from torch import nn

from .making import FLOAT, NCHW, Call, Case, Seq, floating, ints

CASES = [
    Case("sort", lambda: ints(lambda a: a.sort(1), (2, 13, 3))),
    Case("sort.descending", lambda: ints(lambda a: a.sort(-1, descending=True), (5, 17))),
    Case("sort.int8", lambda: ints(lambda a: a.sort(-1), (5, 17), dtype=torch.qint8)),
    Case("sort.of_equal_ones", lambda: ints(lambda a: torch.relu(a).sort(dim=-1, stable=True), (5, 31))),
    Case("argsort", lambda: ints(lambda a: a.argsort(0), (13, 5))),
    Case("topk", lambda: ints(lambda a: a.topk(3), (5, 17))),
    Case("topk.smallest", lambda: ints(lambda a: a.topk(4, 1, largest=False), (2, 11, 3), dtype=torch.qint8)),
    Case("topk.places", lambda: ints(lambda a: a.topk(2, 0)[1], (13, 5))),
    Case("float.sort", lambda: floating(lambda a: a.sort(1), (2, 13, 3))),
    Case("float.sort_descending", lambda: floating(lambda a: a.sort(-1, descending=True), (5, 17))),
    Case("float.msort", lambda: floating(torch.msort, (13, 5))),
    Case("float.argsort", lambda: floating(lambda a: a.argsort(dim=-1, stable=True), (5, 17))),
    Case("float.topk", lambda: floating(lambda a: a.topk(3), (5, 17))),
    Case("float.topk_values", lambda: floating(lambda a: a.topk(3, sorted=False)[0].sum(-1), (5, 17))),
    Case("float.topk_smallest", lambda: floating(lambda a: a.topk(3, largest=False), (5, 17))),
    Case("float.topk_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 7, 3), Call(lambda a: a.topk(2, 1)[1])), NCHW), FLOAT),
    Case("float.topk_of_a_line", lambda: floating(lambda a: a.topk(5), (40,))),
]  # fmt: skip
