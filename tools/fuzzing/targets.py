"""What is tried with a hostile file, and what must hold: a result or an error of ours, soon, and in little memory.

A target is a function of the file's bytes and of ``scratch``, a folder for what it writes. What it raises besides a ``UserError``, be it an
``AssertionError`` of its own, is a finding.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import resource
import signal
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from torch2circle import overview
from torch2circle.checks import check
from torch2circle.cli.inspect import _print_file, _print_findings
from torch2circle.conversion import convert
from torch2circle.difference import diff
from torch2circle.dot import dot
from torch2circle.errors import UserError
from torch2circle.format import read, survey, to_bytes
from torch2circle.implant import implant_qparams
from torch2circle.ir import DType, Graph, Node, Type, Value
from torch2circle.testing.canonical import canonical_text
from torch2circle.testing.golden import _is_readable, same
from torch2circle.verify.files import MOST_RANDOM, compare_files

Target = Callable[[bytes, Path], None]
MIB = 1 << 20

SECONDS = 5.0
"""Of the processor, that an execution may take."""
BASE = 8 * MIB
EACH = 256


def allowed(size: int) -> int:
    """Bytes of memory that a look at a file of ``size`` bytes may take: four times the file, and what Python's objects are for tables.

    A table takes eight bytes at least, and becomes two kilobytes at most; there are no more than of a mebibyte full of them
    (``torch2circle.format.walker``).
    """
    return BASE + EACH * min(size, MIB) + 4 * size


def _survey(data: bytes, scratch: Path) -> None:
    for subgraph in survey(data).subgraphs:
        for tensor in subgraph.tensors:
            subgraph.value(tensor.index)


def _read(data: bytes, scratch: Path) -> None:
    for graph in read(data).graphs.values():
        str(graph)
        for value in graph.values():
            assert value.data is None or value.array().shape == value.type.shape


def _check(data: bytes, scratch: Path) -> None:
    whole = survey(data)
    for target in (None, "onert", "litert", "one"):
        for finding in check(whole, target):
            assert str(finding).isprintable(), str(finding)


def _inspect(data: bytes, scratch: Path) -> None:
    whole = survey(data)
    for _ in json.JSONEncoder(indent=2, allow_nan=False).iterencode(overview.overview(whole)):
        pass
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        _print_file(whole, True, True)
        _print_findings(check(whole, "onert"), False)
    assert said.getvalue().replace("\n", "").isprintable()


def _dot(data: bytes, scratch: Path) -> None:
    assert dot(survey(data)).replace("\n", "").isprintable()


def _diff(data: bytes, scratch: Path) -> None:
    for a, b in ((data, PARTNER), (PARTNER, data), (data, data)):
        found = diff(a, b)
        json.dumps(overview.plain(found.as_dict()), allow_nan=False)
        assert str(found).replace("\n", "").isprintable()
        if a is b and found and all(finding.severity == "note" for finding in check(data)):
            raise AssertionError(f"another than itself: {found}")


def _convert(data: bytes, scratch: Path) -> None:
    target, suffix = (("onert", "circle"), ("litert", "tflite"), ("one", "circle"))[hashlib.sha256(data).digest()[0] % 3]
    made = scratch / f"converted.{suffix}"
    convert(data, made, target)  # type: ignore[arg-type]  # bytes are read like a file
    written = made.read_bytes()
    made.unlink()
    read(written)


def _rewrap(data: bytes, scratch: Path) -> None:
    made = scratch / "kept.circle"
    convert(data, made, keep=True)  # type: ignore[arg-type]  # bytes are read like a file
    written = made.read_bytes()
    made.unlink()
    survey(written)


def _golden(data: bytes, scratch: Path) -> None:
    contents = read(data)
    canonical_text(contents)
    _is_readable(data)
    same(data, data[:-1] + b"\0")


def _bundle(data: bytes, scratch: Path) -> None:
    """A q-implant bundle of which one file is ``data``: its text, or an array."""
    folder = scratch / "bundle"
    folder.mkdir(exist_ok=True)
    text = data if data[:1] == b"{" else b'{"y": {"dtype": "uint8", "scale": "0.npy", "zerop": "1.npy", "quantized_dimension": 0}}'
    (folder / "qparam.json").write_bytes(text)
    np.save(folder / "0.npy", np.array([0.5], np.float32))
    (folder / "1.npy").write_bytes(data)
    implant_qparams(_float_model(), folder / "qparam.json", scratch / "implanted.circle")  # type: ignore[arg-type]


def _verify(data: bytes, scratch: Path) -> None:
    """In its runtime, against itself."""
    path = scratch / ("verified.circle" if data[4:8] == b"CIR0" else "verified.tflite")
    path.write_bytes(data)
    compare_files(path, path, timeout=20)


@cache
def _float_model() -> bytes:
    x = Value(Type((2, 3), DType.FLOAT32), "x")
    y = Node.make("RELU", [x], [Value(x.type, "y")]).out
    return to_bytes(Graph((x,), (y,), ("x",), ("y",)), identifier="CIR0")


TARGETS: dict[str, Target] = {
    "survey": _survey, "read": _read, "check": _check, "inspect": _inspect, "dot": _dot, "diff": _diff, "convert": _convert,
    "rewrap": _rewrap, "golden": _golden, "bundle": _bundle, "verify": _verify,
}  # fmt: skip
PARTNER = b""


class Hang(Exception):
    """An execution took too long."""


@dataclass(frozen=True)
class Finding:
    """What went wrong: ``key`` is the same for the same mistake."""

    key: str
    text: str


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def tried(name: str, data: bytes, scratch: Path, *, traced: bool = False) -> Finding | None:
    """One execution; with ``traced`` every allocation counts, which takes several times as long, else what the process grows by."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if traced:
        tracemalloc.start(1)
    try:
        with _limited(SECONDS * (4 if traced else 1)):
            TARGETS[name](data, scratch)
    except UserError as error:
        str(error)
    except Exception as error:
        return _finding(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1] if traced else 0
        if traced:
            tracemalloc.stop()
    grown = peak if traced else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    slack = 3 * MOST_RANDOM if name == "verify" else 0  # its inputs, which numpy makes in float64 first
    if grown > allowed(len(data)) + slack + (0 if traced else 32 * MIB):
        return Finding("memory", f"{grown:,} bytes for a file of {len(data):,}")
    return None


def _finding(error: Exception) -> Finding:
    at = [frame for frame in traceback.extract_tb(error.__traceback__) if {"torch2circle", "fuzzing"} & {*Path(frame.filename).parts}][-1]
    key = f"{type(error).__name__} {Path(at.filename).name}:{at.lineno}"
    return Finding(key, "".join(traceback.format_exception(error)))
