"""``convert``: the same numbers from both runtimes, a list of what is lost, and a refusal of what would go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao import quantization as Q

import torch2circle
from tables import changed, main, tensor
from test_format import F32, constant, convolution, graph_of, packed, quantized_convolution
from torch2circle import runtimes
from torch2circle.checks import check
from torch2circle.conversion import convert
from torch2circle.difference import diff
from torch2circle.errors import FormatError, TargetError
from torch2circle.format import read, save, survey, to_bytes
from torch2circle.ir import Array, DType, Graph, Node, Quant, Type, Value

BOTH = pytest.mark.skipif(not (runtimes.available("onert") and runtimes.available("litert")), reason="a runtime is not installed")


class Net(nn.Module):
    """A convolution, an addition, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.sum = Q.QuantStub(), Q.DeQuantStub(), nn.quantized.FloatFunctional()
        self.left, self.right, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.quant(x)
        x = torch.relu(self.sum.add(self.left(x), self.right(x)))  # type: ignore[operator]
        made: torch.Tensor = self.dequant(self.last(x.flatten(1)))
        return made


X = np.random.default_rng(0).uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)


def quantized() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net().eval()
    model.qconfig = Q.get_default_qconfig("qnnpack")  # type: ignore[assignment]
    prepared = Q.prepare(model)
    prepared(torch.from_numpy(X))
    made: nn.Module = Q.convert(prepared)
    return made


@pytest.fixture(scope="module")
def exported() -> Any:
    return torch2circle.export(quantized(), (torch.from_numpy(X),))


def run(path: Path, x: Array = X) -> Array:
    """What the runtime of the file's format makes of it."""
    runtime = {".circle": "onert", ".tflite": "litert"}[path.suffix]
    return runtimes.run(runtime, path, [[x]]).outputs[0][0]


@BOTH
@pytest.mark.parametrize(("first", "second"), [("a.tflite", "b.circle"), ("a.circle", "b.tflite")])
def test_both_ways_the_outputs_are_the_same(exported: Any, tmp_path: Path, first: str, second: str) -> None:
    exported.save(tmp_path / first)
    made = convert(tmp_path / first, tmp_path / second)
    assert made.size == (tmp_path / second).stat().st_size
    step = float(next(v for v in exported.graph.values() if v.type.quant and v.type.shape == (1, 5)).type.quant.scale[0])
    difference = np.abs(run(tmp_path / first) - run(tmp_path / second)).max() / step
    assert difference <= 1.001  # onert rounds a fixed-point product twice, LiteRT once: a step of the last layer, and float's last bit
    assert [f.code for f in made.losses] == ["metadata"]
    assert [f.code for f in made.findings if f.severity == "note"] == ["eight-bit"]
    assert [f for f in check(tmp_path / second, made.target) if f.severity != "note"] == []
    assert json.loads(survey(tmp_path / second).metadata["torch2circle"].tobytes())["target"] == made.target  # type: ignore[union-attr]


def test_there_and_back_is_the_same_model(exported: Any, tmp_path: Path) -> None:
    exported.save(tmp_path / "a.tflite")
    convert(tmp_path / "a.tflite", tmp_path / "b.circle")
    convert(tmp_path / "b.circle", tmp_path / "c.tflite")
    difference = diff(tmp_path / "a.tflite", tmp_path / "c.tflite")
    assert [c.path for c in difference.sections["metadata"]] == ["torch2circle.origins"]
    assert not difference.without("metadata"), str(difference)


@BOTH
def test_what_others_write_becomes_what_the_target_runs(tmp_path: Path) -> None:
    """Constants of float16, no bias, a shape that is an option alone: as TFLite's own converter leaves them."""
    rng = np.random.default_rng(1)
    x = Value(Type((2, 3), F32), "x")
    half = constant(rng.normal(size=(4, 3)).astype(np.float16), "half")
    weight = Node.make("DEQUANTIZE", [half], [Value(Type((4, 3), F32), "weight")]).out
    layer = Node.make("FULLY_CONNECTED", [x, weight, None], [Value(Type((2, 4), F32), "layer")]).out
    graph = graph_of(Node.make("RESHAPE", [layer, constant(np.array([8], np.int32), "shape")], [Value(Type((8,), F32), "y")]), x)

    def as_others(model: dict[str, Any]) -> None:
        *_, dense, reshape = main(model)["operators"]
        dense["inputs"] = dense["inputs"][:2]
        reshape.update(inputs=reshape["inputs"][:1], builtin_options=("ReshapeOptions", {"new_shape": [8]}))

    (tmp_path / "a.tflite").write_bytes(changed(to_bytes(graph, identifier="TFL3"), as_others))
    made = convert(tmp_path / "a.tflite", tmp_path / "b.circle")
    assert {f.code for f in made.findings} == {"float16"}
    given = rng.normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "b.circle", given), run(tmp_path / "a.tflite", given), rtol=1e-5)  # sums in another order


def test_what_is_lost_is_listed(tmp_path: Path) -> None:
    graph = quantized_convolution()
    data = to_bytes(graph, identifier="TFL3", metadata={"min_runtime_version": b"1.5.0", "mine": b"kept"})

    def more(model: dict[str, Any]) -> None:
        tensor(model, "x")["quantization"]["min"] = np.array([-1], np.float32)
        tensor(model, "x")["shape_signature"] = [-1, 4, 4, 2]
        main(model)["operators"].append({**main(model)["operators"][0], "outputs": [len(main(model)["tensors"])]})
        main(model)["tensors"].append({**tensor(model, "y"), "name": "dead"})
        model["subgraphs"].append({"name": "spare", "tensors": [], "inputs": [], "outputs": [], "operators": []})
        model.pop("signature_defs")

    (tmp_path / "a.tflite").write_bytes(changed(data, more) + b"PK\x05\x06" + bytes(18))
    made = convert(tmp_path / "a.tflite", tmp_path / "b.circle")
    assert sorted(f.code for f in made.losses) == sorted(
        ["subgraph", "dead-operator", "range", "metadata", "open-size", "associated-files"]
    )  # fmt: skip
    assert [f.code for f in made.findings if f.severity == "note"] == ["eight-bit", "signature"]
    assert list(survey(tmp_path / "b.circle").metadata) == ["mine"]


def test_what_the_target_cannot_run_is_refused_all_at_once(tmp_path: Path) -> None:
    x = Value(Type((2, 3), F32), "x")
    sin = Node.make("SIGN", [x], [Value(x.type, "s")]).out
    graph = graph_of(Node.make("ATAN2", [sin, x], [Value(x.type, "y")]), x)
    save(graph, tmp_path / "a.tflite", identifier="TFL3")
    (tmp_path / "b.circle").write_bytes(b"old")
    with pytest.raises(TargetError, match="ATAN2") as refused:
        convert(tmp_path / "a.tflite", tmp_path / "b.circle", "one")
    assert "SIGN" in str(refused.value)
    assert (tmp_path / "b.circle").read_bytes() == b"old"
    assert convert(tmp_path / "a.tflite", tmp_path / "b.circle", keep=True).losses == ()
    assert [node.op for node in read(tmp_path / "b.circle").graph.nodes()] == ["SIGN", "ATAN2"]


def test_keeping_changes_nothing_but_the_format(exported: Any, tmp_path: Path) -> None:
    exported.save(tmp_path / "a.tflite")
    convert(tmp_path / "a.tflite", tmp_path / "b.circle", keep=True)
    assert not diff(tmp_path / "a.tflite", tmp_path / "b.circle")
    assert survey(tmp_path / "b.circle").identifier == "CIR0"
    convert(tmp_path / "b.circle", tmp_path / "c.tflite", keep=True)
    assert not diff(tmp_path / "a.tflite", tmp_path / "c.tflite")
    if runtimes.available("litert"):
        np.testing.assert_array_equal(run(tmp_path / "a.tflite"), run(tmp_path / "c.tflite"))


def test_keeping_keeps_what_torch2circle_does_not_know(tmp_path: Path) -> None:
    """An operator that is in no table, data that stands outside of the flatbuffer, codes of old files."""
    numbers = np.array([3, 4], np.float32).tobytes()
    plain = {"shape": [2], "type": "FLOAT32"}
    tensors = [plain | {"name": "x"}, plain | {"name": "y", "type": "COMPLEX64"}, plain | {"name": "c", "buffer": 1}]

    def model(offset: int) -> bytes:
        operators = [{"inputs": [0, 2], "outputs": [1]}]
        return packed(operators, [{"deprecated_builtin_code": 52}], tensors, buffers=[{}, {"offset": offset, "size": 8}])

    (tmp_path / "a.tflite").write_bytes(model(len(model(99_999))) + numbers)
    convert(tmp_path / "a.tflite", tmp_path / "b.circle", keep=True)
    ((_, operator),) = survey(tmp_path / "b.circle").operators()
    assert operator.op == survey(tmp_path / "a.tflite").subgraphs[0].operators[0].op
    (blob,) = [blob for blob in survey(tmp_path / "b.circle").blobs if blob.data is not None]
    assert blob.data is not None
    assert blob.data.tobytes() == numbers
    assert blob.position % 16 == 0


def test_what_tflite_lacks_is_refused(tmp_path: Path) -> None:
    x = Value(Type((2, 4), F32), "x")
    scale = constant(np.ones(4, np.float32), "scale")
    norm = graph_of(Node.make("RMS_NORM", [x, scale], [Value(x.type, "y")], {"epsilon": 1e-5}), x)
    save(norm, tmp_path / "a.circle", identifier="CIR0")
    with pytest.raises(TargetError, match=r"BuiltinOperator.RMS_NORM x1") as refused:
        convert(tmp_path / "a.circle", tmp_path / "b.tflite", keep=True)
    assert "RmsNormOptions" in str(refused.value)
    assert not (tmp_path / "b.tflite").exists()


@BOTH
def test_weights_of_four_bits(tmp_path: Path) -> None:
    """onert has them in 8, the same integers; LiteRT in 4 again."""
    rng = np.random.default_rng(2)
    x = Value(Type((2, 6), F32), "x")
    quant = Quant(rng.uniform(0.1, 1, 4).astype(np.float32), np.zeros(4, np.int64), 0)
    weight = Value(Type((4, 6), DType.INT4, quant), "w", data=constant(rng.integers(-8, 8, (4, 6)).astype(np.int8), "w").data)
    save(
        graph_of(Node.make("FULLY_CONNECTED", [x, weight, None], [Value(Type((2, 4), F32), "y")]), x),
        tmp_path / "a.tflite",
        identifier="TFL3",
    )
    made = convert(tmp_path / "a.tflite", tmp_path / "b.circle")
    assert [f.code for f in made.findings] == ["int4"]
    assert made.losses == ()
    given = rng.normal(size=(2, 6)).astype(np.float32)
    want = given @ (weight.array() * quant.scale[:, None]).T
    np.testing.assert_allclose(
        run(tmp_path / "b.circle", given), want, atol=0.02 * np.abs(want).max()
    )  # activations in 8 bits: 1/127, twice
    assert convert(tmp_path / "a.tflite", tmp_path / "c.tflite").findings == ()
    assert not diff(tmp_path / "a.tflite", tmp_path / "c.tflite").without("topology", "weights")


def test_element_types_of_circle_alone_are_refused(tmp_path: Path) -> None:
    data = changed(to_bytes(convolution(), identifier="CIR0"), lambda m: tensor(m, "weight").update(type="GGML_Q4_0"))
    (tmp_path / "a.circle").write_bytes(data)
    with pytest.raises(FormatError, match="weight is GGML_Q4_0, which is not supported"):
        convert(tmp_path / "a.circle", tmp_path / "b.tflite")
    with pytest.raises(TargetError, match=r"TensorType.GGML_Q4_0 x1"):
        convert(tmp_path / "a.circle", tmp_path / "b.tflite", keep=True)
    assert not (tmp_path / "b.tflite").exists()


def test_a_state_is_refused_where_the_runtime_has_none(tmp_path: Path) -> None:
    state = Value(Type((2,), F32), "state", variable=True)
    x = Value(Type((2,), F32), "x")
    save(graph_of(Node.make("ADD", [x, state], [Value(x.type, "y")]), x), tmp_path / "a.tflite", identifier="TFL3")
    with pytest.raises(TargetError, match="keeps a state from call to call"):
        convert(tmp_path / "a.tflite", tmp_path / "b.circle")


def test_weights_in_another_order_are_refused(tmp_path: Path) -> None:
    x = Value(Type((2, 3), F32), "x")
    options = {"weights_format": "SHUFFLED16x1FLOAT32"}
    node = Node.make("FULLY_CONNECTED", [x, constant(np.ones((4, 3), np.float32), "w"), None], [Value(Type((2, 4), F32), "y")], options)
    save(graph_of(node, x), tmp_path / "a.circle", identifier="CIR0")
    with pytest.raises(TargetError, match="stand in another order"):
        convert(tmp_path / "a.circle", tmp_path / "b.tflite")
    with pytest.raises(TargetError, match="SHUFFLED16x1FLOAT32"):
        convert(tmp_path / "a.circle", tmp_path / "b.tflite", keep=True)


def two_methods() -> dict[str, Graph]:
    return {"a": convolution(), "b": quantized_convolution()}


def test_one_of_several_methods(tmp_path: Path) -> None:
    save(two_methods(), tmp_path / "both.tflite", identifier="TFL3")
    with pytest.raises(TargetError, match="can call only one method of a file, which has 2: a, b"):
        convert(tmp_path / "both.tflite", tmp_path / "c.circle")
    with pytest.raises(FormatError, match="the file has no method c: a, b"):
        convert(tmp_path / "both.tflite", tmp_path / "c.circle", method="c")
    made = convert(tmp_path / "both.tflite", tmp_path / "c.circle", method="a")
    assert [(f.code, f.path) for f in made.losses] == [("subgraph", "b"), ("method", "b")]
    assert list(read(tmp_path / "c.circle").graphs) == ["a"]
    assert convert(tmp_path / "both.tflite", tmp_path / "again.tflite").losses == ()
    assert list(read(tmp_path / "again.tflite").graphs) == ["a", "b"]


def test_custom_operators_keep_their_types(tmp_path: Path) -> None:
    def custom(quant: Quant | None, dtype: DType) -> Graph:
        x = Value(Type((2,), dtype, quant), "x")
        return graph_of(Node.make("CUSTOM", [x], [Value(x.type, "y")], {"custom_code": "Mine", "custom_options": b"abc"}), x)

    save(custom(None, F32), tmp_path / "a.tflite", identifier="TFL3")
    convert(tmp_path / "a.tflite", tmp_path / "b.circle")
    (node,) = read(tmp_path / "b.circle").graph.nodes()
    assert node.attrs == {"custom_code": "Mine", "custom_options": b"abc"}
    save(custom(Quant.per_tensor(0.5, 0), DType.INT8), tmp_path / "a.tflite", identifier="TFL3")
    with pytest.raises(TargetError, match="only its application knows"):
        convert(tmp_path / "a.tflite", tmp_path / "b.circle")


def test_a_file_may_be_converted_in_place(tmp_path: Path) -> None:
    save(quantized_convolution(), tmp_path / "a.circle", identifier="CIR0")
    for keep in (True, False):
        convert(tmp_path / "a.circle", tmp_path / "a.circle", keep=keep)
        assert check(tmp_path / "a.circle") == []


def test_one_scale_is_of_the_whole_tensor_whatever_the_dimension() -> None:
    data = changed(
        to_bytes(quantized_convolution(), identifier="TFL3"), lambda m: tensor(m, "x")["quantization"].update(quantized_dimension=3)
    )
    assert read(data).graph.inputs[0].type.quant == Quant.per_tensor(0.5, -3)
