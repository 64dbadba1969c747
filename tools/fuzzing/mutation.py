"""Damage a model file where it hurts: at the numbers, references, lengths and lists of fields that the schema says it has.

A byte changed at random mostly hits a weight, which nothing looks at. ``sites`` walks a file, however damaged, by the schema's facts and
tells what stands where; ``mutate`` changes some of that.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from torch2circle.format.facts import ENUMS, STORAGE, TABLES, UNIONS

_FORMS = {
    "bool": "<B", "byte": "<b", "ubyte": "<B", "ushort": "<H", "int": "<i", "uint": "<I", "long": "<q", "ulong": "<Q", "float": "<f",
}  # fmt: skip
NUMBERS = {kind: struct.Struct(form) for kind, form in _FORMS.items()}
MOST_SITES = 4000
"""A walk ends there, so that forged sharing does not keep it forever."""

_FLOATS = (0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e-45, 1e-38, 3e38, 0.5, 1 / 256, 1 / 128)
_TEXTS = (
    b"\x1b[31mred", b"\x1b]0;title\x07", b"[red]x[/red]", b"<script>alert(1)</script>", b"a\nb\r\nerror: c", b"\xff\xfe", b"\x00",
    b"\xc2\x9b1m", b"\xe2\x80\xae", b'"];x->"', b"\xed\xa0\x80", b"\\", b"'\"&<>", b"{0}%s", b"", b"\x7f", b"x;y;z",
)  # fmt: skip


class Site(NamedTuple):
    """What stands at ``at``: a number of a field or element (``form`` is its type), or one of the structure (``what``).

    ``what`` is ``number``, ``reference``, ``length``, ``field`` (an entry of a vtable), ``vtable`` (a table's way to it) or ``text``.
    ``of`` is the field, or what is referred to: of one ``of`` one can stand for another. ``size``: bytes of a text.
    """

    what: str
    at: int
    form: str
    of: str
    size: int = 0


Sites = Mapping[str, Sequence[Site]]


@lru_cache(1024)
def sites(data: bytes) -> Sites:
    """All that can be found by ``what``, first what is nearest to the root, and by ``what`` and ``of``, as in ``reference Tensor``."""
    found: dict[str, list[Site]] = {}
    for site in _walk(data):
        found.setdefault(site.what, []).append(site)
        found.setdefault(f"{site.what} {site.of}", []).append(site)
    return found


def _walk(data: bytes) -> Iterator[Site]:
    def number(form: str, at: int) -> int | None:
        return int(NUMBERS[form].unpack_from(data, at)[0]) if 0 <= at <= len(data) - NUMBERS[form].size else None

    waiting, seen, count = [("reference", "Model", 0)], set(), 0
    while waiting and count < MOST_SITES:
        _, kind, at = waiting.pop(0)
        offset = number("uint", at)
        if offset is None:
            continue
        yield Site("reference", at, "uint", kind)
        count += 1
        at += offset
        if (kind, at) in seen:
            continue
        seen.add((kind, at))
        if kind in TABLES:
            for site, reference in _table(number, kind, at):
                if site is not None:
                    count += 1
                    yield site
                if reference is not None:
                    waiting.append(("reference", *reference))
            continue
        length = number("uint", at)
        if length is None:
            continue
        yield Site("length", at, "uint", kind)
        count += 1
        if kind == "string":
            yield Site("text", at + 4, "ubyte", kind, min(length, max(0, len(data) - at - 4), 64))
            continue
        element = kind[1:-1]
        form = "uint" if element in TABLES else STORAGE.get(element, element)
        for i in range(min(length, 24 if form == "ubyte" else 64)):
            place = at + 4 + i * NUMBERS[form].size
            if element in TABLES:
                waiting.append(("reference", element, place))
            elif number(form if form != "float" else "uint", place) is not None:
                count += 1
                yield Site("number", place, form, kind)


def _table(number: Callable[[str, int], int | None], name: str, at: int) -> Iterator[tuple[Site | None, tuple[str, int] | None]]:
    back = number("int", at)
    if back is None:
        return
    yield Site("vtable", at, "int", name), None
    vtable = at - back
    size = number("ushort", vtable)
    if size is None:
        return
    yield Site("field", vtable, "ushort", "size"), None
    for key, (slot, kind, _) in TABLES[name].items():
        offset = number("ushort", vtable + 4 + 2 * slot) if slot < (size - 4) // 2 else None
        if offset is None:
            continue
        yield Site("field", vtable + 4 + 2 * slot, "ushort", name), None
        if not offset:
            continue
        place, form = at + offset, STORAGE.get(kind, kind)
        if form in NUMBERS:
            if number("ubyte", place) is not None and number("ubyte", place + NUMBERS[form].size - 1) is not None:
                yield Site("number", place, form, kind if kind in ENUMS else f"{name}.{key}"), None
        elif kind in UNIONS:
            chosen = number("ushort", vtable + 4 + 2 * (slot - 1))
            which = number("ubyte", at + chosen) if chosen else None
            if which is not None and chosen is not None:
                yield Site("number", at + chosen, "ubyte", kind), None
                members = {n: member for member, n in UNIONS[kind].items()}
                if members.get(which) in TABLES:
                    yield None, (members[which], place)
        else:
            yield None, (kind, place)


def mutate(data: bytes, rng: random.Random, most: int = 1 << 16, others: Sequence[bytes] = ()) -> bytes:
    """``data`` with one to a few things changed, at most ``most`` bytes; ``others``: files of which parts may be taken."""
    made, found = bytearray(data), sites(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        if rng.random() < 0.85 and len(made) > 8:
            _structured(made, rng, found)
        else:
            _bytes(made, rng, others)
    return bytes(made[:most])


def _structured(made: bytearray, rng: random.Random, found: Sites) -> None:
    kind = rng.choice(("number", "number", "number", "reference", "length", "field", "vtable", "text", "grow"))
    chosen = found.get(kind if kind != "grow" else "reference", ())
    site = rng.choice(chosen) if chosen else None
    if site is None or site.at + 8 > len(made):
        _bytes(made, rng, ())
        return
    alike = found[f"{site.what} {site.of}"]
    if kind == "grow" and site.what == "reference":
        _grow(made, rng, site)
    elif site.what == "text":
        _text(made, rng, site)
    elif site.form == "float":
        struct.pack_into("<f", made, site.at, rng.choice(_FLOATS))
    elif site.what == "reference":
        other = rng.choice(alike)
        target = other.at + int.from_bytes(made[other.at : other.at + 4], "little")
        to = target - site.at
        _put(made, site, rng.choice((to, to, to, rng.randrange(len(made)), 0, _number(made, rng, site))))
    elif site.what == "vtable":
        other = rng.choice(alike)
        target = other.at - int.from_bytes(made[other.at : other.at + 4], "little", signed=True)
        _put(made, site, rng.choice((site.at - target, _number(made, rng, site))))
    elif site.what == "field":
        _put(made, site, rng.choice((0, rng.randrange(64), 4, int.from_bytes(made[(entry := rng.choice(alike).at) : entry + 2], "little"))))
    else:
        _put(made, site, _number(made, rng, site))


def _put(made: bytearray, site: Site, number: int) -> None:
    form = NUMBERS[site.form]
    if site.at + form.size <= len(made):
        made[site.at : site.at + form.size] = (number & (1 << 8 * form.size) - 1).to_bytes(form.size, "little")


def _number(made: bytearray, rng: random.Random, site: Site) -> int:
    """One that a reader may not expect."""
    size = NUMBERS[site.form].size
    now = int.from_bytes(made[site.at : site.at + size], "little")
    top = 1 << 8 * size
    enum = ENUMS.get(site.of) or UNIONS.get(site.of)
    if enum and rng.random() < 0.7:
        return rng.choice(list(enum.values()))
    near = (now + 1, now - 1, now * 2, len(made))
    return rng.choice((0, 1, 2, 3, 4, -2, 127, 128, 255, top - 1, top // 2, top // 2 - 1, *near, rng.randrange(top), rng.randrange(16)))


def _text(made: bytearray, rng: random.Random, site: Site) -> None:
    text = rng.choice(_TEXTS)[: site.size]
    at = site.at + rng.randrange(site.size - len(text) + 1)
    made[at : at + len(text)] = text


def _grow(made: bytearray, rng: random.Random, site: Site) -> None:
    """Let the reference lead to something new at the end: a long text, many numbers, or a table of no fields."""
    made += bytes(-len(made) % 8 + 4)
    at = len(made)
    if site.of in TABLES:
        made += struct.pack("<HHi", 4, 4, 4)
        at += 4
    elif site.of == "string":
        text = rng.choice(_TEXTS) * rng.choice((1, 1, 3, 20))
        made += struct.pack("<I", len(text)) + text + b"\0"
    elif site.of[1:-1] in TABLES:
        count = rng.choice((0, 1, 2, 5, 17))
        made += struct.pack("<I", count) + b"".join(struct.pack("<I", 4 * (count - i) + 4) for i in range(count))
        made += struct.pack("<HHi", 4, 4, 4)
    else:
        element = site.of[1:-1]
        form = NUMBERS[STORAGE.get(element, element)]
        count = rng.choice((0, 1, 2, 3, 4, 5, 8, 33, 65))
        made += struct.pack("<I", count)
        for _ in range(count):
            if form.format == "<f":
                made += form.pack(rng.choice(_FLOATS))
            else:
                made += (rng.choice((0, 1, 1, 1, 2, 3, -1, rng.randrange(128))) & (1 << 8 * form.size) - 1).to_bytes(form.size, "little")
    if site.at + 4 <= at:
        struct.pack_into("<I", made, site.at, at - site.at)


def _bytes(made: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    """As a fuzzer does that knows nothing."""
    if not made:
        made += rng.randbytes(rng.randrange(1, 64))
        return
    at = rng.randrange(len(made))
    how = rng.randrange(6)
    if how == 0:
        made[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        made[at : at + 4] = rng.randbytes(4)
    elif how == 2:
        del made[at:]
    elif how == 3:
        made[at:at] = rng.randbytes(rng.randrange(1, 16))
    elif how == 4:
        made[at : at + 8] = made[(start := rng.randrange(len(made))) : start + 8]
    elif others:
        other = rng.choice(others)
        cut = rng.randrange(len(other) + 1)
        made[at:] = other[cut:]
