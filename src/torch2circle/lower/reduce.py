"""Many elements to one, along some dimensions or all of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod

import numpy as np

from ..ir import DType, Type, Value
from .context import Context, Perm, Placed, plain, reshaped
from .embedding import gathered
from .formula import cast, part, scaled
from .registry import Order, lowers

Dims = int | Sequence[int] | None


@lowers("aten::mean.dim", op="MEAN")
@lowers("aten::sum.dim_IntList", op="SUM")
@lowers("aten::prod.dim_int", op="REDUCE_PROD")
@lowers("aten::amax", op="REDUCE_MAX")
@lowers("aten::amin", op="REDUCE_MIN")
@lowers("aten::mean", op="MEAN", dim=None, keepdim=False)
@lowers("aten::sum", op="SUM", dim=None, keepdim=False)
@lowers("aten::prod", op="REDUCE_PROD", dim=None, keepdim=False)
@lowers("aten::max", op="REDUCE_MAX", dim=None, keepdim=False)
@lowers("aten::min", op="REDUCE_MIN", dim=None, keepdim=False)
def reduction(c: Context, x: Value, dim: Dims, keepdim: bool, op: str) -> Value:
    """In the element type of the result; truth values are counted in int32, which all runtimes add up."""
    dtype = c.out_type().dtype
    if x.type.dtype is DType.BOOL and op == "SUM":
        counted = reduced(c, op, cast(c, x, DType.INT32), axes_of(c, dim), keepdim)
        return given(c, cast(c, counted, dtype), dim, keepdim)
    return given(c, reduced(c, op, cast(c, x, dtype), axes_of(c, dim), keepdim), dim, keepdim)


@lowers("aten::all.dim", "aten::all.dims", op="REDUCE_ALL")
@lowers("aten::any.dim", "aten::any.dims", op="REDUCE_ANY")
@lowers("aten::all", op="REDUCE_ALL", dim=None, keepdim=False)
@lowers("aten::any", op="REDUCE_ANY", dim=None, keepdim=False)
def truth(c: Context, x: Value, dim: Dims, keepdim: bool, op: str) -> Value:
    holds = x if x.type.dtype is DType.BOOL else part(c, "NOT_EQUAL", x, 0, dtype=DType.BOOL)
    return given(c, reduced(c, op, holds, axes_of(c, dim), keepdim), dim, keepdim)


@lowers("aten::max.dim", values="REDUCE_MAX", places="ARG_MAX")
@lowers("aten::min.dim", values="REDUCE_MIN", places="ARG_MIN")
def extremum(c: Context, x: Value, dim: int, keepdim: bool, values: str, places: str) -> tuple[Value | None, Value | None]:
    return (
        given(c, reduced(c, values, x, axes_of(c, dim), keepdim), dim, keepdim) if c.is_read(0) else None,
        given(c, _place(c, places, x, c.axis(dim), keepdim), dim, keepdim, 1) if c.is_read(1) else None,
    )


@lowers("aten::argmax", op="ARG_MAX")
@lowers("aten::argmin", op="ARG_MIN")
def place(c: Context, x: Value, dim: int | None, keepdim: bool, op: str) -> Value:
    """Without a dimension, the place in PyTorch's order of the elements."""
    if dim is not None:
        return given(c, _place(c, op, x, c.axis(dim), keepdim), dim, keepdim)
    line = reshaped(c, c.builder.arrange(Placed(x, c.order), plain(x.type.rank)), (x.type.size,))
    found = _place(c, op, line, 0, keepdim)
    return given(c, reshaped(c, found, c.out_shape), None, keepdim)


def _place(c: Context, op: str, x: Value, axis: int, keepdim: bool) -> Value:
    """The first of equal ones, as PyTorch finds it."""
    shape = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
    found = c.emit_as(Type(shape, DType.INT64), op, x, c.const(axis, "axis"), output_type="INT64")
    return reshaped(c, found, (*shape[:axis], 1, *shape[axis:])) if keepdim else found


# -- spread


@lowers("aten::var.correction", root=False)
@lowers("aten::std.correction", root=True, island=True)
def spread(c: Context, x: Value, dim: Dims, correction: float | None, keepdim: bool, root: bool) -> Value:
    return given(c, _spread(c, x, dim, correction, keepdim, root)[0], dim, keepdim)


@lowers("aten::var_mean.correction", root=False)
@lowers("aten::std_mean.correction", root=True)
def spread_and_mean(c: Context, x: Value, dim: Dims, correction: float | None, keepdim: bool, root: bool) -> tuple[Value, Value]:
    around, mean = _spread(c, x, dim, correction, keepdim, root)
    kept = reduced(c, "MEAN", x, axes_of(c, dim), keepdim) if keepdim else reshaped(c, mean, around.type.shape)
    return given(c, around, dim, keepdim), given(c, kept, dim, keepdim, 1)


def _spread(c: Context, x: Value, dim: Dims, correction: float | None, keepdim: bool, root: bool) -> tuple[Value, Value]:
    """The sum of the squared distances from the mean by the number of elements less ``correction``; and the mean, its dimensions kept."""
    axes = axes_of(c, dim)
    count, less = prod(x.type.shape[axis] for axis in axes), 1 if correction is None else correction
    c.only(less < count, "correction", less, f"less than the {count} elements")
    mean = reduced(c, "MEAN", x, axes)
    off = part(c, "SUB", x, mean)
    squares = reduced(c, "MEAN", part(c, "MUL", off, off), axes, keepdim)
    variance = scaled(c, squares, count / (count - less))
    return (part(c, "SQRT", variance) if root else variance), mean


# -- norms and distances


@lowers("aten::linalg_vector_norm")
def vector_norm(c: Context, x: Value, ord: float, dim: Dims, keepdim: bool) -> Value:
    return given(c, _norm(c, x, ord, axes_of(c, dim), keepdim), dim, keepdim)


@lowers("aten::dist")
def dist(c: Context, x: Value, other: Value, p: float) -> Value:
    return given(c, _norm(c, part(c, "SUB", x, other), p, axes_of(c, None), False), None, False)


@lowers("aten::cdist", "aten::_cdist_forward", order=Order.PLAIN, ignores=("compute_mode",))
def cdist(c: Context, x: Value, x2: Value, p: float) -> Value:
    """Every row of ``x`` against every row of ``x2``."""
    rows, columns = (*x.type.shape[:-1], 1, x.type.shape[-1]), (*x2.type.shape[:-2], 1, *x2.type.shape[-2:])
    apart = part(c, "SUB", reshaped(c, x, rows), reshaped(c, x2, columns))
    return c.as_result(_norm(c, apart, p, [apart.type.rank - 1], False))


@lowers("aten::_pdist_forward", order=Order.PLAIN)
def pdist(c: Context, x: Value, p: float) -> Value:
    """Every row against those behind it."""
    pairs = np.triu_indices(x.type.shape[0], 1)
    first, second = (gathered(c, x, c.const(rows.astype(np.int32), "rows")) for rows in pairs)
    return c.as_result(_norm(c, part(c, "SUB", first, second), p, [1], False))


def _norm(c: Context, x: Value, p: float, axes: Sequence[int], keepdim: bool) -> Value:
    if p in (inf, -inf, 1):
        return reduced(c, {inf: "REDUCE_MAX", -inf: "REDUCE_MIN", 1: "SUM"}[p], part(c, "ABS", x), axes, keepdim)
    if p == 0:
        return reduced(c, "SUM", cast(c, part(c, "NOT_EQUAL", x, 0.0, dtype=DType.BOOL), x.type.dtype), axes, keepdim)
    if p == 2:
        return part(c, "SQRT", reduced(c, "SUM", part(c, "MUL", x, x), axes, keepdim))
    return part(c, "POW", reduced(c, "SUM", part(c, "POW", part(c, "ABS", x), p), axes, keepdim), 1 / p)


@lowers("aten::logsumexp")
def logsumexp(c: Context, x: Value, dim: Dims, keepdim: bool) -> Value:
    """Less the maximum, so that no power overflows."""
    axes = axes_of(c, dim)
    top = reduced(c, "REDUCE_MAX", x, axes)
    total = reduced(c, "SUM", part(c, "EXP", part(c, "SUB", x, top)), axes, keepdim)
    return given(c, part(c, "ADD", part(c, "LOG", total), reshaped(c, top, total.type.shape)), dim, keepdim)


# -- what all need


def axes_of(c: Context, dim: Dims) -> list[int]:
    """The axes that hold PyTorch's dimensions; all of them if none is told."""
    return sorted(map(c.axis, _dims(c, dim)))


def _dims(c: Context, dim: Dims) -> list[int]:
    rank = len(c.order)
    dims = [dim] if isinstance(dim, int) else dim
    return [d % rank for d in dims or range(rank)]


def reduced(c: Context, op: str, x: Value, axes: Sequence[int], keepdim: bool = True) -> Value:
    """``x`` with one element along each of the axes, or without them."""
    shape = [1 if axis in axes else size for axis, size in enumerate(x.type.shape) if keepdim or axis not in axes]
    return c.emit_as(x.type.reshape(shape), op, x, c.const(list(axes), "axes"), keep_dims=keepdim)


def given(c: Context, value: Value, dim: Dims, keepdim: bool, index: int = 0) -> Value:
    """``value`` as result ``index`` of a call that reduces along ``dim``."""
    return c.as_result(value, c.order if keepdim else _without(c.order, _dims(c, dim)), index)


def _without(order: Perm, dims: Sequence[int]) -> Perm:
    """The order of what is left when ``dims`` are gone, the others counted anew."""
    kept = [d for d in range(len(order)) if d not in dims]
    return tuple(kept.index(d) for d in order if d in kept)
