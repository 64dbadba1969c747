"""Fewer moves of data: transposes and reshapes that cancel, merge or become cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ..ir import Constant, DType, Node, Type, Value
from ..spec import MOVES_BYTES
from .engine import Replacement, emit, rule

NO_MASKS: dict[str, Any] = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
"""Options of a STRIDED_SLICE whose operands say all."""


def const(name: str, data: object) -> Value:
    """A small int32 constant (axes, shapes, amounts)."""
    array = np.asarray(data, np.int32)
    return Value(Type(array.shape, DType.INT32), name, data=Constant.of(array))


def operand(node: Node, index: int = 0) -> Value:
    """An operand that is not optional."""
    value = node.inputs[index]
    assert value is not None
    return value


def perm_of(node: Node) -> list[int]:
    return [int(p) for p in operand(node, 1).array()]


def transpose(x: Value, perm: list[int], like: Node) -> Value:
    return emit("TRANSPOSE", x.type.permute(perm), x, const(f"{like.out.name}.perm", perm), like=like)


def reshape(x: Value, shape: tuple[int, ...], like: Node) -> Value:
    return emit("RESHAPE", x.type.reshape(shape), x, const(f"{like.out.name}.shape", shape), like=like, new_shape=list(shape))


@rule("TRANSPOSE", "TRANSPOSE", why="two permutations are one")
def merge_transposes(node: Node, inner: Node) -> Replacement:
    first, second = perm_of(inner), perm_of(node)
    return transpose(operand(inner), [first[p] for p in second], node)


@rule("TRANSPOSE", "RESHAPE", "TRANSPOSE", why="one permutation of all the dimensions that the view splits or merges does both")
def merge_around_reshape(node: Node, view: Node, inner: Node) -> Replacement:
    x, before, after = operand(inner), inner.out.type.shape, view.out.type.shape
    groups = runs(before, after)
    if groups is None or (x.type.quant is not None and x.type.quant.axis is not None):
        return None
    # the dimensions of both shapes, each as what it consists of: one of the finest dimensions, or several
    fine = [max(pair, key=len) for pair in groups]
    sizes = [[(before if pair[0] is dims else after)[d] for d in dims] for pair, dims in zip(groups, fine, strict=True)]
    starts = np.cumsum([0, *map(len, fine)]).tolist()
    parts: list[dict[int, list[int]]] = [{}, {}]
    for group, (pair, dims) in enumerate(zip(groups, fine, strict=True)):
        numbers = list(range(starts[group], starts[group] + len(dims)))
        for side in (0, 1):
            split = len(pair[side]) == len(dims)
            parts[side].update({d: [n] if split else numbers for d, n in zip(pair[side], numbers, strict=False)})
    flat = [size for each in sizes for size in each]
    first, second = perm_of(inner), perm_of(node)
    source = [n for d in sorted(range(len(first)), key=first.__getitem__) for n in parts[0].get(d, [])]
    target = [n for d in second for n in parts[1].get(d, [])]
    if len(flat) > max(4, x.type.rank, node.out.type.rank):
        return None
    split_up = reshape(x, tuple(flat[n] for n in source), node)
    return reshape(transpose(split_up, [source.index(n) for n in target], node), node.out.type.shape, node)


def runs(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Pairs of dimensions with equal products, those of size 1 left out; None unless each has one dimension on one side or the other."""
    left, right = ([d for d, size in enumerate(shape) if size != 1] for shape in (before, after))
    found = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        while (pa := prod(before[d] for d in a)) != (pb := prod(after[d] for d in b)):
            (a if pa < pb else b).append((left if pa < pb else right).pop(0))
        if len(a) > 1 and len(b) > 1:
            return None
        found.append((a, b))
    return found


@rule("TRANSPOSE", why="a permutation that moves nothing")
def drop_identity_transpose(node: Node) -> Replacement:
    return operand(node) if perm_of(node) == sorted(perm_of(node)) else None


@rule("TRANSPOSE", why="moving dimensions of size 1 moves no element")
def transpose_to_reshape(node: Node) -> Replacement:
    x, perm = operand(node), perm_of(node)
    moved = [p for p in perm if x.type.shape[p] != 1]
    return reshape(x, node.out.type.shape, node) if moved == sorted(moved) and perm != sorted(perm) else None


@rule("RESHAPE", "RESHAPE", why="only the last shape counts")
def merge_reshapes(node: Node, inner: Node) -> Replacement:
    return reshape(operand(inner), node.out.type.shape, node)


@rule("RESHAPE", why="the shape is the same")
def drop_identity_reshape(node: Node) -> Replacement:
    return operand(node) if operand(node).type == node.out.type else None


@rule("TRANSPOSE", "DEQUANTIZE", why="integers are a quarter of the bytes to move")
def transpose_integers(node: Node, inner: Node) -> Replacement:
    return emit("DEQUANTIZE", node.out.type, transpose(operand(inner), perm_of(node), node), like=node)


@rule("RESHAPE", "DEQUANTIZE", why="the integers' scale is then known at the end, and reshapes of integers merge")
def reshape_integers(node: Node, inner: Node) -> Replacement:
    return emit("DEQUANTIZE", node.out.type, reshape(operand(inner), node.out.type.shape, node), like=node)


@rule("FULLY_CONNECTED", "RESHAPE", "TRANSPOSE", why="permuting the weight's columns once is permuting the activation every time")
def permute_weight_columns(node: Node, flatten: Node, moved: Node) -> Replacement:
    source, weight = operand(moved), operand(node, 1)
    shape, units = moved.out.type.shape, weight.type.shape[0]
    perm = perm_of(moved)
    if weight.data is None or perm[0] != 0 or flatten.out.type.shape != (shape[0], weight.type.shape[1]):
        return None
    back = [perm.index(d) for d in range(len(perm))]
    columns = weight.data.map(lambda w: w.reshape(units, *shape[1:]).transpose(back).reshape(units, -1))
    flat = reshape(source, flatten.out.type.shape, flatten)
    return node.rebuilt(inputs=(flat, replace(weight, data=columns), node.inputs[2]), outputs=(replace(node.out, origin=None),)).out


def _cast_before_moving(node: Node, mover: Node) -> Replacement:
    x = operand(mover)
    if not x.type.is_bytes or x.data is not None:
        return None
    cast = emit("CAST", replace(x.type, dtype=node.out.type.dtype), x, like=node, **node.attrs)
    return mover.rebuilt(inputs=(cast, *mover.inputs[1:]), outputs=(replace(node.out, origin=None),)).out


cast_before_moving = [
    rule("CAST", op, why="runtimes do little with integers of 8 bits that have no scale")(_cast_before_moving)
    for op in MOVES_BYTES
]


@rule("CONCATENATION", why="one part is the whole")
def drop_concatenation_of_one(node: Node) -> Replacement:
    return operand(node) if len(node.inputs) == 1 and operand(node).type == node.out.type else None


def _broadcast_by_itself(node: Node) -> Replacement:
    """Not where both operands are smaller than the result."""

    def smaller(value: Value) -> Value:
        return operand(value.node) if value.node is not None and value.node.op == "BROADCAST_TO" else value

    x, y = operand(node), operand(node, 1)
    for pair in ((smaller(x), y), (x, smaller(y))):
        if pair != (x, y) and np.broadcast_shapes(*(v.type.shape for v in pair)) == node.out.type.shape:
            return node.rebuilt(inputs=pair, outputs=(replace(node.out, origin=None),)).out
    return None


broadcast_by_itself = [rule(op, why="the operator broadcasts by itself")(_broadcast_by_itself) for op in ("ADD", "SUB", "MUL", "DIV")]


RULES = [
    *broadcast_by_itself,
    drop_concatenation_of_one,
    *cast_before_moving,
    merge_transposes,
    drop_identity_transpose,
    transpose_to_reshape,
    merge_around_reshape,
    merge_reshapes,
    drop_identity_reshape,
    transpose_integers,
    reshape_integers,
    permute_weight_columns,
]
