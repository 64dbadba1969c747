"""Means and pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..ir import Quant, Value
from .context import Context, Perm, Placed, plain
from .registry import Order, lowers
from .window import pad, padded_window, padding_behind

# 0/1 matrices above this size are refused: an average pool of irregular windows is not worth more bytes than a network
LARGEST_MATRIX = 4 << 20


@lowers("aten::mean.dim")
def mean(c: Context, x: Value, dim: Sequence[int] | None, keepdim: bool) -> Value:
    dims = sorted(d % x.type.rank for d in (dim or range(x.type.rank)))
    axes = c.const(sorted(c.axis(d) for d in dims), "axes")
    return c.emit("MEAN", x, axes, keep_dims=keepdim, order=c.order if keepdim else _without(c.order, dims))


def _without(order: Perm, dims: Sequence[int]) -> Perm:
    """The order of what is left when ``dims`` are gone, the others counted anew."""
    kept = [d for d in range(len(order)) if d not in dims]
    return tuple(kept.index(d) for d in order if d in kept)


@lowers("aten::max_pool2d", "quantized::max_pool2d", order=Order.LAST, ignores=("ceil_mode",))
def max_pool2d(
    c: Context, x: Value, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Value:
    c.only(set(dilation) <= {1}, "dilation", list(dilation), "1")
    kernel, stride = _pair(kernel_size), _pair(stride or kernel_size)
    x, same = padded_window(c, x, kernel, stride, _pair(padding), lowest=True)
    return pool(c, "MAX_POOL_2D", x, kernel, stride, same)


@lowers("aten::avg_pool2d", order=Order.LAST)
def avg_pool2d(
    c: Context,
    x: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Value | Placed:
    kernel, stride, padding = _pair(kernel_size), _pair(stride or kernel_size), _pair(padding)
    inside = all(
        (o - 1) * s + k <= n + 2 * p for o, s, k, n, p in zip(c.out_shape[2:], stride, kernel, x.type.shape[1:3], padding, strict=True)
    )
    whole = divisor_override in (None, kernel[0] * kernel[1])
    if whole and inside and (count_include_pad or not any(padding)):
        # PyTorch counts its padding, SAME would not: the zeros must be real ones
        return pool(c, "AVERAGE_POOL_2D", _zeros_around(c, x, kernel, stride, padding), kernel, stride, "VALID")
    windows = [_windows(n, o, k, s, p) for n, o, k, s, p in zip(x.type.shape[1:3], c.out_shape[2:], kernel, stride, padding, strict=True)]
    return averages(c, x, windows[0], windows[1], count_include_pad, divisor_override)


def _zeros_around(c: Context, x: Value, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Value:
    behind = padding_behind(c, x, kernel, stride, padding)
    return pad(c, x, [(0, 0), *zip(padding, behind, strict=True), (0, 0)]) if any(padding) or any(behind) else x


@lowers("aten::adaptive_avg_pool2d", "aten::_adaptive_avg_pool2d", order=Order.LAST, ignores=("output_size",))
def adaptive_avg_pool2d(c: Context, x: Value) -> Value | Placed:
    """MEAN for one window, AVERAGE_POOL_2D for equal ones, else a matrix of averages."""
    sizes, outs = x.type.shape[1:3], c.out_shape[2:4]
    if outs == (1, 1):
        return c.emit("MEAN", x, c.const([1, 2], "axes"), keep_dims=True)
    if all(n % o == 0 for n, o in zip(sizes, outs, strict=True)):
        kernel = (sizes[0] // outs[0], sizes[1] // outs[1])
        return (
            Placed(x, c.order)
            if kernel == (1, 1) and c.out_type().quant == x.type.quant
            else pool(c, "AVERAGE_POOL_2D", x, kernel, kernel, "VALID")
        )
    # PyTorch's windows: floor(i * n / o) to ceil((i + 1) * n / o)
    windows = [[(i * n // o, -(-(i + 1) * n // o), 0) for i in range(o)] for n, o in zip(sizes, outs, strict=True)]
    return averages(c, x, windows[0], windows[1], False, None)


def pool(c: Context, op: str, x: Value, kernel: tuple[int, int], stride: tuple[int, int], padding: str) -> Value:
    sizes: dict[str, Any] = {"filter_height": kernel[0], "filter_width": kernel[1], "stride_h": stride[0], "stride_w": stride[1]}
    return c.emit(op, x, padding=padding, fused_activation_function="NONE", **sizes)


Window = tuple[int, int, int]


def _windows(size: int, out: int, kernel: int, stride: int, padding: int) -> list[Window]:
    """(first, last + 1, padding elements that count) along one dimension."""
    spans = [(i * stride - padding, min(i * stride - padding + kernel, size + padding)) for i in range(out)]
    return [(max(a, 0), min(b, size), (b - a) - (min(b, size) - max(a, 0))) for a, b in spans]


def averages(c: Context, x: Value, rows: Sequence[Window], columns: Sequence[Window], count_pad: bool, divisor: int | None) -> Placed:
    """Windows of any shape, as a FULLY_CONNECTED over all pixels with weights 0 and 127 and a scale 1/(127 * count) for each window.

    In integers this is exact: the products add up to the sum of the window, and the scale divides once.
    """
    n, h, w, channels = x.type.shape
    cells = [(r, q) for r in rows for q in columns]
    c.only(
        len(cells) * h * w <= LARGEST_MATRIX,
        "number of irregular windows",
        f"{h}x{w} pixels to {len(rows)}x{len(columns)}",
        "at most 4 M products",
    )
    matrix = np.zeros((len(cells), h, w), np.int8)
    counts = np.empty(len(cells), np.float32)
    for i, (r, q) in enumerate(cells):
        matrix[i, r[0] : r[1], q[0] : q[1]] = 1
        extra = count_pad * 1
        counts[i] = divisor or (r[1] - r[0] + extra * r[2]) * (q[1] - q[0] + extra * q[2])
    pixels = c.builder.arrange(Placed(x, c.order), plain(4))
    flat = x.type.reshape((n * channels, h * w))
    lines = c.emit_as(flat, "RESHAPE", pixels, c.const(list(flat.shape), "shape"), new_shape=list(flat.shape))
    weight, bias = _averaging(c, matrix.reshape(len(cells), h * w), counts, x)
    result = c.emit_as(
        c.out_type().reshape((n * channels, len(cells))),
        "FULLY_CONNECTED",
        lines,
        weight,
        bias,
        fused_activation_function="NONE",
        keep_num_dims=False,
    )
    return Placed(c.emit("RESHAPE", result, c.const(list(c.out_shape), "shape"), order=plain(4), new_shape=list(c.out_shape)), plain(4))


def _averaging(
    c: Context, matrix: np.ndarray[tuple[int, ...], np.dtype[np.int8]], counts: np.ndarray[tuple[int, ...], np.dtype[np.float32]], x: Value
) -> tuple[Value, Value]:
    if x.type.quant is None:
        return c.const((matrix / counts[:, None]).astype(np.float32), "averaging"), c.const(np.zeros(len(counts), np.float32), "zero")
    # 127 and not 1: kernels that round the multiplier to fixed point lose least with a large accumulator
    scale = (1 / (127 * counts.astype(np.float64))).astype(np.float32)
    zeros = np.zeros(len(counts), np.int64)
    bias = Quant((x.type.quant.scale[0] * scale).astype(np.float32), zeros, 0)
    return c.const(matrix * np.int8(127), "averaging", Quant(scale, zeros, 0)), c.const(zeros.astype(np.int32), "zero", bias)


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (value[0], value[-1])
