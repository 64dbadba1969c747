"""Whether the numbers that a pickle speaks of are in its archive, where torch's readers do not look.

Mapped, torch.load takes whatever lies in the file from where a record begins: the compressed bytes of one that is compressed, and the bytes
behind one that is smaller than the tensor. Reading, it does not. So only what is exactly as torch.save writes it is mapped, and torch
judges the rest.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from .pickles import scan

_SIZES: Final = {
    1: "Byte Char Bool QInt8 QUInt8 QUInt4x2 QUInt2x4", 2: "Short Half BFloat16", 4: "Int Float QInt32", 8: "Long Double ComplexFloat",
    16: "ComplexDouble",
}  # fmt: skip
_WIDTHS: Final = {f"torch {name}Storage": width for width, names in _SIZES.items() for name in names.split()} | {
    "torch.storage UntypedStorage": 1
}
"""Bytes of an element, by the class that a pickle names."""


def numbers_are_there(archive: zipfile.ZipFile, pickled: str, *, exactly: bool = False) -> bool:
    """Whether the archive has all numbers that a pickle in it speaks of, in members that are no smaller; ``exactly`` none that is larger.

    Args:
        pickled: the member, ``folder/data.pkl``. What it speaks of is in ``folder/data/``.

    Raises:
        pickle.UnpicklingError, ValueError, IndexError, KeyError: as ``pickles.scan``.
    """
    storages = scan(archive.read(pickled)).storages
    if storages is None:
        return False
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    for kind, name, count in storages:
        there = sizes.get(f"{pickled.removesuffix('.pkl')}/{name}", -1)
        wanted = count * _WIDTHS[kind] if kind in _WIDTHS else -1
        if not 0 <= wanted <= there or (exactly and wanted < there):
            return False
    return True


def can_be_mapped(path: Path) -> bool:
    """Whether all records of the file are stored, and as large as the tensors that lie in them."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            (pickled,) = (info.filename for info in members if info.filename.partition("/")[2] == "data.pkl")
            stored = all(info.compress_type == zipfile.ZIP_STORED for info in members)
            return stored and numbers_are_there(archive, pickled, exactly=True)
    except Exception:  # whatever is wrong with it, torch says it better
        return False
