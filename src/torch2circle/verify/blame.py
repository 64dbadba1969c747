"""Which operator a runtime refuses, dies of or never returns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import runtimes
from ..errors import TargetError
from ..format import write
from ..ir import Array, Graph, Node
from ..targets.base import Target, with_outputs_apart
from .isolate import piece, prefix


def alone(
    target: Target, parts: Graph, batches: Sequence[Sequence[Array]], folder: Path, timeout: float
) -> list[list[Array] | TargetError]:
    """Each output of an ``isolated`` graph from a file of its own: one array for each batch, or how the runtime fails."""
    results: list[list[Array] | TargetError] = []
    for out in parts.outputs:
        single = piece(out)
        places = [parts.inputs.index(value) for value in single.inputs]
        done = _run(target, single, [[batch[i] for i in places] for batch in batches], folder, timeout)
        results.append(done if isinstance(done, TargetError) else [outputs[0] for outputs in done.outputs])
    return results


def first_that_fails(target: Target, graph: Graph, inputs: Sequence[Array], folder: Path, timeout: float) -> Node | None:
    """The last operator of the shortest beginning of ``graph`` at which the runtime fails, by halving; None if no beginning does."""
    nodes = graph.nodes()

    def fails(count: int) -> bool:
        part = prefix(graph, count)
        given = [inputs[graph.inputs.index(value)] for value in part.inputs]
        if not part.outputs:
            return False
        return isinstance(_run(target, with_outputs_apart(part) if target.frees_outputs else part, [given], folder, timeout), TargetError)

    if not fails(len(nodes)):
        return None
    good, bad = 0, len(nodes)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fails(middle) else (middle, bad)
    return nodes[bad - 1]


def refusal(error: TargetError) -> str:
    """What the runtime says of one operator, without the file's name, which was temporary."""
    return error.message.partition(": ")[2] or error.message


def scratch(graph: Graph, path: Path, target: Target) -> Path:
    """Write a file that nobody will look for after a crash, so that it need not reach the disk."""
    with open(path, "w+b") as sink:
        write(graph, sink, identifier=target.identifier)
    return path


def _run(
    target: Target, graph: Graph, batches: Sequence[Sequence[Array]], folder: Path, timeout: float
) -> runtimes.Result | TargetError:
    path = scratch(graph, folder / f"part{target.suffix}", target)
    return runtimes.run_many(str(target.runtime), [(path, batches)], timeout=timeout)[0]
