"""All that the page shows, as plain data: what ``report --json`` prints, and what the page's script reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..ir import Graph, Node, Value
from ..pipeline import ExportedModel
from ..verify import Comparison, Limits, Report
from . import cost, doctor
from .doctor import short
from .places import source_of, text_of
from .ranges import ranges
from .sides import Side, measured_at

GRADES = ("exact", "rare", "some", "many", "off", "unmeasured")
"""How an operator did: bit-equal; at most one step off in less than 0.1 %, 1 % or more of its elements; farther off, or not what the
model says; not compared."""
LEAST_SQNR = -999.0
"""For what is infinitely far off, which JSON has no number for."""


def facts(exported: ExportedModel, sides: Sequence[Side], model: str, file: Path | None) -> dict[str, Any]:
    """The data of a report.

    Args:
        exported: one method of a model.
        sides: one for each target.
        model: what the reader calls it.
        file: the file that was verified, None if a fresh export was.
    """
    weights = doctor.layers(exported.graph, exported.findings)
    about, tensors = [_side(exported, side, weights) for side in sides], _tensors(sides)
    at = {row["tensor"]: next(({"target": target, "node": one["node"]} for target, one in row["at"].items()), None) for row in tensors}
    return {
        "model": model,
        "file": None if file is None else str(file),
        "open_sizes": [[size.first, size.second] for size in exported.sizes],
        "targets": about,
        "tensors": tensors,
        "ranges": [{**row, "at": at.get(row["tensor"])} for row in ranges(exported)],
        "layers": [{**layer, "at": _reader(i, about)} for i, layer in enumerate(weights)],
        "findings": [vars(finding) for finding in exported.findings],
    }


def _reader(layer: int, sides: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The first operator that has the layer's weight."""
    found = ((side["target"], i) for side in sides for i, node in enumerate(side["nodes"]) if node["layer"] == layer)
    return next(({"target": target, "node": i} for target, i in found), None)


def grade(c: Comparison | None) -> str:
    """One of ``GRADES``."""
    if c is None:
        return "unmeasured"
    if c.lsb > 1 or c.differs:
        return "off"
    if c.equal == c.size:
        return "exact"
    return "rare" if c.share > 0.999 else "some" if c.share > 0.99 else "many"


def _side(exported: ExportedModel, side: Side, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    about: dict[str, Any] = {"target": side.target.name, "runtime": side.target.runtime, "message": side.message, "bytes": side.nbytes}
    if side.graph is None:
        return about | {"verified": None, "outputs": [], "inputs": [], "nodes": [], "islands": [], "sizes": [], "findings": []}
    report, graph = side.report, side.graph
    verified = None
    if report is not None:
        worst = report.worst
        verified = {
            "equal": report.share if report.outputs else None,
            "lsb": report.lsb if report.outputs else None,
            "operator_lsb": worst.lsb if worst else 0.0,
            "worst": worst.name if worst else "",
            "wrong": _wrong(report),
            "unverified": list(report.unverified),
            "outputs": [{"name": name, **_compared(c)} for name, c in zip(graph.output_names, report.outputs, strict=False)],
        }
    of_target = [f for f in exported.diagnostics(side.target.name) if f not in exported.findings]
    islands = cost.islands(graph)
    return about | {
        "verified": verified,
        "inputs": [{"name": name, **_value(v)} for name, v in zip(graph.input_names, graph.inputs, strict=True)],
        "outputs": [{"name": n, "from": _source(v, graph), **_value(v)} for n, v in zip(graph.output_names, graph.outputs, strict=True)],
        "nodes": _nodes(graph, side, layers, islands),
        "islands": islands,
        "sizes": cost.sizes(graph),
        "findings": [vars(finding) for finding in of_target],
    }


def _wrong(report: Report) -> str:
    """The first operator at fault and what is wrong with it, or why the file does not run; "" if all is well."""
    first, limits = report.first_wrong(), Limits()
    return f"{first.op} {first.name}: {', '.join(limits.broken_by(first))}" if first else report.failed


def _nodes(
    graph: Graph, side: Side, layers: Sequence[Mapping[str, Any]], islands: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    nodes = graph.nodes()
    number = {node: i for i, node in enumerate(nodes)}
    at = measured_at(graph, side.compared)
    inside = {i for island in islands for i in island["nodes"]}
    by_name = {layer["name"]: i for i, layer in enumerate(layers)}
    by_place = {layer["where"]: i for i, layer in reversed(list(enumerate(layers)))}
    return [
        {
            "op": node.op,
            "name": node.out.name,
            "module": node.where.module,
            "torch": node.where.op,
            "source": source_of(node.where),
            "text": text_of(node.where),
            "options": {key: _plain(value) for key, value in sorted(node.attrs.items())},
            "inputs": [None if v is None else _operand(v, graph, number) for v in node.inputs],
            "outputs": [_value(v) for v in node.outputs],
            "island": number[node] in inside,
            "measured_at": number[at[node]] if node in at else None,
            "grade": grade(_of(node, side.compared)),
            "compared": _compared(c) if (c := _of(node, side.compared)) else None,
            "layer": _layer_of(node, by_name, by_place),
        }
        for node in nodes
    ]


def _of(node: Node, compared: Mapping[Value, Comparison]) -> Comparison | None:
    """The comparison of an operator: of its result that differs most."""
    found = [compared[out] for out in node.outputs if out in compared]
    return max(found, key=lambda c: (c.lsb, 1 - c.share), default=None)


def _layer_of(node: Node, by_name: Mapping[str, int], by_place: Mapping[str, int]) -> int | None:
    weight = doctor.weight_of(node)
    return None if weight is None else by_name.get(weight.name, by_place.get(str(node.where)))


def _compared(c: Comparison) -> dict[str, Any]:
    """``sqnr`` is None where nothing differs."""
    row = {"lsb": c.lsb, "equal": c.share, "size": c.size, "differ": c.size - c.equal}
    return row | {"sqnr": None if c.sqnr == math.inf else round(max(c.sqnr, LEAST_SQNR), 2), "reason": c.reason}


def _value(value: Value) -> dict[str, Any]:
    type_ = value.type
    about: dict[str, Any] = {"tensor": value.name, "dtype": type_.dtype.value, "shape": list(type_.shape), "open": list(type_.open)}
    if type_.quant is not None:
        quant = type_.quant
        zeros, ends = sorted(set(quant.zero_point.tolist())), [short(float(end)) for end in (quant.scale.min(), quant.scale.max())]
        about["quant"] = {
            "scale": ends[0] if len(quant.scale) == 1 else ends,
            "zero_point": zeros[0] if len(zeros) == 1 else zeros,
            "axis": quant.axis,
            "count": len(quant.scale),
        }
    return about


def _operand(value: Value, graph: Graph, number: Mapping[Node, int]) -> dict[str, Any]:
    about = _value(value)
    if value.node is not None:
        return about | {"from": number[value.node]}
    if value in graph.inputs:
        return about | {"from": f"input {graph.inputs.index(value)}"}
    return about | {"bytes": value.type.nbytes} if value.data is not None else about


def _source(value: Value, graph: Graph) -> int | str | None:
    if value.node is not None:
        return graph.nodes().index(value.node)
    return f"input {graph.inputs.index(value)}" if value in graph.inputs else None


def _plain(option: Any) -> Any:
    if isinstance(option, bytes):
        return f"<{len(option)} bytes>"
    return option if isinstance(option, (bool, int, float, str)) else str(option)


def _tensors(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Each tensor that PyTorch recorded, in its order, with what each target makes of it."""
    rows: dict[int, dict[str, Any]] = {}
    for side in sides:
        nodes = {node: i for i, node in enumerate(side.graph.nodes())} if side.graph else {}
        for value, c in side.compared.items():
            assert value.origin is not None
            assert value.node is not None
            where = c.where
            row = rows.setdefault(value.origin.tensor, {
                "tensor": value.origin.tensor, "name": value.name, "module": where.module, "torch": where.op, "at": {},
            })  # fmt: skip
            before = row["at"].get(side.target.name)
            if before is None or (before["lsb"], -before["equal"]) < (c.lsb, -c.share):
                row["at"][side.target.name] = {"node": nodes[value.node], "op": c.op, "grade": grade(c), **_compared(c)}
    return [rows[tensor] for tensor in sorted(rows)]


def finite(content: Any) -> Any:
    """The same with ``"inf"`` and ``"nan"`` for numbers that JSON does not have."""
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    return [finite(item) for item in content] if isinstance(content, (list, tuple)) else content
