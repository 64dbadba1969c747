"""Inputs and outputs of the graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import FLOAT, NCHW, WEIGHTED, Call, Case, Joined, Seq, WithConstant, eager, floating, integers, quantized_by_tensors


def read_out(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """An output that is read, by an operator with others behind it."""
    total = a + b
    return total, torch.tanh(total) * b


def out_twice(a: Tensor) -> tuple[Tensor, ...]:
    """An output that is given twice, with operators behind it that could take its memory."""
    kept = torch.relu(a)
    return kept, kept, torch.exp(torch.tanh(a) * 3) + 1


CASES = [
    Case("edge.float_out_nhwc", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.permute(0, 2, 3, 1))), NCHW), FLOAT),
    Case("edge.view_out", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.flatten(2))), NCHW), WEIGHTED),
    Case("edge.two_out", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: (a, a.mean([2, 3])))), NCHW), WEIGHTED),
    Case("edge.same_out_twice", lambda: floating(lambda a: [torch.relu(a)] * 2, (2, 5))),
    Case("edge.out_twice", lambda: floating(out_twice, (2, 3, 8, 8)), FLOAT),
    Case("edge.read_out", lambda: floating(read_out, (2, 5), (2, 5)), FLOAT),
    Case("edge.constant_out", lambda: floating(WithConstant(), (2, 5))),
    Case("edge.input_out", lambda: floating(lambda a: (a, torch.relu(a)), (2, 5))),
    Case("edge.only_input_out", lambda: floating(lambda a: a, (2, 5))),
    Case("edge.unused_input", lambda: floating(lambda a, b: torch.relu(a), (2, 5), (3, 7))),
    Case("edge.two_in", lambda: eager(Joined(), (2, 3, 9, 11), (2, 3, 7, 9)), WEIGHTED),
    Case("edge.uint8_in_out", lambda: (Call(lambda a: F.max_pool2d(a, 2)).eval(), (integers(torch.quint8),))),
    Case("edge.int8_in_out", lambda: (Call(lambda a: F.max_pool2d(a, 2)).eval(), (integers(torch.qint8),))),
    Case("edge.uint8_passed", lambda: (Call(lambda a: (a, torch.relu(a))).eval(), (integers(torch.quint8),))),
    Case("edge.int8_view_out", lambda: (Call(lambda a: a.permute(0, 2, 3, 1)).eval(), (integers(torch.qint8),))),
    Case("edge.qparams_in_tensors", lambda: floating(quantized_by_tensors, (2, 5))),
    Case("edge.rank5", lambda: floating(lambda a: (a + 1).permute(0, 4, 1, 2, 3), (2, 3, 5, 1, 7))),
]  # fmt: skip
