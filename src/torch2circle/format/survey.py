"""All that a file says, without judging it: every subgraph, operator, tensor and buffer, whether or not torch2circle knows it.

``read`` gives a graph that can be worked on and refuses what it cannot be sure of. A survey shows what is there: operators that reach no
output, element types without arithmetic here, numbers that a newer schema has. Only what cannot be decoded is a ``FormatError``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Final

import numpy as np

from ..arithmetic import of_nibbles
from ..ir import Array, Constant, DType, Node, Quant, Type, Value
from ..text import shown
from .facts import ENUMS, TABLES, UNIONS
from .reader import IDENTIFIERS, opened, possible, weight_of
from .walker import NAMES, File, WireTable

BITS: Final = {
    "FLOAT32": 32, "FLOAT16": 16, "INT32": 32, "UINT8": 8, "INT64": 64, "BOOL": 8, "INT16": 16, "COMPLEX64": 64, "INT8": 8, "FLOAT64": 64,
    "COMPLEX128": 128, "UINT64": 64, "UINT32": 32, "UINT16": 16, "INT4": 4, "UINT4": 4, "BFLOAT16": 16,
}  # fmt: skip
"""Bits of an element, where elements have a fixed size and stand one after the other."""

# Biases, and the shape that may be an option instead: operands that others leave out at the end.
_LEFT_OUT: Final = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 3, "TRANSPOSE_CONV": 4, "CONV_3D": 3, "CONV_3D_TRANSPOSE": 4}


@dataclass(frozen=True, eq=False)
class Blob:
    """A buffer: its bytes if it has any, and where in the file they are; ``by_offset`` if no reference leads there."""

    data: Array | None
    position: int
    by_offset: bool = False


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor as the file describes it. ``signature`` has -1 for a dimension of any size; ``kind`` is the schema's name of the element
    type, or ``TensorType 20`` for a number it does not have; ``details`` names a quantization that is not affine.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    kind: str
    buffer: int
    scale: Array | None
    zero_point: Array | None
    axis: int
    ranges: bool
    details: str
    variable: bool
    sparse: bool

    @property
    def nbytes(self) -> int | None:
        """What the elements take in the file; None where the type does not tell."""
        bits = BITS.get(self.kind)
        return None if bits is None or self.sparse or any(size < 0 for size in self.shape) else (prod(self.shape) * bits + 7) // 8

    @property
    def opens(self) -> tuple[int, ...]:
        return tuple(axis for axis, size in enumerate(self.signature) if size < 0)

    @property
    def quant(self) -> Quant | None:
        """The scales, if they fit the tensor."""
        if self.scale is None or self.zero_point is None or len(self.scale) != len(self.zero_point):
            return None
        one = len(self.scale) == 1 and not (self.axis and 0 <= self.axis < len(self.shape) and self.shape[self.axis] == 1)
        return Quant(self.scale, self.zero_point, None if one else self.axis)

    @property
    def type(self) -> Type | None:
        """As the rest of torch2circle has types; None for what it has no type for."""
        known = self.kind in DType.__members__ and not self.sparse and not self.details and possible(self.shape)
        return Type(self.shape, DType[self.kind], self.quant, self.opens) if known else None

    def __str__(self) -> str:
        if (known := self.type) is not None:
            return str(known)
        sizes = ",".join(f"{size}?" if axis in self.opens else f"{size}" for axis, size in enumerate(self.shape))
        marks = [" sparse"] if self.sparse else []
        marks += [f" {self.details}"] if self.details else [f" {self.quant}"] if self.quant else []
        return f"{self.kind.lower()}[{sizes}]{''.join(marks)}"


@dataclass(frozen=True, eq=False)
class Operator:
    """An operator: schema name (``BuiltinOperator 210`` for a number it does not have), the name of a custom one, options that differ from
    their defaults, and the tensors by number, -1 for one left out.
    """

    index: int
    op: str
    custom: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    intermediates: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return f"CUSTOM {self.custom}" if self.op == "CUSTOM" else self.op


@dataclass(frozen=True, eq=False)
class Subgraph:
    """One graph of the file; tensors and operators in its order."""

    index: int
    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]
    blobs: Sequence[Blob] = field(repr=False)

    def tensor(self, index: int) -> Tensor | None:
        return self.tensors[index] if 0 <= index < len(self.tensors) else None

    def name_of(self, index: int) -> str:
        """For people: on one line, and not endless."""
        tensor = self.tensor(index)
        return f"tensor {index}" if tensor is None or not tensor.name else shown(tensor.name)

    def data(self, tensor: Tensor) -> Array | None:
        """The bytes of a constant; None for what is computed, a variable, or a buffer that does not exist."""
        blob = self.blobs[tensor.buffer] if 0 <= tensor.buffer < len(self.blobs) else None
        if blob is None or tensor.variable:
            return None
        return np.empty(0, np.uint8) if blob.data is None and self.is_empty_constant(tensor) else blob.data

    def is_empty_constant(self, tensor: Tensor) -> bool:
        return 0 in tensor.shape and tensor.index not in self.producers and tensor.index not in self.given

    @cached_property
    def given(self) -> frozenset[int]:
        """The inputs, for questions of whether one is."""
        return frozenset(self.inputs)

    @cached_property
    def producers(self) -> Mapping[int, Operator]:
        """The first operator that writes each tensor."""
        made: dict[int, Operator] = {}
        for operator in self.operators:
            for index in operator.outputs:
                made.setdefault(index, operator)
        return made

    @cached_property
    def readers(self) -> Mapping[int, list[Operator]]:
        found: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for index in dict.fromkeys(operator.inputs):
                found.setdefault(index, []).append(operator)
        return found

    @cached_property
    def reached(self) -> frozenset[int]:
        """The operators, by number, whose results reach an output. What writes a state counts, too."""
        waiting = [*self.outputs]
        for operator in self.operators:
            stateful = any(t is not None and (t.variable or t.kind == "RESOURCE") for t in map(self.tensor, operator.inputs))
            if stateful or not operator.outputs:
                waiting += operator.outputs or operator.inputs
        found = {operator.index for operator in self.operators if not operator.outputs}
        seen: set[int] = set()
        while waiting:
            index = waiting.pop()
            if index in seen or index not in self.producers:
                continue
            seen.add(index)
            found.add(self.producers[index].index)
            waiting += self.producers[index].inputs
        return frozenset(found)

    def value(self, index: int) -> Value | None:
        """The tensor as a value without a producer; None for one that is left out, does not exist, or has no type here."""
        tensor = self.tensor(index)
        kind = None if tensor is None else tensor.type
        if tensor is None or kind is None:
            return None
        data = self.data(tensor)
        whole = data is not None and len(data) == kind.nbytes
        return Value(kind, tensor.name, data=_constant(data, kind) if data is not None and whole else None, variable=tensor.variable)

    def node(self, operator: Operator) -> Node | None:
        """The operator on its own, for what is asked of single operators; None where an operand has no type here."""
        inputs = [self.value(index) for index in operator.inputs]
        outputs = [self.value(index) for index in operator.outputs]
        made = [value for value in outputs if value is not None]
        if len(made) != len(outputs) or not made or any(v is None and i != -1 for v, i in zip(inputs, operator.inputs, strict=True)):
            return None
        inputs += [None] * (_LEFT_OUT.get(operator.op, 0) - len(inputs))
        attrs = {"custom_code": operator.custom} if operator.op == "CUSTOM" else operator.options
        return Node.make(operator.op, inputs, made, attrs)


@dataclass(frozen=True, eq=False)
class Signature:
    """How a subgraph is called: (name, tensor) of inputs and outputs."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Survey:
    """A whole file. ``size`` is its bytes."""

    label: str
    size: int
    identifier: str
    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: Mapping[str, Array | None]
    blobs: tuple[Blob, ...]

    @property
    def format(self) -> str:
        return "Circle" if self.identifier == "CIR0" else "TFLite"

    def operators(self) -> Iterator[tuple[Subgraph, Operator]]:
        for subgraph in self.subgraphs:
            for operator in subgraph.operators:
                yield subgraph, operator


def survey(source: str | os.PathLike[str] | bytes) -> Survey:
    """What is in the file or the bytes ``source``.

    Raises:
        FormatError: it cannot be opened, is no model, or its parts point outside of it.
    """
    file = opened(source)
    identifier = bytes(file.view[4:8]).decode("latin-1")
    if identifier not in IDENTIFIERS:
        file.fail("neither a Circle nor a TFLite model" if len(file.view) else "the file is empty")
    model = WireTable(file, "Model", file.target(0))
    blobs = tuple(_blob(file, buffer) for buffer in model.tables("buffers"))
    codes = model.tables("operator_codes")
    subgraphs = [_subgraph(index, table, blobs, codes, identifier) for index, table in enumerate(model.tables("subgraphs"))]
    if not subgraphs:
        file.fail("the model has no subgraph")
    metadata = {}
    for entry in model.tables("metadata"):
        number = entry.number("buffer")
        if number >= len(blobs):
            file.fail(f"damaged, there is no buffer {number}")
        data = metadata[entry.get("name") or ""] = blobs[number].data
        file.charge(0 if data is None else len(data))
    signatures = [
        Signature(table.get("signature_key") or "", table.number("subgraph_index"), _names(table, "inputs"), _names(table, "outputs"))
        for table in model.tables("signature_defs")
    ]
    for signature in signatures:  # what looks at each looks at its subgraph, which many may share
        called = subgraphs[signature.subgraph] if signature.subgraph < len(subgraphs) else None
        file.charge(0 if called is None else 8 * (len(called.tensors) + len(called.operators)))
    return Survey(
        file.label, len(file.view), identifier, model.number("version"), model.get("description") or "", tuple(subgraphs),
        tuple(signatures), metadata, blobs,
    )  # fmt: skip


def _names(signature: WireTable, key: str) -> tuple[tuple[str, int], ...]:
    return tuple((entry.get("name") or "", entry.number("tensor_index")) for entry in signature.tables(key))


def _blob(file: File, buffer: WireTable) -> Blob:
    """A buffer's bytes: in the flatbuffer, or elsewhere in the file as TFLite allows."""
    offset, size = buffer.number("offset"), buffer.number("size")
    data: Array | None = buffer.get("data")
    if data is not None:
        at = buffer.place(TABLES["Buffer"]["data"].slot)
        position = 0 if at is None else file.target(at) + 4
        file.hold(position, len(data))
        return Blob(data if len(data) else None, position)
    if offset <= 1:
        return Blob(None, 0)
    file.check(offset, size)
    file.hold(offset, size)
    return Blob(np.frombuffer(file.view, np.uint8, size, offset), offset, by_offset=True)


def _subgraph(index: int, table: WireTable, blobs: Sequence[Blob], codes: Sequence[WireTable], identifier: str) -> Subgraph:
    tensors = tuple(_tensor(i, tensor, identifier) for i, tensor in enumerate(table.tables("tensors")))
    operators = tuple(_operator(i, operator, codes) for i, operator in enumerate(table.tables("operators")))
    weights = [weight_of(tensor.name, tensor.scale) for tensor in tensors]
    for operator in operators:
        for i in (*operator.inputs, *operator.outputs):
            table.file.charge(weights[i] if 0 <= i < len(weights) else 0)
    return Subgraph(
        index, table.get("name") or "", tensors, tuple(table.numbers("inputs")), tuple(table.numbers("outputs")), operators, blobs
    )  # fmt: skip


def _tensor(index: int, table: WireTable, identifier: str) -> Tensor:
    quantization = table.get("quantization")
    scale = None if quantization is None else quantization.get("scale")
    zero_point = None if quantization is None else quantization.get("zero_point")
    ranged = quantization is not None and any(key in quantization and len(quantization.get(key)) for key in ("min", "max"))
    return Tensor(
        index,
        table.get("name") or "",
        table.sizes("shape"),
        table.sizes("shape_signature"),
        _member(table, "type"),
        table.number("buffer"),
        scale if scale is not None and len(scale) else None,
        zero_point if zero_point is not None and len(zero_point) else None,
        0 if quantization is None else quantization.number("quantized_dimension"),
        ranged,
        "" if quantization is None else _union_name(quantization, "details", identifier),
        bool(table.get("is_variable")),
        "sparsity" in table,
    )


def _operator(index: int, table: WireTable, codes: Sequence[WireTable]) -> Operator:
    number = table.number("opcode_index")
    if number >= len(codes):
        table.file.fail(f"damaged, there is no operator code {number}")
    code = codes[number]
    old, new = code.number("deprecated_builtin_code"), code.number("builtin_code")
    builtin = min(old, new) if min(old, new) < 0 else max(old, new)
    op = NAMES["BuiltinOperator"].get(builtin, f"BuiltinOperator {builtin}")
    options: dict[str, Any] = _options(table, "builtin_options") or _options(table, "builtin_options_2")
    if op == "CUSTOM":
        data = table.get("custom_options")
        options = {} if data is None or not len(data) else {"custom_options": data.tobytes()}
    return Operator(
        index, op, (code.get("custom_code") or "") if op == "CUSTOM" else "", code.number("version"), tuple(table.numbers("inputs")),
        tuple(table.numbers("outputs")), options, tuple(table.numbers("intermediates")),
    )  # fmt: skip


def _union_name(table: WireTable, key: str, identifier: str = "CIR0") -> str:
    """Which member of a union the field holds; empty if none."""
    slot, kind, _ = TABLES[table.name][key]
    at = table.place(slot - 1)
    number = 0 if at is None else int(table.file.number("ubyte", at))
    if kind == "QuantizationDetails" and identifier == "TFL3" and number == 2:
        return "BlockwiseQuantization"  # LiteRT's number for it, see schema/README.md
    return "" if number == 0 else NAMES[kind].get(number, f"{kind} {number}")


def _options(table: WireTable, key: str) -> dict[str, Any]:
    name = _union_name(table, key)
    if name not in UNIONS[TABLES["Operator"][key].type]:
        return {"options": name} if name else {}
    union = table.union(TABLES["Operator"][key].slot, TABLES["Operator"][key].type)
    return {} if union is None else _set_fields(union[1])


def _set_fields(options: WireTable) -> dict[str, Any]:
    """The options that differ from their defaults; tables within them as mappings."""
    attrs: dict[str, Any] = {}
    for key, (_, kind, default) in TABLES[options.name].items():
        if key not in options:
            continue
        if kind in ENUMS:
            value: Any = _member(options, key)
        elif kind in UNIONS:
            value = _union_name(options, key)
        else:
            value = options.get(key)
        if kind in ("[ubyte]", "string"):
            attrs[key] = value.tobytes() if kind == "[ubyte]" else value
        elif isinstance(value, list):
            attrs[key] = tuple(_set_fields(item) for item in value)
        elif isinstance(value, WireTable):
            attrs[key] = _set_fields(value)
        elif kind.startswith("["):
            attrs[key] = tuple(value.tolist())
        elif default is None or options.number(key) != default:
            attrs[key] = value
    return attrs


def _member(table: WireTable, key: str) -> str:
    """The name of an enum's member, or its number where the schema has none."""
    kind, number = TABLES[table.name][key].type, int(table.number(key))
    return NAMES[kind].get(number, f"{kind} {number}")


def _constant(data: Array, kind: Type) -> Constant:
    if kind.dtype is DType.INT4:
        return Constant(lambda: of_nibbles(data, kind.size).reshape(kind.shape))
    return Constant.of(data.view(kind.dtype.numpy.newbyteorder("<")).reshape(kind.shape))
