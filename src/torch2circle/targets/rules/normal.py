"""Normalizations that a runtime has an operator for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...ir import Constant, Node, Type, Value
from ...optimize.affine import per_channel
from ...optimize.engine import Replacement, emit, rule
from ...optimize.layout import operand


@rule("MUL", why="the runtime has one operator for it: x / sqrt(mean(x * x) + eps)")
def root_mean_square_norm(node: Node) -> Replacement:
    if node.out.type.rank not in (3, 4) or not _is(node.out, "MUL"):
        return None
    for root, x in _either(node):
        eps = _added_to_mean_square(root, x)
        if eps is not None:
            width = x.type.shape[-1]
            ones = Value(Type((width,), x.type.dtype), f"{node.out.name}.factor", data=Constant.of(np.ones(width, np.float32)))
            return emit("RMS_NORM", node.out.type, x, ones, like=node, epsilon=eps)
    return None


@rule("MUL", "RMS_NORM", why="the operator multiplies by a factor a channel")
def factor_of_norm(node: Node, norm: Node) -> Replacement:
    x, ours = operand(norm), operand(norm, 1)
    factor = per_channel(node, x.type.shape[-1]) if _is(node.out, "MUL") else None
    if factor is None or ours.data is None:
        return None
    product = replace(ours, data=ours.data.map(lambda array: (array * factor).astype(np.float32)))
    return norm.rebuilt(inputs=(x, product), outputs=(replace(node.out, origin=None),)).out


def _added_to_mean_square(root: Value, x: Value) -> float | None:
    """``eps`` if ``root`` is ``rsqrt(mean(x * x) + eps)`` over the last axis."""
    total = operand(root.node) if root.node is not None and _is(root, "RSQRT") else root
    for eps, mean in _either(total.node) if total is not root and _is(total, "ADD") else ():
        if eps.data is None or eps.type.size != 1 or mean.node is None or not _is(mean, "MEAN"):
            continue
        squares, axes = operand(mean.node), operand(mean.node, 1).array()
        last = [int(axis) % x.type.rank for axis in axes.flat] == [x.type.rank - 1]
        if last and squares.node is not None and _is(squares, "MUL") and squares.node.inputs == (x, x):
            return float(eps.array().reshape(-1)[0])
    return None


def _is(value: Value, op: str) -> bool:
    return value.node is not None and value.node.op == op and value.node.attrs.get("fused_activation_function", "NONE") == "NONE"


def _either(node: Node | None) -> Iterator[tuple[Value, Value]]:
    """Both operands, in either order."""
    if node is not None:
        yield operand(node), operand(node, 1)
        yield operand(node, 1), operand(node)
