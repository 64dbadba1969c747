"""Single elements of what a piece of a graph computes, in a runtime's own arithmetic or in real numbers.

Of a tensor with a million elements a hundred may differ: only these are computed, with what they need of the operands.
Numbers are float64, which holds every sum of products of 8-bit integers, and the integers of a tensor as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..ir import Array, Node, Value

Rounding = Literal["nearest", "twice", "single", "sixteen", "none"]
"""How sums become integers of the result, and averages:

- ``nearest``: to even, of a float32 product, as FBGEMM and XNNPACK do: ``rint(float32(sum) * float32(multiplier))``.
- ``twice``: gemmlowp's fixed point, rounded once to 31 bits and once by the shift, halves away from zero; averages round halves up.
- ``single``: the same multiplier, rounded by one shift, halves up.
- ``sixteen``: TFLite's 16-bit multiplier of 64-bit sums.
- ``none``: real numbers, and nothing is rounded anywhere.
"""
ACTIVATIONS = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}


class NotModelled(Exception):
    """An operator whose arithmetic is not here."""


@dataclass(frozen=True)
class Points:
    """Elements of the values of a piece: ``feeds`` are its inputs. Flat indices go in, numbers as the tensors hold them come out."""

    feeds: Mapping[Value, Array]
    rounding: Rounding
    moves: dict[Value, tuple[list[Value], Array]] = field(default_factory=dict)

    def at(self, value: Value, index: Array) -> Array:
        """Elements as stored: the integers of a quantized tensor (with ``none``, where between two they are)."""
        if value in self.feeds:
            return self.feeds[value].reshape(-1)[index].astype(np.float64)
        if value.data is not None:
            return value.array().reshape(-1)[index].astype(np.float64)
        result: Array = self._made(value, index.reshape(-1)).reshape(index.shape)
        return result

    def _made(self, value: Value, index: Array) -> Array:
        node = value.node
        if node is None:
            raise NotModelled("a state")
        if node.op in _MOVES:
            return self._moved(value, index)
        if node.op == "GATHER":
            return self._gathered(value, index)
        return self._summed(node, index) if node.op in _SUMS else self._computed(node, index)

    def real(self, value: Value, index: Array) -> Array:
        """What the elements stand for."""
        stored, quant = self.at(value, index), value.type.quant
        result: Array = stored
        if quant is not None and quant.axis is None:
            result = (stored - float(quant.zero_point[0])) * float(quant.scale[0])
        elif quant is not None:
            channel = np.unravel_index(index, value.type.shape)[quant.axis or 0]
            result = (stored - quant.zero_point[channel]) * quant.scale[channel].astype(np.float64)
        return result

    def _moved(self, value: Value, index: Array) -> Array:
        """Of an operator that moves elements: where each comes from is told by moving positions."""
        if value not in self.moves:
            assert value.node is not None
            self.moves[value] = _source(value.node, value.index)
        sources, places = self.moves[value]
        place = places.reshape(-1)[index]
        quant = value.type.quant
        result = np.full(index.shape, 0.0 if quant is None else float(quant.zero_point[0]))
        start = 0
        for source in sources:
            here = (place >= start) & (place < start + source.type.size)
            if here.any():
                result[here] = self._as(value, source, place[here] - start)
            start += source.type.size
        return result

    def _as(self, value: Value, source: Value, index: Array) -> Array:
        """Elements of ``source`` in the quantization of ``value``."""
        if source.type.quant == value.type.quant:
            return self.at(source, index)
        return self._stored(value, self.real(source, index))

    def _gathered(self, value: Value, index: Array) -> Array:
        node = value.node
        assert node is not None
        data, places = _operand(node, 0), _operand(node, 1)
        if places.data is not None and data.type.rank:
            where = np.arange(data.type.size).reshape(data.type.shape)
            taken = np.take(where, places.array(), node.attrs.get("axis", 0))
            return self._as(value, data, taken.reshape(-1)[index])
        if data.data is None or data.type.rank != 1:
            raise NotModelled("GATHER")
        return self._as(value, data, self.at(places, index).astype(np.int64))

    def _stored(self, value: Value, real: Array) -> Array:
        """Real numbers as the tensor holds them."""
        quant = value.type.quant
        if value.type.dtype.is_float or quant is None:
            return real if self.rounding == "none" or not value.type.dtype.is_float else real.astype(np.float32).astype(np.float64)
        if quant.axis is not None:
            raise NotModelled("a result with a scale for each channel")
        return self._clipped(value, real / float(quant.scale[0]) + float(quant.zero_point[0]))

    def _clipped(self, value: Value, q: Array) -> Array:
        info = np.iinfo(value.type.dtype.numpy)
        result: Array = np.clip(q if self.rounding == "none" else np.rint(q), info.min, info.max)
        return result

    # ---- sums of products

    def _summed(self, node: Node, index: Array) -> Array:
        taken = _SUMS[node.op](node, index)
        x, weight = _operand(node, taken.x), _operand(node, taken.weight)
        bias = node.inputs[taken.bias] if taken.bias is not None else None
        inside = taken.places >= 0
        out = node.out
        integers = out.type.quant is not None and x.type.quant is not None and weight.type.quant is not None
        if not integers:
            return self._float_sum(node, x, weight, bias, taken)
        assert x.type.quant and weight.type.quant and out.type.quant
        zero = weight.type.quant.zero_point
        per_channel = weight.type.quant.axis is not None
        channel = taken.channel if per_channel else np.zeros_like(taken.channel)
        products = (self.at(weight, taken.weights) - zero[channel][:, None]) * inside
        acc = ((self.at(x, np.maximum(taken.places, 0)) - float(x.type.quant.zero_point[0])) * products).sum(-1)
        if bias is not None:
            acc = acc + self.at(bias, taken.channel)
        scales = weight.type.quant.scale[channel].astype(np.float32)
        multiplier = x.type.quant.scale[0] * scales / out.type.quant.scale[0]
        return self._activated(node, self.requantized(acc, multiplier) + float(out.type.quant.zero_point[0]))

    def _float_sum(self, node: Node, x: Value, weight: Value, bias: Value | None, taken: Taken) -> Array:
        total = (self.real(x, np.maximum(taken.places, 0)) * self.real(weight, taken.weights) * (taken.places >= 0)).sum(-1)
        if bias is not None:
            total = total + self.real(bias, taken.channel)
        low, high = ACTIVATIONS[node.attrs.get("fused_activation_function", "NONE")]
        return self._stored(node.out, np.clip(total, low, high))

    def _activated(self, node: Node, q: Array) -> Array:
        quant = node.out.type.quant
        assert quant is not None
        low, high = (bound / float(quant.scale[0]) + float(quant.zero_point[0]) for bound in
                     ACTIVATIONS[node.attrs.get("fused_activation_function", "NONE")])  # fmt: skip
        if self.rounding != "none":
            low, high = np.rint(low), np.rint(high)
        return self._clipped(node.out, np.clip(q, low, high))

    def requantized(self, acc: Array, multiplier: Array) -> Array:
        """Sums times the multiplier, rounded as ``rounding`` says."""
        result: Array
        if self.rounding == "none":
            result = acc * multiplier.astype(np.float64)
        elif self.rounding == "nearest":
            result = np.rint(acc.astype(np.float32) * multiplier.astype(np.float32)).astype(np.float64)
        else:
            result = self._in_fixed_point(acc, multiplier).astype(np.float64)
        return result

    def _in_fixed_point(self, acc: Array, multiplier: Array) -> Array:
        fraction, exponent = np.frexp(multiplier.astype(np.float64))
        fixed, shift, sums = np.rint(fraction * 2**31).astype(np.int64), -exponent.astype(np.int64), acc.astype(np.int64)
        if self.rounding == "sixteen":
            reduced = np.where(fixed < 0x7FFF0000, (fixed + (1 << 15)) >> 16, 0x7FFF)
            total = 15 + shift
            return np.asarray((sums * reduced + (1 << (total - 1))) >> total)
        if self.rounding == "single":
            total = 31 + shift
            return np.asarray((sums * fixed + (1 << (total - 1))) >> total)
        left = np.maximum(-shift, 0)
        high = (sums * (1 << left) * fixed + 2**30) >> 31
        right = np.maximum(shift, 0)
        rest, threshold = high & ((1 << right) - 1), (1 << right) >> 1
        return np.asarray((high >> right) + (rest > threshold - (high >= 0) * (right > 0)))

    # ---- element by element

    def _computed(self, node: Node, index: Array) -> Array:
        out = node.out
        if node.op in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN"):
            return self._pooled(node, index)
        if node.op == "CAST":  # of the integers themselves
            return self.at(_operand(node, 0), index)
        if node.op not in _ELEMENTWISE:
            raise NotModelled(node.op)
        operands = [value for value in node.inputs if value is not None]
        places = [_broadcast(value, out, index) for value in operands]
        quants = [v.type.quant for v in (*operands, out) if v.type.quant is not None and v.type.quant.axis is None]
        if node.op == "MUL" and self.rounding in ("twice", "single") and len(quants) == 3:
            a, b = (self.at(v, p) - float(q.zero_point[0]) for v, p, q in zip(operands, places, quants, strict=False))
            multiplier = np.full(index.shape, quants[0].scale[0] * quants[1].scale[0] / quants[2].scale[0])
            return self._activated(node, self.requantized(a * b, multiplier) + float(quants[2].zero_point[0]))
        real = _ELEMENTWISE[node.op](node.attrs, *(self.real(v, p) for v, p in zip(operands, places, strict=True)))
        low, high = ACTIVATIONS[node.attrs.get("fused_activation_function", "NONE")]
        return self._stored(out, np.clip(real, low, high))

    def _pooled(self, node: Node, index: Array) -> Array:
        x, out = _operand(node, 0), node.out
        places = _reduced(node, index) if node.op == "MEAN" else _window(node, index)
        inside = places >= 0
        if node.op == "MAX_POOL_2D":
            return self._as_is(x, out, np.where(inside, self.at(x, np.maximum(places, 0)), -np.inf).max(-1))
        count = inside.sum(-1)
        if node.op == "AVERAGE_POOL_2D" and x.type.quant is not None and x.type.quant == out.type.quant and self.rounding != "none":
            total = (self.at(x, np.maximum(places, 0)) * inside).sum(-1)
            if self.rounding == "nearest":
                return self._clipped(out, total / count)
            half = np.floor(count / 2)  # what the kernels add before they divide and drop the rest
            return np.asarray(np.where(total >= 0, np.floor((total + half) / count), np.ceil((total - half) / count)))
        return self._stored(out, (self.real(x, np.maximum(places, 0)) * inside).sum(-1) / count)

    def _as_is(self, x: Value, out: Value, q: Array) -> Array:
        return q if x.type.quant == out.type.quant else self._stored(out, q)


def _operand(node: Node, slot: int) -> Value:
    value = node.inputs[slot]
    if value is None:
        raise NotModelled(f"{node.op} without operand {slot}")
    return value


def _attr(node: Node, key: str) -> Any:
    return node.attrs.get(key, 0)


# ---- operators that move elements


def _source(node: Node, result: int) -> tuple[list[Value], Array]:
    """The operands, and for each element of the result its position among theirs in a row; -1 is padding."""
    sources = [v for i, v in enumerate(node.inputs) if v is not None and i in _DATA.get(node.op, (0,))]
    if node.op in ("CONCATENATION", "PACK"):
        sources = [v for v in node.inputs if v is not None]
    starts = np.cumsum([0, *(v.type.size for v in sources)])
    places = [np.arange(v.type.size).reshape(v.type.shape) + start for v, start in zip(sources, starts, strict=False)]
    moved = _MOVES[node.op](node, places)
    return sources, np.asarray(moved[result] if isinstance(moved, list) else moved)


_DATA = {"SPLIT": (1,)}


def _constant(node: Node, slot: int) -> Array:
    value = _operand(node, slot)
    if value.data is None:
        raise NotModelled(f"{node.op} by computed positions")
    return value.array()


def _slice(node: Node, x: Array) -> Array:
    begin, size = _constant(node, 1), _constant(node, 2)
    taken: Array = x[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin.tolist(), size.tolist(), strict=True))]
    return taken


def _strided(node: Node, x: Array) -> Array:
    if any(node.attrs.get(key) for key in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")):
        raise NotModelled("STRIDED_SLICE with masks")
    begin, end, step = (_constant(node, slot).tolist() for slot in (1, 2, 3))
    taken: Array = x[tuple(slice(b, None if e < 0 and s < 0 else e, s) for b, e, s in zip(begin, end, step, strict=True))]
    return taken


def _depth_to_space(node: Node, x: Array) -> Array:
    block, (n, h, w, c) = node.attrs["block_size"], x.shape
    moved: Array = x.reshape(n, h, w, block, block, c // block**2).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * block, w * block, -1)
    return moved


_MOVES: dict[str, Callable[[Node, list[Array]], Any]] = {
    "RESHAPE": lambda node, x: x[0].reshape(node.out.type.shape),
    "TRANSPOSE": lambda node, x: x[0].transpose(_constant(node, 1)),
    "PAD": lambda node, x: np.pad(x[0], _constant(node, 1), constant_values=-1),
    "SLICE": lambda node, x: _slice(node, x[0]),
    "STRIDED_SLICE": lambda node, x: _strided(node, x[0]),
    "SPLIT": lambda node, x: np.split(x[0], node.attrs["num_splits"], int(_constant(node, 0).reshape(-1)[0])),
    "CONCATENATION": lambda node, x: np.concatenate(x, node.attrs.get("axis", 0)),
    "PACK": lambda node, x: np.stack(x, node.attrs.get("axis", 0)),
    "DEPTH_TO_SPACE": lambda node, x: _depth_to_space(node, x[0]),
    "SQUEEZE": lambda node, x: x[0].reshape(node.out.type.shape),
    "EXPAND_DIMS": lambda node, x: x[0].reshape(node.out.type.shape),
    "TILE": lambda node, x: np.tile(x[0], _constant(node, 1)),
    "BROADCAST_TO": lambda node, x: np.broadcast_to(x[0], node.out.type.shape),
}


# ---- sums of products: what each element needs


@dataclass(frozen=True)
class Taken:
    """For each element of the result: flat ``places`` in operand ``x`` [n, k], -1 outside; ``weights`` [n, k]; the ``channel`` [n]."""

    places: Array
    weights: Array
    channel: Array
    x: int = 0
    weight: int = 1
    bias: int | None = 2


def _window(node: Node, index: Array) -> Array:
    """Flat places [n, height * width] of a pool's window over NHWC, in the element's own channel; -1 outside."""
    own = np.unravel_index(index, node.out.type.shape)[3][:, None]
    return _places(node, index, _attr(node, "filter_height"), _attr(node, "filter_width"), own)


def _places(node: Node, index: Array, height: int, width: int, channels: Array) -> Array:
    """Flat places [n, height * width * m] for the ``channels`` [n, m] of the operand."""
    x, out = _operand(node, 0).type.shape, node.out.type.shape
    batch, row, column, _ = np.unravel_index(index, out)
    lines = []
    for at, size, kernel, axis, name in ((row, x[1], height, 1, "h"), (column, x[2], width, 2, "w")):
        stride, dilation = _attr(node, f"stride_{name}"), node.attrs.get(f"dilation_{name}_factor", 1)
        reach = (kernel - 1) * dilation + 1
        before = max((out[axis] - 1) * stride + reach - size, 0) // 2 if node.attrs.get("padding", "SAME") == "SAME" else 0
        line = at[:, None] * stride + np.arange(kernel) * dilation - before
        lines.append(np.where((line >= 0) & (line < size), line, -1))
    rows, columns = lines
    inside = (rows[:, :, None] >= 0) & (columns[:, None, :] >= 0)
    flat = (batch[:, None, None] * x[1] + rows[:, :, None]) * x[2] + columns[:, None, :]
    full = flat[..., None] * x[3] + channels[:, None, None, :]
    return np.where(inside[..., None], full, -1).reshape(len(index), -1)


def _conv(node: Node, index: Array) -> Taken:
    outs, height, width, inner = _operand(node, 1).type.shape
    channel = np.unravel_index(index, node.out.type.shape)[3]
    groups = _operand(node, 0).type.shape[3] // inner
    channels = (channel // (outs // groups))[:, None] * inner + np.arange(inner)
    weights = channel[:, None] * (height * width * inner) + np.arange(height * width * inner)
    return Taken(_places(node, index, height, width, channels), weights, channel)


def _depthwise(node: Node, index: Array) -> Taken:
    _, height, width, outs = _operand(node, 1).type.shape
    channel = np.unravel_index(index, node.out.type.shape)[3]
    channels = (channel // (outs // _operand(node, 0).type.shape[3]))[:, None]
    return Taken(_places(node, index, height, width, channels), np.arange(height * width) * outs + channel[:, None], channel)


def _linear(node: Node, index: Array) -> Taken:
    outs, inner = _operand(node, 1).type.shape
    k = np.arange(inner)
    return Taken((index // outs)[:, None] * inner + k, (index % outs)[:, None] * inner + k, index % outs)


def _transposed(node: Node, index: Array) -> Taken:
    _, height, width, inner = _operand(node, 1).type.shape
    x, out = _operand(node, 2).type.shape, node.out.type.shape
    batch, row, column, channel = np.unravel_index(index, out)
    lines = []
    for at, size, kernel, axis, name in ((row, x[1], height, 1, "h"), (column, x[2], width, 2, "w")):
        stride = _attr(node, f"stride_{name}")
        before = max((size - 1) * stride + kernel - out[axis], 0) // 2 if node.attrs.get("padding", "SAME") == "SAME" else 0
        line = at[:, None] + before - np.arange(kernel)
        lines.append(np.where((line % stride == 0) & (line >= 0) & (line < size * stride), line // stride, -1))
    rows, columns = lines
    inside = (rows[:, :, None] >= 0) & (columns[:, None, :] >= 0)
    flat = (batch[:, None, None] * x[1] + rows[:, :, None]) * x[2] + columns[:, None, :]
    places = np.where(inside[..., None], flat[..., None] * x[3] + np.arange(inner), -1).reshape(len(index), -1)
    weights = channel[:, None] * (height * width * inner) + np.arange(height * width * inner)
    return Taken(places, weights, channel, 2, 1, 3)


def _matmul(node: Node, index: Array) -> Taken:
    a, b, out = _operand(node, 0).type.shape, _operand(node, 1).type.shape, node.out.type.shape
    left, right = np.arange(int(np.prod(a))).reshape(a), np.arange(int(np.prod(b))).reshape(b)
    left = left.swapaxes(-1, -2) if node.attrs.get("adjoint_lhs") else left
    right = right if node.attrs.get("adjoint_rhs") else right.swapaxes(-1, -2)
    *batch, row, column = np.unravel_index(index, out)
    lefts, rights = (np.broadcast_to(m, (*out[:-2], *m.shape[-2:])) for m in (left, right))
    in_left, in_right = (*batch, row), (*batch, column)
    return Taken(lefts[in_left], rights[in_right], np.zeros_like(index), 0, 1, None)


_SUMS: dict[str, Callable[[Node, Array], Taken]] = {
    "CONV_2D": _conv, "DEPTHWISE_CONV_2D": _depthwise, "FULLY_CONNECTED": _linear, "TRANSPOSE_CONV": _transposed, "BATCH_MATMUL": _matmul,
}  # fmt: skip
WEIGHTED = frozenset(_SUMS)


# ---- element by element, and reductions


def _reduced(node: Node, index: Array) -> Array:
    """Flat places [n, k] of what a reduction takes together."""
    x = _operand(node, 0).type
    axes = sorted(int(a) % x.rank for a in _constant(node, 1).reshape(-1))
    kept = [a for a in range(x.rank) if a not in axes]
    count = int(np.prod([x.shape[a] for a in axes]))
    places: Array = np.arange(x.size).reshape(x.shape).transpose(*kept, *axes).reshape(-1, count)[index]
    return places


def _broadcast(value: Value, out: Value, index: Array) -> Array:
    if value.type.shape == out.type.shape:
        return index
    places = np.arange(value.type.size).reshape(value.type.shape)
    wide: Array = np.broadcast_to(places, out.type.shape).reshape(-1)[index]
    return wide


def _safe(function: Callable[..., Array]) -> Callable[..., Array]:
    def silent(attrs: Mapping[str, Any], *x: Array) -> Array:
        with np.errstate(all="ignore"):
            return function(attrs, *x)

    return silent


_ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "ADD": lambda attrs, x, y: x + y,
    "SUB": lambda attrs, x, y: x - y,
    "MUL": lambda attrs, x, y: x * y,
    "DIV": _safe(lambda attrs, x, y: x / y),
    "MAXIMUM": lambda attrs, x, y: np.maximum(x, y),
    "MINIMUM": lambda attrs, x, y: np.minimum(x, y),
    "QUANTIZE": lambda attrs, x: x,
    "DEQUANTIZE": lambda attrs, x: x,
    "RELU": lambda attrs, x: np.maximum(x, 0),
    "RELU6": lambda attrs, x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda attrs, x: np.clip(x, -1, 1),
    "LEAKY_RELU": lambda attrs, x: np.where(x > 0, x, attrs.get("alpha", 0.0) * x),
    "PRELU": lambda attrs, x, slope: np.where(x > 0, x, slope * x),
    "HARD_SWISH": lambda attrs, x: x * np.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": _safe(lambda attrs, x: 1 / (1 + np.exp(-x))),
    "TANH": lambda attrs, x: np.tanh(x),
    "ELU": _safe(lambda attrs, x: np.asarray(np.where(x > 0, x, np.expm1(x)))),
    "EXP": _safe(lambda attrs, x: np.exp(x)),
    "ABS": lambda attrs, x: np.abs(x),
    "NEG": lambda attrs, x: -x,
    "SQRT": _safe(lambda attrs, x: np.sqrt(x)),
    "RSQRT": _safe(lambda attrs, x: 1 / np.sqrt(x)),
    "SQUARE": lambda attrs, x: x * x,
    "FLOOR": lambda attrs, x: np.floor(x),
    "ROUND": lambda attrs, x: np.rint(x),
}
