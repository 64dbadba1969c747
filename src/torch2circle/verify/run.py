"""Run a file in its runtime, end to end and operator by operator, and compare every tensor with PyTorch's.

For the operators the file's graph is taken apart: each one gets PyTorch's own recorded inputs, so that errors do not add up and
the first operator that differs is the one at fault.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import runtimes
from ..errors import MissingRuntime, TargetError, VerifyFailed
from ..format import read
from ..ir import Array, Graph, Node, Value, Where
from ..targets.base import Target, with_outputs_apart
from .align import Aligned, Pair, align, as_read
from .blame import alone, first_that_fails, refusal, scratch
from .isolate import expected, isolated, judged, outputs_of, recorded, wanted
from .reasons import Piece, reason
from .report import Comparison, Report, compare, together

if TYPE_CHECKING:
    from ..methods import ExportedMethods
    from ..pipeline import ExportedModel

LEAST_ALIGNED = 0.5
"""A file with less than this share of the model's recorded tensors is of another layout: what it has of them by chance tells nothing."""
TIMEOUT = 600.0


def verify(
    exported: ExportedModel,
    target: Target,
    path: Path | None = None,
    samples: Sequence[ExportedModel] = (),
    timeout: float = TIMEOUT,
    given: Graph | None = None,
) -> Report:
    """Run ``path`` (or a temporary file) on the recorded inputs, end to end and per operator.

    Args:
        exported: the model.
        target: its runtime runs.
        path: a file for that target; its own operators are judged.
        samples: the same model recorded on other inputs; all comparisons are over all of them.
        timeout: seconds that one run of a file may take.
        given: judge the operators of this graph, a method of ``path``, and leave the whole to the caller.

    Raises:
        MissingRuntime, TargetError, FormatError: the file cannot be run.
        VerifyFailed: ``path`` has other inputs or outputs than the model; or its operators cannot be told, and it computes something else.
    """
    if target.runtime is None:
        raise MissingRuntime(f"target {target.name} has no runtime to verify in", hint="verify the same model for target onert or litert")
    graph = exported.for_target(target)
    sized = [exported] if exported.twin is None else [exported, exported.twin]
    with tempfile.TemporaryDirectory(prefix="torch2circle-") as folder:
        theirs, same = given, False
        if path is not None and given is None:
            theirs = read(path).graph
            _must_fit(path, theirs, graph, inputs_only=True)
            same = exported.is_in(path, target.name)
            theirs = None if same else theirs
        fresh = _fresh(exported, target, Path(folder), path if same else None)
        run = _Run(target, [*sized, *samples], Path(folder), timeout, path or fresh, fresh)
        ours = as_read(graph, read(fresh).graph)  # its constants are in the file, and need not be unpacked again
        if theirs is None:
            return run.report(graph, _own_pairs(ours), "", whole=given is None)
        aligned = align(ours, theirs)
        shown = path or fresh
        if aligned.share < LEAST_ALIGNED:
            _must_fit(shown, theirs, graph)
            why = f"{shown.name} has {aligned.share:.0%} of the tensors that the model records: of another layout, compared end to end only"
            return run.report(graph, _own_pairs(ours), why, whole=given is None)
        if len(theirs.outputs) != len(graph.outputs) or not any(pair.differs for pair in aligned.pairs):
            _must_fit(shown, theirs, graph)
        return run.report(graph, aligned, "", whole=given is None)


def _fresh(exported: ExportedModel | ExportedMethods, target: Target, folder: Path, same: Path | None) -> Path:
    """A file of the export: ``same``, if that is one, or a new one."""
    if same is not None:
        return same
    fresh = folder / f"model{target.suffix}"
    exported.save(fresh, target.name)
    return fresh


def _own_pairs(graph: Graph) -> Aligned:
    return Aligned(graph, [Pair(node, node) for node in graph.nodes()], 1.0)


@dataclass(frozen=True)
class _Run:
    """One verification: ``models`` are the recordings, ``file`` runs end to end, ``fresh`` is its measure if its operators are others."""

    target: Target
    models: Sequence[ExportedModel]
    folder: Path
    timeout: float
    file: Path
    fresh: Path

    def report(self, graph: Graph, aligned: Aligned, unaligned: str, whole: bool = True) -> Report:
        """``graph`` is the model's, ``aligned.graph`` the one whose operators are judged."""
        runtime = str(self.target.runtime)
        custom = sorted({node.attrs["custom_code"] for node in aligned.graph.nodes() if node.op == "CUSTOM"})
        fed = isolated(aligned.graph)
        operators, failing = self.operators(aligned, fed)
        if custom or not whole:
            rows = self.rows(graph, aligned, operators, ())
            return Report(runtime, (), rows, 0.0, custom, samples=len(self.models))
        inputs = [[recorded(each.recording, v) for v in graph.inputs] for each in self.models]
        done = self.run(self.file, [*inputs, inputs[-1]])
        if isinstance(done, TargetError):
            outputs = self.outputs(graph, [[np.empty(0)] * len(graph.outputs)] * len(self.models))
            rows = self.rows(graph, aligned, operators, outputs)
            report = Report(runtime, outputs, rows, 0.0, unaligned=unaligned, failed=done.message, samples=len(self.models))
            if any(c.differs for c in rows):
                return report
            raise self.located(done, aligned, failing, inputs[0]) from None
        outputs = self.outputs(graph, done.outputs)
        rows = self.rows(graph, aligned, operators, outputs)
        if unaligned or (any(None in (pair.ours, pair.theirs) for pair in aligned.pairs) and not any(c.differs for c in rows)):
            self.must_be_as_close(graph, inputs, outputs)
        tensors = self.tensors(aligned, inputs) if not unaligned else ()
        return Report(runtime, outputs, rows, done.seconds[-1], (), tensors, unaligned, "", len(self.models))

    def run(self, path: Path, batches: Sequence[Sequence[Array]]) -> runtimes.Result | TargetError:
        return runtimes.run_many(str(self.target.runtime), [(path, batches)], timeout=self.timeout)[0]

    def save(self, graph: Graph, name: str) -> Path:
        return scratch(graph, self.folder / f"{name}{self.target.suffix}", self.target)

    def operators(self, aligned: Aligned, parts: Graph) -> tuple[dict[Value, Comparison], list[Value]]:
        """Each result fed with PyTorch's own values, by the value of the file; and those at which the runtime fails."""
        made = judged(aligned.graph)
        if not made:
            return {}, []
        batches = [[recorded(each.recording, v) for v in parts.inputs] for each in self.models]
        file = self.save(parts, "operators")
        done = self.run(file, batches)
        file.unlink()  # it has all constants, too
        results: list[list[Array] | TargetError]
        if isinstance(done, TargetError):  # of one operator, or of the many together
            results = alone(self.target, parts, batches, self.folder, self.timeout)
        else:
            results = [[outputs[i] for outputs in done.outputs] for i in range(len(made))]
        compared, failing = dict[Value, Comparison](), list[Value]()
        for value, part, result in zip(made, parts.outputs, results, strict=True):
            if isinstance(result, TargetError):
                failing.append(value)
                compared[value] = replace(compare(part, np.empty(0), wanted(self.models[0], part)), reason=refusal(result))
                continue
            each = []
            for model, batch, got in zip(self.models, batches, result, strict=True):
                want = wanted(model, part)
                one = compare(part, got, want, model.steps.get(part.origin.tensor) if part.origin else None)
                feeds = dict(zip(parts.inputs, batch, strict=True))
                each.append(replace(one, reason=reason(Piece(part, feeds, got, want, one, model, str(self.target.runtime)))))
            compared[value] = together(each)
        return compared, failing

    def outputs(self, graph: Graph, got: Sequence[Sequence[Array]]) -> list[Comparison]:
        each = [
            [
                compare(value, array, want, model.steps.get(value.origin.tensor) if value.origin else None)
                for value, array, want in zip(graph.outputs, arrays, outputs_of(model, graph, [a.shape for a in arrays]), strict=True)
            ]
            for model, arrays in zip(self.models, got, strict=False)
        ]
        return [together(at) for at in zip(*each, strict=True)]

    def tensors(self, aligned: Aligned, inputs: Sequence[Sequence[Array]]) -> list[Comparison]:
        """The results of ``operators`` end to end, from a copy of the file that gives them out; none where the runtime does not."""
        made = judged(aligned.graph)
        tapped = replace(aligned.graph, outputs=tuple(made), output_names=tuple(f"out{i}" for i in range(len(made))))
        done = self.run(self.save(with_outputs_apart(tapped) if self.target.frees_outputs else tapped, "tensors"), inputs)
        if isinstance(done, TargetError):
            return []
        each = [
            [compare(value, array, expected(model, value), model.steps.get(value.origin.tensor) if value.origin else None)
             for value, array in zip(made, arrays, strict=True)]
            for model, arrays in zip(self.models, done.outputs, strict=True)
        ]  # fmt: skip
        return [together(at) for at in zip(*each, strict=True)]

    def rows(self, graph: Graph, aligned: Aligned, compared: dict[Value, Comparison], outputs: Sequence[Comparison]) -> list[Comparison]:
        """The comparisons in the order the operators run, with what each has otherwise, and those that only one side has."""
        rows, places = list[Comparison](), _places([pair.ours for pair in aligned.pairs if pair.ours is not None])
        for pair in aligned.pairs:
            if pair.ours is None or pair.theirs is None:
                rows += _one_sided(pair, aligned, compared, outputs)
                continue
            results = [compared[out] for out in pair.theirs.outputs if out in compared]
            if not results and pair.differs:  # nothing was recorded that it could be held to: what it makes is judged with what reads it
                out = pair.theirs.out
                results = [Comparison(out.name, pair.theirs.op, pair.theirs.where, 0, 0, 0.0, float("inf"))]
            for c in results:
                said = "; ".join((*pair.differs, *pair.fed))
                said = said if said and c.equal < c.size else c.reason
                rows.append(replace(c, where=places[pair.ours], differs=pair.differs, reason=said))
        return rows

    def must_be_as_close(self, graph: Graph, inputs: Sequence[Sequence[Array]], given: Sequence[Comparison]) -> None:
        done = self.run(self.fresh, inputs)
        if isinstance(done, TargetError):
            raise done
        _must_be_as_close(self.file, given, self.outputs(graph, done.outputs))

    def located(self, failure: TargetError, aligned: Aligned, failing: Sequence[Value], inputs: Sequence[Array]) -> TargetError:
        """The failure with the operator that causes it: one that fails alone, or the last of the shortest beginning that fails."""
        node = failing[0].node if failing else first_that_fails(self.target, aligned.graph, inputs, self.folder, self.timeout)
        if node is None:
            return failure
        message = f"{failure.message}; the first operator that does this is {node.op} {node.out.name}"
        return TargetError(message, where=node.where, hint=failure.hint)


def _places(nodes: Sequence[Node]) -> dict[Node, Where]:
    """Each operator's place in the model; of one that only brings a tensor into the order that its reader asks for, the reader's."""
    places: dict[Node, Where] = {}
    readers: dict[Value, Node] = {}
    for node in reversed(nodes):
        reader = next((readers[out] for out in node.outputs if out in readers), None)
        places[node] = places[reader] if reader is not None and not node.where.op else node.where
        readers.update((value, node) for value in node.inputs if value is not None)
    return places


def _one_sided(
    pair: Pair, aligned: Aligned, compared: dict[Value, Comparison], outputs: Sequence[Comparison]
) -> list[Comparison]:
    """A row for an operator that only the model or only the file has, where what reads it comes out wrong."""
    node = pair.ours or pair.theirs
    assert node is not None
    ours = pair.theirs is None
    read_by: dict[Value, list[Pair]] = {}
    for other in aligned.pairs:
        reader = other.ours if ours else other.theirs
        for value in reader.inputs if reader is not None else ():
            if value is not None:
                read_by.setdefault(value, []).append(other)
    waiting, seen = list(node.outputs), set(node.outputs)
    while waiting:
        value = waiting.pop()
        if ours and any(c.name == value.name and c.lsb > 1 for c in outputs):
            return [_lacking(pair, None)]
        for other in read_by.get(value, ()):
            results = [compared[out] for out in other.theirs.outputs if out in compared] if other.theirs else []
            if any(c.lsb > 1 for c in results):
                return [_lacking(pair, results[0])]
            reader = other.ours if ours else other.theirs
            if not results and reader is not None:
                fresh = [out for out in reader.outputs if out not in seen]
                seen.update(fresh)
                waiting += fresh
    return []


def _lacking(pair: Pair, reader: Comparison | None) -> Comparison:
    node = pair.ours or pair.theirs
    assert node is not None
    said = "the file has no such operator" if pair.theirs is None else "the model has no such operator"
    where = node.where if pair.theirs is None or reader is None else reader.where
    return Comparison(node.out.name, node.op, where, node.out.type.size, 0, float("inf"), -float("inf"), said, (said,))


def verify_methods(exported: ExportedMethods, target: Target, path: Path | None = None, timeout: float = TIMEOUT) -> Report:
    """Each method of ``path`` (or of a temporary file) by its signature, and its operators as ``verify`` runs them.

    Raises:
        MissingRuntime, TargetError, FormatError, VerifyFailed: as ``verify``.
    """
    graphs = exported.for_target(target)
    with tempfile.TemporaryDirectory(prefix="torch2circle-") as folder:
        same = path is None or exported.is_in(path, target.name)
        fresh = _fresh(exported, target, Path(folder), path if same else None)
        file = path or fresh
        theirs, jobs = read(file).graphs, []
        if missing := [name for name in graphs if name not in theirs]:
            raise VerifyFailed(f"{file} has no method {', '.join(missing)}, only {', '.join(theirs)}", hint="export it again")
        for name, graph in graphs.items():
            _must_fit(file, theirs[name], graph)
            batch = [recorded(exported[name].recording, value) for value in graph.inputs]
            signature = runtimes.Signature(name, graph.input_names, graph.output_names) if target.calls_methods else None
            jobs.append(runtimes.Job(file, [batch, batch], signature))
        fresh_ones = {name: verify(method, target, timeout=timeout) for name, method in exported.methods.items()}
        if not same:  # each method of the file, its own operators
            operators_of = {n: verify(m, target, path, timeout=timeout, given=theirs[n]) for n, m in exported.methods.items()}
        else:
            operators_of = fresh_ones
        operators = [replace(c, name=f"{name}: {c.name}") for name, report in operators_of.items() for c in report.operators]
        tensors = [replace(c, name=f"{name}: {c.name}") for name, report in fresh_ones.items() for c in report.tensors] if same else []
        unverified = sorted({code for report in fresh_ones.values() for code in report.unverified})
        if unverified:  # a runtime takes a file as a whole or not at all
            return Report(str(target.runtime), (), operators, 0.0, unverified)
        results = runtimes.run_many(str(target.runtime), jobs, timeout=timeout)
    outputs, seconds = list[Comparison](), 0.0
    for (name, graph), result in zip(graphs.items(), results, strict=True):
        if isinstance(result, Exception):
            raise result
        run = _Run(target, [exported[name]], file, timeout, file, file)
        made = run.outputs(graph, result.outputs[:1])
        if all(not c.differs for c in operators):
            _must_be_as_close(file, made, fresh_ones[name].outputs)
        outputs += [replace(c, name=f"{name}: {c.name}") for c in made]
        seconds += result.seconds[-1]
    unaligned = "; ".join(f"{name}: {report.unaligned}" for name, report in operators_of.items() if report.unaligned)
    return Report(str(target.runtime), outputs, operators, seconds, tensors=tensors, unaligned=unaligned)


def _must_fit(path: Path, theirs: Graph, graph: Graph, inputs_only: bool = False) -> None:
    sides = [("inputs", graph.inputs, theirs.inputs), ("outputs", graph.outputs, theirs.outputs)]
    for kind, ours, others in sides[: 1 if inputs_only else 2]:
        wanted, found = ([str(replace(v.type, quant=None)) for v in values] for values in (ours, others))
        if wanted != found:
            message = f"{path} has other {kind} than the model: {', '.join(found)} instead of {', '.join(wanted)}"
            raise VerifyFailed(message, hint="it was made from another model, or with another --io-layout or other example inputs")


def _must_be_as_close(path: Path, given: Sequence[Comparison], fresh: Sequence[Comparison]) -> None:
    for ours, other in zip(fresh, given, strict=True):
        if other.lsb > max(1, ours.lsb):
            message = f"{path} is off by {other.lsb:g} LSB in output {ours.name}, a fresh export by {ours.lsb:g} LSB"
            raise VerifyFailed(message, hint="it was made from another model or with other options: export it again")
