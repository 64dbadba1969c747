"""Sliding windows: PyTorch pads by numbers, the file knows only SAME and VALID, so the rest becomes a PAD in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir import DType, Value
from .context import Context

Pair = tuple[int, int]


def padded_window(
    c: Context,
    x: Value,
    kernel: Pair,
    stride: Pair,
    padding: Sequence[int],
    dilation: Pair = (1, 1),
    *,
    outs: Sequence[int] = (),
    lowest: bool = False,
    average: bool = False,
) -> tuple[Value, str]:
    """``x`` [N, H, W, C] padded as far as needed, and ``SAME`` or ``VALID``.

    Args:
        padding: in front of H and W; what is needed behind follows from the number of results.
        outs: the results along H and W; those of PyTorch's image if not told, ``ceil_mode`` included.
        lowest: pad with the lowest value (max pooling) instead of real zero.
        average: what is padded must not count.
    """
    sizes, outs = x.type.shape[1:3], outs or c.out_shape[2:4]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    front = list(padding)
    behind = [_behind(*facts) for facts in zip(sizes, outs, stride, reach, front, strict=True)]
    told = [(size + 2 * pad - r) // s + 1 for size, pad, r, s in zip(sizes, front, reach, stride, strict=True)]
    as_told = c.builder.options.any_size and max(stride) > 1 and told == list(outs) and not average
    if as_told:  # what is needed of it depends on the size
        behind = front
    if not any(front) and not any(behind):
        return x, "VALID"
    if not as_told and all(is_same(*facts) for facts in zip(sizes, outs, stride, reach, front, strict=True)):
        return x, "SAME"
    return pad(c, x, [(0, 0), *zip(front, behind, strict=True), (0, 0)], lowest=lowest), "VALID"


def _behind(size: int, out: int, stride: int, reach: int, front: int) -> int:
    """The padding nearest to 0 with which there are ``out`` windows; negative if some must be cut off."""
    least = (out - 1) * stride + reach - front - size
    return max(least, min(least + stride - 1, 0))


def is_same(size: int, out: int, stride: int, reach: int, front: int) -> bool:
    """TFLite's SAME: ceil(size / stride) results, the odd element of padding behind."""
    total = max((out - 1) * stride + reach - size, 0)
    return out == -(-size // stride) and front == total // 2


def pad(c: Context, x: Value, pads: Sequence[tuple[int, int]], *, lowest: bool = False, value: float = 0.0) -> Value:
    """PAD with real zero, or PADV2 with the lowest value or ``value`` where that is another number; a SLICE where ``pads`` are negative."""
    x = _cut(c, x, [(max(-a, 0), max(-b, 0)) for a, b in pads])
    pads = [(max(a, 0), max(b, 0)) for a, b in pads]
    shape = tuple(n + a + b for n, (a, b) in zip(x.type.shape, pads, strict=True))
    if shape == x.type.shape:
        return x
    amounts = c.const(np.array(pads, np.int32), "paddings")
    fill = _fill(x, lowest, value)
    if fill is None:
        return c.emit_as(replace(x.type, shape=shape), "PAD", x, amounts)
    return c.emit_as(replace(x.type, shape=shape), "PADV2", x, amounts, c.const(fill, "pad_value", x.type.quant))


def _cut(c: Context, x: Value, cuts: Sequence[tuple[int, int]]) -> Value:
    shape = tuple(n - a - b for n, (a, b) in zip(x.type.shape, cuts, strict=True))
    if shape == x.type.shape:
        return x
    return c.emit_as(replace(x.type, shape=shape), "SLICE", x, c.const([a for a, _ in cuts], "begin"), c.const(list(shape), "size"))


def _fill(x: Value, lowest: bool, value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """The element to pad with, in the integers of ``x``; None if PAD's real zero is that element."""
    dtype = x.type.dtype.numpy
    if x.type.quant is None:
        number = np.finfo(dtype).min if lowest and x.type.dtype is DType.FLOAT32 else value
        return None if number == 0 else np.array(number, dtype)
    zero_point, info = int(x.type.quant.zero_point[0]), np.iinfo(dtype)
    number = info.min if lowest else np.clip(np.rint(value / np.float64(x.type.quant.scale[0])) + zero_point, info.min, info.max)
    return None if number == zero_point else np.array(number, dtype)


def padded_same(padding: str, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """PyTorch's ``padding="same"`` or ``"valid"`` as padding in front (the odd element goes behind, stride is 1)."""
    return [0 if padding == "valid" else d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]
