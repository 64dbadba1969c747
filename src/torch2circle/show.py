"""What a file holds and what is supported, as plain data for tables and JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from .format import Contents
from .ir import Graph
from .spec import OPS
from .targets.base import measured


def describe(contents: Contents, file: Path) -> dict[str, Any]:
    """The facts of a model file; ``bytes`` is its size."""
    graph = contents.graph
    return {
        "file": str(file),
        "identifier": contents.identifier,
        "version": contents.version,
        "description": contents.description,
        "bytes": file.stat().st_size,
        "inputs": {name: str(value.type) for name, value in zip(graph.input_names, graph.inputs, strict=True)},
        "outputs": {name: str(value.type) for name, value in zip(graph.output_names, graph.outputs, strict=True)},
        "operators": counted(graph),
        "weights": weight_bytes(graph),
        "metadata": {name: data.decode("utf-8", "replace") for name, data in contents.metadata.items()},
    }


def counted(graph: Graph) -> dict[str, int]:
    """Operators and how many of each, the most frequent first."""
    return dict(Counter(node.op for node in graph.nodes()).most_common())


def weight_bytes(graph: Graph) -> dict[str, int]:
    """Bytes of constants by element type."""
    sizes: Counter[str] = Counter()
    for value in graph.values():
        if value.data is not None:
            sizes[value.type.dtype.value] += value.type.nbytes
    return dict(sizes.most_common())


def support_rows() -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(PyTorch operator, lowering, on quantized tensors) for each that is lowered, and (file operator, onert, LiteRT) as measured."""
    from .lower import LOWERINGS

    lowered = [(op, f"{entry.body.__module__.rpartition('.')[2]}.{entry.body.__name__}", "float island" if entry.island else "integers") for op, entry in sorted(LOWERINGS.items())]
    tables = measured("onert"), measured("litert")
    rows = [(op, *(", ".join(f"{scheme} {verdict}" for scheme, verdict in table.get(op, {}).items()) or "not measured" for table in tables)) for op in OPS]
    return lowered, [(op, onert, litert) for op, onert, litert in rows]
