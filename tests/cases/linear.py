"""Linear layers."""

from __future__ import annotations

from torch import nn

from .making import AFFINE, FLOAT, NO_BIAS, SYMMETRIC, WEIGHTED, Case, Seq, conv_relu, eager, floating, linear_relu

CASES = [
    Case("linear", lambda: eager(nn.Linear(17, 9), (31, 17)), WEIGHTED),
    Case("linear.relu", lambda: eager(linear_relu(17, 9), (31, 17)), WEIGHTED),
    Case("linear.no_bias", lambda: eager(nn.Linear(17, 9, bias=False), (31, 17)), NO_BIAS),
    Case("linear.rank3", lambda: eager(nn.Linear(7, 9), (5, 6, 7)), WEIGHTED),
    Case("linear.rank4", lambda: eager(nn.Linear(7, 9), (2, 3, 5, 7)), WEIGHTED),
    Case("linear.rank1", lambda: floating(nn.Linear(7, 9), (7,)), FLOAT),
    Case("linear.per_tensor", lambda: eager(nn.Linear(17, 9), (31, 17), weight=SYMMETRIC), WEIGHTED),
    Case("linear.per_tensor_rank3", lambda: eager(nn.Linear(7, 9), (5, 6, 7), weight=SYMMETRIC), WEIGHTED),
    Case("linear.affine", lambda: eager(nn.Linear(17, 9), (31, 17), weight=AFFINE), WEIGHTED),
    Case("linear.x86", lambda: eager(nn.Linear(17, 9), (31, 17), engine="x86"), WEIGHTED),
    Case("linear.qnnpack", lambda: eager(nn.Linear(17, 9), (31, 17), engine="qnnpack"), WEIGHTED),
    Case("linear.qnnpack_relu", lambda: eager(linear_relu(17, 9), (31, 17), engine="qnnpack"), WEIGHTED),
    Case("linear.behind_conv", lambda: eager(Seq(conv_relu(3, 5, 3), nn.Flatten(), nn.Linear(5 * 4 * 6, 17)), (2, 3, 6, 8)), WEIGHTED),
    Case("linear.behind_pool", lambda: eager(
        Seq(conv_relu(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(5, 17)), (2, 3, 6, 8)), WEIGHTED),
    Case("float.linear", lambda: floating(nn.Linear(17, 9), (31, 17)), FLOAT),
    Case("float.linear_relu", lambda: floating(Seq(nn.Linear(17, 9), nn.ReLU()), (31, 17)), FLOAT),
    Case("float.linear_rank3_no_bias", lambda: floating(nn.Linear(7, 9, bias=False), (5, 6, 7)), FLOAT),
    Case("float.linear_rank4", lambda: floating(nn.Linear(7, 9), (2, 3, 5, 7)), FLOAT),
    Case("float.linear_behind_conv", lambda: floating(
        Seq(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 4 * 6, 17)), (2, 3, 6, 8)), FLOAT),
]  # fmt: skip
