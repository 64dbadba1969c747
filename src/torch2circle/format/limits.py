"""How large a file may be, and what to say of one that would be larger.

References in a flatbuffer have 32 bits, and its readers take them for signed ones. TFLite's buffers may name an offset in the file instead,
which LiteRT follows to any place; onert takes such a tensor for one that is no constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from ..errors import WriteError
from ..ir import Graph, Value, Where

SIZE_LIMIT: Final = 2**31 - 1
"""Bytes of a flatbuffer, and so of a whole Circle file."""
SHOWN: Final = 20
"""Layers that a message names; the error has all."""


def identity(value: Value) -> object:
    """Equal for constants that are known to have equal elements."""
    source = None if value.data is None else value.data.source
    return value if source is None else (source, value.type)


def by_layer(graphs: Iterable[Graph]) -> dict[str, int]:
    """Bytes of constants by layer: the module that they are called after, and the line that reads them first."""
    graphs = list(graphs)
    readers: dict[Value, Where] = {}
    for graph in graphs:
        for node in graph.nodes():
            for value in node.inputs:
                if value is not None:
                    readers.setdefault(value, node.where)
    sizes: Counter[str] = Counter()
    constants = {identity(value): value for graph in reversed(graphs) for value in graph.values() if value.data is not None}
    for value in constants.values():
        sizes[_layer(value.name, readers.get(value, Where()))] += value.type.nbytes
    return dict(sizes)


def _layer(name: str, reader: Where) -> str:
    """``layers.0 (net.py:12)`` of ``layers.0.weight``. The reader's own module may be another: that of a fused activation."""
    module = name.rpartition(".")[0] or name or "<no name>"
    return f"{module} ({reader.file}:{reader.line})" if reader.file else module


def too_large(size: int, layers: Mapping[str, int]) -> WriteError:
    """Why a Circle file of ``size`` bytes is not written, with the bytes of its ``layers``."""
    ordered = sorted(layers.items(), key=lambda layer: (-layer[1], layer[0]))
    width = len(f"{ordered[0][1]:,}") if ordered else 0
    lines = [f"  {count:>{width},} bytes  {layer}" for layer, count in ordered[:SHOWN]]
    if rest := ordered[SHOWN:]:
        lines.append(f"  {sum(count for _, count in rest):>{width},} bytes  in {len(rest)} more")
    over = f"{size:,} bytes, {size - SIZE_LIMIT:,} too many, by layer:"
    message = "\n".join([f"the file would be over 2 GiB, the most that Circle holds: {over}", *lines])
    hint = "write a .tflite file, which may be larger; for Circle quantize the weights, or split the model"
    return WriteError(message, hint=hint, layers=ordered)


def description_too_large(size: int) -> WriteError:
    """Why a file is not written whose tables alone are too large: scales, shapes and names, without the constants."""
    message = f"the file's description would be over 2 GiB, the most that the format holds: {size:,} bytes without the constants"
    return WriteError(message, hint="split the model")
