"""Operators that move elements without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir import Value
from .context import Context, Perm, Placed, channels_last, plain
from .registry import Order, lowers
from .window import pad as padded


@lowers("aten::dropout", "aten::feature_dropout", order=Order.FREE, ignores=("p", "train"))
def dropout(c: Context, x: Placed) -> Placed:
    return x


@lowers("aten::contiguous", "aten::clone", "aten::detach", "aten::alias", "aten::lift_fresh", order=Order.FREE)
def identity(c: Context, x: Placed) -> Placed:
    return x


@lowers("aten::view", "aten::reshape", "aten::_unsafe_view", order=Order.FREE, ignores=("size", "shape"))
@lowers("aten::flatten.using_ints", order=Order.FREE, ignores=("start_dim", "end_dim"))
@lowers("aten::unsqueeze", "aten::squeeze.dim", "aten::squeeze.dims", "aten::squeeze", order=Order.FREE, ignores=("dim",))
@lowers("aten::unflatten.int", order=Order.FREE, ignores=("dim", "sizes"))
def view(c: Context, x: Placed) -> Placed:
    """All of them are one thing: the same elements in the shape that PyTorch's result has."""
    return viewed(c, x, c.out_shape)


@lowers("aten::permute", order=Order.FREE)
def permute(c: Context, x: Placed, dims: Sequence[int]) -> Placed:
    """Dimension ``dims[j]`` becomes dimension ``j``; no element moves, the axes only change their names."""
    dims = [d % len(dims) for d in dims]
    return Placed(x.value, tuple(dims.index(d) for d in x.order))


@lowers("aten::transpose.int", order=Order.FREE)
def transpose(c: Context, x: Placed, dim0: int, dim1: int) -> Placed:
    dims = list(range(len(x.order)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(c, x, dims)


@lowers("aten::t", order=Order.FREE)
def t(c: Context, x: Placed) -> Placed:
    return permute(c, x, range(len(x.order))[::-1])


@lowers("aten::slice.Tensor")
def slice_(c: Context, x: Value, dim: int, start: int | None, end: int | None, step: int) -> Value:
    axis, size = c.axis(dim), c.out_shape[dim]
    first = slice(start, end, step).indices(x.type.shape[axis])[0]
    return part(c, x, axis, first, size, step)


@lowers("aten::select.int")
def select(c: Context, x: Value, dim: int, index: int) -> Placed:
    axis = c.axis(dim)
    begin = index % x.type.shape[axis]
    one = part_as(c, x, axis, begin, 1)
    return viewed(c, Placed(one, c.order), c.out_shape)


@lowers("aten::chunk", ignores=("chunks",))
@lowers("aten::split.Tensor", ignores=("split_size",))
@lowers("aten::split_with_sizes", "aten::split.sizes", ignores=("split_sizes", "split_size"))
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
    first, last, _ = slice(start, end, step).indices(x.type.shape[axis])
    c.only(step == 1, "step", step, "1")
    return _replaced(c, x, src, axis, first, last)


@lowers("aten::select_scatter", order=Order.PLAIN)
def select_scatter(c: Context, x: Value, src: Value, dim: int, index: int) -> Value:
    axis = dim % x.type.rank
    first = index % x.type.shape[axis]
    shape = (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :])
    row = c.emit_as(src.type.reshape(shape), "RESHAPE", src, c.const(list(shape), "shape"), new_shape=list(shape))
    return _replaced(c, x, row, axis, first, first + 1)


@lowers("aten::pad")
def pad_mode(c: Context, x: Value, pad: Sequence[int], mode: str, value: float | None) -> Value:
    c.only(mode == "constant", "mode", mode, "constant")
    return constant_pad(c, x, pad, value or 0.0)


@lowers("aten::constant_pad_nd")
def constant_pad(c: Context, x: Value, pad: Sequence[int], value: float) -> Value:
    c.only(min(pad) >= 0, "padding", list(pad), "numbers that are not negative")
    pads = [(0, 0)] * x.type.rank
    for i in range(len(pad) // 2):  # from the last dimension backwards
        pads[c.axis(-1 - i)] = (pad[2 * i], pad[2 * i + 1])
    return _as_result(c, padded(c, x, pads, value=float(value)))


@lowers("aten::channel_shuffle", "aten::native_channel_shuffle", order=Order.LAST)
def channel_shuffle(c: Context, x: Value, groups: int) -> Value:
    channels = x.type.shape[-1]
    index = np.arange(channels, dtype=np.int32).reshape(groups, -1).T.reshape(-1)
    return c.emit("GATHER", x, c.const(index, "shuffle"), axis=x.type.rank - 1, batch_dims=0)


def part(c: Context, x: Value, axis: int, begin: int, size: int, step: int = 1) -> Value:
    """``size`` elements of ``axis`` from ``begin``, as the call's result."""
    if step == 1:
        return c.emit("SLICE", x, *_range(c, x, axis, begin, size))
    starts, ends, steps = [0] * x.type.rank, list(x.type.shape), [1] * x.type.rank
    starts[axis], ends[axis], steps[axis] = begin, begin + (size - 1) * step + 1, step
    zero: dict[str, Any] = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    return c.emit("STRIDED_SLICE", x, c.const(starts, "begin"), c.const(ends, "end"), c.const(steps, "strides"), **zero)


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


def _as_result(c: Context, value: Value) -> Value:
    """The same node, its result marked as the one PyTorch gave."""
    assert value.node is not None
    return c.emit(value.node.op, *value.node.inputs, **value.node.attrs)


def viewed(c: Context, x: Placed, shape: Perm) -> Placed:
    """``x`` in another shape. No element moves if each group of dimensions that the view splits or merges lies together in ``x``;
    otherwise the groups are brought together first, and the rest stays where it is.
    """
    if x.shape == shape:
        return x
    together = _together(x, shape)
    value = c.builder.arrange(x, together)
    order = _order_after(Placed(value, together), shape)
    axes = tuple(shape[d] for d in order)
    if axes == value.type.shape:
        return Placed(value, order)
    return Placed(c.emit("RESHAPE", value, c.const(list(axes), "shape"), order=order, new_shape=list(axes)), order)


def _together(x: Placed, shape: Perm) -> Perm:
    """The order of ``x`` with the dimensions of each group next to each other, at the place of the group's first."""
    wide = [d for d in x.order if x.shape[d] != 1]
    gathered: list[int] = []
    for d in wide:
        if d not in gathered:
            gathered += next(old for old, _ in _groups(x.shape, shape) if d in old)
    return x.order if gathered == wide else (*gathered, *(d for d in x.order if x.shape[d] == 1))


def _order_after(x: Placed, shape: Perm) -> Perm:
    """The order of the viewed tensor when no element moves. Dimensions of size 1 may lie anywhere: channels last if that fits."""
    groups = _groups(x.shape, shape)
    sequence = [d for first in x.order for old, new in groups if old[0] == first for d in new]
    rank = len(shape)
    for candidate in (channels_last(rank), plain(rank)):
        if [d for d in candidate if shape[d] != 1] == sequence:
            return candidate
    return (*sequence, *(d for d in range(rank) if shape[d] == 1))


def _groups(old: Perm, new: Perm) -> list[tuple[list[int], list[int]]]:
    """The finest pairs of runs of dimensions with equal products, dimensions of size 1 apart."""
    left, right = [d for d in range(len(old)) if old[d] != 1], [d for d in range(len(new)) if new[d] != 1]
    groups = []
    while left:
        a, b = [left.pop(0)], [right.pop(0)]
        while (pa := int(np.prod([old[d] for d in a]))) != (pb := int(np.prod([new[d] for d in b]))):
            (a if pa < pb else b).append((left if pa < pb else right).pop(0))
        groups.append((a, b))
    return groups
