"""Which files a process reads through Python: those that a job was made from, whatever code of the user's opened them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import stat
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .records import digest

_Stamp = tuple[int, int, int]
_PACKAGE = Path(__file__).parents[1]


class Reads:
    """Listens from the moment it is made until the process ends: an audit hook cannot be taken away.

    Left out are Python itself, installed packages, torch2circle, which versions stand for, and what is below ``but``.
    """

    def __init__(self, but: Iterable[str | os.PathLike[str]] = ()) -> None:
        installed = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
        python = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
        roots = (*python, *installed, _PACKAGE, "/proc", "/sys", "/dev", "/etc", *but)
        self._but = tuple(os.path.join(os.path.realpath(root), "") for root in roots)
        self._seen: dict[str, _Stamp] = {}
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(args[0], (str, bytes)):
            return
        path, mode, flags = os.fsdecode(args[0]), args[1], args[2]
        if (set(mode) & set("wax+")) if isinstance(mode, str) else (flags & (os.O_WRONLY | os.O_RDWR)):
            return
        with contextlib.suppress(OSError, ValueError, NotImplementedError):
            if path.endswith(".pyc"):
                path = importlib.util.source_from_cache(path)
            real = os.path.realpath(path)
            if not real.startswith(self._but):
                self.add(real)

    def add(self, path: str | os.PathLike[str]) -> None:
        """Note a file that is about to be read, perhaps not through Python."""
        real = os.path.realpath(path)
        stamp = _stamp(real)
        if stamp is not None:
            self._seen.setdefault(real, stamp)

    def digests(self, folder: Path, named: Iterable[str]) -> dict[str, str | None]:
        """Each file's SHA-256, None if it has changed since it was read first.

        Files are called as in ``named``, others relative to ``folder`` if they are below it.
        """
        root = os.path.join(os.path.realpath(folder), "")
        made = {path: self._digest(path, stamp) for path, stamp in dict(self._seen).items()}
        known = {name: made.get(os.path.realpath(folder / name)) for name in named}
        others = made.keys() - {os.path.realpath(folder / name) for name in known}
        return known | {path.removeprefix(root): made[path] for path in sorted(others)}

    @staticmethod
    def _digest(path: str, before: _Stamp) -> str | None:
        try:
            found = digest(Path(path))
        except OSError:
            return None
        return found if _stamp(path) == before else None


def _stamp(path: str) -> _Stamp | None:
    """None for what is not there or no plain file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
