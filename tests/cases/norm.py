"""Normalization."""

from __future__ import annotations

from torch import nn

from .making import FLOAT, NCHW, Case, Seq, floating

CASES = [
    Case("float.batch_norm", lambda: floating(nn.BatchNorm2d(5), (2, 5, 7, 3)), FLOAT),
    Case("float.batch_norm_plain", lambda: floating(nn.BatchNorm2d(5, affine=False), (2, 5, 7, 3)), FLOAT),
    Case("float.batch_norm_rank2", lambda: floating(nn.BatchNorm1d(5), (13, 5)), FLOAT),
    Case("float.batch_norm_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU()), NCHW), FLOAT),
    Case("float.batch_norm_depthwise", lambda: floating(Seq(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU6()), NCHW), FLOAT),
    Case("float.batch_norm_linear", lambda: floating(Seq(nn.Linear(17, 9), nn.BatchNorm1d(9)), (31, 17)), FLOAT),
]  # fmt: skip
