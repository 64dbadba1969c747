"""The stages in order: record -> lower -> optimize, and for each target legalize -> write."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from . import format, spec
from .errors import Bug
from .ir import Array, DType, Finding, Graph
from .loading import program
from .lower import Options, lower
from .record import Recording, record
from .targets import TARGETS, Target, islands, legalize, target_for

if TYPE_CHECKING:
    from .verify import Report

Progress = Callable[[str], None]


def export(
    model: nn.Module | ExportedProgram,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    io_layout: str = "torch",
    bias_overflow: str = "raise",
    specialize: bool = False,
    progress: Progress | None = None,
) -> ExportedModel:
    """Record ``model`` on example inputs and lower it to a graph that any target can be written from.

    Args:
        model: a quantized (or float) nn.Module in eval mode, a ScriptModule or an ExportedProgram.
        args: positional example inputs; None takes those the model itself fixes.
        kwargs: example inputs by name.
        io_layout: ``"torch"`` keeps NCHW inputs and outputs, ``"nhwc"`` makes those of rank 4 channels last.
        bias_overflow: ``"raise"`` the weight scale of a channel whose bias does not fit int32, or ``"error"``.
        specialize: fix values that the model reads from its inputs to those of the example.
        progress: called with the name of each stage as it begins.

    Raises:
        UserError: the subclass tells the stage; see ``torch2circle.errors``.
    """
    for name, value, accepted in (("io_layout", io_layout, ("torch", "nhwc")), ("bias_overflow", bias_overflow, ("raise", "error"))):
        if value not in accepted:
            raise ValueError(f"{name} must be one of {accepted}: {value!r}")
    tell = progress or (lambda stage: None)
    tell("record")
    loaded = program(model, args=None if args is None else tuple(args), kwargs=kwargs)
    recording = record(loaded.module, loaded.args, loaded.kwargs, names=loaded.names, specialize=specialize)
    tell("lower")
    lowered = lower(recording, Options(io_layout, bias_overflow))
    _must_be_well_formed(lowered.graph)
    findings = (*recording.findings, *lowered.findings, *_doubtful_scales(lowered.graph))
    return ExportedModel(recording, lowered.graph, findings, lowered.corrected)


@dataclass(frozen=True)
class ExportedModel:
    """One recording, ready to be written for any target.

    ``graph`` is the neutral graph: the file's operators with PyTorch's own integers. It changes nothing and keeps the
    recorded activations, which ``verify`` compares with; ``corrected`` has those of PyTorch's kernels that are known to be wrong.
    """

    recording: Recording
    graph: Graph
    findings: tuple[Finding, ...] = ()
    corrected: Mapping[int, Array] = field(default_factory=dict)
    _legal: dict[str, Graph] = field(default_factory=dict, repr=False)

    def for_target(self, target: str | Target) -> Graph:
        """The graph as it is written for ``target``.

        Raises:
            TargetError: naming every operator the target cannot run.
        """
        target = TARGETS[target] if isinstance(target, str) else target
        if target.name not in self._legal:
            graph = legalize(self.graph, target)
            _must_be_well_formed(graph)
            self._legal[target.name] = graph
        return self._legal[target.name]

    def save(self, path: str | os.PathLike[str], target: str | None = None) -> int:
        """Write a file and return its size in bytes; the suffix tells the format, and with it the default target.

        Raises:
            TargetError, WriteError: the path then holds what it held before.
        """
        chosen = target_for(Path(path), target)
        graph = self.for_target(chosen)
        return format.save(graph, path, identifier=chosen.identifier, metadata=_metadata(graph, chosen))

    def to_bytes(self, target: str) -> bytes:
        """The content of the file that ``save`` would write."""
        graph = self.for_target(target)
        return format.to_bytes(graph, identifier=TARGETS[target].identifier, metadata=_metadata(graph, TARGETS[target]))

    def diagnostics(self, target: str | None = None) -> tuple[Finding, ...]:
        """What the user should know: raised scales, doubtful calibration, and for a target its float islands."""
        return self.findings if target is None else (*self.findings, *islands(self.for_target(target)))

    def verify(self, target: str, path: str | os.PathLike[str] | None = None) -> Report:
        """Run the file in the target's runtime on the recorded inputs and compare it with what PyTorch computed.

        Args:
            target: its runtime is used.
            path: a file saved for that target; None writes a temporary one.

        Raises:
            MissingRuntime, TargetError
        """
        from .verify import verify

        return verify(self, TARGETS[target], None if path is None else Path(path))

    def explain(self, folder: str | os.PathLike[str], target: str) -> list[Path]:
        """Write every stage as text into ``folder``."""
        fired = Counter[str]()
        legalize(self.graph, TARGETS[target], fired)
        rules = "".join(f"{count:5} {name}\n" for name, count in sorted(fired.items()))
        stages = {"1_recorded": str(self.recording), "2_lowered": str(self.graph), f"3_{target}": str(self.for_target(target)), "4_rules": rules}
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths = [Path(folder) / f"{name}.txt" for name in stages]
        for path, text in zip(paths, stages.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths


def own_version() -> str:
    """The installed version of torch2circle."""
    try:
        return version("torch2circle")
    except PackageNotFoundError:
        return "unknown"


def _metadata(graph: Graph, target: Target) -> dict[str, bytes]:
    """Who wrote the file, and for each operator in order the module and PyTorch operator it comes from."""
    about = {"exporter": "torch2circle", "version": own_version(), "torch": torch.__version__, "target": target.name}
    origins = [f"{node.where.module}|{node.where.op}" for node in graph.nodes()]
    return {"torch2circle": json.dumps(about, sort_keys=True).encode(), "torch2circle.origins": json.dumps(origins).encode()}


def _must_be_well_formed(graph: Graph) -> None:
    errors = [finding for finding in spec.check(graph) if finding.severity == "error"]
    if errors:
        raise Bug("the graph is not well formed:\n" + "\n".join(f"  {finding}" for finding in errors[:10]))


def _doubtful_scales(graph: Graph) -> list[Finding]:
    """Activations with the qparams an observer has before it saw data."""
    found = []
    for node in graph.nodes():
        quant = node.out.type.quant
        if node.out.type.dtype in (DType.UINT8, DType.INT8) and quant is not None and quant.axis is None and quant.scale[0] == np.float32(1) and quant.zero_point[0] == 0:
            found.append(Finding("warning", "uncalibrated", node.where.module or "<top>", f"scale 1 and zero point 0: was this module calibrated? ({node.where})"))
    return found


__all__ = ["ExportedModel", "export"]
