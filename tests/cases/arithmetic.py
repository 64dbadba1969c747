"""Arithmetic on two operands."""

from __future__ import annotations

import torch
from torch import nn

from .making import FLOAT, GATED, NCHW, PAIR, PRODUCT, WEIGHTED, AddBehindConv, Call, Case, Gate, Q, Residual, Seq, eager, floating, ints

CASES = [
    Case("add", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, 120), *PAIR)),
    Case("add.relu", lambda: ints(lambda a, b: Q.add_relu(a, b, 0.0313547, 20), *PAIR)),
    Case("add.int8", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, -8), *PAIR, dtype=torch.qint8)),
    Case("add.qnnpack", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, 120), *PAIR, engine="qnnpack")),
    Case("add.one_tensor_twice", lambda: ints(lambda a: Q.add(a, a, 0.0603137, 120), PAIR[0])),
    Case("add.residual", lambda: eager(Residual("add"), NCHW), WEIGHTED),
    Case("add.residual_relu", lambda: eager(Residual("add_relu"), NCHW), WEIGHTED),
    Case("mul", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), *PAIR), PRODUCT),
    Case("mul.relu", lambda: ints(lambda a, b: Q.mul_relu(a, b, 0.0627717, 4), *PAIR), PRODUCT),
    Case("mul.int8", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, -8), *PAIR, dtype=torch.qint8), PRODUCT),
    Case("mul.qnnpack", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), *PAIR, engine="qnnpack"), PRODUCT),
    Case("mul.per_channel", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), (2, 5, 7, 3), (2, 5, 1, 1)), PRODUCT),
    Case("mul.residual", lambda: eager(Residual("mul"), NCHW), GATED),
    Case("mul.gate", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Gate()), NCHW), GATED),
    Case("float.add", lambda: floating(torch.add, *PAIR)),
    Case("float.add_alpha", lambda: floating(lambda a, b: torch.add(a, b, alpha=0.5), *PAIR)),
    Case("float.add_number", lambda: floating(lambda a: a + 2, PAIR[0])),
    Case("float.sub", lambda: floating(torch.sub, *PAIR)),
    Case("float.sub_alpha", lambda: floating(lambda a, b: torch.sub(a, b, alpha=3), *PAIR), FLOAT),
    Case("float.rsub_number", lambda: floating(lambda a: 1.5 - a, PAIR[0])),
    Case("float.rsub", lambda: floating(lambda a, b: torch.rsub(a, b, alpha=2), *PAIR)),
    Case("float.mul", lambda: floating(torch.mul, *PAIR)),
    Case("float.mul_number", lambda: floating(lambda a: a * 0.3, PAIR[0])),
    Case("float.mul_per_channel", lambda: floating(torch.mul, (2, 5, 7, 3), (2, 5, 1, 1))),
    Case("float.mul_rank_unequal", lambda: floating(torch.mul, (2, 5, 7, 3), (7, 3))),
    Case("float.add_rank_unequal_behind_conv", lambda: floating(AddBehindConv((5, 1, 1)), NCHW), FLOAT),
    Case("float.add_row_behind_conv", lambda: floating(AddBehindConv((9,)), NCHW), FLOAT),
    Case("float.add_scalar_tensor", lambda: floating(lambda a, b: a + b, (2, 5, 7, 3), ())),
    Case("float.div", lambda: floating(lambda a, b: a / (b * b + 1), *PAIR)),
    Case("float.div_number", lambda: floating(lambda a: a / 3, PAIR[0])),
    Case("int64.add", lambda: (Call(lambda a, b: a + b).eval(), (torch.arange(6).view(2, 3), torch.arange(3) * 7))),
]  # fmt: skip
