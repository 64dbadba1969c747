"""Many elements to one: pools, sums, extrema and where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from torch2circle.ir import Array

from .making import BOOL, BY_RANK, BYTES, F32, I32, I64, NUMBERS, REALS, SHAPE, Attrs, Operand, Probe, coarse, const, draw, probe
from .weighted import window


def pools() -> Iterator[Probe]:
    for dtype in REALS:
        for shape in (SHAPE, BY_RANK[4]):
            x = draw("x", shape, dtype)
            for op, reduce, fill in (("MAX_POOL_2D", np.nanmax, -np.inf), ("AVERAGE_POOL_2D", np.nanmean, np.nan)):
                for size, stride, padding in (((2, 2), 2, "VALID"), ((3, 3), 2, "SAME"), ((3, 3), 1, "VALID"), (shape[1:3], 1, "VALID")):
                    real = reduce(window(x.real, size, stride, 1, padding == "SAME", fill), -1)
                    attrs: Attrs = {"padding": padding, "stride_w": stride, "stride_h": stride, "fused_activation_function": "NONE"}
                    attrs |= {"filter_height": size[0], "filter_width": size[1]}
                    for quant in (x.type.quant, coarse(dtype)) if dtype in BYTES else (None,):
                        yield probe(op, [x], real, dtype, quant, **attrs)


REDUCTIONS: dict[str, Callable[..., Array]] = {
    "MEAN": np.mean, "SUM": np.sum, "REDUCE_PROD": np.prod, "REDUCE_MAX": np.max, "REDUCE_MIN": np.min,
    "REDUCE_ANY": np.any, "REDUCE_ALL": np.all,
}  # fmt: skip
# shape and axes; the first ones are the dimensions of an image
AXES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    (SHAPE, (1, 2)), (BY_RANK[4], (1, 2)), (SHAPE, (3,)), (SHAPE, (1,)), (SHAPE, (2, 3)), (SHAPE, (1, 2, 3)), (BY_RANK[4], (0, 3)),
    (BY_RANK[1], (0,)), (BY_RANK[2], (0,)), (BY_RANK[2], (1,)), (BY_RANK[2], (0, 1)),
    (BY_RANK[3], (1,)), (BY_RANK[3], (2,)), (BY_RANK[3], (0, 2)),
    (BY_RANK[5], (2, 3)), (BY_RANK[5], (4,)), (BY_RANK[5], (1, 3)), (BY_RANK[6], (5,)),
]  # fmt: skip


def reductions() -> Iterator[Probe]:
    for op, reduce in REDUCTIONS.items():
        for dtype in (BOOL,) if op in ("REDUCE_ANY", "REDUCE_ALL") else NUMBERS:
            for shape, axes in AXES:
                x = draw("x", shape, dtype)
                if op in ("REDUCE_ANY", "REDUCE_ALL"):  # rare, so that both results occur
                    x = Operand(x.type, (np.random.default_rng(1).uniform(size=shape) < 0.02) ^ (op == "REDUCE_ALL"))
                if op == "REDUCE_PROD" and dtype is F32:
                    x = Operand(x.type, (1 + x.array / 40).astype(np.float32))
                if op == "REDUCE_PROD" and dtype not in REALS:
                    doubles = np.arange(x.array.size).reshape(shape) % 700 == 5
                    x = Operand(x.type, np.where(doubles, 2, np.sign(x.array | 1)).astype(dtype.numpy))
                if op == "REDUCE_PROD" and dtype in BYTES and np.prod([shape[a] for a in axes]) > 30:
                    continue  # the range of such a product says nothing
                other = coarse(dtype) if op in ("REDUCE_MAX", "REDUCE_MIN") else "fit"
                for keep in (True, False):
                    real = np.asarray(reduce(x.real, axis=axes, keepdims=keep))
                    real = np.trunc(real) if op == "MEAN" and dtype not in REALS else real
                    for quant in (x.type.quant, other) if dtype in BYTES else (None,):
                        yield probe(op, [x, const(axes)], real, dtype, quant, keep_dims=keep)


def places() -> Iterator[Probe]:
    for dtype in NUMBERS:
        for shape, axis in ((given, axis) for given in (SHAPE, *BY_RANK.values()) for axis in range(len(given))):
            x = draw("x", shape, dtype)
            for op, find in (("ARG_MAX", np.argmax), ("ARG_MIN", np.argmin)):
                for to in (I32, I64):
                    yield probe(op, [x, const(axis)], find(x.array, axis), to, output_type=to.name)
        for shape, k in ((SHAPE, 5), (BY_RANK[1], 7), (BY_RANK[2], 96), (BY_RANK[2], 1), (BY_RANK[3], 4), (BY_RANK[5], 3), (BY_RANK[6], 2)):
            x = draw("x", shape, dtype)
            where = np.argsort(-x.array.astype(np.float64), -1, kind="stable")[..., :k]
            real = np.take_along_axis(x.real, where, -1)
            for quant in (x.type.quant, coarse(dtype)) if dtype in BYTES else (None,):
                yield probe("TOPK_V2", [x, const(k)], real, dtype, quant, others=[(where, I32)])


def running_sums() -> Iterator[Probe]:
    for dtype in NUMBERS:
        for shape in BY_RANK.values():
            for axis in {0, len(shape) - 1}:
                for exclusive, reverse in ((False, False), (True, False), (False, True)):
                    x = draw("x", shape, dtype)
                    real = np.flip(x.real, axis) if reverse else x.real
                    real = np.cumsum(real, axis) - (real if exclusive else 0)
                    real = np.flip(real, axis) if reverse else real
                    yield probe("CUMSUM", [x, const(axis)], real, dtype, exclusive=exclusive, reverse=reverse)


FAMILIES = (pools, reductions, places, running_sums)
