"""Where a finding is: the subgraph if there are several, the operator by number and name, the tensor."""

from __future__ import annotations

from collections.abc import Iterator

from ..format.survey import Operator, Subgraph, Survey
from ..ir import Node
from ..text import shown


def place(whole: Survey, subgraph: Subgraph, operator: Operator | None = None, tensor: int | None = None) -> str:
    """``decode: operator 3 CONV_2D: layer1.conv``; the tensor of an operator is its first result unless another is meant."""
    parts = [shown(subgraph.name) or f"subgraph {subgraph.index}"] if len(whole.subgraphs) > 1 else []
    if operator is not None:
        parts.append(f"operator {operator.index} {shown(operator.label)}")
        tensor = next(iter(operator.outputs), None) if tensor is None else tensor
    if tensor is not None:
        parts.append(subgraph.name_of(tensor))
    return ": ".join(parts) or "<graph>"


def nodes(whole: Survey) -> Iterator[tuple[Subgraph, Operator, Node]]:
    """Operators on operands that all have a type here."""
    for subgraph, operator in whole.operators():
        node = subgraph.node(operator)
        if node is not None:
            yield subgraph, operator, node
