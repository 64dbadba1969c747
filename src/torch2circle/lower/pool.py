"""Pools: the maximum or the average of each window, in one to three dimensions, with a batch or without.

The file's pools are those of an image [N, H, W, C]; every other one is made of them by reshaping.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import prod
from typing import Any

import numpy as np

from ..ir import Array, Quant, Value
from .context import Context, Perm, Placed, reshaped
from .conv import Window, as_result, each, images, one_image
from .registry import Order, lowers
from .window import is_same, pad, padded_window

Span = tuple[int, int]  # the first element of a window, and the last + 1

# Windows of so many shapes are averaged shape by shape, others by one product with a matrix; larger matrices are worth more shapes.
FEW, MANY, SMALL_MATRIX, LARGEST_MATRIX = 4, 25, 1 << 16, 4 << 20


@dataclass(frozen=True)
class Slide:
    """``out`` windows of ``kernel`` elements along an axis, ``stride`` apart, the first one ``front`` elements before its start."""

    out: int
    kernel: int
    stride: int
    front: int = 0

    def is_same(self, size: int) -> bool:
        """Whether TFLite's SAME is meant."""
        return is_same(size, self.out, self.stride, self.kernel, self.front)


# -- maxima


@lowers("aten::max_pool1d", "quantized::max_pool1d", "aten::quantized_max_pool1d", order=Order.FREE, ignores=("ceil_mode",), dims=1)
@lowers("aten::max_pool2d", "quantized::max_pool2d", "aten::quantized_max_pool2d", order=Order.FREE, ignores=("ceil_mode",), dims=2)
@lowers("aten::max_pool3d", "aten::quantized_max_pool3d", order=Order.FREE, ignores=("ceil_mode",), dims=3)
def max_pool(
    c: Context, x: Placed, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], dims: int
) -> Value:
    volume = images(c, x, dims)
    return as_result(c, _maxima(c, volume, _slides(c, kernel_size, stride, padding, dims), each(dilation, dims)), dims)


@lowers("aten::max_pool1d_with_indices", order=Order.FREE, ignores=("ceil_mode",), dims=1)
@lowers("aten::max_pool2d_with_indices", order=Order.FREE, ignores=("ceil_mode",), dims=2)
@lowers("aten::max_pool3d_with_indices", order=Order.FREE, ignores=("ceil_mode",), dims=3)
def max_pool_with_indices(
    c: Context, x: Placed, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], dims: int
) -> tuple[Value, None]:
    c.only(not c.is_read(1), "indices", "read by the model", "the maxima alone")
    return max_pool(c, x, kernel_size, stride, padding, dilation, dims), None


@lowers("aten::adaptive_max_pool1d", order=Order.FREE, ignores=("output_size",), dims=1)
@lowers("aten::adaptive_max_pool2d", order=Order.FREE, ignores=("output_size",), dims=2)
@lowers("aten::adaptive_max_pool3d", order=Order.FREE, ignores=("output_size",), dims=3)
def adaptive_max_pool(c: Context, x: Placed, dims: int) -> tuple[Value, None]:
    """A window is made as long as the longest one by taking its last element more than once."""
    c.only(not c.is_read(1), "indices", "read by the model", "the maxima alone")
    volume = images(c, x, dims)
    slides = []
    for axis, spans in enumerate(_adaptive_spans(c, volume, dims), 1):
        longest = max(b - a for a, b in spans)
        volume, slide = _side_by_side(c, volume, axis, [[min(a + i, b - 1) for i in range(longest)] for a, b in spans])
        slides.append(slide)
    return as_result(c, _maxima(c, volume, slides, [1] * dims), dims), None


def _maxima(c: Context, volume: Value, slides: Sequence[Slide], dilations: Sequence[int]) -> Value:
    """A plain image has an operator; otherwise the maxima are those along each axis, one after the other."""
    if len(slides) == 2 and set(dilations) == {1}:
        return _pool(c, "MAX_POOL_2D", volume, *slides)
    for axis, (slide, dilation) in enumerate(zip(slides, dilations, strict=True), 1):
        volume = _max_along(c, volume, axis, slide, dilation)
    return volume


def _max_along(c: Context, x: Value, axis: int, slide: Slide, dilation: int) -> Value:
    """The maxima of windows along one axis, which becomes the rows of an image."""
    shape = x.type.shape
    line = reshaped(c, x, (prod(shape[:axis]), shape[axis], 1, prod(shape[axis + 1 :])))
    maxima = _dilated(c, line, slide, dilation) if dilation > 1 else _pool(c, "MAX_POOL_2D", line, slide)
    return reshaped(c, maxima, (*shape[:axis], slide.out, *shape[axis + 1 :]))


def _dilated(c: Context, line: Value, slide: Slide, dilation: int) -> Value:
    """In rows of ``dilation`` elements, those of one window are one above the other; of all such windows, every ``stride``-th is wanted."""
    before, size, _, behind = line.type.shape
    last = (slide.out - 1) * slide.stride + 1
    rows = -(-max(slide.front + size, last + (slide.kernel - 1) * dilation) // dilation)
    line = pad(c, line, [(0, 0), (slide.front, rows * dilation - slide.front - size), (0, 0), (0, 0)], lowest=True)
    maxima = _pool(c, "MAX_POOL_2D", reshaped(c, line, (before, rows, dilation, behind)), Slide(rows - slide.kernel + 1, slide.kernel, 1))
    return _taken(c, reshaped(c, maxima, (before, maxima.type.shape[1] * dilation, 1, behind)), 1, range(0, last, slide.stride))


# -- averages


@lowers("aten::avg_pool1d", order=Order.FREE, ignores=("ceil_mode",), dims=1, divisor_override=None)
@lowers("aten::avg_pool2d", order=Order.FREE, ignores=("ceil_mode",), dims=2)
@lowers("aten::avg_pool3d", order=Order.FREE, ignores=("ceil_mode",), dims=3)
def avg_pool(
    c: Context,
    x: Placed,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    count_include_pad: bool,
    divisor_override: int | None,
    dims: int,
) -> Value | Placed:
    """PyTorch counts padding, but not what ``ceil_mode`` adds behind it; the file's SAME counts only elements of the image."""
    volume = images(c, x, dims)
    slides = _slides(c, kernel_size, stride, padding, dims)
    sizes = volume.type.shape[1:-1]
    if dims == 2 and not count_include_pad and divisor_override is None and all(map(Slide.is_same, slides, sizes)):
        return as_result(c, _pool(c, "AVERAGE_POOL_2D", volume, *slides), dims)
    spans = [_spans(slide, size) for slide, size in zip(slides, sizes, strict=True)]
    if count_include_pad:
        ends = [(s.front, max(row[-1][1] - size, 0)) for s, row, size in zip(slides, spans, sizes, strict=True)]
        around = _padded(c, volume, ends)
        spans = [[(a + s.front, b + s.front) for a, b in row] for s, row in zip(slides, spans, strict=True)]
    else:
        around = volume
        spans = [[(max(a, 0), min(b, size)) for a, b in row] for row, size in zip(spans, sizes, strict=True)]
    made = _averages(c, around, spans, divisor_override)
    return x if made is volume else as_result(c, made, dims)


def _spans(slide: Slide, size: int) -> list[Span]:
    starts = [i * slide.stride - slide.front for i in range(slide.out)]
    return [(a, min(a + slide.kernel, size + slide.front)) for a in starts]


@lowers("aten::adaptive_avg_pool1d", order=Order.FREE, ignores=("output_size",), dims=1)
@lowers("aten::adaptive_avg_pool2d", "aten::_adaptive_avg_pool2d", order=Order.FREE, ignores=("output_size",), dims=2)
@lowers("aten::adaptive_avg_pool3d", "aten::_adaptive_avg_pool3d", order=Order.FREE, ignores=("output_size",), dims=3)
def adaptive_avg_pool(c: Context, x: Placed, dims: int) -> Value | Placed:
    volume = images(c, x, dims)
    made = _averages(c, volume, _adaptive_spans(c, volume, dims))
    return x if made is volume else as_result(c, made, dims)


def _adaptive_spans(c: Context, volume: Value, dims: int) -> list[list[Span]]:
    """PyTorch's windows: floor(i * n / out) to ceil((i + 1) * n / out)."""
    sizes = zip(volume.type.shape[1:-1], c.out_shape[-dims:], strict=True)
    return [[(i * n // out, -(-(i + 1) * n // out)) for i in range(out)] for n, out in sizes]


def _averages(c: Context, x: Value, spans: Sequence[Sequence[Span]], divisor: int | None = None) -> Value:
    """The averages of all windows that have one of ``spans`` along each axis, rounded once."""
    shapes, products = prod(len(_alike(row)) for row in spans), prod(x.type.shape[1:-1]) * prod(map(len, spans))
    if divisor is not None or shapes > (FEW if products <= SMALL_MATRIX else MANY):
        return _by_matrix(c, x, spans, divisor)
    return _shape_by_shape(c, x, spans)


def _shape_by_shape(c: Context, x: Value, spans: Sequence[Sequence[Span]]) -> Value:
    for axis, row in enumerate(spans, 1):
        if len(parts := _alike(row)) > 1:
            made = [_shape_by_shape(c, x, [*spans[: axis - 1], part, *spans[axis:]]) for part in parts]
            shape = (*made[0].type.shape[:axis], len(row), *made[0].type.shape[axis + 1 :])
            return c.emit_as(x.type.reshape(shape), "CONCATENATION", *made, axis=axis, fused_activation_function="NONE")
    return _average(c, x, spans)


def _alike(row: Sequence[Span]) -> list[list[Span]]:
    """Runs of windows of one length."""
    return [list(run) for _, run in groupby(row, lambda span: span[1] - span[0])]


def _average(c: Context, x: Value, spans: Sequence[Sequence[Span]]) -> Value:
    """All windows have one shape."""
    n, *sizes, channels = x.type.shape
    outs = [len(row) for row in spans]
    if all(row == [(0, size)] for row, size in zip(spans, sizes, strict=True)):
        image = reshaped(c, x, (n, sizes[0], prod(sizes[1:]), channels))
        mean = c.emit_as(x.type.reshape((n, 1, 1, channels)), "MEAN", image, c.const([1, 2], "axes"), keep_dims=True)
        return reshaped(c, mean, (n, *outs, channels))
    slides = []
    for axis, row in enumerate(spans, 1):
        x, slide = _side_by_side(c, x, axis, [range(a, b) for a, b in row])
        slides.append(slide)
    if outs == sizes and all(s.kernel == 1 for s in slides):
        return x
    if len(slides) == 3:
        x, slides = _flat(c, x, *slides)
    image = reshaped(c, x, (*x.type.shape[:-1], 1, channels)) if len(slides) == 1 else x
    return reshaped(c, _pool(c, "AVERAGE_POOL_2D", image, *slides), (n, *outs, channels))


def _flat(c: Context, x: Value, depth: Slide, rows: Slide, columns: Slide) -> tuple[Value, list[Slide]]:
    """[N, D, H, W, C] as an image whose windows hold the same elements: the slices of a window of the depth become every row's own rows."""
    n, _, h, w, channels = x.type.shape
    if rows.kernel == columns.kernel == rows.stride == columns.stride == 1:
        return reshaped(c, x, (n, x.type.shape[1], h * w, channels)), [depth, Slide(h * w, 1, 1)]
    image = one_image(c, x, Window((depth.kernel, 1, 1), (depth.stride, 1, 1), (depth.front, 0, 0), (1, 1, 1)), depth.out, grouped=True)
    k = depth.kernel
    return image, [Slide(rows.out, rows.kernel * k, rows.stride * k, rows.front * k), columns]


def _permuted(c: Context, x: Value, perm: Perm) -> Value:
    return c.emit_as(x.type.permute(perm), "TRANSPOSE", x, c.const(list(perm), "perm"))


def _by_matrix(c: Context, x: Value, spans: Sequence[Sequence[Span]], divisor: int | None) -> Value:
    """Windows of any shapes as a FULLY_CONNECTED over all pixels with weights 0 and 127 and a scale 1/(127 * count) for each window.

    In integers this is exact: the products add up to the sum of the window, and the scale divides once.
    """
    n, *sizes, channels = x.type.shape
    pixels, outs = prod(sizes), [len(row) for row in spans]
    c.only(
        pixels * prod(outs) <= LARGEST_MATRIX, "number of irregular windows", f"{_by(sizes)} pixels to {_by(outs)}", "at most 4 M products"
    )
    matrix: Array = np.ones((1, 1), np.int8)
    counts: Array = np.ones(1)
    for row, size in zip(spans, sizes, strict=True):
        held = np.array([[a <= i < b for i in range(size)] for a, b in row], np.int8)
        matrix, counts = np.kron(matrix, held), np.kron(counts, [b - a for a, b in row])
    weight, bias = _averaging(c, matrix, counts if divisor is None else np.full_like(counts, divisor), x)
    lines = reshaped(c, _permuted(c, reshaped(c, x, (n, pixels, channels)), (0, 2, 1)), (n * channels, pixels))
    attrs: dict[str, Any] = {"fused_activation_function": "NONE", "keep_num_dims": False}
    made = c.emit_as(x.type.reshape((n * channels, len(counts))), "FULLY_CONNECTED", lines, weight, bias, **attrs)
    return reshaped(c, _permuted(c, reshaped(c, made, (n, channels, len(counts))), (0, 2, 1)), (n, *outs, channels))


def _by(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))


def _averaging(c: Context, matrix: Array, counts: Array, x: Value) -> tuple[Value, Value]:
    if x.type.quant is None:
        return c.const((matrix / counts[:, None]).astype(np.float32), "averaging"), c.const(np.zeros(len(counts), np.float32), "zero")
    # 127 and not 1: kernels that round the multiplier to fixed point lose least with a large accumulator
    scale = (1 / (127 * counts)).astype(np.float32)
    zeros = np.zeros(len(counts), np.int64)
    bias = Quant((x.type.quant.scale[0] * scale).astype(np.float32), zeros, 0)
    return c.const(matrix * np.int8(127), "averaging", Quant(scale, zeros, 0)), c.const(zeros.astype(np.int32), "zero", bias)


# -- what both need


def _slides(c: Context, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dims: int) -> list[Slide]:
    facts = (c.out_shape[-dims:], *(each(v, dims) for v in (kernel_size, stride or kernel_size, padding)))
    return [Slide(*fact) for fact in zip(*facts, strict=True)]


def _padded(c: Context, volume: Value, ends: Sequence[tuple[int, int]]) -> Value:
    """Zeros around the spatial dimensions; around the depth apart, since runtimes pad no more than four dimensions."""
    n, *sizes, channels = volume.type.shape
    if len(sizes) < 3:
        return pad(c, volume, [(0, 0), *ends, (0, 0)])
    image = pad(c, reshaped(c, volume, (n * sizes[0], *sizes[1:], channels)), [(0, 0), *ends[1:], (0, 0)])
    _, h, w, _ = image.type.shape
    line = pad(c, reshaped(c, image, (n, sizes[0], h * w * channels)), [(0, 0), ends[0], (0, 0)])
    return reshaped(c, line, (n, line.type.shape[1], h, w, channels))


def _pool(c: Context, op: str, image: Value, rows: Slide, columns: Slide | None = None) -> Value:
    """A pool over an image, the columns as they are if nothing is told of them. Padding is the lowest value, as maxima want it."""
    n, _, width, channels = image.type.shape
    columns = columns or Slide(width, 1, 1)
    kernel, stride, outs, front = ((getattr(rows, name), getattr(columns, name)) for name in ("kernel", "stride", "out", "front"))
    image, padding = padded_window(c, image, kernel, stride, front, outs=outs, lowest=True, average=op == "AVERAGE_POOL_2D")
    sizes: dict[str, Any] = {"filter_height": kernel[0], "filter_width": kernel[1], "stride_h": stride[0], "stride_w": stride[1]}
    type_ = image.type.reshape((n, *outs, channels))
    return c.emit_as(type_, op, image, padding=padding, fused_activation_function="NONE", **sizes)


def _side_by_side(c: Context, x: Value, axis: int, windows: Sequence[Sequence[int]]) -> tuple[Value, Slide]:
    """``x`` with the elements of all windows (of one length) along an axis in order, and how they follow each other."""
    out, kernel = len(windows), len(windows[0])
    steps = {b[0] - a[0] for a, b in pairwise(windows)} or {kernel}
    if len(steps) == 1 and 0 not in steps and all(w[-1] - w[0] == kernel - 1 for w in windows):
        return x, Slide(out, kernel, steps.pop(), front=-windows[0][0])
    return _taken(c, x, axis, [i for window in windows for i in window]), Slide(out, kernel, kernel)


def _taken(c: Context, x: Value, axis: int, index: Sequence[int]) -> Value:
    """The elements of an axis at constant places."""
    if list(index) == list(range(x.type.shape[axis])):
        return x
    type_ = x.type.reshape((*x.type.shape[:axis], len(index), *x.type.shape[axis + 1 :]))
    return c.emit_as(type_, "GATHER", x, c.const(list(index), "index"), axis=axis, batch_dims=0)
