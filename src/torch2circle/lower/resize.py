"""Lines, images and volumes of another size: the nearest elements, or interpolated ones."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..ir import Array, Value
from .context import Context, Placed, channels_last, reshaped
from .conv import as_result, extents, images, triple
from .formula import real
from .pick import picked
from .registry import Order, lowers

SCALES = ("scales", "scales_d", "scales_h", "scales_w")
SAID = ("output_size", "scale_factors", *SCALES)


def resizing(*names: str) -> list[str]:
    """The forms with a scale for each dimension, and with a list of them."""
    return [f"aten::{name}{form}" for name in names for form in ("", ".vec")]


@lowers(*resizing("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"), ignores=SAID, exact=False)
@lowers(*resizing("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"), ignores=SAID, exact=True)
def nearest(c: Context, x: Value, exact: bool) -> Value | Placed:
    """Constant places along each axis; for an image that is stretched to its size the file has an operator."""
    if c.order == channels_last(4) and _is_stretched(c):
        return c.emit("RESIZE_NEAREST_NEIGHBOR", x, c.const(list(c.out_shape[2:]), "size"), align_corners=False, half_pixel_centers=exact)
    one = torch.ops.aten._upsample_nearest_exact1d if exact else torch.ops.aten.upsample_nearest1d
    moved = []
    for dim, scale in enumerate(_scales(c), 2):
        size = x.type.shape[c.axis(dim)]
        places = one(torch.arange(size, dtype=torch.float64).view(1, 1, size), [c.out_shape[dim]], scale).flatten()
        if places.tolist() != list(range(size)):
            moved.append((c.axis(dim), places.numpy()))
    return picked(c, x, moved) if moved else Placed(x, c.order)


@lowers(*resizing("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"), order=Order.FREE, ignores=SAID)
def linear(c: Context, x: Placed, align_corners: bool) -> Value:
    """The file stretches images to their size; the depth of a volume is the height of another image."""
    if not align_corners and not _is_stretched(c):
        return interpolated(c, x, align_corners, torch.ops.aten.upsample_bilinear2d)
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


@lowers(*resizing("upsample_bicubic2d"), order=Order.FREE, ignores=SAID, resize=torch.ops.aten.upsample_bicubic2d)
@lowers(*resizing("_upsample_bilinear2d_aa"), order=Order.FREE, ignores=SAID, resize=torch.ops.aten._upsample_bilinear2d_aa)
@lowers(*resizing("_upsample_bicubic2d_aa"), order=Order.FREE, ignores=SAID, resize=torch.ops.aten._upsample_bicubic2d_aa)
def interpolated(c: Context, x: Placed, align_corners: bool, resize: Callable[..., Tensor]) -> Value:
    """Along each axis a product with a constant matrix, which is the identity with its columns resized."""
    made = real(c, x.value)
    for dim, scale in enumerate(_scales(c), 2):
        size, out = x.shape[dim], c.out_shape[dim]
        columns = resize(torch.eye(size)[None, None], [size, out], align_corners, None, scale)[0, 0]
        made = _along(c, made, x.order.index(dim), columns.T.numpy())
    if x.value.type.quant is not None:
        made = c.emit_as(x.value.type.reshape(made.type.shape), "QUANTIZE", made)
    return c.as_result(made, x.order)


def _along(c: Context, x: Value, axis: int, matrix: Array) -> Value:
    """``matrix`` times the elements along an axis."""
    shape, out = x.type.shape, len(matrix)
    before, behind = prod(shape[:axis]), prod(shape[axis + 1 :])
    if behind == 1:
        operands = reshaped(c, x, (before, shape[axis])), c.const(matrix.T, "matrix")
    else:
        operands = c.const(matrix[None], "matrix"), reshaped(c, x, (before, shape[axis], behind))
    type_ = x.type.reshape((before, out) if behind == 1 else (before, out, behind))
    product = c.emit_as(type_, "BATCH_MATMUL", *operands, adjoint_lhs=False, adjoint_rhs=False)
    return reshaped(c, product, (*shape[:axis], out, *shape[axis + 1 :]))


def _scales(c: Context) -> list[float | None]:
    """By how much each dimension is to grow; None if its sizes say it."""
    told = c.call.args.get("scale_factors", [scale for name, scale in c.call.args.items() if name in SCALES])
    return told or [None] * (len(c.out_shape) - 2)


def _is_stretched(c: Context) -> bool:
    """Whether the sizes say it: with a scale that is not a ratio of sizes, the last elements are not the operand's last ones."""
    sizes = c.recorded(next(iter(c.call.args))).shape[2:]
    facts = zip(_scales(c), sizes, c.out_shape[2:], strict=True)
    return all(not scale or np.float32(1 / scale) == np.float32(size) / np.float32(out) for scale, size, out in facts)
