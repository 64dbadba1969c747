"""ZIP archives that every reader reads alike.

What is checked here is read again by PyTorch's own reader, which is another program: where a file has two tables of contents, or two
members of one name, the two could see different things. torch.save's archives leave no such choice, so anything else is refused.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections import Counter
from typing import BinaryIO

UNPACKED = 256 << 20
"""Compressed members may give this many bytes in all, or ``RATIO`` times the archive. Tensors are stored as they are, and code is small."""
RATIO = 20

_END = struct.Struct("<4s4H2LH")  # end of central directory
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LOCAL = struct.Struct("<4s5H3L2H")


def irregular(file: BinaryIO, archive: zipfile.ZipFile) -> str | None:
    """Why two readers could read an archive differently, or what is not meant to be in one; None if nothing is.

    Args:
        file: the archive's bytes, seekable.
        archive: the same, opened.
    """
    members = archive.infolist()
    table = _table(file, len(members))
    if table is None:
        return "it has a comment, something in front of it or behind it, or a table of contents in another place than it says"
    names = [member.filename for member in members]
    counts = Counter(name.casefold() for name in names)
    if twice := [name for name, count in counts.items() if count > 1]:  # PyTorch's reader takes upper and lower case for the same
        return f"members of the same name: {', '.join(twice[:5])}"
    for member in members:
        if problem := _of_name(member) or _of_kind(member):
            return f"{problem}: {member.filename[:80]!r}"
    return _of_places(file, members, table) or bomb(file, archive)


def bomb(file: BinaryIO, archive: zipfile.ZipFile) -> str | None:
    """That an archive would unpack to far more than it is; None if it would not."""
    size = file.seek(0, 2)
    unpacked = sum(member.file_size for member in archive.infolist() if member.compress_type != zipfile.ZIP_STORED)
    if unpacked > max(UNPACKED, RATIO * size):
        return f"its compressed members would unpack to {unpacked:,} bytes, from a file of {size:,}"
    return None


def _table(file: BinaryIO, count: int) -> int | None:
    """Where the central directory begins, if it and what follows are all that is behind the members."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - _LOCATOR.size - _END64.size))
    tail = file.read()
    if len(tail) < _END.size:
        return None
    mark, disk, first_disk, here, total, length, offset, comment = _END.unpack(tail[-_END.size :])
    if mark != b"PK\5\6" or comment or disk or first_disk:
        return None
    end = size - _END.size
    if len(tail) == _END.size + _LOCATOR.size + _END64.size and tail[_END64.size : _END64.size + 4] == b"PK\6\7":
        *_, at, _disks = _LOCATOR.unpack(tail[_END64.size : -_END.size])
        mark, record, _, _, disk, first_disk, here64, total64, length64, offset64 = _END64.unpack(tail[: _END64.size])
        end -= _LOCATOR.size + _END64.size
        if mark != b"PK\6\6" or record != _END64.size - 12 or at != end or disk or first_disk:
            return None
        said, limits = (here, total, length, offset), (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        meant = here64, total64, length64, offset64
        if any(one not in (other, limit) for one, other, limit in zip(said, meant, limits, strict=True)):
            return None
        here, total, length, offset = meant
    return offset if offset + length == end and here == total == count else None


def _of_name(member: zipfile.ZipInfo) -> str | None:
    name = member.filename
    if member.orig_filename != name or any(ord(letter) < 32 for letter in name) or "\\" in name or ":" in name:
        return "a name with letters that do not belong there"
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a name that leads elsewhere"
    if not all(part.isascii() for part in parts[1:]):
        return "a name that is not ASCII"
    return None


def _of_kind(member: zipfile.ZipInfo) -> str | None:
    mode = member.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a member that is no file"
    if member.flag_bits & 0x2041:
        return "an encrypted member"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "a compression that PyTorch does not know"
    if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
        return "a member of two sizes"
    return None


def _of_places(file: BinaryIO, members: list[zipfile.ZipInfo], table: int) -> str | None:
    """Members that share bytes, or are called otherwise where they are."""
    behind = 0
    ordered = sorted(members, key=lambda member: member.header_offset)
    if ordered and ordered[0].header_offset:
        return "something in front of its members"
    for member in ordered:
        file.seek(member.header_offset)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
            return f"no member in its place: {member.filename[:80]!r}"
        *_, length, extra = _LOCAL.unpack(head)
        name = file.read(length)
        start = member.header_offset + _LOCAL.size + length + extra
        if name not in (member.filename.encode(), member.filename.encode("cp437", "replace")):
            return f"a member of two names: {member.filename[:80]!r}"
        if member.header_offset < behind:
            return f"members that share bytes: {member.filename[:80]!r}"
        behind = start + member.compress_size
        if behind > table:
            return f"a member that is longer than the archive: {member.filename[:80]!r}"
    return None
