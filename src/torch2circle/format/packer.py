"""Nested tables as a flatbuffer, by the facts of the schema.

It is laid out from front to back, a table and then what it refers to, because references point forwards. Only the list of
where a table's fields are stands before it, once for all tables that have the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from ..errors import Bug
from .facts import ENUMS, STORAGE, TABLES, UNIONS

Table = Mapping[str, Any]
"""A table: field name -> number, string, sequence, enum member's name, table, or (table name, table) for a union."""

LATER: Final = object()
"""Stands for data that is written behind the flatbuffer, or for where in the file that is."""

ALIGNMENT: Final = 16
"""Of what a buffer has, in the file."""

_CODES: Final = {"bool": "?", "byte": "b", "ubyte": "B", "ushort": "H", "int": "i", "uint": "I", "long": "q", "ulong": "Q", "float": "f"}
_NUMBERS: Final = {kind: struct.Struct("<" + code) for kind, code in _CODES.items()}
_OFFSET: Final = struct.Struct("<i")
_LENGTH: Final = _NUMBERS["uint"]  # and a reference's form, too


class Hole(NamedTuple):
    """Where something is left out that is known when the data is written: a reference to a byte vector, or, as a number of 64 bits, the
    offset of its elements in the file. A reference reaches no further than 2^32 bytes, and readers take it for less.
    """

    at: int
    is_offset: bool

    def fill(self, head: bytearray, position: int) -> None:
        """Put in that the vector is at ``position``; its elements are behind a length of 32 bits."""
        if self.is_offset:
            _NUMBERS["ulong"].pack_into(head, self.at, position + _LENGTH.size)
        else:
            _LENGTH.pack_into(head, self.at, position - self.at)


class Packer:
    """Builds a flatbuffer from nested mappings by the schema's facts.

    A table is a mapping, a union a pair (table name, mapping), an enum a member's name, a vector any sequence.
    ``holes`` are for data that comes later, in the order of the buffers.
    """

    def __init__(self) -> None:
        self.out = bytearray()
        self.holes: list[Hole] = []
        self._vtables: dict[bytes, int] = {}

    def finish(self, model: Table, identifier: str) -> bytes:
        self.out += bytes(4) + identifier.encode()
        self._refer(0, "Model", model)
        return bytes(self.out)

    def table(self, name: str, values: Table) -> int:
        """Append a table and all that it refers to; return where it is."""
        fields, items, key = _fields(name), values.items(), ""
        own: dict[int, bytes] = {}  # what stands in the table itself, by slot
        references: list[tuple[str, str, Any]] = []
        later: list[int] = []
        try:
            for key, value in items:
                slot, kind, number, members, default = fields[key]
                if number:
                    if value is LATER:
                        own[slot] = bytes(number.size)
                        later.append(slot)
                        continue
                    packed = number.pack(members[value] if members else value)
                    if packed != default or name == "OperatorCode":  # onert crashes without deprecated_builtin_code
                        own[slot] = packed
                    continue
                if kind in UNIONS:
                    own[slot - 1] = _NUMBERS["ubyte"].pack(UNIONS[kind][value[0]])
                    kind, value = value
                own[slot] = bytes(4)  # until the position is known
                references.append((key, kind, value))
            position, places = self._place(own)
            self.holes += [Hole(position + places[slot], is_offset=True) for slot in later]
            for key, kind, value in references:
                if name == "Buffer" and value is not LATER:
                    self._align(ALIGNMENT, _LENGTH.size)
                self._refer(position + places[fields[key][0]], kind, value)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, struct.error) as error:
            raise Bug(f"{name}.{key} is of type {TABLES[name][key].type}, not: {values[key]!r}") from error
        return position

    def _place(self, own: Mapping[int, bytes]) -> tuple[int, Mapping[int, int]]:
        """Append the table itself; return where it is and, by slot, where in it each field is."""
        places, size, alignment, vtable = _layout(tuple((slot, len(part)) for slot, part in own.items()))
        if vtable not in self._vtables:
            self._vtables[vtable] = self._align(4)
            self.out += vtable
        position = self._align(alignment)
        content = bytearray(size)
        _OFFSET.pack_into(content, 0, position - self._vtables[vtable])
        for slot, part in own.items():
            content[places[slot] : places[slot] + len(part)] = part
        self.out += content
        return position, places

    def _refer(self, hole: int, kind: str, value: Any) -> None:
        """Append a part, and make the reference at ``hole`` point to it."""
        if value is LATER:
            self.holes.append(Hole(hole, is_offset=False))
            return
        if kind in TABLES:
            position = self.table(kind, value)
        else:
            position = self._string(value) if kind == "string" else self._vector(kind[1:-1], value)
        _LENGTH.pack_into(self.out, hole, position - hole)

    def _string(self, value: str) -> int:
        position = self._vector("ubyte", value.encode())
        self.out += b"\0"
        return position

    def _vector(self, kind: str, values: Any) -> int:
        number = _NUMBERS.get(STORAGE.get(kind, kind))
        position = self._align(8, 4)  # the elements behind the length may be of 8 bytes
        self.out += _LENGTH.pack(len(values))
        if number is None:
            self.out += bytes(4 * len(values))
            for i, value in enumerate(values, start=1):
                self._refer(position + 4 * i, kind, value)
        elif isinstance(values, np.ndarray) and values.dtype == number.format:  # per-channel scales: thousands of numbers
            self.out += values.tobytes()
        else:
            self.out += struct.pack(f"<{len(values)}{number.format[1:]}", *values)
        return position

    def _align(self, to: int, ahead: int = 0) -> int:
        """Pad, so that what comes ``ahead`` bytes further on is at a multiple of ``to``; return the position reached."""
        if short := -(len(self.out) + ahead) % to:
            self.out += bytes(short)
        return len(self.out)


@cache
def _fields(name: str) -> Mapping[str, tuple[int, str, struct.Struct | None, Mapping[Any, int] | None, bytes | None]]:
    """Of each field of a table: slot, type, form of a number, members of an enum, and the default as it would be packed."""
    found = {}
    for key, (slot, kind, default) in TABLES[name].items():
        number = _NUMBERS.get(STORAGE.get(kind, kind))
        found[key] = slot, kind, number, ENUMS.get(kind), number.pack(default) if number else None
    return found


@cache
def _layout(own: tuple[tuple[int, int], ...]) -> tuple[Mapping[int, int], int, int, bytes]:
    """Of a table with fields of these slots and sizes: where each is, the table's size and alignment, and the list of all that."""
    places, end = {}, 4
    for slot, size in sorted(own, key=lambda field: (-field[1], field[0])):
        end += -end % size
        places[slot] = end
        end += size
    slots = range(max(places, default=-1) + 1)
    vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), end, *(places.get(slot, 0) for slot in slots))
    return places, end, max(4, *(size for _, size in own)) if own else 4, vtable
