"""Files: written and read back, seen by the official bindings, run by the runtimes, damaged."""

from __future__ import annotations

import errno
import importlib
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torch2circle.errors import Bug, FormatError, WriteError
from torch2circle.format import Contents, read, save, to_bytes
from torch2circle.format.packer import Packer
from torch2circle.ir import Array, Constant, DType, Graph, Node, Quant, Type, Value

FORMATS = ["CIR0", "TFL3"]
BINDINGS = {"CIR0": "circle_schema.v0_10.circle", "TFL3": "tflite"}
F32, I8, I32 = DType.FLOAT32, DType.INT8, DType.INT32


def constant(array: Array, name: str, quant: Quant | None = None) -> Value:
    return Value(Type(array.shape, DType.of(array), quant), name, data=Constant.of(array))


def graph_of(node: Node, *inputs: Value) -> Graph:
    return Graph(inputs, node.outputs, tuple(f"in_{v.name}" for v in inputs), tuple(f"out_{v.name}" for v in node.outputs))


def convolution() -> Graph:
    rng = np.random.default_rng(0)
    x = Value(Type((1, 5, 6, 2), F32), "x")
    weight = constant(rng.normal(size=(3, 3, 3, 2)).astype(np.float32), "weight")
    bias = constant(rng.normal(size=3).astype(np.float32), "bias")
    options = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "fused_activation_function": "RELU"}
    return graph_of(Node.make("CONV_2D", [x, weight, bias], [Value(Type((1, 2, 2, 3), F32), "y")], options), x)


def quantized_convolution() -> Graph:
    x = Value(Type((1, 4, 4, 2), I8, Quant.per_tensor(0.5, -3)), "x")
    per_channel = Quant(np.array([0.1, 0.2, 0.3], np.float32), np.zeros(3, np.int64), axis=0)
    weight = constant(np.ones((3, 1, 1, 2), np.int8), "weight", per_channel)
    bias = constant(np.zeros(3, np.int32), "bias", Quant(per_channel.scale / 2, per_channel.zero_point, axis=0))
    out = Value(Type((1, 4, 4, 3), I8, Quant.per_tensor(0.25, 7)), "y")
    return graph_of(Node.make("CONV_2D", [x, weight, bias], [out], {"padding": "VALID", "stride_w": 1, "stride_h": 1}), x)


def addition(*constants: Value) -> Graph:
    """x plus each of ``constants``."""
    x = last = Value(Type((2, 3), F32), "x")
    for i, value in enumerate(constants):
        last = Node.make("ADD", [last, value], [Value(x.type, f"sum{i}")]).out
    return Graph((x,), (last,), ("x",), ("y",))


def many_constants(count: int, make: Callable[[int], Array], shape: tuple[int, ...]) -> Graph:
    x = last = Value(Type(shape, F32), "x")
    for i in range(count):
        value = Value(x.type, f"c{i}", data=Constant(lambda i=i: make(i)))  # type: ignore[misc]
        last = Node.make("ADD", [last, value], [Value(x.type, f"sum{i}")]).out
    return Graph((x,), (last,), ("x",), ("y",))


def assert_same(ours: Graph, theirs: Graph) -> None:
    assert str(ours) == str(theirs)
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        assert a.type == b.type
        assert (a.data is None) == (b.data is None)
        if a.data is not None:
            np.testing.assert_array_equal(a.array(), b.array(), strict=True)


def official(data: bytes, identifier: str) -> Any:
    module = pytest.importorskip(BINDINGS[identifier], reason="the official bindings are not installed")
    model = importlib.import_module(f"{module.__name__}.Model").Model
    assert model.ModelBufferHasIdentifier(data, 0)
    return model.GetRootAs(data)


# Round trips.


@pytest.mark.parametrize("identifier", FORMATS)
@pytest.mark.parametrize("graph", [convolution(), quantized_convolution()], ids=["float", "int8"])
def test_round_trip(graph: Graph, identifier: str) -> None:
    metadata = {"about": b"{}", "more": bytes(range(99))}
    data = to_bytes(graph, identifier=identifier, metadata=metadata)
    contents = read(data)
    assert_same(graph, contents.graph)
    assert contents == Contents(contents.graphs, identifier, {"CIR0": 0, "TFL3": 3}[identifier], metadata, "torch2circle")
    assert to_bytes(contents.graph, identifier=identifier, metadata=metadata) == data


UNARY = {"RELU": {}, "TANH": {}, "LOGISTIC": {}, "SOFTMAX": {"beta": 0.5}, "HARD_SWISH": {}}
BINARY = {
    "ADD": {"fused_activation_function": "RELU6"},
    "MUL": {},
    "MAXIMUM": {},
    "CONCATENATION": {"axis": 1},
    "SUB": {"pot_scale_int16": False},
}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any wiring of a few operators; formats do not care about shapes that make no sense."""
    shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
    scales = st.floats(2.0**-9, 2.0, width=32)
    quants = st.none() | st.builds(Quant.per_tensor, scales, st.integers(-128, 127))
    dtypes = st.sampled_from([F32, I8, I32, DType.INT64, DType.BOOL, DType.FLOAT16, DType.UINT8, DType.INT16])
    types = st.builds(Type, shapes, dtypes, quants)

    def fresh(name: str) -> Value:
        kind: Type = draw(types)
        if draw(st.booleans()):
            return Value(kind, name)
        content = draw(st.binary(min_size=kind.size, max_size=kind.size))
        return constant(np.frombuffer(content, np.uint8).astype(kind.dtype.numpy).reshape(kind.shape), name, kind.quant)

    values = [fresh(f"v{i}") for i in range(draw(st.integers(1, 4)))]
    for i in range(draw(st.integers(0, 5))):
        arity, table = draw(st.sampled_from([(1, UNARY), (2, BINARY)]))
        op = draw(st.sampled_from(sorted(table)))
        operands = [draw(st.sampled_from(values)) for _ in range(arity)]
        values.append(Node.make(op, operands, [Value(draw(types), f"n{i}")], table[op]).out)
    outputs = tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=4)))
    inputs = tuple(v for v in values if v.node is None and v.data is None)
    return Graph(inputs, outputs, tuple(f"i{n}" for n in range(len(inputs))), tuple(f"o{n}" for n in range(len(outputs))))


@settings(max_examples=150, deadline=None)
@given(graphs(), st.sampled_from(FORMATS))
def test_any_graph_round_trips(graph: Graph, identifier: str) -> None:
    data = to_bytes(graph, identifier=identifier)
    back = read(data).graph
    assert_same(graph, back)
    assert to_bytes(back, identifier=identifier) == data


def test_defaults_and_missing_inputs() -> None:
    x = Value(Type((2, 3), F32), "x")
    weight = constant(np.ones((4, 3), np.float32), "w")
    options = {"keep_num_dims": True, "fused_activation_function": "NONE", "weights_format": "DEFAULT"}
    node = Node.make("FULLY_CONNECTED", [x, weight, None], [Value(Type((2, 4), F32), "y")], options)
    (back,) = read(to_bytes(graph_of(node, x), identifier="CIR0")).graph.nodes()
    assert back.attrs == {"keep_num_dims": True}
    assert back.inputs[2] is None


def test_vector_option() -> None:
    x = Value(Type((2, 3), F32), "x")
    node = Node.make("RESHAPE", [x, constant(np.array([6], np.int32), "shape")], [Value(Type((6,), F32), "y")], {"new_shape": [6]})
    (back,) = read(to_bytes(graph_of(node, x), identifier="CIR0")).graph.nodes()
    assert back.attrs == {"new_shape": (6,)}


def test_quantized_dimension_need_not_be_the_first() -> None:
    quant = Quant(np.array([0.5, 0.25, 2], np.float32), np.array([0, 3, -4], np.int64), axis=1)
    x = Value(Type((2, 3), I8, quant), "x")
    graph = graph_of(Node.make("TANH", [x], [Value(x.type, "y")]), x)
    assert read(to_bytes(graph, identifier="CIR0")).graph.inputs[0].type == x.type


def test_names_are_made_unique() -> None:
    same = [constant(np.full((2, 3), i, np.float32), name) for i, name in enumerate(["c", "c_1", "c", "", ""])]
    names = [value.name for value in read(to_bytes(addition(*same), identifier="TFL3")).graph.values()]
    assert sorted(names) == sorted(["x", "c", "c_1", "c_2", "value", "value_1", "sum0", "sum1", "sum2", "sum3", "sum4"])


@pytest.mark.parametrize("identifier", FORMATS)
def test_boundary_values(identifier: str) -> None:
    """An unused input, one that is an output too, an output given twice, a constant as output."""
    x, unused = Value(Type((2, 3), F32), "x"), Value(Type((1,), I32), "unused")
    fixed = constant(np.ones((2, 3), np.float32), "fixed")
    total = Node.make("ADD", [x, x], [Value(x.type, "sum")]).out
    graph = Graph((x, unused), (total, x, total, fixed), ("a", "b"), ("p", "q", "r", "s"))
    assert_same(graph, read(to_bytes(graph, identifier=identifier)).graph)


@pytest.mark.parametrize("identifier", FORMATS)
def test_bytes_do_not_depend_on_the_hash_seed(identifier: str) -> None:
    script = f"""
import hashlib, test_format
for graph in (test_format.convolution(), test_format.quantized_convolution()):
    print(hashlib.sha256(test_format.to_bytes(graph, identifier={identifier!r})).hexdigest())
"""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}, capture_output=True, check=True
        )
        for seed in "01"
    ]
    assert runs[0].stdout == runs[1].stdout != b""


# The bytes.


@pytest.mark.parametrize("identifier", FORMATS)
def test_official_bindings_read_it(identifier: str) -> None:
    graph = quantized_convolution()
    model = official(to_bytes(graph, identifier=identifier, metadata={"about": b"xyz"}), identifier)
    subgraph, code = model.Subgraphs(0), model.OperatorCodes(0)
    assert (model.SubgraphsLength(), subgraph.Name(), subgraph.TensorsLength()) == (1, b"main", 4)
    assert (code.DeprecatedBuiltinCode(), code.BuiltinCode(), code.Version()) == (3, 3, 3)
    weight = subgraph.Tensors(1)
    quantization = weight.Quantization()
    assert (weight.Name(), weight.Type(), weight.HasRank()) == (b"weight", 9, True)
    assert weight.ShapeAsNumpy().tolist() == [3, 1, 1, 2]
    np.testing.assert_array_equal(quantization.ScaleAsNumpy(), np.array([0.1, 0.2, 0.3], np.float32))
    assert quantization.ZeroPointAsNumpy().tolist() == [0, 0, 0]
    assert quantization.QuantizedDimension() == 0
    assert model.Buffers(weight.Buffer()).DataAsNumpy().tolist() == [1] * 6
    assert model.Buffers(0).DataIsNone()
    assert [subgraph.Tensors(i).Buffer() for i in (0, 3)] == [0, 0]
    assert model.Buffers(model.Metadata(0).Buffer()).DataAsNumpy().tobytes() == b"xyz"
    signature = model.SignatureDefs(0)
    assert (signature.SignatureKey(), signature.Inputs(0).Name(), signature.Outputs(0).Name()) == (b"serving_default", b"in_x", b"out_y")


def test_reads_what_the_official_bindings_write() -> None:
    """They lay a file out otherwise: data inside of the flatbuffer, other alignment."""
    module = pytest.importorskip("circle_schema.v0_10.circle.Model", reason="the official bindings are not installed")
    flatbuffers = pytest.importorskip("flatbuffers")
    graph = quantized_convolution()
    model = module.ModelT.InitFromPackedBuf(to_bytes(graph, identifier="CIR0"))
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"CIR0")
    assert_same(graph, read(bytes(builder.Output())).graph)


def test_both_operator_codes_are_present_also_when_zero() -> None:
    """ADD is 0, a default that is usually left out."""
    model = official(to_bytes(addition(constant(np.ones((2, 3), np.float32), "c")), identifier="CIR0"), "CIR0")
    code = model.OperatorCodes(0)._tab
    assert all(code.Offset(4 + 2 * slot) for slot in (0, 3))


@pytest.mark.parametrize("identifier", FORMATS)
def test_equal_constants_are_stored_once(identifier: str) -> None:
    ones, twos = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    once = to_bytes(addition(constant(ones, "a"), constant(twos, "b")), identifier=identifier)
    data = to_bytes(
        addition(constant(ones, "a"), constant(twos, "b"), constant(ones.copy(), "c"), constant(twos.copy(), "d")), identifier=identifier
    )
    assert data.count(ones.tobytes()) == data.count(twos.tobytes()) == 1
    assert once.count(twos.tobytes()) == 1
    assert data.endswith(twos.tobytes())
    constants = [value for value in read(data).graph.values() if value.data]
    assert [value.name for value in constants] == ["a", "b", "c", "d"]
    assert [value.array()[0, 0] for value in constants] == [1, 2, 1, 2]


@pytest.mark.parametrize("identifier", FORMATS)
def test_data_is_aligned(identifier: str) -> None:
    graph = addition(*(constant(np.full((2, 3), i + 7, np.float32), f"c{i}") for i in range(9)))
    data = to_bytes(graph, identifier=identifier, metadata={"odd": b"x" * 13})
    model = official(data, identifier)
    starts = [model.Buffers(i)._tab.Vector(model.Buffers(i)._tab.Offset(4)) for i in range(1, model.BuffersLength())]
    assert len(starts) == 10
    assert all(start % 16 == 0 for start in starts)


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    size = 4 << 20
    shape = (size // 4,)
    graph = many_constants(20, lambda i: np.full(shape, i, np.float32), shape)
    tracemalloc.start()
    try:
        written = save(graph, tmp_path / "big.circle", identifier="CIR0")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written == (tmp_path / "big.circle").stat().st_size > 20 * size
    assert peak < 3.5 * size  # one is written and two are made


# What must not be written.


def test_unknown_option_lists_the_right_ones() -> None:
    x = Value(Type((2, 3), F32), "x")
    graph = graph_of(Node.make("SOFTMAX", [x], [Value(x.type, "y")], {"axis": 1}), x)
    with pytest.raises(Bug, match="SOFTMAX has no option axis, only: beta"):
        to_bytes(graph, identifier="CIR0")


@pytest.mark.parametrize("attrs", [{"padding": "FULL"}, {"stride_w": 1.5}, {"stride_w": 2**40}, {"stride_w": "two"}])
def test_option_of_a_wrong_type(attrs: dict[str, Any]) -> None:
    x = Value(Type((1, 2, 2, 1), F32), "x")
    graph = graph_of(Node.make("MAX_POOL_2D", [x], [Value(x.type, "y")], attrs), x)
    with pytest.raises(Bug, match=f"Pool2DOptions.{next(iter(attrs))}"):
        to_bytes(graph, identifier="CIR0")


def test_operator_that_is_not_in_the_table() -> None:
    x = Value(Type((2,), F32), "x")
    with pytest.raises(Bug, match="not in the operator table: COSINE"):
        to_bytes(graph_of(Node.make("COSINE", [x], [Value(x.type, "y")]), x), identifier="CIR0")


@pytest.mark.parametrize("array", [np.ones((3, 2), np.float32), np.ones((2, 3), np.float64)])
def test_constant_unlike_its_type(array: Array) -> None:
    wrong = Value(Type((2, 3), F32), "weight", data=Constant.of(array))
    with pytest.raises(Bug, match="constant weight is "):
        to_bytes(addition(wrong), identifier="CIR0")


# Saving.


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("old", [b"old", None])
def test_failure_midway_leaves_the_old_file(tmp_path: Path, failure: type[BaseException], old: bytes | None) -> None:
    def make(i: int) -> Array:
        if i == 2:
            raise failure
        return np.full((1000,), i, np.float32)

    target = tmp_path / "model.circle"
    if old is not None:
        target.write_bytes(old)
    with pytest.raises(failure):
        save(many_constants(4, make, (1000,)), target, identifier="CIR0")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left") as caught:
        save(convolution(), tmp_path / "model.circle", identifier="CIR0")
    assert "free some space" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file or directory") as caught:
        save(convolution(), tmp_path / "no" / "model.circle", identifier="CIR0")
    assert "create the folder first" in str(caught.value)


def test_target_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.circle").mkdir()
    with pytest.raises(WriteError):
        save(convolution(), tmp_path / "model.circle", identifier="CIR0")
    assert [path.name for path in tmp_path.iterdir()] == ["model.circle"]


def test_save_replaces_and_read_maps(tmp_path: Path) -> None:
    target = tmp_path / "model.tflite"
    target.write_bytes(b"old")
    size = save(convolution(), target, identifier="TFL3")
    assert target.read_bytes() == to_bytes(convolution(), identifier="TFL3")
    assert size == target.stat().st_size
    for source in (target, str(target)):
        assert_same(convolution(), read(source).graph)
    # The mapped constants outlive the file.
    graph = read(target).graph
    save(addition(), target, identifier="TFL3")
    assert_same(convolution(), graph)


# Reading what others wrote, or nobody.


def packed(operators: list[dict[str, Any]], codes: list[dict[str, Any]], tensors: list[dict[str, Any]] | None = None, **more: Any) -> bytes:
    """A model with tensors 0 (input) and 1 (output), laid out by the packer alone."""
    plain = {"shape": [2], "type": "FLOAT32"}
    subgraph = {"tensors": tensors or [plain | {"name": "x"}, plain | {"name": "y"}], "inputs": [0], "outputs": [1], "operators": operators}
    model = {"version": 3, "operator_codes": codes, "subgraphs": [subgraph], "buffers": [{}]} | more
    return Packer().finish(model, "TFL3")


STEP = {"inputs": [0], "outputs": [1]}


@pytest.mark.parametrize(
    ("code", "options", "op", "attrs"),
    [
        ({"deprecated_builtin_code": 98, "builtin_code": "LEAKY_RELU"}, ("LeakyReluOptions", {"alpha": 0.5}), "LEAKY_RELU", {"alpha": 0.5}),
        ({"deprecated_builtin_code": 98, "builtin_code": "ADD"}, None, "LEAKY_RELU", {}),
        ({"deprecated_builtin_code": 127, "builtin_code": "GELU"}, ("GeluOptions", {"approximate": True}), "GELU", {"approximate": True}),
        ({"deprecated_builtin_code": -6, "builtin_code": "RMS_NORM"}, ("RmsNormOptions", {"epsilon": 0.25}), "RMS_NORM", {"epsilon": 0.25}),
    ],
)
def test_operators_that_are_never_written(code: dict[str, Any], options: Any, op: str, attrs: dict[str, Any]) -> None:
    data = packed([STEP | ({"builtin_options": options} if options else {})], [code])
    (node,) = read(data).graph.nodes()
    assert (node.op, node.attrs) == (op, attrs)


def test_custom_operator_and_newer_options() -> None:
    codes = [{"builtin_code": "CUSTOM", "custom_code": "Mine"}]
    (node,) = read(packed([STEP | {"custom_options": b"abc"}], codes)).graph.nodes()
    assert (node.op, node.attrs) == ("CUSTOM", {"custom_code": "Mine", "custom_options": b"abc"})
    later = STEP | {"builtin_options_2": ("StablehloTransposeOptions", {"permutation": [0]})}
    (node,) = read(packed([later], [{"builtin_code": "STABLEHLO_TRANSPOSE"}])).graph.nodes()
    assert (node.op, node.attrs) == ("STABLEHLO_TRANSPOSE", {"permutation": (0,)})


def test_no_signature_gives_tensor_names() -> None:
    graph = read(packed([STEP], [{"builtin_code": "RELU"}])).graph
    assert (graph.input_names, graph.output_names) == (("x",), ("y",))


def test_data_outside_of_the_flatbuffer() -> None:
    """TFLite's Buffer.offset and size."""
    numbers = np.array([3, 4], np.float32)

    def model(offset: int) -> bytes:
        plain = {"shape": [2], "type": "FLOAT32"}
        tensors = [plain | {"name": "x"}, plain | {"name": "y"}, plain | {"name": "c", "buffer": 1}]
        buffers = [{}, {"offset": offset, "size": 8}]
        return packed([STEP | {"inputs": [0, 2]}], [{"builtin_code": "ADD"}], tensors, buffers=buffers)

    head = model(99999)
    data = model(len(head)) + numbers.tobytes()
    (node,) = read(data).graph.nodes()
    assert node.inputs[1] is not None
    np.testing.assert_array_equal(node.inputs[1].array(), numbers)
    with pytest.raises(FormatError, match="cut off"):
        read(data[:-1])


CONTRADICTIONS = {
    "there is no tensor 7": packed([STEP | {"inputs": [7]}], [{}]),
    "there is no tensor -2": packed([STEP | {"inputs": [-2]}], [{}]),
    "there is no operator code 3": packed([STEP | {"opcode_index": 3}], [{}]),
    "has no BuiltinOperator -77": packed([STEP], [{"deprecated_builtin_code": -77}]),
    "y is read, but no operator": packed([], []),
    "writes y, which is": packed([STEP, STEP], [{}]),
    "writes x, which is": packed([STEP | {"outputs": [0]}], [{}]),
    "no subgraph": packed([], [], subgraphs=[]),
    "impossible shape": packed([STEP], [{}], [{"shape": [-1], "name": "x"}, {"name": "y"}]),
    "x is FLOAT64": packed([STEP], [{}], [{"type": "FLOAT64", "name": "x"}, {"name": "y"}]),
    "x is sparse": packed([STEP], [{}], [{"sparsity": {}, "name": "x"}, {"name": "y"}]),
    "zero points as scales": packed([STEP], [{}], [{"name": "x", "quantization": {"scale": [1.0]}}, {"name": "y"}]),
    "2 scales for dimension 0": packed(
        [STEP], [{}], [{"name": "x", "shape": [3], "quantization": {"scale": [1.0, 2.0], "zero_point": [0, 0]}}, {"name": "y"}]
    ),
    "not affine": packed([STEP], [{}], [{"name": "x", "quantization": {"details": ("CustomQuantization", {})}}, {"name": "y"}]),
    "there is no buffer 5": packed([], [], [{"name": "x"}, {"name": "y", "buffer": 5}]),
    "neither a Circle nor": b"PK\x03\x04 something else entirely",
    "the file is empty": b"",
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_contradictions(message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(CONTRADICTIONS[message])


def test_data_of_a_wrong_size() -> None:
    data = to_bytes(convolution(), identifier="CIR0")
    shape = np.array([4, 3, 3, 3, 2], "<i4").tobytes()  # with the length word
    patched = data.replace(shape, np.array([4, 3, 3, 3, 1], "<i4").tobytes())
    with pytest.raises(FormatError, match="tensor weight has 216 bytes of data"):
        read(patched)


def test_unreadable_paths(tmp_path: Path) -> None:
    (tmp_path / "empty.circle").touch()
    for path, message in (("missing.circle", "No such file"), (".", "Is a directory"), ("empty.circle", "empty")):
        with pytest.raises(FormatError, match=message):
            read(tmp_path / path)


@pytest.mark.parametrize("identifier", FORMATS)
def test_every_truncation_is_found(identifier: str) -> None:
    data = to_bytes(quantized_convolution(), identifier=identifier, metadata={"m": b"123"})
    for length in range(len(data)):
        with pytest.raises(FormatError):
            read(data[:length])


def test_damage_gives_a_graph_or_a_format_error() -> None:
    whole = to_bytes(quantized_convolution(), identifier="TFL3", metadata={"m": b"123"})
    rng = random.Random(0)
    for _ in range(4000):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(data))
            data[at] = rng.choice([0, 1, 4, 127, 128, 255, rng.randrange(256)])
        try:
            graph = read(bytes(data)).graph
        except FormatError:
            continue
        for value in graph.values():
            assert value.data is None or value.array().shape == value.type.shape


def test_forged_sharing_does_not_take_forever() -> None:
    """Inputs that are all the same tensor, of very many dimensions: time quadratic in the file's size, if nothing stops it."""
    tensor = {"name": "x", "shape": [1] * 32}
    subgraph = {"tensors": [tensor], "inputs": [0] * 50_000, "outputs": [0]}
    with pytest.raises(FormatError, match="too many references"):
        read(packed([], [], subgraphs=[subgraph]))


# The runtimes.


def expected_convolution(graph: Graph, x: Array) -> Array:
    (node,) = graph.nodes()
    weight, bias = (value.array().astype(np.float64) for value in node.inputs[1:] if value)
    out = np.zeros(node.out.type.shape)
    for i, j in np.ndindex(2, 2):
        patch = x[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        out[0, i, j] = np.tensordot(weight, patch, axes=([1, 2, 3], [0, 1, 2])) + bias
    return np.maximum(out, 0)


def every_edge() -> tuple[Graph, Array]:
    """Equal constants, an empty one, an input as output, an output given twice, a constant as output."""
    x = Value(Type((2, 3), F32), "x")
    a, b = (constant(np.arange(6, dtype=np.float32).reshape(2, 3), "k") for _ in range(2))
    total = Node.make("MUL", [Node.make("ADD", [x, a], [Value(x.type, "")]).out, b], [Value(x.type, "k")]).out
    one = Node.make("SLICE", [x, *(constant(np.array(v, np.int32), "") for v in ([0, 0], [1, 1]))], [Value(Type((1, 1), F32), "one")]).out
    scalar = Node.make("RESHAPE", [one, constant(np.zeros(0, np.int32), "shape")], [Value(Type((), F32), "scalar")]).out
    graph = Graph((x,), (total, x, total, a, scalar), ("x",), ("p", "q", "r", "s", "t"))
    return graph, np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


def expected_edge(x: Array) -> list[Array]:
    k = np.arange(6, dtype=np.float32).reshape(2, 3)
    return [(x + k) * k, x, (x + k) * k, k, x[0, 0]]


def run_litert(graph: Graph, x: Array) -> list[Array]:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")
    runner = interpreter.Interpreter(model_content=to_bytes(graph, identifier="TFL3"))
    runner.allocate_tensors()
    results = runner.get_signature_runner()(**{graph.input_names[0]: x})
    return [results[name] for name in graph.output_names]


def run_onert(graph: Graph, x: Array, folder: Path) -> list[Array]:
    """In a process of its own: what onert does not like, it crashes on."""
    pytest.importorskip("onert", reason="onert is not installed")
    save(graph, folder / "model.circle", identifier="CIR0")
    np.save(folder / "x.npy", x)
    script = (
        "import json, numpy as np\nfrom onert import infer\n"
        "out = infer.session('model.circle').infer([np.load('x.npy')])\n"
        "print('RESULT' + json.dumps([np.asarray(o).tolist() for o in out]))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return [np.array(values, np.float32) for values in json.loads(done.stdout.split("RESULT")[1])]


@pytest.mark.parametrize("runtime", ["litert", "onert"])
def test_convolution_runs(runtime: str, tmp_path: Path) -> None:
    graph = convolution()
    x = np.random.default_rng(3).normal(size=graph.inputs[0].type.shape).astype(np.float32)
    (result,) = run_litert(graph, x) if runtime == "litert" else run_onert(graph, x, tmp_path)
    np.testing.assert_allclose(result, expected_convolution(graph, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("runtime", ["litert", "onert"])
def test_every_edge_runs(runtime: str, tmp_path: Path) -> None:
    graph, x = every_edge()
    results = run_litert(graph, x) if runtime == "litert" else run_onert(graph, x, tmp_path)
    for result, expected in zip(results, expected_edge(x), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-6)
