"""Reductions and orders in the forms that a runtime gets right."""

from __future__ import annotations

from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from ...ir import Array, Constant, DType, Node, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import const, operand, reshape, transpose
from .common import float_type

REDUCTIONS = ("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL")
LARGEST_COMPARISON = 4 << 20  # elements of each intermediate tensor


def _fewer_dimensions(node: Node) -> Replacement:
    """Neighbouring axes that all stay or all go are one; if that does not make them few, those that go are brought together."""
    x, shape = operand(node), operand(node).type.shape
    gone = sorted(int(axis) % len(shape) for axis in operand(node, 1).array().flat)
    if len(shape) < 4 or (len(shape) == 4 and (node.attrs["keep_dims"] or gone == [1, 2])):
        return None
    runs = [(goes, prod(shape[axis] for axis in run)) for goes, run in groupby(range(len(shape)), lambda axis: axis in gone)]
    if len(shape) == 4:
        runs = [(axis in gone, size) for axis, size in enumerate(shape)]
    elif len(runs) > 4:
        kept = [axis for axis in range(len(shape)) if axis not in gone]
        x = transpose(x, [*kept, *gone], node)
        runs = [(False, prod(shape[axis] for axis in kept)), (True, prod(shape[axis] for axis in gone))]
    line = reshape(x, tuple(size for _, size in runs), node)
    axes = const(f"{node.out.name}.axes", [axis for axis, (goes, _) in enumerate(runs) if goes])
    made = emit(node.op, node.out.type.reshape([1 if goes else size for goes, size in runs]), line, axes, like=node, keep_dims=True)
    return reshape(made, node.out.type.shape, node)


fewer_dimensions: list[Rule] = [
    rule(op, why="the runtime reduces up to four dimensions, and of four drops only an image's rows and columns")(_fewer_dimensions)
    for op in REDUCTIONS
]


@rule("REDUCE_MIN", why="the runtime finds maxima only: the minimum is the maximum with the other sign")
def minimum_as_maximum(node: Node) -> Replacement:
    x, axes = operand(node), operand(node, 1)
    if not x.type.dtype.is_float:
        return None
    negative = emit("NEG", x.type, x, like=node)
    return emit("NEG", node.out.type, emit("REDUCE_MAX", node.out.type, negative, axes, like=node, **node.attrs), like=node)


@rule("TOPK_V2", why="the runtime cannot sort, but count the elements in front of each, and then pick that with the right count")
def topk_by_counting(node: Node) -> Replacement:
    x, (values, places) = operand(node), node.outputs
    *rows, n, k = *x.type.shape, values.type.shape[-1]
    count = prod(rows)
    if count * n * n > LARGEST_COMPARISON or (x.type.quant is None and not x.type.dtype.is_float):
        return None
    line = x if x.type.quant is None else emit("DEQUANTIZE", float_type(x.type), x, like=node)

    def made(op: str, dtype: DType, shape: tuple[int, ...], *inputs: Value, **attrs: Any) -> Value:
        return emit(op, Type(shape, dtype), *inputs, like=node, **attrs)

    def number(array: Array) -> Value:
        return Value(Type(array.shape, DType.FLOAT32), f"{node.out.name}.numbers", data=Constant.of(array.astype(np.float32)))

    def counted(truths: Value) -> Value:
        return made("CAST", DType.FLOAT32, truths.type.shape, truths, in_data_type="BOOL", out_data_type="FLOAT32")

    each, other = reshape(line, (count, n, 1), node), reshape(line, (count, 1, n), node)
    square = (count, n, n)
    larger = counted(made("GREATER", DType.BOOL, square, other, each))
    equal = counted(made("EQUAL", DType.BOOL, square, other, each))
    earlier = made("MUL", DType.FLOAT32, square, equal, number(np.tri(n, k=-1)[None]), fused_activation_function="NONE")
    before = made("ADD", DType.FLOAT32, square, larger, earlier, fused_activation_function="NONE")
    place = made("SUM", DType.FLOAT32, (count, n), before, const(f"{node.out.name}.axis", [2]), keep_dims=False)
    fills = made("EQUAL", DType.BOOL, (count, k, n), reshape(place, (count, 1, n), node), number(np.arange(k)[None, :, None]))

    def chosen(elements: Value) -> Value:
        picked = made("SELECT_V2", DType.FLOAT32, (count, k, n), fills, elements, number(np.zeros(())))
        return made("SUM", DType.FLOAT32, (count, k), picked, const(f"{node.out.name}.axis", [2]), keep_dims=False)

    best = reshape(chosen(other), values.type.shape, node)
    where = reshape(chosen(number(np.arange(n)[None, None])), places.type.shape, node)
    result = best if x.type.quant is None else emit("QUANTIZE", values.type, best, name=values.name, like=node)
    return [result, made("CAST", DType.INT32, places.type.shape, where, in_data_type="FLOAT32", out_data_type="INT32")]
