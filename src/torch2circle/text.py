"""Text out of files, fit for people: a name may hold anything, and a terminal, a log or a reader must not be led by it."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 300
"""Characters of a name that are shown."""


def one_line(text: str) -> str:
    r"""``text`` without what is not a visible character or a space: line breaks, escape sequences of terminals, marks that turn the
    direction of writing, halves of characters. Each stands there as Python escapes it (``\n``, ``\x1b``, ``\u202e``).
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(name: str) -> str:
    """A name on one line, and not more of it than people read."""
    return one_line(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def lines(text: str) -> str:
    """Each line by itself as ``one_line``."""
    return "\n".join(map(one_line, text.split("\n")))
