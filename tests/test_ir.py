"""Types that move their dimensions, graphs that order their nodes, files that come back as they were."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import CASES
from cases.making import RUNTIMES, Case
from evaluate import evaluate
from torch2circle.format import read, to_bytes
from torch2circle.ir import Constant, DType, Graph, Node, Quant, Type, Value
from torch2circle.targets import TARGETS
from torch2circle.targets.base import flavoured

F32, I8, U8 = DType.FLOAT32, DType.INT8, DType.UINT8
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@st.composite
def per_channel(draw: st.DrawFn) -> tuple[Type, list[int]]:
    """A per-channel type of any rank, and a permutation of its dimensions."""
    shape = draw(SHAPES)
    axis = draw(st.integers(0, len(shape) - 1))
    scale = np.arange(1, shape[axis] + 1, dtype=np.float32)
    return Type(tuple(shape), I8, Quant(scale, np.zeros(shape[axis], np.int64), axis)), draw(st.permutations(range(len(shape))))


@given(per_channel())
def test_the_channels_move_with_their_axis(drawn: tuple[Type, list[int]]) -> None:
    type_, perm = drawn
    moved = type_.permute(perm)
    elements = np.arange(type_.size).reshape(type_.shape)
    assert moved.shape == elements.transpose(perm).shape
    assert type_.quant is not None
    assert moved.quant is not None
    assert moved.quant.axis is not None
    # the scale of each element, spread over the tensor, moves like the elements
    spread = np.broadcast_to(np.expand_dims(type_.quant.scale, [d for d in range(type_.rank) if d != type_.quant.axis]), type_.shape)
    after = np.broadcast_to(np.expand_dims(moved.quant.scale, [d for d in range(type_.rank) if d != moved.quant.axis]), moved.shape)
    np.testing.assert_array_equal(spread.transpose(perm), after)


@given(per_channel())
def test_a_permutation_and_its_inverse_cancel(drawn: tuple[Type, list[int]]) -> None:
    type_, perm = drawn
    assert type_.permute(perm).permute([perm.index(d) for d in range(len(perm))]) == type_


@given(per_channel())
def test_two_permutations_are_one(drawn: tuple[Type, list[int]]) -> None:
    type_, first = drawn
    second = [(p + 1) % len(first) for p in first]
    assert type_.permute(first).permute(second) == type_.permute([first[p] for p in second])


def test_quantizations_are_equal_by_their_numbers() -> None:
    a, b = Quant.per_tensor(0.1, 3), Quant(np.array([0.1], np.float32), np.array([3]))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Quant.per_tensor(0.1, 4)
    assert a != Quant.per_tensor(0.1 + 1e-8, 3)
    assert a != Quant(a.scale, a.zero_point, 0)
    assert a.shifted(-3) == Quant.per_tensor(0.1, 0)


# ---- the target's 8-bit type


@given(st.sampled_from([I8, U8]), st.integers(-100, 100), st.integers(-100, 100))
def test_another_8_bit_type_has_the_same_real_values(own: DType, first: int, second: int) -> None:
    """All that changes is which integers stand for them, within the graph; its edges keep their type."""
    middle = 128 if own is U8 else 0
    a, b = Quant.per_tensor(0.0311713, middle + first), Quant.per_tensor(0.0469127, middle + second)
    x = Value(Type((3, 5), own, a), "x")
    weight = Value(Type((5,), own, b), "w", data=Constant.of(np.arange(middle - 2, middle + 3).astype(own.numpy)))
    total = Node.make("ADD", (x, weight), (Value(Type((3, 5), own, b), "y"),), {"fused_activation_function": "NONE"}).out
    graph = Graph((x,), (total,), ("x",), ("y",))
    for other in (I8, U8):
        moved = flavoured(graph, other)
        assert [v.type for v in (*moved.inputs, *moved.outputs)] == [x.type, total.type]
        inner = next(n for n in moved.nodes() if n.op == "ADD")
        assert {v.type.dtype for v in (*inner.inputs, *inner.outputs) if v is not None} == {other}
        np.testing.assert_array_equal(evaluate(graph), evaluate(moved))
        back = next(n for n in flavoured(moved, own).nodes() if n.op == "ADD")
        assert [v.type for v in back.inputs if v is not None] == [x.type, weight.type]
        assert back.inputs[1] is not None
        np.testing.assert_array_equal(back.inputs[1].array(), weight.array())


# ---- through a file


@pytest.mark.parametrize(
    ("case", "target"), [pytest.param(c, t, id=f"{t}-{c.id}") for c in CASES[::9] for t in RUNTIMES if t not in c.refused]
)
def test_a_file_comes_back_as_the_graph_that_was_written(case: Case, target: str) -> None:
    graph = case.exported().for_target(target)
    back = read(to_bytes(graph, identifier=TARGETS[target].identifier)).graph
    again = to_bytes(back, identifier=TARGETS[target].identifier)
    assert str(read(again).graph) == str(back)
    assert to_bytes(read(again).graph, identifier=TARGETS[target].identifier) == again
    # an option at its default is not in the file
    for one, other in zip(graph.nodes(), back.nodes(), strict=True):
        assert one.op == other.op
        assert {key: plain(one.attrs[key]) for key in other.attrs} == {key: plain(value) for key, value in other.attrs.items()}
    for value, found in zip(graph.values(), back.values(), strict=True):
        assert value.type == found.type
        if value.data is not None:
            np.testing.assert_array_equal(value.array(), found.array())


def plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


SCRIPT = """
import hashlib, cases
for case in cases.CASES:
    if case.id in ("linear.behind_conv", "conv.grouped", "mul.gate", "inplace.view"):
        exported = case.exported()
        print([hashlib.sha256(exported.to_bytes(target)).hexdigest() for target in ("onert", "litert")])
"""


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    def run(seed: str) -> str:
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
        return subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True).stdout

    first = run("1")
    assert first.count("[") == 4
    assert first == run("2")


# ---- graphs


def test_nodes_come_behind_what_they_read_and_only_if_an_output_needs_them() -> None:
    x = Value(Type((2,), F32), "x")

    def made(name: str, *inputs: Value) -> Value:
        return Node.make("ADD", inputs, (Value(x.type, name),)).out

    a = made("a", x, x)
    b = made("b", a, x)
    made("unused", b, a)
    c = made("c", b, a)
    graph = Graph((x,), (c, a), ("x",), ("c", "a"))
    assert [n.out.name for n in graph.nodes()] == ["a", "b", "c"]
    assert graph.uses()[graph.nodes()[0].out] == 3  # b, c and the second output
    assert [v.name for v in graph.values()] == ["x", "a", "b", "c"]


def test_ten_thousand_nodes_in_a_row_are_no_recursion() -> None:
    value = x = Value(Type((2,), F32), "x")
    for _ in range(10_000):
        value = Node.make("RELU", (value,), (Value(x.type, "y"),)).out
    assert len(Graph((x,), (value,), ("x",), ("y",)).nodes()) == 10_000
