"""``weights="float16"``: float32 weights rounded, and everything that is said and compared about it."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

import torch2circle
from cases.dynamic import eager
from cases.making import Made, Seq, floating
from torch2circle import cli, runtimes
from torch2circle.errors import TargetError
from torch2circle.ir import DType
from torch2circle.pipeline import ExportedModel
from torch2circle.show import weight_bytes


def layers() -> Made:
    return floating(Seq(nn.Linear(128, 96), nn.ReLU(), nn.Linear(96, 64)), (2, 128))


def halved(made: Made) -> ExportedModel:
    return torch2circle.export(*made, weights="float16")


def test_the_file_has_half_the_bytes_and_biases_stay() -> None:
    made = layers()
    sizes = weight_bytes(halved(made).for_target("litert"))
    assert sizes == {"float16": 2 * (128 * 96 + 96 * 64), "float32": 4 * (96 + 64)}
    assert len(halved(made).to_bytes("litert")) < 0.55 * len(torch2circle.export(*made).to_bytes("litert"))


def test_what_is_compared_is_pytorch_on_the_rounded_weights() -> None:
    model, args = layers()
    before = deepcopy(model.state_dict())
    exported = halved((model, args))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    rounded = deepcopy(model)
    for part in (rounded[0], rounded[2]):  # type: ignore[index]
        part.weight.data = part.weight.data.half().float()
    with torch.no_grad():
        assert torch.equal(exported.recording.value_of(exported.recording.outputs[0]), rounded(*args))
    assert not exported.steps and not exported.corrected  # so the usual tolerance of a float operator holds
    if runtimes.available("litert"):
        assert exported.verify("litert").ok(lsb=0.5)


def test_a_note_tells_what_the_rounding_costs() -> None:
    model, args = layers()
    (note,) = halved((model, args)).diagnostics()
    assert (note.severity, note.code) == ("note", "float16")
    assert note.message.startswith("2 weights of linear layers and convolutions")
    told = float(note.message.split(" dB")[0].split()[-1])
    with torch.no_grad():
        wanted = model(*args)
        for part in (model[0], model[2]):  # type: ignore[index]
            part.weight.data = part.weight.data.half().float()
        noise = model(*args) - wanted
    assert told == pytest.approx(10 * float(torch.log10(wanted.square().sum() / noise.square().sum())), abs=0.1)


def test_numbers_that_float16_has_cost_nothing() -> None:
    model, args = layers()
    for part in model.parameters():
        part.data = part.data.half().float()
    (note,) = halved((model, args)).diagnostics()
    assert note.message.endswith("the outputs are what they were")


def test_a_weight_too_large_stays_as_it_is() -> None:
    model, args = layers()
    model[0].weight.data[3, 5] = 1e5  # type: ignore[index]
    exported = halved((model, args))
    found = {f.code: f for f in exported.diagnostics()}
    assert (found["float16-range"].severity, found["float16-range"].path) == ("warning", "0")
    assert weight_bytes(exported.for_target("litert"))["float16"] == 2 * 96 * 64


def test_integers_stay_integers() -> None:
    made = eager(Seq(nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, 5)), (9, 17))
    exported = halved(made)
    assert not [v for v in exported.graph.values() if v.type.dtype is DType.FLOAT16]
    assert [f.severity for f in exported.diagnostics() if f.code == "float16"] == ["warning"]


def test_a_runtime_that_reads_no_float16_is_no_target() -> None:
    for target in ("onert", "one"):
        with pytest.raises(TargetError, match="reads no float16"):
            halved(layers()).for_target(target)


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(layers()[0], "model.pt")
    with pytest.raises(SystemExit) as done:
        cli.main(["model.pt", "model.tflite", "--input", "2x128", "--weights", "float16", "--no-verify", "--json"])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out)["weights"]["float16"] == 2 * (128 * 96 + 96 * 64)


def test_another_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="weights must be one of"):
        torch2circle.export(*layers(), weights="float8")
