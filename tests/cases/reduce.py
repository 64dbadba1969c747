"""Pools and means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .making import AVERAGE, FLOAT, NCHW, WEIGHTED, Call, Case, Q, Seq, eager, floating, ints

CASES = [
    Case("max_pool", lambda: ints(lambda a: F.max_pool2d(a, (2, 3)), (2, 5, 8, 9))),
    Case("max_pool.padding", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, 1), (2, 5, 8, 11))),
    Case("max_pool.padding_odd", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, 1), (2, 5, 7, 9))),
    Case("max_pool.ceil", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, ceil_mode=True), (2, 5, 8, 10))),
    Case("max_pool.int8", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, 1), (2, 5, 8, 11), dtype=torch.qint8)),
    Case("max_pool.by_name", lambda: ints(lambda a: Q.max_pool2d(a, [2, 3], [2, 2], [1, 1], [1, 1], False), (2, 5, 8, 9))),
    Case("max_pool.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.MaxPool2d(3, 2, 1)), NCHW), WEIGHTED),
    Case("avg_pool", lambda: ints(lambda a: F.avg_pool2d(a, (2, 3)), (2, 5, 8, 9)), AVERAGE),
    Case("avg_pool.padding", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, 1), (2, 5, 8, 11))),
    Case("avg_pool.padding_not_counted", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, 1, count_include_pad=False), (2, 5, 8, 11)), AVERAGE),
    Case("avg_pool.ceil", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, ceil_mode=True), (2, 5, 8, 10)), AVERAGE),
    Case("avg_pool.divisor", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, divisor_override=5), (2, 5, 7, 9))),
    Case("avg_pool.int8", lambda: ints(lambda a: F.avg_pool2d(a, (2, 3)), (2, 5, 8, 9), dtype=torch.qint8), AVERAGE),
    Case("avg_pool.qnnpack", lambda: ints(lambda a: F.avg_pool2d(a, (2, 3)), (2, 5, 8, 9), engine="qnnpack"), AVERAGE),
    Case("adaptive.to_one", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, 1), (3, 37, 7, 9))),
    Case("adaptive.divisible", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, (2, 3)), (2, 5, 8, 9)), AVERAGE),
    Case("adaptive.irregular", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, (3, 4)), (2, 5, 7, 9))),
    Case("adaptive.identity", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, (7, 9)), (2, 5, 7, 9))),
    Case("adaptive.to_one_int8", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, 1), (3, 37, 7, 9), dtype=torch.qint8)),
    Case("adaptive._aten", lambda: ints(lambda a: torch.ops.aten._adaptive_avg_pool2d(a, [2, 3]), (2, 5, 8, 9)), AVERAGE),
    Case("mean", lambda: ints(lambda a: a.mean([2, 3]), (3, 37, 7, 9))),
    Case("mean.keepdim", lambda: ints(lambda a: a.mean([2, 3], keepdim=True), (3, 37, 7, 9))),
    Case("mean.int8", lambda: ints(lambda a: a.mean([2, 3]), (3, 37, 7, 9), dtype=torch.qint8)),
    Case("mean.last", lambda: ints(lambda a: a.mean(-1), (13, 17, 9))),
    Case("float.max_pool", lambda: floating(nn.MaxPool2d(3, 2, 1), (2, 5, 8, 11))),
    Case("float.max_pool_ceil", lambda: floating(nn.MaxPool2d((3, 2), ceil_mode=True), (2, 5, 8, 11))),
    Case("float.avg_pool", lambda: floating(nn.AvgPool2d((2, 3)), (2, 5, 8, 9)), FLOAT),
    Case("float.avg_pool_padding", lambda: floating(nn.AvgPool2d(3, 2, 1), (2, 5, 8, 11)), FLOAT),
    Case("float.avg_pool_not_counted", lambda: floating(nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 5, 8, 11)), FLOAT),
    Case("float.avg_pool_ceil", lambda: floating(nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 5, 8, 10)), FLOAT),
    Case("float.avg_pool_divisor", lambda: floating(nn.AvgPool2d(3, 2, divisor_override=5), (2, 5, 7, 9)), FLOAT),
    Case("float.adaptive_to_one", lambda: floating(nn.AdaptiveAvgPool2d(1), (2, 5, 7, 9)), FLOAT),
    Case("float.adaptive_irregular", lambda: floating(nn.AdaptiveAvgPool2d((3, 4)), (2, 5, 7, 9)), FLOAT),
    Case("float.mean", lambda: floating(lambda a: a.mean((1, 3)), (2, 5, 7, 3)), FLOAT),
    Case("float.mean_keepdim", lambda: floating(lambda a: a.mean((-1, 1), keepdim=True), (2, 5, 7, 3)), FLOAT),
    Case("float.mean_all", lambda: floating(lambda a: torch.ops.aten.mean.dim(a, None, False), (2, 5, 3)), FLOAT),
    Case("float.mean_spatial_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.mean((2, 3)))), NCHW), FLOAT),
    Case("float.mean_width_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.mean(3))), NCHW), FLOAT),
]  # fmt: skip
