"""Products of matrices."""

from __future__ import annotations

from ...ir import Node
from ...optimize.engine import Replacement, emit, rule
from ...optimize.layout import operand, transpose


@rule("BATCH_MATMUL", why="the runtime takes no constant on the left: (A x)' = x' A'")
def constant_on_the_right(node: Node) -> Replacement:
    left, right = operand(node), operand(node, 1)
    if left.data is None or right.data is not None or not left.type.dtype.is_float:
        return None
    turned = {"adjoint_lhs": not node.attrs["adjoint_rhs"], "adjoint_rhs": not node.attrs["adjoint_lhs"]}
    perm = [*range(node.out.type.rank - 2), node.out.type.rank - 1, node.out.type.rank - 2]
    made = emit("BATCH_MATMUL", node.out.type.permute(perm), right, left, like=node, **{**node.attrs, **turned})
    return transpose(made, perm, node)
