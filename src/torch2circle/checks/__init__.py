"""What is wrong with a .circle or .tflite file, whoever wrote it: ``check``. docs/check.md lists the codes."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..format import Survey, survey
from ..ir import Finding
from ..targets import target_for
from .quantization import quantization
from .structure import structure
from .targets import for_target

SEVERITIES = ("error", "warning", "note")
TARGET_CODES = "target-"
"""What codes about a target begin with."""


def check(source: str | os.PathLike[str] | bytes | Survey, target: str | None = None) -> list[Finding]:
    """The findings about a file, errors first.

    Args:
        source: a file, its bytes, or what ``survey`` made of it.
        target: "onert", "litert" or "one", to ask also whether it gets everything right; None for what holds anywhere.

    Raises:
        FormatError: the file cannot be read: none, damaged, or of another kind.
        TargetError: there is no such target.
    """
    whole = source if isinstance(source, Survey) else survey(source)
    chosen = None if target is None else target_for(None, target)

    def found() -> Iterator[Finding]:
        yield from structure(whole)
        yield from quantization(whole)
        if chosen is not None:
            yield from for_target(whole, chosen)

    return sorted(found(), key=lambda finding: SEVERITIES.index(finding.severity))


__all__ = ["SEVERITIES", "TARGET_CODES", "check"]
