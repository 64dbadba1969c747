"""Arguments of a custom operator as a FlexBuffer map, which is how its kernel reads them.

Every number, length and offset takes 64 bits, so that one rule tells where everything is; a few arguments need no more.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

NULL, INT, FLOAT, KEY, STRING, MAP, VECTOR, BOOL = 0, 1, 3, 4, 5, 9, 10, 26
TYPED: Final = {INT: 11, FLOAT: 13, BOOL: 36}
"""Type of the elements -> type of the vector that says it once for all."""

WIDTH: Final = 8
_WIDE: Final = 3  # the width in a packed type, as the power of two


def encode(arguments: Mapping[str, Any]) -> bytes:
    """A map of names to integers, floats, booleans, strings, None, and lists of these.

    Raises:
        TypeError: a value is none of these, or an integer has more than 64 bits.
    """
    writer = _Writer()
    root = writer.map({name: arguments[name] for name in sorted(arguments)})
    return writer.finish(root)


class _Writer:
    """Appends what is referred to, before what refers to it: offsets in a FlexBuffer point backwards."""

    def __init__(self) -> None:
        self.out = bytearray()

    def finish(self, root: int) -> bytes:
        self._align()
        position = len(self.out)
        self.out += struct.pack("<QBB", position - root, MAP << 2 | _WIDE, WIDTH)
        return bytes(self.out)

    def map(self, entries: Mapping[str, Any]) -> int:
        names = [(KEY, self.text(name, sized=False)) for name in entries]
        values = [self.value(value) for value in entries.values()]
        keys = self.vector(names, types=False)
        self.out += struct.pack("<QQ", len(self.out) - keys, WIDTH)
        return self.vector(values, types=True)

    def value(self, value: Any) -> tuple[int, Any]:
        """The type, and what stands in the vector: the number itself, or where the rest is."""
        if value is None:
            return NULL, 0
        if isinstance(value, bool):
            return BOOL, int(value)
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            return INT, value
        if isinstance(value, float):
            return FLOAT, value
        if isinstance(value, str):
            return STRING, self.text(value, sized=True)
        if not isinstance(value, Sequence):
            raise TypeError(f"{type(value).__name__} {value!r:.60}")
        elements = [self.value(element) for element in value]
        kinds = {kind for kind, _ in elements}
        typed = TYPED.get(kinds.pop()) if len(kinds) == 1 else None
        return typed or VECTOR, self.vector(elements, types=typed is None)

    def text(self, text: str, sized: bool) -> int:
        data = text.encode()
        if sized:
            self._align()
            self.out += struct.pack("<Q", len(data))
        position = len(self.out)
        self.out += data + b"\0"
        return position

    def vector(self, elements: Sequence[tuple[int, Any]], types: bool) -> int:
        """Length, elements and, unless all are alike, their types; returns where the elements are."""
        self._align()
        self.out += struct.pack("<Q", len(elements))
        start = len(self.out)
        for kind, value in elements:
            inline = kind in (NULL, INT, FLOAT, BOOL)
            self.out += struct.pack("<d" if kind == FLOAT else "<q", value if inline else len(self.out) - value)
        if types:
            self.out += bytes(kind << 2 | _WIDE for kind, _ in elements)
        return start

    def _align(self) -> None:
        self.out += bytes(-len(self.out) % WIDTH)
