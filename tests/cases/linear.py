"""Linear layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .conv import packed, stored
from .making import AFFINE, FLOAT, NO_BIAS, SYMMETRIC, WEIGHTED, Case, Made, Near, Q, Seq, conv_relu, eager, floating, linear_relu

SPARSE, INTERNAL = torch.ops.sparse, torch.ops._quantized
ISLAND = Near(1, 0.98, "a tanh of a float sum, where PyTorch adds up integers, may lie on the other side of the middle of two steps")


def by_hand(op: Callable[..., Tensor], *last: Any, axis: int | None = 0, engine: str = "onednn", scale: float = 0.117) -> Made:
    return packed(op, Q.linear_prepack, stored((9, 17), axis=axis), 9, (31, 17), last=last, engine=engine, scale=scale)


def sparse(op: Callable[..., Tensor]) -> Made:
    """FBGEMM skips blocks of one by four zeros."""
    weight = stored((8, 16))
    integers = weight.int_repr() * (torch.arange(16, dtype=torch.int8) // 4 % 2)
    facts = weight.q_per_channel_scales(), weight.q_per_channel_zero_points(), 0
    holey = torch._make_per_channel_quantized_tensor(integers, *facts)
    return packed(op, SPARSE.qlinear_prepack, holey, 8, (31, 16), 1, 4)


def wrapped(x: Tensor) -> Tensor:
    weight, bias = torch.linspace(-0.6, 0.7, 9 * 17).reshape(9, 17).sin(), torch.linspace(-1, 1, 9)
    scales = [torch.tensor(scale) for scale in (0.0641713, 0.00571, 0.117)]
    zeros = [torch.tensor(zero) for zero in (63, 0, 130)]
    return INTERNAL.wrapped_quantized_linear(x, scales[0], zeros[0], weight, scales[1], zeros[1], bias, scales[2], zeros[2], 9)


class AddMM(nn.Module):
    def __init__(self, *bias: int, beta: float = 1, alpha: float = 1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(17, 9)), nn.Parameter(torch.empty(bias))
        self.factors = {"beta": beta, "alpha": alpha}

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight, **self.factors)


class OneOutput(nn.Module):
    """A weight without a dimension for the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(7))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


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
    Case("linear.scales", lambda: by_hand(Q.linear, engine="fbgemm"), WEIGHTED),
    Case("linear.affine_channels", lambda: packed(Q.linear, Q.linear_prepack, stored((9, 17), zero_points=127), 9, (31, 17)), WEIGHTED),
    Case("linear.onednn", lambda: eager(linear_relu(17, 9), (31, 17), engine="onednn"), WEIGHTED),
    Case("linear.internal", lambda: packed(INTERNAL.linear, INTERNAL.linear_prepack, stored((9, 17)), 9, (31, 17)), WEIGHTED),
    Case("linear.sparse", lambda: sparse(SPARSE.qlinear), WEIGHTED),
    Case("linear.sparse_relu", lambda: sparse(SPARSE.qlinear_relu), WEIGHTED),
    Case("linear.leaky", lambda: by_hand(Q.linear_leaky_relu, 0.13), WEIGHTED),
    Case("linear.leaky_per_tensor", lambda: by_hand(Q.linear_leaky_relu, 0.013, axis=None), WEIGHTED),
    Case("linear.leaky_steep", lambda: by_hand(Q.linear_leaky_relu, 1.7), WEIGHTED),
    Case("linear.tanh", lambda: by_hand(Q.linear_tanh, scale=1 / 128), ISLAND),
    Case("linear.wrapped", lambda: floating(wrapped, (31, 17)), WEIGHTED),
    Case("float.linear_one_output", lambda: floating(OneOutput(), (5, 6, 7)), FLOAT),
    Case("float.addmm", lambda: floating(AddMM(9, beta=0.7, alpha=1.3), (31, 17)), FLOAT),
    Case("float.addmm_row", lambda: floating(AddMM(1, 9), (31, 17)), FLOAT),
    Case("float.addmm_matrix", lambda: floating(AddMM(31, 9, beta=0.7), (31, 17)), FLOAT),
    Case("float.addmm_computed", lambda: floating(
        lambda a, b: torch.addmm(b, a, torch.linspace(-1, 1, 153).reshape(17, 9), alpha=2), (31, 17), (31, 1)), FLOAT),
]  # fmt: skip
