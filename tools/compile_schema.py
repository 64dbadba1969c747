"""Turn schema/circle.fbs into src/torch2circle/format/facts.py.

    python tools/compile_schema.py           write the module
    python tools/compile_schema.py --check   exit 1 if it is stale

The parser knows the part of the fbs language that the schema uses: enums and unions whose members have explicit numbers,
tables, attributes. Anything else is an error, so the schema cannot say what the module would silently leave out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "schema" / "circle.fbs"
FACTS = ROOT / "src" / "torch2circle" / "format" / "facts.py"

SCALARS = {"bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "float", "double"}
DECLARATIONS = {"namespace", "attribute", "root_type", "file_identifier", "file_extension"}
TOKEN = re.compile(r"\s+|//[^\n]*|(?P<token>\"[^\"]*\"|-?\d+(?:\.\d+)?|\w+|[{}()\[\]:;,=])")

Default = int | float | bool | None


@dataclass
class Schema:
    """What the file declares; ``circle_only`` has the names ``Table``, ``Table.field``, ``Enum`` and ``Enum.MEMBER``."""

    tables: dict[str, dict[str, tuple[int, str, Default]]] = field(default_factory=dict)
    enums: dict[str, dict[str, int]] = field(default_factory=dict)
    unions: dict[str, dict[str, int]] = field(default_factory=dict)
    storage: dict[str, str] = field(default_factory=dict)
    circle_only: set[str] = field(default_factory=set)


class Parser:
    """Recursive descent over the tokens, one method per construct."""

    def __init__(self, text: str) -> None:
        self.tokens = list(tokenize(text))
        self.at = 0
        self.schema = Schema()

    def parse(self) -> Schema:
        while self.at < len(self.tokens):
            keyword = self.take()
            if keyword in DECLARATIONS:
                self.take()
                self.take(";")
            elif keyword == "enum":
                self.enum()
            elif keyword == "union":
                name = self.take()
                self.schema.unions[name] = {"NONE": 0} | self.members(name)
            elif keyword == "table":
                self.table()
            else:
                raise SystemExit(f"{SCHEMA.name}: unexpected {keyword!r}")
        return self.schema

    def take(self, expected: str | None = None) -> str:
        token = self.tokens[self.at] if self.at < len(self.tokens) else "end of file"
        if expected is not None and token != expected:
            raise SystemExit(f"{SCHEMA.name}: expected {expected!r}, found {token!r} after {' '.join(self.tokens[self.at - 6 : self.at])}")
        self.at += 1
        return token

    def accept(self, token: str) -> bool:
        found = self.at < len(self.tokens) and self.tokens[self.at] == token
        self.at += found
        return found

    def attributes(self, owner: str) -> set[str]:
        """``(a, b: 16)`` if it is there; notes what is circle_only."""
        names: set[str] = set()
        if self.accept("("):
            while not self.accept(")"):
                names.add(self.take())
                if self.accept(":"):
                    self.take()
                self.accept(",")
        if "circle_only" in names:
            self.schema.circle_only.add(owner)
        return names

    def enum(self) -> None:
        name = self.take()
        self.take(":")
        self.schema.storage[name] = self.take()
        self.attributes(name)
        self.schema.enums[name] = self.members(name)

    def members(self, owner: str) -> dict[str, int]:
        numbers: dict[str, int] = {}
        self.take("{")
        while not self.accept("}"):
            member = self.take()
            self.take("=")
            numbers[member] = int(self.take())
            self.attributes(f"{owner}.{member}")
            self.accept(",")
        return numbers

    def table(self) -> None:
        name, slot = self.take(), 0
        fields = self.schema.tables[name] = {}
        self.attributes(name)
        self.take("{")
        while not self.accept("}"):
            key = self.take()
            self.take(":")
            kind = self.type()
            slot += kind in self.schema.unions  # the union's own type comes first
            default = self.default(kind)
            if "deprecated" not in self.attributes(f"{name}.{key}"):
                fields[key] = (slot, kind, default)
            self.take(";")
            slot += 1

    def type(self) -> str:
        if not self.accept("["):
            return self.take()
        kind = self.take()
        self.take("]")
        return f"[{kind}]"

    def default(self, kind: str) -> Default:
        text = self.take() if self.accept("=") else None
        if kind in self.schema.enums:
            return 0 if text is None else self.schema.enums[kind][text]
        if kind == "bool":
            return text == "true"
        if kind in ("float", "double"):
            return float(text or 0)
        return int(text or 0) if kind in SCALARS else None


def tokenize(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise SystemExit(f"{SCHEMA.name}:{text.count(chr(10), 0, at) + 1}: not understood: {text[at : at + 20]!r}")
        if match["token"]:
            yield match["token"]
        at = match.end()


HEADER = '''"""The tables, enums and unions of the file formats.

Generated by tools/compile_schema.py from schema/circle.fbs: do not edit.
"""

from typing import NamedTuple


class Field(NamedTuple):
    """A table's field. ``type`` is written as in the schema; a union's own type is in the slot before ``slot``."""

    slot: int
    type: str
    default: int | float | bool | None = None

'''


def render(schema: Schema) -> str:
    """The module's text, laid out as ``ruff format`` would."""
    tables = {
        name: {
            key: f'Field({slot}, "{kind}"{"" if default is None else f", {default!r}"})' for key, (slot, kind, default) in fields.items()
        }
        for name, fields in schema.tables.items()
    }
    enums = {name: {key: str(number) for key, number in members.items()} for name, members in schema.enums.items()}
    unions = {name: {key: str(number) for key, number in members.items()} for name, members in schema.unions.items()}
    parts = [
        "TABLES: dict[str, dict[str, Field]] = " + render_nested(tables),
        "ENUMS: dict[str, dict[str, int]] = " + render_nested(enums),
        "# The integer type that an enum is stored as.\nSTORAGE: dict[str, str] = "
        + render_flat({k: f'"{v}"' for k, v in schema.storage.items()}),
        "UNIONS: dict[str, dict[str, int]] = " + render_nested(unions),
        "# What TFLite does not have.\nCIRCLE_ONLY: frozenset[str] = frozenset(\n    {\n"
        + "".join(f'        "{name}",\n' for name in sorted(schema.circle_only))
        + "    }\n)",
    ]
    return HEADER + "\n" + "\n\n".join(parts) + "\n"


def render_flat(items: dict[str, str], indent: str = "") -> str:
    if not items:
        return "{}"
    return "{\n" + "".join(f'{indent}    "{key}": {value},\n' for key, value in items.items()) + indent + "}"


def render_nested(items: dict[str, dict[str, str]]) -> str:
    return render_flat({key: render_flat(inner, "    ") for key, inner in items.items()})


def main() -> int:
    arguments = argparse.ArgumentParser(description="turn schema/circle.fbs into the module format/facts.py")
    arguments.add_argument("--check", action="store_true", help="exit 1 if the module is stale, write nothing")
    check = arguments.parse_args().check
    text = render(Parser(SCHEMA.read_text(encoding="utf-8")).parse())
    if check:
        stale = not FACTS.exists() or FACTS.read_text(encoding="utf-8") != text
        if stale:
            print(f"{FACTS.relative_to(ROOT)} is stale: run python tools/compile_schema.py", file=sys.stderr)
        return int(stale)
    FACTS.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
