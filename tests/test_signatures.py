"""What a file's inputs and outputs are called, in which structure they may come, and several methods in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import torch2circle
from cases.making import Call, seeded
from torch2circle import runtimes
from torch2circle.errors import FormatError, LoadError, RecordError, TargetError, UnsupportedUse, VerifyFailed
from torch2circle.format import limits, read, survey, to_bytes
from torch2circle.ir import Array
from torch2circle.pipeline import ExportedModel
from torch2circle.quant import array_of
from torch2circle.record import Ref

X = torch.linspace(-2, 2, 10).reshape(2, 5)
Y = torch.linspace(3, 1, 10).reshape(2, 5)


class Pair(NamedTuple):
    left: Tensor
    right: Any


@dataclass(frozen=True)
class Sides:
    left: Tensor
    right: Any


class Known:
    """Registered with PyTorch, without names for its parts."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second = first, second


pytree.register_pytree_node(Known, lambda known: ([known.first, known.second], None), lambda parts, _: Known(*parts))


class Box:
    def __init__(self, inside: Any) -> None:
        self.inside = inside


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.back = nn.Linear(5, 3), nn.Linear(3, 5)
        self.register_buffer("table", torch.arange(6.0).reshape(2, 3))

    def forward(self, x: Tensor, scale: Tensor, unused: Tensor, *, shift: Tensor | None = None, times: int = 1) -> Any:
        hidden = self.linear(x * scale) * times
        if shift is not None:
            hidden = hidden + shift
        return {"logits": hidden, "scale": scale, "same": [hidden, self.table], "seen": Pair(hidden.sum(1), None), "count": times}

    def encode(self, x: Tensor) -> Tensor:
        made: Tensor = self.linear(x)
        return made

    def decode(self, code: Tensor, gain: Tensor) -> dict[str, Tensor]:
        return {"image": self.back(code) * gain, "code": code}


def net() -> Net:
    model = seeded(Net())
    assert isinstance(model, Net)
    return model


def by_signature(exported: ExportedModel, path: Path) -> dict[str, Array]:
    """The outputs that LiteRT's signature runner gives for the recorded inputs, by name; they must be what PyTorch gave."""
    exported.save(path)
    recording, graph = exported.recording, read(path).graph
    batch = [array_of(recording.tensors[i]) for i in recording.inputs]
    signature = runtimes.Signature("serving_default", graph.input_names, graph.output_names)
    (result,) = runtimes.run_many("litert", [runtimes.Job(path, [batch], signature)])
    assert isinstance(result, runtimes.Result), result
    made = dict(zip(graph.output_names, result.outputs[0], strict=True))
    for name, out in zip(recording.output_names, recording.outputs, strict=True):
        want = array_of(recording.tensors[out.index] if isinstance(out, Ref) else out)
        np.testing.assert_allclose(made[name], want, rtol=0, atol=1e-5)  # the runtimes add products in another order
    return made


litert = pytest.mark.skipif(not runtimes.available("litert"), reason="LiteRT is not installed")


@litert
def test_names_are_those_of_the_models_own_signature(tmp_path: Path) -> None:
    exported = torch2circle.export(net(), (X, Y, X[:1]), {"shift": torch.ones(3), "times": 2})
    made = by_signature(exported, tmp_path / "net.tflite")
    assert exported.graph.input_names == ("x", "scale", "unused", "shift")
    assert list(made) == ["logits", "scale", "same_0", "same_1", "seen_left"]
    assert [(f.code, f.path, f.message) for f in exported.diagnostics()] == [
        ("input-not-a-tensor", "times", "2 is no tensor, its value is fixed in the file"),
        ("output-not-a-tensor", "seen_right", "None is no tensor, the file does not give it"),
        ("output-not-a-tensor", "count", "2 is no tensor, the file does not give it"),
    ]
    program = torch.export.export(net(), (X, Y, X[:1]), {"shift": torch.ones(3), "times": 2})
    again = torch2circle.export(program)
    assert (again.graph.input_names, again.graph.output_names) == (exported.graph.input_names, exported.graph.output_names)
    for runtime in filter(runtimes.available, ("onert", "litert")):
        assert exported.verify(runtime).ok(0.05)  # in steps of 2**-16 of the largest magnitude


def in_parts(kind: Any) -> Any:
    return lambda pair: kind(pair.left + pair.right["a"], [pair.left * 2, pair.right["b"]])


ROUND_TRIPS = {
    "named tuple": (in_parts(Pair), (Pair(X, {"a": Y, "b": X + 1}),), ("left", "right_a", "right_b"), ("left", "right_0", "right_1")),
    "dataclass": (in_parts(Sides), (Sides(X, {"a": Y, "b": X + 1}),), ("left", "right_a", "right_b"), ("left", "right_0", "right_1")),
    "registered": (lambda k: (k.first + k.second, Known(k.first, k.second)), (Known(X, Y),), ("0", "1"), ("0", "1_0", "1_1")),
}


@litert
@pytest.mark.parametrize("kind", ROUND_TRIPS)
def test_structures_are_taken_apart_by_name(kind: str, tmp_path: Path) -> None:
    function, args, ins, outs = ROUND_TRIPS[kind]
    exported = torch2circle.export(Call(function).eval(), args)
    made = by_signature(exported, tmp_path / "net.tflite")
    root = "output_" if kind == "registered" else ""  # its parts have no names of their own
    assert exported.graph.input_names == tuple(f"args_0_{name}" for name in ins)
    assert tuple(made) == tuple(f"{root}{name}" for name in outs)


@pytest.mark.parametrize("args", [([X], Y), ([X], Y, X), ({"k": X}, Y, [X, Y])], ids=["two", "three", "nested"])
def test_every_form_of_a_model_has_the_same_names(args: tuple[Any, ...]) -> None:
    class Model(nn.Module):
        def forward(self, first: Any, b: Tensor, *rest: Any) -> dict[str, Any]:
            (x,) = first.values() if isinstance(first, dict) else first
            return {"b": x + b, "a": [x * 2, rest]}

    model = Model().eval()
    eager, program = torch2circle.export(model, args).graph, torch2circle.export(torch.export.export(model, args)).graph
    assert (program.input_names, program.output_names) == (eager.input_names, eager.output_names)
    assert eager.input_names[1] == "b"
    assert eager.output_names[:2] == ("b", "a_0")


def test_a_dataclass_that_torch_export_knows_has_its_fields() -> None:
    @dataclass
    class Batch:
        mask: Tensor | None
        image: Tensor

    class Model(nn.Module):
        def forward(self, batch: Batch) -> Batch:
            return Batch(None, batch.image * 2)

    before = torch2circle.export(Model().eval(), (Batch(None, X),)).graph
    torch.export.register_dataclass(Batch, serialized_type_name="test_signatures.Batch")
    program = torch.export.export(Model().eval(), (Batch(None, X),))
    for graph in (before, torch2circle.export(Model().eval(), (Batch(None, X),)).graph, torch2circle.export(program).graph):
        assert (graph.input_names, graph.output_names) == (("batch_image",), ("image",))


def test_torchscript_has_the_names_of_its_schema() -> None:
    class Model(nn.Module):
        def forward(self, image: Tensor, pair: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            return {"b": image * pair[0], "a": pair[1]}

    graph = torch2circle.export(torch.jit.script(Model().eval()), (X, (Y, Y))).graph
    assert (graph.input_names, graph.output_names) == (("image", "pair_0", "pair_1"), ("b", "a"))


def test_names_that_collide_get_the_first_free_numbers() -> None:
    exported = torch2circle.export(Call(lambda x: {"a": [x + 1], "a_0": x + 2, "a_1": x + 3}).eval(), (X,))
    assert exported.graph.output_names == ("a_0_0", "a_0_1", "a_1")
    twice = torch2circle.export(Call(lambda x: {"a": [x + 1], "a_0": x + 2, "a_0_0": x + 3}).eval(), (X,))
    assert twice.graph.output_names == ("a_0_1", "a_0_2", "a_0_0")


def test_tensors_in_objects_of_unknown_structure_are_refused() -> None:
    for function, args, what in [
        (lambda box: box.inside + 1, (Box(X),), "input args_0"),
        (lambda box: box.inside[0] + 1, (Box([X]),), "input args_0"),
        (lambda x: {"made": Box(x + 1)}, (X,), "output made"),
    ]:
        with pytest.raises(RecordError, match=f"{what} holds tensors in an object of unknown structure: Box"):
            torch2circle.export(Call(function).eval(), args)


def test_inputs_and_outputs_without_elements_are_refused() -> None:
    with pytest.raises(UnsupportedUse, match=r"shape of input args_0 not supported: \[0, 5\]"):
        torch2circle.export(Call(lambda x: x + 1).eval(), (X[:0],))
    with pytest.raises(UnsupportedUse, match=r"shape of output output not supported: \[0, 5\]"):
        torch2circle.export(Call(lambda x: x[:0]).eval(), (X,))


def test_an_operator_on_no_elements_is_refused() -> None:
    with pytest.raises(UnsupportedUse, match=r"operand of aten::sum not supported: a tensor without elements") as raised:
        torch2circle.export(Call(lambda x: x + x[:0].sum()).eval(), (X,))
    assert raised.value.where
    assert raised.value.where.file.endswith("test_signatures.py")


@pytest.mark.parametrize(("package", "target"), [("circle_schema.v0_10.circle", "onert"), ("tflite", "litert")])
def test_official_bindings_read_the_names(package: str, target: str) -> None:
    module = pytest.importorskip(f"{package}.Model", reason="the official bindings are not installed")
    model = module.Model.GetRootAs(torch2circle.export(net(), (X, Y, X[:1])).to_bytes(target))
    signature, tensors = model.SignatureDefs(0), model.Subgraphs(0).Tensors
    ins = [signature.Inputs(i) for i in range(signature.InputsLength())]
    assert [entry.Name() for entry in ins] == [tensors(entry.TensorIndex()).Name() for entry in ins] == [b"x", b"scale", b"unused"]
    outs = [signature.Outputs(i).Name() for i in range(signature.OutputsLength())]
    assert outs == [b"logits", b"scale", b"same_0", b"same_1", b"seen_left"]


# -- several methods


def both() -> torch2circle.ExportedMethods:
    model = net()
    code = torch.linspace(-1, 1, 6).reshape(2, 3)
    return torch2circle.export_many({"encode": (model.encode, (X,)), "decode": (model.decode, (code,), {"gain": Y})})


def test_a_method_is_exported_with_its_own_parameters_and_places() -> None:
    exported = torch2circle.export(net().encode, (X,))
    assert exported.graph.input_names == ("x",)
    (call,) = exported.recording.needed()
    assert (call.where.module, call.where.file.endswith("test_signatures.py")) == ("linear", True)
    assert exported.recording.name_of(call.args["weight"]) == "linear.weight"
    with pytest.raises(RecordError, match="train mode"):
        torch2circle.export(net().train().encode, (X,))
    with pytest.raises(LoadError, match="not a PyTorch model: function"):
        torch2circle.export(lambda x: x, (X,))


@litert
def test_methods_share_a_file(tmp_path: Path) -> None:
    exported, path = both(), tmp_path / "net.tflite"
    exported.save(path)
    assert path.read_bytes() == exported.to_bytes("litert")
    contents = read(path)
    assert {name: (g.input_names, g.output_names) for name, g in contents.graphs.items()} == {
        "encode": (("x",), ("output",)),
        "decode": (("code", "gain"), ("image", "code")),
    }
    assert to_bytes(contents.graphs, identifier="TFL3", metadata=contents.metadata) == path.read_bytes()
    for report in (exported.verify("litert"), exported.verify("litert", path)):
        assert [c.name.partition(":")[0] for c in report.outputs] == ["encode", "decode", "decode"]
        assert report.share == 1
        assert report.ok(0.05)  # in steps of 2**-16 of the largest magnitude
    other = torch2circle.export_many({"encode": (net().encode, (X,)), "other": (net().encode, (X,))})
    with pytest.raises(VerifyFailed, match="has no method other, only encode, decode"):
        other.verify("litert", path)
    with pytest.raises(FormatError, match="several methods: encode, decode"):
        exported["encode"].verify("litert", path)


def test_what_methods_have_in_common_is_written_once() -> None:
    class Wide(nn.Linear):
        def residual(self, x: Tensor) -> Tensor:
            return self(x) + x

    model = Wide(100, 100).eval()
    x = torch.ones(1, 100)
    alone = len(torch2circle.export(model, (x,)).to_bytes("litert"))
    two = len(torch2circle.export_many({"plain": (model, (x,)), "residual": (model.residual, (x,))}).to_bytes("litert"))
    assert alone > 40_000
    assert two < alone + 2_000


def test_the_limit_of_a_file_counts_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(nn.Linear):
        def residual(self, x: Tensor) -> Tensor:
            return self(x) + x

    model, other, x = Wide(100, 100).eval(), nn.Linear(100, 100).eval(), torch.ones(1, 100)
    monkeypatch.setattr(limits, "SIZE_LIMIT", 60_000)
    shared = torch2circle.export_many({"plain": (model, (x,)), "residual": (model.residual, (x,))}).to_bytes("litert")
    own = torch2circle.export_many({"plain": (model, (x,)), "other": (other, (x,))}).to_bytes("litert")
    assert [any(blob.by_offset for blob in survey(data).blobs) for data in (shared, own)] == [False, True]


def test_circle_runtimes_call_one_method(tmp_path: Path) -> None:
    exported = both()
    for target in ("onert", "one"):
        with pytest.raises(TargetError, match="only one method of a file, which has 2: encode, decode") as raised:
            exported.save(tmp_path / "net.circle", target)
        assert 'exported["name"].save("name.circle")' in str(raised.value)
    assert not list(tmp_path.iterdir())
    exported["decode"].save(tmp_path / "decode.circle")
    single = torch2circle.ExportedMethods({"decode": exported["decode"]})
    single.save(tmp_path / "single.circle")
    assert list(read(tmp_path / "single.circle").graphs) == ["decode"]
    if runtimes.available("onert"):
        assert single.verify("onert").ok(0.05)  # in steps of 2**-16 of the largest magnitude


def test_mistakes_name_the_method() -> None:
    model = net()
    with pytest.raises(LoadError, match="no method to export"):
        torch2circle.export_many({})
    with pytest.raises(LoadError, match="method encode is not given with its example inputs"):
        torch2circle.export_many({"encode": model.encode})  # type: ignore[dict-item]
    with pytest.raises(RecordError, match="method decode: the model cannot run on these inputs"):
        torch2circle.export_many({"encode": (model.encode, (X,)), "decode": (model.decode, (X, X))})
