"""The stages in order: record -> lower -> optimize, and for each target legalize -> write."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.export import ExportedProgram

from . import __version__, samples, shapes, spec
from .boundary import with_integer_io
from .collecting import only_new
from .errors import Bug, RecordError, TargetError, UnsupportedUse, UserError, WriteError
from .format import is_as_written, save, to_bytes, whole_file
from .implant import Bundle, separate
from .ir import Array, DType, Finding, Graph, Quant
from .loading import Program, Runnable, program
from .lower import CHOICES, LOWERINGS, Judged, Options, is_operator, lower, rejoined
from .optimize import optimize, unified
from .record import REQUANTIZED, WEIGHTS, Recording, record
from .shapes import Sizes, example_size
from .targets import Target, islands, legalize, must_run, target_for

if TYPE_CHECKING:
    from .nnpackage import Package
    from .verify import Report

Progress = Callable[[str], None]
PREFERENCES = ("exact", "speed")
UNCALIBRATED = Quant.per_tensor(1, 0)


@only_new()
def export(
    model: Runnable,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    io_layout: str = "torch",
    io_dtypes: Mapping[str, str] | None = None,
    bias_overflow: str = "raise",
    dynamic: str = "hybrid",
    recurrent: str = "fused",
    custom_ops: Sequence[str] | Mapping[str, str] = (),
    weights: str = "stored",
    prefer: str = "exact",
    specialize: bool = False,
    dynamic_batch: bool = False,
    dynamic_shapes: Any = None,
    progress: Progress | None = None,
) -> ExportedModel:
    """Record ``model`` on example inputs and lower it to a graph that any target can be written from.

    Args:
        model: a quantized (or float) nn.Module in eval mode or a method of one, a ScriptModule or an ExportedProgram.
        args: positional example inputs; None takes those the model itself fixes.
        kwargs: example inputs by name.
        io_layout: ``"torch"`` keeps NCHW inputs and outputs, ``"nhwc"`` makes those of rank 4 channels last.
        io_dtypes: name of an input or output -> ``"uint8"`` or ``"int8"``: the caller quantizes it, with the scale in the file.
        bias_overflow: ``"raise"`` the weight scale of a channel whose bias does not fit int32, or ``"error"``.
        dynamic: layers whose activations PyTorch quantizes at run time use the runtime's ``"hybrid"`` kernels where it has right ones,
            or compute in float on weights behind a DEQUANTIZE (``"dequantize"``), or round the activations as PyTorch does (``"exact"``).
        recurrent: ``"fused"`` sequence operators where the runtime has right ones, or every time step ``"unrolled"``.
        custom_ops: PyTorch's operators, like ``"mylib::op"``, that are written as custom operators of the same name, or a mapping to
            other names: the application brings their kernels, and nothing here can verify them.
        weights: ``"stored"`` as the model has them, or ``"float16"``: float32 weights of linear layers and convolutions are rounded to
            that type. What they compute then is what ``verify`` compares with; a note says how far it is from the float32 model.
        prefer: ``"exact"`` integers, or ``"speed"`` on onert: layers with a weight scale for each channel, whose kernels are slow there,
            get one scale for all, but for depthwise convolutions. What they compute then is what ``verify`` compares with; notes say
            what each layer and the model lose.
        specialize: fix values that the model reads from its inputs to those of the example.
        dynamic_batch: the file takes any size of the first dimension of its inputs.
        dynamic_shapes: the same for other dimensions, as ``torch.export`` takes them: ``{"x": {0: "batch", 1: Dim("time", max=512)}}``.
            None follows an ExportedProgram's own, and else fixes all sizes, as ``{}`` does.
        progress: called with the name of each stage as it begins.

    Returns:
        The model in the file's operators, ready for ``save``, ``verify`` and ``explain``.

    Raises:
        LoadError: ``model`` is none, or no example inputs are given and it does not fix them.
        RecordError: the model cannot be run on them, trains or observes still, or branches on data; or on other sizes.
        UnsupportedOps, UnsupportedUse: an operator, or an argument of one, that has no equivalent.
        QuantizationError: a scale or bias that no integer kernel can use.
        ValueError: an option is none of those above.
        UserError: ``prefer="speed"`` with weights that onert does not read.
    """
    chosen: dict[str, Any] = {"io_layout": io_layout, "bias_overflow": bias_overflow, "dynamic": dynamic, "recurrent": recurrent}
    choices = {**CHOICES, "weights": WEIGHTS, "prefer": PREFERENCES}
    for name, value in {**chosen, "weights": weights, "prefer": prefer}.items():
        if value not in choices[name]:
            raise ValueError(f"{name} must be one of {choices[name]}: {value!r}")
    if prefer == "speed":
        if weights != "stored":
            hint = "give one of them"
            raise UserError(f'prefer="speed" (--prefer speed) is for onert, weights="{weights}" (--weights {weights}) is not', hint=hint)
        weights = REQUANTIZED
    names = [custom_ops] if isinstance(custom_ops, str) else custom_ops
    custom = dict(names) if isinstance(names, Mapping) else {op: op for op in names}
    if unknown := [op for op in custom if not is_operator(op)]:
        raise UnsupportedUse("custom_ops", ", ".join(unknown), "operators that PyTorch knows, once their library is imported")
    tell = progress or (lambda stage: None)
    tell("record")
    loaded = program(model, args=None if args is None else tuple(args), kwargs=kwargs)
    whole = {*LOWERINGS, *custom}

    def exported(args: Sequence[Any], kwargs: Mapping[str, Any], watch: shapes.Watch | None = None) -> ExportedModel:
        run = partial(record, loaded.module, args, kwargs, names=loaded.names, specialize=specialize, whole=whole)
        with watch or nullcontext():  # what the model compares its sizes with
            recording = rejoined(run(weights=weights))
        tell("lower")
        lowered = lower(recording, Options(**chosen, custom_ops=custom, any_size=any(dims)))
        tell("optimize")
        graph = with_integer_io(optimize(lowered.graph), io_dtypes or {})
        _must_be_well_formed(graph)
        rounded = [] if weights == "stored" else [_cost_of_rounding(recording, run(), weights)]
        told = (*recording.findings, *_uncalled(custom, recording), *rounded, *lowered.findings, *_doubtful_scales(graph))
        return ExportedModel(recording, graph, told, lowered.judge, weights)

    dims = _open_dims(model, loaded, dynamic_batch, dynamic_shapes)
    made = _of_any_size(exported, loaded, dims) if any(dims) else exported(loaded.args, loaded.kwargs)
    return replace(made, again=exported, example=(loaded.args, loaded.kwargs))


def _of_any_size(exported: Callable[..., ExportedModel], loaded: Program, dims: Sequence[shapes.Dims]) -> ExportedModel:
    """The model in two sizes."""
    watched = loaded.kind == "module"  # an ExportedProgram has guards of its own, and TorchScript is not seen
    sizes = shapes.sizes(dims, loaded.args, loaded.kwargs, watched=watched)
    watches = shapes.Watch(), shapes.Watch()
    firsts, seconds = ({name: getattr(s, which) for name, s in sizes.items()} for which in ("first", "second"))
    first = exported(*shapes.resized(dims, firsts, loaded.args, loaded.kwargs), watches[0])
    try:
        second = exported(*shapes.resized(dims, seconds, loaded.args, loaded.kwargs), watches[1])
    except UserError as error:
        other = ", ".join(f"{name} = {s.second} instead of {s.first}" for name, s in sizes.items())
        message = f"the model cannot be exported for other sizes than the example's; with {other}: {error.message}"
        fixed = "a program of torch.export has the sizes it was exported with: pass dynamic_shapes there, too"
        raise RecordError(message, where=error.where, hint=fixed if "Guard failed" in message else error.hint) from None
    if watched:
        shapes.refuse_compared(*watches, sizes, dims)
    shapes.refuse_ends(first.recording, second.recording)
    return replace(first, twin=second, sizes=tuple(sizes.values()))


def _open_dims(model: Any, loaded: Program, batch: bool, spec: Any) -> Sequence[shapes.Dims]:
    if batch and spec is not None:
        raise ValueError("give dynamic_batch or dynamic_shapes, not both")
    if batch:
        return shapes.of_batch(loaded.args, loaded.kwargs)
    if spec is not None:
        return shapes.of_spec(spec, loaded.names, loaded.args, loaded.kwargs)
    return shapes.of_program(model) if isinstance(model, ExportedProgram) else ()


@dataclass(frozen=True)
class ExportedModel:
    """One recording, ready to be written for any target.

    ``graph`` is the neutral graph: the file's operators with PyTorch's own integers. It changes nothing and keeps the
    recorded activations, which ``verify`` compares with; ``corrected`` has those of PyTorch's kernels that are known to be wrong,
    ``steps`` how far apart two right ways of rounding at run time may be. These and what ``findings`` say of them are computed when they
    are first asked for.

    With open dimensions, ``twin`` is the same model for other ``sizes`` of them, and what is written is what both have in common.
    ``again`` records the model on other inputs than ``example``.
    """

    recording: Recording
    graph: Graph
    told: tuple[Finding, ...]
    judge: Callable[[], Judged] = field(repr=False)
    weights: str = "stored"
    twin: ExportedModel | None = None
    sizes: tuple[Sizes, ...] = ()
    again: Callable[..., ExportedModel] | None = field(default=None, repr=False)
    example: samples.Inputs | None = field(default=None, repr=False)
    _legal: dict[str, Graph] = field(default_factory=dict, repr=False)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What holds for any target; see ``diagnostics``."""
        return (*self.told, *self.judge().findings)

    @property
    def corrected(self) -> Mapping[int, Array]:
        """Recorded tensor -> what PyTorch documents, where its kernel computed something else."""
        return self.judge().corrected

    @property
    def steps(self) -> Mapping[int, float]:
        """Recorded float tensor -> the most that two right results may differ, where activations are rounded at run time."""
        return self.judge().steps

    @only_new()
    def for_target(self, target: str | Target) -> Graph:
        """The graph as it is written for ``target``.

        Raises:
            TargetError: no such target, one that reads no float16 where ``weights`` is that, another than onert where ``prefer`` is
                ``"speed"``, or naming every operator that it cannot run.
        """
        target = target_for(None, target) if isinstance(target, str) else target
        if self.weights == "float16" and not target.reads_halves:
            hint = "leave that out: the weights would be rounded, and the file no smaller"
            raise TargetError(f"weights=\"float16\" (--weights float16) is not for target {target.name}, which reads no float16", hint=hint)
        if self.weights == REQUANTIZED and not target.slow_channels:
            hint = "leave that out: the weights would be requantized, and the file no faster"
            raise TargetError(f"prefer=\"speed\" (--prefer speed) is for target onert, not {target.name}", hint=hint)
        if target.name not in self._legal:
            if self.twin is not None:
                target = replace(target, sized_rules=())
            graph = legalize(self.graph, target)
            if self.twin is not None:
                graph = unified(graph, self.twin.for_target(target), partial(example_size, self.sizes))
                must_run(graph, target)
            _must_be_well_formed(graph)
            self._legal[target.name] = graph
        return self._legal[target.name]

    @only_new()
    def save(self, path: str | os.PathLike[str], target: str | None = None) -> int:
        """Write a file; ``path`` then holds the whole file, or after an error what it held before.

        Args:
            path: ends in .circle or .tflite.
            target: "onert", "litert" or "one"; None for the usual one of the suffix.

        Returns:
            The size in bytes.

        Raises:
            TargetError: the target cannot run the model, or writes files with another suffix.
            WriteError: a missing folder, a full disk, a file over 2 GiB.
        """
        chosen = target_for(Path(path), target)
        graph = self.for_target(chosen)
        return save(graph, path, identifier=chosen.identifier, metadata=metadata_of([graph], chosen))

    def to_bytes(self, target: str) -> bytes:
        """The content of the file that ``save`` would write.

        Raises:
            TargetError: as for ``for_target``.
        """
        chosen = target_for(None, target)
        graph = self.for_target(chosen)
        return to_bytes(graph, identifier=chosen.identifier, metadata=metadata_of([graph], chosen))

    def is_in(self, path: str | os.PathLike[str], target: str) -> bool:
        """Whether the file at ``path`` has the bytes that ``save`` would write.

        Raises:
            TargetError: as for ``for_target``.
            FormatError: the file cannot be read.
        """
        chosen = target_for(None, target)
        graph = self.for_target(chosen)
        return is_as_written(path, graph, identifier=chosen.identifier, metadata=metadata_of([graph], chosen))

    def save_qparams(self, folder: str | os.PathLike[str]) -> Bundle:
        """Write what ONE's q-implant takes: ``model.circle`` in float, and in ``qparam.json`` and ``.npy`` files its integers.

        Args:
            folder: a new or empty one; after an error it is as it was.

        Returns:
            The same two parts, and as ``findings`` what q-implant will not take.

        Raises:
            UserError: the model has no quantized tensor, or dimensions of any size.
            TargetError: an operator has no float form.
            WriteError: ``folder`` holds files, or cannot be written.
        """
        if self.twin is not None:
            raise UserError("a q-implant bundle is of one size", hint="export without dynamic_batch, and with dynamic_shapes={}")
        bundle = separate(self.graph)
        _must_be_well_formed(bundle.graph)
        bundle.save(folder, metadata_of([bundle.graph], target_for(None, "one")))
        return bundle

    def save_nnpackage(self, path: str | os.PathLike[str], target: str = "onert", *, expected: str = "torch") -> Package:
        """Write ONE's nnpackage: the model, its MANIFEST, and a test case of the recorded inputs (docs/nnpackage.md).

        Args:
            path: a folder, new or empty, or an archive that ends in .zip. Its name is that of the package.
            target: "onert" or "one".
            expected: the outputs of the test case are what PyTorch computed (``"torch"``), or what onert computes here (``"onert"``).

        Raises:
            UserError: dimensions of any size, or a name that ONE's scripts cannot read.
            TargetError: the target cannot run the model, or writes no Circle file.
            MissingRuntime: h5py is not installed, or onert where ``expected`` asks for it.
            WriteError: the folder holds files, or ``path`` cannot be written.
        """
        from . import nnpackage

        chosen = target_for(None, target)
        graph = self.for_target(chosen)
        return nnpackage.save(self, path, chosen, metadata_of([graph], chosen), expected)

    def diagnostics(self, target: str | None = None) -> tuple[Finding, ...]:
        """What the user should know: raised scales, doubtful calibration, and for a target its float islands."""
        return self.findings if target is None else (*self.findings, *islands(self.for_target(target)))

    def verify(
        self,
        target: str,
        path: str | os.PathLike[str] | None = None,
        *,
        inputs: Sequence[Any] = (),
        random: int = 0,
        timeout: float = 600,
    ) -> Report:
        """Run the file in the target's runtime and compare every tensor with what PyTorch computed: end to end, and operator by operator.

        The inputs are the recorded ones, of each recorded size, and those asked for here, on which the model is run again.

        Args:
            target: its runtime is used.
            path: a file saved for that target, whose own operators are judged; None writes a temporary one.
            inputs: further samples, each a tensor, a tuple of arguments or a mapping of named ones.
            random: how many random samples more, of the recorded shapes, types and ranges; the same on each call.
            timeout: seconds that one run of a file may take.

        Returns:
            The outputs of the file end to end, and each operator of it fed with PyTorch's own values, with the reason of what differs.

        Raises:
            MissingRuntime: the target's runtime is not installed.
            TargetError, FormatError: the runtime refuses the file, dies of it or does not return, by the first operator that makes it so;
                or it is no file.
            RecordError: a sample is of another type than the recorded inputs, or the model does something else with it.
            VerifyFailed: ``path`` was made from another model. Differences of the operators raise nothing: see ``Report.ok``.
        """
        from .verify import verify

        more = [self._on(samples.as_inputs(sample), f"sample {number}") for number, sample in enumerate(inputs, start=1)]
        more += [self._on(samples.drawn(self.example, seed), f"random sample {seed + 1}") for seed in range(random) if self.example]
        return verify(self, target_for(None, target), None if path is None else Path(path), more, timeout)

    def _on(self, sample: samples.Inputs, name: str) -> ExportedModel:
        """The model recorded on other inputs of the same types."""
        if self.again is None or self.example is None:
            raise Bug("an exported model without the means to record it again")
        samples.must_be_alike(self.example, sample, name)
        other = self.again(*sample)
        if [(call.op, call.outs) for call in other.recording.calls] != [(call.op, call.outs) for call in self.recording.calls]:
            message = f"the model runs other operators on {name} than on the recorded inputs"
            raise RecordError(message, hint="a file holds one way through the model: it cannot be verified on inputs that take another")
        return other

    def explain(self, folder: str | os.PathLike[str], target: str) -> list[Path]:
        """Write every stage as text into ``folder``, as far as the model gets.

        Returns:
            The files, in the order of the stages.

        Raises:
            TargetError: the target cannot run the model; what comes before is written.
            WriteError: the folder cannot be made or written.
        """
        chosen, fired = target_for(None, target), Counter[str]()
        paths = [_written(folder, "1_recorded", str(self.recording)), _written(folder, "2_lowered", str(self.graph))]
        legalize(self.graph, chosen, fired)
        rules = "".join(f"{count:5} {name}\n" for name, count in sorted(fired.items()))
        return [*paths, _written(folder, f"3_{chosen.name}", str(self.for_target(chosen))), _written(folder, "4_rules", rules)]


def _written(folder: str | os.PathLike[str], stage: str, text: str) -> Path:
    path = Path(folder) / f"{stage}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error
    with whole_file(path) as sink:
        sink.write(text.encode())
    return path


def metadata_of(graphs: Sequence[Graph], target: Target) -> dict[str, bytes]:
    """Who wrote the file, and for each operator in order the module and PyTorch operator it comes from."""
    about = {"exporter": "torch2circle", "version": __version__, "torch": torch.__version__, "target": target.name}
    origins = [f"{node.where.module}|{node.where.op}" for graph in graphs for node in graph.nodes()]
    return {"torch2circle": json.dumps(about, sort_keys=True).encode(), "torch2circle.origins": json.dumps(origins).encode()}


def _must_be_well_formed(graph: Graph) -> None:
    errors = [finding for finding in spec.check(graph) if finding.severity == "error"]
    if errors:
        raise Bug("the graph is not well formed:\n" + "\n".join(f"  {finding}" for finding in errors[:10]))


def _uncalled(custom: Mapping[str, str], recording: Recording) -> list[Finding]:
    """Custom operators that the model does not call by this name, be it for another overload."""
    called = {call.op for call in recording.calls}
    return [Finding("note", "custom-operator-unused", op, "the model does not call this operator") for op in custom if op not in called]


def _cost_of_rounding(rounded: Recording, plain: Recording, weights: str) -> Finding:
    """How far the outputs are from those of the model whose weights were not rounded."""
    pairs = zip(rounded.outputs, plain.outputs, strict=True)
    reals = [(rounded.value_of(one).double(), plain.value_of(other).double()) for one, other in pairs]
    noise, signal = sum(float((a - b).square().sum()) for a, b in reals), sum(float(b.square().sum()) for _, b in reals)
    near = f"{10 * np.log10(signal / noise):.1f} dB (SQNR) from the model's" if noise else "what they were"
    if weights == REQUANTIZED:
        layers, code = sum(finding.code == "requantized" for finding in rounded.findings), "requantized"
        what = "layers with a weight scale for each channel have one for all"
    else:
        layers, code = sum(stored.dtype is torch.float16 for stored in rounded.stored.values()), "float16"
        what = "weights of linear layers and convolutions are rounded to float16"
    return Finding("note" if layers else "warning", code, "<top>", f"{layers} {what}: on this example the outputs are {near}")


def _doubtful_scales(graph: Graph) -> list[Finding]:
    """Activations with the qparams an observer has before it saw data."""
    message = "scale 1 and zero point 0: was this module calibrated?"
    recorded = (node for node in graph.nodes() if node.out.origin is not None)  # a table's integers on the way to a result are none
    doubtful = [n for n in recorded if n.out.type.dtype in (DType.UINT8, DType.INT8) and n.out.type.quant == UNCALIBRATED]
    return [Finding("warning", "uncalibrated", node.where.module or "<top>", f"{message} ({node.where})") for node in doubtful]


__all__ = ["ExportedModel", "export"]
