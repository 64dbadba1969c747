"""Verification finds what is wrong with a file: the operator, its line in the model, and what it has otherwise."""

from __future__ import annotations

import linecache
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
from torch2circle import runtimes
from torch2circle.format import read, save
from torch2circle.ir import Array, Constant, Graph, Node, Quant, Value
from torch2circle.pipeline import ExportedModel
from torch2circle.targets import TARGETS

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


pytestmark = [pytest.mark.usefixtures("fresh_random_and_quiet")]


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
