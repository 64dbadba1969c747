"""Files and folders that appear under their name when they are whole, and not before."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import WriteError

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of what is in an archive: the earliest that ZIP knows, so that the bytes depend on the content alone."""


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def unfinished(path: str | os.PathLike[str]) -> list[Path]:
    """What a process that was killed while it wrote ``path`` has left beside it."""
    target = Path(path)
    return [each for each in target.parent.glob(".*.part") if re.fullmatch(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part", each.name)]


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A sink that becomes the file at ``path`` at the end. ``path`` has the old file or the whole new one, whatever happens.

    Raises:
        WriteError: a missing folder, a full disk, a folder of that name.
    """
    target = Path(path)
    part = _part(target)
    try:
        with open(part, "x+b") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(part, target)
    except OSError as error:
        raise WriteError(f"cannot write {target}: {error.strerror or error}", hint=_advice(error)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _advice(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "free some space or write to another disk"
    if error.errno == errno.ENOENT:
        return "create the folder first"
    return "name a file in a folder that exists and can be written to"


@contextlib.contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which becomes ``folder``, new or empty, at the end. After an error ``folder`` is as it was.

    Raises:
        WriteError: ``folder`` holds files, or cannot be made.
    """
    must_be_free(folder)
    target = Path(folder).resolve()
    part = _part(target)
    try:
        part.mkdir()
        yield part
        if target.exists():
            target.rmdir()  # Windows renames onto nothing that exists
        part.rename(target)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def must_be_free(folder: str | os.PathLike[str]) -> None:
    """Refuse a ``folder`` that holds anything: nothing is overwritten.

    Raises:
        WriteError: it does, or is no folder.
    """
    try:
        taken = os.path.lexists(folder) and any(Path(folder).iterdir())
    except OSError as error:
        raise _cannot_write(folder, error) from error
    if taken:
        raise WriteError(f"cannot write {folder}: the folder is not empty", hint="name a new folder, or empty this one")


def _cannot_write(folder: str | os.PathLike[str], error: OSError) -> WriteError:
    hint = "name a new folder in one that exists and can be written to"
    return WriteError(f"cannot write {folder}: {error.strerror or error}", hint=hint)


def archive(folder: Path, sink: BinaryIO, root: str) -> None:
    """Write the files of ``folder`` into a ZIP archive, below ``root``, stored, with one date: the same files give the same bytes."""
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as made:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(f"{root}/{path.relative_to(folder).as_posix()}", EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # of Unix, wherever it is written
            with made.open(entry, "w", force_zip64=False) as to, open(path, "rb") as file:
                shutil.copyfileobj(file, to)
