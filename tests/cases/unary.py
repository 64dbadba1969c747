"""Functions of one element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .making import FLOAT, NCHW, PAIR, SWISH, WEIGHTED, Case, Q, Seq, eager, floating, ints

CASES = [
    Case("relu", lambda: ints(torch.relu, (2, 5, 7, 3))),
    Case("relu.int8", lambda: ints(torch.relu, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("relu6", lambda: ints(lambda a: Q.relu6(a), (2, 5, 7, 3))),
    Case("relu6.hardtanh", lambda: ints(lambda a: F.hardtanh(a, 0, 6), (2, 5, 7, 3))),
    Case("relu6.module", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.ReLU6()), NCHW), WEIGHTED),
    Case("relu.behind_add", lambda: ints(lambda a, b: torch.relu(Q.add(a, b, 0.0603137, 120)), *PAIR)),
    Case("hardswish", lambda: ints(lambda a: Q.hardswish(a, 0.0307111, 12), (2, 5, 7, 3)), SWISH),
    Case("hardswish.int8", lambda: ints(lambda a: Q.hardswish(a, 0.0307111, -116), (2, 5, 7, 3), dtype=torch.qint8), SWISH),
    Case("hardswish.module", lambda: eager(nn.Hardswish(), NCHW), SWISH),
    Case("hardsigmoid", lambda: ints(F.hardsigmoid, (2, 5, 7, 3))),
    Case("hardsigmoid.int8", lambda: ints(F.hardsigmoid, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("sigmoid", lambda: ints(torch.sigmoid, (2, 5, 7, 3))),
    Case("sigmoid.int8", lambda: ints(torch.sigmoid, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("sigmoid.scale", lambda: ints(lambda a: Q.sigmoid(a, 0.0041137, 2), (2, 5, 7, 3))),
    Case("sigmoid.scale_fixed", lambda: ints(lambda a: Q.sigmoid(a, 1 / 256, 0), (2, 5, 7, 3))),
    Case("tanh", lambda: ints(torch.tanh, (2, 5, 7, 3))),
    Case("tanh.int8", lambda: ints(torch.tanh, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("softmax", lambda: ints(lambda a: Q.softmax(a, -1, 1 / 256, 0), (31, 17))),
    Case("softmax.rank4", lambda: ints(lambda a: Q.softmax(a, 3, 1 / 256, 0), (2, 5, 7, 13))),
    Case("softmax.scale", lambda: ints(lambda a: Q.softmax(a, -1, 0.0031137, 4), (31, 17))),
    Case("softmax.int8", lambda: ints(lambda a: Q.softmax(a, -1, 1 / 256, -128), (31, 17), dtype=torch.qint8)),
    Case("float.relu", lambda: floating(nn.ReLU(), (2, 5, 7, 3))),
    Case("float.relu6", lambda: floating(nn.ReLU6(), (2, 5, 7, 3))),
    Case("float.relu6_aten", lambda: floating(lambda a: torch.ops.aten.relu6(2 * a), (2, 5, 7, 3))),
    Case("float.conv_relu", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.ReLU()), NCHW), FLOAT),
    Case("float.conv_relu6", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.ReLU6()), NCHW), FLOAT),
    Case("float.hardswish", lambda: floating(nn.Hardswish(), (2, 5, 7, 3)), FLOAT),
    Case("float.hardsigmoid", lambda: floating(nn.Hardsigmoid(), (2, 5, 7, 3)), FLOAT),
    Case("float.sigmoid", lambda: floating(nn.Sigmoid(), (2, 5, 7, 3)), FLOAT),
    Case("float.tanh", lambda: floating(nn.Tanh(), (2, 5, 7, 3)), FLOAT),
    Case("float.softmax", lambda: floating(nn.Softmax(-1), (31, 17)), FLOAT),
    Case("float.softmax_rank3", lambda: floating(nn.Softmax(2), (3, 5, 7)), FLOAT),
    Case("float._softmax", lambda: floating(lambda a: torch._softmax(a, 1, False), (31, 17)), FLOAT),
]  # fmt: skip
