"""Whether torch.load may map a file instead of reading it.

Mapped, it takes whatever lies in the file from where a record begins: the compressed bytes of one that is compressed, and the bytes
behind one that is smaller than the tensor. Reading, it does not. So only what is exactly as torch.save writes it is mapped, and torch
judges the rest.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

_MARK: Final = object()
_PUSHED: Final = {"BINUNICODE", "GLOBAL", "BININT", "BININT1", "BININT2", "LONG1"}
_CLOSED: Final = {"TUPLE": None, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SIZES: Final = {
    1: "Byte Char Bool QInt8 QUInt8", 2: "Short Half BFloat16", 4: "Int Float QInt32", 8: "Long Double ComplexFloat", 16: "ComplexDouble",
}  # fmt: skip
_BYTES: Final = {f"torch {name}Storage": size for size, names in _SIZES.items() for name in names.split()}
"""Of an element, by the class that a pickle names."""


def can_be_mapped(path: Path) -> bool:
    """Whether all records of the file are stored, and as large as the tensors that lie in them."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
            if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()) or "data.pkl" not in members:
                return False
            with archive.open(members["data.pkl"]) as stream:
                return all(f"data/{key}" in members and members[f"data/{key}"].file_size == size for key, size in _storages(stream))
    except Exception:  # whatever is wrong with it, torch says it better
        return False


def _storages(stream: IO[bytes]) -> Iterator[tuple[str, int]]:
    """The record and the bytes of each storage that the pickle asks for: ("storage", class, record, device, elements)."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name == "BINPERSID":
            _, storage, key, _, count = stack.pop()
            yield key, count * (1 if storage == "torch.storage UntypedStorage" else _BYTES[storage])
            stack.append(None)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUSHED:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _CLOSED:
            count = _CLOSED[name]
            start = len(stack) - count if count else len(stack) - stack[::-1].index(_MARK)
            made = tuple(stack[start:])
            del stack[start if count else start - 1 :]
            stack.append(made)
        else:
            _run(opcode, stack)


def _run(opcode: Any, stack: list[Any]) -> None:
    """Any other operation: what it takes, and something unknown for what it gives."""
    for taken in reversed(opcode.stack_before):
        if taken is pickletools.stackslice:
            del stack[len(stack) - stack[::-1].index(_MARK) :]
        else:  # also the mark itself
            stack.pop()
    stack += [None] * len(opcode.stack_after)
