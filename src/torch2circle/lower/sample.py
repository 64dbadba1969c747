"""Images sampled at the positions that a grid tells: the pixels around each position, found in a list of all, and weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np

from ..ir import Array, DType, Node, Value
from .context import Context, Placed, channels_last, plain, reshaped
from .formula import cast, part, real
from .registry import Order, lowers
from .window import pad

BILINEAR, NEAREST, BICUBIC = range(3)
ZEROS, BORDER, REFLECTION = range(3)
LARGEST = 1 << 24  # up to here every whole number is one in float32

Tap = tuple[Value, Value | None]
"""The column and the row of a pixel next to each point [N, H, W, 2], and their weights if they are not 1."""


@lowers("aten::grid_sampler_2d", order=Order.FREE)
def grid_sampler(c: Context, x: Placed, grid: Placed, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Value:
    """Around the image there are zeros if positions outside are to give zeros."""
    order = channels_last(4)
    image = real(c, c.builder.arrange(x, order))
    image = pad(c, image, [(0, 0), (1, 1), (1, 1), (0, 0)]) if padding_mode == ZEROS else image
    n, rows, columns, channels = image.type.shape
    c.only(n * rows * columns <= LARGEST, "number of pixels", n * rows * columns, f"at most {LARGEST}")
    pixels = reshaped(c, image, (n * rows * columns, channels))
    points = c.builder.arrange(grid, plain(4))
    taps = _taps(c, points, np.array([x.shape[3], x.shape[2]]), interpolation_mode, padding_mode, align_corners)
    firsts = np.arange(n).reshape(n, 1, 1, 1) * [0, rows * columns]  # of the pixels of each image
    steps = [_of(c, "MUL", tap, [1, columns]) for tap, _ in taps]
    places = [_split(c, _of(c, "ADD", step, firsts) if n > 1 else step) for step in steps]
    weights = [None if weight is None else _split(c, weight) for _, weight in taps]
    total = None
    for down, across in product(range(len(taps)), repeat=2):
        index = reshaped(c, _of(c, "ADD", places[down][1], places[across][0]), points.type.shape[:3])
        pixel = _found(c, pixels, cast(c, index, DType.INT32))
        high, wide = weights[down], weights[across]
        if high is not None and wide is not None:
            pixel = part(c, "MUL", pixel, _of(c, "MUL", high[1], wide[0]))
        total = pixel if total is None else part(c, "ADD", total, pixel)
    assert total is not None
    if c.out_type().quant is not None:
        return c.emit("QUANTIZE", total, order=order)
    return c.as_result(total, order)


def _found(c: Context, pixels: Value, index: Value) -> Value:
    type_ = pixels.type.reshape((*index.type.shape, pixels.type.shape[1]))
    return c.emit_as(type_, "GATHER", pixels, index, axis=0, batch_dims=0)


def _taps(c: Context, points: Value, sizes: Array, interpolation: int, padding: int, align_corners: bool) -> list[Tap]:
    """The coordinates -1 and 1 are the first and the last pixel of a column or row, or their outer edges."""
    at = _of(c, "MUL", _of(c, "ADD", points, 1), (sizes - align_corners) / 2)
    at = at if align_corners else _of(c, "SUB", at, 0.5)

    def inside(position: Value) -> Value:
        if padding == REFLECTION:
            position = _reflected(c, position, 0 if align_corners else -0.5, sizes - align_corners)
        return position if padding == ZEROS else _between(c, position, 0, sizes - 1)

    def place(whole: Value) -> Value:
        return _of(c, "ADD", _between(c, whole, -1, sizes), 1) if padding == ZEROS else _between(c, whole, 0, sizes - 1)

    if interpolation == NEAREST:
        return [(place(_of(c, "ROUND", inside(at))), None)]
    at = inside(at) if interpolation == BILINEAR else at
    start = _of(c, "FLOOR", at)
    share = _of(c, "SUB", at, start)
    rest = _of(c, "SUB", 1, share)
    if interpolation == BILINEAR:
        return [(place(start), rest), (place(_of(c, "ADD", start, 1)), share)]
    weights = [_far(c, _of(c, "ADD", share, 1)), _near(c, share), _near(c, rest), _far(c, _of(c, "ADD", rest, 1))]
    return [(place(inside(_of(c, "ADD", start, step))), weight) for step, weight in zip(range(-1, 3), weights, strict=True)]


def _between(c: Context, value: Value, low: float, high: Array) -> Value:
    return _of(c, "MINIMUM", _of(c, "MAXIMUM", value, low), high)


def _reflected(c: Context, position: Value, low: float, spans: Array) -> Value:
    """Back and forth between ``low`` and ``low + spans``."""
    away = _of(c, "ABS", _of(c, "SUB", position, low))
    turns = _of(c, "FLOOR", _of(c, "MUL", away, 0.5 / np.maximum(spans, 1)))
    within = _of(c, "SUB", away, _of(c, "MUL", turns, 2 * spans))
    return _of(c, "SUB", low + spans, _of(c, "ABS", _of(c, "SUB", within, spans)))


def _near(c: Context, apart: Value) -> Value:
    """The cubic convolution with slope -0.75, for a pixel that is at most 1 apart: ``(1.25 d - 2.25) d d + 1``."""
    return _of(c, "ADD", _of(c, "MUL", _of(c, "MUL", _of(c, "SUB", _of(c, "MUL", apart, 1.25), 2.25), apart), apart), 1)


def _far(c: Context, apart: Value) -> Value:
    """For one that is 1 to 2 apart: ``((-0.75 d + 3.75) d - 6) d + 3``."""
    inner = _of(c, "MUL", _of(c, "SUB", 3.75, _of(c, "MUL", apart, 0.75)), apart)
    return _of(c, "ADD", _of(c, "MUL", _of(c, "SUB", inner, 6), apart), 3)


FOLDED: Mapping[str, Callable[..., Array]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "MAXIMUM": np.maximum, "MINIMUM": np.minimum,
    "FLOOR": np.floor, "ROUND": np.rint, "ABS": np.abs,
}  # fmt: skip


def _of(c: Context, op: str, *operands: Value | Array | float | list[int]) -> Value:
    """A float operator; of constants, as those of a constant grid, it is a constant."""
    values = [v if isinstance(v, Value) else c.const(np.asarray(v, np.float32)) for v in operands]
    if any(v.data is None for v in values):
        return part(c, op, *values)
    return c.const(FOLDED[op](*(v.array() for v in values)))


def _split(c: Context, pairs: Value) -> Sequence[Value]:
    """The two numbers of each point."""
    type_ = pairs.type.reshape((*pairs.type.shape[:3], 1))
    if pairs.data is not None:
        return [c.const(np.ascontiguousarray(pairs.array()[..., i : i + 1])) for i in (0, 1)]
    halves = [Value(type_, c.builder.name(f"{c.stem}.{axis}")) for axis in ("across", "down")]
    return Node.make("SPLIT", (c.const(3, "axis"), pairs), halves, {"num_splits": 2}, c.where).outputs
