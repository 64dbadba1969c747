"""What verification says: each tensor of the file against PyTorch's, and what is asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir import Array, Value, Where

FLOAT_STEP = 2.0**-16
"""A float result is held to this part of the tensor's largest magnitude: float32 sums of some thousand products differ by their order."""


@dataclass(frozen=True)
class Comparison:
    """One tensor of the file against PyTorch's. ``lsb`` is in steps of the tensor's scale, or ``FLOAT_STEP``.

    ``reason`` names what makes the elements differ, "" where none does; ``unexplained`` is a bug, here or in the runtime.
    ``differs``: what the file's operator has otherwise than the model's: weights, scales, options. Such an operator is wrong,
    whether or not its result shows it on these inputs.
    """

    name: str
    op: str
    where: Where
    size: int
    equal: int
    lsb: float
    sqnr: float
    reason: str = ""
    differs: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of elements that are bit-equal (in float: within one step)."""
        return self.equal / self.size if self.size else 1.0


@dataclass(frozen=True)
class Limits:
    """What each operator must keep: at most ``lsb`` steps off, at least ``sqnr`` dB, at least the share ``equal`` bit-equal.

    ``outputs_lsb`` and ``outputs_sqnr`` are asked of the outputs, end to end, where every early rounding adds up.
    """

    lsb: float = 1
    sqnr: float | None = None
    equal: float | None = None
    outputs_lsb: float | None = None
    outputs_sqnr: float | None = None

    def broken_by(self, c: Comparison) -> list[str]:
        """What an operator breaks, in words; what ``differs`` comes first."""
        return [*c.differs, *_broken(c, self.lsb, self.sqnr, self.equal)]

    def broken_end_to_end(self, c: Comparison) -> list[str]:
        """The same for an output."""
        return _broken(c, self.outputs_lsb, self.outputs_sqnr, None)


def _broken(c: Comparison, lsb: float | None, sqnr: float | None, equal: float | None) -> list[str]:
    said = []
    if lsb is not None and c.lsb > lsb:
        said.append(f"off by {c.lsb:g} LSB, {1 - c.share:.2%} of its elements differ")
    if sqnr is not None and c.sqnr < sqnr:
        said.append(f"SQNR {c.sqnr:.1f} dB, at least {sqnr:g} asked for")
    if equal is not None and c.share < equal:
        said.append(f"{c.share:.4%} bit-equal, at least {equal:.4%} asked for")
    return said


@dataclass(frozen=True)
class Report:
    """``outputs`` end to end; ``operators`` each fed with PyTorch's own values; ``seconds`` of the last invocation.

    ``operators`` are those of the file, in the order they run, and those of the model that it lacks. ``tensors`` are the same
    results end to end, so that one sees where errors grow. ``unaligned`` says why the file's operators could not be told, and those
    of a fresh export are in their place.
    ``unverified``: custom operators of the file. The runtime has no kernel for them, so the file was not run and ``outputs`` is empty;
    ``operators`` are the others.
    ``failed``: why the runtime does not run the whole file, where an operator that is wrong makes it so; its outputs then are infinitely
    far off. ``samples``: how many inputs all comparisons are over.
    """

    runtime: str
    outputs: Sequence[Comparison]
    operators: Sequence[Comparison]
    seconds: float
    unverified: Sequence[str] = ()
    tensors: Sequence[Comparison] = ()
    unaligned: str = ""
    failed: str = ""
    samples: int = 1

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

    def first_wrong(self, limits: Limits = Limits()) -> Comparison | None:
        """The first operator, in the order they run, that is not what the model says or is too far off: the one at fault."""
        return next((c for c in self.operators if limits.broken_by(c)), None)

    def ok(self, lsb: float = 1) -> bool:
        """Whether each operator is the model's and off by at most ``lsb``, fed with PyTorch's own values; ``unverified`` are not asked."""
        return self.within(Limits(lsb=lsb))

    def within(self, limits: Limits) -> bool:
        """Whether all operators and outputs keep ``limits``."""
        return not self.failed and self.first_wrong(limits) is None and not any(limits.broken_end_to_end(c) for c in self.outputs)


def together(at_samples: Sequence[Comparison]) -> Comparison:
    """Comparisons of one tensor on several inputs, or at several sizes, as one."""
    worst = max(at_samples, key=lambda c: c.lsb)
    size, equal, sqnr = sum(c.size for c in at_samples), sum(c.equal for c in at_samples), min(c.sqnr for c in at_samples)
    reasons = "; ".join(dict.fromkeys(c.reason for c in at_samples if c.reason))
    return replace(worst, size=size, equal=equal, sqnr=sqnr, reason=reasons)


def compare(value: Value, got: Array, want: Array, step: float | None = None) -> Comparison:
    """``got`` against ``want`` in steps of the value's scale; a float value behind a DEQUANTIZE has that one's unless ``step`` is given."""
    node = value.node
    place = value.name, node.op if node else "input", node.where if node else Where(), want.size
    if got.dtype == want.dtype and np.array_equal(got, want):  # most are, and need no float64
        return Comparison(*place, want.size, 0.0, float("inf"))
    if got.shape != want.shape:  # numpy would broadcast one to the other
        got = np.full(want.shape, np.nan)
    real, wanted = got.astype(np.float64), want.astype(np.float64)
    unlike = (real != wanted) & ~(np.isnan(real) & np.isnan(wanted))  # infinities may be equal
    off = np.subtract(real, wanted, out=np.zeros(want.shape), where=unlike)
    difference = np.abs(off) / (step or step_of(value, want))
    signal, noise = np.square(wanted[np.isfinite(wanted)]).sum(), np.square(off).sum()
    sqnr = float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise)) if np.isfinite(noise) else -float("inf")
    broken = np.isnan(difference)
    difference = np.where(broken, np.inf, difference)
    return Comparison(*place, int((difference < 0.5).sum()), float(np.round(difference.max(initial=0.0), 3)), sqnr)


def step_of(value: Value, want: Array) -> float:
    """One LSB of a tensor: 1 for integers, the scale of the integers a float was dequantized from, or ``FLOAT_STEP``."""
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
