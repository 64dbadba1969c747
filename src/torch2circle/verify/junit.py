"""A report as cases of JUnit XML: one for each operator and each output."""

from __future__ import annotations

from collections.abc import Sequence

from ..junit import Case, Trouble
from .report import Comparison


def case(c: Comparison, broken: Sequence[str]) -> Case:
    """Of a comparison and what it breaks, in words.

    It is called by operator and tensor; its class is the module, its file and line are the place in the model.
    """
    said = f"{c.equal} of {c.size} bit-equal, largest difference {c.lsb:g} LSB, SQNR {c.sqnr:.1f} dB"
    trouble = None
    if broken:
        text = "\n".join([*broken, said, *([c.reason] if c.reason else []), f"at {c.where}"])
        trouble = Trouble("failure", "VerifyFailed", "; ".join(broken), text)
    told = f"{said}; {c.reason}" if c.reason else said
    return Case(f"{c.op} {c.name}", c.where.module or "<top>", told, trouble, c.where.file, c.where.line)
