"""What an export would give, for each target, without writing anything."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import spec
from .errors import UserError, WriteError
from .format import destination, size_of
from .ir import Finding, Graph
from .pipeline import ExportedModel, metadata_of
from .releases import first_release, latest
from .scales import wild_scales
from .targets import TARGETS, Target
from .targets.base import measured_version

if TYPE_CHECKING:
    from .methods import ExportedMethods


@dataclass(frozen=True)
class Operator:
    """An operator of a file, its version, and how many there are. ``since``: the first release of TensorFlow Lite with that version."""

    op: str
    version: int
    count: int
    since: str | None


@dataclass(frozen=True)
class Outlook:
    """What a target would get: ``size`` of the file in bytes, ``operators``, float ``islands``; or the ``error`` of the export.

    ``measured``: the runtime whose results were measured; None of target one, which has none here. ``since``: the first release of
    TensorFlow Lite with all operators, of those whose release is known; None for a Circle file.
    """

    target: str
    error: UserError | None = None
    size: int = 0
    operators: tuple[Operator, ...] = ()
    islands: tuple[Finding, ...] = ()
    measured: str | None = None
    since: str | None = None


def preflight(exported: ExportedModel | ExportedMethods, targets: Iterable[str] = tuple(TARGETS)) -> list[Outlook]:
    """What ``exported.save`` would give for each of the ``targets``."""
    return [_outlook(exported, TARGETS[name]) for name in targets]


def findings(exported: ExportedModel | ExportedMethods) -> list[Finding]:
    """What holds for every target: the diagnostics of the export, and scales that hint at a wrong calibration."""
    models = [exported] if isinstance(exported, ExportedModel) else exported.methods.values()
    return [*exported.diagnostics(), *(finding for model in models for finding in wild_scales(model.graph))]


def _outlook(exported: ExportedModel | ExportedMethods, target: Target) -> Outlook:
    runs_in = None if target.runtime is None else f"{target.runtime} {measured_version(target.runtime)}"
    try:
        made = exported.for_target(target)
        graphs = list(made.values()) if isinstance(made, dict) else [made]
        size = size_of(made, identifier=target.identifier, metadata=metadata_of(graphs, target))
    except UserError as error:
        return Outlook(target.name, error, measured=runs_in)
    operators = _operators(graphs)
    islands = tuple(finding for finding in exported.diagnostics(target.name) if finding.code == "island")
    known = latest(op.since for op in operators if op.since) if target.suffix == ".tflite" else None
    return Outlook(target.name, None, size, operators, islands, runs_in, known)


def _operators(graphs: Sequence[Graph]) -> tuple[Operator, ...]:
    """The most frequent first."""
    counts = Counter((node.op, spec.version(node)) for graph in graphs for node in graph.nodes())
    return tuple(Operator(op, version, count, first_release(op, version)) for (op, version), count in counts.most_common())


def must_be_writable(path: Path, size: int) -> None:
    """Refuse a place where ``size`` bytes could not be written as things are.

    Raises:
        WriteError: as the export itself would.
    """
    number = 0
    try:
        folder = destination(path)[0].parent
        if not folder.is_dir():
            number = errno.ENOENT if not folder.exists() else errno.ENOTDIR
        elif not os.access(folder, os.W_OK | os.X_OK):
            number = errno.EACCES
        elif shutil.disk_usage(folder).free < size:
            number = errno.ENOSPC
        why = os.strerror(number)
    except OSError as error:
        number, why = error.errno or errno.EIO, error.strerror or str(error)
    if number:
        raise WriteError(f"cannot write {path}: {why}", hint="name a file in a folder that exists and can be written to")
