"""Read a Circle or TFLite file back into a graph.

Whatever the bytes are, the result is a graph or a ``FormatError``. Constants are views of the file; a large one is mapped, not loaded.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..arithmetic import of_nibbles
from ..errors import FormatError
from ..ir import Array, Constant, DType, Graph, Node, Quant, Type, Value
from ..text import one_line
from .facts import TABLES
from .walker import File, WireTable

MOST_ELEMENTS: Final = 2**59
"""Their bytes have to be counted in 63 bits."""
IDENTIFIERS: Final = ("CIR0", "TFL3")
COPIED: Final = 64 << 20
"""Files up to this size are copied into memory. A larger one is mapped, and ends the process if another one cuts it off meanwhile."""


@dataclass(frozen=True)
class Contents:
    """The graphs that a file can be called with, by the keys of its signatures, and what the file says about itself.

    Without a signature that is the first subgraph, by its name.
    """

    graphs: Mapping[str, Graph]
    identifier: str
    version: int
    metadata: dict[str, bytes]
    description: str

    @property
    def graph(self) -> Graph:
        """The only one.

        Raises:
            FormatError: there are several.
        """
        if len(self.graphs) > 1:
            hint = "write the method that is meant to a file of its own"
            raise FormatError(f"the file holds several methods: {', '.join(self.graphs)}", hint=hint)
        return next(iter(self.graphs.values()))


def read(source: str | os.PathLike[str] | bytes) -> Contents:
    """The model in the file or the bytes ``source``.

    A node's attributes are the options that differ from the schema's defaults. A custom operator is a node ``CUSTOM`` with
    the attributes ``custom_code`` and ``custom_options``. Names of inputs and outputs are the signature's, or the tensors'.
    """
    return _contents(opened(source))


def opened(source: str | os.PathLike[str] | bytes) -> File:
    """The bytes of a file, mapped, or those given.

    Raises:
        FormatError: it cannot be opened.
    """
    if isinstance(source, bytes):
        return File(memoryview(source), f"{len(source)} bytes")
    try:
        if not (stat.S_ISREG(mode := os.stat(source).st_mode) or stat.S_ISDIR(mode)):  # of a pipe, opening alone may wait forever
            raise OSError(0, "it is no regular file")
        with open(source, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            view = memoryview(file.read(size) if size <= COPIED else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        said = error.strerror if isinstance(error, OSError) else None
        raise FormatError(f"cannot read {one_line(str(source))}: {said or error}") from error
    return File(view, str(source))


def _contents(file: File) -> Contents:
    identifier = bytes(file.view[4:8]).decode("latin-1")
    if identifier not in IDENTIFIERS:
        file.fail("neither a Circle nor a TFLite model" if len(file.view) else "the file is empty")
    model = WireTable(file, "Model", file.target(0))
    subgraphs = model.tables("subgraphs")
    if not subgraphs:
        file.fail("the model has no subgraph")
    buffers = [_buffer(file, buffer) for buffer in model.tables("buffers")]
    codes, signatures = model.tables("operator_codes"), model.tables("signature_defs")
    graphs = {} if signatures else {subgraphs[0].get("name") or "": _GraphReader(file, subgraphs[0], buffers, codes).graph(None)}
    for signature in signatures:
        subgraph, key = _item(file, subgraphs, signature.number("subgraph_index"), "subgraph"), signature.get("signature_key") or ""
        if key in graphs:
            file.fail(f"several signatures have the key {key}")
        graphs[key] = _GraphReader(file, subgraph, buffers, codes).graph(signature)
    metadata = {}
    for entry in model.tables("metadata"):
        data = _item(file, buffers, entry.number("buffer"), "buffer")
        file.charge(0 if data is None else len(data))
        metadata[entry.get("name") or ""] = b"" if data is None else bytes(data)
    return Contents(graphs, identifier, model.number("version"), metadata, model.get("description") or "")


def possible(shape: Sequence[int]) -> bool:
    """Whether an array can have the sizes. One of 0 does not help the others: numpy multiplies them all the same."""
    return all(size >= 0 for size in shape) and math.prod(size or 1 for size in shape) <= MOST_ELEMENTS


def weight_of(name: str, scale: Array | None) -> int:
    """What an operator that reads or makes a tensor brings into sight: many may share one of a long name and thousands of scales."""
    return len(name) + (0 if scale is None else 12 * len(scale))


def _item(file: File, items: list[Any], index: int, what: str) -> Any:
    if not 0 <= index < len(items):
        file.fail(f"damaged, there is no {what} {index}")
    return items[index]


def _buffer(file: File, buffer: WireTable) -> Array | None:
    """The buffer's bytes: in the flatbuffer, or elsewhere in the file as TFLite allows."""
    data: Array | None = buffer.get("data")
    if data is not None:
        file.hold(file.target(buffer.place(TABLES["Buffer"]["data"].slot) or 0), len(data))
    offset, size = buffer.number("offset"), buffer.number("size")
    if data is not None or offset <= 1:
        return data
    file.check(offset, size)
    file.hold(offset, size)
    return np.frombuffer(file.view, np.uint8, size, offset)


def _in_sight(value: Value) -> int:
    return weight_of(value.name, None if value.type.quant is None else value.type.quant.scale)


class _GraphReader:
    """Builds the values of one subgraph when they are asked for, operator by operator."""

    def __init__(self, file: File, subgraph: WireTable, buffers: list[Array | None], codes: list[WireTable]) -> None:
        self.file, self.subgraph, self.buffers, self.codes = file, subgraph, buffers, codes
        self.tensors = subgraph.tables("tensors")
        self.values: dict[int, Value] = {}

    def graph(self, signature: WireTable | None) -> Graph:
        inputs, outputs = self.subgraph.numbers("inputs"), self.subgraph.numbers("outputs")
        for index in inputs:
            self.values[index] = Value(self.type(index), self.name(index))
        for operator in self.subgraph.tables("operators"):
            self.node(operator)
        return Graph(
            tuple(self.values[index] for index in inputs),
            tuple(self.value(index) for index in outputs),
            self.signature_names(signature, "inputs", inputs),
            self.signature_names(signature, "outputs", outputs),
        )

    def node(self, operator: WireTable) -> None:
        op, attrs = self.operation(operator)
        inputs = [None if index == -1 else self.value(index) for index in operator.numbers("inputs")]
        for value in inputs:
            self.file.charge(0 if value is None else _in_sight(value))
        outputs = operator.numbers("outputs")
        for index in outputs:
            if index in self.values:
                self.file.fail(f"{op} writes {self.name(index)}, which is a constant, an input or another operator's result")
        results = [Value(self.type(i), self.name(i), variable=bool(self.tensors[i].get("is_variable"))) for i in outputs]
        node = Node.make(op, inputs, results, attrs)
        self.values.update(zip(outputs, node.outputs, strict=True))

    def operation(self, operator: WireTable) -> tuple[str, Mapping[str, Any]]:
        """Schema name and attributes."""
        code: WireTable = _item(self.file, self.codes, operator.number("opcode_index"), "operator code")
        old, new = code.number("deprecated_builtin_code"), code.number("builtin_code")
        op = code.member("BuiltinOperator", min(old, new) if min(old, new) < 0 else max(old, new))
        if op == "CUSTOM":
            data = operator.get("custom_options")
            return op, {"custom_code": code.get("custom_code") or "", "custom_options": b"" if data is None else data.tobytes()}
        options = operator.get("builtin_options") or operator.get("builtin_options_2")
        return op, _attrs(options[1]) if options else {}

    def value(self, index: int) -> Value:
        if index not in self.values:
            self.values[index] = self.constant(index)
        return self.values[index]

    def constant(self, index: int) -> Value:
        kind, name = self.type(index), self.name(index)
        data = _item(self.file, self.buffers, self.tensors[index].number("buffer"), "buffer")
        if self.tensors[index].get("is_variable"):
            return Value(kind, name, variable=True)
        if data is None and kind.size:
            self.file.fail(f"tensor {name} is read, but no operator before has written it")
        data = np.empty(0, np.uint8) if data is None else data
        if len(data) != kind.nbytes:
            self.file.fail(f"tensor {name} has {len(data)} bytes of data, its type {kind} needs {kind.nbytes}")
        if kind.dtype is DType.INT4:
            return Value(kind, name, data=Constant(lambda: of_nibbles(data, kind.size).reshape(kind.shape)))
        return Value(kind, name, data=Constant.of(data.view(kind.dtype.numpy.newbyteorder("<")).reshape(kind.shape)))

    def name(self, index: int) -> str:
        tensor: WireTable = _item(self.file, self.tensors, index, "tensor")
        return tensor.get("name") or ""

    def type(self, index: int) -> Type:
        tensor: WireTable = _item(self.file, self.tensors, index, "tensor")
        shape = tensor.sizes("shape")
        if not possible(shape):
            self.file.fail(f"tensor {self.name(index)} has an impossible shape: {list(shape)}")
        element = tensor.get("type")
        if element not in DType.__members__ or "sparsity" in tensor:
            self.file.fail(f"tensor {self.name(index)} is {'sparse' if 'sparsity' in tensor else element}, which is not supported")
        signature = tensor.sizes("shape_signature")
        if signature and len(signature) != len(shape):
            self.file.fail(f"tensor {self.name(index)} of shape {list(shape)} has the signature {list(signature)}")
        return Type(shape, DType[element], self.quant(tensor, shape), tuple(axis for axis, size in enumerate(signature) if size < 0))

    def quant(self, tensor: WireTable, shape: tuple[int, ...]) -> Quant | None:
        table = tensor.get("quantization")
        if table is None:
            return None
        if table.get("details"):
            self.file.fail(f"tensor {tensor.get('name')} has a quantization that is not affine: {table.get('details')[0]}")
        scale, zero_point, axis = table.get("scale"), table.get("zero_point"), table.number("quantized_dimension")
        if scale is None or not len(scale):
            return None
        if zero_point is None or len(zero_point) != len(scale):
            self.file.fail(f"tensor {tensor.get('name')} has not as many zero points as scales")
        # One scale is of the whole tensor, whatever the dimension says, unless that is another than the first and has one index.
        if len(scale) == 1 and not (0 < axis < len(shape) and shape[axis] == 1):
            return Quant(scale, zero_point)
        if not 0 <= axis < len(shape) or shape[axis] != len(scale):
            self.file.fail(f"tensor {tensor.get('name')} of shape {list(shape)} has {len(scale)} scales for dimension {axis}")
        return Quant(scale, zero_point, axis)

    def signature_names(self, signature: WireTable | None, key: str, indices: list[int]) -> tuple[str, ...]:
        """In the order of the subgraph; the signature may have another one, and the same tensor under several names."""
        names: dict[int, list[str]] = {}
        for entry in signature.tables(key) if signature else []:
            names.setdefault(entry.number("tensor_index"), []).append(entry.get("name") or "")
        return tuple(names[index].pop(0) if names.get(index) else self.name(index) for index in indices)


def _attrs(options: WireTable) -> dict[str, Any]:
    """The options that differ from their defaults."""
    attrs: dict[str, Any] = {}
    for key, field in TABLES[options.name].items():
        if key not in options:
            continue
        value = options.get(key)
        if field.type == "[ubyte]":
            attrs[key] = value.tobytes()
        elif field.type.startswith("["):
            attrs[key] = tuple(value.tolist())
        elif field.default is None or options.number(key) != field.default:
            attrs[key] = value
    return attrs
