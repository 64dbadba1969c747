"""What float islands move between integers and floats, and what the constants of each layer take in the file."""

from __future__ import annotations

from typing import Any

from ..ir import Graph, Node, Value
from ..spec import OPS
from ..targets import island_nodes
from .doctor import BIAS
from .places import source_of


def islands(graph: Graph) -> list[dict[str, Any]]:
    """Float operators between quantized ones, those that feed each other as one island.

    ``converted`` counts the elements that are dequantized in front of it and quantized behind it, ``bytes`` what its operators and these
    conversions read and write of activations; ``share`` is the part of all activations' bytes of the graph.
    """
    inside = island_nodes(graph)
    nodes = graph.nodes()
    whole = sum(map(_moved, nodes)) or 1
    found = []
    for members in _connected(inside):
        around = [node for node in nodes if _converts(node, members)]
        converted = sum(node.out.type.size for node in around)
        moved = sum(map(_moved, [*members, *around]))
        found.append({
            "operators": [node.op for node in members],
            "nodes": [nodes.index(node) for node in members],
            "modules": list(dict.fromkeys(node.where.module or "<top>" for node in members)),
            "source": source_of(members[0].where),
            "converted": converted,
            "bytes": moved,
            "share": moved / whole,
        })  # fmt: skip
    return found


def _connected(inside: list[Node]) -> list[list[Node]]:
    """The nodes in groups that are joined by a value."""
    group: dict[Node, list[Node]] = {}
    for node in inside:
        mine = [node]
        for value in node.inputs:
            other = group.get(value.node) if value is not None and value.node is not None else None
            if other is not None and other is not mine:
                mine = [*other, *(n for n in mine if n not in other)]
        for member in mine:
            group[member] = mine
    groups: list[list[Node]] = []
    for node in inside:
        if group[node] not in groups:
            groups.append(group[node])
    return groups


def _converts(node: Node, members: list[Node]) -> bool:
    """Whether a DEQUANTIZE feeds one of ``members``, or a QUANTIZE reads one."""
    if node.op == "QUANTIZE":
        source = node.inputs[0]
        return source is not None and source.node in members
    return node.op == "DEQUANTIZE" and any(node.out in member.inputs for member in members)


def _moved(node: Node) -> int:
    """Bytes of the activations that an operator reads and writes."""
    read = sum(value.type.nbytes for value in node.inputs if value is not None and value.data is None)
    return read + sum(value.type.nbytes for value in node.outputs)


def sizes(graph: Graph) -> list[dict[str, Any]]:
    """Bytes of constants by the module that reads them first, in the order of the graph, as ``weight``, ``bias`` and ``other``."""
    rows: dict[str, dict[str, Any]] = {}
    seen: set[Value] = set()
    for node in graph.nodes():
        for place, value in enumerate(node.inputs):
            if value is None or value.data is None or value in seen:
                continue
            seen.add(value)
            module = node.where.module or "<top>"
            row = rows.setdefault(module, {"module": module, "weight": 0, "bias": 0, "other": 0})
            row[_kind(node, place)] += value.type.nbytes
    return list(rows.values())


def _kind(node: Node, place: int) -> str:
    if node.op not in OPS or not OPS[node.op].weighted:
        return "weight" if node.op == "EMBEDDING_LOOKUP" and place == 1 else "other"
    return {1: "weight", BIAS.get(node.op): "bias"}.get(place, "other")
