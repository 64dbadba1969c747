"""``check``: each code on a file that has just this wrong, none on what is exported."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torch2circle
from cases import FAMILIES
from cases.making import Case
from tables import Tables, changed, main, tensor
from test_format import F32, I8, I32, constant, convolution, graph_of, packed, quantized_convolution
from torch2circle.checks import SEVERITIES, check
from torch2circle.errors import FormatError, TargetError
from torch2circle.format import Survey, survey, to_bytes
from torch2circle.ir import DType, Node, Quant, Type, Value

DOCS = Path(__file__).parents[1] / "docs" / "check.md"
SOURCE = Path(__file__).parents[1] / "src" / "torch2circle" / "checks"
U8, I16 = DType.UINT8, DType.INT16


def q(scale: float, zero_point: int = 0) -> Quant:
    return Quant.per_tensor(scale, zero_point)


def floats(change: Callable[[Tables], object] = lambda model: None, identifier: str = "TFL3") -> bytes:
    return changed(to_bytes(convolution(), identifier=identifier), change)


def integers(change: Callable[[Tables], object] = lambda model: None, identifier: str = "TFL3") -> bytes:
    return changed(to_bytes(quantized_convolution(), identifier=identifier), change)


def unary(op: str, x: Type, y: Type, *more: Value, identifier: str = "TFL3", **options: Any) -> bytes:
    value = Value(x, "x")
    return to_bytes(graph_of(Node.make(op, [value, *more], [Value(y, "y")], options), value), identifier=identifier)


def reshape(x: Type, y: Type, shape: np.ndarray[Any, Any] | None = None, identifier: str = "TFL3") -> bytes:
    given = np.array(y.shape, np.int32) if shape is None else shape
    return unary("RESHAPE", x, y, constant(given, "shape"), identifier=identifier)


def layer(x: Type, weight: Quant, bias: Type, y: Type, identifier: str = "CIR0") -> bytes:
    """A fully connected layer of 2 inputs and 3 outputs."""
    integer = x.dtype.numpy if x.dtype is not F32 else np.dtype(np.int8)
    w = constant(np.full((3, 2), 128 if x.dtype is U8 else 1, integer), "w", weight)
    b = Value(bias, "b", data=constant(np.zeros(bias.shape, bias.dtype.numpy), "b").data)
    value = Value(x, "x")
    return to_bytes(graph_of(Node.make("FULLY_CONNECTED", [value, w, b], [Value(y, "y")]), value), identifier=identifier)


def put(table: Tables, **values: Any) -> None:
    table.update(values)


def spare(model: Tables) -> None:
    """A second tensor for the constant of another, and one that nothing refers to."""
    main(model)["tensors"].append({**tensor(model, "bias"), "name": "spare"})


def dead(model: Tables) -> None:
    """An operator whose result nobody reads."""
    main(model)["tensors"].append({**tensor(model, "y"), "name": "nowhere"})
    (only,) = main(model)["operators"]
    main(model)["operators"].append({**only, "outputs": [len(main(model)["tensors"]) - 1]})


def state(model: Tables) -> None:
    tensor(model, "x")["is_variable"] = True
    main(model)["operators"].append({**main(model)["operators"][0], "outputs": [len(main(model)["tensors"])]})
    main(model)["tensors"].append({**tensor(model, "y"), "name": "again"})
    main(model)["outputs"] = [*main(model)["outputs"], len(main(model)["tensors"]) - 1]


def by_offset(offset: int) -> Callable[[Tables], object]:
    """The last constant, of 12 bytes, is elsewhere in the file."""
    return lambda model: model["buffers"].__setitem__(-1, {"offset": offset, "size": 12})


def again(model: Tables) -> None:
    """A second subgraph, equal to the first."""
    model["subgraphs"].append({**main(model), "name": "second"})


X2, Y3 = Type((4, 2), U8, q(0.5, 3)), Type((4, 3), U8, q(0.25, 7))
X_I8 = Type((4, 2), I8, q(0.5))
OPEN = Type((4, 6), F32, open=(0,))

CASES: dict[str, tuple[str, str | None, bytes | Survey]] = {
    "model-version": ("error", None, floats(lambda m: put(m, version=1))),
    "buffer-0": ("warning", None, floats(lambda m: put(m["buffers"][0], data=b"x"))),
    "alignment": ("warning", None, floats(by_offset(33))),
    "unused-subgraph": ("warning", None, floats(again)),
    "index": ("error", None, floats(lambda m: put(main(m)["operators"][0], inputs=[0, 1, 77]))),
    "no-producer": ("error", None, floats(lambda m: put(tensor(m, "bias"), buffer=0))),
    "written-twice": ("error", None, floats(lambda m: put(main(m)["operators"][0], outputs=[0]))),
    "shape": ("error", None, floats(lambda m: put(tensor(m, "x"), shape=[-1, 5, 6, 2]))),
    "size": ("error", None, floats(lambda m: put(tensor(m, "bias"), shape=[4]))),
    "unused-tensor": ("note", None, floats(lambda m: main(m)["tensors"].append({"name": "z", "shape": [1]}))),
    "unused-constant": ("warning", None, floats(spare)),
    "unused-input": (
        "note", None, to_bytes(replace(convolution(), inputs=(*convolution().inputs, Value(Type((1,), F32), "z")), input_names=("x", "z")),
                               identifier="TFL3"),
    ),
    "dead-operator": ("warning", None, floats(dead)),
    "variable": ("warning", None, floats(state)),
    "no-name": ("warning", None, floats(lambda m: tensor(m, "bias").pop("name"))),
    "duplicate-name": ("warning", None, floats(lambda m: put(tensor(m, "bias"), name="weight"))),
    "unknown-op": ("note", None, packed([{"inputs": [0], "outputs": [1]}], [{"builtin_code": "REAL"}])),
    "unknown-type": ("note", None, floats(lambda m: put(tensor(m, "x"), type="FLOAT64"))),
    "arity": ("error", None, floats(lambda m: put(main(m)["operators"][0], inputs=[0, 1, 2, 2]))),
    "quant": ("error", None, integers(lambda m: tensor(m, "x").pop("quantization"))),
    "open": ("error", None, reshape(OPEN, Type((4, 2, 3), F32, open=(0,)))),
    "version": ("warning", None, integers(lambda m: put(m["operator_codes"][0], version=1))),
    "float16": ("note", None, unary("TANH", Type((2,), DType.FLOAT16), Type((2,), DType.FLOAT16))),
    "signature": ("error", None, floats(lambda m: put(m["signature_defs"][0], subgraph_index=5))),
    "zero-point": ("error", None, integers(lambda m: put(tensor(m, "x")["quantization"], zero_point=[200]))),
    "scale": ("error", None, integers(lambda m: put(tensor(m, "x")["quantization"], scale=[float("nan")]))),
    "axis": ("error", None, integers(lambda m: put(tensor(m, "weight")["quantization"], quantized_dimension=3))),
    "float-scale": ("note", None, floats(lambda m: put(tensor(m, "x"), quantization={"scale": [1.0], "zero_point": [0]}))),
    "same-quant": ("warning", None, reshape(Type((2, 3), I8, q(0.5)), Type((6,), I8, q(0.25)))),
    "fixed-scale": ("warning", None, unary("LOGISTIC", Type((2, 3), I8, q(0.5)), Type((2, 3), I8, q(0.5)))),
    "weight-zero-point": ("warning", None, layer(X_I8, q(0.1, 3), Type((3,), I32, q(0.05)), Type((4, 3), I8, q(1)), "TFL3")),
    "bias-type": ("error", None, layer(X2, q(0.1, 128), Type((3,), I16, q(0.05)), Y3)),
    "bias-scale": ("error", None, layer(X2, q(0.1, 128), Type((3,), I32, q(0.06)), Y3)),
    "bias-zero-point": ("error", None, layer(X2, q(0.1, 128), Type((3,), I32, q(0.05, 1)), Y3)),
    "target-format": ("error", "onert", floats()),
    "target-methods": ("warning", "onert", to_bytes({"a": convolution(), "b": convolution()}, identifier="CIR0")),
    "target-size": ("error", "onert", replace(survey(floats(identifier="CIR0")), size=2**31)),
    "target-buffer": ("error", "onert", floats(by_offset(32), "CIR0")),
    "target-name": ("error", "onert", floats(lambda m: tensor(m, "bias").pop("name"), "CIR0")),
    "target-operator": ("error", "onert", unary("HARD_SWISH", Type((2,), F32), Type((2,), F32), identifier="CIR0")),
    "target-unknown": ("warning", "litert", packed([{"inputs": [0], "outputs": [1]}], [{"builtin_code": "REAL"}])),
    "target-custom": ("note", "litert", packed([{"inputs": [0], "outputs": [1]}], [{"builtin_code": "CUSTOM", "custom_code": "Mine"}])),
    "target-output": ("error", "onert", floats(lambda m: put(main(m), outputs=[*main(m)["outputs"]] * 2), "CIR0")),
    "target-one-type": ("error", "one", integers(identifier="CIR0")),
    "target-one-small-scale": ("warning", "one", unary("RELU", Type((2,), U8, q(0.5)), Type((2,), U8, q(1e-6)), identifier="CIR0")),
    "target-one-channels": (
        "error", "one", unary("RELU", Type((2,), U8, Quant(np.array([1, 2], np.float32), np.array([0, 0]), 0)), Type((2,), U8, q(1)),
                              identifier="CIR0"),
    ),
    "target-one-bias": ("error", "one", layer(X2, q(0.1, 128), Type((3,), DType.INT64, q(0.05)), Y3)),
    "target-one-fixed-scale": ("error", "one", unary("TANH", Type((2,), U8, q(0.5)), Type((2,), U8, q(0.5)), identifier="CIR0")),
    "target-one-whole-scale": ("error", "one", unary("FLOOR", Type((2,), U8, q(0.5)), Type((2,), U8, q(0.5)), identifier="CIR0")),
    "target-one-same-quant": ("error", "one", reshape(Type((2, 3), U8, q(0.5)), Type((6,), U8, q(0.25)), identifier="CIR0")),
    "target-one-index-type": ("error", "one", reshape(Type((2, 3), U8, q(1)), Type((6,), U8, q(1)), np.array([6]), "CIR0")),
}  # fmt: skip


@pytest.mark.parametrize("code", CASES)
def test_each_code_is_found(code: str) -> None:
    severity, target, data = CASES[code]
    found = [finding for finding in check(data, target) if finding.code == code]
    assert [finding.severity for finding in found[:1]] == [severity], [str(finding) for finding in check(data, target)]
    assert all(finding.path and finding.message for finding in found)


def test_a_target_is_asked_only_if_it_is_named() -> None:
    for _, _, data in CASES.values():
        assert not [finding for finding in check(data) if finding.code.startswith("target-")]


def test_the_page_has_each_code_once() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(CASES)
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.glob("*.py"))
    said = set(re.findall(r'"(?:error|warning|note)", "([a-z0-9-]+)"', text))
    assert {code for code in said - {*SEVERITIES} if code not in CASES and f"target-one-{code}" not in CASES} == set()


def test_what_is_whole_has_nothing_wrong() -> None:
    for data in (to_bytes(g, identifier=i) for g in (convolution(), quantized_convolution()) for i in ("CIR0", "TFL3")):
        assert check(data) == []
    assert check(to_bytes(quantized_convolution(), identifier="TFL3"), "litert") == []


def test_errors_come_first() -> None:
    data = floats(lambda m: (spare(m), put(tensor(m, "x"), shape=[-1, 5, 6, 2])))
    severities = [finding.severity for finding in check(data)]
    assert severities == sorted(severities, key=SEVERITIES.index)
    assert severities[0] == "error"


def test_paths_name_the_operator_and_the_tensor() -> None:
    (found,) = check(floats(lambda m: put(main(m)["operators"][0], inputs=[0, 1, 77])), None)[:1]
    assert str(found) == "error[index] operator 0 CONV_2D: tensor 77: it reads tensor 77, which does not exist"
    data = to_bytes({"a": convolution(), "b": quantized_convolution()}, identifier="TFL3")
    (one,) = check(changed(data, lambda m: put(m["operator_codes"][1], version=1)))
    assert one.path == "b: operator 0 CONV_2D: y"


def test_an_order_that_reads_before_it_writes() -> None:
    x = Value(Type((2,), F32), "x")
    first = Node.make("RELU", [x], [Value(x.type, "first")])
    data = to_bytes(graph_of(Node.make("TANH", [first.out], [Value(x.type, "y")]), x), identifier="CIR0")
    (found,) = [f for f in check(changed(data, lambda m: main(m)["operators"].reverse())) if f.severity == "error"]
    assert (found.code, found.message) == ("no-producer", "it is read before it is written")


def test_the_bound_of_a_bias_is_tflites() -> None:
    """A difference of 0.02 of the result's scale is refused by TFLite; a smaller one is a warning, one of the last bit nothing."""
    product = float(np.float32(0.5) * np.float32(0.1))
    for off, severity in ((0.0, None), (product * 1e-7, None), (product * 1e-4, "warning"), (0.021 * 0.25, "error")):
        found = [f.severity for f in check(layer(X2, q(0.1, 128), Type((3,), I32, q(product + off)), Y3)) if f.code == "bias-scale"]
        assert found == ([severity] if severity else [])


def test_an_operator_is_not_asked_for_more_than_others_write() -> None:
    """TFLite's converters leave out a bias, and give the shape of a RESHAPE as an option alone."""
    data = floats(lambda m: put(main(m)["operators"][0], inputs=[0, 1]))
    assert [finding for finding in check(data) if finding.severity == "error"] == []
    alone = changed(reshape(Type((2, 3), F32), Type((6,), F32)), lambda m: put(
        main(m)["operators"][0], inputs=[0], builtin_options=("ReshapeOptions", {"new_shape": [6]})))  # fmt: skip
    assert [finding for finding in check(alone) if finding.severity == "error"] == []


SAMPLE = [case for family in ("conv", "linear", "unary", "cat", "pool", "edges", "dynamic", "recurrent") for case in FAMILIES[family][::4]]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in SAMPLE])
def test_what_is_exported_has_no_error(case: Case) -> None:
    """Nor a warning, but for a softmax: ONE's own quantizer gives it the scale 1/255, and onert's kernel 1/256."""
    exported = case.exported()
    for target in ("onert", "litert", "one"):
        try:
            data = exported.to_bytes(target)
        except TargetError:
            continue
        found = [f for f in check(data, target) if f.severity != "note" and f.code != "target-one-fixed-scale"]
        assert found == [], f"{target}: {found[0]}"


def test_an_output_given_twice_is_not_overwritten() -> None:
    """The check found this in an export: later operators took the memory of the first of the two."""

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            kept = torch.relu(x)
            return kept, kept, torch.exp(torch.tanh(x) * 3)

    assert check(torch2circle.export(Net().eval(), (torch.ones(2, 3),)).to_bytes("onert"), "onert") == []


def test_no_such_target() -> None:
    with pytest.raises(TargetError, match="no such target: npu"):
        check(floats(), "npu")


def test_what_is_no_model() -> None:
    for data in (b"", b"\0" * 100, b"\0\0\0\0TFL3", b"\xff" * 4 + b"CIR0" + b"\xff" * 64):
        with pytest.raises(FormatError):
            check(data)


def test_a_convolution_of_three_dimensions_is_an_error_and_no_crash() -> None:
    def flatten(model: Tables) -> None:
        weight = tensor(model, "weight")
        weight["shape"] = [weight["shape"][0], int(np.prod(weight["shape"][1:-1])), weight["shape"][-1]]

    found = [f for f in check(floats(flatten)) if f.code == "shape"]
    assert [f.severity for f in found] == ["error"]
    assert "too few dimensions: weight" in found[0].message
