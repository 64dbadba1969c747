"""``--dry-run``: it writes nothing, foresees exactly what an export gives, and names all that is wrong at once."""

from __future__ import annotations

import errno
import json
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torch2circle
from test_cli import IMAGE, INPUT, Run, quantized, run  # noqa: F401  # run is a fixture
from torch2circle import runtimes
from torch2circle.errors import RecordError, UnsupportedOps, UnsupportedUse, WriteError
from torch2circle.format import read, size_of
from torch2circle.ir import DType, Graph, Node, Origin, Quant, Type, Value, Where
from torch2circle.preflight import must_be_writable, preflight
from torch2circle.releases import first_release, latest
from torch2circle.scales import LEAST, wild_scales
from torch2circle.spec import OPS, version
from torch2circle.targets import TARGETS

MODELS = '''
import torch
from torch import nn
from torch.ao import quantization as Q

class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
    def forward(self, x):
        return self.function(x)

def missing():
    def function(x):
        y = torch.special.i0e(x)
        y = torch.special.i0e(y).erfinv()
        return y.double().float() + x.to(torch.bfloat16).float()
    return Of(function).eval()
def integers():
    return Of(lambda x: x[:, 1:]).eval()
def observing():
    model = nn.Sequential(Q.QuantStub(), nn.Linear(4, 4), nn.ReLU(), Q.DeQuantStub()).eval()
    model.qconfig = Q.get_default_qconfig("fbgemm")
    return Q.prepare(model)
def training():
    return nn.Sequential(nn.BatchNorm1d(4), nn.Dropout())
def uncalibrated():
    model = nn.Sequential(Q.QuantStub(), nn.Linear(4, 4), Q.DeQuantStub()).eval()
    model.qconfig = Q.get_default_qconfig("fbgemm")
    return Q.convert(Q.prepare(model))
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(quantized(), tmp_path / "model.pt")
    (tmp_path / "models_to_fly.py").write_text(MODELS)
    return tmp_path


def report(run: Run, *args: str) -> dict[str, Any]:  # noqa: F811
    code, out, err = run(*args, "--dry-run", "--json")
    facts: dict[str, Any] = json.loads(out)
    assert err == ""
    assert facts["exit_code"] == code
    return facts


def test_nothing_is_written_and_the_sizes_are_those_of_the_files(folder: Path, run: Run) -> None:  # noqa: F811
    before = sorted(folder.rglob("*"))
    facts = report(run, "model.pt", "out.circle", *INPUT)
    assert [path for path in sorted(folder.rglob("*")) if path.suffix != ".pyc"] == before
    assert (facts["target"], facts["exit_code"], facts["errors"]) == ("onert", 0, [])
    assert list(facts["targets"]) == ["onert", "litert", "one"]
    for target, suffix in (("onert", "circle"), ("litert", "tflite"), ("one", "circle")):
        made = folder / f"{target}.{suffix}"
        summary = json.loads(run("model.pt", str(made), "--target", target, *INPUT, "--no-verify", "--json")[1])
        foreseen = facts["targets"][target]
        assert foreseen["bytes"] == made.stat().st_size == summary["bytes"]
        counted: dict[str, int] = {}
        for row in foreseen["operators"]:
            counted[row["op"]] = counted.get(row["op"], 0) + row["count"]
        assert counted == summary["operators"]
        graph = read(made).graph
        assert {(row["op"], row["version"]) for row in foreseen["operators"]} == {(node.op, version(node)) for node in graph.nodes()}


def test_the_words(folder: Path, run: Run) -> None:  # noqa: F811
    code, out, err = run("model.pt", "out.tflite", *INPUT, "--dry-run")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "model.pt: a dry run, nothing is written"
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")][1:] == ["onert", "litert", "one"]
    assert "2 CONV_2D v3" in out
    assert "runs in      litert 2.3.0 (measured); TensorFlow Lite since 1.14 has its operators, the last TRANSPOSE v2, CONV_2D v3," in out
    assert "runs in      onert 0.1.0 (measured)" in out
    only = run("model.pt", *INPUT, "--dry-run", "--target", "one")[1]
    assert [line.split(":")[0] for line in only.splitlines() if not line.startswith(" ")][1:] == ["one"]


@pytest.mark.parametrize("suffix", ["circle", "tflite"])
@pytest.mark.parametrize(
    ("model", "shape"),
    [("missing", "2x4"), ("integers", "2x4:int64"), ("observing", "2x4"), ("training", "2x4"), ("absent", "2x4"), ("uncalibrated", "2x4"),
     ("uncalibrated", "2x3")],
)  # fmt: skip
def test_the_exit_code_is_that_of_the_export(folder: Path, run: Run, model: str, shape: str, suffix: str) -> None:  # noqa: F811
    args = (f"models_to_fly.py:{model}", f"out.{suffix}", "--input", shape)
    code, _, err = run(*args, "--no-verify")
    (folder / f"out.{suffix}").unlink(missing_ok=True)
    dry, _, dry_err = run(*args, "--dry-run")
    assert dry == code
    assert dry_err == err
    assert not (folder / f"out.{suffix}").exists()
    assert report(run, *args)["exit_code"] == code


def test_all_operators_without_a_lowering_and_all_unsupported_uses(folder: Path, run: Run) -> None:  # noqa: F811
    facts = report(run, "models_to_fly.py:missing", "out.circle", "--input", "2x4")
    missing, *uses = facts["errors"]
    assert facts["targets"] == {}
    assert [(row["op"], row["count"], [place["line"] for place in row["places"]]) for row in missing["operators"]] == [
        ("aten::special_i0e", 2, [15, 16]), ("aten::erfinv", 1, [16]),
    ]  # fmt: skip
    assert [(use["exit_code"], use["message"], use["where"]["line"]) for use in uses] == [
        (6, "dtype not supported: torch.float64", 17), (6, "dtype not supported: torch.bfloat16", 17),
    ]  # fmt: skip
    out = run("models_to_fly.py:missing", "out.circle", "--input", "2x4", "--dry-run")[1]
    assert [line.split(" at ")[0].split()[-1] for line in out.splitlines() if "no lowering" in line] == [
        "aten::special_i0e", "aten::special_i0e", "aten::erfinv",
    ]  # fmt: skip
    assert "torch.bfloat16" in out


def test_all_observers_that_are_left(folder: Path, run: Run) -> None:  # noqa: F811
    model = torch2circle.load("models_to_fly.py:observing")
    with pytest.raises(RecordError) as caught:
        torch2circle.export(model, (torch.ones(2, 4),))
    errors = [caught.value, *caught.value.also]
    assert len(errors) == sum("observer" in type(part).__name__.lower() for part in model.modules()) > 1  # type: ignore[union-attr]
    facts = report(run, "models_to_fly.py:observing", "out.circle", "--input", "2x4")
    assert [error["message"] for error in facts["errors"]] == [error.message for error in errors]


def test_what_a_target_refuses_is_said_and_the_others_go_on(folder: Path, run: Run) -> None:  # noqa: F811
    args = ("models_to_fly.py:integers", "--input", "2x4:int64")
    facts = report(run, *args)
    assert facts["exit_code"] == 0  # none was asked for, and some would be written
    refused = facts["targets"]["onert"]["error"]
    assert refused["exit_code"] == 8
    assert [(row["op"], row["scheme"], row["verdict"]) for row in refused["operators"]] == [("SLICE", "i64", "refused")]
    assert facts["targets"]["litert"]["error"] is None
    out = run(*args, "out.circle", "--dry-run")[1]
    assert "onert: would be refused (exit code 8): target onert cannot run 1 operator(s)\n  refused      SLICE (i64: refused) at " in out
    assert report(run, *args, "--target", "onert")["exit_code"] == 8
    assert report(run, *args, "out.tflite")["exit_code"] == 0


def test_a_calibration_that_did_not_happen_is_said(folder: Path, run: Run) -> None:  # noqa: F811
    facts = report(run, "models_to_fly.py:uncalibrated", "out.circle", "--input", "2x4")
    assert "uncalibrated" in {finding["code"] for finding in facts["diagnostics"]}
    assert "warning      uncalibrated in 0" in run("models_to_fly.py:uncalibrated", "--input", "2x4", "--dry-run")[1]


def test_places_that_cannot_be_written(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    (folder / "file").write_text("")
    (folder / "taken.circle").mkdir()
    for place in ("no/out.circle", "file/out.circle", "taken.circle"):
        code, _, err = run("model.pt", place, *INPUT, "--no-verify")
        assert code == WriteError.exit_code
        dry, _, dry_err = run("model.pt", place, *INPUT, "--dry-run")
        assert dry == code
        assert dry_err.splitlines()[0].partition("write ")[2] == err.splitlines()[0].partition("write ")[2]
    usage = namedtuple("usage", "free")(100)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    must_be_writable(folder / "out.circle", 100)
    with pytest.raises(WriteError, match=os.strerror(errno.ENOSPC)):
        must_be_writable(folder / "out.circle", 101)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WriteError, match="Permission denied"):
        must_be_writable(folder / "out.circle", 1)


def test_what_writes_is_refused(folder: Path, run: Run) -> None:  # noqa: F811
    for option in ("--nnpackage", "--explain"):
        code, _, err = run("model.pt", "out.circle", *INPUT, "--dry-run", option, "place")
        assert (code, f"--dry-run writes nothing: leave out {option}" in err) == (2, True)
    assert run("model.pt", "out.onnx", *INPUT, "--dry-run")[0] == 8
    assert not (folder / "place").exists()


def test_methods_and_shared_constants() -> None:
    class Coder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forth(self, x: Tensor) -> Tensor:
            return self.layer(x).relu()

        def back(self, x: Tensor) -> Tensor:
            return x - self.layer(x)

    coder, x = Coder().eval(), torch.ones(1, 8)
    exported = torch2circle.export_many({"forth": (coder.forth, (x,)), "back": (coder.back, (x,))})
    outlooks = {outlook.target: outlook for outlook in preflight(exported)}
    assert outlooks["litert"].size == len(exported.to_bytes("litert"))
    assert "can call only one method" in str(outlooks["onert"].error)


@pytest.mark.parametrize(
    ("options", "refused"),
    [({"dynamic_batch": True}, {"one"}), ({"weights": "float16"}, {"onert", "one"}), ({"io_dtypes": {"output": "uint8"}}, set())],
)
def test_the_options_of_the_export_count(options: dict[str, Any], refused: set[str]) -> None:
    model = quantized() if "io_dtypes" in options else nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    exported = torch2circle.export(model, (torch.ones(2, 3, 8, 8),), **options)
    outlooks = preflight(exported)
    assert {outlook.target for outlook in outlooks if outlook.error is not None} == refused
    for outlook in outlooks:
        assert outlook.error is not None or outlook.size == len(exported.to_bytes(outlook.target))


@pytest.mark.parametrize("target", list(TARGETS))
def test_the_size_of_a_model_with_equal_constants(target: str) -> None:
    class Twins(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + torch.arange(900.0)) * (x + torch.arange(900.0)) + torch.arange(7.0).sum()

    exported = torch2circle.export(Twins().eval(), (torch.ones(900),))
    (outlook,) = preflight(exported, [target])
    assert outlook.error is None
    assert outlook.size == len(exported.to_bytes(target)) < 3 * 3600


def test_a_size_over_the_limit_is_refused_without_writing() -> None:
    from torch2circle.ir import Constant

    huge = Value(Type((2**30,), DType.INT32), "huge", data=Constant(lambda: pytest.fail("made")))
    node = Node.make("ADD", (Value(Type((2**30,), DType.INT32), "x"), huge), (Value(Type((2**30,), DType.INT32), "y"),))
    with pytest.raises(WriteError, match="over 2 GiB"):
        size_of(Graph((node.inputs[0],), node.outputs, ("x",), ("y",)), identifier="CIR0")  # type: ignore[arg-type]


# -- what an error knows of the others


def test_what_is_wrong_with_each_method() -> None:
    double, missing = nn.Identity(), nn.Identity()
    double.forward = lambda x: x.double().float() + x.to(torch.bfloat16)  # type: ignore[method-assign]
    missing.forward = torch.special.i0e  # type: ignore[method-assign,assignment]
    x = torch.ones(2)
    with pytest.raises(UnsupportedUse, match=r"method a: dtype not supported: torch\.float64") as caught:
        torch2circle.export_many({"a": (double.eval(), (x,)), "b": (missing.eval(), (x,)), "c": (nn.ReLU().eval(), (x,))})
    others = [error.message.splitlines()[0] for error in caught.value.also]
    assert others == ["method a: dtype not supported: torch.bfloat16", "method b: 1 operator(s) without a lowering:"]


def test_an_export_stops_with_the_first_error_and_knows_the_others() -> None:
    class Several(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.double().float()
            x = nn.functional.conv2d(x, x[:3, :, :3, :3])
            return x + x.to(torch.bfloat16).float()

    with pytest.raises(UnsupportedUse, match=r"torch\.float64") as caught:
        torch2circle.export(Several().eval(), (torch.ones(3, 3, 8, 8),))
    others = [error.message for error in caught.value.also]
    assert ["aten::conv2d" in others[0], "torch.bfloat16" in others[1], len(others)] == [True, True, 2]
    assert all(error.where is not None for error in caught.value.also)


def test_what_follows_from_an_error_is_no_error_of_its_own() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.fft.rfft(torch.special.i0e(x))  # complex numbers, which the calls behind it read
            return (y * 2).abs() + y.real.relu() + x[:, :5].softmax(-1)

    with pytest.raises(UnsupportedOps) as caught:
        torch2circle.export(One().eval(), (torch.ones(2, 8),))
    named = {op for op, *_ in caught.value.missing}
    assert {"aten::special_i0e", "aten::_fft_r2c"} <= named
    assert [error for error in caught.value.also if not isinstance(error, UnsupportedUse)] == []
    assert all("complex" in error.message for error in caught.value.also)


# -- releases


def test_the_release_of_every_operator_is_known_or_there_is_none() -> None:
    circle_only = {"RMS_NORM", "CUSTOM"}
    for op, facts in OPS.items():
        assert (first_release(op, facts.since) is None) == (op in circle_only), op
        for each in facts.versions.values():
            assert op in circle_only or first_release(op, each) is not None, (op, each)
    assert first_release("BROADCAST_TO", 1) is None
    assert first_release("ADD", 0) is None
    assert first_release("ADD", 99) is None
    assert first_release("FULLY_CONNECTED", 12) == "2.17"
    assert latest(["1.9", "1.14", "1.13.1"]) == "1.14"
    assert latest([]) is None


# -- scales


def quant(scale: float, zero: int = 0, dtype: DType = DType.UINT8) -> Type:
    return Type((2,), dtype, Quant.per_tensor(scale, zero))


def node_of(op: str, result: Type, *operands: Type) -> Graph:
    values = tuple(Value(type_, f"x{i}", origin=Origin(i, (0,))) for i, type_ in enumerate(operands))
    out = Value(result, "y", origin=Origin(9, (0,)))
    node = Node.make(op, values, (out,), where=Where("", "layer"))
    return Graph(values, node.outputs, tuple(v.name for v in values), ("y",))


def codes(graph: Graph) -> list[str]:
    return [finding.code for finding in wild_scales(graph)]


@pytest.mark.parametrize(
    ("type_", "code"),
    [
        (quant(0.1), []),
        (quant(LEAST), ["no-range"]),
        (quant(LEAST * 1.01), ["narrow-range"]),
        (quant(2.0**-14 / 255), []),
        (quant(2.0**-14 / 256), ["narrow-range"]),
        (quant(2.0**-14 / 256, 0, DType.INT16), []),
        (quant(65504 / 255), []),
        (quant(65504 / 254), ["wide-range"]),
        (quant(65504 / 128, 0, DType.INT8), []),
        (quant(65504 / 127, 0, DType.INT8), ["wide-range"]),
        (Type((2,), DType.FLOAT32), []),
        (Type((2,), DType.INT32, Quant.per_tensor(1e-9, 0)), []),
    ],
)
def test_ranges(type_: Type, code: list[str]) -> None:
    assert codes(node_of("RELU", Type((2,), DType.FLOAT32), type_)) == code
    assert codes(node_of("RELU", type_, Type((2,), DType.FLOAT32))) == code


@pytest.mark.parametrize(
    ("operand", "result", "code"),
    [(0.1, 0.1, []), (0.1, 51.0, []), (0.1, 52.0, ["scale-ratio"]), (25.5, 0.1, []), (25.6, 0.1, ["scale-ratio"])],
)
def test_operands_that_the_result_cannot_show(operand: float, result: float, code: list[str]) -> None:
    assert codes(node_of("ADD", quant(result), quant(result), quant(operand))) == code
    assert codes(node_of("MUL", quant(result), quant(result), quant(operand))) == []  # whose scales have other ratios


def test_products_that_the_result_cannot_show_and_dead_channels() -> None:
    def layer(x: float, weight: list[float], y: float) -> Graph:
        from torch2circle.ir import Constant

        scales = Quant(np.array(weight, np.float32), np.zeros(2, np.int64), 0)
        w = Value(Type((2, 2), DType.INT8, scales), "w", data=Constant.of(np.zeros((2, 2), np.int8)))
        given = Value(quant(x), "x", origin=Origin(0, (0,)))
        node = Node.make("FULLY_CONNECTED", (given, w, None), (Value(quant(y), "y", origin=Origin(1, (0,))),))
        return Graph((given,), node.outputs, ("x",), ("y",))

    assert codes(layer(1.0, [0.1, 0.2], 0.1)) == []
    assert codes(layer(1.0, [26.0, 30.0], 0.1)) == ["scale-ratio"]
    (dead,) = wild_scales(layer(1.0, [0.1, LEAST], 0.1))
    assert (dead.severity, dead.code) == ("note", "dead-channels")
    assert dead.message == "1 channels in 1 layer(s) have weights of zero; this one has the largest share, 1 of 2"


def test_a_calibration_with_zeros_and_with_an_outlier() -> None:
    from torch.ao import quantization as Q

    def found(data: Tensor) -> set[str]:
        model = nn.Sequential(Q.QuantStub(), nn.Linear(4, 4), Q.DeQuantStub()).eval()
        model.qconfig = Q.QConfig(Q.MinMaxObserver.with_args(quant_min=0, quant_max=255), Q.default_weight_observer)  # type: ignore[assignment]
        prepared = Q.prepare(model)
        prepared(data)
        exported = torch2circle.export(Q.convert(prepared), (torch.ones(1, 4),))
        return {finding.code for finding in wild_scales(exported.graph)}

    assert found(torch.randn(8, 4)) == set()
    assert "no-range" in found(torch.zeros(8, 4))
    assert "wide-range" in found(torch.tensor([[1e6, 0, 0, 0]]))


@pytest.mark.skipif(not runtimes.available("litert"), reason="LiteRT is not installed")
def test_a_dry_run_runs_no_runtime(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(runtimes, "run_many", lambda *_, **__: pytest.fail("run"))
    assert run("model.pt", "out.circle", *INPUT, "--dry-run")[0] == 0
    assert preflight(torch2circle.export(quantized(), (IMAGE,)), ["litert"])[0].error is None
