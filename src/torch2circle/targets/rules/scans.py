"""Sums along a dimension that keep every step."""

from __future__ import annotations

import numpy as np

from ...ir import Constant, Node, Value
from ...optimize.engine import Replacement, emit, rule
from ...optimize.layout import NO_MASKS, const, operand


@rule("CUMSUM", why="the runtime has no CUMSUM: the sums of 2, 4, 8 ... elements, each of two halves, are as exact")
def cumsum_by_doubling(node: Node) -> Replacement:
    x = operand(node)
    axis = int(operand(node, 1).array()) % x.type.rank
    if node.attrs["exclusive"] or node.attrs["reverse"]:
        return None
    size, width = x.type.shape[axis], 1
    while width < size:
        x = emit("ADD", x.type, x, _shifted(node, x, axis, width), like=node, fused_activation_function="NONE")
        width *= 2
    return x


def _shifted(node: Node, x: Value, axis: int, by: int) -> Value:
    """The elements ``by`` places further on, behind zeros."""
    shape = x.type.shape

    def along(size: int) -> tuple[int, ...]:
        return (*shape[:axis], size, *shape[axis + 1 :])

    ends = [const(f"{node.out.name}.{name}", data) for name, data in (("begin", [0] * len(shape)), ("end", along(shape[axis] - by)))]
    kept = emit("STRIDED_SLICE", x.type.reshape(along(shape[axis] - by)), x, *ends, const(f"{node.out.name}.step", [1] * len(shape)),
                like=node, **NO_MASKS)  # fmt: skip
    zeros = Value(x.type.reshape(along(by)), f"{node.out.name}.zeros", data=Constant.of(np.zeros(along(by), x.type.dtype.numpy)))
    return emit("CONCATENATION", x.type, zeros, kept, like=node, axis=axis, fused_activation_function="NONE")
