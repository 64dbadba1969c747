"""Files and folders that appear under their name when they are whole, and not before."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import WriteError

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of what is in an archive: the earliest that ZIP knows, so that the bytes depend on the content alone."""

_unfinished: set[Path] = set()
"""What is being written. An interruption can fall between the lines that would remove it."""
_KEPT = 40
"""Characters of a file's name that stand in that of its part."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unfinished.clear)  # they are the parent's


@atexit.register
def _remove_unfinished() -> None:
    for part in list(_unfinished):
        _remove(part)


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
    shutil.rmtree(part, ignore_errors=True)
    _unfinished.discard(part)


def _part(target: Path) -> Path:
    """A hidden name beside ``target``, on the same file system, and not too long where that one is not."""
    part = target.with_name(f".{target.name[:_KEPT]}.{secrets.token_hex(4)}.part")
    _unfinished.add(part)
    return part


def unfinished(path: str | os.PathLike[str]) -> list[Path]:
    """What a process that was killed while it wrote ``path`` has left beside it. Of a name that was cut it is left: others begin alike."""
    target = Path(os.path.realpath(path))
    if len(target.name) > _KEPT:
        return []
    return [each for each in target.parent.glob(".*.part") if re.fullmatch(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part", each.name)]


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A sink that becomes the file at ``path`` at the end. ``path`` has the old file or the whole new one, whatever happens.

    A symbolic link is followed, and the new file gets the permissions and the owner of the one it replaces. What is in it is on the disk
    before its name is, so that a machine that fails leaves the one or the other file; which of them is not waited for.

    Raises:
        WriteError: a missing folder, a full disk, a folder of that name, a file that may not be written, a pipe or device.
    """
    part: Path | None = None
    try:
        target, old = destination(path)
        part = _part(target)
        with open(part, "x+b") as sink:
            if old is not None:
                _like(old, sink.fileno())
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(part, target)
        _unfinished.discard(part)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}", hint=_advice(error)) from error
    finally:
        if part in _unfinished:
            _remove(part)


def destination(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result | None]:
    """The file that writing to ``path`` makes or replaces, and what is there now.

    Raises:
        OSError: it is a folder, or a file that may not be written.
        WriteError: a pipe, a socket or a device: it could not be replaced, and half of a file cannot be taken back.
    """
    target = Path(os.path.realpath(path))
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(old.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(old.st_mode):
        raise WriteError(f"cannot write {path}: a pipe or device, not a file", hint="name a file, and send it on from there")
    if not os.access(target, os.W_OK):
        raise OSError(errno.EACCES, "the file is write-protected")
    return target, old


def _like(old: os.stat_result, descriptor: int) -> None:
    """Give a new file the owner and the permissions of the one that it replaces, as far as this user may."""
    if hasattr(os, "fchown") and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o777)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
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
        if target.exists():
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                _on_disk(path)
        if os.name == "nt" and target.exists():
            target.rmdir()  # Windows renames onto nothing that exists
        part.rename(target)
        _unfinished.discard(part)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        if part in _unfinished:
            _remove(part)


def _on_disk(path: Path) -> None:
    """Wait until what is in the file is on the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


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
