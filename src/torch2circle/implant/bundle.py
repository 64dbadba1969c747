"""The files of q-implant: ``qparam.json`` and numbered ``.npy`` files, which give tensors of a float Circle file their integers.

A tensor's name stands for ``{"dtype", "scale", "zerop", "quantized_dimension"}`` and, for a constant, ``"value"``. Scale, zero point
and value are names of files beside ``qparam.json``: float32[n], int64[n], and the integers in the tensor's own shape.
"""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError, QuantizationError
from ..format import whole_folder, write
from ..ir import Array, Constant, DType, Finding, Graph, Quant, Type
from ..text import LONGEST, one_line, shown

DTYPES = ("uint8", "int8", "int16", "int32", "int64")
NEEDED = ("dtype", "scale", "zerop", "quantized_dimension")
SHOWN = 20


@dataclass(frozen=True)
class Entry:
    """What a tensor becomes. ``data``: a constant's integers; without them they are computed from the float ones."""

    dtype: DType
    scale: Array
    zero_point: Array
    dimension: int = 0
    data: Constant | None = None

    def type(self, shape: tuple[int, ...]) -> Type:
        """That of a tensor of ``shape``; one scale is for all of it, whatever its dimension."""
        return Type(shape, self.dtype, Quant(self.scale, self.zero_point, self.dimension if len(self.scale) > 1 else None))

    def mistakes(self) -> list[str]:
        """What is wrong with the numbers themselves."""
        wrong = []
        usable = np.isfinite(self.scale) & (self.scale > 0)
        if not usable.all():
            wrong.append(f"a scale must be a positive number: {self.scale[~usable][0]} at {int(np.argmin(usable))}")
        info = np.iinfo(self.dtype.numpy)
        inside = (self.zero_point >= info.min) & (self.zero_point <= info.max)
        if not inside.all():
            wrong.append(f"a zero point is not in {self.dtype.value}: {self.zero_point[~inside][0]} at {int(np.argmin(inside))}")
        if len(self.scale) != len(self.zero_point) or not len(self.scale):
            wrong.append(f"there must be as many zero points as scales, and one at least: {len(self.zero_point)} and {len(self.scale)}")
        return wrong

    def misfits(self, shape: tuple[int, ...]) -> list[str]:
        """Why this cannot be the quantization of a tensor of ``shape``."""
        wrong = []
        if not 0 <= self.dimension < max(len(shape), 1):
            wrong.append(f"quantized_dimension is none of a tensor of {len(shape)} dimensions: {self.dimension}")
        elif len(self.scale) > 1 and (not shape or shape[self.dimension] != len(self.scale)):
            wrong.append(f"{len(self.scale)} scales for dimension {self.dimension} of {list(shape)}")
        if self.data is not None and (found := self.data.load().shape) != shape:
            wrong.append(f"value has the shape {list(found)}, the tensor {list(shape)}")
        return wrong


@dataclass(frozen=True)
class Bundle:
    """A float graph and, by the names its tensors have in the file, what q-implant makes of them.

    ``findings``: what ONE's own tools will not take.
    """

    graph: Graph
    entries: Mapping[str, Entry]
    findings: tuple[Finding, ...] = ()

    def save(self, folder: str | os.PathLike[str], metadata: Mapping[str, bytes] = {}) -> int:
        """Write ``model.circle``, ``qparam.json`` and the ``.npy`` files.

        Args:
            folder: a new or empty one in a folder that exists. It is filled all at once, or after an error as it was.
            metadata: for ``model.circle``.

        Returns:
            The size of ``model.circle`` in bytes.

        Raises:
            QuantizationError: a scale or zero point that no reader would take.
            WriteError: ``folder`` holds files, or cannot be made.
        """
        mistakes = [(name, text) for name, entry in self.entries.items() for text in entry.mistakes()]
        if mistakes:
            raise QuantizationError(listed("no tool would read the bundle", mistakes))
        with whole_folder(folder) as part:
            with open(part / "model.circle", "x+b") as sink:
                write(self.graph, sink, identifier="CIR0", metadata=metadata)
                size = sink.tell()
            (part / "qparam.json").write_text(self._write_arrays(part), encoding="utf-8")
        return size

    def _write_arrays(self, folder: Path) -> str:
        """The numbered files; the text of ``qparam.json``."""
        root: dict[str, dict[str, object]] = {}
        count = 0
        for name, entry in self.entries.items():
            root[name] = {"dtype": entry.dtype.value, "quantized_dimension": entry.dimension}
            value = [] if entry.data is None else [("value", entry.data.load())]
            for key, array in [("scale", entry.scale), ("zerop", entry.zero_point), *value]:
                # q-implant reads no Fortran order, in which numpy would write a transposed array
                np.save(folder / f"{count}.npy", np.array(array, array.dtype.newbyteorder("<"), order="C"), allow_pickle=False)
                root[name][key] = f"{count}.npy"
                count += 1
        return json.dumps(root, indent=2, ensure_ascii=False) + "\n"


def listed(what: str, mistakes: Iterable[tuple[str, str]]) -> str:
    """A message: ``what``, and below it each (tensor, mistake)."""
    lines = [f"  {shown(name)}: {one_line(text)}" for name, text in mistakes]
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([f"{what}:", *lines[:SHOWN], *more])


def shortened(names: Sequence[str]) -> str:
    """Some of the names."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


# -- reading


def read_bundle(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """The entries of a ``qparam.json`` by the tensors' names; constants stay in their files until they are asked for.

    Raises:
        FormatError: naming all that is wrong with the text and its files, tensor by tensor.
    """
    entries: dict[str, Entry] = {}
    mistakes: list[tuple[str, str]] = []
    for name, fields in _parsed(Path(path)).items():
        wrong: list[str] = []
        with _collecting(wrong):
            entries[name] = _entry(Path(path).parent, fields)
        mistakes += [(name, text) for text in wrong]
    if mistakes:
        raise FormatError(listed(f"{path} has {len(mistakes)} mistake(s)", mistakes))
    return entries


class _Mistakes(Exception):
    """Each argument says one."""


@contextmanager
def _collecting(wrong: list[str], of: str = "") -> Iterator[None]:
    try:
        yield
    except _Mistakes as mistakes:
        wrong += [of + text for text in mistakes.args]


def _parsed(path: Path) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise ValueError(f"{shown(twice)} stands there twice")
        return found

    try:
        root = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is no qparam.json: {error}") from error
    if not isinstance(root, dict) or not root:
        raise FormatError(f"{path} is no qparam.json: it must be an object with an entry for each tensor")
    return root


def _entry(folder: Path, fields: Any) -> Entry:
    if not isinstance(fields, dict):
        raise _Mistakes(f"must be an object with {', '.join(NEEDED)}")
    parsers: dict[str, Callable[[Any], Any]] = {
        "dtype": _dtype,
        "scale": partial(_vector, folder, np.dtype(np.float32)),
        "zerop": partial(_vector, folder, np.dtype(np.int64)),
        "quantized_dimension": _dimension,
        "value": partial(_array, folder),
    }
    read: dict[str, Any] = {}
    wrong = [f"{key} is missing" for key in NEEDED if key not in fields]
    for key, text in fields.items():
        if key not in parsers:
            nearest = difflib.get_close_matches(key[:LONGEST], parsers, 1, 0.3)
            told = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(parsers)}"
            wrong.append(f"unknown key {shown(key)}, {told}")
            continue
        with _collecting(wrong, f"{key} "):
            read[key] = parsers[key](text)
    if {"value", "dtype"} <= read.keys() and read["value"].dtype != read["dtype"].numpy:
        wrong.append(f"value must be {read['dtype'].value}: {fields['value']} is {read['value'].dtype}")
    if wrong:
        raise _Mistakes(*wrong)
    data = Constant.of(read["value"]) if "value" in read else None
    entry = Entry(read["dtype"], read["scale"], read["zerop"], read["quantized_dimension"], data)
    if wrong := [f"{text} ({fields['scale']}, {fields['zerop']})" for text in entry.mistakes()]:
        raise _Mistakes(*wrong)
    return entry


def _dtype(text: Any) -> DType:
    if not isinstance(text, str) or text.lower() not in DTYPES:
        raise _Mistakes(f"must be one of {', '.join(DTYPES)}: {text}")
    return DType(text.lower())


def _dimension(number: Any) -> int:
    if type(number) is not int or number < 0:  # True is an int, too
        raise _Mistakes(f"must be an integer from 0: {number}")
    return number


def _vector(folder: Path, dtype: np.dtype[Any], name: Any) -> Array:
    array = _array(folder, name)
    if array.dtype != dtype:
        raise _Mistakes(f"must be {dtype}: {name} is {array.dtype}")
    if array.ndim != 1:
        raise _Mistakes(f"must have one dimension: {name} has the shape {list(array.shape)}")
    return np.array(array)


def _array(folder: Path, name: Any) -> Array:
    """The array in a file of the bundle's own folder, mapped and not loaded."""
    if not isinstance(name, str) or Path(name).name != name or {"\\", "\0"} & set(name) or name in ("", ".."):
        raise _Mistakes(f"must be the name of a file beside qparam.json: {name}")
    if not (folder / name).is_file():
        raise _Mistakes(f"is no file: {name}")
    try:
        return np.lib.format.open_memmap(folder / name, mode="r")
    except Exception as error:  # whatever the bytes are, they are no array: numpy raises half a dozen classes
        raise _Mistakes(f"is no whole .npy file of numbers: {name} ({error})") from None
