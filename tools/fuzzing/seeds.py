"""The files that fuzzing begins with: ``PYTHONPATH=src:tools:tests:examples python -m fuzzing.seeds tests/corpus``.

The smallest of the tests' exports that together have all operators, element types and other things that exports have; and made ones with
what only others write: every option of every operator, graphs that call graphs, sparse tensors, data behind the flatbuffer.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from torch2circle.errors import UserError
from torch2circle.format import Survey, survey
from torch2circle.format.facts import ENUMS, TABLES, UNIONS

from .bombs import RELU, X, packed

MOST = 16_000
"""Bytes of an export; fuzzing wants many executions."""


def exports() -> Iterator[tuple[str, bytes]]:
    """The tests' cases in both formats."""
    import torch

    import torch2circle
    from torch2circle.format import to_bytes

    for case in import_module("cases").CASES:
        torch.backends.quantized.engine = "fbgemm"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, args = case.make()
            exported = torch2circle.export(model, args, **case.options)
        for target, identifier, suffix in (("onert", "CIR0", "circle"), ("litert", "TFL3", "tflite")):
            try:
                data = to_bytes(exported.for_target(target), identifier=identifier)
            except UserError:
                continue
            if len(data) < MOST:
                yield f"{case.id}.{suffix}", data


def has(whole: Survey) -> set[str]:
    """What one file may have and another may not."""
    found = {whole.identifier, *(operator.label for _, operator in whole.operators())}
    for subgraph in whole.subgraphs:
        for tensor in subgraph.tensors:
            found |= {tensor.kind, f"variable {tensor.variable}", f"open {bool(tensor.opens)}"}
            found.add(f"scales {whole.identifier} {tensor.scale is not None and len(tensor.scale) > 1}")
    return found


def covering(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Few small ones that have all that any has: always the one next that brings most for its size."""
    known = {name: has(survey(data)) for name, data in files.items()}
    left, chosen = set[str]().union(*known.values()), dict[str, bytes]()
    while left:
        name = max(sorted(files), key=lambda name: len(known[name] & left) / (len(files[name]) + 300))
        chosen[name] = files[name]
        left -= known[name]
    return chosen


def filled(table: str) -> dict[str, Any]:
    """A table of options with something in each field."""
    made: dict[str, Any] = {}
    for key, (_, kind, _default) in TABLES[table].items():
        inner = kind.strip("[]")
        if kind in UNIONS:
            continue
        value: Any = filled(inner) if inner in TABLES else list(ENUMS[inner])[-1] if inner in ENUMS else 1
        if inner in ENUMS and kind != inner:
            value = ENUMS[inner][value]
        made[key] = "text" if kind == "string" else value if kind == inner else [value] * 2
    return made


def made() -> Iterator[tuple[str, bytes]]:
    for union, suffix in (("BuiltinOptions", ""), ("BuiltinOptions2", "_2")):
        members = sorted(name for name in UNIONS[union] if name in TABLES)
        for start in range(0, len(members), 20):
            operators = [{**RELU, f"builtin_options{suffix}": (name, filled(name))} for name in members[start : start + 20]]
            yield f"made.options{suffix}.{start}.circle", _circle(packed(operators=operators))
    custom = {"builtin_code": "CUSTOM", "deprecated_builtin_code": 32, "custom_code": "mylib::op"}
    yield "made.custom.tflite", packed(operators=[{**RELU, "custom_options": b"\1\2\3"}], more={"operator_codes": [custom]})
    yield "made.calls.tflite", _calls()
    sparse = {"traversal_order": [0], "block_map": [0], "dim_metadata": [{"format": "SPARSE_CSR", "dense_size": 2,
              "array_segments": ("Int32Vector", {"values": [0, 1]}), "array_indices": ("Uint8Vector", {"values": [0]})}]}  # fmt: skip
    yield "made.sparse.tflite", packed(tensors=[{**X, "sparsity": sparse}, {**X, "name": "y", "is_variable": True}])
    blockwise = ("MXQuantization", {}) if "MXQuantization" in TABLES else ("CustomQuantization", {"custom": b"abc"})
    yield "made.details.circle", _circle(packed(tensors=[{**X, "quantization": {"scale": [1.0], "details": blockwise}}, X]))
    ranged = {"min": [0.0], "max": [1.0], "scale": [0.5], "zero_point": [3], "quantized_dimension": 0}
    yield "made.ranges.tflite", packed(tensors=[{**X, "type": "UINT8", "quantization": ranged}] * 2)
    yield "made.behind.tflite", _behind()
    ends = {"inputs": [{"name": "a", "tensor_index": 0}], "outputs": [{"name": "b", "tensor_index": 1}]}
    signatures = [{"signature_key": key, "subgraph_index": 0, **ends} for key in ("s", "t")]
    about = [{"name": "torch2circle", "buffer": 1}, {"name": "min_runtime_version", "buffer": 1}]
    yield "made.signatures.tflite", packed(
        buffers=[{}, {"data": b'{"target": "onert"}'}], more={"signature_defs": signatures, "metadata": about}
    )
    yield "made.names.tflite", packed(tensors=[{**X, "name": "\x1b[31m<script>[red]\n"}, {**X, "name": "\u202e\x9b\"'&"}], name="a\0b")


    entry = {"dtype": "uint8", "scale": "0.npy", "zerop": "1.npy", "quantized_dimension": 0}
    yield "made.qparam.json", json.dumps({"y": entry, "z": {**entry, "value": "1.npy"}}).encode()
    numbers = io.BytesIO()
    np.save(numbers, np.array([3], np.int64))
    yield "made.zero_point.npy", numbers.getvalue()


def _circle(data: bytes) -> bytes:
    return data[:4] + b"CIR0" + data[8:]


def _calls() -> bytes:
    branch = {"tensors": [X, {**X, "name": "y"}], "inputs": [0], "outputs": [1], "operators": [RELU], "name": "branch"}
    flag = {"shape": [], "type": "BOOL", "name": "flag"}
    either = ("IfOptions", {"then_subgraph_index": 1, "else_subgraph_index": 2})
    again = ("WhileOptions", {"cond_subgraph_index": 1, "body_subgraph_index": 2})
    call = {"opcode_index": 1, "inputs": [2, 0], "outputs": [1], "builtin_options": either}
    loop = {"opcode_index": 2, "inputs": [0], "outputs": [3], "builtin_options": again}
    tensors = [X, {**X, "name": "y"}, flag, {**X, "name": "z"}]
    top = {"tensors": tensors, "inputs": [0, 2], "outputs": [1, 3], "operators": [call, loop], "name": "main"}
    codes = [{"builtin_code": op, "deprecated_builtin_code": ENUMS["BuiltinOperator"][op]} for op in ("RELU", "IF", "WHILE")]
    return packed(more={"subgraphs": [top, branch, {**branch, "name": "other"}], "operator_codes": codes})


def _behind() -> bytes:
    """A constant at an offset of the file."""
    add = {"opcode_index": 0, "inputs": [0, 2], "outputs": [1]}
    tensors = [X, {**X, "name": "y"}, {**X, "name": "k", "buffer": 1}]
    size = len(packed("ADD", tensors=tensors, operators=[add], buffers=[{}, {"offset": 4096, "size": 8}]))
    at = -(-size // 16) * 16
    data = packed("ADD", tensors=tensors, operators=[add], buffers=[{}, {"offset": at, "size": 8}])
    return data.ljust(at, b"\0") + struct.pack("<2f", 1, 2)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name, data in (covering(dict(exports())) | dict(made())).items():
        (folder / name).write_bytes(data)
