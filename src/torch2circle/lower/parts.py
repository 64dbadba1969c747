"""Parts of tensors, taken out or replaced."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from ..ir import Value
from ..optimize.layout import NO_MASKS
from .context import Context, Placed
from .pick import picked
from .registry import Order, lowers
from .shape import viewed


@lowers("aten::slice.Tensor")
def slice_(c: Context, x: Value, dim: int, start: int | None, end: int | None, step: int) -> Value:
    if not start and end in (None, sys.maxsize) and step == 1:
        return x  # all of it, as older releases of PyTorch record the colons of `x[:, 1:]`
    axis, size = c.axis(dim), c.out_shape[dim]
    first = slice(start, end, step).indices(x.type.shape[axis])[0]
    return part(c, x, axis, first, size, step)


@lowers("aten::chunk", ignores=("chunks",))
@lowers("aten::split.Tensor", ignores=("split_size",))
@lowers("aten::split_with_sizes", "aten::split.sizes", ignores=("split_sizes", "split_size"))
@lowers("aten::unsafe_split.Tensor", "aten::unsafe_split_with_sizes", ignores=("split_size", "split_sizes"))
def split(c: Context, x: Value, dim: int) -> Sequence[Value]:
    """SPLIT into equal parts, a SLICE for each part otherwise."""
    axis, sizes = c.axis(dim), [out.shape[dim] for out in c.outs]
    if len(set(sizes)) == 1:
        return c.emit_many("SPLIT", c.const(axis, "axis"), x, num_splits=len(sizes))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        c.emit_result(i, "SLICE", x, *_range(c, x, axis, begin, size)) for i, (begin, size) in enumerate(zip(starts, sizes, strict=True))
    ]


@lowers("aten::slice_scatter")
def slice_scatter(c: Context, x: Value, src: Value, dim: int, start: int | None, end: int | None, step: int) -> Value:
    axis = c.axis(dim)
    size = x.type.shape[axis]
    first, last, _ = slice(start, end, step).indices(size)
    if step == 1:
        return _replaced(c, x, src, axis, first, last)
    index = np.arange(size)
    index[first:last:step] = size + np.arange(src.type.shape[axis])
    both = (*x.type.shape[:axis], size + src.type.shape[axis], *x.type.shape[axis + 1 :])
    joined = c.emit_as(x.type.reshape(both), "CONCATENATION", x, src, axis=axis, fused_activation_function="NONE")
    return picked(c, joined, [(axis, index)])


@lowers("aten::select_scatter", order=Order.PLAIN)
def select_scatter(c: Context, x: Value, src: Value, dim: int, index: int) -> Value:
    axis = dim % x.type.rank
    first = index % x.type.shape[axis]
    shape = (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :])
    row = c.emit_as(src.type.reshape(shape), "RESHAPE", src, c.const(list(shape), "shape"), new_shape=list(shape))
    return _replaced(c, x, row, axis, first, first + 1)


@lowers("aten::select.int")
def select(c: Context, x: Value, dim: int, index: int) -> Placed:
    return _without(c, x, c.axis(dim), index % x.type.shape[c.axis(dim)], 0)


@lowers("aten::unbind.int")
def unbind(c: Context, x: Value, dim: int) -> Sequence[Placed | None]:
    axis = c.axis(dim)
    return [_without(c, x, axis, i, i) if c.is_read(i) else None for i in range(x.type.shape[axis])]


def _without(c: Context, x: Value, axis: int, begin: int, index: int) -> Placed:
    """One element of ``axis``, which is then gone, as result ``index`` of the call."""
    return viewed(c, Placed(part_as(c, x, axis, begin, 1), c.order), tuple(c.outs[index].shape), index)


def part(c: Context, x: Value, axis: int, begin: int, size: int, step: int = 1) -> Value:
    """``size`` elements of ``axis`` from ``begin``, as the call's result."""
    if step == 1:
        return c.emit("SLICE", x, *_range(c, x, axis, begin, size))
    starts, ends, steps = [0] * x.type.rank, list(x.type.shape), [1] * x.type.rank
    starts[axis], ends[axis], steps[axis] = begin, begin + (size - 1) * step + 1, step
    return c.emit("STRIDED_SLICE", x, c.const(starts, "begin"), c.const(ends, "end"), c.const(steps, "strides"), **NO_MASKS)


def part_as(c: Context, x: Value, axis: int, begin: int, size: int) -> Value:
    """As ``part``, but not the call's result."""
    shape = (*x.type.shape[:axis], size, *x.type.shape[axis + 1 :])
    return x if size == x.type.shape[axis] else c.emit_as(x.type.reshape(shape), "SLICE", x, *_range(c, x, axis, begin, size))


def _range(c: Context, x: Value, axis: int, begin: int, size: int) -> tuple[Value, Value]:
    begins, sizes = [0] * x.type.rank, list(x.type.shape)
    begins[axis], sizes[axis] = begin, size
    return c.const(begins, "begin"), c.const(sizes, "size")


def _replaced(c: Context, x: Value, new: Value, axis: int, first: int, last: int) -> Value:
    size = x.type.shape[axis]
    around = ((0, first), None, (last, size))
    parts = [new if r is None else part_as(c, x, axis, r[0], r[1] - r[0]) for r in around if r is None or r[1] > r[0]]
    return c.emit("CONCATENATION", *parts, axis=axis, fused_activation_function="NONE")

