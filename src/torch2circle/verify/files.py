"""Two files of one model, each in its own runtime on the same inputs: what differs, tensor by tensor."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import runtimes
from ..arithmetic import along_axis, moved_by_128
from ..errors import MissingRuntime, TargetError, UserError, VerifyFailed
from ..format import read, save
from ..implant.graft import well_formed
from ..ir import Array, DType, Graph, Type, Value
from ..targets import target_for
from ..targets.base import Target, with_outputs_apart
from ..text import shown
from .report import Comparison, Limits, compare, together

EIGHT_BIT = (DType.INT8, DType.UINT8)
MOST_RANDOM = 256 << 20
"""Bytes of random inputs: a file may claim any size."""
Inputs = Mapping[str, Array] | Sequence[Array]


@dataclass(frozen=True)
class FilesReport:
    """``outputs`` and ``tensors`` of the second file against the first one's; ``tensors`` are those that both call alike.

    Integers of uint8 and int8 are compared 128 apart. All is end to end: an early difference shows in all that comes behind it.
    ``apart``: tensors of both that cannot be compared, and why.
    """

    runtimes: tuple[str, str]
    outputs: Sequence[Comparison]
    tensors: Sequence[Comparison]
    apart: Sequence[str] = ()
    samples: int = 1

    @property
    def first(self) -> Comparison | None:
        """The first tensor, in the order of the second file, that is not bit-equal."""
        return next((c for c in self.tensors if c.equal < c.size), None)

    def within(self, limits: Limits) -> bool:
        """Whether all outputs are at most ``limits.outputs_lsb`` (else ``limits.lsb``) apart, and within its other limits."""
        return not self.broken(limits)

    def broken(self, limits: Limits) -> list[str]:
        """What the outputs break, in words."""
        lsb, sqnr = limits.lsb if limits.outputs_lsb is None else limits.outputs_lsb, limits.outputs_sqnr or limits.sqnr
        asked = replace(limits, lsb=lsb, sqnr=sqnr)
        return [f"output {c.name} is {said}" for c in self.outputs for said in asked.broken_by(c)]


def compare_files(a: Path | str, b: Path | str, inputs: Sequence[Inputs] = (), random: int = 0, timeout: float = 600) -> FilesReport:
    """Run two files on the same inputs, a .circle file in onert and a .tflite file in LiteRT, and compare what they compute.

    Args:
        a: the file that is the measure.
        b: the file that is compared with it.
        inputs: samples, each by name or in the order of the graphs' inputs.
        random: how many random samples more: floats from -1 to 1, all integers of a type of 8 bits, else 0 and 1; the same on each
            call. Without ``inputs`` at least one is made.
        timeout: seconds that one run of a file may take.

    Raises:
        MissingRuntime: a runtime is not installed.
        FormatError, TargetError: a file is none, or its runtime cannot run it.
        UserError: a sample does not fit the files' inputs.
        VerifyFailed: the files do not take the same inputs, or give another number of outputs.
    """
    paths = Path(a), Path(b)
    targets = [target_for(path) for path in paths]
    graphs = [read(path).graph for path in paths]
    for target in targets:
        if target.runtime is None:
            raise MissingRuntime(f"target {target.name} has no runtime to verify in")
    _must_fit(paths, graphs)
    samples = [_ordered(sample, graphs[0]) for sample in inputs]
    samples += [_random(graphs[0], seed) for seed in range(max(random, 0 if samples else 1))]
    with tempfile.TemporaryDirectory(prefix="torch2circle-") as folder:
        runs = [_run(Path(folder), *each, graphs[0], samples, timeout) for each in zip(paths, targets, graphs, strict=True)]
    (outputs, tensors, apart) = _compared(graphs, runs)
    return FilesReport((str(targets[0].runtime), str(targets[1].runtime)), outputs, tensors, apart, len(samples))


def _must_fit(paths: Sequence[Path], graphs: Sequence[Graph]) -> None:
    for kind, ours, others in (("inputs", graphs[0].inputs, graphs[1].inputs), ("outputs", graphs[0].outputs, graphs[1].outputs)):
        if len(ours) != len(others):
            raise VerifyFailed(f"{paths[1]} has {len(others)} {kind}, {paths[0]} has {len(ours)}", hint="they are of different models")
    for first, second in zip(graphs[0].inputs, graphs[1].inputs, strict=True):
        if why := _unlike(first.type, second.type):
            message = f"input {first.name} of {paths[0]} is {first.type}, of {paths[1]} {second.type}: {why}"
            raise VerifyFailed(message, hint="write both alike")


def _unlike(a: Type, b: Type) -> str:
    """Why elements of two types cannot be compared; empty if they can."""
    if a.shape != b.shape:
        return "other shapes"
    if a.dtype is not b.dtype and not (a.dtype in EIGHT_BIT and b.dtype in EIGHT_BIT):
        return "other element types"
    return ""


def _moved(array: Array, from_: Type, to: Type) -> Array:
    """8-bit integers as those of the other type: with a scale the real value stays, and without, as of an image, the integer."""
    if from_.dtype is to.dtype or from_.dtype not in EIGHT_BIT or from_.quant is None:
        return array.astype(to.dtype.numpy)
    return moved_by_128(array, to.dtype)


def _ordered(sample: Inputs, graph: Graph) -> list[Array]:
    if isinstance(sample, Mapping):
        if sorted(sample) != sorted(graph.input_names):
            raise UserError(f"the sample has the inputs {', '.join(sample)}; the file takes {', '.join(graph.input_names)}")
        arrays = [np.asarray(sample[name]) for name in graph.input_names]
    else:
        arrays = [np.asarray(array) for array in sample]
    if len(arrays) != len(graph.inputs):
        raise UserError(f"the sample has {len(arrays)} inputs, the file takes {len(graph.inputs)}: {', '.join(graph.input_names)}")
    for array, value, name in zip(arrays, graph.inputs, graph.input_names, strict=True):
        sizes_fit = array.ndim == value.type.rank and all(
            given == size or axis in value.type.open for axis, (given, size) in enumerate(zip(array.shape, value.type.shape, strict=True))
        )
        if not sizes_fit or array.dtype != value.type.dtype.numpy:
            raise UserError(f"input {name} is {array.dtype}{list(array.shape)}, the file takes {replace(value.type, quant=None)}")
    return arrays


def _random(graph: Graph, seed: int) -> list[Array]:
    claimed = sum(value.type.nbytes for value in graph.inputs)
    if claimed > MOST_RANDOM:
        hint = "give inputs of its sizes, if it really takes such"
        raise UserError(f"random inputs would take {claimed:,} bytes: {', '.join(shown(str(v.type)) for v in graph.inputs[:8])}", hint=hint)
    rng = np.random.default_rng(seed)
    arrays = []
    for value in graph.inputs:
        dtype = value.type.dtype
        if dtype.is_float:
            arrays.append(rng.uniform(-1, 1, value.type.shape).astype(dtype.numpy))
        elif dtype in EIGHT_BIT:
            info = np.iinfo(dtype.numpy)
            arrays.append(rng.integers(info.min, info.max, value.type.shape, dtype=dtype.numpy, endpoint=True))
        else:
            arrays.append(rng.integers(0, 2, value.type.shape).astype(dtype.numpy))
    return arrays


def _run(
    folder: Path, path: Path, target: Target, graph: Graph, first: Graph, samples: Sequence[Sequence[Array]], timeout: float
) -> tuple[list[list[Array]], dict[str, tuple[Value, list[Array]]]]:
    """The outputs for each sample, which is of the ``first`` file's types, and by its name each result of an operator.

    Of those there are none where the runtime does not give them out, and none of a name that several have.
    """
    runtime = str(target.runtime)
    batches = [[_moved(a, v.type, w.type) for a, v, w in zip(s, first.inputs, graph.inputs, strict=True)] for s in samples]
    done = runtimes.run_many(runtime, [(path, batches)], timeout=timeout)[0]
    if isinstance(done, TargetError):
        raise done
    results = [out for node in graph.nodes() for out in node.outputs]
    tapped = replace(graph, outputs=tuple(results), output_names=tuple(f"out{i}" for i in range(len(results))))
    part = folder / f"tensors{target.suffix}"
    with well_formed(path):
        save(with_outputs_apart(tapped) if target.frees_outputs else tapped, part, identifier=target.identifier)
    taps = runtimes.run_many(runtime, [(part, batches)], timeout=timeout)[0]
    if isinstance(taps, TargetError):
        return done.outputs, {}
    count = Counter(v.name for v in results)
    return done.outputs, {v.name: (v, [row[i] for row in taps.outputs]) for i, v in enumerate(results) if count[v.name] == 1}


def _compared(
    graphs: Sequence[Graph], runs: Sequence[tuple[list[list[Array]], dict[str, tuple[Value, list[Array]]]]]
) -> tuple[list[Comparison], list[Comparison], list[str]]:
    (outs_a, inner_a), (outs_b, inner_b) = runs
    outputs, tensors, apart = list[Comparison](), list[Comparison](), list[str]()
    for i, (first, second) in enumerate(zip(graphs[0].outputs, graphs[1].outputs, strict=True)):
        if why := _unlike(first.type, second.type):
            raise VerifyFailed(f"output {graphs[0].output_names[i]} cannot be compared: {first.type} and {second.type}: {why}")
        made = _one(first, second, [row[i] for row in outs_a], [row[i] for row in outs_b])
        outputs.append(replace(made, name=graphs[1].output_names[i]))
    for name, (second, arrays) in inner_b.items():
        if name not in inner_a:
            continue
        first, wanted = inner_a[name]
        if why := _unlike(first.type, second.type):
            apart.append(f"{name}: {why} ({first.type} and {second.type})")
        else:
            tensors.append(_one(first, second, wanted, arrays))
    return outputs, tensors, apart


def _one(first: Value, second: Value, wanted: Sequence[Array], found: Sequence[Array]) -> Comparison:
    return together([_at(first, second, want, got) for want, got in zip(wanted, found, strict=True)])


def _at(first: Value, second: Value, want: Array, got: Array) -> Comparison:
    """One tensor on one sample; with other scales in the two files, as real numbers in steps of the first one's."""
    quant, other = first.type.quant, second.type.quant
    if quant is not None and other is not None:
        same = first.type.as_eight_bit(second.type.dtype).quant if first.type.dtype in EIGHT_BIT else quant
        if same != other:
            (scale, zero), (scale_b, zero_b) = along_axis(quant, want.ndim), along_axis(other, got.ndim)
            as_firsts = (got.astype(np.float64) - zero_b) * scale_b / scale + zero
            said = f"the quantization is {other}, the first file's {quant}"
            return replace(compare(second, as_firsts, want.astype(np.float64)), differs=(said,), reason=said)
    if want.dtype != got.dtype:
        got = _moved(got, second.type, first.type)
    return compare(second, got, want)
