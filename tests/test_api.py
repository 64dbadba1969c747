"""The public interface is the recorded one: what is promised does not change by accident. docs/stability.md has the promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import public_api
import torch2circle
from test_cli import INPUT, Run, quantized, run  # noqa: F401
from test_site import codes
from torch2circle import runtimes
from torch2circle.cli.group import cli
from torch2circle.cli.terminal import JSON_VERSION

NAME = "public_api.txt"
METHODS = """
import torch

class Coder(torch.nn.Module):
    def encode(self, x):
        return x * 2

    def decode(self, x):
        return torch.linalg.det(x)

    def forward(self, x):
        return torch.linalg.det(x.reshape(1, 2, 2)) + torch.linalg.svd(x.reshape(1, 2, 2))[1].sum()

def methods():
    coder, x = Coder().eval(), torch.rand(1, 4)
    return {"encode": (coder.encode, (x,)), "again": (coder.encode, (x,))}

def unsupported():
    return Coder().eval()
"""
NETS = """
[defaults]
verify = false
[[job]]
model = "model.pt"
output = "out/model.circle"
input = "1x3x8x8"
[[job]]
model = "several.py:unsupported"
output = "out/other.circle"
input = "1x4"
"""
# What --json prints for each kind of model and file: every key must be in one of them.
PRINTED: dict[str, list[Sequence[str]]] = {
    "export": [
        ("model.pt", "model.circle", *INPUT),
        ("model.pt", "model.tflite", *INPUT),
        ("several.py:methods", "methods.tflite", "--no-verify"),
        ("model.pt", "--nnpackage", "net", *INPUT),
    ],
    "export --dry-run": [
        ("model.pt", "--dry-run", *INPUT),
        ("several.py:unsupported", "--dry-run", "--input", "1x4"),
        ("several.py:methods", "--dry-run"),
        ("model.pt", "--dry-run", *INPUT, "--input", "1x3x8x8"),
    ],
    "verify": [("verify", "model.pt", "model.circle", *INPUT)],
    "verify of two files": [("verify", "model.circle", "model.tflite", "--samples", "1", "--max-output-lsb", "9")],
    "inspect": [("inspect", "model.circle"), ("inspect", "methods.tflite")],
    "check": [("check", "model.circle", "--target", "litert")],
    "diff": [("diff", "model.circle", "other.circle"), ("diff", "model.circle", "methods.tflite")],
    "convert": [("convert", "model.circle", "converted.tflite")],
    "qparams": [("qparams", "model.pt", "bundle", *INPUT)],
    "implant": [("implant", "bundle/model.circle", "bundle/qparam.json", "implanted.tflite")],
    "report": [("report", "model.pt", "model.circle", *INPUT)],
    "ops": [("ops",)],
    "batch --dry-run": [("batch", "nets.toml", "--dry-run")],
    "batch": [("batch", "nets.toml")],
}


def test_every_command_that_prints_json_is_recorded() -> None:
    prints = {name for name, command in cli.commands.items() if any("--json" in parameter.opts for parameter in command.params)}
    assert prints == {name.split()[0] for name in PRINTED}, "give the command its lines in PRINTED"


@pytest.mark.skipif(not (runtimes.available("litert") and runtimes.available("onert")), reason="a runtime is not installed")
def test_the_public_interface_is_the_recorded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, golden: Callable[..., None]  # noqa: F811
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(quantized(), "model.pt")
    torch2circle.export(quantized(seed=1, channels=5), (torch.zeros(1, 3, 8, 8),)).save("other.circle")
    Path("several.py").write_text(METHODS, encoding="utf-8")
    Path("nets.toml").write_text(NETS, encoding="utf-8")
    printed: dict[str, list[Any]] = {}
    for name, calls in PRINTED.items():
        for call in calls:
            printed.setdefault(name, []).append(json.loads(run(*call, "--json")[1]))
    assert {value["json_version"] for values in printed.values() for value in values} == {JSON_VERSION}
    text = public_api.recorded(set(codes()), printed)
    path = Path(__file__).parent / "golden" / NAME
    lost = public_api.broken(path.read_text(encoding="utf-8") if path.exists() else "", text)
    accept = "`make api` records it, and CHANGELOG.md tells users"
    if lost:
        accept += "; docs/stability.md says what has to come before it. Programs that rely on this break:\n  " + "\n  ".join(lost) + "\n"
    golden(NAME, text, accept)


def test_what_breaks_is_told_from_what_is_new() -> None:
    before = "python a.f() -> int\npython a.f() (0) x: int required\ncommand a b\ncommand a b --c text\n"
    assert public_api.broken(before, before) == []
    assert public_api.broken(before, before + "python a.f() (by name) y: int = 0\npython a.g()\npython a.g() (0) x required\n") == []
    assert public_api.broken(before, before + "command a c\ncommand a c (0) FILE required\ncommand a b --d text\n") == []
    assert public_api.broken(before, before.replace("x: int required", "x: int = 0")) == ["python a.f() (0) x: int required"]
    assert public_api.broken(before, before.replace("--c text\n", "--c path\n")) == ["command a b --c text"]
    for new in ("python a.f() (1) y: int required", "command a b (0) FILE required", "command a b --d text required"):
        assert public_api.broken(before, f"{before}{new}\n") == [new]


def test_a_changed_signature_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    before = "".join(f"{line}\n" for line in public_api.python())

    def other(path: str, *, target: str | None = None) -> int:
        return 0

    monkeypatch.setattr(torch2circle.ExportedModel, "save", other)
    after = "".join(f"{line}\n" for line in public_api.python())
    lost = public_api.broken(before, after)
    assert "python torch2circle.ExportedModel.save() (1) target: str | None = None" in lost
    assert all(".ExportedModel.save()" in line for line in lost)
