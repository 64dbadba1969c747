"""Write a graph as a Circle or TFLite file.

A file is a small flatbuffer that describes the graph, followed by the constants. The description is built in memory with an
empty reference in each buffer table; then the constants go to the sink one after the other, and at the end the description
with the references filled in. So memory does not grow with the model. Offsets in a flatbuffer are unsigned and point
forwards, hence data behind the description is as good as data within it. Over 2 GiB, TFLite's buffers name a place in the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from .. import spec
from ..arithmetic import in_nibbles
from ..errors import Bug
from ..ir import DType, Graph, Node, Value
from . import limits
from .ahead import ahead
from .facts import ENUMS, TABLES, UNIONS
from .packer import ALIGNMENT, LATER, Hole, Packer, Table
from .whole import whole_file

VERSIONS: Final = {"CIR0": 0, "TFL3": 3}
"""File identifier -> the model version its runtimes expect."""

CHUNK: Final = 1 << 16


Methods = Graph | Mapping[str, Graph]
"""One graph, or several by the name of the method that each computes; a file has the first one's in front."""

DEFAULT: Final = "serving_default"
"""What the only method of a file is called."""


def to_bytes(graph: Methods, *, identifier: str, metadata: Mapping[str, bytes] = {}) -> bytes:
    """The file's content."""
    sink = io.BytesIO()
    write(graph, sink, identifier=identifier, metadata=metadata)
    return sink.getvalue()


def save(
    graph: Methods,
    path: str | os.PathLike[str],
    *,
    identifier: str,
    metadata: Mapping[str, bytes] = {},
    description: str = "torch2circle",
) -> int:
    """Write the file at ``path`` and return its size. ``path`` has the old file or the whole new one, whatever happens."""
    with whole_file(path) as sink:
        write(graph, sink, identifier=identifier, metadata=metadata, description=description)
        return sink.tell()


def write(
    graph: Methods, sink: BinaryIO, *, identifier: str, metadata: Mapping[str, bytes] = {}, description: str = "torch2circle"
) -> None:
    """Write the file to ``sink``, which is empty and can seek and be read, and leave it at the end.

    The bytes depend on the arguments alone.
    """
    stream(sink, *_parts(graph, identifier, metadata, description))


def size_of(graph: Methods, *, identifier: str, metadata: Mapping[str, bytes] = {}) -> int:
    """The size of the file in bytes. It is not written, and as few constants are in memory as if it were.

    Raises:
        WriteError: a Circle file would be over 2 GiB.
    """
    head, _, blobs = _parts(graph, identifier, metadata, "torch2circle")
    behind = _Measured(len(head))
    deque(map(behind.put, blobs), 0)
    return behind.end


class Data(NamedTuple):
    """What a buffer has: ``size`` bytes, which ``load`` gives. Of equal ``key`` are those that are known to be equal."""

    size: int
    load: Callable[[], memoryview | bytes]
    key: object
    is_metadata: bool = False


def _parts(
    graph: Methods, identifier: str, metadata: Mapping[str, bytes], description: str
) -> tuple[bytearray, list[Hole], Iterator[memoryview | bytes]]:
    """The description, where the data is to be entered in it, and the data."""
    graphs = {DEFAULT: graph} if isinstance(graph, Graph) else graph
    constants = [value for graph in graphs.values() for value in graph.values() if value.data is not None]
    buffers = [
        None,  # for what is no constant
        *(Data(value.type.nbytes, partial(_elements, value), limits.identity(value)) for value in constants),
        *(Data(len(data), partial(bytes, data), name, is_metadata=True) for name, data in metadata.items()),
    ]
    model = _model(graphs, constants, identifier, metadata, description)
    return described(model, identifier, buffers, lambda: limits.by_layer(graphs.values()))


def described(
    model: Table, identifier: str, buffers: Sequence[Data | None], layers: Callable[[], Mapping[str, int]]
) -> tuple[bytearray, list[Hole], Iterator[memoryview | bytes]]:
    """A file's description, where data is to be entered in it, and the data behind it.

    References lead to the data. Where a TFLite file may be over 2 GiB, its buffers have offset and size instead, and metadata, which not
    every reader finds by these, is in the description.

    Args:
        model: the tables, whatever their buffers.
        buffers: what each of them has; None for nothing.
        layers: where the bytes come from, asked for if they are too many.

    Raises:
        WriteError: a Circle file would be over 2 GiB, or the description alone.
    """
    filled = [data for data in buffers if data is not None]
    head, holes = _packed(model, [{} if data is None else {"data": LATER} for data in buffers], identifier)
    end = len(head)
    for size in {data.key: data.size for data in filled}.values():
        _, end = _placed(end, size)
    if end > limits.SIZE_LIMIT:
        if identifier == "CIR0":
            raise limits.too_large(end, layers())
        head, holes = _packed(model, [{} if data is None else _apart(data) for data in buffers], identifier)
        filled = [data for data in filled if not data.is_metadata]
        if len(head) > limits.SIZE_LIMIT:
            raise limits.description_too_large(len(head))
    return head, holes, ahead(_loaded, filled, lambda data: data.size)


def _apart(data: Data) -> Table:
    return {"data": data.load()} if data.is_metadata else {"offset": LATER, "size": data.size}


def _loaded(data: Data) -> memoryview | bytes:
    return data.load()


def _packed(model: Table, buffers: Sequence[Table], identifier: str) -> tuple[bytearray, list[Hole]]:
    packer = Packer()
    head = packer.finish({**model, "buffers": buffers}, identifier)
    return bytearray(head), packer.holes


def stream(sink: BinaryIO, head: bytearray, holes: Sequence[Hole], blobs: Iterable[memoryview | bytes]) -> None:
    """Write a description and behind it ``blobs``, for which the ``holes`` are in their order."""
    positions = list(map(_Behind(sink, len(head)).put, blobs))
    for hole, position in zip(holes, positions, strict=True):
        hole.fill(head, position)
    sink.seek(0)
    sink.write(head)
    sink.seek(0, os.SEEK_END)


# The model as nested tables.

Code = tuple[str, int, str]
"""Operator, its version, and the name of a custom one."""


def _model(graphs: Mapping[str, Graph], constants: list[Value], identifier: str, metadata: Mapping[str, bytes], description: str) -> Table:
    if identifier not in VERSIONS:
        raise Bug(f"not a file identifier: {identifier}")
    buffers = {value: i for i, value in enumerate(constants, start=1)}  # buffer 0 is for what is no constant
    nodes = [node for graph in graphs.values() for node in graph.nodes()]
    codes = {code: i for i, code in enumerate(dict.fromkeys(map(_code, nodes)))}
    return {
        "version": VERSIONS[identifier],
        "operator_codes": [_operator_code(*code, identifier) for code in codes],
        "subgraphs": [_subgraph(graph, "main" if len(graphs) == 1 else name, buffers, codes) for name, graph in graphs.items()],
        "description": description,
        "buffers": [],  # which ``described`` lays out
        "metadata": [{"name": name, "buffer": i} for i, name in enumerate(metadata, start=len(constants) + 1)],
        "signature_defs": [_signature(graph, key, i) for i, (key, graph) in enumerate(graphs.items())],
    }


def _subgraph(graph: Graph, name: str, buffers: Mapping[Value, int], codes: Mapping[Code, int]) -> Table:
    values = list(graph.values())
    index = {value: i for i, value in enumerate(values)}
    return {
        "tensors": [_tensor(value, name, buffers.get(value, 0)) for value, name in zip(values, unique_names(values), strict=True)],
        "inputs": [index[value] for value in graph.inputs],
        "outputs": [index[value] for value in graph.outputs],
        "operators": [_operator(node, index, codes[_code(node)]) for node in graph.nodes()],
        "name": name,
    }


def _signature(graph: Graph, key: str, subgraph: int) -> Table:
    index = {value: i for i, value in enumerate(graph.values())}
    return {
        "inputs": [{"name": name, "tensor_index": index[v]} for name, v in zip(graph.input_names, graph.inputs, strict=True)],
        "outputs": [{"name": name, "tensor_index": index[v]} for name, v in zip(graph.output_names, graph.outputs, strict=True)],
        "signature_key": key,
        "subgraph_index": subgraph,
    }


def unique_names(values: Iterable[Value]) -> list[str]:
    """Each value's name, with ``_1``, ``_2``, ... where it is taken. onert crashes without a name."""
    taken: dict[str, None] = {}
    counts: dict[str, int] = {}  # where to go on, or all of one name would ask for each number before theirs
    for value in values:
        name = wanted = value.name or "value"
        while name in taken:
            counts[wanted] = counts.get(wanted, 0) + 1
            name = f"{wanted}_{counts[wanted]}"
        taken[name] = None
    return list(taken)


def _tensor(value: Value, name: str, buffer: int) -> Table:
    table = {"shape": value.type.shape, "type": value.type.dtype.name, "buffer": buffer, "name": name, "has_rank": True}
    if value.type.open:
        table["shape_signature"] = [-1 if axis in value.type.open else size for axis, size in enumerate(value.type.shape)]
    if value.variable:
        table["is_variable"] = True
    quant = value.type.quant
    if quant is None:
        return table
    if len(quant.scale) != len(quant.zero_point):
        raise Bug(f"{len(quant.scale)} scales but {len(quant.zero_point)} zero points: {value.name}")
    return {**table, "quantization": {"scale": quant.scale, "zero_point": quant.zero_point, "quantized_dimension": quant.axis or 0}}


def _code(node: Node) -> Code:
    if node.op not in spec.OPS:
        raise Bug(f"not in the operator table: {node.op}", where=node.where)
    return node.op, spec.version(node), node.attrs["custom_code"] if node.op == "CUSTOM" else ""


def _operator_code(op: str, version: int, custom: str, identifier: str) -> Table:
    code = ENUMS["BuiltinOperator"][op]
    if code < 0 and identifier != "CIR0":
        raise Bug(f"only Circle has the operator: {op}")
    table = {"deprecated_builtin_code": min(code, 127), "builtin_code": op, "version": version}
    return {**table, "custom_code": custom} if op == "CUSTOM" else table


def _operator(node: Node, index: Mapping[Value, int], code: int) -> Table:
    table: dict[str, Any] = {
        "opcode_index": code,
        "inputs": [-1 if value is None else index[value] for value in node.inputs],
        "outputs": [index[value] for value in node.outputs],
    }
    if node.op == "CUSTOM":
        return {**table, "custom_options": node.attrs["custom_options"]}
    options = spec.OPS[node.op].options
    fields = TABLES[options] if options else {}
    unknown = sorted(node.attrs.keys() - fields.keys())
    if unknown:
        raise Bug(f"{node.op} has no option {', '.join(unknown)}, only: {', '.join(fields) or 'none at all'}", where=node.where)
    if options:
        union = "builtin_options" if options in UNIONS["BuiltinOptions"] else "builtin_options_2"
        table[union] = options, node.attrs
    return table


def misfit(node: Node) -> str:
    """What keeps an operator from being written, be it an option it does not have; empty if nothing does."""
    try:
        Packer().table("Operator", _operator(node, dict.fromkeys((*filter(None, node.inputs), *node.outputs), 0), 0))
    except Bug as bug:
        return bug.message
    return ""


# The data behind the description.


def _elements(value: Value) -> memoryview:
    """A constant's bytes, little endian; two elements of 4 bits in one."""
    array = value.array()
    wanted = value.type.dtype.numpy
    if array.shape != value.type.shape or array.dtype != wanted:
        raise Bug(f"constant {value.name} is {array.dtype}{list(array.shape)}, its type says {value.type}")
    if value.type.dtype is DType.INT4:
        array, wanted = in_nibbles(array), np.dtype(np.uint8)
    return np.ascontiguousarray(array, wanted.newbyteorder("<")).reshape(-1).view(np.uint8).data


def _placed(end: int, size: int) -> tuple[int, int]:
    """Where a byte vector begins that follows ``end`` with its elements aligned, and where it ends."""
    position = end + -(end + 4) % ALIGNMENT
    return position, position + 4 + size


class _Measured:
    """As ``_Behind`` puts them, without a file: equal vectors are told by length and SHA-256."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.seen: set[tuple[int, bytes]] = set()

    def put(self, data: memoryview | bytes) -> None:
        key = len(data), hashlib.sha256(data).digest()
        if key not in self.seen:
            self.seen.add(key)
            _, self.end = _placed(self.end, len(data))


class _Behind:
    """Aligned byte vectors behind the description, equal ones once."""

    def __init__(self, sink: BinaryIO, end: int) -> None:
        self.sink, self.end, self.elsewhere = sink, end, True
        self.alike: dict[tuple[int, bytes], list[int]] = {}  # length and first bytes -> where such vectors are

    def put(self, data: memoryview | bytes) -> int:
        """Write ``data`` unless it is there already; return where it is."""
        alike = self.alike.setdefault((len(data), bytes(data[:1024])), [])
        for position in alike:
            if self.holds(position, data):
                return position
        position, end = _placed(self.end, len(data))
        if self.elsewhere:  # a seek also empties the buffer, in which small constants gather
            self.sink.seek(self.end)
            self.elsewhere = False
        self.sink.write(bytes(position - self.end) + struct.pack("<I", len(data) & 0xFFFF_FFFF))  # nobody reads it of an offset
        self.sink.write(data)
        self.end = end
        alike.append(position)
        return position

    def holds(self, position: int, data: memoryview | bytes) -> bool:
        """Whether the vector there, of the same length, is equal: read back in parts."""
        self.sink.seek(position + 4)
        self.elsewhere = True
        return all(self.sink.read(len(part)) == part for part in (bytes(data[i : i + CHUNK]) for i in range(0, len(data), CHUNK)))
