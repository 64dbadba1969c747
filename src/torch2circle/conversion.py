"""A .tflite file as .circle, and back: ``convert``.

The file's graph goes the way of every export: the target's 8-bit type, its rules, and a refusal of what it would get wrong. What the other
file does not hold is listed as losses.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import FormatError, TargetError
from .format import Contents, Survey, misfit, read, save, survey
from .format.reader import opened
from .format.rewrap import rewrap
from .implant.bundle import listed
from .implant.fit import misshapen
from .implant.graft import as_general, completed, refuse, well_formed
from .ir import DType, Finding, Graph, Node, Value
from .optimize import rewrite
from .optimize.engine import Replacement, rule
from .optimize.layout import const, operand
from .spec import OPS, has_scheme, scheme
from .targets import Target, islands, legalize, target_for
from .targets.base import EIGHT_BIT

MOST_ADDED = 64 << 20
"""Bytes of constants that a converted file may have besides eight times its old size."""
# Of the exporter or of the runtime that the old file was for; operators are others now.
_STALE = {"torch2circle.origins": "one for each operator of the old file", "min_runtime_version": "the least version of TFLite's runtime"}


@dataclass(frozen=True)
class Converted:
    """The ``size`` of the new file, its ``target``, and as ``findings`` the losses (warnings) and what else is different (notes)."""

    size: int
    target: str
    findings: tuple[Finding, ...]

    @property
    def losses(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "warning")


def convert(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    target: str | None = None,
    *,
    keep: bool = False,
    method: str | None = None,
) -> Converted:
    """Write the model file ``source`` in another format, or for another target.

    Args:
        source: a .circle or .tflite file.
        path: ends in .circle or .tflite; holds the whole file then, or after an error what it held before.
        target: "onert", "litert" or "one"; None for the usual one of the suffix.
        keep: write the same tables under the other identifier, whether or not a runtime gets them right.
        method: the key of the signature that is to be converted, where there are several.

    Raises:
        FormatError: the file is damaged, or has what cannot be understood.
        TargetError: the target cannot run it, or the other format does not have what is in it; all of it is named.
        WriteError: ``path`` cannot be written.
    """
    chosen = target_for(Path(path), target)
    whole = survey(source)
    if keep:
        size, left = rewrap(source, path, chosen.identifier)
        findings = [Finding("warning", "left-out", "<file>", text) for text in left]
        return Converted(size, chosen.name, (*findings, *_behind(source)))
    contents = _readable(source)
    with well_formed(source):
        graphs = {name: _legal(graph, chosen, source) for name, graph in _methods(contents, chosen, method).items()}
        _must_stay_small(graphs, whole)
    metadata = {name: data for name, data in contents.metadata.items() if name not in _STALE}
    if "torch2circle" in metadata:
        metadata["torch2circle"] = _retargeted(metadata["torch2circle"], chosen)
    named = graphs if len(graphs) > 1 or whole.signatures else next(iter(graphs.values()))
    with well_formed(source):
        size = save(named, path, identifier=chosen.identifier, metadata=metadata, description=contents.description)
    return Converted(size, chosen.name, (*_losses(whole, contents, graphs, method), *_behind(source), *_notes(whole, graphs, chosen)))


def _readable(source: str | os.PathLike[str]) -> Contents:
    try:
        return read(source)
    except FormatError as error:
        hint = "`torch2circle check` says more; --keep writes the same tables, without understanding them"
        raise FormatError(error.message, hint=hint) from error


def _methods(contents: Contents, target: Target, method: str | None) -> Mapping[str, Graph]:
    if method is not None:
        if method not in contents.graphs:
            raise FormatError(f"the file has no method {method}: {', '.join(contents.graphs)}")
        return {method: contents.graphs[method]}
    if len(contents.graphs) > 1 and not target.calls_methods:
        names = ", ".join(contents.graphs)
        hint = "choose one with --method, and write each to a file of its own"
        raise TargetError(f"target {target.name} can call only one method of a file, which has {len(contents.graphs)}: {names}", hint=hint)
    return contents.graphs


@rule("RESHAPE", why="converters also give the shape as an option alone")
def _shape_as_operand(node: Node) -> Replacement:
    if len(node.inputs) != 1:
        return None
    return node.rebuilt(inputs=[node.inputs[0], const(f"{node.out.name}.shape", node.out.type.shape)]).out


@rule("DEQUANTIZE", why="the target reads no constants of float16, and float32 has the same numbers")
def _half_in_float(node: Node) -> Replacement:
    half = operand(node)
    if half.data is None or half.type.dtype is not DType.FLOAT16 or half.type.shape != node.out.type.shape:
        return None
    return Value(node.out.type, half.name, data=half.data.map(lambda array: array.astype(np.float32)))


def _legal(graph: Graph, target: Target, source: object) -> Graph:
    graph = _in_bytes(graph)
    graph = rewrite(graph, [_shape_as_operand, *([] if target.reads_halves else [_half_in_float])])
    _must_be_understood(graph, target, source)
    whole = completed(graph, source, custom=lambda node: _is_untouched(node, target))
    refuse(f"{source} is not well formed", misshapen(whole))
    made = legalize(whole, as_general(target))
    unfit = [(node.out.name, text) for node in made.nodes() if (text := misfit(node))]
    if unfit:
        raise TargetError(listed(f"torch2circle cannot write what is in {source}", unfit))
    return made


def _must_stay_small(graphs: Mapping[str, Graph], whole: Survey) -> None:
    """Refuse constants of sizes that a few bytes claim: weights at most become float, and what rules add is small next to them."""
    size = sum(value.type.nbytes for graph in graphs.values() for value in graph.values() if value.data is not None)
    if size > MOST_ADDED + 8 * whole.size:
        hint = "its tensors claim sizes that nothing in it has"
        raise TargetError(f"the constants would take {size:,} bytes, of a file of {whole.size:,}", hint=hint)


def _in_bytes(graph: Graph) -> Graph:
    """Constants of 4 bits in 8: the same integers. Where the target is right with 4, its rules make them small again."""
    new: dict[Value, Value] = {}
    for node in graph.nodes():
        inputs = [v if v is None else new.get(v, _in_byte(v)) for v in node.inputs]
        new.update(zip(node.outputs, node.rebuilt(inputs=inputs).outputs, strict=True))
    return replace(graph, outputs=tuple(new.get(v, v) for v in graph.outputs))


def _in_byte(value: Value) -> Value:
    return replace(value, type=replace(value.type, dtype=DType.INT8)) if value.data and value.type.dtype is DType.INT4 else value


def _must_be_understood(graph: Graph, target: Target, source: object) -> None:
    """Refuse what rewriting would get wrong because torch2circle does not know it."""
    errors = []
    for node in graph.nodes():
        if node.op in OPS and not has_scheme(node):
            errors.append((node.out.name, f"{node.op} lacks an operand"))
        elif node.attrs.get("weights_format", "DEFAULT") != "DEFAULT":
            errors.append((node.out.name, f"weights of the format {node.attrs['weights_format']} stand in another order"))
        elif target.identifier == "CIR0" and any(v is not None and v.variable for v in node.inputs) and not _runs_with_state(node, target):
            errors.append((node.out.name, f"{node.op} keeps a state from call to call, which {target.name} does not"))
    if errors:
        hint = "--keep writes the same tables as they are"
        raise TargetError(listed(f"torch2circle cannot convert what is in {source}", errors), hint=hint)


def _runs_with_state(node: Node, target: Target) -> bool:
    """Whether it was measured with a state at all: for most operators the scheme does not ask."""
    return "+variable" in scheme(node) and target.runs(node)


def _is_untouched(node: Node, target: Target) -> bool:
    """Whether a custom operator keeps its types: only its application knows which others it takes."""
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    return all(v.type.dtype not in EIGHT_BIT or v.type.quant is None or v.type.dtype is target.eight_bit for v in values)


def _retargeted(about: bytes, target: Target) -> bytes:
    try:
        facts = json.loads(about)
    except (ValueError, RecursionError):
        return about
    return json.dumps(facts | {"target": target.name}, sort_keys=True).encode() if isinstance(facts, dict) else about


def _losses(whole: Survey, contents: Contents, graphs: Mapping[str, Graph], method: str | None) -> Iterator[Finding]:
    def loss(code: str, path: str, message: str) -> Finding:
        return Finding("warning", code, path, message)

    called = {s.subgraph for s in whole.signatures if method is None or s.key == method} or {0}
    for subgraph in whole.subgraphs:
        if subgraph.index not in called:
            yield loss("subgraph", subgraph.name or f"subgraph {subgraph.index}", f"left out with its {len(subgraph.operators)} operators")
            continue
        at = subgraph.name or "<graph>"
        if dead := len(subgraph.operators) - len(subgraph.reached):
            yield loss("dead-operator", at, f"{dead} operators, whose results reach no output, are left out")
        if ranged := sum(tensor.ranges for tensor in subgraph.tensors):
            yield loss("range", at, f"the recorded ranges (min, max) of {ranged} tensors are left out; scales and zero points stay")
    for name in contents.graphs:
        if name not in graphs:
            yield loss("method", name, "another method was chosen")
    for name, text in _STALE.items():
        if name in contents.metadata:
            yield loss("metadata", name, f"left out: {text}")
    for graph in (contents.graphs[name] for name in graphs):
        for name, value in zip((*graph.input_names, *graph.output_names), (*graph.inputs, *graph.outputs), strict=True):
            if value.type.open:
                yield loss("open-size", name, f"dimensions {list(value.type.open)} of any size become {list(value.type.shape)}")


def _nibbles(graphs: Mapping[str, Graph]) -> int:
    return sum(value.type.dtype is DType.INT4 for graph in graphs.values() for value in graph.values())


def _behind(source: str | os.PathLike[str]) -> Iterator[Finding]:
    """Files that TFLite's metadata tools append as a ZIP archive, which no identifier keeps."""
    view = opened(source).view
    if bytes(view[-66_000:]).find(b"PK\x05\x06") >= 0:
        message = "the files behind the model (labels and the like, a ZIP archive) are left out"
        yield Finding("warning", "associated-files", "<file>", message)


def _notes(whole: Survey, graphs: Mapping[str, Graph], target: Target) -> Iterator[Finding]:
    other = DType.INT8 if target.eight_bit is DType.UINT8 else DType.UINT8
    moved = sum(t.kind == other.name and t.scale is not None for subgraph in whole.subgraphs for t in subgraph.tensors)
    if moved:
        types = f"{other.value} become {target.eight_bit.value}"
        message = f"{moved} tensors of {types}, integers and zero points moved by 128: the same real values"
        yield Finding("note", "eight-bit", "<graph>", message)
    before, after = sum(t.kind == "INT4" for s in whole.subgraphs for t in s.tensors), _nibbles(graphs)
    if before > after:
        yield Finding("note", "int4", "<graph>", f"{before - after} constants of int4 become int8: the same integers in twice the bytes")
    halves = sum(t.kind == "FLOAT16" for subgraph in whole.subgraphs for t in subgraph.tensors)
    if halves and not target.reads_halves:
        yield Finding("note", "float16", "<graph>", f"{halves} constants of float16 become float32: the same numbers in twice the bytes")
    if not whole.signatures:
        yield Finding("note", "signature", "serving_default", "the file had no signature; inputs and outputs are called like their tensors")
    for graph in graphs.values():
        yield from islands(graph)
