"""Does the file compute what PyTorch computed? The real runtime decides, end to end and operator by operator.

For the operators the graph is taken apart: each one gets PyTorch's own recorded inputs, so that errors do not add up and
the first operator that differs is the one at fault.
"""

from __future__ import annotations

import filecmp
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import runtimes
from .arithmetic import moved_by_128
from .errors import MissingRuntime, VerifyFailed
from .format import read, save
from .ir import Array, Graph, Value, Where
from .quant import array_of
from .record import Recording, Ref
from .targets.base import Target

if TYPE_CHECKING:
    from .methods import ExportedMethods
    from .pipeline import ExportedModel


@dataclass(frozen=True)
class Comparison:
    """One tensor of the file against PyTorch's. ``lsb`` is in steps of the tensor's scale, or ``FLOAT_STEP``."""

    name: str
    op: str
    where: Where
    size: int
    equal: int
    lsb: float
    sqnr: float

    @property
    def share(self) -> float:
        """Share of elements that are bit-equal (in float: within one step)."""
        return self.equal / self.size if self.size else 1.0


@dataclass(frozen=True)
class Report:
    """``outputs`` end to end; ``operators`` each fed with PyTorch's own values; ``seconds`` of the last invocation.

    ``unverified``: custom operators of the file. The runtime has no kernel for them, so the file was not run and ``outputs`` is empty;
    ``operators`` are the others.
    """

    runtime: str
    outputs: Sequence[Comparison]
    operators: Sequence[Comparison]
    seconds: float
    unverified: Sequence[str] = ()

    @property
    def share(self) -> float:
        """Share of output elements that are bit-equal, 0 if the file was not run."""
        total = sum(c.size for c in self.outputs)
        return sum(c.equal for c in self.outputs) / total if total else 0.0

    @property
    def lsb(self) -> float:
        """Largest difference of an output."""
        return max((c.lsb for c in self.outputs), default=0.0)

    @property
    def worst(self) -> Comparison | None:
        """The operator that differs most."""
        return max(self.operators, key=lambda c: (c.lsb, 1 - c.share), default=None)

    def ok(self, lsb: float = 1) -> bool:
        """Whether no operator, fed with PyTorch's own values, is off by more than ``lsb``; ``unverified`` ones are not asked."""
        return all(c.lsb <= lsb for c in self.operators)


Compare = Callable[["ExportedModel", Graph, Sequence[Array]], list[Comparison]]
FLOAT_STEP = 2.0**-16
"""A float result is held to this part of the tensor's largest magnitude: float32 sums of some thousand products differ by their order."""


def verify(exported: ExportedModel, target: Target, path: Path | None = None) -> Report:
    """Run ``path`` (or a temporary file) on the recorded inputs, end to end and per operator.

    The operators are those of a fresh export; a ``path`` with another content must be as close to PyTorch as that is.

    Raises:
        MissingRuntime, TargetError, FormatError: the file cannot be run.
        VerifyFailed: ``path`` has other inputs or outputs than the model, or computes something else.
    """
    if target.runtime is None:
        raise MissingRuntime(f"target {target.name} has no runtime to verify in", hint="verify the same model for target onert or litert")
    graph = exported.for_target(target)
    parts = isolated(graph)
    custom = sorted({node.attrs["custom_code"] for node in graph.nodes() if node.op == "CUSTOM"})
    sized = [exported] if exported.twin is None else [exported, exported.twin]

    def compared(how: Compare, of: Graph, result: runtimes.Result) -> list[Comparison]:
        each = [how(model, of, got) for model, got in zip(sized, result.outputs, strict=False)]
        return [_together(at_sizes) for at_sizes in zip(*each, strict=True)]

    with tempfile.TemporaryDirectory(prefix="torch2circle-") as folder:
        fresh, pieces = (Path(folder) / f"{name}{target.suffix}" for name in ("model", "operators"))
        exported.save(fresh, target.name)
        save(parts, pieces, identifier=target.identifier)
        whole, fed = ([[recorded(each.recording, v) for v in g.inputs] for each in sized] for g in (graph, parts))
        if custom:
            alone = runtimes.run(target.runtime, pieces, fed) if parts.outputs else runtimes.Result([[] for _ in sized], [0.0])
            return Report(target.runtime, (), compared(_compare, parts, alone), alone.seconds[-1], custom)
        jobs = [(fresh, [*whole, whole[-1]]), (pieces, fed)]
        if path is not None and not filecmp.cmp(path, fresh, shallow=False):
            _must_fit(path, read(path).graph, graph)
            jobs.append((path, [*whole, whole[-1]]))
        results = []
        for result in runtimes.run_many(target.runtime, jobs):
            if isinstance(result, Exception):
                raise result
            results.append(result)
    outputs = compared(_compare_outputs, graph, results[0])
    if path is not None and len(results) > 2:
        given = compared(_compare_outputs, graph, results[2])
        _must_be_as_close(path, given, outputs)
        outputs = given
    return Report(target.runtime, outputs, compared(_compare, parts, results[1]), results[-1].seconds[-1])


def _together(at_sizes: Sequence[Comparison]) -> Comparison:
    """Comparisons of one tensor at several sizes as one."""
    worst = max(at_sizes, key=lambda c: c.lsb)
    size, equal, sqnr = sum(c.size for c in at_sizes), sum(c.equal for c in at_sizes), min(c.sqnr for c in at_sizes)
    return replace(worst, size=size, equal=equal, sqnr=sqnr)


def verify_methods(exported: ExportedMethods, target: Target, path: Path | None = None) -> Report:
    """Each method of ``path`` (or of a temporary file) by its signature, and its operators as ``verify`` runs them.

    Raises:
        MissingRuntime, TargetError, FormatError, VerifyFailed: as ``verify``.
    """
    graphs = exported.for_target(target)
    alone = {name: verify(method, target) for name, method in exported.methods.items()}
    operators = [replace(c, name=f"{name}: {c.name}") for name, report in alone.items() for c in report.operators]
    unverified = sorted({code for report in alone.values() for code in report.unverified})
    if unverified:  # a runtime takes a file as a whole or not at all
        return Report(str(target.runtime), (), operators, 0.0, unverified)
    with tempfile.TemporaryDirectory(prefix="torch2circle-") as folder:
        file = path or Path(folder) / f"model{target.suffix}"
        if path is None:
            exported.save(file, target.name)
        theirs, jobs = read(file).graphs, []
        if missing := [name for name in graphs if name not in theirs]:
            raise VerifyFailed(f"{file} has no method {', '.join(missing)}, only {', '.join(theirs)}", hint="export it again")
        for name, graph in graphs.items():
            _must_fit(file, theirs[name], graph)
            batch = [recorded(exported[name].recording, value) for value in graph.inputs]
            signature = runtimes.Signature(name, graph.input_names, graph.output_names) if target.calls_methods else None
            jobs.append(runtimes.Job(file, [batch, batch], signature))
        results = runtimes.run_many(str(target.runtime), jobs)
    outputs, seconds = list[Comparison](), 0.0
    for (name, graph), result in zip(graphs.items(), results, strict=True):
        if isinstance(result, Exception):
            raise result
        made = _compare_outputs(exported[name], graph, result.outputs[0])
        _must_be_as_close(file, made, alone[name].outputs)
        outputs += [replace(c, name=f"{name}: {c.name}") for c in made]
        seconds += result.seconds[-1]
    return Report(str(target.runtime), outputs, operators, seconds)


def _must_fit(path: Path, theirs: Graph, graph: Graph) -> None:
    for kind, ours, others in (("inputs", graph.inputs, theirs.inputs), ("outputs", graph.outputs, theirs.outputs)):
        wanted, found = ([str(replace(v.type, quant=None)) for v in values] for values in (ours, others))
        if wanted != found:
            message = f"{path} has other {kind} than the model: {', '.join(found)} instead of {', '.join(wanted)}"
            raise VerifyFailed(message, hint="it was made from another model, or with another --io-layout or other example inputs")


def _must_be_as_close(path: Path, given: Sequence[Comparison], fresh: Sequence[Comparison]) -> None:
    for ours, other in zip(fresh, given, strict=True):
        if other.lsb > max(1, ours.lsb):
            message = f"{path} is off by {other.lsb:g} LSB in output {ours.name}, a fresh export by {ours.lsb:g} LSB"
            raise VerifyFailed(message, hint="it was made from another model or with other options: export it again")


def isolated(graph: Graph) -> Graph:
    """The graph cut at every tensor PyTorch recorded: each becomes an input where it is read and an output where it is made.

    Custom operators, which no runtime has, are left out.
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
    fed_inputs = tuple(inputs.values())
    names = tuple(f"in{i}" for i in range(len(fed_inputs)))
    return Graph(fed_inputs, tuple(outputs), names, tuple(f"out{i}" for i in range(len(outputs))))


def recorded(recording: Recording, value: Value) -> Array:
    """PyTorch's tensor as the file holds it: axes in the file's order, integers in the target's 8-bit type."""
    assert value.origin is not None, value.name
    return _as_stored(array_of(recording.tensors[value.origin.tensor]), value)


def expected(exported: ExportedModel, value: Value) -> Array:
    """As ``recorded``, with what PyTorch documents where its kernel is known to deviate from that."""
    if value.origin is not None and value.origin.tensor in exported.corrected:
        return _as_stored(exported.corrected[value.origin.tensor], value)
    return recorded(exported.recording, value)


def _only_moved(value: Value) -> bool:
    """Whether the operator was fed the same recorded tensor, in another order."""
    sources = [] if value.node is None else [v.origin for v in value.node.inputs if v is not None]
    return any(origin is not None and value.origin is not None and origin.tensor == value.origin.tensor for origin in sources)


def _as_stored(array: Array, value: Value) -> Array:
    assert value.origin is not None
    array = array.transpose(value.origin.order)
    if array.dtype != value.type.dtype.numpy:
        array = moved_by_128(array, value.type.dtype)
    return np.array(array, order="C")  # np.ascontiguousarray would make a scalar a vector of one


def _compare(exported: ExportedModel, graph: Graph, got: Sequence[Array]) -> list[Comparison]:
    wanted = [recorded(exported.recording, out) if _only_moved(out) else expected(exported, out) for out in graph.outputs]
    return [compare(out, array, want, _step_of(exported, out)) for out, array, want in zip(graph.outputs, got, wanted, strict=True)]


def _step_of(exported: ExportedModel, value: Value) -> float | None:
    return None if value.origin is None else exported.steps.get(value.origin.tensor)


def _compare_outputs(exported: ExportedModel, graph: Graph, got: Sequence[Array]) -> list[Comparison]:
    wanted = outputs_of(exported, graph, [array.shape for array in got])
    return [compare(out, array, want, _step_of(exported, out)) for out, array, want in zip(graph.outputs, got, wanted, strict=True)]


def outputs_of(exported: ExportedModel, graph: Graph, shapes: Sequence[tuple[int, ...]] | None = None) -> list[Array]:
    """What the file of ``graph``, a target's, must give for the recorded inputs; ``shapes`` are the outputs', if not the graph's."""
    sizes = shapes or [value.type.shape for value in graph.outputs]
    outs = exported.recording.outputs
    return [
        expected(exported, value) if value.origin is not None else _plain(exported.recording, out, shape)
        for value, out, shape in zip(graph.outputs, outs, sizes, strict=True)
    ]


def _plain(recording: Recording, out: Any, shape: tuple[int, ...]) -> Array:
    """An output without an origin of its own: PyTorch's tensor, which has the same elements in the same order."""
    array = array_of(recording.tensors[out.index] if isinstance(out, Ref) else out)
    return array.reshape(shape) if array.size == np.prod(shape) else array


def compare(value: Value, got: Array, want: Array, step: float | None = None) -> Comparison:
    """``got`` against ``want`` in steps of the value's scale; a float value behind a DEQUANTIZE has that one's unless ``step`` is given."""
    if got.shape != want.shape:  # numpy would broadcast one to the other
        got = np.full(want.shape, np.nan)
    real, wanted = got.astype(np.float64), want.astype(np.float64)
    unlike = (real != wanted) & ~(np.isnan(real) & np.isnan(wanted))  # infinities may be equal
    off = np.subtract(real, wanted, out=np.zeros(want.shape), where=unlike)
    difference = np.abs(off) / (step or _step(value, want))
    signal, noise = np.square(wanted[np.isfinite(wanted)]).sum(), np.square(off).sum()
    sqnr = float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))
    broken = np.isnan(difference)
    difference = np.where(broken, np.inf, difference)
    node = value.node
    return Comparison(
        name=value.name,
        op=node.op if node else "input",
        where=node.where if node else Where(),
        size=want.size,
        equal=int((difference < 0.5).sum()),
        lsb=float(np.round(difference.max(initial=0.0), 3)),
        sqnr=sqnr,
    )


def _step(value: Value, want: Array) -> float:
    if not value.type.dtype.is_float:
        return 1.0
    scale = _scale_behind(value)
    return scale if scale is not None else float(np.abs(want[np.isfinite(want)]).max(initial=0.0)) * FLOAT_STEP or 1.0


def _scale_behind(value: Value) -> float | None:
    """The scale of the integers that a float value was dequantized from, through operators that only move elements."""
    while value.node is not None:
        source = value.node.inputs[0]
        if source is None:
            return None
        if value.node.op == "DEQUANTIZE":
            return float(source.type.quant.scale[0]) if source.type.quant else None
        if value.node.op not in ("RESHAPE", "TRANSPOSE"):
            return None
        value = source
    return None
