"""Sliding windows: PyTorch pads by numbers, the file knows only SAME and VALID, so the rest becomes a PAD in front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..ir import DType, Value
from .context import Context

Pair = tuple[int, int]


def padded_window(
    c: Context, x: Value, kernel: Pair, stride: Pair, padding: Sequence[int], dilation: Pair = (1, 1), *, lowest: bool = False
) -> tuple[Value, str]:
    """``x`` [N, H, W, C] padded as far as needed, and ``SAME`` or ``VALID``.

    Args:
        padding: in front of H and W; what is needed behind follows from the result PyTorch gave, ``ceil_mode`` included.
        lowest: pad with the lowest value (max pooling) instead of real zero.
    """
    sizes, outs = x.type.shape[1:3], c.out_shape[2:4]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    front = list(padding)
    behind = padding_behind(c, x, reach, stride, front)
    if not any(front) and not any(behind):
        return x, "VALID"
    if all(_is_same(*facts) for facts in zip(sizes, outs, stride, reach, front, strict=True)):
        return x, "SAME"
    return pad(c, x, [(0, 0), *zip(front, behind, strict=True), (0, 0)], lowest=lowest), "VALID"


def padding_behind(c: Context, x: Value, reach: Sequence[int], stride: Pair, front: Sequence[int]) -> list[int]:
    """What windows that reach over ``reach`` elements need behind H and W for as many results as PyTorch gave."""
    facts = zip(c.out_shape[2:4], stride, reach, x.type.shape[1:3], front, strict=True)
    return [max((o - 1) * s + r - n - p, 0) for o, s, r, n, p in facts]


def _is_same(size: int, out: int, stride: int, reach: int, front: int) -> bool:
    """TFLite's SAME: ceil(size / stride) results, the odd element of padding behind."""
    total = max((out - 1) * stride + reach - size, 0)
    return out == -(-size // stride) and front == total // 2


def pad(c: Context, x: Value, pads: Sequence[tuple[int, int]], *, lowest: bool = False, value: float = 0.0) -> Value:
    """PAD with real zero, or PADV2 with the lowest value or ``value`` where that is another number."""
    shape = tuple(n + a + b for n, (a, b) in zip(x.type.shape, pads, strict=True))
    amounts = c.const(np.array(pads, np.int32), "paddings")
    fill = _fill(x, lowest, value)
    if fill is None:
        return c.emit_as(replace(x.type, shape=shape), "PAD", x, amounts)
    return c.emit_as(replace(x.type, shape=shape), "PADV2", x, amounts, c.const(fill, "pad_value", x.type.quant))


def _fill(x: Value, lowest: bool, value: float) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]] | None:
    """The element to pad with, in the integers of ``x``; None if PAD's real zero is that element."""
    dtype = x.type.dtype.numpy
    if x.type.quant is None:
        number = np.finfo(dtype).min if lowest and x.type.dtype is DType.FLOAT32 else value
        return None if number == 0 else np.array(number, dtype)
    zero_point, info = int(x.type.quant.zero_point[0]), np.iinfo(dtype)
    number = info.min if lowest else np.clip(np.rint(value / np.float64(x.type.quant.scale[0])) + zero_point, info.min, info.max)
    return None if number == zero_point else np.array(number, dtype)


def padded_same(padding: str, kernel: Pair, dilation: Sequence[int]) -> tuple[int, int]:
    """PyTorch's ``padding="same"`` or ``"valid"`` as padding in front (the odd element goes behind, stride is 1)."""
    if padding == "valid":
        return (0, 0)
    return (dilation[0] * (kernel[0] - 1) // 2, dilation[-1] * (kernel[1] - 1) // 2)
