"""Structures of inputs and outputs, and outputs that no operator of their own makes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .making import NCHW, WEIGHTED, Call, Case, Made, Seq, eager, floating, inputs, ints


class Pair(NamedTuple):
    left: Tensor
    right: Any


class Constants(nn.Module):
    """Parameters and buffers among the outputs, one of them twice, one read as well."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 10).reshape(2, 5))
        self.register_buffer("steps", torch.arange(3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.weight, x * self.weight, self.steps, self.weight, self.weight.t()


def nested() -> Made:
    x, y, z = inputs([(2, 5), (2, 5), (5,)])
    model = Call(lambda pair, table: {"sum": pair.left + pair.right[0], "more": [table["a"] * 2, Pair(pair.left, None)], "n": 3})
    return model.eval(), (Pair(x, [y]), {"a": z, "unused": z})


def of(function: Any, *args: Tensor) -> Made:
    return Call(function).eval(), args


INTS, FLAGS = torch.tensor([[3, -5, 7]]), torch.tensor([True, False])

CASES = [
    Case("signature.nested", nested),
    Case("signature.constants", lambda: (Constants().eval(), inputs([(2, 5)]))),
    Case("signature.only_constants", lambda: (Call(lambda x: [torch.arange(3), torch.ones(2)]).eval(), inputs([(2, 5)]))),
    Case("signature.inputs_twice", lambda: floating(lambda a, b: (b, a, b, a + b), (2, 5), (2, 5))),
    Case("signature.input_and_view", lambda: floating(lambda a: (a, a.view(10), a.t()), (2, 5))),
    Case("signature.views_of_one", lambda: floating(lambda a: (b := a + 1, b.view(10), b.t(), b), (2, 5))),
    Case("signature.read_twice_out", lambda: floating(lambda a: (b := a * 2, b, b + 1, (b + 1) * b), (2, 5))),
    Case("signature.scalar", lambda: of(lambda a, b: (a + b, a), torch.tensor(2.5), torch.tensor(-1.0))),
    Case("signature.integers", lambda: of(lambda a, b: (a, a + b, b), INTS, INTS.flip(1))),
    Case("signature.flags", lambda: of(lambda a, b: (a, a & b, b), FLAGS, FLAGS.flip(0))),
    Case("signature.ints_shared", lambda: ints(lambda a: (q := torch.relu(a), q), (2, 5))),
    Case("signature.quantized_twice", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: (a, a.flatten(1), a))), NCHW), WEIGHTED),
]  # fmt: skip
