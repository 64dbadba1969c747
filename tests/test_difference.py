"""``diff``: each kind of difference by itself, on files that differ in just that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import torch2circle
from tables import Tables, changed, main, tensor
from test_format import F32, I32, constant, convolution, graph_of, quantized_convolution
from torch2circle.difference import SECTIONS, Difference, common, diff, distance_of
from torch2circle.errors import FormatError
from torch2circle.format import to_bytes
from torch2circle.ir import Array, DType, Graph, Node, Quant, Type, Value

U8, I8 = DType.UINT8, DType.INT8


def file(graph: Graph, identifier: str = "CIR0", **more: Any) -> bytes:
    return to_bytes(graph, identifier=identifier, **more)


def found(difference: Difference) -> dict[str, list[tuple[str, str, str]]]:
    """Section -> (kind, path, message), without those that have none."""
    return {name: [(c.kind, c.path, c.message) for c in changes] for name, changes in difference.sections.items() if changes}


def chain(*ops: str, names: str = "abcdefgh", shape: tuple[int, ...] = (2, 3), **options: Any) -> Graph:
    x = last = Value(Type(shape, F32), "x")
    for op, name in zip(ops, names, strict=False):
        last = Node.make(op, [last], [Value(x.type, name)], options if op == "LEAKY_RELU" else {}).out
    return Graph((x,), (last,), ("x",), ("y",))


def weighted(weights: Array, scale: float = 0.5, zero_point: int = 0, dtype: DType = I8) -> Graph:
    kind = Type((2, 3), dtype, Quant.per_tensor(scale, zero_point))
    x = Value(Type((2, 3), dtype, Quant.per_tensor(0.5, 128 if dtype is U8 else 0)), "x")
    w = replace(constant(weights.astype(dtype.numpy), "w"), type=kind)
    return graph_of(Node.make("ADD", [x, w], [Value(x.type, "y")]), x)


WEIGHTS = np.array([[1, 2, 3], [4, 5, 6]])


def test_equal_files_are_equal(tmp_path: Path) -> None:
    for graph in (convolution(), quantized_convolution()):
        (tmp_path / "a.circle").write_bytes(file(graph))
        (tmp_path / "b.circle").write_bytes(file(graph))
        difference = diff(tmp_path / "a.circle", tmp_path / "b.circle")
        assert not difference
        assert difference.matched == 1
        assert str(difference).splitlines()[-1] == "no difference"
        assert (difference.a, difference.b) == (str(tmp_path / "a.circle"), str(tmp_path / "b.circle"))


def test_operators_that_are_added_and_removed() -> None:
    difference = diff(file(chain("RELU", "TANH", "EXP")), file(chain("RELU", "EXP", names="ac")))
    assert found(difference) == {
        "topology": [
            ("removed", "TANH b", "(a) -> float32[2,3]"),
            ("wiring", "EXP c", "operand 0 is b -> a"),
        ]
    }
    assert [line for line in str(difference).splitlines() if line.startswith("  ")] == [
        "  - TANH b: (a) -> float32[2,3]", "  ~ EXP c: operand 0 is b -> a"
    ]  # fmt: skip
    back = diff(file(chain("RELU", "EXP", names="ac")), file(chain("RELU", "TANH", "EXP")))
    assert [change.kind for change in back.sections["topology"]] == ["added", "wiring"]


def test_other_names_do_not_hide_equal_operators() -> None:
    """Names that say nothing, like numbers: then the order of the kinds tells."""
    old, new = chain("RELU", "TANH", "EXP", "RELU", names="1234"), chain("RELU", "SIN", "TANH", "EXP", "RELU", names="pqrst")
    difference = diff(file(old), file(new))
    assert found(difference) == {"topology": [("added", "SIN q", "(p) -> float32[2,3]"), ("wiring", "TANH r", "operand 0 is 1 -> q")]}
    assert difference.matched == 4


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_the_longest_common_subsequence(a: str, b: str) -> None:
    """Against the table of lengths that its definition gives."""
    lengths = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, j in np.ndindex(len(a), len(b)):
        lengths[i + 1, j + 1] = lengths[i, j] + 1 if a[i] == b[j] else max(lengths[i, j + 1], lengths[i + 1, j])
    pairs = common(a, b)
    assert len(pairs) == lengths[-1, -1]
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(i < k and j < n for (i, j), (k, n) in pairwise(pairs))


def test_names_tell_equal_operators_apart() -> None:
    x = Value(Type((2, 3), F32), "x")

    def both(first: str, second: str) -> Graph:
        one, two = (Node.make("TANH" if name == "t" else "RELU", [x], [Value(x.type, name)]).out for name in (first, second))
        return Graph((x,), (one, two), ("x",), ("p", "q"))

    assert diff(file(both("r", "s")), file(both("s", "r"))).sections["topology"] == []


def test_another_operator_in_the_same_place() -> None:
    difference = diff(file(chain("RELU", "TANH")), file(chain("RELU", "LOGISTIC")))
    assert found(difference) == {"topology": [("operator", "LOGISTIC b", "TANH -> LOGISTIC")]}


def test_options() -> None:
    difference = diff(file(chain("LEAKY_RELU", alpha=0.5)), file(chain("LEAKY_RELU", alpha=0.25)))
    assert found(difference) == {"topology": [("option", "LEAKY_RELU a", "alpha 0.5 -> 0.25")]}
    assert found(diff(file(chain("LEAKY_RELU")), file(chain("LEAKY_RELU", alpha=0.25)))) == {
        "topology": [("option", "LEAKY_RELU a", "alpha the default -> 0.25")]
    }


def test_shapes_and_types() -> None:
    difference = diff(file(chain("RELU")), file(chain("RELU", shape=(2, 5))))
    assert found(difference) == {"types": [("shape", "a", "[2, 3] -> [2, 5]"), ("shape", "x", "[2, 3] -> [2, 5]")]}
    opened = changed(file(chain("RELU")), lambda m: tensor(m, "a").update(shape_signature=[-1, 3]))
    assert [c.kind for c in diff(file(chain("RELU")), opened).sections["types"]] == ["open"]


def test_scales() -> None:
    difference = diff(file(weighted(WEIGHTS)), file(weighted(WEIGHTS, scale=0.25, zero_point=2)))
    assert found(difference)["quantization"] == [
        ("scale", "w", "scale 0.5 -> 0.25, times 0.5"), ("zero-point", "w", "zero point 0 -> 2")
    ]  # fmt: skip
    assert difference.sections["quantization"][0].facts == {"count": 1, "ratio": [0.5, 0.5]}
    channels = changed(
        file(quantized_convolution()), lambda m: tensor(m, "weight")["quantization"].update(scale=np.array([0.1, 0.2, 0.6], np.float32))
    )
    (one,) = diff(file(quantized_convolution()), channels).sections["quantization"]
    assert one.message == "1 of 3 scales, times 1 to 2"


def test_weights_are_counted_in_steps_of_the_scale() -> None:
    moved = WEIGHTS.copy()
    moved[0, 0] += 3
    moved[1, 2] -= 1
    (only,) = diff(file(weighted(WEIGHTS)), file(weighted(moved))).sections["weights"]
    assert only.path == "w"
    assert only.facts == {"unequal": 2, "size": 6, "largest": 3.0, "mean": 4 / 6, "unit": "LSB"}
    assert only.message == "2 of 6 differ, at most 3 LSB, on average 0.6667"


def test_unequal_scales_compare_real_values() -> None:
    """Integers twice as large at half the scale are the same numbers; one more is half a step of the old scale."""
    assert diff(file(weighted(WEIGHTS)), file(weighted(2 * WEIGHTS, scale=0.25))).sections["weights"] == []
    (only,) = diff(file(weighted(WEIGHTS)), file(weighted(2 * WEIGHTS + 1, scale=0.25))).sections["weights"]
    assert only.facts == {"unequal": 6, "size": 6, "largest": 0.5, "mean": 0.5, "unit": "LSB (real values, old scale)"}


def test_uint8_and_int8_are_equal_128_apart() -> None:
    difference = diff(file(weighted(WEIGHTS)), file(weighted(WEIGHTS + 128, zero_point=128, dtype=U8)))
    assert not difference
    assert difference.notes == ["3 tensors are uint8 in one file and int8 in the other, all 128 apart: the same real values, not counted"]
    off = WEIGHTS + 128
    off[0, 0] += 2
    (only,) = diff(file(weighted(WEIGHTS)), file(weighted(off, zero_point=128, dtype=U8))).sections["weights"]
    assert (only.facts["unequal"], only.facts["largest"], only.facts["unit"]) == (1, 2.0, "LSB")
    elsewhere = diff(file(weighted(WEIGHTS)), file(weighted(WEIGHTS + 127, zero_point=127, dtype=U8)))
    assert [c.path for c in elsewhere.sections["types"]] == ["w"]
    assert [c.message for c in elsewhere.sections["quantization"]] == ["zero point 0 -> 127"]
    assert elsewhere.sections["weights"] == []  # still the same real values


def test_numbers_without_a_scale() -> None:
    bias = changed(file(convolution()), lambda m: m["buffers"].__setitem__(2, {"data": np.array([9, np.nan, 0], np.float32).tobytes()}))
    (only,) = diff(file(convolution()), bias).sections["weights"]
    assert only.facts["unequal"] == 3
    assert only.facts["largest"] == np.inf
    assert not diff(bias, bias)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_distance_along_each_axis_and_in_parts(axis: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the formula written out, with parts of one row."""
    monkeypatch.setattr("torch2circle.difference._CHUNK", 3)
    rng = np.random.default_rng(0)
    count = 1 if axis is None else (5, 3)[axis]

    def value() -> Value:
        quant = Quant(rng.uniform(0.1, 1, count).astype(np.float32), rng.integers(-5, 5, count), axis)
        return replace(constant(rng.integers(-128, 128, (5, 3)).astype(np.int8), "v"), type=Type((5, 3), I8, quant))

    a, b = value(), value()
    shape = [count if i == axis else 1 for i in range(2)]
    real = [
        (v.array().astype(np.float64) - v.type.quant.zero_point.reshape(shape)) * v.type.quant.scale.astype(np.float64).reshape(shape)
        for v in (a, b)
        if v.type.quant
    ]
    assert a.type.quant is not None
    expected = np.abs(real[0] - real[1]) / a.type.quant.scale.astype(np.float64).reshape(shape)
    got = distance_of(a, b)
    assert got.largest == pytest.approx(expected.max(), rel=1e-12)  # the order of the products differs
    assert got.mean == pytest.approx(expected.mean(), rel=1e-12)


def test_signatures_and_metadata() -> None:
    old = file(convolution(), metadata={"about": b'{"a": 1, "b": 2}', "gone": b"x"})
    new = file(replace(convolution(), output_names=("z",)), metadata={"about": b'{"a": 1, "b": 3}', "fresh": b"xyz"})
    difference = diff(old, new)
    assert found(difference) == {
        "signatures": [("names", "serving_default", "outputs out_y -> z")],
        "metadata": [("metadata", "about", "b 2 -> 3"), ("removed", "gone", "1 bytes"), ("added", "fresh", "3 bytes")],
    }
    assert not difference.without("signatures", "metadata")
    assert "not compared: signatures, metadata" in str(difference.without("signatures", "metadata"))


def test_methods_are_compared_by_name() -> None:
    old, new = (to_bytes(g, identifier="TFL3") for g in (
        {"a": convolution(), "b": chain("RELU")}, {"b": chain("TANH"), "a": convolution(), "c": chain("EXP")}))  # fmt: skip
    difference = diff(old, new)
    assert [(c.kind, c.path) for c in difference.sections["topology"]] == [("operator", "b: TANH a"), ("added", "c")]
    assert [(c.kind, c.path) for c in difference.sections["signatures"]] == [("added", "c")]


EDITS: dict[str, Callable[[Tables], object]] = {
    "topology": lambda m: main(m)["operators"][0].update(builtin_options=("Conv2DOptions", {"padding": "VALID", "stride_w": 7})),
    "types": lambda m: tensor(m, "y").update(shape=[1, 4, 4, 4]),
    "quantization": lambda m: tensor(m, "y")["quantization"].update(zero_point=np.array([8], np.int64)),
    "weights": lambda m: m["buffers"].__setitem__(1, {"data": bytes([1, 1, 1, 1, 1, 3])}),
    "signatures": lambda m: m["signature_defs"][0].update(signature_key="other"),
    "metadata": lambda m: m.update(description="another"),
}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_stands_alone(section: str) -> None:
    data = file(quantized_convolution())
    difference = diff(data, changed(data, EDITS[section]))
    assert list(found(difference)) == [section]
    json.dumps(difference.as_dict())


def test_one_model_for_both_runtimes() -> None:
    """The same operators and integers; only what each runtime needs is different."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU(), torch.ao.quantization.DeQuantStub()).eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    x = torch.ones(1, 3, 8, 8)
    prepared = torch.ao.quantization.prepare(model)
    prepared(x)
    exported = torch2circle.export(torch.ao.quantization.convert(prepared), (x,))
    difference = diff(exported.to_bytes("onert"), exported.to_bytes("litert"))
    assert difference
    assert not difference.without("metadata", "topology")
    assert any("uint8 in one file and int8" in note for note in difference.notes)


def test_integers_and_positions() -> None:
    def sliced(begin: int) -> Graph:
        x = Value(Type((6,), F32), "x")
        edges = [constant(np.array([n], np.int32), name) for n, name in ((begin, "begin"), (2, "size"))]
        return graph_of(Node.make("SLICE", [x, *edges], [Value(Type((2,), F32), "y")]), x)

    assert sliced(0).inputs[0].type.dtype is not I32
    (only,) = diff(file(sliced(0)), file(sliced(3))).sections["weights"]
    assert (only.path, only.message) == ("begin", "1 of 1 differ, at most 3, on average 3")


def test_what_is_no_model() -> None:
    with pytest.raises(FormatError):
        diff(file(convolution()), b"nothing")
