"""A target: the convention for 8-bit tensors, what its runtime was measured to execute, and the rules that make a graph fit.

The measured table, ``capabilities.json``, comes from ``tools/probe_runtimes.py``. What a runtime gets silently wrong stands
there as ``wrong`` and is treated as what it refuses.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

from ..arithmetic import moved_by_128
from ..errors import TargetError
from ..ir import DType, Finding, Graph, Node, Value, Where
from ..optimize import RULES as CLEANING
from ..optimize import Rule, rewrite, share
from ..optimize.engine import emit
from ..optimize.layout import const
from ..spec import OPS, scheme

RIGHT = ("exact", "1lsb", "hybrid")
EIGHT_BIT = (DType.INT8, DType.UINT8)
MOST = 2**31 - 1
"""Elements that kernels count in 32 bits; a dimension has 32 bits in the file, too."""


@dataclass(frozen=True)
class Target:
    """``eight_bit``: the type all 8-bit activations and weights get; ``table``: operator -> scheme -> verdict;
    ``sized_rules``: make operators that the runtime has only where the file fixes all sizes;
    ``last_rules``: for when ``rules`` have settled, because they look into the constants;
    ``max_rank``: the most dimensions a tensor may have; ``opens``: as ``table``, on tensors with dimensions of any size; ``frees_outputs``:
    it takes back the memory of a graph's output when the last operator has read it, and the next ones overwrite it, and of an output that
    is given twice one is never filled; ``calls_methods``: it can call each method of a file that has several; ``needs_elements``: it dies
    where something is made of a tensor without any; ``wide_tables``: its GATHER was measured on a table of more than ``MOST`` elements;
    ``slow_channels``: its kernels for weights with a scale for each channel are many times slower than those for one scale."""

    name: str
    identifier: str
    suffix: str
    runtime: str | None
    eight_bit: DType
    table: Mapping[str, Mapping[str, str]]
    rules: Sequence[Rule] = ()
    sized_rules: Sequence[Rule] = ()
    last_rules: Sequence[Rule] = ()
    max_rank: int = 99
    opens: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    frees_outputs: bool = False
    calls_methods: bool = False
    needs_elements: bool = False
    wide_tables: bool = False
    slow_channels: bool = False

    def verdict(self, node: Node) -> str:
        """``exact``, ``1lsb``, ``hybrid``, ``wrong``, ``refused``, ``crash``, or ``unknown`` if it was never measured.

        ``hybrid`` is within what quantizing float activations to 8 bits changes. Where the number of dimensions matters, the table
        has the scheme with ``+rank5`` or ``+rank6`` too.
        """
        values = [v for v in (*node.inputs, *node.outputs) if v is not None]
        rank = max(v.type.rank for v in values)
        if self.needs_elements and node.out.type.size and any(v is not None and v.data is None and not v.type.size for v in node.inputs):
            return "of no elements"
        if rank > self.max_rank:
            return f"more than {self.max_rank} dimensions"
        if any(v.type.size > MOST for v in values) and not self._finds_rows(node):
            return "more than 2^31 - 1 elements"
        values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.open]
        if any(v.variable for v in values):  # LiteRT goes on with the memory it had for another size, and writes behind its end
            return "wrong where the size of a state changes"
        if any(v.type.size == 0 for v in values):
            return "no element for any size"
        cells, key = (self.opens if values else self.table).get(node.op, {}), scheme(node)
        return cells.get(f"{key}+rank{rank}", cells.get(key, "unknown"))

    def _finds_rows(self, node: Node) -> bool:
        """Whether the one operand that is too large for most kernels is a table of rows."""
        if not self.wide_tables or node.op != "GATHER" or node.attrs.get("axis"):
            return False
        table, others = node.inputs[0], (*node.inputs[1:], *node.outputs)
        return table is not None and max(table.type.shape) <= MOST and all(v is None or v.type.size <= MOST for v in others)

    @property
    def reads_halves(self) -> bool:
        """Whether the runtime reads constants of float16."""
        return self.table.get("DEQUANTIZE", {}).get("f16->f32") in RIGHT

    def runs(self, node: Node) -> bool:
        """Whether the runtime gives the right result for this operator with these types, or the application brings the kernel."""
        return node.op == "CUSTOM" or self.verdict(node) in RIGHT


@cache
def measured(runtime: str, kind: str = "ops") -> Mapping[str, Mapping[str, str]]:
    """The capability table of a runtime, as probed; with ``kind="open"``, on operands whose sizes the file leaves open."""
    table = json.loads(files(__package__).joinpath("capabilities.json").read_text("utf-8"))[runtime].get(kind, {})
    return {op: dict(schemes) for op, schemes in table.items()}


@cache
def measured_version(runtime: str) -> str:
    """Of the runtime that the table was measured with."""
    return str(json.loads(files(__package__).joinpath("capabilities.json").read_text("utf-8"))[runtime]["version"])


def legalize(graph: Graph, target: Target, fired: Counter[str] | None = None) -> Graph:
    """The graph in the target's convention, every operator one that the runtime executes rightly.

    Raises:
        TargetError: naming every operator that cannot be, with its place.
    """
    graph = rewritten(graph, target, fired)
    if target.frees_outputs:
        graph = with_outputs_apart(graph)
    must_run(graph, target)
    return graph


def must_run(graph: Graph, target: Target) -> None:
    """Refuse a graph with an operator that the runtime does not execute rightly.

    Raises:
        TargetError: naming every one of them, with its place.
    """
    refused = [node for node in graph.nodes() if not target.runs(node)]
    if refused:
        lines = [f"  {n.op} ({scheme(n)}: {target.verdict(n)}) at {n.where}" for n in refused[:20]]
        more = [f"  and {len(refused) - 20} more"] if len(refused) > 20 else []
        sizes = " on tensors of any size" if any(v.type.open for node in refused for v in node.outputs) else ""
        others = {"onert": "litert", "one": "litert", "litert": "onert"}[target.name]
        if target.name == "onert" and any("i16" in scheme(node) for node in refused):
            others = "litert and one"
        raise TargetError(
            "\n".join([f"target {target.name} cannot run {len(refused)} operator(s){sizes}:", *lines, *more]),
            hint=f"--target {others} may run them",
            refused=[(node.op, scheme(node), target.verdict(node), node.where) for node in refused],
        )


def rewritten(graph: Graph, target: Target, fired: Counter[str] | None = None) -> Graph:
    """The graph in the target's convention, with all that its rules can do, whether or not the runtime executes it then."""
    settled = rewrite(flavoured(graph, target.eight_bit), [*CLEANING, *target.sized_rules, *target.rules], fired)
    return share(rewrite(settled, target.last_rules, fired))


def with_outputs_apart(graph: Graph) -> Graph:
    """A copy of each output that an operator reads or that is there already, so that no output is read, nor given twice.

    Inputs may be read: they are the caller's memory.
    """
    read = {value for node in graph.nodes() for value in node.inputs} - set(graph.inputs)
    # Also the first of an output that is given twice: the second's copy reads it.
    read |= {value for value, count in Counter(graph.outputs).items() if count > 1 and value.node is not None}
    outputs: list[Value] = []
    for value in graph.outputs:
        outputs.append(_copy(value) if value in read or value in outputs else value)
    return replace(graph, outputs=tuple(outputs))


def _copy(value: Value) -> Value:
    if value.data is not None:
        return replace(value, name=f"{value.name}.copy")  # the file has the elements of equal constants once
    shape = const(f"{value.name}.shape", value.type.shape)
    out = replace(value, name=f"{value.name}.copy")
    where = value.node.where if value.node else Where()
    return Node.make("RESHAPE", (value, shape), (out,), {"new_shape": list(value.type.shape)}, where).out


def flavoured(graph: Graph, eight_bit: DType) -> Graph:
    """All 8-bit tensors as ``eight_bit``: the integers and zero points move by 128 together, so every real value stays.

    Graph inputs and outputs keep PyTorch's type, with a QUANTIZE behind or in front of them where it differs.
    """
    new: dict[Value, Value] = {}

    def converted(value: Value) -> Value:
        if value not in new:
            new[value] = _converted(value, eight_bit)
        return new[value]

    for value in graph.inputs:
        new[value] = _requantized_as(value, eight_bit)
    for node in graph.nodes():
        inputs = [None if v is None else converted(v) for v in node.inputs]
        made = node.rebuilt(inputs=inputs, outputs=[_converted(v, eight_bit) for v in node.outputs])
        new.update(zip(node.outputs, made.outputs, strict=True))
    outputs = [value if value.node is None else _requantized_as(new[value], value.type.dtype) for value in graph.outputs]
    return replace(graph, outputs=tuple(outputs))


def _converted(value: Value, dtype: DType) -> Value:
    type_ = value.type
    if type_.dtype not in EIGHT_BIT or type_.quant is None or type_.dtype is dtype:
        return value
    data = value.data and value.data.map(lambda q: moved_by_128(q, dtype))
    return replace(value, type=type_.as_eight_bit(dtype), data=data)


def _requantized_as(value: Value, dtype: DType) -> Value:
    if value.type.dtype not in EIGHT_BIT or value.type.quant is None or value.type.dtype is dtype:
        return value
    return emit("QUANTIZE", value.type.as_eight_bit(dtype), value, name=f"{value.name}.{dtype.value}")


def island_nodes(graph: Graph) -> list[Node]:
    """Operators that compute in float between quantized ones: nothing is lost, but they cost time."""
    from_ints: set[Value] = set()
    for node in graph.nodes():
        if node.op == "DEQUANTIZE" or any(v in from_ints for v in node.inputs if v is not None):
            from_ints.update(out for out in node.outputs if out.type.dtype.is_float)
    into_ints: set[Value] = set()
    for node in reversed(graph.nodes()):
        if node.op == "QUANTIZE" or any(out in into_ints for out in node.outputs):
            into_ints.update(v for v in node.inputs if v is not None and v.type.dtype.is_float)
    return [n for n in graph.nodes() if n.op not in ("QUANTIZE", "DEQUANTIZE") and n.out in from_ints and n.out in into_ints]


def islands(graph: Graph) -> list[Finding]:
    """A note for each of ``island_nodes``, and for each layer on integers whose result the model leaves in float."""
    inside = island_nodes(graph)
    said = [(node.where, f"{node.op} computes in float ({node.where})") for node in inside]
    layers = [node for node in graph.nodes() if node not in inside and _dequantizes(node)]
    said += [(node.where, f"{node.op} computes in float: the model does not quantize its result ({node.where})") for node in layers]
    return [Finding("note", "island", where.module or "<top>", message) for where, message in said]


def _dequantizes(node: Node) -> bool:
    data = node.inputs[OPS[node.op].data] if OPS[node.op].weighted else None
    source = data.node.inputs[0] if data is not None and data.node is not None and data.node.op == "DEQUANTIZE" else None
    return source is not None and source.data is None


__all__ = ["OPS", "Target", "flavoured", "island_nodes", "islands", "legalize", "measured", "must_run", "rewritten"]
