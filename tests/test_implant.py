"""Interchange with q-implant: a quantized model as a float file and a bundle of its integers, and such a pair as a model again."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torch2circle
from cases import FAMILIES
from cases.making import Case, Gate, conv_relu, eager, floating, ints
from torch2circle import cli, runtimes
from torch2circle.arithmetic import dequantized, moved_by_128, quantized
from torch2circle.errors import FormatError, QuantizationError, TargetError, UserError, WriteError
from torch2circle.format import read, save
from torch2circle.implant import Bundle, Entry, implant_qparams, read_bundle
from torch2circle.ir import Array, Constant, DType, Graph, Node, Quant, Type, Value
from torch2circle.quant import array_of
from torch2circle.targets import TARGETS
from torch2circle.verify import recorded

Made = tuple[nn.Module, tuple[Any, ...]]


RUNTIMES: dict[str, runtimes.Runtime] = {".circle": "onert", ".tflite": "litert"}


class Branches(nn.Module):
    """What networks are made of: convolutions of all kinds, an addition, a join of two scales, both pools, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = conv_relu(3, 8, 3, 2), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point, self.grouped = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 3, padding=1, groups=2)
        self.add, self.cat = (torch.ao.nn.quantized.FloatFunctional() for _ in range(2))
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = self.add.add_relu(x, self.depthwise(x))
        x = self.cat.cat([self.point(x), F.max_pool2d(self.grouped(x), 3, 1, 1)], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1)), x


class Pair(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Conv2d(3, 4, 1), nn.Conv2d(2, 4, 1), torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.left(x), self.right(y)
        return self.join.mul(x, y), F.avg_pool2d(y, 2)


class Quantizing(nn.Module):
    """One float tensor in integers twice and in float once, and integers that change their scale."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = torch.sigmoid(x)
        a = torch.quantize_per_tensor(x, 0.0071, 3, torch.quint8)
        b = torch.quantize_per_tensor(x, 0.0113, 7, torch.quint8)
        c = torch.quantize_per_tensor(torch.ops.quantized.add(a, b, 0.0137, 5).dequantize(), 0.0229, 11, torch.quint8)
        return x + torch.relu(c.dequantize() - y)


def branches(engine: str = "fbgemm") -> Made:
    return eager(Branches(), (2, 3, 15, 17), engine=engine)


MODELS: dict[str, Callable[[], Made]] = {
    "per_channel": branches,
    "per_tensor": lambda: branches("qnnpack"),
    "two_inputs": lambda: eager(Pair(), (2, 3, 5, 7), (2, 2, 5, 7)),
    "gate": lambda: eager(Gate(), (2, 5, 7, 3)),
    "hardswish": lambda: eager(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Hardswish()), (2, 3, 8, 7)),
    "int8": lambda: ints(lambda a, b: torch.ops.quantized.cat([a, b], 1, 0.0537, -9), (2, 5, 3), (2, 4, 3), dtype=torch.qint8),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle."""
    torch2circle.export(*branches()).save_qparams(tmp_path / "bundle")
    return tmp_path / "bundle"


def everything_in_integers(made: Made) -> torch2circle.ExportedModel:
    """The model exported at once, its inputs and outputs being uint8."""
    graph = torch2circle.export(*made).graph
    return torch2circle.export(*made, io_dtypes=dict.fromkeys((*graph.input_names, *graph.output_names), "uint8"))


def run(path: Path, graph: Graph, args: tuple[Tensor, ...]) -> list[Array]:
    """The outputs in the runtime of the suffix; ``graph`` tells how to quantize the inputs."""
    return runtimes.run(RUNTIMES[path.suffix], path, [_feeds(graph, args)]).outputs[0]


def run_both(one: Path, other: Path, graph: Graph, args: tuple[Tensor, ...]) -> Iterator[tuple[Array, Array]]:
    """Outputs of two files with the same inputs."""
    results = runtimes.run_many(RUNTIMES[one.suffix], [(path, [_feeds(graph, args)]) for path in (one, other)])
    assert not any(isinstance(result, Exception) for result in results), results
    return zip(*(result.outputs[0] for result in results if isinstance(result, runtimes.Result)), strict=True)


def _feeds(graph: Graph, args: tuple[Tensor, ...]) -> list[Array]:
    return [_fed(value, x) for value, x in zip(graph.inputs, args, strict=True)]


def _fed(value: Value, x: Tensor) -> Array:
    return quantized(x.numpy(), value.type) if value.type.quant else x.numpy()


def computed(graph: Graph) -> list[tuple[Any, ...]]:
    """The graph without names."""
    number = {value: i for i, value in enumerate(graph.values())}

    def types(node: Node) -> list[str]:
        return [str(v.type) for v in (*node.inputs, *node.outputs) if v]

    return [(node.op, [v and number[v] for v in node.inputs], types(node)) for node in graph.nodes()]


# -- there and back


@pytest.mark.parametrize("target", ["onert", "one", "litert"])
@pytest.mark.parametrize("model", MODELS)
def test_there_and_back_is_the_export(model: str, target: str, tmp_path: Path) -> None:
    """The same operators on the same types, the same bytes of constants, the same outputs."""
    made = MODELS[model]()
    torch2circle.export(*made).save_qparams(tmp_path / "bundle")
    suffix = ".tflite" if target == "litert" else ".circle"
    again, once = tmp_path / f"again{suffix}", tmp_path / f"once{suffix}"
    implanted = implant_qparams(tmp_path / "bundle/model.circle", tmp_path / "bundle/qparam.json", again, target).graph
    export = everything_in_integers(made)
    export.save(once, target)
    direct = export.for_target(target)
    if target != "litert":  # where the grouped convolution stays the several that ONE wants
        assert computed(implanted) == computed(direct)
        assert [v.array().tobytes() for v in implanted.values() if v.data] == [v.array().tobytes() for v in direct.values() if v.data]
    if target != "one":
        for ours, theirs in run_both(again, once, implanted, made[1]):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_case(family: str, tmp_path: Path) -> None:
    """Every operator on integers: in onert, the outputs are the export's, or a step off where that has an island."""
    jobs: list[tuple[Path, list[list[Array]]]] = []
    graphs: list[tuple[str, Graph]] = []
    for number, case in enumerate(FAMILIES[family]):
        folder = tmp_path / str(number)
        export = _bundled(case, folder)
        if export is None:
            continue
        export.save(folder / "once.circle", "onert")
        graph = implant_qparams(folder / "model.circle", folder / "qparam.json", folder / "again.circle").graph
        inputs = [recorded(export.recording, value) for value in export.for_target("onert").inputs]
        jobs.append((folder / "once.circle", [inputs]))
        jobs.append((folder / "again.circle", [[_as(value.type, array) for value, array in zip(graph.inputs, inputs, strict=True)]]))
        graphs.append((case.id, graph))
    results = runtimes.run_many("onert", jobs)
    off = {}
    for (name, graph), once, again in zip(graphs, results[::2], results[1::2], strict=True):
        assert isinstance(once, runtimes.Result) and isinstance(again, runtimes.Result), (name, once, again)
        for value, want, got in zip(graph.outputs, once.outputs[0], again.outputs[0], strict=True):
            if not _close(value.type, got, _as(value.type, want)):
                off[name] = (got, want)
    assert not off


def _bundled(case: Case, folder: Path) -> torch2circle.ExportedModel | None:
    """None for a case that onert cannot run, or that has no tensor to implant."""
    try:
        export = case.exported()
        export.for_target("onert")
    except UserError:  # which other tests are about
        return None
    try:
        export.save_qparams(folder)
    except UserError as error:
        if any(said in str(error) for said in ("nothing to implant", "as they are", "of one size")):
            return None
        raise
    return export


def _as(type_: Type, array: Array) -> Array:
    """Float or integers of the other 8-bit type as ``type_``."""
    if type_.quant is None or array.dtype == type_.dtype.numpy:
        return array
    return quantized(array, type_) if array.dtype == np.float32 else moved_by_128(array, type_.dtype)


def _close(type_: Type, got: Array, want: Array) -> bool:
    if got.shape != want.shape:
        return False
    return bool((np.abs(got.astype(int) - want) <= 1).all() if type_.quant else np.allclose(got, want, 1e-5, 1e-5))


def test_tensors_that_need_two_entries(tmp_path: Path) -> None:
    """Adding zero keeps them apart in the float file; implanted it is QUANTIZE again, or nothing."""
    generator = torch.Generator().manual_seed(0)
    made = Quantizing().eval(), (torch.randn(2, 3, 5, generator=generator), torch.randn(2, 3, 5, generator=generator))
    export = torch2circle.export(*made)
    bundle = export.save_qparams(tmp_path / "bundle")
    assert [node.op for node in bundle.graph.nodes()].count("ADD") == 1 + 2 + 1 + 1  # theirs, a and b, c, theirs
    export.save(tmp_path / "once.circle")
    implanted = implant_qparams(tmp_path / "bundle/model.circle", tmp_path / "bundle/qparam.json", tmp_path / "again.circle")
    ours, once = (run(tmp_path / f"{name}.circle", implanted.graph, made[1])[0] for name in ("again", "once"))
    np.testing.assert_array_equal(ours, once)
    assert len(implanted.left) > 0


def test_the_entries_are_pytorchs(folder: Path) -> None:
    """By the names of the file: each scale, zero point and weight, uint8 being 128 more than qint8."""
    model, _ = branches()
    root = json.loads((folder / "qparam.json").read_text())
    stem = model.get_submodule("body.stem")
    weight = stem.weight()
    entry = {key: np.load(folder / name) if str(name).endswith(".npy") else name for key, name in root["body.stem.weight"].items()}
    assert (entry["dtype"], entry["quantized_dimension"]) == ("uint8", 0)
    np.testing.assert_array_equal(entry["scale"], weight.q_per_channel_scales().numpy().astype(np.float32))
    np.testing.assert_array_equal(entry["zerop"], np.full(8, 128))
    np.testing.assert_array_equal(entry["value"], array_of(weight).transpose(0, 2, 3, 1).astype(np.int16) + 128)
    assert np.load(folder / root["body.stem"]["scale"]) == np.float32(stem.scale)
    assert np.load(folder / root["body.stem"]["zerop"]) == stem.zero_point
    assert root["body.depthwise.weight"]["quantized_dimension"] == 3
    assert root["body.stem.bias"]["dtype"] == "int32"
    assert "value" not in root["body.stem"]


def test_the_float_file_computes_the_real_numbers(folder: Path) -> None:
    """It is the network before rounding: within the steps that rounding of six layers in a row makes."""
    model, (x,) = branches()
    graph = read(folder / "model.circle").graph
    assert {v.type.dtype for v in graph.values()} <= {DType.FLOAT32, DType.INT32}
    assert not {"QUANTIZE", "DEQUANTIZE"} & {node.op for node in graph.nodes()}
    steps = model.get_submodule("body.head").scale, model.get_submodule("body.cat").scale
    for got, want, step in zip(run(folder / "model.circle", graph, (x,)), model(x), steps, strict=True):
        assert np.abs(got - want.numpy()).max() < 3 * step


def test_two_runs_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    code = "import sys, test_implant as t; t.torch2circle.export(*t.branches()).save_qparams(sys.argv[1])"
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], env=environment, check=True)
    files, again = ({path.name: path.read_bytes() for path in made.iterdir()} for made in (folder, tmp_path / "again"))
    assert [name for name in files.keys() | again.keys() if files.get(name) != again.get(name)] == []


def test_names_that_are_taken_or_not_ascii(tmp_path: Path) -> None:
    quant = Quant.per_tensor(0.5, 3)
    x, zero = (Value(Type((2,), DType.UINT8, quant), "größe", data=data) for data in (None, Constant.of(np.full(2, 3, np.uint8))))
    node = Node.make("MUL", (x, zero), (Value(x.type, "größe"),), {"fused_activation_function": "NONE"})
    from torch2circle.implant import separate

    bundle = separate(Graph((x,), node.outputs, ("x",), ("y",)))
    assert list(bundle.entries) == ["größe", "größe_1", "größe_2"]
    bundle.save(tmp_path / "bundle")
    assert [value.name for value in read(tmp_path / "bundle/model.circle").graph.values()] == list(bundle.entries)
    assert list(read_bundle(tmp_path / "bundle/qparam.json")) == list(bundle.entries)


def test_what_has_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing to implant"):
        torch2circle.export(*floating(torch.relu, (2, 3))).save_qparams(tmp_path / "bundle")
    raw = Value(Type((2,), DType.UINT8, Quant.per_tensor(0.5, 3)), "x")
    cast = Node.make("CAST", (raw,), (Value(Type((2,), DType.INT32), "y"),), {})
    from torch2circle.implant import separate

    with pytest.raises(TargetError, match="CAST reads integers as they are"):
        separate(Graph((raw,), cast.outputs, ("x",), ("y",)))
    assert not any(tmp_path.iterdir())


def test_what_ones_tools_will_not_take_is_said(tmp_path: Path) -> None:
    codes = {name: [f.code for f in torch2circle.export(*MODELS[name]()).save_qparams(tmp_path / name).findings] for name in MODELS}
    assert {name: found for name, found in codes.items() if found} == {"gate": ["left-float"], "hardswish": ["one-lacks"]}


# -- q-implant, by its own rules


def q_implant(folder: Path) -> bytes:
    """What ONE's tool does, with its own demands, by the official bindings and numpy: it sets types and replaces constants."""
    module = pytest.importorskip("circle_schema.v0_10.circle.Model", reason="the official bindings are not installed")
    circle = module.__name__.rpartition(".")[0]
    types = vars(import_module(f"{circle}.TensorType").TensorType)
    quantization = import_module(f"{circle}.QuantizationParameters").QuantizationParametersT
    model = module.ModelT.InitFromPackedBuf((folder / "model.circle").read_bytes())
    (graph,) = model.subgraphs
    tensors = {tensor.name.decode(): tensor for tensor in graph.tensors}
    assert len(tensors) == len(graph.tensors)

    def array(name: str) -> Array:
        with open(folder / name, "rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            _, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        assert not fortran
        assert dtype == dtype.newbyteorder("<")
        loaded: Array = np.load(folder / name, allow_pickle=False)
        return loaded

    for name, fields in json.loads((folder / "qparam.json").read_text("utf-8")).items():
        tensor, scale, zero_point = tensors[name], array(fields["scale"]), array(fields["zerop"])
        assert tensor.type == types["FLOAT32"]
        assert (scale.dtype, scale.ndim, zero_point.dtype, zero_point.ndim) == (np.float32, 1, np.int64, 1)
        assert type(fields["quantized_dimension"]) is int
        tensor.type = types[fields["dtype"].upper()]
        tensor.quantization = quantization()
        tensor.quantization.scale, tensor.quantization.zeroPoint = scale.tolist(), zero_point.tolist()
        tensor.quantization.quantizedDimension = fields["quantized_dimension"]
        if "value" in fields:
            value = array(fields["value"])
            assert list(value.shape) == list(tensor.shape)
            assert value.dtype == fields["dtype"]
            model.buffers.append(type(model.buffers[0])())  # the constants of a file may share a buffer
            model.buffers[-1].data = value.reshape(-1).view(np.uint8)
            tensor.buffer = len(model.buffers) - 1
    assert all(graph.tensors[index].quantization is not None for index in graph.outputs)
    assert not [tensor.name for tensor in graph.tensors if tensor.type == types["FLOAT32"]]
    builder = import_module("flatbuffers").Builder()
    builder.Finish(model.Pack(builder), b"CIR0")
    return bytes(builder.Output())


@pytest.mark.parametrize("model", ["per_channel", "per_tensor", "two_inputs", "int8"])
def test_q_implant_makes_the_same_of_it(model: str, tmp_path: Path) -> None:
    made = MODELS[model]()
    torch2circle.export(*made).save_qparams(tmp_path / "bundle")
    (tmp_path / "theirs.circle").write_bytes(q_implant(tmp_path / "bundle"))
    export = everything_in_integers(made)
    export.save(tmp_path / "ours.circle", "one")
    graph = export.for_target("one")
    for theirs, ours in run_both(tmp_path / "theirs.circle", tmp_path / "ours.circle", graph, made[1]):
        np.testing.assert_array_equal(theirs, ours)


# -- files of others


U8, I8 = DType.UINT8, DType.INT8
FLOAT = Type((), DType.FLOAT32)
RNG = np.random.default_rng(0)


def tensor(name: str, *shape: int, data: bool = False) -> Value:
    array = RNG.uniform(-1, 1, shape).astype(np.float32)
    return Value(FLOAT.reshape(shape), name, data=Constant.of(array) if data else None)


def op(name: str, out: Value, *inputs: Value | None, **attrs: Any) -> Value:
    return Node.make(name, inputs, (out,), attrs).out


CONV = {"padding": "VALID", "stride_h": 1, "stride_w": 1}


def small(path: Path, *, bias: bool = True) -> Path:
    """``y = conv(x, w, b)``, ``z = fc(flat(y), v)`` as another exporter writes it: default options and biases of zero left out."""
    x, w, b, v = tensor("x", 1, 4, 5, 3), tensor("w", 2, 3, 3, 3, data=True), tensor("b", 2, data=True), tensor("v", 4, 12, data=True)
    y = op("CONV_2D", tensor("y", 1, 2, 3, 2), x, w, b if bias else None, **CONV)
    shape = Value(Type((2,), DType.INT32), "shape", data=Constant.of(np.array([1, 12], np.int32)))
    flat = op("RESHAPE", tensor("flat", 1, 12), y, shape)
    z = op("FULLY_CONNECTED", tensor("z", 1, 4), flat, v, None)
    save(Graph((x,), (z,), ("x",), ("z",)), path, identifier="CIR0" if path.suffix == ".circle" else "TFL3")
    return path


def written(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> Path:
    """A ``qparam.json`` by hand: arrays go into files."""
    path.mkdir(exist_ok=True)
    root: dict[str, dict[str, Any]] = {}
    count = 0
    for name, fields in entries.items():
        root[name] = dict(fields)
        for key, value in fields.items():
            if isinstance(value, np.ndarray):
                np.save(path / f"{count}.npy", value)
                root[name][key], count = f"{count}.npy", count + 1
    (path / "qparam.json").write_text(json.dumps(root))
    return path / "qparam.json"


def entry(dtype: str = "uint8", scale: Any = 0.02, zerop: Any = 100, axis: int = 0, **more: Any) -> dict[str, Any]:
    scales, zeros = np.atleast_1d(np.asarray(scale, np.float32)), np.atleast_1d(np.asarray(zerop, np.int64))
    return {"dtype": dtype, "scale": scales, "zerop": np.broadcast_to(zeros, scales.shape).copy(), "quantized_dimension": axis, **more}


W, V = [0.0082, 0.0091], [0.0079, 0.0083, 0.0088, 0.0094]
X, Y, Z = 0.01, 0.05, 0.1


def whole(**changes: Any) -> dict[str, dict[str, Any]]:
    """Entries for ``small``, without values; ``changes`` replace them, None removes."""
    bias = (np.float32(X) * np.array(W, np.float32)).tolist()
    entries = {
        "x": entry(scale=X, zerop=128), "w": entry(scale=W, zerop=128), "b": entry("int32", bias, 0), "y": entry(scale=Y),
        "flat": entry(scale=Y), "v": entry(scale=V, zerop=128), "z": entry(scale=Z),
    }  # fmt: skip
    return {name: fields for name, fields in (entries | changes).items() if fields is not None}


@pytest.mark.parametrize("suffix", [".circle", ".tflite"])
def test_a_float_file_by_hand(suffix: str, tmp_path: Path) -> None:
    """Constants without a value are quantized, absent biases are zeros, and the numbers come out."""
    source = small(tmp_path / f"float{suffix}")
    made = implant_qparams(source, written(tmp_path / "bundle", whole()), tmp_path / f"out{suffix}")
    assert (made.left, made.count) == ((), 7)
    graph = made.graph
    assert [(v.type.dtype, v.type.quant) for v in (*graph.inputs, *graph.outputs)] == [
        (U8, Quant.per_tensor(X, 128)), (U8, Quant.per_tensor(Z, 100))
    ]  # fmt: skip
    x = torch.from_numpy(RNG.uniform(-1, 1, (1, 4, 5, 3)).astype(np.float32))
    (real,), (got,) = run(source, read(source).graph, (x,)), run(tmp_path / f"out{suffix}", graph, (x,))
    quant = graph.outputs[0].type.quant
    assert quant is not None
    assert np.abs(dequantized(got, quant) - real).max() < 2 * Z


def test_what_was_in_the_file_stays(tmp_path: Path) -> None:
    """Metadata, and the names of the signature."""
    source = tmp_path / "float.circle"
    graph = read(small(source)).graph
    save(Graph(graph.inputs, graph.outputs, ("image",), ("scores",)), source, identifier="CIR0", metadata={"note": b"ours"})
    implant_qparams(source, written(tmp_path / "bundle", whole()), tmp_path / "out.circle")
    contents = read(tmp_path / "out.circle")
    assert (contents.graph.input_names, contents.graph.output_names, contents.metadata) == (("image",), ("scores",), {"note": b"ours"})


def test_over_the_source(tmp_path: Path) -> None:
    source, bundle = small(tmp_path / "m.circle"), written(tmp_path / "bundle", whole())
    implant_qparams(source, bundle, tmp_path / "out.circle")
    implant_qparams(source, bundle, source)
    assert source.read_bytes() == (tmp_path / "out.circle").read_bytes()


def test_values_win_over_the_float_constants(tmp_path: Path) -> None:
    ints = RNG.integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
    made = implant_qparams(
        small(tmp_path / "m.circle"),
        written(tmp_path / "bundle", whole(w=entry(scale=W, zerop=128, value=np.asfortranarray(ints)))),
        tmp_path / "out.circle",
    )
    assert any(v.data is not None and v.type.shape == ints.shape and (v.array() == ints).all() for v in made.graph.values())


def test_what_has_no_entry_stays_float(tmp_path: Path) -> None:
    """In front of integers there is a QUANTIZE, behind them a DEQUANTIZE; constants of both sides are right on both."""
    x, a, c = tensor("x", 2, 3), tensor("a", 2, 3), tensor("c", 3, data=True)
    first = op("MUL", a, x, c)
    second = op("ADD", tensor("b", 2, 3), first, c)
    source = tmp_path / "m.circle"
    save(Graph((x,), (second,), ("x",), ("y",)), source, identifier="CIR0")
    bundle = written(tmp_path / "bundle", {"a": entry(scale=0.01, zerop=128), "c": entry(scale=0.01), "b": entry(scale=0.02, zerop=128)})
    made = implant_qparams(source, bundle, tmp_path / "out.circle")
    assert [node.op for node in made.graph.nodes()] == ["MUL", "QUANTIZE", "ADD"]
    assert made.left == ("x",)
    fed = torch.from_numpy(RNG.uniform(-1, 1, (2, 3)).astype(np.float32))
    (got,), (real,) = (run(path, read(path).graph, (fed,)) for path in (tmp_path / "out.circle", source))
    assert np.abs((got.astype(np.float32) - 128) * 0.02 - real).max() < 0.05
    # and the other way round
    bundle = written(tmp_path / "bundle", {"x": entry(), "c": entry(scale=0.01), "a": entry(scale=0.01)})
    made = implant_qparams(source, bundle, tmp_path / "out.circle")
    assert [node.op for node in made.graph.nodes()] == ["MUL", "DEQUANTIZE", "ADD"]
    assert [v.type.dtype for v in (*made.graph.inputs, *made.graph.outputs)] == [U8, DType.FLOAT32]


def test_casts_read_real_numbers(tmp_path: Path) -> None:
    """CAST of 2.6 is 2, whatever the integer that stands for 2.6."""
    x = tensor("x", 4)
    y = op("CAST", Value(Type((4,), DType.INT32), "y"), x, in_data_type="FLOAT32", out_data_type="INT32")
    save(Graph((x,), (y,), ("x",), ("y",)), tmp_path / "m.circle", identifier="CIR0")
    made = implant_qparams(tmp_path / "m.circle", written(tmp_path / "bundle", {"x": entry(scale=0.1)}), tmp_path / "out.circle")
    assert [node.op for node in made.graph.nodes()] == ["DEQUANTIZE", "CAST"]
    (got,) = run(tmp_path / "out.circle", made.graph, (torch.tensor([2.6, -1.2, 0.0, 7.9]),))
    assert got.tolist() == [2, -1, 0, 7]


def test_layers_stay_float_with_all_they_have(tmp_path: Path) -> None:
    """A convolution without entries for its constants, between integers."""
    source, entries = small(tmp_path / "m.circle"), whole(w=None, b=None)
    made = implant_qparams(source, written(tmp_path / "bundle", entries), tmp_path / "out.circle")
    assert made.left == ("w", "b")
    assert [node.op for node in made.graph.nodes()][:3] == ["DEQUANTIZE", "CONV_2D", "QUANTIZE"]
    assert [finding.code for finding in made.findings] == ["island"]


def test_int16(tmp_path: Path) -> None:
    """ONE's other family, which no runtime here has: int16 with biases of int64."""
    sixteen = {name: entry("int16", fields["scale"], 0) for name, fields in whole().items()}
    sixteen["b"] = entry("int64", np.float32(X) * np.array(W, np.float32), 0)
    source, bundle = small(tmp_path / "m.circle"), written(tmp_path / "bundle", sixteen)
    made = implant_qparams(source, bundle, tmp_path / "out.circle", "one")
    graph = read(tmp_path / "out.circle").graph
    types = {v.name: v.type.dtype.value for v in graph.values()}
    assert (types["x"], types["w"], types["b"], types["z.bias"], types["z"]) == ("int16", "int16", "int64", "int64", "int16")
    bias = next(v for v in made.graph.values() if v.name == "b")
    real = next(v for v in read(source).graph.values() if v.name == "b").array()
    np.testing.assert_array_equal(bias.array(), np.rint(real / sixteen["b"]["scale"].astype(np.float64)))
    with pytest.raises(TargetError, match="target onert cannot run"):
        implant_qparams(source, bundle, tmp_path / "out.circle")


def test_int8_goes_to_the_type_of_the_target(tmp_path: Path) -> None:
    entries = {n: e if e["dtype"] != "uint8" else entry("int8", e["scale"], e["zerop"] - 128) for n, e in whole().items()}
    source = small(tmp_path / "m.circle")
    ours = implant_qparams(source, written(tmp_path / "i8", entries), tmp_path / "i8.circle").graph
    assert {v.type.dtype for v in (*ours.inputs, *ours.outputs)} == {I8}
    theirs = implant_qparams(source, written(tmp_path / "u8", whole()), tmp_path / "u8.circle").graph
    x = torch.from_numpy(RNG.uniform(-1, 1, (1, 4, 5, 3)).astype(np.float32))
    (a,), (b,) = run(tmp_path / "i8.circle", ours, (x,)), run(tmp_path / "u8.circle", theirs, (x,))
    np.testing.assert_array_equal(a.astype(int) + 128, b)


def test_int64_does_not_overflow() -> None:
    """The largest float64 is rounded up to 2**63, which would come out negative."""
    type_ = Type((2,), DType.INT64, Quant.per_tensor(1e-30, 0))
    assert (np.sign(quantized(np.array([1.0, -1.0], np.float32), type_)) == [1, -1]).all()


# -- bundles that are wrong


def spoiled(change: Callable[[dict[str, Any], Path], Any]) -> Callable[[Path], None]:
    """A bundle for ``small`` with something changed in its ``qparam.json`` or its files."""

    def spoil(folder: Path) -> None:
        path = written(folder, whole(w=entry(scale=W, zerop=128, value=np.zeros((2, 3, 3, 3), np.uint8))))
        root = json.loads(path.read_text())
        change(root, folder)
        path.write_text(json.dumps(root))

    return spoil


def replaced(key: str, array: Any, name: str = "w") -> Callable[[Path], None]:
    """Another array in the file that ``key`` of ``name`` names."""
    return spoiled(lambda root, folder: np.save(folder / root[name][key], array, allow_pickle=True))


def field(key: str, value: Any, name: str = "w") -> Callable[[Path], None]:
    return spoiled(lambda root, folder: root[name].update({key: value}))


def cut(folder: Path, name: str, size: int) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:size])


NAN = np.array([0.1, np.nan], np.float32)
WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    # what q-implant itself stumbles over, without saying where
    "scale_float64": (replaced("scale", np.array(W)), r"w: scale must be float32: \d+.npy is float64"),
    "scale_0d": (replaced("scale", np.float32(0.1)), r"w: scale must have one dimension: \d+.npy has the shape \[\]"),
    "scale_2d": (replaced("scale", np.ones((1, 2), np.float32)), r"w: scale must have one dimension: \d+.npy has the shape \[1, 2\]"),
    "zerop_int32": (replaced("zerop", np.array([128, 128], np.int32)), r"w: zerop must be int64: \d+.npy is int32"),
    "other_end": (replaced("scale", np.array(W, ">f4")), r"w: scale must be float32: \d+.npy is >f4"),
    "stranger": (spoiled(lambda root, _: root.update(ww=root.pop("w"))), "ww: the model has no such tensor; nearest: w"),
    "no_dimension": (spoiled(lambda root, _: root["w"].pop("quantized_dimension")), "w: quantized_dimension is missing"),
    "nothing": (spoiled(lambda root, _: root.update(w={})), "(?s)w: dtype is missing.*w: scale is missing.*w: zerop is missing"),
    "no_object": (spoiled(lambda root, _: root.update(w=3)), "w: must be an object with dtype, scale, zerop, quantized_dimension"),
    "value_shape": (
        replaced("value", np.zeros((3, 3, 3, 2), np.uint8)),
        r"w: value has the shape \[3, 3, 3, 2\], the tensor \[2, 3, 3, 3\]",
    ),
    "value_dtype": (replaced("value", np.zeros((2, 3, 3, 3), np.int8)), r"w: value must be uint8: \d+.npy is int8"),
    "value_absent": (spoiled(lambda root, folder: (folder / root["w"]["value"]).unlink()), r"w: value is no file: \d+.npy"),
    "value_folder": (spoiled(lambda root, folder: (root["w"].update(value="sub"), (folder / "sub").mkdir())), "w: value is no file: sub"),
    "value_of_result": (field("value", "0.npy", "y"), "y: value must be uint8: 0.npy is float32"),
    "lengths": (replaced("zerop", np.array([128])), r"w: there must be as many zero points as scales, and one at least: 1 and 2 \("),
    "no_scales": (
        spoiled(
            lambda root, folder: [np.save(folder / root["y"][key], np.zeros(0, dtype)) for key, dtype in (("scale", "f4"), ("zerop", "i8"))]
        ),
        "y: there must be as many zero points as scales, and one at least: 0 and 0",
    ),
    "channels": (field("quantized_dimension", 1), r"w: 2 scales for dimension 1 of \[2, 3, 3, 3\]"),
    "dimension": (field("quantized_dimension", 4), "w: quantized_dimension is none of a tensor of 4 dimensions: 4"),
    "dimension_of_one": (field("quantized_dimension", 2, "z"), "z: quantized_dimension is none of a tensor of 2 dimensions: 2"),
    "dimension_negative": (field("quantized_dimension", -1), "w: quantized_dimension must be an integer from 0: -1"),
    "dimension_bool": (field("quantized_dimension", False), "w: quantized_dimension must be an integer from 0: False"),
    "dimension_text": (field("quantized_dimension", "0"), "w: quantized_dimension must be an integer from 0: 0"),
    "dtype": (field("dtype", "uint4"), "w: dtype must be one of uint8, int8, int16, int32, int64: uint4"),
    "dtype_number": (field("dtype", 8), "w: dtype must be one of uint8, int8, int16, int32, int64: 8"),
    "zero_point": (replaced("zerop", np.array([128, 256])), r"w: a zero point is not in uint8: 256 at 1 \(\d+.npy, \d+.npy\)"),
    "nan": (replaced("scale", NAN), r"w: a scale must be a positive number: nan at 1 \(\d+.npy, "),
    "infinite": (replaced("scale", np.array([np.inf, 1], np.float32)), "w: a scale must be a positive number: inf at 0"),
    "zero": (replaced("scale", np.array([1, 0], np.float32)), "w: a scale must be a positive number: 0.0 at 1"),
    "negative": (replaced("scale", np.array([1, -1], np.float32)), "w: a scale must be a positive number: -1.0 at 1"),
    "unknown_key": (field("zero_point", "0.npy"), "w: unknown key zero_point, did you mean zerop?"),
    "very_unknown_key": (field("+", "0.npy"), r"w: unknown key \+, known are dtype, scale, zerop, quantized_dimension, value"),
    "outside": (field("value", "../secret.npy"), "w: value must be the name of a file beside qparam.json: ../secret.npy"),
    "absolute": (field("value", "/etc/passwd"), "w: value must be the name of a file beside qparam.json: /etc/passwd"),
    "backslash": (field("value", "..\\secret.npy"), "w: value must be the name of a file beside qparam.json"),
    "parent": (field("scale", ".."), "w: scale must be the name of a file beside qparam.json: .."),
    "no_name": (field("scale", ""), "w: scale must be the name of a file beside qparam.json"),
    "null_byte": (field("scale", "0\0.npy"), "w: scale must be the name of a file beside qparam.json"),
    "list": (field("scale", [0.1]), "w: scale must be the name of a file beside qparam.json: "),
    "pickle": (replaced("value", np.array([{}, Path()], object)), r"w: value is no whole .npy file of numbers: \d+.npy"),
    "cut": (spoiled(lambda root, folder: cut(folder, root["w"]["value"], -1)), r"w: value is no whole .npy file of numbers: \d+.npy"),
    "cut_head": (spoiled(lambda root, folder: cut(folder, root["w"]["scale"], 20)), r"w: scale is no whole .npy file of numbers"),
    "empty": (spoiled(lambda root, folder: cut(folder, root["w"]["scale"], 0)), r"w: scale is no whole .npy file of numbers"),
    "npz": (
        spoiled(lambda root, folder: (np.savez(folder / "a.npz", a=np.ones(2)), root["w"].update(value="a.npz"))),
        "w: value is no whole .npy file of numbers: a.npz",
    ),
    # what q-implant does not ask for, and kernels take for granted
    "bias_scale": (replaced("scale", np.array([Y, Y], np.float32), "b"), "b: the scale of a bias must be input [*] weight, 8.2e-05: 0.05"),
    "bias_scales": (
        spoiled(lambda root, folder: root["b"].update(scale=root["x"]["scale"], zerop=root["x"]["zerop"])),
        "b: the bias has 1 sca",
    ),
    "bias_zero_point": (replaced("zerop", np.array([0, 3]), "b"), "b: the zero point of a bias must be 0: 3"),
    "bias_uint8": (field("dtype", "uint8", "b"), "b: the bias of CONV_2D in 8 bits must be int32: uint8"),
    "bias_forgotten": (spoiled(lambda root, _: root.pop("b")), "b: needs an entry: CONV_2D y is to compute in integers"),
    "input_forgotten": (spoiled(lambda root, _: root.pop("x")), "x: needs an entry: CONV_2D y is to compute in integers"),
    "bias_alone": (
        spoiled(lambda root, _: [root.pop(key) for key in "xy"]),
        "b: must have no entry: the activations of CONV_2D y have none",
    ),
    "activation_int32": (field("dtype", "int32", "z"), "z: only a bias can be int32"),
    "widths": (spoiled(lambda root, _: root["z"].update(dtype="int16")), "z: FULLY_CONNECTED has operands of 8 and 16 bits"),
    "weight_axis": (
        spoiled(
            lambda root, folder: (
                [np.save(folder / root["v"][key], np.full(12, n, dtype)) for key, n, dtype in (("scale", 0.1, "f4"), ("zerop", 128, "i8"))],
                root["v"].update(quantized_dimension=1),
            )
        ),
        "v: FULLY_CONNECTED takes one scale for all of it, or one for each index of dimension 0: it has 12 for dimension 1",
    ),
    "activation_axis": (
        spoiled(lambda root, folder: root["y"].update({key: root["w"][key] for key in ("scale", "zerop")} | {"quantized_dimension": 3})),
        "y: CONV_2D takes one scale for all of it: it has 2 for dimension 3",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_bundle(name: str, tmp_path: Path) -> None:
    """Refused with the name of the tensor, and of the file where it is one."""
    spoil, says = WRONG[name]
    np.save(tmp_path / "secret.npy", np.zeros((2, 3, 3, 3), np.uint8))
    source = small(tmp_path / "m.circle")
    spoil(tmp_path / "bundle")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FormatError, match=says):
        implant_qparams(source, tmp_path / "bundle/qparam.json", tmp_path / "out.circle")
    assert sorted(tmp_path.iterdir()) == before


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Reading it would wait for ever."""
    bundle = written(tmp_path, whole())
    (tmp_path / "0.npy").unlink()
    os.mkfifo(tmp_path / "0.npy")
    with pytest.raises(FormatError, match=r"x: scale is no file: 0\.npy"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no qparam.json: Expecting value"),
        ("{", "is no qparam.json: "),
        ("[]", "it must be an object with an entry for each tensor"),
        ("{}", "it must be an object with an entry for each tensor"),
        ('{"x": 1, "x": 2}', "is no qparam.json: x stands there twice"),
        ('{"x": {"scale": "0.npy", "scale": "1.npy"}}', "is no qparam.json: scale stands there twice"),
        ("[" * 100_000, "is no qparam.json: "),
        ("\xff", "is no qparam.json: "),
    ],
)
def test_what_is_no_qparam_json(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "qparam.json").write_text(text, encoding="latin-1")
    with pytest.raises(FormatError, match=says):
        read_bundle(tmp_path / "qparam.json")
    with pytest.raises(FormatError, match=r"cannot read .*: No such file"):
        read_bundle(tmp_path / "absent.json")
    with pytest.raises(FormatError, match=r"cannot read .*: Is a directory"):
        read_bundle(tmp_path)


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    entries = {f"t{i}": entry(scale=-1.0) for i in range(25)} | {"odd": {"scale": 3, "dtyp": "uint8"}}
    with pytest.raises(FormatError) as caught:
        read_bundle(written(tmp_path, entries))
    lines = caught.value.message.splitlines()
    assert lines[0] == f"{tmp_path / 'qparam.json'} has 30 mistake(s):"
    assert lines[1] == "  t0: a scale must be a positive number: -1.0 at 0 (0.npy, 1.npy)"
    assert lines[-1] == "  and 10 more"
    with pytest.raises(FormatError) as caught:
        read_bundle(written(tmp_path, {"odd": entries["odd"]}))
    assert [line.partition(": ")[2] for line in caught.value.message.splitlines()[1:]] == [
        "dtype is missing",
        "zerop is missing",
        "quantized_dimension is missing",
        "scale must be the name of a file beside qparam.json: 3",
        "unknown key dtyp, did you mean dtype?",
    ]


def test_tensors_that_cannot_have_an_entry(tmp_path: Path) -> None:
    x, c = tensor("x", 2), Value(Type((1,), DType.INT32), "c", data=Constant.of(np.array([0], np.int32)))
    bad = Value(FLOAT.reshape((2,)), "bad", data=Constant.of(np.array([1, np.nan], np.float32)))
    source = tmp_path / "m.circle"
    save(
        Graph((x,), (op("MEAN", tensor("y", 1), op("MUL", tensor("p", 2), x, bad), c, keep_dims=True),), ("x",), ("y",)),
        source,
        identifier="CIR0",
    )
    bundle = written(tmp_path / "b", {"x": entry(value=np.zeros(2, np.uint8)), "c": entry("int32"), "bad": entry()})
    with pytest.raises(FormatError) as caught:
        implant_qparams(source, bundle, tmp_path / "out.circle")
    assert sorted(caught.value.message.splitlines()[1:]) == [
        "  bad: needs a value: the float constant is not finite",
        "  c: the tensor must be float32: it is int32",
        "  x: has a value, but the tensor is no constant",
    ]


def test_a_name_that_two_tensors_have(tmp_path: Path) -> None:
    """Only others write such files."""
    source = small(tmp_path / "m.circle")
    source.write_bytes(source.read_bytes().replace(b"flat", b"shape"[:4]).replace(b"\x05\0\0\0shape", b"\x04\0\0\0shap\0"))
    if sorted(v.name for v in read(source).graph.values()).count("shap") == 2:
        with pytest.raises(FormatError, match="shap: the model has 2 tensors of this name"):
            implant_qparams(source, written(tmp_path / "b", {"shap": entry()}), tmp_path / "out.circle")
    else:
        pytest.fail("the file was not changed as meant")


def test_operators_that_are_not_in_the_table(tmp_path: Path) -> None:
    x = tensor("x", 2)
    graph = Graph((x,), (op("RELU", tensor("y", 2), x),), ("x",), ("y",))
    source = tmp_path / "m.circle"
    save(graph, source, identifier="CIR0")
    from torch2circle.format.facts import ENUMS

    codes = ENUMS["BuiltinOperator"]
    source.write_bytes(source.read_bytes().replace(bytes([codes["RELU"]]), bytes([codes["SVDF"]])))
    with pytest.raises(TargetError, match=r"(?s)torch2circle cannot write what is in .*not in the operator table: SVDF"):
        implant_qparams(source, written(tmp_path / "b", {"x": entry()}), tmp_path / "out.circle")


@pytest.mark.parametrize(
    ("weight", "bias", "says"),
    [
        ((2, 3, 3, 4), (2,), r"CONV_2D has operands of the shapes \[1, 4, 5, 3\] and \[2, 3, 3, 4\]"),
        ((2, 3, 3, 0), (2,), r"CONV_2D has operands of the shapes \[1, 4, 5, 3\] and \[2, 3, 3, 0\]"),
        ((3, 3, 3, 3), (2,), r"CONV_2D has a weight \[3, 3, 3, 3\], a bias \[2\] and a result \[1, 2, 3, 2\]"),
        ((2, 3, 3, 3), (5,), r"CONV_2D has a weight \[2, 3, 3, 3\], a bias \[5\] and a result \[1, 2, 3, 2\]"),
    ],
)
def test_a_model_that_is_not_well_formed(weight: tuple[int, ...], bias: tuple[int, ...], says: str, tmp_path: Path) -> None:
    x, w, b = tensor("x", 1, 4, 5, 3), tensor("w", *weight, data=True), tensor("b", *bias, data=True)
    y = op("CONV_2D", tensor("y", 1, 2, 3, 2), x, w, b, **CONV)
    save(Graph((x,), (y,), ("x",), ("y",)), tmp_path / "m.circle", identifier="CIR0")
    with pytest.raises(FormatError, match=f"(?s)m.circle is not well formed.*y: {says}"):
        implant_qparams(tmp_path / "m.circle", written(tmp_path / "b", {"x": entry()}), tmp_path / "out.circle")


def test_what_the_target_would_get_wrong_is_not_written(tmp_path: Path) -> None:
    """Weights of uint8 with a scale each and a zero point that is not 128: onert takes it for 128. Parts of them have that."""
    source = small(tmp_path / "m.circle")
    implant_qparams(source, written(tmp_path / "b", whole(w=entry(scale=W, zerop=100))), tmp_path / "out.circle")
    weights = [node.inputs[1] for node in read(tmp_path / "out.circle").graph.nodes() if node.op == "CONV_2D"]
    assert all(w is not None and w.type.quant is not None and set(w.type.quant.zero_point) == {128} for w in weights)
    assert TARGETS["onert"].runs(next(node for node in read(tmp_path / "out.circle").graph.nodes() if node.op == "CONV_2D"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_files(data: st.DataObject) -> None:
    """Whatever bytes change, it is an error that says so, or a bundle."""
    folder = _FUZZED.get("folder")
    assert folder is not None
    path = folder / data.draw(st.sampled_from(sorted(p.name for p in folder.iterdir())))
    whole_file = path.read_bytes()
    damaged = bytearray(whole_file)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))] if data.draw(st.booleans()) else damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            implant_qparams(_FUZZED["source"], folder / "qparam.json", folder.parent / "out.circle")
    except UserError:
        pass
    finally:
        path.write_bytes(whole_file)


_FUZZED: dict[str, Path] = {}


@pytest.fixture(autouse=True, scope="module")
def _fuzzed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzzed")
    _FUZZED["source"] = small(folder / "m.circle")
    _FUZZED["folder"] = written(folder / "bundle", whole(w=entry(scale=W, zerop=128, value=np.zeros((2, 3, 3, 3), np.uint8)))).parent


# -- writing


def bundle() -> Bundle:
    value = Value(Type((1, 2), DType.FLOAT32), "x")
    node = Node.make("RELU", (value,), (Value(value.type, "y"),), {})
    one = np.ones(1, np.float32)
    return Bundle(Graph((value,), node.outputs, ("x",), ("y",)), {"x": Entry(U8, one, np.zeros(1, np.int64))})


def test_nothing_is_overwritten(folder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for taken, says in (
        (folder, "the folder is not empty"),
        (folder / "qparam.json", "Not a directory"),
        (tmp_path / "a/b", "No such file"),
    ):
        with pytest.raises(WriteError, match=says):
            bundle().save(taken)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    bundle().save("empty/../empty")
    assert sorted(path.name for path in (tmp_path / "empty").iterdir()) == ["0.npy", "1.npy", "model.circle", "qparam.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(WriteError if isinstance(error, OSError) else KeyboardInterrupt):
        bundle().save(tmp_path / "bundle")
    assert not any(tmp_path.iterdir())


def test_a_killed_process_leaves_no_bundle_that_is_half(tmp_path: Path) -> None:
    code = "import time, numpy, sys, test_implant as t; numpy.save = lambda *_, **__: (print('now', flush=True), time.sleep(60))\n"
    code += "t.bundle().save(sys.argv[1])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "bundle")], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "bundle").exists()
    bundle().save(tmp_path / "bundle")  # what is left of the first lies beside, hidden
    assert read_bundle(tmp_path / "bundle/qparam.json")


def test_what_no_tool_would_read_is_not_written(tmp_path: Path) -> None:
    made = bundle()
    made = Bundle(made.graph, {"x": Entry(U8, np.array([np.inf], np.float32), np.array([300]))})
    with pytest.raises(QuantizationError, match=r"(?s)x: a scale must be a positive .*: inf at 0.*x: a zero point .*: 300"):
        made.save(tmp_path / "bundle")
    assert not any(tmp_path.iterdir())


# -- the command line

Run = Callable[..., tuple[int, str, str]]
INPUT = ["--input", "2x3x5x7"]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(3, 4, 1), torch.ao.quantization.DeQuantStub())
    model.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = torch.ao.quantization.prepare(model.eval())
    prepared(torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)))
    torch.save(torch.ao.quantization.convert(prepared), tmp_path / "model.pt")

    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
            cli.main(args)
        return int(caught.value.code or 0), *capfd.readouterr()

    return call


def test_the_commands(command: Run, tmp_path: Path) -> None:
    code, out, err = command("qparams", "model.pt", "bundle", *INPUT)
    size = (tmp_path / "bundle/model.circle").stat().st_size
    assert (code, out, err) == (0, f"bundle: qparam.json for 6 tensors of model.circle, {size:,} bytes\n", "")
    code, out, err = command("implant", "bundle/model.circle", "bundle/qparam.json", "out.circle")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"out.circle: {(tmp_path / 'out.circle').stat().st_size:,} bytes for onert"
    assert [line.split()[0] for line in lines[1:]] == ["inputs", "outputs", "operators", "weights", "implanted", "islands"]
    assert lines[5] == "  implanted    6 tensors; without an entry, hence in float: none"
    command("model.pt", "direct.circle", *INPUT, "--io-dtype", "input=uint8", "--io-dtype", "output=uint8", "--no-verify")
    assert computed(read(tmp_path / "out.circle").graph) == computed(read(tmp_path / "direct.circle").graph)


def test_the_commands_in_json(command: Run) -> None:
    summary = json.loads(command("qparams", "model.pt", "bundle", *INPUT, "--json")[1])
    assert list(summary) == ["json_version", "folder", "tensors", "bytes", "diagnostics"]
    args = ("implant", "bundle/model.circle", "bundle/qparam.json", "out.tflite", "--json")
    summary = json.loads(command(*args)[1])
    assert (summary["target"], summary["implanted"], summary["left"]) == ("litert", 6, [])
    assert next(iter(summary["inputs"].values())).startswith("uint8[2,3,5,7]")


def test_commands_that_fail(command: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for args, error, says in (
        (("qparams", "model.pt", "taken", *INPUT), WriteError, "cannot write taken: the folder is not empty"),
        (("qparams", "absent.pt", "bundle"), torch2circle.LoadError, "absent.pt"),
        (("implant", "absent.circle", "q.json", "out.circle"), FormatError, "cannot read absent.circle"),
        (("implant", "model.pt", "q.json", "out.circle"), FormatError, "neither a Circle nor a TFLite model"),
        (("implant", "model.pt", "q.json", "out.bin"), TargetError, "out.bin"),
    ):
        code, out, err = command(*args)
        assert (code, out) == (error.exit_code, "")
        assert says in err
        assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupted)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = command("qparams", "model.pt", "bundle", *INPUT)
    assert (code, err.strip()) == (130, "interrupted: no file was left half written")
    assert sorted(tmp_path.rglob("*")) == before


LIGHT = """
import sys
from torch2circle.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("heavy:", sorted({"torch", "rich"} & set(sys.modules)))
"""


def test_implanting_needs_no_torch(tmp_path: Path) -> None:
    source, path = small(tmp_path / "m.circle"), written(tmp_path / "b", whole())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for args in (["implant", str(source), str(path), str(tmp_path / "out.circle")], ["qparams", "--help"], ["implant", "--help"]):
        done = subprocess.run([sys.executable, "-c", LIGHT, *args], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("heavy: []\n")
