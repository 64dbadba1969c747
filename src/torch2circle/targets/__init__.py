"""The targets by name, and which one a file name means."""

from __future__ import annotations

from pathlib import Path

from ..errors import TargetError
from .base import Target, island_nodes, islands, legalize, must_run, rewritten
from .litert import LITERT
from .one import ONE
from .onert import ONERT

TARGETS = {target.name: target for target in (ONERT, LITERT, ONE)}
BY_SUFFIX = {".circle": ONERT, ".tflite": LITERT}


def target_for(path: Path | None, name: str | None = None) -> Target:
    """The target called ``name``, or the default one of the file's suffix.

    Raises:
        TargetError: for an unknown name or suffix, or a suffix that is not the target's.
    """
    if name is not None and name not in TARGETS:
        raise TargetError(f"no such target: {name}", hint=f"choose one of {', '.join(TARGETS)}")
    target = TARGETS[name] if name else BY_SUFFIX.get(path.suffix if path else "")
    if target is None:
        raise TargetError(f"the file name does not tell a format: {path}", hint="name it .circle or .tflite")
    if path is not None and path.suffix != target.suffix:
        raise TargetError(
            f"target {target.name} writes {target.suffix} files: {path}", hint=f"name it {path.with_suffix(target.suffix).name}"
        )
    return target


__all__ = ["TARGETS", "Target", "island_nodes", "islands", "legalize", "must_run", "rewritten", "target_for"]
