"""Equal operators on the same operands, once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from ..ir import Graph, Node, Value

SMALL = 256
"""Constants up to so many bytes are compared by what they hold: axes, shapes and numbers are made anew for each operator."""


def share(graph: Graph) -> Graph:
    """The graph without operators that compute again what another one has computed."""
    new: dict[Value, Value] = {}
    first: dict[Hashable, Node] = {}
    for node in graph.nodes():
        inputs = tuple(None if v is None else new.get(v, v) for v in node.inputs)
        current = node if inputs == node.inputs else node.rebuilt(inputs=inputs)
        if not any(v is not None and v.variable for v in (*inputs, *node.outputs)):
            earlier = first.setdefault(_meaning(current), current)
            # what a recorded tensor is must stay known
            if all(kept.origin or not gone.origin for kept, gone in zip(earlier.outputs, node.outputs, strict=True)):
                current = earlier
        new.update(zip(node.outputs, current.outputs, strict=True))
    return replace(graph, outputs=tuple(new.get(v, v) for v in graph.outputs))


def _meaning(node: Node) -> Hashable:
    operands = tuple(v if v is None or v.data is None or v.type.nbytes > SMALL else (v.type, v.array().tobytes()) for v in node.inputs)
    return node.op, operands, str(sorted(node.attrs.items())), tuple(out.type for out in node.outputs)
