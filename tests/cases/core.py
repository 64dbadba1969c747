"""Operators on floats that PyTorch's core has besides those of the other families, and what users write in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import FLOAT, Call, Case, Made, Near, Shape, floating, inputs, seeded

A = torch.ops.aten
IMAGE = (2, 3, 5, 7)
ROWS = (3, 6)
REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")
ANGLE = Near(FLOAT.lsb, 1, f"{FLOAT.reason}; onert has arcs of tangents as a series")


def within(low: float, high: float, function: Callable[..., Tensor], count: int = 1) -> Made:
    """On inputs between ``low`` and ``high``."""
    return Call(function).eval(), tuple((x + 4) / 8 * (high - low) + low for x in inputs([IMAGE] * count))


def at(function: Callable[..., Tensor], places: Tensor, *shapes: Shape) -> Made:
    """On floats and computed integers, which come second."""
    x, *others = inputs(shapes)
    return seeded(Call(function)), (x, places, *others)


def columns(size: int, *shape: int) -> Tensor:
    """Integers below ``size``, some more than once in a row."""
    return torch.arange(int(torch.tensor(shape).prod())).view(shape) * 5 % 7 % size


def kept(cache: Tensor, place: Tensor, new: Tensor) -> Tensor:
    cache = cache.clone()
    cache[:, :, place] = new
    return cache


def pair_assigned(x: Tensor, rows: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[rows, rows - 1] = y
    return x


def written_logic(x: Tensor) -> Tensor:
    truth = x > 0
    truth &= x < 2
    truth |= x < -2
    return truth


def part_activated(x: Tensor) -> Tensor:
    x = x + 1
    F.silu(x[:, 1:], inplace=True)
    return x


def batch_normalized(x: Tensor) -> Tensor:
    made: Tensor = A._native_batch_norm_legit.no_stats(x, None, None, True, 0.1, 1e-5)[0]
    return made


def image(function: Callable[[Tensor], object]) -> Made:
    return Call(function).eval(), (torch.arange(2 * 4 * 5 * 3).view(2, 4, 5, 3).mul(7).remainder(256).to(torch.uint8),)


def reshaped_in_place(x: Tensor, y: Tensor) -> Tensor:
    """Views of the tensor, and writes through them, from before and behind."""
    x = x + 1
    row = x[0]
    x.unsqueeze_(1)
    x[:, 0, 1] = 0.5
    x.squeeze_().transpose_(0, 1)
    x[2].relu_()
    return x + row.sum() + y.t_()


def found_in_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Places in an image, by those in its flattened pixels."""
    best = x.flatten(1).topk(3).indices
    return best // 7, torch.div(x.flatten(1).argmax(1, keepdim=True), 7, rounding_mode="floor")


def reduced(name: str, include_self: bool) -> Made:
    def function(x: Tensor, index: Tensor, src: Tensor) -> Tensor:
        return x.scatter_reduce(1, index, src, name, include_self=include_self)

    return at(function, columns(6, 3, 4), ROWS, (3, 4))


CASES = [
    Case("cosh", lambda: floating(torch.cosh, IMAGE), FLOAT),
    Case("sinh", lambda: floating(torch.sinh, IMAGE), FLOAT),
    Case("sinh.near_zero", lambda: within(-0.01, 0.01, torch.sinh), FLOAT),
    Case("asinh", lambda: floating(torch.asinh, IMAGE), FLOAT),
    Case("acosh", lambda: within(1, 9, torch.acosh), FLOAT),
    Case("atanh", lambda: within(-0.99, 0.99, torch.atanh), FLOAT),
    Case("atan2.quadrants", lambda: within(-3, 3, torch.atan2, 2), ANGLE),
    Case("atan2.broadcast", lambda: floating(torch.atan2, IMAGE, (3, 1, 7)), ANGLE),
    Case("erfc", lambda: floating(torch.erfc, IMAGE), FLOAT),
    Case("hypot", lambda: floating(torch.hypot, IMAGE, (3, 1, 7)), FLOAT),
    Case("softplus", lambda: floating(nn.Softplus(), IMAGE), FLOAT),
    Case("softplus.large", lambda: within(-300, 300, F.softplus), FLOAT),
    Case("softplus.threshold", lambda: floating(nn.Softplus(2, 3), IMAGE), FLOAT),
    Case("cumprod", lambda: floating(lambda x: x.cumprod(1), (2, 5, 3)), FLOAT),
    Case("logcumsumexp", lambda: floating(lambda x: (20 * x).logcumsumexp(-1), (2, 5, 3)), FLOAT),
    Case("cummax", lambda: floating(lambda x: x.cummax(2)[0], (2, 3, 5))),
    Case("cummin.one", lambda: floating(lambda x: (x + 1).cummin(1)[0] - x.cummin(2)[0], (2, 1, 5))),
    Case("pdist", lambda: floating(F.pdist, (5, 6)), FLOAT),
    Case("bucketize", lambda: floating(lambda x: torch.bucketize(x, torch.arange(-3.0, 3)), IMAGE)),
    Case("searchsorted", lambda: floating(lambda x, y: torch.searchsorted(x.abs().cumsum(0), y, right=True), (5,), (4, 3)), FLOAT),
    Case("roll.flat", lambda: floating(lambda x: x.roll(4), IMAGE)),
    Case("addmm.computed", lambda: floating(lambda a, b, x: torch.addmm(a, b, x, beta=0.5, alpha=2), (5,), (3, 4), (4, 5)), FLOAT),
    Case("copy", lambda: floating(lambda x, y: A.copy(x, y) * 2, IMAGE, (3, 1, 7))),
    Case("copy.number", lambda: floating(lambda x, y: torch.fill(x, y[0, 0]) + x, IMAGE, (2, 3))),
    Case("dropout.native", lambda: floating(lambda x: A.native_dropout(x, 0.5, False)[0] * 2, IMAGE)),
    Case("masked_select", lambda: floating(lambda x: x.masked_select(torch.arange(7) % 3 == 1), IMAGE)),
    Case("masked_scatter", lambda: floating(lambda x, y: x.masked_scatter(x > y, y), (2, 3, 4), (2, 3, 4))),
    Case("batch_norm.batch", lambda: floating(nn.BatchNorm2d(3, track_running_stats=False), IMAGE), FLOAT),
    Case("batch_norm.no_stats", lambda: floating(batch_normalized, (4, 3)), FLOAT),
    Case("scatter.computed", lambda: at(lambda x, i, y: x.scatter(1, i, y), columns(6, 3, 4), ROWS, (3, 4))),
    Case("scatter.first", lambda: at(lambda x, i, y: x.scatter(0, i, y), columns(3, 2, 6), ROWS, (2, 6))),
    *(Case(f"scatter_reduce.{name}", lambda name=name: reduced(name, True), FLOAT) for name in REDUCTIONS),
    *(Case(f"scatter_reduce.{name}.alone", lambda name=name: reduced(name, False), FLOAT) for name in REDUCTIONS),
    Case("index_put.computed", lambda: at(lambda x, i, y: x.index_put((i,), y), torch.tensor([1, 0, 1, -1]), (6, 4), (4, 4))),
    Case("index_put.pair", lambda: at(pair_assigned, torch.tensor([1, 0]), IMAGE, (5, 7))),
    Case("index_put.cache", lambda: at(kept, torch.tensor([3]), (1, 2, 9, 4), (1, 2, 1, 4))),
    Case("index_add.computed", lambda: at(lambda x, i, y: x.index_add(1, i, y), torch.tensor([0, 2, 0]), IMAGE, (2, 3, 5, 7)), FLOAT),
    Case("uint8.image", lambda: image(lambda x: x.permute(0, 3, 1, 2).float() / 255 - 0.5)),
    Case("uint8.divided", lambda: image(lambda x: x[:, 1:, ::2] / 255.0)),
    Case("uint8.flat", lambda: image(lambda x: (x.flatten(1).to(torch.int32) * 3, x[:, [2, 0]].float()))),
    Case("float64.number", lambda: floating(lambda x: x * torch.tensor(2.5, dtype=torch.float64) + torch.tensor(0.1).double(), IMAGE)),
    Case("gelu.by_erf", lambda: floating(lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5)), IMAGE), FLOAT),
    Case("gelu.by_erf_halved", lambda: floating(lambda x: 0.5 * (x * (1.0 + torch.erf(x * 0.70710678))), IMAGE), FLOAT),
    Case("gelu.by_tanh", lambda: floating(lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))), IMAGE), FLOAT),
    Case("gelu.nearly", lambda: floating(lambda x: 0.5 * x * (1 + torch.tanh(0.79 * (x + 0.044715 * x * x * x))), IMAGE), FLOAT),
    Case("rrelu", lambda: floating(nn.RReLU(0.1, 0.4), IMAGE)),
    Case("round.decimals", lambda: floating(lambda x: torch.round(x, decimals=2), IMAGE)),
    Case("floor_divide.places", lambda: floating(found_in_rows, (2, 5, 7))),
    Case("inplace.shapes", lambda: floating(reshaped_in_place, (4, 3), (4, 3)), FLOAT),
    Case("inplace.silu", lambda: floating(part_activated, IMAGE), FLOAT),
    Case("inplace.addcmul", lambda: floating(lambda x, y: (x + 1).addcmul_(y, y, value=2.0), IMAGE, IMAGE), FLOAT),
    Case("inplace.logic", lambda: floating(written_logic, IMAGE)),
    Case("adaptive_avg_pool.larger", lambda: floating(nn.AdaptiveAvgPool2d((3, 4)), (2, 3, 1, 2)), FLOAT),
    Case("slice.five_dims", lambda: floating(lambda x: x[:, 1:2, :, :, 3:5], (2, 3, 2, 3, 6))),
]  # fmt: skip
