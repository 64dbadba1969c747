"""Files whose parts are shared, repeated or chained as no exporter does it, so that a look at them takes far more than their size.

Each is a function of a number, to which the size of its file is proportional: time and memory must be, too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch2circle.format.facts import ENUMS
from torch2circle.format.packer import Packer

Tables = dict[str, Any]


@dataclass(frozen=True)
class Repeated:
    """A vector of ``count`` references to one table."""

    table: Tables
    count: int

    def __len__(self) -> int:
        return self.count


class _Sharing(Packer):
    def _vector(self, kind: str, values: Any) -> int:
        if not isinstance(values, Repeated):
            return super()._vector(kind, values)
        position = self._align(8, 4)
        self.out += struct.pack("<I", values.count) + bytes(4 * values.count)
        table = self.table(kind, values.table)
        for at in range(position + 4, position + 4 + 4 * values.count, 4):
            struct.pack_into("<I", self.out, at, table - at)
        return position


X: Tables = {"shape": [2], "type": "FLOAT32", "name": "x"}
CUSTOM: Tables = {"builtin_code": "CUSTOM", "deprecated_builtin_code": 32}
RELU: Tables = {"opcode_index": 0, "inputs": [0], "outputs": [1]}


def packed(op: str = "RELU", *, buffers: Any = ({},), more: Mapping[str, Any] = MappingProxyType({}), **subgraph: Any) -> bytes:
    """A model of one subgraph, with tensors x and y unless others are given."""
    main = {"tensors": [X, {**X, "name": "y"}], "inputs": [0], "outputs": [1], "operators": [RELU], "name": "main"} | subgraph
    code = {"builtin_code": op, "deprecated_builtin_code": min(127, ENUMS["BuiltinOperator"][op])}
    return _Sharing().finish({"version": 3, "operator_codes": [code], "subgraphs": [main], "buffers": buffers, **more}, "TFL3")


def _chain(n: int, **extra: Any) -> Tables:
    """``n`` operators one behind the other."""
    return {
        "tensors": [{**X, "name": f"t{i}", **extra} for i in range(n + 1)],
        "operators": [{**RELU, "inputs": [i], "outputs": [i + 1]} for i in range(n)],
        "outputs": [n],
    }


def _signature(key: str, inputs: Any = ({"name": "x", "tensor_index": 0},)) -> Tables:
    return {"signature_key": key, "subgraph_index": 0, "inputs": inputs, "outputs": [{"name": "y", "tensor_index": 1}]}


LONG = {**X, "name": "n"}
BOMBS: dict[str, Callable[[int], bytes]] = {
    "tensors": lambda n: packed(tensors=Repeated(X, n)),
    "named tensors": lambda n: packed(tensors=Repeated({**X, "name": "n" * 2 * n}, n)),
    "quantized tensors": lambda n: packed(tensors=Repeated({**X, "quantization": {"scale": [1.0] * n, "zero_point": list(range(n))}}, n)),
    "operators": lambda n: packed(operators=Repeated(RELU, n)),
    "operators of many operands": lambda n: packed(operators=Repeated({**RELU, "inputs": [0] * n, "outputs": [1] * n}, n)),
    "a long name read often": lambda n: packed(tensors=[{**X, "name": "n" * n}, X], operators=[{**RELU, "inputs": [0] * n}]),
    "a long name read by many": lambda n: packed(tensors=[{**X, "name": "n" * n}, X], operators=Repeated(RELU, n)),
    "many scales read by many": lambda n: packed(
        "CONV_2D",
        tensors=[
            {"shape": [1, 1, 1, 1], "type": "INT8", "name": "x", "quantization": {"scale": [1.0], "zero_point": [0]}},
            {"shape": [n, 1, 1, 1], "type": "INT8", "name": "w", "quantization": {"scale": [1.0] * n, "zero_point": [0] * n}},
        ],
        operators=Repeated({**RELU, "inputs": [0, 1, -1], "outputs": [0]}, n),
    ),
    "many axes read by many": lambda n: packed(
        "MEAN",
        tensors=[{**X, "shape": [1, 1, 1, 1]}, X, {"shape": [n], "type": "INT32", "name": "axes", "buffer": 1}],
        buffers=[{}, {"data": bytes(4 * n)}],
        operators=Repeated({**RELU, "inputs": [0, 2]}, n),
    ),
    "a shape read by many": lambda n: packed(
        "RESHAPE",
        tensors=[X, {**X, "shape_signature": [-1]}, {"shape": [n], "type": "INT32", "name": "shape", "buffer": 1}],
        buffers=[{}, {"data": bytes(4 * n)}],
        operators=Repeated({**RELU, "inputs": [0, 2]}, n),
    ),
    "options": lambda n: packed("RESHAPE", operators=Repeated({**RELU, "builtin_options": ("ReshapeOptions", {"new_shape": [7] * n})}, n)),
    "custom options": lambda n: packed("CUSTOM", operators=Repeated({**RELU, "custom_options": bytes(8 * n)}, n)),
    "inputs": lambda n: packed(inputs=[0] * n),
    "inputs that are read": lambda n: packed(inputs=list(range(n)), tensors=[{**X, "name": f"t{i}"} for i in range(n)]),
    "outputs": lambda n: packed(outputs=[1] * n),
    "inputs and tensors": lambda n: packed(inputs=[0] * n, tensors=Repeated(X, n)),
    "dimensions": lambda n: packed(tensors=[{**X, "shape": [2**31 - 1] * n}, X]),
    "chain": lambda n: packed(**_chain(n)),
    "chain without names": lambda n: packed(**_chain(n, name="")),
    "chain of one name": lambda n: packed(**_chain(n, name="x")),
    "buffers": lambda n: packed(buffers=Repeated({}, n)),
    "buffers of one vector": lambda n: packed(buffers=Repeated({"data": bytes(4 * n)}, n)),
    "tensors of one buffer": lambda n: packed(
        tensors=Repeated({**X, "shape": [n], "buffer": 1}, n), buffers=[{}, {"data": bytes(4 * n)}]
    ),
    "metadata": lambda n: packed(more={"metadata": Repeated({"name": "m" * n, "buffer": 0}, n)}),
    "metadata of one buffer": lambda n: packed(
        buffers=[{"data": b"[" * n}], more={"metadata": [{"name": f"m{i}", "buffer": 0} for i in range(n)]}
    ),
    "deep metadata": lambda n: packed(buffers=[{"data": b"[" * n}], more={"metadata": [{"name": "torch2circle", "buffer": 0}]}),
    "signatures": lambda n: packed(more={"signature_defs": Repeated(_signature("s"), n)}),
    "signatures of one chain": lambda n: packed(**_chain(n), more={"signature_defs": [_signature(f"s{i}") for i in range(n)]}),
    "signatures of many inputs": lambda n: packed(
        inputs=[0] * n, more={"signature_defs": [_signature(f"s{i}", Repeated({"name": "x", "tensor_index": 0}, n)) for i in range(n)]}
    ),
    "subgraphs": lambda n: _subgraphs(n, 1),
    "subgraphs of subgraphs": lambda n: _subgraphs(n, n),
    "codes": lambda n: packed(more={"operator_codes": Repeated({"builtin_code": "CUSTOM", "custom_code": "c" * n}, n)}),
    "a long custom code": lambda n: packed(operators=Repeated(RELU, n), more={"operator_codes": [{**CUSTOM, "custom_code": "c" * n}]}),
}


def _subgraphs(n: int, each: int) -> bytes:
    one = {"tensors": Repeated(X, each), "inputs": [0], "outputs": [0], "operators": Repeated({**RELU, "outputs": [0]}, each), "name": "s"}
    return packed(more={"subgraphs": Repeated(one, n)})
