"""``write_report``: what a model becomes in each runtime, as one HTML page for people or as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MissingRuntime, TargetError, UserError
from ..format import whole_file
from ..pipeline import ExportedModel
from ..targets import target_for
from .facts import facts, finite
from .sides import Side, side

RUNTIMES = ("onert", "litert")


def report_facts(
    exported: ExportedModel,
    *,
    file: str | os.PathLike[str] | None = None,
    targets: Sequence[str] = (),
    model: str = "model",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """What the page of ``write_report`` shows, as plain data for JSON.

    Args:
        exported: one method of a model.
        file: a .circle or .tflite file of it, which is run itself; the other targets get a fresh export.
        targets: those to compare, ``file``'s first; none given, its own and those that have a runtime.
        model: what the reader calls the model.
        progress: called with the name of each stage as it begins.

    Raises:
        TargetError: no such target, or none of them takes the model.
        VerifyFailed, FormatError: ``file`` is not of this model.
        UserError: ``exported`` holds several methods.
    """
    if not isinstance(exported, ExportedModel):
        names = ", ".join(getattr(exported, "methods", ())) or type(exported).__name__
        raise UserError(f"a report is of one method, not of several: {names}", hint='give it exported["name"]')
    path = None if file is None else Path(file)
    own = [target_for(path, targets[0] if targets else None)] if path is not None else []
    chosen = [*own, *(target_for(None, name) for name in targets or RUNTIMES)]
    tell = progress or (lambda stage: None)
    sides: list[Side] = []
    for target in dict.fromkeys(target.name for target in chosen):
        tell(f"verify in {target}")
        sides.append(side(exported, target_for(None, target), path if own and target == own[0].name else None))
    if all(one.graph is None for one in sides):
        raise TargetError("\n".join(dict.fromkeys(one.message for one in sides)))
    tell("report")
    return facts(exported, sides, model, path)


def write_report(exported: ExportedModel, path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """Write one HTML page about the model: graph, differences by operator, ranges, weights, islands, sizes, in each runtime.

    Args:
        exported: one method of a model.
        path: of the page; after an error it holds what it held before.
        options: those of ``report_facts``.

    Returns:
        The same as data.

    Raises:
        MissingRuntime: Bokeh is not installed.
        WriteError: a missing folder, a full disk.
        TargetError, VerifyFailed, FormatError, UserError: as ``report_facts``.
    """
    if find_spec("bokeh") is None:
        raise MissingRuntime("the page needs a package that is not installed: bokeh", hint='pip install "torch2circle[report]"')
    from .page import page

    with whole_file(path) as sink:  # first of all: a folder that is not there should not cost the time of a verification
        found = report_facts(exported, **options)
        sink.write(page(found).encode())
    return found


__all__ = ["RUNTIMES", "finite", "report_facts", "write_report"]
