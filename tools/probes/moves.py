"""Operators that move elements, and resizes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from torch2circle.ir import Array, DType, Type

from .making import ALL, BY_RANK, BYTES, I32, I64, REALS, SHAPE, Attrs, Operand, Probe, coarse, const, draw, probe


def quants(x: Operand) -> tuple[Any, ...]:
    """The same quantization for the result, and another one."""
    return (x.type.quant, coarse(x.type.dtype)) if x.type.dtype in BYTES else (None,)


def joins() -> Iterator[Probe]:
    for dtype in ALL:
        for shape in (SHAPE, *BY_RANK.values()):
            for axis in sorted({0, len(shape) // 2, len(shape) - 1}):
                x, y = draw("x", shape, dtype), draw("y", shape, dtype)
                for quant in quants(x):
                    z = y if quant == x.type.quant else draw("y", shape, dtype, 0.021, 9)
                    real = np.concatenate([x.real, z.real, x.real], axis)
                    attrs: Attrs = {"axis": axis, "fused_activation_function": "NONE"}
                    yield probe("CONCATENATION", [x, z, x], real, dtype, quant, **attrs)
                    for to in (axis, len(shape)) if len(shape) < 6 else ():
                        yield probe("PACK", [x, z], np.stack([x.real, z.real], to), dtype, quant, values_count=2, axis=to)
                    parts = 2 if shape[axis] % 2 == 0 else shape[axis]
                    yield probe("SPLIT", [const(axis), x], np.split(x.real, parts, axis), dtype, quant, num_splits=parts)
                    sizes = [1, shape[axis] - 1] if shape[axis] > 1 else [1]
                    cut = np.split(x.real, np.cumsum(sizes)[:-1], axis)
                    yield probe("SPLIT_V", [x, const(sizes), const(axis)], cut, dtype, quant, num_splits=len(sizes))
                    if shape[axis] <= 24:
                        layers = [np.take(x.real, i, axis) for i in range(shape[axis])]
                        yield probe("UNPACK", [x], layers, dtype, quant, num=shape[axis], axis=axis)


def parts() -> Iterator[Probe]:
    for dtype in ALL:
        for shape in (SHAPE, *BY_RANK.values()):
            x = draw("x", shape, dtype)
            low = [min(axis, n - 1) for axis, n in enumerate(shape)]
            high = [max(b + 1, n - 1) for b, n in zip(low, shape, strict=True)]
            sizes = [h - b for b, h in zip(low, high, strict=True)]
            pads = [[axis % 2, (axis + 1) % 3] for axis in range(len(shape))]
            value = draw("value", (), dtype, const=True)
            for quant in quants(x):
                box = tuple(map(slice, low, high))
                yield probe("SLICE", [x, const(low), const(sizes)], x.real[box], dtype, quant)
                for step in (1, 2):
                    steps = [step] * len(shape)
                    stepped = x.real[tuple(map(slice, low, high, steps))]
                    yield probe("STRIDED_SLICE", [x, const(low), const(high), const(steps)], stepped, dtype, quant)
                yield probe("PAD", [x, const(pads)], np.pad(x.real, pads), dtype, quant)
                yield probe("PADV2", [x, const(pads), value], np.pad(x.real, pads, constant_values=value.real), dtype, quant)
                inner = [[min(p, n - 1) for p in pair] for pair, n in zip(pads, shape, strict=True)]
                for mode, real in (("REFLECT", np.pad(x.real, inner, "reflect")), ("SYMMETRIC", np.pad(x.real, inner, "symmetric"))):
                    yield probe("MIRROR_PAD", [x, const(inner)], real, dtype, quant, mode=mode)
                flips = {(len(shape) - 1,), (0,), tuple(range(len(shape)))[1:3] or (0,)}
                for axes in sorted(flips):
                    yield probe("REVERSE_V2", [x, const(axes)], np.flip(x.real, axes), dtype, quant)
                times = [1 + (axis in (0, len(shape) - 1)) for axis in range(len(shape))]
                yield probe("TILE", [x, const(times)], np.tile(x.real, times), dtype, quant)


def shapes() -> Iterator[Probe]:
    for dtype in ALL:
        for shape in (SHAPE, *BY_RANK.values()):
            x = draw("x", shape, dtype)
            rank = len(shape)
            axes = tuple(range(rank))
            perms = {axes[::-1], (*axes[1:], 0), (*axes[:-2], *axes[-2:][::-1])}
            for quant in quants(x):
                others: tuple[int, ...] = (*shape[:-1], 1, shape[-1]) if rank < 6 else shape[::-1]
                for new in ((x.type.size,), (x.type.size // 8, 8), others):
                    yield probe("RESHAPE", [x, const(new)], x.real.reshape(new), dtype, quant, new_shape=new)
                if rank < 6:
                    yield probe("EXPAND_DIMS", [x, const(0)], x.real[None], dtype, quant)
                    yield probe("EXPAND_DIMS", [x, const(rank)], x.real[..., None], dtype, quant)
                for perm in sorted(perms):
                    yield probe("TRANSPOSE", [x, const(perm)], x.real.transpose(perm), dtype, quant)
            thin = draw("x", (*shape[:-1], 1), dtype)
            for quant in quants(thin):
                yield probe("SQUEEZE", [thin], thin.real[..., 0], dtype, quant, squeeze_dims=(rank - 1,))
            for small in ((*shape[:-1], 1), (1, *shape[1:]), (1,), ()):
                x = draw("x", small, dtype)
                for quant in quants(x):
                    yield probe("BROADCAST_TO", [x, const(shape)], np.broadcast_to(x.real, shape), dtype, quant)
        for perm in ((0, 3, 1, 2), (0, 2, 3, 1)):
            x = draw("x", SHAPE, dtype)
            yield from (probe("TRANSPOSE", [x, const(perm)], x.real.transpose(perm), dtype, quant) for quant in quants(x))


def blocks() -> Iterator[Probe]:
    for dtype in ALL:
        for n, h, w, c in (SHAPE, BY_RANK[4]):
            x = draw("x", (n, h, w, c), dtype)
            deep = x.real.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)
            flat = x.real.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)
            apart = x.real.reshape(n, h // 2, 2, w // 2, 2, c).transpose(2, 4, 0, 1, 3, 5).reshape(4 * n, h // 2, w // 2, c)
            y = draw("y", (4 * n, h, w, c), dtype)
            along = y.real.reshape(2, 2, n, h, w, c).transpose(2, 3, 0, 4, 1, 5).reshape(n, 2 * h, 2 * w, c)
            none = const([[0, 0], [0, 0]])
            for quant in quants(x):
                yield probe("DEPTH_TO_SPACE", [x], deep, dtype, quant, block_size=2)
                yield probe("SPACE_TO_DEPTH", [x], flat, dtype, quant, block_size=2)
                yield probe("SPACE_TO_BATCH_ND", [x, const([2, 2]), none], apart, dtype, quant)
                yield probe("BATCH_TO_SPACE_ND", [y, const([2, 2]), none], along, dtype, quant)


def positions(shape: tuple[int, ...], below: int, dtype: DType, *, known: bool) -> Operand:
    array = np.random.default_rng(0).integers(0, below, shape).astype(dtype.numpy)
    return Operand(Type(shape, dtype), array, const=known)


def lookups() -> Iterator[Probe]:
    for dtype, to, known in product(ALL, (I32, I64), (True, False)):
        for shape in (SHAPE, *BY_RANK.values()):
            x = draw("x", shape, dtype, const=shape == BY_RANK[2])
            for axis in sorted({0, len(shape) // 2, len(shape) - 1}):
                for at in ((16,), (3, 4), (2, 3, 4), ()):
                    if len(shape) + len(at) <= 7:  # 6 dimensions at most
                        index = positions(at, shape[axis], to, known=known)
                        for quant in quants(x):
                            yield probe("GATHER", [x, index], np.take(x.real, index.array, axis), dtype, quant, axis=axis, batch_dims=0)
        x = draw("x", BY_RANK[3], dtype)
        for depth in (1, 2, 3):
            tuples = np.stack([np.random.default_rng(a).integers(0, BY_RANK[3][a], (5, 4)) for a in range(depth)], -1)
            index = Operand(Type(tuples.shape, to), tuples.astype(to.numpy), known)
            for quant in quants(x):
                yield probe("GATHER_ND", [x, index], x.real[tuple(np.moveaxis(tuples, -1, 0))], dtype, quant)
        if to is I32:
            rows = np.random.default_rng(2).permutation(20)[:6].reshape(6, 1)
            updates, result = draw("updates", (6, 8), dtype), np.zeros((20, 8))
            result[rows[:, 0]] = updates.real
            index = Operand(Type((6, 1), to), rows.astype(to.numpy), known)
            yield probe("SCATTER_ND", [index, updates, const([20, 8])], result.astype(updates.real.dtype), dtype, updates.type.quant)
        index = positions((5, 6), 8, to, known=known)
        on, off = draw("on", (), dtype, positive=True, const=True), draw("off", (), dtype, const=True)
        if dtype is not DType.BOOL:
            hot = np.where(index.array[..., None] == np.arange(8), on.real, off.real)
            yield probe("ONE_HOT", [index, const(8), on, off], hot, dtype, on.type.quant, axis=-1)


def centers(size: int, new: int, half_pixel: bool, aligned: bool) -> Array:
    """Where each element of the result lies in the source."""
    scale = (size - 1) / (new - 1) if aligned and new > 1 else size / new
    return (np.arange(new) + 0.5) * scale - 0.5 if half_pixel else np.arange(new) * scale


def resize_bilinear(x: Array, rows: Array, columns: Array) -> Array:
    for axis, at in ((1, rows), (2, columns)):
        at = np.clip(at, 0, x.shape[axis] - 1)
        low = np.floor(at).astype(int)
        part = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = np.take(x, low, axis) * (1 - part) + np.take(x, np.minimum(low + 1, x.shape[axis] - 1), axis) * part
    return x


def resizes() -> Iterator[Probe]:
    modes = ((False, False), (True, False), (False, True))
    for dtype, shape, (half, aligned) in product(REALS, (SHAPE, BY_RANK[4], (1, 1, 1, 8)), modes):
        x, (height, width) = draw("x", shape, dtype), shape[1:3]
        attrs: Attrs = {"align_corners": aligned, "half_pixel_centers": half}
        for new in ((2 * height, 2 * width), (3 * height, 2 * width + 1), (height // 2 or 1, width // 3 or 1), (7, 13)):
            rows, columns = centers(height, new[0], half, aligned), centers(width, new[1], half, aligned)
            half_up = 0.5 if half or aligned else 0
            near = [np.clip(np.floor(at + half_up), 0, n - 1).astype(int) for at, n in ((rows, height), (columns, width))]
            for quant in quants(x):
                yield probe("RESIZE_BILINEAR", [x, const(new)], resize_bilinear(x.real, rows, columns), dtype, quant, **attrs)
                yield probe("RESIZE_NEAREST_NEIGHBOR", [x, const(new)], x.real[:, near[0]][:, :, near[1]], dtype, quant, **attrs)


FAMILIES = (joins, parts, shapes, blocks, lookups, resizes)
