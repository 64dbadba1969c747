"""Model files with something changed in their tables: what exporters do not write, others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch2circle.format import survey
from torch2circle.format.packer import Packer
from torch2circle.format.reader import opened
from torch2circle.format.rewrap import tables

Tables = dict[str, Any]


def changed(data: bytes, change: Callable[[Tables], object] = lambda model: None) -> bytes:
    """The file with its tables changed, its constants within the flatbuffer."""
    model, identifier = tables(opened(data)), data[4:8].decode()
    model["buffers"] = [{} if blob.data is None else {"data": blob.data.tobytes()} for blob in survey(data).blobs]
    change(model)
    return Packer().finish(model, identifier)


def main(model: Tables) -> Tables:
    """The first subgraph."""
    subgraph: Tables = model["subgraphs"][0]
    return subgraph


def tensor(model: Tables, name: str) -> Tables:
    found: Tables = next(tensor for tensor in main(model)["tensors"] if tensor["name"] == name)
    return found
