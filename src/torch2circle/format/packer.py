"""Nested tables as a flatbuffer, by the facts of the schema.

It is laid out from front to back, a table and then what it refers to, because references point forwards. Only the list of
where a table's fields are stands before it, once for all tables that have the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
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
        fields, items, key = TABLES[name], values.items(), ""
        own: dict[int, bytes] = {}  # what stands in the table itself, by slot
        references: list[tuple[str, str, Any]] = []
        later: list[int] = []
        try:
            for key, value in items:
                slot, kind, default = fields[key]
                if number := _NUMBERS.get(STORAGE.get(kind, kind)):
                    if value is LATER:
                        own[slot] = bytes(number.size)
                        later.append(slot)
                        continue
                    packed = number.pack(ENUMS[kind][value] if kind in ENUMS else value)
                    if packed != number.pack(default) or name == "OperatorCode":  # onert crashes without deprecated_builtin_code
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
                self._refer(position + places[fields[key].slot], kind, value)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, struct.error) as error:
            raise Bug(f"{name}.{key} is of type {fields[key].type}, not: {values[key]!r}") from error
        return position

    def _place(self, own: Mapping[int, bytes]) -> tuple[int, dict[int, int]]:
        """Append the table itself; return where it is and, by slot, where in it each field is."""
        places, content = {}, bytearray(4)
        for slot in sorted(own, key=lambda slot: (-len(own[slot]), slot)):
            content += bytes(-len(content) % len(own[slot]))
            places[slot] = len(content)
            content += own[slot]
        slots = range(max(own, default=-1) + 1)
        vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), len(content), *(places.get(slot, 0) for slot in slots))
        if vtable not in self._vtables:
            self._vtables[vtable] = self._align(4)
            self.out += vtable
        position = self._align(max(4, *map(len, own.values())) if own else 4)
        struct.pack_into("<i", content, 0, position - self._vtables[vtable])
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
        self.out += bytes(-(len(self.out) + ahead) % to)
        return len(self.out)
