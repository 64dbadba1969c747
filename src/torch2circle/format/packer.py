"""Nested tables as a flatbuffer, by the facts of the schema. The only module that needs ``flatbuffers``."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import flatbuffers
import numpy as np
from flatbuffers import number_types as numbers

from ..errors import Bug
from .facts import ENUMS, STORAGE, TABLES, UNIONS, Field

Table = Mapping[str, Any]
"""A table: field name -> number, string, sequence, enum member's name, table, or (table name, table) for a union."""

LATER: Final = object()
"""Stands for data that is written behind the flatbuffer."""

_FLAGS: Final[dict[str, Any]] = {
    "bool": numbers.BoolFlags, "byte": numbers.Int8Flags, "ubyte": numbers.Uint8Flags, "ushort": numbers.Uint16Flags,
    "int": numbers.Int32Flags, "uint": numbers.Uint32Flags, "long": numbers.Int64Flags, "ulong": numbers.Uint64Flags,
    "float": numbers.Float32Flags,
}  # fmt: skip


class Packer:
    """Builds a flatbuffer from nested mappings by the schema's facts.

    A table is a mapping, a union a pair (table name, mapping), an enum a member's name, a vector any sequence.
    ``holes`` are the positions of the references to data that comes later, in the order of the buffers.
    """

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)
        self.holes: list[int] = []

    def finish(self, model: Table, identifier: str) -> bytes:
        self.builder.Finish(self.table("Model", model), file_identifier=identifier.encode())
        head = bytes(self.builder.Output())
        self.holes = [len(head) - from_end for from_end in self.holes]
        return head

    def table(self, name: str, values: Table) -> int:
        fields = TABLES[name]
        # A table's parts must be complete before it is begun.
        ready = {}
        for key, value in values.items():
            with _typed(name, key, value):
                ready[key] = self.part(fields[key].type, value)
        self.builder.StartObject(1 + max((field.slot for field in fields.values()), default=-1))
        self.builder.ForceDefaults(name == "OperatorCode")  # onert crashes without deprecated_builtin_code, also where it is 0
        for key, value in ready.items():
            with _typed(name, key, values[key]):
                self.add(fields[key], values[key], value)
        return int(self.builder.EndObject())

    def part(self, kind: str, value: Any) -> Any:
        """The offset of what is stored by reference; what is stored in the table is passed on."""
        if value is LATER:
            return value
        if kind == "string":
            return self.builder.CreateString(value)
        if kind in TABLES:
            return self.table(kind, value)
        if kind in UNIONS:
            return self.table(*value)
        return self.vector(kind[1:-1], value) if kind.startswith("[") else value

    def add(self, field: Field, given: Any, value: Any) -> None:
        if value is LATER:
            self.builder.PrependUint32(0)
            self.builder.Slot(field.slot)
            self.holes.append(self.builder.Offset())
        elif field.type in ENUMS:
            self.builder.PrependSlot(_FLAGS[STORAGE[field.type]], field.slot, ENUMS[field.type][value], field.default)
        elif field.type in _FLAGS:
            self.builder.PrependSlot(_FLAGS[field.type], field.slot, _exact(field.type)(value), field.default)
        else:
            if field.type in UNIONS:
                self.builder.PrependUint8Slot(field.slot - 1, UNIONS[field.type][given[0]], 0)
            self.builder.PrependUOffsetTRelativeSlot(field.slot, value, 0)

    def vector(self, kind: str, values: Any) -> int:
        kind = STORAGE.get(kind, kind)
        if kind in _FLAGS:
            dtype = numbers.to_numpy_type(_FLAGS[kind])
            checked = isinstance(values, np.ndarray) and values.dtype == dtype  # per-channel scales: thousands of numbers
            return int(self.builder.CreateNumpyVector(values if checked else np.array([*map(_exact(kind), values)], dtype)))
        offsets = [self.table(kind, value) for value in values]
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())


def _exact(kind: str) -> Callable[[Any], Any]:
    """Conversion to a Python number, refusing a float where an integer is due."""
    return {"bool": bool, "float": float}.get(kind, operator.index)


@contextlib.contextmanager
def _typed(table: str, key: str, value: Any) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise Bug(f"{table}.{key} is of type {TABLES[table][key].type}, not: {value!r}") from error
