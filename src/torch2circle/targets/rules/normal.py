"""Normalizations that a runtime has an operator for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...ir import Node, Value
from ...optimize.engine import Replacement, emit, rule
from ...optimize.layout import operand


@rule("MUL", why="the runtime has one operator for it: x / sqrt(mean(x * x) + eps) * factor")
def root_mean_square_norm(node: Node) -> Replacement:
    if node.out.type.rank not in (3, 4) or node.attrs["fused_activation_function"] != "NONE":
        return None
    for factor, product in _either(node):
        width = node.out.type.shape[-1]
        if factor.data is None or factor.type.size != width or factor.type.shape[-1:] != (width,):
            continue
        norm = _normalized(product)
        if norm is not None and norm.x.type == node.out.type:
            data = factor.data.map(lambda array: array.reshape(-1))
            line = Value(factor.type.reshape((width,)), factor.name, data=data)
            return emit("RMS_NORM", node.out.type, norm.x, line, like=node, epsilon=norm.eps)
    return None


@dataclass(frozen=True)
class _Norm:
    x: Value
    eps: float


def _normalized(value: Value) -> _Norm | None:
    """Of ``x * rsqrt(mean(x * x) + eps)`` over the last axis."""
    for root, x in _either(value.node) if _is(value, "MUL") else ():
        if not _is(root, "RSQRT") or root.node is None or not _is(total := operand(root.node), "ADD"):
            continue
        for eps, mean in _either(total.node):
            if eps.data is None or eps.type.size != 1 or mean.node is None or not _is(mean, "MEAN"):
                continue
            squares, axes = operand(mean.node), operand(mean.node, 1).array()
            last = [int(axis) % x.type.rank for axis in axes.flat] == [x.type.rank - 1]
            if last and squares.node is not None and _is(squares, "MUL") and squares.node.inputs == (x, x):
                return _Norm(x, float(eps.array().reshape(-1)[0]))
    return None


def _is(value: Value, op: str) -> bool:
    return value.node is not None and value.node.op == op and value.node.attrs.get("fused_activation_function", "NONE") == "NONE"


def _either(node: Node | None) -> Iterator[tuple[Value, Value]]:
    """Both operands, in either order."""
    if node is not None:
        yield operand(node), operand(node, 1)
        yield operand(node, 1), operand(node)
