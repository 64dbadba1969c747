"""How two model files differ: in operators, types, scales, weights, names and metadata, each by itself.

Operators are matched by the names of their results, those left over by the order of the operators' kinds (a longest common subsequence).
From matched operators follow the tensors that correspond, and these are compared. uint8 and int8 with zero points 128 apart are the same
real values: files of one model for different runtimes differ in that, and are called equal.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from .format import Survey, survey
from .format.survey import Operator, Subgraph, Tensor
from .ir import Array, DType, Quant, Type, Value
from .text import one_line, shown

SECTIONS: Final = ("topology", "types", "quantization", "weights", "signatures", "metadata")
_EIGHT = {"INT8": -128, "UINT8": 0}
_CHUNK = 1 << 20
MOST_BITS = 1 << 29
"""64 MiB: sequences of 23,000 operators that no name tells apart."""


@dataclass(frozen=True)
class Change:
    """One difference: ``kind`` is a stable word (``added``, ``removed``, ``option``, ...), ``path`` where it is, ``facts`` its numbers."""

    kind: str
    path: str
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.message}")


@dataclass(frozen=True)
class Difference:
    """What is different in ``b``, by section; ``notes`` say what was not counted as a difference. False if there is none."""

    a: str
    b: str
    sections: Mapping[str, Sequence[Change]]
    notes: Sequence[str] = ()
    matched: int = 0

    def __bool__(self) -> bool:
        return any(self.sections.values())

    def without(self, *sections: str) -> Difference:
        """The same, with these sections left out."""
        kept = {name: () if name in sections else changes for name, changes in self.sections.items()}
        left = [f"not compared: {', '.join(sections)}"] if sections else []
        return Difference(self.a, self.b, kept, [*self.notes, *left], self.matched)

    def __str__(self) -> str:
        counts = [f"{len(changes)} in {name}" for name, changes in self.sections.items() if changes]
        lines = [f"--- {one_line(self.a)}", f"+++ {one_line(self.b)}"]
        for name, changes in self.sections.items():
            if changes:
                lines += ["", name, *(f"  {_SIGNS.get(change.kind, '~')} {change}" for change in changes)]
        lines += ["", *(f"note: {note}" for note in self.notes)] if self.notes else [""]
        total = sum(map(len, self.sections.values()))
        lines.append(f"{total} difference{'s' * (total != 1)}: {', '.join(counts)}" if counts else "no difference")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""

        def plain(change: Change) -> dict[str, Any]:
            return {"kind": change.kind, "path": change.path, "message": change.message, **change.facts}

        changes = {name: list(map(plain, found)) for name, found in self.sections.items()}
        return {"a": self.a, "b": self.b, "different": bool(self), "matched_operators": self.matched, **changes, "notes": list(self.notes)}


_SIGNS = {"added": "+", "removed": "-"}


def diff(a: str | os.PathLike[str] | bytes, b: str | os.PathLike[str] | bytes) -> Difference:
    """Compare two .circle or .tflite files, of one format or of both.

    >>> difference = diff("old.circle", "new.circle")      # doctest: +SKIP
    >>> if difference:                                     # doctest: +SKIP
    ...     print(difference)

    Args:
        a: the old one, a file or its bytes.
        b: the new one.

    Raises:
        FormatError: one of them is no model, or damaged.
    """
    old, new = survey(a), survey(b)
    found: dict[str, list[Change]] = {name: [] for name in SECTIONS}
    notes: list[str] = []
    pairs = _subgraphs(old, new)
    several, matched, moved = max(len(old.subgraphs), len(new.subgraphs)) > 1, 0, 0
    for name, left, right in pairs:
        prefix = f"{name}: " if several else ""
        if left is None or right is None:
            there = left or right
            assert there is not None
            kind = "added" if left is None else "removed"
            found["topology"].append(Change(kind, prefix.removesuffix(": "), f"a subgraph of {len(there.operators)} operators"))
            continue
        comparison = _Comparison(left, right, prefix, found)
        comparison.run()
        matched += len(comparison.operators)
        moved += comparison.moved
    found["signatures"] += _signatures(old, new)
    found["metadata"] += _metadata(old, new)
    if old.identifier != new.identifier:
        notes.append(f"{old.format} and {new.format}: the format itself is not counted as a difference")
    if moved:
        notes.append(f"{moved} tensors are uint8 in one file and int8 in the other, all 128 apart: the same real values, not counted")
    return Difference(old.label, new.label, found, notes, matched)


def _subgraphs(old: Survey, new: Survey) -> list[tuple[str, Subgraph | None, Subgraph | None]]:
    """Those that belong together: of one name if names tell them apart, else of one number."""
    named = [{subgraph.name: subgraph for subgraph in whole.subgraphs} for whole in (old, new)]
    if len(old.subgraphs) == len(new.subgraphs) == 1 or any(len(n) < len(w.subgraphs) for n, w in zip(named, (old, new), strict=True)):
        count = max(len(old.subgraphs), len(new.subgraphs))
        both = [[*whole.subgraphs, *[None] * (count - len(whole.subgraphs))] for whole in (old, new)]
        return [(f"subgraph {i}", left, right) for i, (left, right) in enumerate(zip(*both, strict=True))]
    return [(name, named[0].get(name), named[1].get(name)) for name in dict.fromkeys([*named[0], *named[1]])]


# -- which operators and tensors belong together


def align(old: Subgraph, new: Subgraph) -> dict[int, int]:
    """Operators of ``old`` -> those of ``new``, by number.

    First those with results of the same names and of one kind, then those of the same names alone, then by the order of kinds and shapes
    in what is left between, then of kinds.
    """
    found: dict[int, int] = {}
    for key in (_kind_and_names, _names):
        left, right = (dict(_unique(side, key)) for side in (old, new))
        taken = set(found.values())
        found |= {o.index: right[k].index for k, o in left.items() if k in right and o.index not in found and right[k].index not in taken}
    taken = set(found.values())
    ours, theirs = [o for o in old.operators if o.index not in found], [o for o in new.operators if o.index not in taken]
    anchors = common([_kind_and_shapes(old, o) for o in ours], [_kind_and_shapes(new, o) for o in theirs])
    between = []
    for (a, b), (c, d) in pairwise([(-1, -1), *anchors, (len(ours), len(theirs))]):
        alike = common([o.label for o in ours[a + 1 : c]], [o.label for o in theirs[b + 1 : d]])
        between += [(a + 1 + i, b + 1 + j) for i, j in alike]
    found |= {ours[i].index: theirs[j].index for i, j in (*anchors, *between)}
    return found


def common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """A longest common subsequence, as pairs of positions.

    By rows of bits (Hyyrö, 2004): bit ``i`` of a row is 0 where the subsequence of ``a[:i + 1]`` is longer than that of ``a[:i]``. So
    thousands of operators take the time of as many additions of long integers. The rows take ``len(a) * len(b)`` bits: beyond ``MOST_BITS``
    only what both begin with is taken for common.
    """
    if len(a) * len(b) > MOST_BITS:
        return [(i, i) for i in range(next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))))]
    places: dict[Hashable, int] = {}
    for i, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << i
    row = full = (1 << len(a)) - 1
    rows = []
    for item in b:
        hits = row & places.get(item, 0)
        row = ((row + hits) | (row - hits)) & full
        rows.append(row)
    pairs = []
    i, j = len(a), len(b)
    while i and j:
        if rows[j - 1] >> (i - 1) & 1:
            i -= 1
            continue
        j -= 1
        if not j or rows[j - 1] >> (i - 1) & 1:
            i -= 1
            pairs.append((i, j))
    return pairs[::-1]


def _unique(subgraph: Subgraph, key: Any) -> Iterator[tuple[Any, Operator]]:
    """Operators with a key that no other has."""
    keys = [key(subgraph, operator) for operator in subgraph.operators]
    counts = Counter(keys)
    return ((k, o) for k, o in zip(keys, subgraph.operators, strict=True) if k is not None and counts[k] == 1)


def _names(subgraph: Subgraph, operator: Operator) -> tuple[str, ...] | None:
    names = tuple("" if (t := subgraph.tensor(index)) is None else t.name for index in operator.outputs)
    return names if names and all(names) else None


def _kind_and_names(subgraph: Subgraph, operator: Operator) -> tuple[str, ...] | None:
    names = _names(subgraph, operator)
    return None if names is None else (operator.label, *names)


def _kind_and_shapes(subgraph: Subgraph, operator: Operator) -> tuple[Any, ...]:
    return operator.label, *(None if (t := subgraph.tensor(index)) is None else t.shape for index in operator.outputs)


class _Pair(NamedTuple):
    """Two tensors that correspond. ``moved``: uint8 and int8, 128 apart."""

    old: Tensor
    new: Tensor
    moved: bool

    @property
    def name(self) -> str:
        return shown(self.new.name or self.old.name) or f"tensor {self.old.index}"


def _pair(old: Tensor, new: Tensor) -> _Pair:
    a, b = old.quant, new.quant
    moved = (
        {old.kind, new.kind} == set(_EIGHT)
        and (a is None) == (b is None)
        and (a is None or b is None or _alike(a.shifted(-_EIGHT[old.kind] - 128), b.shifted(-_EIGHT[new.kind] - 128)))
    )
    return _Pair(old, new, moved and a is not None)


def _alike(a: Quant, b: Quant) -> bool:
    return a.axis == b.axis and np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point)


# -- what differs


class _Comparison:
    """Fills ``found`` with the differences of two subgraphs."""

    def __init__(self, old: Subgraph, new: Subgraph, prefix: str, found: dict[str, list[Change]]) -> None:
        self.old, self.new, self.prefix, self.found = old, new, prefix, found
        self.operators = align(old, new)
        self.moved = 0
        # Many tensors may share a buffer.
        self.equal: dict[tuple[int, int], bool] = {}
        self.distances: dict[tuple[int, int, Type, Type], Distance] = {}

    def run(self) -> None:
        pairs = self.tensors()
        self.topology(pairs)
        for pair in pairs.values():
            self.moved += pair.moved
            self.types(pair)
            self.quantization(pair)
            self.weights(pair)

    def say(self, section: str, kind: str, path: str, message: str, **facts: Any) -> None:
        self.found[section].append(Change(kind, self.prefix + path, message, facts))

    def tensors(self) -> dict[int, _Pair]:
        """Tensors of the old subgraph, by number -> the pair; results and operands of matched operators, inputs and outputs."""
        numbers: dict[int, int] = {}
        for old, new in self.operators.items():
            self.match(numbers, self.old.operators[old].outputs, self.new.operators[new].outputs)
        ours, theirs = ({side.name_of(i): i for i in side.inputs} for side in (self.old, self.new))
        shared = {name: None for name in ours if name in theirs}
        self.match(numbers, [ours[name] for name in shared], [theirs[name] for name in shared])
        left, right = ([i for name, i in names.items() if name not in shared] for names in (ours, theirs))
        self.match(numbers, left, right)
        for old, new in self.operators.items():
            if self.old.operators[old].label == self.new.operators[new].label:
                self.match(numbers, self.old.operators[old].inputs, self.new.operators[new].inputs, constants=True)
        before, after = ({t.name: t.index for t in side.tensors if self.is_constant(side, t.index)} for side in (self.old, self.new))
        taken = set(numbers.values())
        numbers |= {i: after[n] for n, i in before.items() if n in after and i not in numbers and after[n] not in taken}
        found = {}
        for a, b in numbers.items():
            ours_, theirs_ = self.old.tensor(a), self.new.tensor(b)
            if ours_ is not None and theirs_ is not None:
                found[a] = _pair(ours_, theirs_)
        return found

    def match(self, numbers: dict[int, int], ours: Sequence[int], theirs: Sequence[int], constants: bool = False) -> None:
        """What no operator matched makes belongs together by its place, where it is of one sort."""
        for a, b in zip(ours, theirs, strict=False):
            if a in numbers or a == -1 or b == -1:
                continue
            if constants and (a in self.old.producers or b in self.new.producers or a in self.old.given or b in self.new.given):
                continue
            numbers[a] = b

    def topology(self, pairs: Mapping[int, _Pair]) -> None:
        back = set(self.operators.values())
        for operator in self.old.operators:
            if operator.index not in self.operators:
                self.say("topology", "removed", self.label(self.old, operator), _shown(self.old, operator))
        for operator in self.new.operators:
            if operator.index not in back:
                self.say("topology", "added", self.label(self.new, operator), _shown(self.new, operator))
        for old, new in sorted(self.operators.items()):
            self.operator(self.old.operators[old], self.new.operators[new], pairs)

    def operator(self, old: Operator, new: Operator, pairs: Mapping[int, _Pair]) -> None:
        at = self.label(self.new, new)
        if old.label != new.label:
            self.say("topology", "operator", at, f"{shown(old.label)} -> {shown(new.label)}", old=old.label, new=new.label)
            return
        for key in sorted(old.options.keys() | new.options.keys()):
            before, after = old.options.get(key), new.options.get(key)
            if before != after:
                said = f"{key} {_option(before)} -> {_option(after)}"
                self.say("topology", "option", at, said, option=key, old=_option(before), new=_option(after))
        alike = all(a is None or b is None or a.kind == b.kind for a, b in self.operands(old, new))
        if alike and old.version != new.version:
            self.say("topology", "version", at, f"operator version {old.version} -> {new.version}", old=old.version, new=new.version)
        self.wiring(old, new, at, pairs)

    def operands(self, old: Operator, new: Operator) -> Iterator[tuple[Tensor | None, Tensor | None]]:
        for ours, theirs in ((old.inputs, new.inputs), (old.outputs, new.outputs)):
            for a, b in zip(ours, theirs, strict=False):
                yield self.old.tensor(a), self.new.tensor(b)

    def wiring(self, old: Operator, new: Operator, at: str, pairs: Mapping[int, _Pair]) -> None:
        if len(old.inputs) != len(new.inputs):
            self.say("topology", "inputs", at, f"{len(old.inputs)} operands -> {len(new.inputs)}", old=len(old.inputs), new=len(new.inputs))
            return
        for i, (a, b) in enumerate(zip(old.inputs, new.inputs, strict=True)):
            if a == b == -1 or (a in pairs and pairs[a].new.index == b):
                continue
            if a != -1 and b != -1 and self.is_constant(self.old, a) and self.is_constant(self.new, b):
                continue  # a constant that several operators share in one file only; each reader's own is compared where it is first read
            before, after = ("nothing" if index == -1 else side.name_of(index) for side, index in ((self.old, a), (self.new, b)))
            before += " (of the old file)" if before == after else ""
            self.say("topology", "wiring", at, f"operand {i} is {before} -> {after}", operand=i, old=before, new=after)

    def is_constant(self, side: Subgraph, index: int) -> bool:
        tensor = side.tensor(index)
        return tensor is not None and side.data(tensor) is not None

    def label(self, side: Subgraph, operator: Operator) -> str:
        made = next(iter(operator.outputs), None)
        return f"{shown(operator.label)} {side.name_of(made) if made is not None else operator.index}"

    def types(self, pair: _Pair) -> None:
        old, new = pair.old, pair.new
        if old.kind != new.kind and not pair.moved:
            self.say("types", "type", pair.name, f"{old.kind.lower()} -> {new.kind.lower()}", old=old.kind.lower(), new=new.kind.lower())
        if old.shape != new.shape:
            self.say("types", "shape", pair.name, f"{list(old.shape)} -> {list(new.shape)}", old=list(old.shape), new=list(new.shape))
        elif old.opens != new.opens:
            said = " -> ".join(f"dimensions of any size: {list(t.opens) or 'none'}" for t in (old, new))
            self.say("types", "open", pair.name, said, old=list(old.opens), new=list(new.opens))
        for what in ("variable", "sparse"):
            if getattr(old, what) != getattr(new, what):
                self.say("types", what, pair.name, f"{'is' if getattr(new, what) else 'is no longer'} {what}")

    def quantization(self, pair: _Pair) -> None:
        a, b = pair.old.quant, pair.new.quant
        if pair.moved or (a is None and b is None):
            return
        if a is None or b is None:
            self.say("quantization", "scales", pair.name, f"{_quant(a)} -> {_quant(b)}")
            return
        if a.axis != b.axis or len(a.scale) != len(b.scale):
            facts = {"old": [a.axis, len(a.scale)], "new": [b.axis, len(b.scale)]}
            self.say("quantization", "scales", pair.name, f"{_quant(a)} -> {_quant(b)}", **facts)
            return
        self.scales(pair, a, b)

    def scales(self, pair: _Pair, a: Quant, b: Quant) -> None:
        count = int((a.scale != b.scale).sum())
        if count:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = b.scale.astype(np.float64) / a.scale
            low, high = float(ratio.min()), float(ratio.max())
            many = f"{count} of {len(a.scale)} scales, " if len(a.scale) > 1 else f"scale {a.scale[0]:.8g} -> {b.scale[0]:.8g}, "
            times = f"times {low:.6g}" if low == high else f"times {low:.6g} to {high:.6g}"
            self.say("quantization", "scale", pair.name, many + times, count=count, ratio=[low, high])
        offset = _EIGHT.get(pair.new.kind, 0) - _EIGHT.get(pair.old.kind, 0) if {pair.old.kind, pair.new.kind} == set(_EIGHT) else 0
        by = b.zero_point - a.zero_point - offset
        if by.any():
            count, single = int((by != 0).sum()), f"zero point {a.zero_point[0]} -> {b.zero_point[0]}"
            many = f"{count} of {len(by)} zero points" if len(by) > 1 else single
            self.say("quantization", "zero-point", pair.name, many, count=count, largest=int(np.abs(by).max()))

    def weights(self, pair: _Pair) -> None:
        left, right = self.old.data(pair.old), self.new.data(pair.new)
        if left is None or right is None:
            if (left is None) != (right is None) and pair.old.index not in self.old.producers:
                self.say("weights", "constant", pair.name, "is a constant in one of the two only")
            return
        if pair.old.shape != pair.new.shape or (pair.old.kind == pair.new.kind and self.same_bytes(pair, left, right)):
            return
        a, b = self.old.value(pair.old.index), self.new.value(pair.new.index)
        if a is None or b is None or a.data is None or b.data is None:
            self.say("weights", "bytes", pair.name, f"other bytes of {pair.old} ({len(left):,} -> {len(right):,})")
            return
        self.elements(pair, a, b)

    def same_bytes(self, pair: _Pair, left: Array, right: Array) -> bool:
        key = pair.old.buffer, pair.new.buffer
        if key not in self.equal:
            self.equal[key] = _equal(left, right)
        return self.equal[key]

    def elements(self, pair: _Pair, a: Value, b: Value) -> None:
        key = pair.old.buffer, pair.new.buffer, a.type, b.type
        distance = self.distances.get(key) or distance_of(a, b)
        self.distances[key] = distance
        if distance.unequal == 0:
            return
        unit = f" {distance.unit}" if distance.unit else ""
        how = f"{distance.unequal:,} of {distance.size:,} differ, at most {distance.largest:.6g}{unit}, on average {distance.mean:.4g}"
        facts = {k: v for k, v in distance._asdict().items() if k != "unit"} | {"unit": distance.unit or "value"}
        self.say("weights", "values", pair.name, how, **facts)


class Distance(NamedTuple):
    """``unequal`` of ``size`` elements differ, by ``largest`` at most and ``mean`` over all elements, in ``unit``."""

    unequal: int
    size: int
    largest: float
    mean: float
    unit: str


def distance_of(a: Value, b: Value) -> Distance:
    """How far two constants of one shape are apart.

    Integers of one quantization (or 128 apart) are compared as they are, in LSB: steps of the scale. With unequal quantizations their
    real values are, in steps of the old one's scale. Everything else is compared as numbers; two NaN are equal.
    """
    old, new = a.type.quant, b.type.quant
    integers = not a.type.dtype.is_float and not b.type.dtype.is_float and a.type.dtype is not DType.BOOL
    quantized = old is not None and new is not None and integers
    shift = 0
    if {a.type.dtype, b.type.dtype} == {DType.INT8, DType.UINT8}:
        shift = 128 if a.type.dtype is DType.INT8 else -128
    real = quantized and old is not None and new is not None and not _alike(old.shifted(shift), new)
    unit = ("LSB (real values, old scale)" if real else "LSB") if quantized else ""
    unequal, largest, total = 0, 0.0, 0.0
    for x, y in _chunks(a.array(), b.array(), old if real else None, new if real else None):
        gap = np.abs(x + (shift if quantized and not real else 0) - y)
        equal = np.isnan(x) & np.isnan(y) | (x == y) if not quantized else gap == 0
        gap = np.where(equal, 0, np.where(np.isnan(gap), np.inf, gap))
        unequal += int((gap > 0).sum())
        largest, total = max(largest, float(gap.max(initial=0))), total + float(gap.sum())
    return Distance(unequal, a.type.size, largest, total / max(1, a.type.size), unit)


def _equal(a: Array, b: Array) -> bool:
    """Whether bytes are equal, in parts, so that memory does not grow with them."""
    return len(a) == len(b) and all(np.array_equal(a[i : i + _CHUNK], b[i : i + _CHUNK]) for i in range(0, len(a), _CHUNK))


def _chunks(a: Array, b: Array, old: Quant | None, new: Quant | None) -> Iterator[tuple[Array, Array]]:
    """Both in float64, in parts, so that memory does not grow with the weight; with quantizations, in steps of the old one's scale."""
    if a.ndim == 0:
        a, b = a.reshape(1), b.reshape(1)
    rows = max(1, _CHUNK // max(1, a[:1].size))
    for start in range(0, len(a), rows):
        part = slice(start, start + rows)
        x, y = a[part].astype(np.float64), b[part].astype(np.float64)
        if old is not None and new is not None:
            step = _along(old.scale, old, a.ndim, part)
            x = x - _along(old.zero_point, old, a.ndim, part)
            with np.errstate(divide="ignore", invalid="ignore"):
                y = (y - _along(new.zero_point, new, a.ndim, part)) * _along(new.scale, new, a.ndim, part) / step
        yield x, y


def _along(numbers: Array, quant: Quant, rank: int, part: slice) -> Array:
    if quant.axis is None:
        return numbers.astype(np.float64)
    own = numbers[part] if quant.axis == 0 else numbers
    return own.astype(np.float64).reshape([-1 if axis == quant.axis else 1 for axis in range(rank)])


def _shown(side: Subgraph, operator: Operator) -> str:
    reads = ", ".join("-" if i == -1 else side.name_of(i) for i in operator.inputs)
    return f"({reads}) -> {', '.join(str(side.tensor(i)) for i in operator.outputs)}"


def _option(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return "the default" if value is None else list(value) if isinstance(value, tuple) else value


def _quant(quant: Quant | None) -> str:
    return "no scale" if quant is None else str(quant)


def _signatures(old: Survey, new: Survey) -> Iterator[Change]:
    ours, theirs = ({s.key: s for s in whole.signatures} for whole in (old, new))
    for key in dict.fromkeys([*ours, *theirs]):
        if key not in theirs or key not in ours:
            yield Change("added" if key in theirs else "removed", shown(key) or "<no key>", "a signature")
            continue
        for what in ("inputs", "outputs"):
            before, after = ([name for name, _ in getattr(side[key], what)] for side in (ours, theirs))
            if before != after:
                said = f"{what} {', '.join(map(shown, before))} -> {', '.join(map(shown, after))}"
                yield Change("names", shown(key), said, {"old": before, "new": after})
    if not ours and not theirs:
        for what in ("inputs", "outputs"):
            before, after = ([w.subgraphs[0].name_of(i) for i in getattr(w.subgraphs[0], what)] for w in (old, new))
            if before != after:
                yield Change("names", what, f"{', '.join(before)} -> {', '.join(after)}", {"old": before, "new": after})


def _metadata(old: Survey, new: Survey) -> Iterator[Change]:
    if old.description != new.description:
        facts = {"old": old.description, "new": new.description}
        yield Change("description", "description", f"{old.description!r} -> {new.description!r}", facts)
    if old.identifier == new.identifier and old.version != new.version:
        yield Change("version", "version", f"{old.version} -> {new.version}", {"old": old.version, "new": new.version})
    for name in dict.fromkeys([*old.metadata, *new.metadata]):
        if name not in new.metadata or name not in old.metadata:
            there = new.metadata.get(name) if name in new.metadata else old.metadata[name]
            size = 0 if there is None else len(there)
            yield Change("added" if name in new.metadata else "removed", shown(name), f"{size:,} bytes")
            continue
        before, after = (b"" if data is None else data.tobytes() for data in (old.metadata[name], new.metadata[name]))
        if before != after:
            yield Change("metadata", shown(name), _in_metadata(before, after), {"old_bytes": len(before), "new_bytes": len(after)})


def _in_metadata(before: bytes, after: bytes) -> str:
    """Which keys differ, if both are JSON objects."""
    try:
        left, right = json.loads(before), json.loads(after)
    except (ValueError, RecursionError):
        left = right = None
    if isinstance(left, dict) and isinstance(right, dict):
        keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
        return "; ".join(f"{key} {left.get(key)!r} -> {right.get(key)!r}" for key in keys)
    return f"other content, {len(before):,} -> {len(after):,} bytes"
