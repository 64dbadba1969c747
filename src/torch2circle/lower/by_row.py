"""Linear layers whose activations are rounded at run time with a scale for each row, as torchao's are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..ir import DType, Type, Value
from ..quant import Weights
from .context import Context, Placed, plain, reshaped
from .dynamic import COMPUTES, NEAR_TIE, Example, corrected, exact_but_for_ties, linear
from .formula import part
from .linear import fully_connected
from .registry import Order, lowers
from .rejoin import LAYER_BY_ROW


@dataclass(frozen=True)
class RowSteps:
    """A scale and a zero point for each row [..., 1], or one of each."""

    scale: Tensor
    zero_point: Tensor
    low: int
    high: int

    @staticmethod
    def of(x: Tensor, symmetric: bool, low: int, high: int, least: float, rows: bool) -> RowSteps:
        axes = [-1] if rows else list(range(x.dim()))
        top, bottom = x.amax(axes, keepdim=True).clamp(min=0), x.amin(axes, keepdim=True).clamp(max=0)
        span = 2 * torch.maximum(top, -bottom) if symmetric else top - bottom
        scale = (span / (high - low)).clamp(min=least)
        zero_point = torch.zeros_like(scale) if symmetric else (low - torch.round(bottom / scale)).clamp(low, high)
        return RowSteps(scale, zero_point, low, high)

    def rounded(self, x: Tensor) -> Tensor:
        integers = torch.round(x * (1 / self.scale)) + self.zero_point
        return (integers.clamp(self.low, self.high) - self.zero_point) * self.scale

    def near_ties(self, x: Tensor) -> Tensor:
        place = x.double() / self.scale
        return ((place - place.floor() - 0.5).abs() < NEAR_TIE).float()


@lowers(LAYER_BY_ROW, order=Order.FREE)
def linear_by_row(
    c: Context, x: Placed, weight: Tensor, bias: Tensor | None, symmetric: bool, low: int, high: int, least: float, rows: bool
) -> Value:
    mode, given, weights = c.builder.options.dynamic, c.builder.arrange(x, plain(len(x.order))), Weights.of(weight, bias)
    quant, taken = weights.type.quant, c.recorded("input")
    steps = RowSteps.of(taken, symmetric, low, high, least, rows)

    def example() -> Example:  # made when it is needed, for it has the weight in float
        return Example(taken, Weights.of(weight.dequantize().reshape(-1, taken.shape[-1]), bias), partial(linear, "NONE"))

    c.later(lambda: corrected(c, example().result(steps)))
    if mode == "exact":
        c.note("note", "dynamic", COMPUTES[mode])
        exact_but_for_ties(c, example, steps)
        return fully_connected(c, on_rows(c, given, symmetric, low, high, least, rows), weights, "NONE")
    c.hybrid = mode == "hybrid" and weight.shape[-1] == taken.shape[-1] and quant is not None and not quant.zero_point.any()
    c.later(lambda: c.tolerate(example().bound(steps)))
    c.note("note", "dynamic", COMPUTES["hybrid" if c.hybrid else "dequantize"])
    return fully_connected(c, given, weights, "NONE")


def on_rows(c: Context, x: Value, symmetric: bool, low: int, high: int, least: float, rows: bool) -> Value:
    """``x`` rounded by float operators, to the last bit as PyTorch does."""
    op, matrix = partial(part, c), reshaped(c, x, (x.type.size // x.type.shape[-1], x.type.shape[-1]))
    axes = c.const([1] if rows else [0, 1], "axes")
    one = Type((matrix.type.shape[0] if rows else 1, 1), DType.FLOAT32)

    def largest(v: Value) -> Value:
        return op("RELU", c.emit_as(one, "REDUCE_MAX", v, axes, keep_dims=True))

    top, below = largest(matrix), largest(op("NEG", matrix))
    span = op("MUL", op("MAXIMUM", top, below), 2.0) if symmetric else op("ADD", top, below)
    scale = op("MAXIMUM", op("DIV", span, float(high - low)), least)
    integers = op("ROUND", op("MUL", matrix, op("DIV", c.const(1.0), scale)))
    if symmetric:
        rounded = op("MUL", op("MINIMUM", op("MAXIMUM", integers, float(low)), float(high)), scale)
        return reshaped(c, rounded, x.type.shape)
    zero_point = op("MINIMUM", op("ADD", op("ROUND", op("DIV", below, scale)), float(low)), float(high))
    clamped = op("MINIMUM", op("MAXIMUM", op("ADD", integers, zero_point), float(low)), float(high))
    return reshaped(c, op("MUL", op("SUB", clamped, zero_point), scale), x.type.shape)
