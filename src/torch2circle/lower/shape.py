"""Views: the same elements in another shape or order of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .context import Context, Perm, Placed, channels_last, plain
from .registry import Order, lowers


@lowers("aten::dropout", "aten::feature_dropout", order=Order.FREE, ignores=("p", "train"))
def dropout(c: Context, x: Placed) -> Placed:
    return x


@lowers("aten::native_dropout", order=Order.FREE, ignores=("p",))
def native_dropout(c: Context, x: Placed, train: bool | None) -> tuple[Placed, None]:
    c.only(not train and not c.is_read(1), "train", train, "False, and the mask not read")
    return x, None


@lowers("aten::contiguous", "aten::clone", "aten::detach", "aten::alias", "aten::lift_fresh", order=Order.FREE)
def identity(c: Context, x: Placed) -> Placed:
    return x


@lowers("aten::view", "aten::reshape", "aten::_unsafe_view", order=Order.FREE, ignores=("size", "shape"))
@lowers("aten::_reshape_alias", order=Order.FREE, ignores=("size", "stride"))
@lowers("aten::flatten.using_ints", order=Order.FREE, ignores=("start_dim", "end_dim"))
@lowers("aten::unsqueeze", "aten::squeeze.dim", "aten::squeeze.dims", "aten::squeeze", order=Order.FREE, ignores=("dim",))
@lowers("aten::unflatten.int", order=Order.FREE, ignores=("dim", "sizes"))
def view(c: Context, x: Placed) -> Placed:
    """All of them are one thing: the same elements in the shape that PyTorch's result has."""
    c.only(prod(x.shape) == prod(c.out_shape), "size", list(c.out_shape), "of as many elements")  # which one of them does not check
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


def viewed(c: Context, x: Placed, shape: Perm, index: int = 0) -> Placed:
    """``x`` in another shape, as result ``index`` of the call.

    No element moves if each group of dimensions that the view splits or merges lies together in ``x``; otherwise the groups are brought
    together first, and the rest stays where it is.
    """
    if x.shape == shape:
        return x
    together = _together(x, shape)
    value = c.builder.arrange(x, together)
    order = _order_after(Placed(value, together), shape)
    axes = tuple(shape[d] for d in order)
    if axes == value.type.shape:
        return Placed(value, order)
    return Placed(c.emit_result(index, "RESHAPE", value, c.const(list(axes), "shape"), order=order, new_shape=list(axes)), order)


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
        while (pa := prod(old[d] for d in a)) != (pb := prod(new[d] for d in b)):
            (a if pa < pb else b).append((left if pa < pb else right).pop(0))
        groups.append((a, b))
    return groups
