"""A golden file: the model file that was accepted once, and beside it the same as text for whoever reads the change.

``GoldenFile`` knows no pytest: what it finds wrong it raises as ``GoldenFailure``.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from ..errors import FormatError
from .canonical import canonical_text, settled

LINES = 60
"""As much of a difference is shown."""


class GoldenFailure(AssertionError):
    """What was made is not what was accepted."""


@dataclass(frozen=True)
class GoldenFile:
    """``path`` is the model file; its text is beside it, with ``.txt`` behind the name."""

    path: Path

    @property
    def text_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.txt")

    def compare(self, made: bytes, keep: Path) -> None:
        """Refuse ``made`` unless it is what the golden file holds; a file that is refused is kept in the folder ``keep``.

        Raises:
            GoldenFailure: there is no golden file, it holds something else, or its text is not the file's.
        """
        if not self.path.exists():
            raise GoldenFailure(f"no golden file {self.path}")
        golden = self.path.read_bytes()
        if not _is_readable(golden):
            raise GoldenFailure(f"the golden file {self.path} is damaged, or none of a model")
        if not same(golden, made):
            new = keep / self.path.name
            new.write_bytes(made)
            new.with_name(self.text_path.name).write_text(_text(made), encoding="utf-8", newline="\n")
            raise GoldenFailure(f"{self.path} is not what is made now ({new}):\n\n{difference(self.path, new)}")
        if not self.text_path.exists() or self.text_path.read_text(encoding="utf-8") != _text(golden):
            raise GoldenFailure(f"{self.text_path} is not the text of {self.path.name}, which itself is what is made now")

    def update(self, made: bytes) -> list[Path]:
        """Accept ``made``; the files that this changes. What means the same is left as it is.

        Raises:
            WriteError: a folder that cannot be made or written.
        """
        from ..errors import WriteError
        from ..format import whole_file

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot make {self.path.parent}: {error.strerror or error}") from error
        golden = self.path.read_bytes() if self.path.exists() else b""
        wanted = {self.path: golden if _is_readable(golden) and same(golden, made) else made}
        wanted[self.text_path] = _text(wanted[self.path]).encode()
        changed = [path for path, data in wanted.items() if not path.exists() or path.read_bytes() != data]
        for path in changed:
            with whole_file(path) as sink:  # of two workers that write it one wins, and no reader sees half of it
                sink.write(wanted[path])
        return changed


def same(one: bytes, other: bytes) -> bool:
    """Whether two files mean the same: equal bytes, or equal bytes but for the ``VOLATILE`` metadata and the places of things in the file.

    Raises:
        FormatError: one of them is no model file.
    """
    return one == other or _settled(one) == _settled(other)


def _settled(data: bytes) -> tuple[str, int, bytes]:
    """The file as it is written today, without what changes by itself.

    Raises:
        FormatError: it is no model file, or has what cannot be written.
    """
    from ..format import read, to_bytes
    from ..implant.graft import well_formed

    contents = read(data)
    with well_formed("the golden file"):
        again = to_bytes(contents.graphs, identifier=contents.identifier, metadata=settled(contents.metadata))
    return contents.description, contents.version, again


def _is_readable(data: bytes) -> bool:
    try:
        _settled(data)
    except FormatError:
        return False
    return True


def _text(data: bytes) -> str:
    from ..format import read

    return canonical_text(read(data))


def difference(golden: Path, made: Path) -> str:
    """What two model files differ in, for people: as ``torch2circle.diff`` says it, or by their texts where it sees nothing."""
    from ..difference import diff

    found = diff(golden, made)
    if found:
        lines = str(found).splitlines()
    else:
        before, after = (_text(path.read_bytes()).splitlines() for path in (golden, made))
        lines = list(difflib.unified_diff(before, after, f"golden {golden.name}", "made now", n=0, lineterm=""))
    more = [f"... and {len(lines) - LINES} more lines"] if len(lines) > LINES else []
    return "\n".join([*lines[:LINES], *more])
