"""What is written along one dimension at given or computed places, each row of the others with places of its own."""

from __future__ import annotations

import math

import numpy as np

from ..ir import DType, Value
from .context import Context, Perm, Placed, plain, reshaped
from .formula import cast, part
from .indexing import last_named, named_places, only_floats, written
from .registry import Order, lowers

NEUTRAL = {"SUM": 0.0, "REDUCE_PROD": 1.0, "REDUCE_MAX": -np.inf, "REDUCE_MIN": np.inf}
# How what is in a place and what is written there become one; and how several that are written there do.
BOTH = {"SUM": "ADD", "REDUCE_PROD": "MUL", "REDUCE_MAX": "MAXIMUM", "REDUCE_MIN": "MINIMUM"}
REDUCTIONS = {"sum": "SUM", "mean": "SUM", "prod": "REDUCE_PROD", "amax": "REDUCE_MAX", "amin": "REDUCE_MIN"}


@lowers("aten::scatter.src", order=Order.FREE)
def scatter(c: Context, x: Placed, dim: int, index: Placed, src: Placed) -> Value:
    """Elements of both behind each other, and for each place the one that is there afterwards: the last of several, as in PyTorch."""
    _same_shape(c, index, src)
    if index.value.data is not None:
        coordinates = list(np.indices(index.shape))
        coordinates[dim] = c.builder.arrange(index, plain(len(index.order))).array()
        value, source = (c.builder.arrange(each, plain(len(x.order))) for each in (x, src))
        places = np.arange(value.type.size).reshape(value.type.shape)[tuple(coordinates)]
        return written(c, value, source, len(x.order), places, accumulate=False)
    target, named, order = _named(c, x, dim, index)
    rows, size, count = named.type.shape
    parts = reshaped(c, target, (rows, size)), reshaped(c, c.builder.arrange(src, order), (rows, count))
    joined = c.emit_as(target.type.reshape((rows, size + count)), "CONCATENATION", *parts, axis=1, fused_activation_function="NONE")
    starts = c.const(np.arange(rows, dtype=np.int32)[:, None] * (size + count), "starts")
    place = reshaped(c, part(c, "ADD", last_named(c, named), starts), target.type.shape)
    return c.emit("GATHER", reshaped(c, joined, (rows * (size + count),)), place, order=order, axis=0, batch_dims=0)


@lowers("aten::scatter.value", order=Order.FREE)
def scatter_value(c: Context, x: Placed, dim: int, index: Placed, value: float) -> Value:
    target, named, order = _named(c, x, dim, index)
    if named.type.shape[2] > 1:
        named = part(c, "GREATER", _along(c, "SUM", cast(c, named, DType.FLOAT32)), 0.0, dtype=DType.BOOL)
    number = c.const(np.array(value, target.type.dtype.numpy), "value")
    return c.emit("SELECT_V2", reshaped(c, named, target.type.shape), number, target, order=order)


@lowers("aten::scatter_add", order=Order.FREE)
def scatter_add(c: Context, x: Placed, dim: int, index: Placed, src: Placed) -> Value:
    return scatter_reduce(c, x, dim, index, src, "sum", True)


@lowers("aten::scatter_reduce.two", order=Order.FREE)
def scatter_reduce(c: Context, x: Placed, dim: int, index: Placed, src: Placed, reduce: str, include_self: bool) -> Value:
    """Along the last axis: for each place what those elements of ``src`` make that are written there, and what was there."""
    only_floats(c)
    _same_shape(c, index, src)
    target, named, order = _named(c, x, dim, index)
    (rows, size, count), op = named.type.shape, REDUCTIONS[reduce]
    old, source = reshaped(c, target, (rows, size)), reshaped(c, c.builder.arrange(src, order), (rows, 1, count))
    ones = cast(c, named, DType.FLOAT32)
    # a product, not a choice, where that cannot meet an infinity: runtimes multiply faster than they choose
    each = part(c, "MUL", ones, source) if op == "SUM" else part(c, "SELECT_V2", named, source, NEUTRAL[op])
    made = _along(c, op, each)
    written_to = None if include_self and reduce != "mean" else _along(c, "SUM", ones)
    if include_self:
        made = part(c, BOTH[op], old, made)
    if reduce == "mean" and written_to is not None:
        made = part(c, "DIV", made, part(c, "ADD" if include_self else "MAXIMUM", written_to, 1.0))
    if not include_self and written_to is not None:
        made = part(c, "SELECT_V2", part(c, "GREATER", written_to, 0.0, dtype=DType.BOOL), made, old)
    return c.as_result(reshaped(c, made, target.type.shape), order)


def _named(c: Context, x: Placed, dim: int, index: Placed) -> tuple[Value, Value, Perm]:
    """``x`` with ``dim`` last; for each of its rows and positions which of the row's indices name it; and the order of both."""
    rank = len(x.order)
    order = (*(d for d in range(rank) if d != dim % rank), dim % rank)
    target, places = c.builder.arrange(x, order), c.builder.arrange(Placed(cast(c, index.value, DType.INT32), index.order), order)
    rows, count = math.prod(places.type.shape[:-1]), places.type.shape[-1]
    c.only(places.type.shape[:-1] == target.type.shape[:-1], "shape of index", index.shape, f"{x.shape} but for dimension {dim}")
    return target, named_places(c, reshaped(c, places, (rows, count)), target.type.shape[-1]), order


def _same_shape(c: Context, index: Placed, src: Placed) -> None:
    c.only(index.shape == src.shape, "shape of src", src.shape, f"that of index: {index.shape}")


def _along(c: Context, op: str, x: Value) -> Value:
    return c.emit_as(x.type.reshape(x.type.shape[:2]), op, x, c.const([2], "axis"), keep_dims=False)
