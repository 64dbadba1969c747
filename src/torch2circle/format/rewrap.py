"""A file in the other format as it is: the same tables and bytes under another identifier. Nothing is computed, nothing legalized."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import TargetError
from .facts import CIRCLE_ONLY, ENUMS, TABLES, UNIONS
from .reader import opened
from .survey import Blob, Survey, survey
from .walker import NAMES, File, WireTable
from .whole import whole_file
from .writer import VERSIONS, Data, described, stream

# What may be left out without changing what the file computes.
_NEEDLESS = ("SubGraph.debug_metadata_index",)
_BUFFERS = ("Model.buffers",)  # ``survey`` finds their bytes, wherever in the file they are


@dataclass
class _Copy:
    """Turns tables of the file into those that the packer takes; ``lacking`` gathers what the other format does not have."""

    file: File
    identifier: str
    lacking: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)

    def model(self) -> dict[str, Any]:
        return self.table(WireTable(self.file, "Model", self.file.target(0)))

    def table(self, table: WireTable) -> dict[str, Any]:
        self.needs(table.name)
        values: dict[str, Any] = {}
        for key, (slot, kind, _) in TABLES[table.name].items():
            name = f"{table.name}.{key}"
            if table.place(slot) is None or name in _BUFFERS:
                continue
            if self.identifier == "TFL3" and name in CIRCLE_ONLY and name in _NEEDLESS:
                self.left[name] = self.left.get(name, 0) + 1
                continue
            value = self.value(table, key, slot, kind)
            if value is not None:
                self.needs(name)
                values[key] = value
        return values

    def value(self, table: WireTable, key: str, slot: int, kind: str) -> Any:
        if kind in UNIONS:
            return self.union(table, slot, kind)
        if kind in ENUMS:
            return self.member(kind, int(table.number(key)))
        if kind[1:-1] in ENUMS:
            names = NAMES[kind[1:-1]]
            return [ENUMS[kind[1:-1]][self.member(kind[1:-1], n)] if n in names else n for n in table.numbers(key)]
        value = table.get(key)
        if isinstance(value, WireTable):
            return self.table(value)
        if isinstance(value, list):
            return [self.table(item) for item in value]
        return value

    def member(self, kind: str, number: int) -> str:
        if number not in NAMES[kind]:
            self.file.fail(f"the schema has no {kind} {number}, which may mean something else in the other format")
        self.needs(f"{kind}.{NAMES[kind][number]}")
        return NAMES[kind][number]

    def union(self, table: WireTable, slot: int, kind: str) -> tuple[str, dict[str, Any]] | None:
        at = table.place(slot - 1)
        number = 0 if at is None else int(self.file.number("ubyte", at))
        if kind == "QuantizationDetails" and number > 1:
            self.file.fail("a quantization that is not affine has another number in the other format")
        if number:
            self.member(kind, number)
        found = table.union(slot, kind)
        return None if found is None else (found[0], self.table(found[1]))

    def needs(self, name: str) -> None:
        if self.identifier == "TFL3" and name in CIRCLE_ONLY:
            self.lacking[name] = self.lacking.get(name, 0) + 1


def tables(file: File) -> dict[str, Any]:
    """A whole file but its buffers as nested tables, as the packer takes them."""
    return _Copy(file, "CIR0").model()


def rewrap(source: str | os.PathLike[str], path: str | os.PathLike[str], identifier: str) -> tuple[int, list[str]]:
    """Write the file ``source`` at ``path`` under another identifier.

    Returns:
        Its size, and what was left out.

    Raises:
        FormatError: ``source`` is no model, damaged, or has what may have another meaning in the other format.
        TargetError: it has what the other format does not; all of it is named.
        WriteError: ``path`` cannot be written.
    """
    whole, file = survey(source), opened(source)
    copy = _Copy(file, identifier)
    model = copy.model()
    for code in model.get("operator_codes", ()):
        _complete(file, code)
    for subgraph in model["subgraphs"]:
        for operator in subgraph.get("operators", ()):
            _bring_in(file, operator)
    if copy.lacking:
        lines = [f"  {name} x{count}" for name, count in sorted(copy.lacking.items())]
        hint = "convert without --keep, or keep the .circle file"
        raise TargetError("\n".join(["TFLite does not have what is in the file:", *lines]), hint=hint)
    metadata = {entry.get("buffer", 0) for entry in model.get("metadata", ())}
    buffers = [_data(blob, index in metadata) for index, blob in enumerate(whole.blobs)]
    parts = described(model | {"version": VERSIONS[identifier]}, identifier, buffers, lambda: _by_tensor(whole))
    with whole_file(path) as sink:
        stream(sink, *parts)
        return sink.tell(), list(_said(copy.left))


def _data(blob: Blob, is_metadata: bool) -> Data | None:
    data = blob.data
    return None if data is None else Data(len(data), lambda: data.data, (blob.position, len(data)), is_metadata)


def _by_tensor(whole: Survey) -> dict[str, int]:
    """The bytes of each constant by its name; of those that share a buffer, by that of the first."""
    sizes: dict[int, tuple[str, int]] = {}
    for subgraph in whole.subgraphs:
        for tensor in subgraph.tensors:
            if (data := subgraph.data(tensor)) is not None:
                sizes.setdefault(tensor.buffer, (subgraph.name_of(tensor.index), len(data)))
    return {f"{name} (buffer {buffer})": size for buffer, (name, size) in sizes.items()}


def _complete(file: File, code: dict[str, Any]) -> None:
    """Both fields, of which old files have only the one of a byte: Circle's readers want the other."""
    numbers = ENUMS["BuiltinOperator"]
    old, new = code.get("deprecated_builtin_code", 0), numbers[code.get("builtin_code", "ADD")]
    number = min(old, new) if min(old, new) < 0 else max(old, new)
    if number not in NAMES["BuiltinOperator"]:
        file.fail(f"the schema has no BuiltinOperator {number}")
    code |= {"deprecated_builtin_code": min(number, 127), "builtin_code": NAMES["BuiltinOperator"][number]}


def _bring_in(file: File, operator: dict[str, Any]) -> None:
    """Custom options that stand behind the flatbuffer, into it."""
    offset, size = operator.pop("large_custom_options_offset", 0), operator.pop("large_custom_options_size", 0)
    if offset > 1 and size:
        file.check(offset, size)
        operator["custom_options"] = bytes(file.view[offset : offset + size])


def _said(left: Mapping[str, int]) -> Iterator[str]:
    for name, count in left.items():
        yield f"{name} of {count} tables"
