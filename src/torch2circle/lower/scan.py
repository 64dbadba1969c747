"""What is combined along a dimension and keeps every step: sums have an operator, the others are made of halves of 2, 4, 8 ... elements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir import Value
from .context import Context
from .formula import cast, part
from .registry import lowers

LOWEST = float(np.finfo(np.float32).min)
"""And not minus infinity, from which nothing can be taken away."""


@lowers("aten::cumsum")
def cumsum(c: Context, x: Value, dim: int) -> Value:
    return c.emit("CUMSUM", cast(c, x, c.out_type().dtype), c.const(c.axis(dim), "axis"), exclusive=False, reverse=False)


@lowers("aten::cumprod")
def cumprod(c: Context, x: Value, dim: int) -> Value:
    return _scanned(c, cast(c, x, c.out_type().dtype), c.axis(dim), lambda a, b: part(c, "MUL", a, b), 1)


@lowers("aten::logcumsumexp")
def logcumsumexp(c: Context, x: Value, dim: int) -> Value:
    """``log(exp(a) + exp(b)) = max(a, b) + log(1 + exp(-|a - b|))``, which no number overflows."""

    def both(a: Value, b: Value) -> Value:
        apart = part(c, "NEG", part(c, "ABS", part(c, "SUB", a, b)))
        return part(c, "ADD", part(c, "MAXIMUM", a, b), part(c, "LOG", part(c, "ADD", part(c, "EXP", apart), 1.0)))

    return _scanned(c, x, c.axis(dim), both, LOWEST)


@lowers("aten::cummax", op="MAXIMUM", sign=1)
@lowers("aten::cummin", op="MINIMUM", sign=-1)
def cumulative_extremum(c: Context, x: Value, dim: int, op: str, sign: int) -> tuple[Value, None]:
    c.only(not c.is_read(1), "indices", "read by the model", "the values alone")
    lowest = LOWEST if x.type.dtype.is_float else int(np.iinfo(x.type.dtype.numpy).min) + 1
    return _scanned(c, x, c.axis(dim), lambda a, b: part(c, op, a, b), sign * lowest), None


def _scanned(c: Context, x: Value, axis: int, both: Callable[[Value, Value], Value], neutral: float) -> Value:
    size, width = x.type.shape[axis], 1
    if size <= 1:
        return x
    while width < size:
        x = both(x, _behind(c, x, axis, width, neutral))
        width *= 2
    return c.as_result(x)


def _behind(c: Context, x: Value, axis: int, by: int, neutral: float) -> Value:
    """The elements ``by`` places further on, behind neutral ones."""
    shape = x.type.shape
    first, kept = ((*shape[:axis], size, *shape[axis + 1 :]) for size in (by, shape[axis] - by))
    front = c.const(np.full(first, neutral, x.type.dtype.numpy), "neutral")
    rest = c.emit_as(x.type.reshape(kept), "SLICE", x, c.const([0] * len(shape), "begin"), c.const(list(kept), "size"))
    return c.emit_as(x.type, "CONCATENATION", front, rest, axis=axis, fused_activation_function="NONE")
