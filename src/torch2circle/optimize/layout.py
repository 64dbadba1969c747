"""Fewer moves of data: transposes and reshapes that cancel, merge or become cheaper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..ir import Constant, DType, Node, Type, Value
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
    merge_transposes,
    drop_identity_transpose,
    transpose_to_reshape,
    merge_reshapes,
    drop_identity_reshape,
    transpose_integers,
    reshape_integers,
    permute_weight_columns,
]
