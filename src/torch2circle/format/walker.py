"""Walk a flatbuffer with the schema's facts, checking every position before it is used."""

from __future__ import annotations

import struct
from typing import Any, Final, NoReturn

import numpy as np

from ..errors import FormatError
from ..text import one_line
from .facts import ENUMS, STORAGE, TABLES, UNIONS

_STRUCTS: Final = {
    "bool": struct.Struct("<?"), "byte": struct.Struct("<b"), "ubyte": struct.Struct("<B"), "ushort": struct.Struct("<H"),
    "int": struct.Struct("<i"), "uint": struct.Struct("<I"), "long": struct.Struct("<q"), "ulong": struct.Struct("<Q"),
    "float": struct.Struct("<f"),
}  # fmt: skip
NAMES: Final = {kind: {number: name for name, number in members.items()} for kind, members in (ENUMS | UNIONS).items()}


ENTRY: Final = 64
"""What an entry of a vector of tables is charged. With what it says it takes about as many bytes in files; an empty buffer has 8."""
MOST_ENTRIES: Final = 1 << 17
"""Entries that a file may have, and one more for each 512 bytes: shown by ``inspect``, an entry takes up to two kilobytes of memory."""
MOST_DIMENSIONS: Final = 32
"""Of a tensor; as many as numpy 1 has."""


class File:
    """Bytes with checked access.

    No honest file has references that add up to many times its size; a forged one, where all of many lead to the same, could take any
    time and memory. ``charge`` counts what is referred to, ``enter`` the tables that are entries of vectors, ``hold`` the constants, which
    may be the same but not overlap.
    """

    def __init__(self, view: memoryview, label: str) -> None:
        self.view, self.label, self.size = view, label, len(view)
        self.budget = 8 * self.size
        self.entries = MOST_ENTRIES + self.size // 512
        self.held: set[tuple[int, int]] = set()
        self.free = self.size

    def fail(self, what: str) -> NoReturn:
        hint = "the file must be a complete .circle or .tflite model"
        raise FormatError(f"cannot read {one_line(self.label)}: {one_line(what)}", hint=hint)

    def number(self, kind: str, at: int) -> Any:
        layout = _STRUCTS[kind]
        if at < 0 or at + layout.size > self.size:
            self.check(at, layout.size)
        return layout.unpack_from(self.view, at)[0]

    def check(self, at: int, size: int) -> None:
        if at < 0 or at + size > self.size:
            self.fail(f"damaged or cut off, {size} bytes at {at} are outside of the file of {self.size} bytes")

    def charge(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            self.fail("damaged, too many references to the same bytes")

    def enter(self, count: int) -> None:
        self.charge(ENTRY * count)
        self.entries -= count
        if self.entries < 0:
            self.fail(f"over {MOST_ENTRIES:,} tables, which its size does not make likely")

    def hold(self, at: int, size: int) -> None:
        if (at, size) not in self.held:
            self.held.add((at, size))
            self.free -= size
            if self.free < 0:
                self.fail("damaged, constants overlap")

    def target(self, at: int) -> int:
        return at + int(self.number("uint", at))

    def bytes(self, at: int) -> memoryview:
        """The byte vector at ``at``."""
        size = int(self.number("uint", at))
        self.check(at + 4, size)
        return self.view[at + 4 : at + 4 + size]


class WireTable:
    """A table of the flatbuffer; ``get`` gives a field or its default.

    An enum comes as its member's name, a vector of numbers as an array, a union as (table name, table).
    """

    __slots__ = ("at", "file", "name", "slots", "vtable")

    def __init__(self, file: File, name: str, at: int) -> None:
        self.file, self.name, self.at = file, name, at
        self.vtable = at - int(file.number("int", at))
        self.slots = (int(file.number("ushort", self.vtable)) - 4) // 2

    def __contains__(self, key: str) -> bool:
        return self.place(TABLES[self.name][key].slot) is not None

    def place(self, slot: int) -> int | None:
        """Where the field is, None if it is absent."""
        if slot >= self.slots:
            return None
        offset = int(self.file.number("ushort", self.vtable + 4 + 2 * slot))
        return self.at + offset if offset else None

    def number(self, key: str) -> Any:
        """The field's number, also of an enum."""
        field = TABLES[self.name][key]
        at = self.place(field.slot)
        return field.default if at is None else self.file.number(STORAGE.get(field.type, field.type), at)

    def get(self, key: str) -> Any:
        slot, kind, _ = TABLES[self.name][key]
        if kind in ENUMS:
            return self.member(kind, int(self.number(key)))
        if kind in _STRUCTS:
            return self.number(key)
        if kind in UNIONS:
            return self.union(slot, kind)
        at = self.place(slot)
        if at is None:
            return None
        at = self.file.target(at)
        if kind == "string":
            return self.string(at)
        return self.vector(kind[1:-1], at) if kind.startswith("[") else WireTable(self.file, kind, at)

    def tables(self, key: str) -> list[WireTable]:
        """A vector of tables, an absent one being empty."""
        return self.get(key) or []

    def numbers(self, key: str) -> list[int]:
        """A vector of integers, an absent one being empty."""
        array = self.get(key)
        return [] if array is None else array.tolist()

    def sizes(self, key: str) -> tuple[int, ...]:
        """A vector of integers that are the sizes of a tensor's dimensions."""
        array = self.get(key)
        if array is None:
            return ()
        if len(array) > MOST_DIMENSIONS:
            self.file.fail(f"a tensor of {len(array):,} dimensions, where {MOST_DIMENSIONS} are the most")
        return tuple(array.tolist())

    def member(self, kind: str, number: int) -> str:
        if number not in NAMES[kind]:
            self.file.fail(f"the schema has no {kind} {number}")
        return NAMES[kind][number]

    def union(self, slot: int, kind: str) -> tuple[str, WireTable] | None:
        at_type, at = self.place(slot - 1), self.place(slot)
        if at_type is None or at is None:
            return None
        name = self.member(kind, int(self.file.number("ubyte", at_type)))
        return None if name == "NONE" else (name, WireTable(self.file, name, self.file.target(at)))

    def string(self, at: int) -> str:
        text = self.file.bytes(at)
        self.file.charge(len(text))
        try:
            return str(text, "utf-8")
        except UnicodeDecodeError:
            self.file.fail(f"damaged, {self.name} has a string that is not UTF-8")

    def vector(self, kind: str, at: int) -> Any:
        count, at = int(self.file.number("uint", at)), at + 4
        layout = _STRUCTS["uint" if kind in TABLES else STORAGE.get(kind, kind)]
        self.file.check(at, count * layout.size)
        if self.name != "Buffer":  # equal constants do share their bytes
            self.file.charge(count * layout.size)
        if kind in TABLES:
            self.file.enter(count)
            return [WireTable(self.file, kind, self.file.target(at + 4 * i)) for i in range(count)]
        return np.frombuffer(self.file.view, np.dtype(layout.format), count, at)
