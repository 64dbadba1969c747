"""A model file as text: the same content gives the same text, on any machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..format import Contents
    from ..ir import Array, Graph, Quant, Value

VOLATILE: Mapping[str, tuple[str, ...]] = {"torch2circle": ("version", "torch")}
"""Metadata that may change while the model does not: entries and their keys, the versions that wrote the file."""
SHOWN = 8
"""Constants of so few elements are written out; of others there is the range and a digest."""


def settled(metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """The metadata without what is ``VOLATILE``."""
    return {name: _without(data, VOLATILE[name]) if name in VOLATILE else data for name, data in metadata.items()}


def _without(data: bytes, keys: tuple[str, ...]) -> bytes:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if not isinstance(fields, dict):
        return data
    return json.dumps({key: value for key, value in fields.items() if key not in keys}, sort_keys=True).encode()


def canonical_text(contents: Contents) -> str:
    """The graphs with every scale to its last digit, the constants by range and digest (SHA-256, 64 bits of it), and the metadata.

    Numbers are float32 in the fewest digits that tell them apart, which do not depend on the machine.
    """
    return "\n".join(_lines(contents)) + "\n"


def _lines(contents: Contents) -> Iterator[str]:
    yield f"{contents.identifier} version {contents.version}: {contents.description}"
    for name, graph in contents.graphs.items():
        yield ""
        yield f"graph {name}"
        yield from str(graph).splitlines()
        yield ""
        yield from _tensors(graph)
    for name, data in settled(contents.metadata).items():
        yield ""
        yield f"metadata {name}"
        yield from _metadata(data)


def _tensors(graph: Graph) -> Iterator[str]:
    """What the types of the graph's own text do not say to the last digit, and the constants."""
    for value in graph.values():
        parts = []
        if value.type.quant is not None:
            parts.append(_quant(value.type.quant))
        if value.data is not None:
            parts.append(_elements(value))
        if parts:
            yield f"{value}: {'; '.join(parts)}"


def _quant(quant: Quant) -> str:
    axis = "" if quant.axis is None else f" along {quant.axis}"
    return f"scale{axis} {_numbers(quant.scale)}, zero point {_numbers(quant.zero_point)}"


def _elements(value: Value) -> str:
    return f"{value.type.size} x {value.type.dtype.value} {_numbers(value.array())}"


def _numbers(array: Array) -> str:
    flat = array.reshape(-1)
    if flat.size <= SHOWN:
        return "[" + ", ".join(map(_number, flat)) + "]"
    digest = hashlib.sha256(flat.astype(flat.dtype.newbyteorder("<")).tobytes()).hexdigest()[:16]
    return f"{_number(flat.min())}..{_number(flat.max())} {digest}"


def _number(number: Any) -> str:
    return str(number.item() if number.dtype.kind in "iub" else number)


def _metadata(data: bytes) -> Iterator[str]:
    """Lists and objects of JSON with a line for each element, whatever else there is as a digest."""
    try:
        text = json.dumps(json.loads(data), indent=1, sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"
    yield from text.splitlines()
