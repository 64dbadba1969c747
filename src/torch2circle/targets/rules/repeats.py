"""Repeated elements, by constant indices where the runtime has no operator of its own for the element type."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ir import Node, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import const, operand


def repeat_as_gather(runs: Callable[[Node], bool]) -> list[Rule]:
    """BROADCAST_TO and TILE as a GATHER for each axis that grows, or as a CONCATENATION of copies."""

    def gathered(node: Node) -> Replacement:
        value: Value = operand(node)
        if runs(node):
            return None
        for axis, size in enumerate(node.out.type.shape):
            if size != value.type.shape[axis]:
                value = _longer(node, value, axis, size, runs)
        return value

    return [rule(op, why="the runtime repeats no elements of this type; its GATHER does")(gathered) for op in ("BROADCAST_TO", "TILE")]


def _longer(node: Node, value: Value, axis: int, size: int, runs: Callable[[Node], bool]) -> Value:
    old, type_ = value.type.shape[axis], value.type.reshape((*value.type.shape[:axis], size, *value.type.shape[axis + 1 :]))
    index = const(f"{node.out.name}.index", np.arange(size) % old)
    found = emit("GATHER", type_, value, index, like=node, axis=axis, batch_dims=0)
    if found.node is not None and runs(found.node):
        return found
    return emit("CONCATENATION", type_, *[value] * (size // old), like=node, axis=axis, fused_activation_function="NONE")
