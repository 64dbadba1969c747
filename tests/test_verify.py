"""Verification finds what is wrong with a file: the operator, its line in the model, and what it has otherwise."""

from __future__ import annotations

import json
import linecache
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional
from torch.ao.quantization import DeQuantStub, QuantStub, convert, fuse_modules, get_default_qconfig, prepare

import torch2circle
import zoo
from cases.making import Q, ints
from torch2circle import cli, runtimes
from torch2circle.errors import FormatError, MissingRuntime, RecordError, TargetError, VerifyFailed
from torch2circle.format import read, save
from torch2circle.ir import Array, Constant, DType, Graph, Node, Quant, Type, Value
from torch2circle.pipeline import ExportedModel
from torch2circle.targets import TARGETS
from torch2circle.verify import isolated, recorded
from torch2circle.verify.blame import first_that_fails

TARGET = pytest.mark.parametrize(
    "target", [pytest.param(t, marks=pytest.mark.skipif(not runtimes.available(t), reason="not installed")) for t in ("onert", "litert")]
)


class Net(nn.Module):
    """An operator of each kind that a file can have wrong, each on a line of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.first, self.act = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU()
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.left, self.right = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.plus, self.low, self.cat = FloatFunctional(), nn.ReLU(), FloatFunctional()
        self.gate = nn.Sigmoid()
        self.fc = nn.Linear(16, 10)
        self.soft = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        x = self.act(self.first(x))
        x = self.deep(x)
        x = self.pool(x)
        left = self.left(x)
        right = self.right(x)
        x = self.low(self.plus.add(left, x))
        gate = self.gate(right)
        x = self.cat.cat([x, gate], 1)
        x = torch.flip(x, (2,))
        x = x.mean((2, 3))
        x = self.fc(x)
        scores = self.dequant(x)
        likely = self.soft(scores)
        return likely - scores


@cache
def network() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net().eval()
        model.qconfig = get_default_qconfig("fbgemm")  # type: ignore[assignment]
        fuse_modules(model, [["first", "act"]], inplace=True)
        prepare(model, inplace=True)
        images = torch.randn(5, 1, 3, 12, 12)
        for image in images[1:]:
            model(image)
        convert(model, inplace=True)
    return model, images[0]


@cache
def export() -> ExportedModel:
    model, x = network()
    return torch2circle.export(model, (x,))


pytestmark = pytest.mark.usefixtures("fresh_random_and_quiet")


# ---- a correct file, and one of its operators changed


def changed(graph: Graph, change: Callable[[Node], Node | Value]) -> Graph:
    """The graph with what ``change`` makes of each operator; a value in its place bypasses it."""
    new: dict[Value, Value] = {}
    for node in graph.nodes():
        made = change(node.rebuilt(inputs=[v and new.get(v, v) for v in node.inputs]))
        results = made.outputs if isinstance(made, Node) else (made,)
        new.update(zip(node.outputs, results, strict=True))
    return replace(graph, outputs=tuple(new.get(v, v) for v in graph.outputs))


Mutation = Callable[[Node], "Node | Value"]


def constant(index: int, edit: Callable[[Array], Array]) -> Mutation:
    """Other elements in operand ``index``."""

    def mutate(node: Node) -> Node:
        old = node.inputs[index]
        assert old is not None
        inputs = list(node.inputs)
        inputs[index] = replace(old, data=Constant.of(edit(old.array().copy())))
        return node.rebuilt(inputs=inputs)

    return mutate


def element(at: Any, by: int) -> Callable[[Array], Array]:
    def edit(array: Array) -> Array:
        array[at] = array[at] + array.dtype.type(by) if array.dtype.itemsize > 1 else array[at] ^ array.dtype.type(by)
        return array

    return edit


def operand_quant(index: int, edit: Callable[[Quant], Quant]) -> Mutation:
    def mutate(node: Node) -> Node:
        old = node.inputs[index]
        assert old is not None
        assert old.type.quant is not None
        inputs = list(node.inputs)
        inputs[index] = replace(old, type=replace(old.type, quant=edit(old.type.quant)))
        return node.rebuilt(inputs=inputs)

    return mutate


def result_quant(edit: Callable[[Quant], Quant]) -> Mutation:
    def mutate(node: Node) -> Node:
        assert node.out.type.quant is not None
        return node.rebuilt(outputs=[replace(node.out, type=replace(node.out.type, quant=edit(node.out.type.quant)))])

    return mutate


def options(**attrs: Any) -> Mutation:
    return lambda node: node.rebuilt(attrs={**node.attrs, **attrs})


def exchanged(node: Node) -> Node:
    return node.rebuilt(inputs=node.inputs[::-1])


def bypassed(node: Node) -> Value:
    assert node.inputs[0] is not None
    return node.inputs[0]


def as_op(op: str) -> Mutation:
    return lambda node: node.rebuilt(op=op)


def one_scale_of_many(quant: Quant) -> Quant:
    scale = quant.scale.copy()
    scale[3] *= 1.5
    return replace(quant, scale=scale)


def wider(quant: Quant) -> Quant:
    return replace(quant, scale=(quant.scale * 1.25).astype(np.float32))


def channel(array: Array) -> Array:
    array[2] = 255 if array.dtype == np.uint8 else 127
    return array


def off_by_one_behind(node: Node) -> Value:
    """Each integer one larger: the operator's result is requantized by a zero point that is one off."""
    quant = node.out.type.quant
    assert quant is not None
    wrong = replace(node.out.type, quant=quant.shifted(1))
    return Node.make(node.op, node.inputs, [replace(node.out, type=wrong)], node.attrs).out


# kind of fault -> (result of the operator that is changed, how, its line in the model, what is said of it)
MUTATIONS: dict[str, tuple[str, Mutation, str, str]] = {
    "one weight": ("first", constant(1, element((1, 2, 0, 1), 64)), "self.first(x)", "`first.weight` differs in 1 of 216 elements by"),
    "a channel of weights": ("left", constant(1, channel), "self.left(x)", "`left.weight` differs in 7 of 64 elements"),
    "a depthwise weight": ("deep", constant(1, element((0, 1, 1, 4), 32)), "self.deep(x)", "`deep.weight` differs in 1 of 72 elements"),
    "a weight of the last layer": ("fc*", constant(1, lambda w: w[::-1].copy()), "self.fc(x)", "`fc.weight` differs in"),
    "one bias": ("right", constant(2, element(5, 3000)), "self.right(x)", "`right.bias` is ["),
    "the scale of a result": ("deep", result_quant(wider), "self.deep(x)", "the scale of `deep` is 0.017"),
    "the zero point of a result": ("left", result_quant(lambda q: q.shifted(3)), "self.left(x)", "the zero point of `left` is"),
    "the scale of the quantized input": ("quant", result_quant(wider), "self.quant(x)", "the scale of `quant` is"),
    "one scale of many": (
        "right", operand_quant(1, one_scale_of_many), "self.right(x)", "the scale of `right.weight` differs in 1 of 8 channels, first in 3"
    ),
    "the scale of a bias": ("first", operand_quant(2, wider), "self.first(x)", "the scale of `first.bias` differs in 8 of 8 channels"),
    "padding": ("deep", options(padding="VALID"), "self.deep(x)", "padding is VALID, the model's is SAME"),
    "padding where there is none": ("left", options(padding="SAME"), "self.left(x)", "padding is SAME, the model's is VALID"),
    "amounts of padding": ("first.pad", constant(1, lambda _: np.array([[0, 0], [0, 1], [0, 1], [0, 0]], np.int32)), "self.first(x)",
                           "the model's is [[0, 0], [1, 0], [1, 0], [0, 0]]"),
    "stride": ("pool", options(stride_w=2), "self.pool(x)", "stride_w is 2, the model's is 1"),
    "dilation": ("deep", options(dilation_h_factor=2), "self.deep(x)", "dilation_h_factor is 2, the model's is 1"),
    "size of a window": ("pool", options(filter_width=2), "self.pool(x)", "filter_width is 2, the model's is 3"),
    "the activation of a layer": ("first", options(fused_activation_function="NONE"), "self.first(x)",
                                  "fused_activation_function is NONE, the model's is RELU"),
    "the activation of an addition": ("low", options(fused_activation_function="NONE"), "self.plus.add(left, x)",
                                      "fused_activation_function is NONE, the model's is RELU"),
    "operands of a subtraction": ("sub", exchanged, "likely - scores", "its operands are exchanged"),
    "operands of a join": ("cat", exchanged, "self.cat.cat([x, gate], 1)", "its operands are exchanged"),
    "axis of a mean": ("mean", constant(1, lambda _: np.array([1, 1], np.int32)), "x.mean((2, 3))", "is [1, 1], the model's is [1, 2]"),
    "axis of a join": ("cat", options(axis=2), "self.cat.cat([x, gate], 1)", "axis is 2, the model's is 3"),
    "order of dimensions": ("quant.transposed", constant(1, lambda _: np.array([0, 3, 2, 1], np.int32)), "self.first(x)",
                            "is [0, 3, 2, 1], the model's is [0, 2, 3, 1]"),
    "indices of a gather": ("flip", constant(1, element(2, 1)), "torch.flip(x, (2,))", "is [5, 4, 4, 2, 1, 0], the model's is [5, 4, 3"),
    "a pool that is left out": ("pool", bypassed, "self.pool(x)", "the file has no such operator"),
    "a function that is left out": ("soft", bypassed, "self.soft(scores)", "the file has no such operator"),
    "another pool": ("pool", as_op("AVERAGE_POOL_2D"), "self.pool(x)", "it is AVERAGE_POOL_2D, the model's is MAX_POOL_2D"),
    "another operator": ("low", as_op("SUB"), "self.plus.add(left, x)", "it is SUB, the model's is ADD"),
    "the scale of softmax": ("soft", options(beta=2.0), "self.soft(scores)", "beta is 2.0, the model's is 1.0"),
    "rounding of an addition": ("low", result_quant(lambda q: q.shifted(1)), "self.plus.add(left, x)", "the zero point of `low` is"),
}


def mutated(graph: Graph, name: str, mutate: Mutation) -> Graph:
    meant = [node.out.name for node in graph.nodes() if node.out.name == name]
    if name.endswith("*"):  # the layer itself: what is called like this in one runtime only moves its result in the other
        layers = [node for node in graph.nodes() if node.op in ("CONV_2D", "FULLY_CONNECTED")]
        meant = [node.out.name for node in layers if node.out.name.split(".")[0] == name[:-1]]
    assert len(meant) == 1, (name, [node.out.name for node in graph.nodes()])
    return changed(graph, lambda node: mutate(node) if node.out.name == meant[0] else node)


@TARGET
@pytest.mark.parametrize("kind", MUTATIONS)
def test_a_wrong_operator_is_named_with_its_line(kind: str, target: str, tmp_path: Path) -> None:
    name, mutate, line, said = MUTATIONS[kind]
    chosen, path = TARGETS[target], tmp_path / f"net{TARGETS[target].suffix}"
    export().save(path)
    contents = read(path)
    save(mutated(contents.graph, name, mutate), path, identifier=chosen.identifier, metadata=contents.metadata)
    report = export().verify(target, path)
    first = report.first_wrong()
    assert first is not None
    assert not report.ok()
    assert first.name.split(".")[0] == name.rstrip("*").split(".")[0]
    assert Path(first.where.file).name == Path(__file__).name
    assert line in linecache.getline(first.where.file, first.where.line)
    assert any(said in text for text in first.differs), first.differs


def test_what_is_wrong_is_where_errors_begin(tmp_path: Path) -> None:
    """End to end, all is right before the wrong operator and most is wrong behind it; fed with PyTorch's values, that is right."""
    path = tmp_path / "net.tflite"
    export().save(path)
    contents = read(path)
    save(mutated(contents.graph, "deep", constant(1, lambda w: -w)), path, identifier="TFL3")
    report = export().verify("litert", path)
    names = [c.name for c in report.operators]
    assert names == [c.name for c in report.tensors]
    at = names.index("deep")
    assert all(c.lsb <= 1 for c in [*report.operators[:at], *report.operators[at + 1 :], *report.tensors[:at]])
    assert report.operators[at].lsb > 1
    assert sum(c.lsb > 1 for c in report.tensors[at:]) > 5


def test_operators_without_a_source_line_keep_their_place() -> None:
    """A scripted model's operators have a module and no file: each is of its own module, not of what reads it."""
    model, x = network()
    exported = torch2circle.export(torch.jit.trace(model, x), (x,))
    where = {value.name: value.node.where for value in exported.for_target("litert").values() if value.node is not None}
    found = [(c.where, where[c.name]) for c in exported.verify("litert").operators if c.name in where and where[c.name].op]
    assert len(found) > 5
    assert [ours for ours, theirs in found if ours != theirs] == []
    assert not any(place.file for place, _ in found)


def test_operands_of_an_addition_may_be_exchanged(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    export().save(path)
    save(mutated(read(path).graph, "low", exchanged), path, identifier="TFL3")
    report = export().verify("litert", path)
    assert report.ok(), report.first_wrong()


def test_names_are_not_needed(tmp_path: Path) -> None:
    """Operators of a file whose tensors are called otherwise are told by their kind, shape and order."""
    path = tmp_path / "net.tflite"
    export().save(path)
    count = iter(range(1000))

    def renamed(node: Node) -> Node:
        return node.rebuilt(outputs=[replace(out, name=f"t{next(count)}") for out in node.outputs])

    save(changed(read(path).graph, renamed), path, identifier="TFL3")
    report = export().verify("litert", path)
    assert report.ok(), report.first_wrong()
    assert {c.name for c in report.operators} < {f"t{i}" for i in range(30)}
    save(changed(read(path).graph, lambda n: options(padding="VALID")(n) if n.op == "DEPTHWISE_CONV_2D" else n), path, identifier="TFL3")
    first = export().verify("litert", path).first_wrong()
    assert first is not None
    assert first.where.module == "deep"


def test_an_operator_too_many_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    export().save(path)

    def doubled(node: Node) -> Node | Value:
        if node.out.name != "sub":
            return node
        assert node.inputs[1] is not None
        more = Node.make("ADD", (node.inputs[1], node.inputs[1]), [replace(node.out, name="more")], {"fused_activation_function": "NONE"})
        return node.rebuilt(inputs=(node.inputs[0], more.out))

    save(changed(read(path).graph, doubled), path, identifier="TFL3")
    first = export().verify("litert", path).first_wrong()
    assert first is not None
    assert (first.op, first.name, first.differs) == ("ADD", "more", ("the model has no such operator",))
    assert "likely - scores" in linecache.getline(first.where.file, first.where.line)


def test_a_file_of_another_layout_is_compared_end_to_end(tmp_path: Path) -> None:
    model, x = network()
    path = tmp_path / "net.tflite"
    with torch.no_grad():
        wanted = model(x)
    graph = Graph((Value(read_type(x), "x"),), (), ("x",), ())
    answer = Value(read_type(wanted), "answer", data=Constant.of(wanted.numpy()))
    zero = Value(read_type(wanted), "zero", data=Constant.of(np.zeros_like(wanted.numpy())))
    out = Node.make("ADD", (answer, zero), [Value(read_type(wanted), "sum")], {"fused_activation_function": "NONE"}).out
    save(replace(graph, outputs=(out,), output_names=("y",)), path, identifier="TFL3")
    report = export().verify("litert", path)
    assert "of another layout, compared end to end only" in report.unaligned
    assert report.share == 1
    away = Value(read_type(wanted), "answer", data=Constant.of(wanted.numpy() + 1))
    out = Node.make("ADD", (away, zero), [Value(read_type(wanted), "sum")], {"fused_activation_function": "NONE"}).out
    save(replace(graph, outputs=(out,), output_names=("y",)), path, identifier="TFL3")
    with pytest.raises(VerifyFailed, match="LSB in output"):
        export().verify("litert", path)


def read_type(tensor: Tensor) -> Type:
    return Type(tuple(tensor.shape), DType.FLOAT32)


# ---- correct files


def lstm_tagger() -> ExportedModel:
    from test_recurrent import Tagger, made

    return torch2circle.export(made(Tagger), (torch.from_numpy(np.random.default_rng(0).integers(0, 50, (1, 12))),))


def of_torchvision(name: str) -> ExportedModel:
    model, x = zoo.quantized(name, "fbgemm", 96)
    return torch2circle.export(model, (x,))


def of_pt2e() -> ExportedModel:
    from cases import CASES

    return next(case for case in CASES if case.id == "pt2e.sum").exported()


CORRECT: dict[str, Callable[[], ExportedModel]] = {
    "every kind": export,
    "resnet18": lambda: of_torchvision("resnet18"),
    "mobilenet_v2": lambda: of_torchvision("mobilenet_v2"),
    "lstm": lstm_tagger,
    "pt2e": of_pt2e,
}


@TARGET
@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_file_is_clean(name: str, target: str, tmp_path: Path) -> None:
    """Written by someone else, as far as one can see: no operator is called wrong, and nothing is left unexplained."""
    exported, chosen = CORRECT[name](), TARGETS[target]
    path = tmp_path / f"model{chosen.suffix}"
    exported.save(path)
    save(read(path).graph, path, identifier=chosen.identifier, metadata={})  # other bytes, the same model
    report = exported.verify(target, path)
    assert report.first_wrong() is None
    assert report.ok()
    assert not report.unaligned
    assert len(report.tensors) == len(report.operators) == len(exported.verify(target).operators)
    differing = sum(c.size - c.equal for c in report.operators)
    assert all(c.reason for c in report.operators if c.equal < c.size)
    unexplained = [c for c in report.operators if "unexplained" in c.reason]
    # a sum on a half up to float32's precision: numpy and the kernel, which multiply in another order, may round it otherwise
    assert sum(c.size - c.equal for c in unexplained) <= 0.001 * differing, unexplained


# ---- reasons


def reasons(exported: ExportedModel, target: str) -> set[str]:
    said = (c.reason for c in exported.verify(target).operators)
    return {re.sub(r" [\d,]+$", "", part) for reason in said if reason for part in reason.split(", ") if not part.startswith("rounded")}


def named_case(name: str) -> ExportedModel:
    from cases import CASES

    return next(case for case in CASES if case.id == name).exported()


@pytest.mark.parametrize(
    ("case", "target", "said"),
    [
        ("conv.relu", "litert", "bias rounding"),
        ("conv", "onert", "rounding: fixed point"),
        ("avg_pool", "onert", "average rounding: halves away from zero"),
        ("onednn.mul", "onert", "rounding: fixed point"),
        ("onednn.conv_sum", "litert", "rounding: in between"),
        ("dynamic.transposed2d_qnnpack.exact", "litert", "hybrid: activations are quantized at run time"),
        ("bilinear.fraction", "litert", "island: computed in float"),
    ],
)
def test_reasons_are_named(case: str, target: str, said: str) -> None:
    if not runtimes.available(target):
        pytest.skip("not installed")
    found = reasons(named_case(case), target)
    assert any(reason.startswith(said) for reason in found), found
    assert not any("unexplained" in reason for reason in found), found


def test_a_reason_must_explain() -> None:
    """An operator of the file that is one step off everywhere is not called rounding."""
    from torch2circle.verify.reasons import Piece, reason
    from torch2circle.verify.report import compare

    model = export()
    parts = isolated(model.for_target("litert"))
    for out in parts.outputs:
        if out.node is None or out.node.op not in ("CONV_2D", "ADD", "MEAN"):
            continue
        feeds = {value: recorded(model.recording, value) for value in parts.inputs}
        want = recorded(model.recording, out)
        inner = (want > -100) & (want < 100)  # not where the type or the activation ends
        got = np.where(inner, want + 1, want).astype(want.dtype)
        said = reason(Piece(out, feeds, got, want, compare(out, got, want), model, "litert"))
        assert said.startswith("unexplained"), (out.name, said)


def test_a_saturating_kernel_is_named() -> None:
    """One that is wrong on every machine: PyTorch forgets the relu, and the file does not."""
    forgetful = ints(lambda a: Q.add_scalar_relu(a, torch.tensor(1.7)), (2, 5, 7, 3))
    for target in filter(runtimes.available, ("onert", "litert")):
        said = [c.reason for c in torch2circle.export(*forgetful).verify(target).operators if c.reason]
        assert any(re.match(r"kernel deviates: PyTorch's own result is off in \d+ elements, by up to \d+ LSB", text) for text in said), said


# ---- more inputs


@TARGET
def test_samples(target: str) -> None:
    exported = export()
    images = torch.randn(2, 1, 3, 12, 12)
    report = exported.verify(target, inputs=[images[0], (images[1],)], random=2)
    assert report.samples == 5
    assert report.ok()
    one = exported.verify(target)
    assert [c.size for c in report.operators] == [5 * c.size for c in one.operators]
    assert [c.equal for c in report.operators] == [c.equal for c in exported.verify(target, inputs=images[:, :], random=2).operators]


def test_samples_that_do_not_fit() -> None:
    said = "input 0 of sample 2 is float32[1, 3, 12, 13], the recorded one float32[1, 3, 12, 12]"
    with pytest.raises(RecordError, match=re.escape(said)):
        export().verify("litert", inputs=[torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 12, 13)])
    with pytest.raises(RecordError, match=re.escape("sample 1 has the inputs x; the recorded ones are 0")):
        export().verify("litert", inputs=[{"x": torch.zeros(1, 3, 12, 12)}])
    with pytest.raises(RecordError, match="a sample must be"):
        export().verify("litert", inputs=[3])


# ---- runtimes that refuse, die and hang


@pytest.mark.skipif(not runtimes.available("onert"), reason="not installed")
def test_an_operator_that_kills_the_runtime_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.circle"
    export().save(path)
    deadly = mutated(read(path).graph, "flip", constant(1, lambda index: np.full_like(index, 20_000_001)))  # far outside of memory
    save(deadly, path, identifier="CIR0")
    report = export().verify("onert", path)
    assert not report.ok()
    assert "killed by SIG" in report.failed
    first = report.first_wrong()
    assert first is not None
    assert first.name == "flip"
    assert "killed by SIG" in next(c.reason for c in report.operators if c.name == "flip") or first.reason == "; ".join(first.differs)
    image = network()[1].numpy()
    node = first_that_fails(TARGETS["onert"], deadly, [image], tmp_path, 60)
    assert node is not None
    assert node.out.name == "flip"


def hanging(monkeypatch: pytest.MonkeyPatch, op: str) -> None:
    """A runtime that never returns from an operator: its process is asked, waited for, and given up."""
    real = runtimes._work

    def work(runtime: str, order: str, timeout: float) -> str:
        folder, first, *_ = json.loads(order)
        path, *_ = json.loads((Path(folder) / f"{first}.job").read_text())
        if any(node.op == op for node in read(path).graph.nodes()):
            time.sleep(timeout)
            return f"no result after {timeout:g} s"
        return real(runtime, order, 60)

    monkeypatch.setattr(runtimes, "_work", work)


@TARGET
def test_an_operator_that_hangs_is_named(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging(monkeypatch, "LOGISTIC")
    with pytest.raises(TargetError, match=r"no result after 0\.1 s; the first operator that does this is LOGISTIC gate") as caught:
        export().verify(target, timeout=0.1)
    where = caught.value.where
    assert where is not None
    assert "self.gate(right)" in linecache.getline(where.file, where.line)


def test_a_file_that_fails_only_as_a_whole_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operator runs alone; what is too much for the runtime is the tenth."""
    real = runtimes._work

    def work(runtime: str, order: str, timeout: float) -> str:
        folder, first, *_ = json.loads(order)
        path, *_ = json.loads((Path(folder) / f"{first}.job").read_text())
        graph = read(path).graph
        return "killed by SIGABRT" if len(graph.nodes()) >= 10 and len(graph.inputs) == 1 else real(runtime, order, timeout)

    monkeypatch.setattr(runtimes, "_work", work)
    tenth = export().for_target("litert").nodes()[9]
    with pytest.raises(TargetError, match=f"killed by SIGABRT; the first operator that does this is {tenth.op} {tenth.out.name}"):
        export().verify("litert")


# ---- the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    model, x = network()
    torch.save(model, "net.pt")
    np.savez("image.npz", x.numpy())
    np.savez("other.npz", np.roll(x.numpy(), 1, 3))
    export().save("net.circle")
    export().save("net.tflite")
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main(["verify", *args])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(caught.value.code or 0), said.out, said.err

    return run


Command = Callable[..., tuple[int, str, str]]
TRUSTED = "--trust-pickle"
GIVEN = ("--inputs", "image.npz", TRUSTED)
SAMPLE = GIVEN[:2]
WHOLE = pytest.mark.skipif(len(runtimes.versions()) < 2, reason="both runtimes are needed")


def break_file(path: str, kind: str = "padding") -> None:
    graph = read(path).graph
    identifier = read(path).identifier
    save(mutated(graph, *MUTATIONS[kind][:2]), path, identifier=identifier)


@WHOLE
def test_the_command_names_the_operator(folder: Path, command: Command) -> None:
    assert command("net.pt", "net.circle", *GIVEN, "--inputs", "other.npz", "--samples", "2")[0] == 0
    break_file("net.circle")
    code, out, err = command("net.pt", "net.circle", *GIVEN)
    assert code == VerifyFailed.exit_code
    assert err.startswith("error: DEPTHWISE_CONV_2D deep is not the model's: padding is VALID, the model's is SAME; in onert it is off by")
    assert "in deep" in err
    assert "padding is VALID, the model's is SAME" in out
    assert "differs from the model" in out


@WHOLE
def test_thresholds(folder: Path, command: Command) -> None:
    """One of 288 elements of a convolution is one step off, the bias rounded."""
    for options, said in (
        (["--max-lsb", "0.5"], "is off by 1 LSB"),
        (["--min-equal", "100"], "bit-equal, at least 100.0000% asked for"),
        (["--min-sqnr", "100"], "at least 100 asked for"),
        (["--max-output-lsb", "0.0001"], "output sub in litert: off by"),
        (["--min-output-sqnr", "200"], "at least 200 asked for"),
    ):
        code, _, err = command("net.pt", "net.tflite", *GIVEN, *options)
        assert code == VerifyFailed.exit_code, options
        assert said in err
    assert command("net.pt", "net.tflite", *GIVEN, "--min-equal", "99", "--min-sqnr", "20", "--max-output-lsb", "3")[0] == 0
    assert command("net.pt", "net.tflite", *GIVEN, "--min-equal", "101")[0] == 2


@WHOLE
def test_junit(folder: Path, command: Command) -> None:
    assert command("net.pt", "net.tflite", *GIVEN, "--junit", "good.xml")[0] == 0
    break_file("net.tflite")
    assert command("net.pt", "net.tflite", *GIVEN, "--junit", "bad.xml")[0] == VerifyFailed.exit_code
    good, bad = (ET.parse(name).getroot() for name in ("good.xml", "bad.xml"))
    assert good.get("failures") == "0"
    assert int(good.get("tests") or 0) == len(good.findall(".//testcase")) > 15
    failed = [case for case in bad.iter("testcase") if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == ["DEPTHWISE_CONV_2D deep"]
    (failure,) = failed[0].iter("failure")
    assert "padding is VALID" in (failure.get("message") or "")
    assert failed[0].get("classname") == "deep"
    before = Path("bad.xml").read_bytes()
    assert command("net.pt", "net.tflite", *GIVEN, "--junit", "absent/x.xml")[0] == torch2circle.WriteError.exit_code
    assert Path("bad.xml").read_bytes() == before


@WHOLE
def test_json_is_strict(folder: Path, command: Command) -> None:
    break_file("net.circle", "a pool that is left out")

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    code, out, _ = command("net.pt", "net.circle", *GIVEN, "--json")
    assert code == VerifyFailed.exit_code
    table = json.loads(out, parse_constant=refuse)
    (lacking,) = [row for row in table["operators"] if row["differs"]]
    assert (lacking["op"], lacking["name"], lacking["lsb"]) == ("MAX_POOL_2D", "pool", None)


@WHOLE
def test_two_files(folder: Path, command: Command) -> None:
    code, out, err = command("net.circle", "net.tflite", *SAMPLE, "--max-output-lsb", "3")
    assert (code, err) == (0, "")
    assert "CONV_2D" in out
    table = json.loads(command("net.circle", "net.tflite", "--samples", "3", "--json", "--max-output-lsb", "3")[1])
    assert table["runtimes"] == ["onert", "litert"]
    assert table["samples"] == 3
    assert {row["name"] for row in table["tensors"]} >= {"first", "deep", "pool", "left", "low", "gate", "cat", "flip", "mean", "sub"}
    export().save("same.tflite")
    assert command("same.tflite", "net.tflite")[0] == 0
    break_file("net.tflite", "a channel of weights")
    code, _, err = command("same.tflite", "net.tflite", *SAMPLE)
    assert code == VerifyFailed.exit_code
    assert "the first tensor of both that differs is left (CONV_2D)" in err
    assert command("same.tflite", "net.tflite", "--target", "litert")[0] == 2
    assert command("same.tflite", "net.tflite", "--trust-pickle")[0] == 2


@WHOLE
def test_two_files_of_integers(folder: Path) -> None:
    """uint8 inputs of the one are int8 inputs of the other, 128 apart."""
    model, x = network()
    integers = torch2circle.export(model, (x,), io_dtypes={"x": "uint8"})
    integers.save("a.circle")
    signed = torch2circle.export(model, (x,), io_dtypes={"x": "int8"})
    signed.save("b.tflite")
    report = torch2circle.compare_files("a.circle", "b.tflite", random=2)
    assert all(c.lsb <= 3 for c in report.outputs)
    assert next(c for c in report.tensors if c.name == "first").share > 0.98
    save(mutated(read("b.tflite").graph, "left", result_quant(wider)), "b.tflite", identifier="TFL3")
    report = torch2circle.compare_files("a.circle", "b.tflite")
    assert any("the quantization is" in c.reason for c in report.tensors if c.name == "left")


@WHOLE
def test_two_files_that_do_not_fit(folder: Path, command: Command) -> None:
    torch2circle.export(nn.ReLU().eval(), (torch.ones(2, 3),)).save("relu.tflite")
    assert command("net.circle", "relu.tflite")[0] == VerifyFailed.exit_code
    np.savez("wrong.npz", np.zeros((1, 3, 4, 4), np.float32))
    code, _, err = command("net.circle", "net.tflite", "--inputs", "wrong.npz")
    assert code == 2
    assert "input x is float32[1, 3, 4, 4], the file takes float32[1,3,12,12]" in err
    assert command("net.circle", "absent.tflite")[0] == FormatError.exit_code


def test_files_that_are_none(folder: Path, command: Command) -> None:
    """Empty, random, cut short, and two gigabytes of nothing: named, and no traceback."""
    whole = Path("net.tflite").read_bytes()
    random = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
    for name, content in (("empty", b""), ("random", random), ("cut", whole[: len(whole) // 2]), ("head", whole[:20])):
        Path(f"{name}.tflite").write_bytes(content)
        for args in (("net.pt", f"{name}.tflite", *GIVEN), ("net.circle", f"{name}.tflite"), (f"{name}.tflite", "net.tflite")):
            code, out, err = command(*args)
            assert (code, out) == (FormatError.exit_code, ""), (name, args)
            assert name in err
    with open("huge.tflite", "wb") as sink:
        sink.truncate(2**31 + 1)  # a hole: it takes no room
    assert command("net.pt", "huge.tflite", *GIVEN)[0] == FormatError.exit_code
    with open("long.tflite", "wb") as sink:  # a model, and then two gigabytes
        sink.write(whole)
        sink.truncate(2**31 + 1)
    code, _, err = command("net.pt", "long.tflite", *GIVEN)
    assert code in (0, torch2circle.TargetError.exit_code), err


def test_inputs_of_the_wrong_shape(folder: Path, command: Command) -> None:
    np.savez("wrong.npz", np.zeros((1, 3, 16, 16), np.float32))
    code, out, err = command("net.pt", "net.tflite", "--inputs", "wrong.npz", TRUSTED)
    assert (code, out) == (VerifyFailed.exit_code, "")
    assert "has other inputs than the model" in err
    code, out, err = command("net.pt", "net.tflite", *GIVEN, "--inputs", "wrong.npz")
    assert (code, out) == (RecordError.exit_code, "")
    assert "float32[1, 3, 16, 16], the recorded one float32[1, 3, 12, 12]" in err


def test_a_runtime_that_is_not_installed(folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "available", lambda runtime: False)
    for args in (("net.pt", "net.tflite", *GIVEN), ("net.circle", "net.tflite")):
        code, _, err = command(*args)
        assert code == MissingRuntime.exit_code
        assert 'pip install "torch2circle[verify]"' in err
