"""A graph cut at every tensor that PyTorch recorded, and what was recorded as the file holds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arithmetic import moved_by_128
from ..ir import Array, Graph, Node, Value
from ..quant import array_of
from ..record import Recording, Ref

if TYPE_CHECKING:
    from ..pipeline import ExportedModel


def judged(graph: Graph) -> list[Value]:
    """The results that PyTorch recorded, in the order they are made; those of custom operators, which no runtime has, are left out."""
    return [out for node in graph.nodes() if node.op != "CUSTOM" for out in node.outputs if out.origin is not None]


def isolated(graph: Graph) -> Graph:
    """The graph cut at every tensor PyTorch recorded: each becomes an input where it is read and an output where it is made.

    The outputs are those of ``judged``. Custom operators, which no runtime has, are left out.
    """
    inputs: dict[tuple[Any, ...], Value] = {}
    new: dict[Value, Value] = {}

    def fed(value: Value | None) -> Value | None:
        if value is None or value.data is not None:
            return value
        if value.origin is None:
            return new.get(value, value)
        key = (value.origin, value.type)
        if key not in inputs:
            inputs[key] = Value(value.type, f"{value.name}.fed", origin=value.origin)
        return inputs[key]

    outputs: list[Value] = []
    for node in graph.nodes():
        if node.op == "CUSTOM":
            continue
        made = node.rebuilt(inputs=tuple(fed(v) for v in node.inputs))
        new.update(zip(node.outputs, made.outputs, strict=True))
        outputs += [out for out in made.outputs if out.origin is not None]
    return graph_of(tuple(inputs.values()), tuple(outputs))


def graph_of(inputs: tuple[Value, ...], outputs: tuple[Value, ...]) -> Graph:
    """Inputs and outputs with names that say nothing."""
    return Graph(inputs, outputs, tuple(f"in{i}" for i in range(len(inputs))), tuple(f"out{i}" for i in range(len(outputs))))


def piece(out: Value) -> Graph:
    """What makes one result of an ``isolated`` graph, alone."""
    graph = graph_of((), (out,))
    return graph_of(tuple(v for v in graph.values() if v.data is None and not v.variable and v.node is None), (out,))


def recorded(recording: Recording, value: Value) -> Array:
    """PyTorch's tensor as the file holds it: axes in the file's order, integers in the target's 8-bit type."""
    assert value.origin is not None, value.name
    return _as_stored(array_of(recording.tensors[value.origin.tensor]), value)


def expected(exported: ExportedModel, value: Value) -> Array:
    """As ``recorded``, with what PyTorch documents where its kernel is known to deviate from that."""
    if value.origin is not None and value.origin.tensor in exported.corrected:
        return _as_stored(exported.corrected[value.origin.tensor], value)
    return recorded(exported.recording, value)


def wanted(exported: ExportedModel, value: Value) -> Array:
    """What an operator must give that was fed with recorded tensors."""
    return recorded(exported.recording, value) if only_moved(value) else expected(exported, value)


def only_moved(value: Value) -> bool:
    """Whether the operator was fed the same recorded tensor, in another order."""
    sources = [] if value.node is None else [v.origin for v in value.node.inputs if v is not None]
    return any(origin is not None and value.origin is not None and origin.tensor == value.origin.tensor for origin in sources)


def outputs_of(exported: ExportedModel, graph: Graph, shapes: Sequence[tuple[int, ...]] | None = None) -> list[Array]:
    """What the file of ``graph``, a target's, must give for the recorded inputs; ``shapes`` are the outputs', if not the graph's."""
    sizes = shapes or [value.type.shape for value in graph.outputs]
    return [
        expected(exported, value) if value.origin is not None else _plain(exported.recording, out, shape)
        for value, out, shape in zip(graph.outputs, exported.recording.outputs, sizes, strict=True)
    ]


def _plain(recording: Recording, out: Any, shape: tuple[int, ...]) -> Array:
    """An output without an origin of its own: PyTorch's tensor, which has the same elements in the same order."""
    array = array_of(recording.tensors[out.index] if isinstance(out, Ref) else out)
    return array.reshape(shape) if array.size == np.prod(shape) else array


def prefix(graph: Graph, count: int) -> Graph:
    """The first ``count`` operators, with all that later ones read as outputs."""
    kept: list[Node] = graph.nodes()[:count]
    inside = {out for node in kept for out in node.outputs}
    later = {v for node in graph.nodes()[count:] for v in node.inputs} | set(graph.outputs)
    outputs = tuple(out for node in kept for out in node.outputs if out in later and out in inside)
    used = {v for node in kept for v in node.inputs}
    return graph_of(tuple(v for v in graph.inputs if v in used), outputs)


def _as_stored(array: Array, value: Value) -> Array:
    assert value.origin is not None
    array = array.transpose(value.origin.order)
    if array.dtype != value.type.dtype.numpy:
        array = moved_by_128(array, value.type.dtype)
    return np.array(array, order="C")  # np.ascontiguousarray would make a scalar a vector of one
