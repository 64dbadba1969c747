"""One side of the report for each target: its graph, and what its runtime was measured to compute."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError, VerifyFailed
from ..format import unique_names
from ..ir import Graph, Node, Value
from ..pipeline import ExportedModel
from ..targets import Target
from ..verify import Comparison, Report


@dataclass(frozen=True)
class Side:
    """A target's graph and report, as far as there are any; ``message`` says why there is not more.

    ``compared`` holds the comparison of each value that PyTorch recorded, ``nbytes`` is the size of the file.
    """

    target: Target
    graph: Graph | None = None
    report: Report | None = None
    compared: Mapping[Value, Comparison] = field(default_factory=dict)
    nbytes: int = 0
    message: str = ""


def side(exported: ExportedModel, target: Target, file: Path | None) -> Side:
    """What becomes of the model on ``target``, verified once; ``file`` is a file for this target that is to be run itself.

    What the target or its runtime refuses, and a runtime that is not installed, is the side's ``message``.

    Raises:
        VerifyFailed, FormatError: ``file`` is not of this model.
    """
    try:
        graph = exported.for_target(target)
    except UserError as error:
        return Side(target, message=str(error))
    nbytes = file.stat().st_size if file is not None else _size(exported, target)
    try:
        report = exported.verify(target.name, file)
    except VerifyFailed:
        raise
    except UserError as error:
        return Side(target, graph, nbytes=nbytes, message=str(error))
    said = f"{report.runtime} has no kernel for {', '.join(report.unverified)}, so the file was not run" if report.unverified else ""
    return Side(target, graph, report, by_value(graph, report), nbytes, said)


def _size(exported: ExportedModel, target: Target) -> int:
    with tempfile.TemporaryDirectory(prefix="torch2circle-") as folder:
        return exported.save(Path(folder) / f"model{target.suffix}", target.name)


def by_value(graph: Graph, report: Report) -> dict[Value, Comparison]:
    """The report's operators by the value that each was measured at. What only a file has is at none."""
    made = {c.name: c for c in report.operators}
    named = zip(graph.values(), unique_names(graph.values()), strict=True)
    return {value: made[name] for value, name in named if value.node is not None and name in made}


def measured_at(graph: Graph, compared: Mapping[Value, Comparison]) -> dict[Node, Node]:
    """For each operator, the one whose result tells about it: itself, or the first behind it that was compared."""
    readers: dict[Node, list[Node]] = {}
    nodes = graph.nodes()
    for node in nodes:
        for value in node.inputs:
            if value is not None and value.node is not None:
                readers.setdefault(value.node, []).append(node)
    found: dict[Node, Node] = {}
    for node in reversed(nodes):
        if any(out in compared for out in node.outputs):
            found[node] = node
        else:
            behind = [found[reader] for reader in readers.get(node, ()) if reader in found]
            if behind:
                found[node] = behind[0]
    return found
