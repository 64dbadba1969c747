"""Making probes: operands with random elements, and graphs of one operator with the results that are right."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch2circle import spec
from torch2circle.ir import Array, Constant, DType, Graph, Node, Quant, Type, Value

F32, I8, U8, I32, I64, BOOL = DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT32, DType.INT64, DType.BOOL
I4, I16 = DType.INT4, DType.INT16  # both with zero point 0
BYTES, REALS, NUMBERS, ALL = (I8, U8), (F32, I8, U8), (F32, I8, U8, I32, I64), (F32, I8, U8, I32, I64, BOOL)
Attrs = dict[str, Any]
SHAPE = (1, 20, 24, 16)  # 7680 elements: kernels that miss by 1 in a few outputs of a thousand are seen
BY_RANK = {1: (960,), 2: (40, 96), 3: (12, 20, 16), 4: (3, 10, 12, 8), 5: (2, 3, 6, 5, 8), 6: (2, 3, 2, 5, 4, 3)}  # more than one image


@dataclass(frozen=True)
class Operand:
    """``stored``: the constant that this float operand is the DEQUANTIZE of; ``variable``: memory of the operator's own."""

    type: Type
    array: Array
    const: bool = False
    stored: Operand | None = None
    variable: bool = False

    @property
    def real(self) -> Array:
        quant = self.type.quant
        if quant is None:
            return self.array.astype(np.float64 if self.type.dtype is F32 else np.int64)
        shape = [1] * self.type.rank
        if quant.axis is not None:
            shape[quant.axis] = -1
        return (self.array - quant.zero_point.reshape(shape)) * quant.scale.astype(np.float64).reshape(shape)

    def value(self, name: str) -> Value:
        if self.stored is not None:
            return Node.make("DEQUANTIZE", [self.stored.value(f"{name}.stored")], [Value(self.type, name)]).out
        return Value(self.type, name, data=Constant.of(self.array) if self.const else None, variable=self.variable)


@dataclass(frozen=True)
class Probe:
    """``want``: one array for each result, not yet rounded: the position on the result's own integer grid.

    ``bound``: how far a kernel that quantizes its float activations to 8 bits may be from ``want``. ``which``: the node that is measured.
    """

    graph: Graph
    feed: list[Array]
    want: list[Array]
    bound: Array | None = None
    which: int = -1

    @property
    def node(self) -> Node:
        return self.graph.nodes()[self.which]

    @property
    def rank(self) -> int:
        return max(v.type.rank for v in (*self.node.inputs, *self.node.outputs) if v is not None)


def draw(
    seed: str, shape: Sequence[int], dtype: DType, scale: float = 0.037, zero: int = -5, *, positive: bool = False, const: bool = False
) -> Operand:
    """Random elements; ``zero`` is for int8 (128 more for uint8); ``positive`` keeps divisors away from 0."""
    rng = np.random.default_rng(zlib.crc32(f"{seed} {shape} {dtype}".encode()))
    zero += 128 if dtype is U8 else 0
    scale, zero = (scale if scale < 0.001 else 0.0004, 0) if dtype is I16 else (scale, zero)
    low = zero + 20 if positive else np.iinfo(dtype.numpy).min if dtype in BYTES else 0
    ranges = {F32: (-4.0, 4.0), BOOL: (0, 2), U8: (low, 256), I8: (low, 128), I32: (-20_000, 20_000), I64: (-(2**30), 2**30)}
    ranges |= {I16: (-(2**15), 2**15)}
    if positive:
        ranges |= {F32: (0.5, 4.0), I32: (1, 60), I64: (1, 60)}
    drawn = rng.uniform(*ranges[dtype], shape)
    array = drawn if dtype is F32 else np.floor(drawn)
    quant = Quant.per_tensor(scale, zero) if dtype in (*BYTES, I16) else None
    return Operand(Type(tuple(shape), dtype, quant), np.asarray(array, dtype.numpy), const)


def const(values: Any, dtype: DType = I32) -> Operand:
    array = np.array(values, dtype.numpy)
    return Operand(Type(array.shape, dtype), array, const=True)


def fitted(real: Array, dtype: DType) -> Quant | None:
    """The quantization that just holds the values; ``None`` for other types than bytes and int16."""
    if dtype is I16:
        return Quant.per_tensor(float(np.float32(np.abs(real).max() / 32767)), 0)
    if dtype not in BYTES:
        return None
    low, high = min(0.0, real.min()), max(0.0, real.max())
    scale = np.float32((high - low) / 255 or 1)
    return Quant.per_tensor(float(scale), int(np.rint(-low / scale)) - (128 if dtype is I8 else 0))


def fixed(op: str, dtype: DType) -> Quant | None:
    """The quantization of results that the kernels of ``op`` take for granted."""
    known = spec.OPS[op].fixed
    assert known is not None, op
    return Quant.per_tensor(known[0], known[1] + int(np.iinfo(dtype.numpy).min)) if dtype in BYTES else None


def coarse(dtype: DType) -> Quant:
    """Another quantization than ``draw`` gives: an operator that moves integers has to requantize."""
    return Quant.per_tensor(0.05, 130 if dtype is U8 else 2)


def position(real: Array, kind: Type) -> Array:
    """Where the values lie on the grid of the stored integers, saturated but not rounded."""
    if kind.quant is None:
        return np.asarray(real).astype(kind.dtype.numpy)
    info = np.iinfo(kind.dtype.numpy)
    return np.clip(real / kind.quant.scale.astype(np.float64) + kind.quant.zero_point, info.min, info.max)


def probe(
    op: str,
    operands: Sequence[Operand | None],
    reals: Any,
    dtype: DType,
    quant: Quant | str | None = "fit",
    *,
    others: Sequence[tuple[Array, DType]] = (),
    bound: Array | None = None,
    which: int = -1,
    **attrs: Any,
) -> Probe:
    """A graph of one node with the results ``reals`` (one array, or a list of them) and ``others`` that have no scale.

    ``quant="fit"`` holds the range of the results.
    """
    results = [(real, dtype) for real in (reals if isinstance(reals, list) else [reals])] + list(others)
    types = [
        Type(np.shape(real), kind, (fitted(real, kind) if isinstance(quant, str) else quant) if kind is dtype else None)
        for real, kind in results
    ]
    values = [None if o is None else o.value(f"in{i}") for i, o in enumerate(operands)]
    node = Node.make(op, values, [Value(kind, f"out{i}") for i, kind in enumerate(types)], attrs)
    fed = [(v, o.array) for v, o in zip(values, operands, strict=True) if v and o and not (v.data or v.node or v.variable)]
    inputs = tuple(v for v, _ in fed)
    graph = Graph(inputs, node.outputs, tuple(v.name for v in inputs), tuple(v.name for v in node.outputs))
    return Probe(graph, [array for _, array in fed], [position(r, t) for (r, _), t in zip(results, types, strict=True)], bound, which)
