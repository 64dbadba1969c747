"""Pads, and what takes the elements along a dimension in another order: constant indices of a GATHER."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..ir import Array, Value
from .context import Context, Perm, Placed, plain, reshaped
from .embedding import gathered
from .formula import cast, spread
from .registry import Order, lowers
from .window import pad as padded


def picked(c: Context, x: Value, indices: Sequence[tuple[int, Array]]) -> Value:
    """``x`` with the elements of some axes taken by constant indices, (axis, index) one after the other, as the call's result."""
    for axis, index in indices[:-1]:
        shape = (*x.type.shape[:axis], len(index), *x.type.shape[axis + 1 :])
        x = c.emit_as(x.type.reshape(shape), "GATHER", x, _index(c, index), axis=axis, batch_dims=0)
    axis, index = indices[-1]
    return c.emit("GATHER", x, _index(c, index), axis=axis, batch_dims=0)


def _index(c: Context, index: Array) -> Value:
    return c.const(index.astype(np.int32), "index")


@lowers("aten::flip")
def flip(c: Context, x: Value, dims: Sequence[int]) -> Value:
    return picked(c, x, [(axis, np.arange(x.type.shape[axis])[::-1]) for axis in map(c.axis, dims)])


@lowers("aten::roll")
def roll(c: Context, x: Value, shifts: Sequence[int], dims: Sequence[int]) -> Value:
    if not dims:  # of all elements, in PyTorch's order
        line = reshaped(c, c.builder.arrange(Placed(x, c.order), plain(x.type.rank)), (x.type.size,))
        rolled = gathered(c, line, _index(c, np.roll(np.arange(x.type.size), shifts[0])))
        return c.emit("RESHAPE", rolled, c.const(list(c.out_shape), "shape"), order=plain(x.type.rank), new_shape=list(c.out_shape))
    axes = map(c.axis, dims)
    return picked(c, x, [(axis, np.roll(np.arange(x.type.shape[axis]), shift)) for axis, shift in zip(axes, shifts, strict=True)])


@lowers("aten::channel_shuffle", "aten::native_channel_shuffle", order=Order.LAST)
def channel_shuffle(c: Context, x: Value, groups: int) -> Value:
    return picked(c, x, [(x.type.rank - 1, np.arange(x.type.shape[-1]).reshape(groups, -1).T.reshape(-1))])


@lowers("aten::expand", ignores=("size",))
def expand(c: Context, x: Value) -> Placed:
    """Dimensions in front come with size 1 first; the file's operator then broadcasts all of them."""
    order = _with_leading(c.order, len(c.out_shape) - x.type.rank)
    x = reshaped(c, x, (*(1,) * (len(order) - x.type.rank), *x.type.shape)) if len(order) > x.type.rank else x
    shape = [c.out_shape[d] for d in order]
    if x.type.shape == tuple(shape):
        return Placed(x, order)
    return Placed(c.emit("BROADCAST_TO", x, c.const(shape, "shape"), order=order), order)


@lowers("aten::copy")
def copy(c: Context, x: Value, src: Value) -> Placed:
    """``src`` in the shape and type of ``x``."""
    return Placed(spread(c, cast(c, src, c.out_type().dtype), tuple(c.out_shape[d] for d in c.order)), c.order)


@lowers("aten::repeat")
def repeat(c: Context, x: Value, repeats: Sequence[int]) -> Placed:
    order = _with_leading(c.order, len(repeats) - x.type.rank)
    x = reshaped(c, x, (*(1,) * (len(order) - x.type.rank), *x.type.shape)) if len(order) > x.type.rank else x
    return Placed(c.emit("TILE", x, c.const([repeats[d] for d in order], "multiples"), order=order), order)


def _with_leading(order: Perm, count: int) -> Perm:
    """The order with ``count`` new dimensions in front of PyTorch's, and as the first axes."""
    return (*range(count), *(d + count for d in order))


@lowers("aten::stack")
def stack(c: Context, x: Sequence[Value], dim: int) -> Placed:
    """Every operand gets the new dimension with size 1, then they are joined along it."""
    rank, new = len(c.order), dim % len(c.out_shape)
    axis = c.axis(new) if new < rank else rank
    kept = [d + (d >= new) for d in c.order]
    order = (*kept[:axis], new, *kept[axis:])
    rows = [reshaped(c, each, (*each.type.shape[:axis], 1, *each.type.shape[axis:])) for each in x]
    return Placed(c.emit("CONCATENATION", *rows, axis=axis, fused_activation_function="NONE", order=order), order)


@lowers("aten::diagonal", order=Order.FREE)
def diagonal(c: Context, x: Placed, offset: int, dim1: int, dim2: int) -> Placed:
    rank = len(x.order)
    ends = (dim1 % rank, dim2 % rank)
    value = c.builder.arrange(x, (*(d for d in range(rank) if d not in ends), *ends))
    rows, columns = value.type.shape[-2:]
    flat = reshaped(c, value, (*value.type.shape[:-2], rows * columns))
    index = np.diagonal(np.arange(rows * columns).reshape(rows, columns), offset)
    return Placed(c.emit("GATHER", flat, _index(c, index), axis=rank - 2, batch_dims=0, order=plain(rank - 1)), plain(rank - 1))


@lowers("aten::unfold")
def unfold(c: Context, x: Value, dimension: int, size: int, step: int) -> Placed:
    """A GATHER with a matrix of indices, a row each window; the place within a window is PyTorch's last dimension."""
    axis = c.axis(dimension)
    starts = np.arange(0, x.type.shape[axis] - size + 1, step)
    order = (*c.order[: axis + 1], x.type.rank, *c.order[axis + 1 :])
    return Placed(c.emit("GATHER", x, _index(c, starts[:, None] + np.arange(size)), axis=axis, batch_dims=0, order=order), order)


@lowers("aten::im2col", order=Order.PLAIN)
def im2col(
    c: Context, x: Value, kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Value:
    """Every element of every window by its place in the padded image: the places are what PyTorch makes of an image of numbers."""
    c.only(x.type.rank == 4, "number of dimensions", x.type.rank, "4: batch, channels, height, width")
    x = padded(c, x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2]) if any(padding) else x
    n, channels, height, width = x.type.shape
    places = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    index = torch.ops.aten.im2col(places, kernel_size, dilation, [0, 0], stride).flatten().numpy()
    flat = reshaped(c, x, (n, channels, height * width))
    found = c.emit_as(flat.type.reshape((n, channels, len(index))), "GATHER", flat, _index(c, index), axis=2, batch_dims=0)
    return c.emit("RESHAPE", found, c.const(list(c.out_shape), "shape"), new_shape=list(c.out_shape))


@lowers("aten::as_strided", order=Order.PLAIN)
def as_strided(c: Context, x: Value, size: Sequence[int], stride: Sequence[int], storage_offset: int | None) -> Value:
    """Elements by their place in memory, which is known if the operand lies in it densely and in order."""
    source = c.recorded("self")
    c.only(source.is_contiguous() and source.untyped_storage().nbytes() == source.nbytes, "layout", "a view", "a contiguous tensor")
    index = torch.arange(x.type.size).as_strided(list(size), list(stride), storage_offset or 0).flatten().numpy()
    flat = reshaped(c, x, (x.type.size,))
    found = c.emit_as(x.type.reshape((len(index),)), "GATHER", flat, _index(c, index), axis=0, batch_dims=0)
    return c.emit("RESHAPE", found, c.const(list(size), "shape"), new_shape=list(size))


@lowers("aten::pad")
def pad_mode(c: Context, x: Value, pad: Sequence[int], mode: str, value: float | None) -> Value:
    if mode == "constant":
        return constant_pad(c, x, pad, value or 0.0)
    places = {axis: np.arange(-front, x.type.shape[axis] + behind) for axis, (front, behind) in _by_axis(c, pad).items() if front or behind}
    return picked(c, x, [(axis, _within(at, x.type.shape[axis], mode)) for axis, at in places.items()])


def _within(places: Array, size: int, mode: str) -> Array:
    """The element that a place before or behind ``size`` elements shows."""
    if mode == "circular":
        return places % size
    return np.clip(places, 0, size - 1) if mode == "replicate" else size - 1 - np.abs(size - 1 - np.abs(places))


@lowers("aten::reflection_pad1d", "aten::reflection_pad2d", "aten::reflection_pad3d", mode="reflect")
@lowers("aten::replication_pad1d", "aten::replication_pad2d", "aten::replication_pad3d", mode="replicate")
def pad_by_name(c: Context, x: Value, padding: Sequence[int], mode: str) -> Value:
    return pad_mode(c, x, padding, mode, None)


@lowers("aten::constant_pad_nd")
def constant_pad(c: Context, x: Value, pad: Sequence[int], value: float) -> Value:
    """Negative amounts cut off."""
    amounts = _by_axis(c, pad)
    ends = [amounts.get(axis, (0, 0)) for axis in range(x.type.rank)]
    around = [(max(front, 0), max(behind, 0)) for front, behind in ends]
    cut = [(max(-front, 0), max(-behind, 0)) for front, behind in ends]
    if any(map(any, cut)):
        begins, sizes = [front for front, _ in cut], [n - front - behind for n, (front, behind) in zip(x.type.shape, cut, strict=True)]
        x = c.emit_as(x.type.reshape(sizes), "SLICE", x, c.const(begins, "begin"), c.const(sizes, "size"))
    return c.as_result(padded(c, x, around, value=float(value))) if any(map(any, around)) else c.as_result(x) if any(map(any, cut)) else x


def _by_axis(c: Context, pad: Sequence[int]) -> dict[int, tuple[int, int]]:
    """PyTorch gives the amounts from the last dimension backwards."""
    return {c.axis(-1 - i): (pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)}


@lowers("aten::pixel_shuffle", order=Order.LAST)
def pixel_shuffle(c: Context, x: Value, upscale_factor: int) -> Value:
    """PyTorch has the place within a block behind the channel, the file's operator in front of it."""
    r = upscale_factor
    index = np.arange(x.type.shape[3]).reshape(-1, r * r).T.reshape(-1)
    x = x if x.type.shape[3] == r * r else c.emit_as(x.type, "GATHER", x, _index(c, index), axis=3, batch_dims=0)
    return c.emit("DEPTH_TO_SPACE", x, block_size=r)


@lowers("aten::pixel_unshuffle", order=Order.LAST)
def pixel_unshuffle(c: Context, x: Value, downscale_factor: int) -> Value:
    r, (n, h, w, channels) = downscale_factor, x.type.shape
    if channels == 1:
        return c.emit("SPACE_TO_DEPTH", x, block_size=r)
    deep = c.emit_as(x.type.reshape((n, h // r, w // r, channels * r * r)), "SPACE_TO_DEPTH", x, block_size=r)
    return picked(c, deep, [(3, np.arange(channels * r * r).reshape(r * r, -1).T.reshape(-1))])
