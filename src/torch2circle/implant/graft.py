"""A bundle put into a float file: the tensors it names become integers, whoever made the two.

An operator computes in integers if all its float tensors have an entry. Any other stays in float, behind a DEQUANTIZE and before a
QUANTIZE. Then the graph goes the way of every export: the target's 8-bit type and rules, and a refusal of what it would get wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..arithmetic import dequantized, quantized
from ..errors import Bug, FormatError, TargetError
from ..format import read, save
from ..ir import Constant, DType, Finding, Graph, Node, Quant, Type, Value, Where
from ..optimize.engine import Replacement, Rule, emit, rule
from ..optimize.layout import operand
from ..spec import OPS, check, defaults
from ..targets import Target, islands, legalize, target_for
from ..targets.rules.islands import island
from ..text import one_line
from .bundle import Entry, listed, read_bundle
from .fit import BIASES, CHANNELS, WIDTHS, Mistakes, contradictions, gaps, misshapen, strangers

# What these make of a number is not what they make of its integer.
IN_FLOAT = ("CAST", "DEQUANTIZE")


@dataclass(frozen=True)
class Implanted:
    """The ``graph`` that was written, the ``size`` of its file, the ``count`` of entries, the float tensors ``left`` without one.

    ``findings`` has a note for each float operator between integer ones.
    """

    graph: Graph
    size: int
    count: int
    left: tuple[str, ...]
    findings: tuple[Finding, ...]


def implant_qparams(
    source: str | os.PathLike[str], bundle: str | os.PathLike[str], path: str | os.PathLike[str], target: str | None = None
) -> Implanted:
    """Write the float model ``source`` with the integers of ``bundle``.

    Args:
        source: a .circle or .tflite file. Inputs and outputs that the bundle names take and give integers from then on.
        bundle: a ``qparam.json``, with its files beside it.
        path: ends in .circle or .tflite; holds the whole file then, or after an error what it held before.
        target: "onert", "litert" or "one"; None for the usual one of the suffix.

    Raises:
        FormatError: a file is damaged, or the bundle does not fit the model; all mistakes are named.
        TargetError: the target cannot run the result, or writes files with another suffix.
        WriteError: ``path`` cannot be written.
    """
    chosen = target_for(Path(path), target)
    contents = read(source)
    metadata = {name: data for name, data in contents.metadata.items() if name != "torch2circle.origins"}  # one for each operator
    with well_formed(source):
        graph = completed(contents.graph, source)
        refuse(f"{source} is not well formed", misshapen(graph))
        entries = read_bundle(bundle)
        refuse(f"{bundle} does not fit {source}", strangers(graph, entries))
        types = _types(graph, entries)
        refuse(f"{bundle} does not fit {source}", gaps(graph, types))
        grafted = _grafted(graph, types, entries)
        refuse(f"{bundle} does not fit the operators of {source}", contradictions(grafted))
        final = legalize(grafted, as_general(chosen))
        size = save(final, path, identifier=chosen.identifier, metadata=metadata)
    left = tuple(v.name for v in graph.values() if v.type.dtype.is_float and v not in types)
    return Implanted(final, size, len(entries), left, tuple(islands(final)))


def refuse(what: str, mistakes: Mistakes) -> None:
    """Raise ``FormatError`` with all of ``mistakes``, if there are any."""
    found = list(dict.fromkeys(mistakes))
    if found:
        raise FormatError(listed(what, found))


@contextmanager
def well_formed(source: object) -> Iterator[None]:
    """Rules take for granted that operators are whole, as lowerings make them. What trips over those of a file is the file's error.

    Raises:
        FormatError: an operand that is missing, of another shape, or computed where its elements must be known.
    """
    try:
        yield
    except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, MemoryError, Bug) as error:
        said = error.message if isinstance(error, Bug) else f"{type(error).__name__}: {error}"
        hint = "`torch2circle check` may say more; where it finds nothing wrong, please report this with the file: it is a bug"
        raise FormatError(f"operators of {source} do not fit together, or are not understood ({one_line(said)})", hint=hint) from error


# -- a file's graph as lowerings write it


def completed(graph: Graph, source: object, custom: Callable[[Node], bool] = lambda node: False) -> Graph:
    """``graph`` with the options that a file leaves out, being the default, with a bias everywhere, and with places for messages.

    Where the file takes any size, the result takes that of its example: rules put sizes into constants. ``custom`` says which custom
    operators may stay.

    Raises:
        TargetError: an operator that is not in the table.
    """
    new: dict[Value, Value] = {v: _of_one_size(v) for v in graph.inputs}
    for node in graph.nodes():
        inputs = [v if v is None else new.get(v, v) for v in node.inputs]
        attrs, place = {**defaults(node.op), **node.attrs}, Where(node.op, node.out.name)
        made = node.rebuilt(inputs=_with_bias(node, inputs), attrs=attrs, where=place, outputs=tuple(map(_of_one_size, node.outputs)))
        new.update(zip(node.outputs, made.outputs, strict=True))
    graph = replace(graph, inputs=tuple(new[v] for v in graph.inputs), outputs=tuple(new.get(v, v) for v in graph.outputs))
    errors = [(finding.path, finding.message) for finding in check(graph)]
    unknown = "a custom operator: only its application knows which types it takes"
    errors += [(node.out.name, unknown) for node in graph.nodes() if node.op == "CUSTOM" and not custom(node)]
    if errors:
        raise TargetError(listed(f"torch2circle cannot write what is in {source}", errors))
    return graph


def _of_one_size(value: Value) -> Value:
    return replace(value, type=replace(value.type, open=())) if value.type.open else value


def _with_bias(node: Node, inputs: list[Value | None]) -> list[Value | None]:
    at = CHANNELS[node.op].bias if node.op in CHANNELS else len(inputs)
    if node.op not in CHANNELS or len(inputs) < at or inputs[at:] not in ([], [None]):
        return inputs
    shape = node.out.type.shape[-1:]
    return [*inputs[:at], Value(Type(shape, DType.FLOAT32), f"{node.out.name}.bias", data=Constant(lambda: np.zeros(shape, np.float32)))]


# -- integers


def _types(graph: Graph, entries: Mapping[str, Entry]) -> dict[Value, Type]:
    """What each tensor with an entry becomes, and each bias of zeros, which needs none."""
    types = {v: entries[v.name].type(v.type.shape) for v in graph.values() if v.name in entries}
    for node in graph.nodes():
        if node.op not in CHANNELS:
            continue
        x, weight, bias = operand(node, OPS[node.op].data), operand(node, 1), operand(node, CHANNELS[node.op].bias)
        if x in types and weight in types and bias not in types and bias.data is not None and not bias.array().any():
            types[bias] = Type(bias.type.shape, BIASES[WIDTHS.get(types[x].dtype, 8)], _product(types[x], types[weight]))
    return types


def _product(x: Type, weight: Type) -> Quant:
    assert x.quant is not None and weight.quant is not None
    scale = x.quant.scale[0] * weight.quant.scale
    return Quant(scale, np.zeros(len(scale), np.int64), None if len(scale) == 1 else 0)


def _grafted(graph: Graph, types: Mapping[Value, Type], entries: Mapping[str, Entry]) -> Graph:
    new = {v: _integers(v, types[v], entries.get(v.name)) if v in types else v for v in graph.values() if v.node is None}
    real: dict[Value, Value] = {}

    def in_float(value: Value) -> Value:
        if value not in types:
            return new[value]
        if value not in real:
            real[value] = _dequantized(new[value])
        return real[value]

    for node in graph.nodes():
        exact = _computes_in_integers(node, types)
        inputs = [v if v is None else new[v] if exact else in_float(v) for v in node.inputs]
        outputs = [replace(v, type=types[v]) if exact and v in types else v for v in node.outputs]
        made = node.rebuilt(inputs=inputs, outputs=outputs)
        for old, out in zip(node.outputs, made.outputs, strict=True):
            new[old] = out if exact or old not in types else emit("QUANTIZE", types[old], out, name=old.name, like=node)
    return replace(graph, inputs=tuple(new[v] for v in graph.inputs), outputs=tuple(new[v] for v in graph.outputs))


def _computes_in_integers(node: Node, types: Mapping[Value, Type]) -> bool:
    """Whether all float tensors become integers; a weighted operator has kernels for float activations and integer weights, too."""
    floats = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.dtype.is_float]
    hybrid = OPS[node.op].weighted and not any(v in types for v in floats if v.data is None)
    return node.op not in IN_FLOAT and (hybrid or all(v in types for v in floats))


def _integers(value: Value, type_: Type, entry: Entry | None) -> Value:
    """An input or constant of the file as ``type_``."""
    given = entry.data if entry is not None else None
    data = given or (value.data and value.data.map(lambda real: quantized(real, type_)))
    return replace(value, type=type_, data=data)


def _dequantized(value: Value) -> Value:
    """In float; a constant at once, since runtimes dequantize constants with one scale only."""
    quant, type_ = value.type.quant, Type(value.type.shape, DType.FLOAT32)
    assert quant is not None
    if value.data is None:
        return emit("DEQUANTIZE", type_, value, name=f"{value.name}.float")
    return Value(type_, f"{value.name}.float", data=value.data.map(lambda q: dequantized(q, quant)))


@rule("ADD", why="adding zero is requantization, which the target has or makes of something better")
def requantization(node: Node) -> Replacement:
    x, zero = operand(node), operand(node, 1)
    if zero.data is None or zero.type.size != 1 or node.attrs["fused_activation_function"] != "NONE" or x.type.shape != node.out.type.shape:
        return None
    if (zero.array() != (zero.type.quant.zero_point[0] if zero.type.quant else 0)).any():
        return None
    if x.type == node.out.type:
        return x
    return emit("QUANTIZE", node.out.type, x, like=node) if x.type.quant and node.out.type.quant else None


def _joining_at_once(target: Target) -> Rule:
    @rule("CONCATENATION", why="the runtime brings what it joins to one scale itself")
    def at_once(node: Node) -> Replacement:
        sources = [_before_requantization(v) for v in node.inputs]
        joined = node.rebuilt(inputs=sources)
        return joined.out if sources != list(node.inputs) and target.runs(joined) else None

    return at_once


def _before_requantization(value: Value | None) -> Value | None:
    source = value.node.inputs[0] if value is not None and value.node is not None and value.node.op == "QUANTIZE" else value
    return source if source is not None and value is not None and source.type.dtype is value.type.dtype else value


def _reading_in_float(target: Target, op: str) -> Rule:
    @rule(op, why="the runtime has it in float only, and its result is none of integers")
    def read_in_float(node: Node) -> Replacement:
        if target.runs(node) or any(v.type.quant for v in node.outputs) or not any(v and v.type.quant for v in node.inputs):
            return None
        return node.rebuilt(inputs=[_dequantized(v) if v and v.type.quant else v for v in node.inputs]).outputs

    return read_in_float


def as_general(target: Target) -> Target:
    """``target`` for graphs that no lowering made: any operator but those with weights may compute in float.

    RESHAPE and TRANSPOSE neither, since every target moves integers behind a DEQUANTIZE to the front of it.
    """
    ops = [op for op, spec in OPS.items() if not spec.weighted and op not in (*IN_FLOAT, "QUANTIZE", "RESHAPE", "TRANSPOSE")]
    general = [*island(target.runs, ops), *(_reading_in_float(target, op) for op in ops)]
    return replace(target, rules=[requantization, _joining_at_once(target), *target.rules, *general])
