"""A file's graph in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from .format.survey import Subgraph, Survey
from .text import one_line, shown


def dot(whole: Survey) -> str:
    """Operators as boxes, inputs and outputs as ovals, tensors as edges; constants are named in the operator that reads them.

    What several subgraphs have is drawn in a box each.
    """
    lines = ["digraph model {", '  node [shape=box, fontname="sans-serif"];', '  edge [fontname="sans-serif", fontsize=10];']
    for subgraph in whole.subgraphs:
        inside = list(_subgraph(subgraph))
        if len(whole.subgraphs) > 1:
            label = f"  label={quoted(shown(subgraph.name))};"
            inside = [f"subgraph cluster_{subgraph.index} {{", label, *(f"  {line}" for line in inside), "}"]
        lines += [f"  {line}" for line in inside]
    return "\n".join([*lines, "}"]) + "\n"


def quoted(*rows: str) -> str:
    """A label of one or more lines. Names may hold anything."""
    escaped = (one_line(row).replace("\\", "\\\\").replace('"', '\\"') for row in rows)
    return '"' + "\\n".join(escaped) + '"'


def _subgraph(subgraph: Subgraph) -> Iterator[str]:
    made: dict[int, str] = {}
    at = f"g{subgraph.index}"
    for number, index in enumerate(subgraph.inputs):
        made.setdefault(index, f"{at}_in{number}")
        yield f"{at}_in{number} [shape=oval, label={quoted(subgraph.name_of(index), str(subgraph.tensor(index)))}];"
    for operator in subgraph.operators:
        constants = [i for i in operator.inputs if (t := subgraph.tensor(i)) is not None and subgraph.data(t) is not None]
        rows = [f"{subgraph.name_of(i)}: {subgraph.tensor(i)}" for i in constants]
        yield f"{at}_{operator.index} [label={quoted(shown(operator.label), *rows)}];"
        made.update((index, f"{at}_{operator.index}") for index in operator.outputs if index not in made)
    for operator in subgraph.operators:
        for index in operator.inputs:
            if index in made:
                label = quoted(subgraph.name_of(index), str(subgraph.tensor(index)))
                yield f"{made[index]} -> {at}_{operator.index} [label={label}];"
    for number, index in enumerate(subgraph.outputs):
        yield f"{at}_out{number} [shape=oval, label={quoted(subgraph.name_of(index), str(subgraph.tensor(index)))}];"
        if index in made:
            yield f"{made[index]} -> {at}_out{number};"
