"""Lines, images and volumes of another size: the nearest elements, or interpolated ones."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ..ir import Array, Value
from .context import Context, Placed, channels_last, reshaped
from .conv import as_result, extents, images, triple
from .formula import real
from .pick import picked
from .registry import Order, lowers

SCALES = ("scales", "scales_d", "scales_h", "scales_w")
SAID = ("output_size", *SCALES)

Weights = Callable[[Array], tuple[Array, Array]]
"""Positions on a line -> for each the elements that it is interpolated from, by their places, and the weight of each."""


@lowers("aten::upsample_nearest1d", "aten::upsample_nearest2d", "aten::upsample_nearest3d", ignores=SAID, exact=False)
@lowers("aten::_upsample_nearest_exact1d", "aten::_upsample_nearest_exact2d", ignores=SAID, exact=True)
@lowers("aten::_upsample_nearest_exact3d", ignores=SAID, exact=True)
def nearest(c: Context, x: Value, exact: bool) -> Value | Placed:
    """Constant places along each axis; for an image that is stretched to its size the file has an operator."""
    if c.order == channels_last(4) and _steps(c) == _stretched(c):
        return c.emit("RESIZE_NEAREST_NEIGHBOR", x, c.const(list(c.out_shape[2:]), "size"), align_corners=False, half_pixel_centers=exact)
    moved = []
    for dim, step in enumerate(_steps(c), 2):
        size = x.type.shape[c.axis(dim)]
        at = ((np.arange(c.out_shape[dim]) + exact / 2) * step).astype(np.float32)
        places = np.minimum(np.floor(at), size - 1)
        if not np.array_equal(places, range(size)):
            moved.append((c.axis(dim), places))
    return picked(c, x, moved) if moved else Placed(x, c.order)


@lowers("aten::upsample_linear1d", "aten::upsample_bilinear2d", "aten::upsample_trilinear3d", order=Order.FREE, ignores=SAID)
def linear(c: Context, x: Placed, align_corners: bool) -> Value:
    """The file stretches images to their size; the depth of a volume is the height of another image."""
    if not align_corners and _steps(c) != _stretched(c):
        return _interpolated(c, x, align_corners, _between_two)
    dims = len(x.order) - 2
    n, (depth, rows, columns), channels = extents(volume := images(c, x, dims))
    deep, high, wide = triple(c.out_shape[2:], dims, 1)
    made = _resized(c, reshaped(c, volume, (n * depth, rows, columns, channels)), high, wide, align_corners)
    if deep != depth:
        made = _resized(c, reshaped(c, made, (n, depth, high * wide, channels)), deep, high * wide, align_corners)
    return as_result(c, made, dims)


def _resized(c: Context, image: Value, height: int, width: int, align_corners: bool) -> Value:
    type_ = image.type.reshape((image.type.shape[0], height, width, image.type.shape[3]))
    size = c.const([height, width], "size")
    return c.emit_as(type_, "RESIZE_BILINEAR", image, size, align_corners=align_corners, half_pixel_centers=not align_corners)


@lowers("aten::upsample_bicubic2d", order=Order.FREE, ignores=SAID)
def cubic(c: Context, x: Placed, align_corners: bool) -> Value:
    return _interpolated(c, x, align_corners, _among_four)


def _interpolated(c: Context, x: Placed, align_corners: bool, weights: Weights) -> Value:
    """Along each axis a product with a constant matrix, a row for each new element."""
    made = real(c, x.value)
    for dim, step in enumerate(_steps(c), 2):
        axis, size, out = x.order.index(dim), x.shape[dim], c.out_shape[dim]
        if align_corners:
            at = np.arange(out) * np.float32((size - 1) / (out - 1) if out > 1 else 0)
        else:
            at = (np.arange(out) + np.float32(0.5)) * step - np.float32(0.5)
        places, shares = weights(at.astype(np.float32))
        matrix = np.zeros((out, size), np.float32)
        np.add.at(matrix, (np.arange(out)[:, None], np.clip(places, 0, size - 1)), shares)
        made = _along(c, made, axis, matrix)
    return c.emit("QUANTIZE", made) if x.value.type.quant else c.as_result(made)


def _along(c: Context, x: Value, axis: int, matrix: Array) -> Value:
    shape, out = x.type.shape, len(matrix)
    before, behind = prod(shape[:axis]), prod(shape[axis + 1 :])
    if behind == 1:
        operands = reshaped(c, x, (before, shape[axis])), c.const(matrix.T, "matrix")
    else:
        operands = c.const(matrix[None], "matrix"), reshaped(c, x, (before, shape[axis], behind))
    made = (before, out) if behind == 1 else (before, out, behind)
    product = c.emit_as(x.type.reshape(made), "BATCH_MATMUL", *operands, adjoint_lhs=False, adjoint_rhs=False)
    return reshaped(c, product, (*shape[:axis], out, *shape[axis + 1 :]))


def _between_two(at: Array) -> tuple[Array, Array]:
    first = np.floor(np.maximum(at, 0))
    share = np.maximum(at, 0) - first
    return np.stack([first, first + 1], -1).astype(int), np.stack([1 - share, share], -1)


def _among_four(at: Array) -> tuple[Array, Array]:
    """The cubic convolution with the slope -0.75."""
    first = np.floor(at)
    apart = np.abs((at - first)[:, None] - np.arange(-1, 3))
    near = (1.25 * apart - 2.25) * apart**2 + 1
    far = ((-0.75 * apart + 3.75) * apart - 6) * apart + 3
    return (first[:, None] + np.arange(-1, 3)).astype(int), np.where(apart <= 1, near, far)


def _steps(c: Context) -> list[np.float32]:
    """By how much the position in the operand grows from one new element to the next: the told scale's inverse, or the sizes' ratio."""
    told = [scale for name, scale in c.call.args.items() if name in SCALES]
    return [np.float32(1 / scale) if scale else step for scale, step in zip(told, _stretched(c), strict=True)]


def _stretched(c: Context) -> list[np.float32]:
    sizes = c.recorded(next(iter(c.call.args))).shape[2:]
    return [np.float32(size) / np.float32(out) for size, out in zip(sizes, c.out_shape[2:], strict=True)]
