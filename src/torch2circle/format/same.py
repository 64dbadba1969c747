"""Whether a file is what would be written, without writing it anywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO, Final, cast

from ..errors import FormatError
from .writer import Methods, write

_PART: Final = 1 << 20


class _OtherBytes(Exception):
    pass


class _Against:
    """A sink that compares what is written with what is in a file, part by part."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.seek, self.read, self.tell = file, file.seek, file.read, file.tell
        self.end = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data)
        for start in range(0, len(view), _PART):
            part = view[start : start + _PART]
            if self.file.read(len(part)) != part:
                raise _OtherBytes
        self.end = max(self.end, self.tell())
        return len(view)


def is_as_written(path: str | os.PathLike[str], graph: Methods, *, identifier: str, metadata: Mapping[str, bytes] = {}) -> bool:
    """Whether the file has the bytes that ``save`` would write.

    Raises:
        FormatError: it cannot be read.
        WriteError: a Circle file would be over 2 GiB.
    """
    try:
        with open(path, "rb") as file:
            sink = _Against(file)
            write(graph, cast(BinaryIO, sink), identifier=identifier, metadata=metadata)
            return sink.end == os.fstat(file.fileno()).st_size
    except _OtherBytes:
        return False
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
