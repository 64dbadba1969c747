"""ONE's nnpackage: its layout, the numbers of its test case, and onert, which takes the folder as it is."""

from __future__ import annotations

import json
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization as Q

import torch2circle
from test_cli import IMAGE, INPUT, Run, quantized, run  # noqa: F401  # run is a fixture
from torch2circle import nnpackage, runtimes
from torch2circle.errors import FormatError, MissingRuntime, TargetError, UserError, WriteError
from torch2circle.pipeline import ExportedModel

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
ONERT = pytest.mark.skipif(not runtimes.available("onert"), reason="onert is not installed")


class Anything(nn.Module):
    """Inputs and outputs of several types, a number without dimensions among them."""

    def forward(self, ids: Tensor, x: Tensor) -> dict[str, Tensor]:
        return {"sum": (x * 2).sum(), "large": x > 0, "next": ids + 1}


@pytest.fixture(scope="module")
def small() -> ExportedModel:
    return torch2circle.export(quantized(), (IMAGE,))


@pytest.fixture(scope="module")
def deep() -> ExportedModel:
    """Enough layers that onert and FBGEMM round some output apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [layer for _ in range(6) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
        model = nn.Sequential(Q.QuantStub(), nn.Conv2d(3, 16, 3), *layers, nn.Conv2d(16, 16, 1), Q.DeQuantStub()).eval()
        x = torch.randn(1, 3, 24, 24)
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = Q.prepare(model)
    prepared(x)
    return torch2circle.export(Q.convert(prepared), (x,))


def datasets(path: Path) -> dict[str, tuple[str, str, np.ndarray]]:
    """Position -> name, stored type, numbers."""
    with h5py.File(path, "r") as file:
        assert sorted(file) == ["name", "value"]
        return {key: (file["name"].attrs[key], data.dtype.str, data[()]) for key, data in file["value"].items()}


def test_the_layout_is_that_of_ONE(small: ExportedModel, tmp_path: Path) -> None:
    made = small.save_nnpackage(tmp_path / "net")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "net/metadata/MANIFEST", "net/metadata/tc/expected.h5", "net/metadata/tc/input.h5", "net/net.circle",
    ]  # fmt: skip
    assert (made.name, made.size, made.custom_ops) == ("net", (tmp_path / "net" / "net.circle").stat().st_size, ())
    assert (tmp_path / "net" / "net.circle").read_bytes() == small.to_bytes("onert")
    assert json.loads((tmp_path / "net" / "metadata" / "MANIFEST").read_text()) == {
        "major-version": "1", "minor-version": "2", "patch-version": "0", "configs": [],
        "models": ["net.circle"], "model-types": ["circle"],
    }  # fmt: skip


def test_the_test_case_is_what_pytorch_computed(small: ExportedModel, tmp_path: Path) -> None:
    small.save_nnpackage(tmp_path / "net")
    case = tmp_path / "net" / "metadata" / "tc"
    ((name, type_, given),) = datasets(case / "input.h5").values()
    assert (name, type_) == ("input", ">f4")
    assert np.array_equal(given, IMAGE.numpy())
    ((name, type_, wanted),) = datasets(case / "expected.h5").values()
    assert (name, type_) == ("output", ">f4")
    assert np.array_equal(wanted, quantized()(IMAGE).numpy())


def test_integers_are_stored_as_the_file_has_them(tmp_path: Path) -> None:
    exported = torch2circle.export(quantized(), (IMAGE,), io_layout="nhwc", io_dtypes={"input": "uint8", "output": "uint8"})
    exported.save_nnpackage(tmp_path / "net")
    ((_, type_, given),) = datasets(tmp_path / "net" / "metadata" / "tc" / "input.h5").values()
    assert (type_, given.shape) == ("|u1", (1, 8, 8, 3))
    (value,) = exported.for_target("onert").inputs
    assert value.type.quant is not None
    real = (given.astype(np.float32) - value.type.quant.zero_point[0]) * value.type.quant.scale[0]
    assert np.abs(real.transpose(0, 3, 1, 2) - IMAGE.numpy()).max() <= value.type.quant.scale[0] / 2 * 1.001  # float32 rounds the product


@ONERT
def test_every_type_is_stored_as_onert_run_reads_it(tmp_path: Path) -> None:
    exported = torch2circle.export(Anything().eval(), (torch.arange(4), torch.tensor([1.0, -2.0])))
    exported.save_nnpackage(tmp_path / "any")
    case = tmp_path / "any" / "metadata" / "tc"
    assert [(name, type_) for name, type_, _ in datasets(case / "input.h5").values()] == [("ids", "<i8"), ("x", ">f4")]
    outputs = datasets(case / "expected.h5").values()
    assert [(name, type_, made.tolist()) for name, type_, made in outputs] == [
        ("sum", ">f4", -2.0), ("large", "|u1", [1, 0]), ("next", "<i8", [1, 2, 3, 4]),
    ]  # fmt: skip
    assert nnpackage.check(tmp_path / "any") == nnpackage.Outcome(size=7, off=0, largest=0.0)


@ONERT
@pytest.mark.parametrize("name", ["net", "net.zip"])
def test_onert_runs_the_package(small: ExportedModel, tmp_path: Path, name: str) -> None:
    small.save_nnpackage(tmp_path / name)
    outcome = nnpackage.check(tmp_path / name)
    assert outcome.passed
    assert outcome.size == 64


@ONERT
def test_a_rounding_fails_against_pytorch_and_not_against_onert(deep: ExportedModel, tmp_path: Path) -> None:
    deep.save_nnpackage(tmp_path / "of_torch")
    deep.save_nnpackage(tmp_path / "of_onert", expected="onert")
    report = deep.verify("onert")
    assert report.ok()
    outcome = nnpackage.check(tmp_path / "of_torch")
    (output,) = report.outputs
    assert 0 < outcome.off == output.size - output.equal
    assert not outcome.passed
    assert nnpackage.check(tmp_path / "of_onert") == nnpackage.Outcome(outcome.size, 0, 0.0)


@ONERT
def test_a_wrong_number_is_seen(small: ExportedModel, tmp_path: Path) -> None:
    small.save_nnpackage(tmp_path / "net")
    for wrong in (0.0011, np.nan, np.inf):
        with h5py.File(tmp_path / "net" / "metadata" / "tc" / "expected.h5", "r+") as file:
            data = file["value"]["0"]
            data[0, 0, 0, 0] = small.recording.value_of(small.recording.outputs[0])[0, 0, 0, 0] + wrong
        outcome = nnpackage.check(tmp_path / "net")
        assert (outcome.off, outcome.passed) == (1, False)
        assert outcome.largest == (pytest.approx(0.0011, rel=1e-3) if np.isfinite(wrong) else np.inf)  # float32 of a number near 1


def test_an_archive_is_the_folder_and_the_same_each_time(small: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.save_nnpackage(tmp_path / "net")
    small.save_nnpackage(tmp_path / "net.zip")
    before = (tmp_path / "net.zip").read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2e9)  # of h5py's or zipfile's clock nothing may be left in the bytes
    time.sleep(1.1)  # and HDF5 itself, in C, counts whole seconds
    small.save_nnpackage(tmp_path / "net.zip")
    assert (tmp_path / "net.zip").read_bytes() == before
    with zipfile.ZipFile(tmp_path / "net.zip") as packed:
        for entry in packed.infolist():
            assert packed.read(entry) == (tmp_path / entry.filename).read_bytes()
        assert len(packed.infolist()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "net.zip"]


def test_a_full_folder_is_left_alone(small: ExportedModel, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(WriteError, match="not empty"):
        small.save_nnpackage(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(WriteError, match="No such file"):
        small.save_nnpackage(tmp_path / "no" / "net")
    with pytest.raises(WriteError, match="No such file"):
        small.save_nnpackage(tmp_path / "no" / "net.zip")


@pytest.mark.parametrize("name", ["net", "net.zip"])
def test_a_failure_midway_leaves_nothing(small: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nnpackage, "_write", full)
    with pytest.raises(WriteError, match="No space left"):
        small.save_nnpackage(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_names_that_scripts_take_apart_are_refused(small: ExportedModel, tmp_path: Path) -> None:
    for name in ("my net", "-net", ".zip", "net;x.zip"):
        with pytest.raises(UserError, match="not a name for an nnpackage"):
            small.save_nnpackage(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    small.save_nnpackage(tmp_path / "net_1.0+a")
    assert (tmp_path / "net_1.0+a" / "net_1.0+a.circle").exists()


def test_what_cannot_be_a_package(small: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetError, match="an nnpackage is not written for target litert"):
        small.save_nnpackage(tmp_path / "net", "litert")
    with pytest.raises(MissingRuntime, match="onert does not run what is written for target one"):
        small.save_nnpackage(tmp_path / "net", "one", expected="onert")
    with pytest.raises(ValueError, match="expected must be one of"):
        small.save_nnpackage(tmp_path / "net", expected="litert")
    anysize = torch2circle.export(nn.ReLU().eval(), (torch.randn(2, 3),), dynamic_batch=True)
    with pytest.raises(UserError, match="of one size"):
        anysize.save_nnpackage(tmp_path / "net")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingRuntime, match="h5py") as caught:
        small.save_nnpackage(tmp_path / "net")
    assert "torch2circle[nnpackage]" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_for_one(small: ExportedModel, tmp_path: Path) -> None:
    small.save_nnpackage(tmp_path / "net", "one")
    assert (tmp_path / "net" / "net.circle").read_bytes() == small.to_bytes("one")


@ONERT
def test_what_is_no_package(small: ExportedModel, tmp_path: Path) -> None:
    small.save_nnpackage(tmp_path / "net")
    case = tmp_path / "net" / "metadata" / "tc"
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(FormatError, match="not a zip file"):
        nnpackage.check(tmp_path / "text.zip")
    with pytest.raises(FormatError, match="no test case"):
        nnpackage.check(tmp_path)
    with h5py.File(case / "expected.h5", "w") as file:
        file.create_group("value")["0"] = np.zeros((1, 2), np.float32)
    with pytest.raises(FormatError, match="outputs of the shapes"):
        nnpackage.check(tmp_path / "net")
    (case / "input.h5").write_text("hello")
    with pytest.raises(FormatError, match="no test case"):
        nnpackage.check(tmp_path / "net")


# -- the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(quantized(), tmp_path / "model.pt")
    return tmp_path


@ONERT
def test_a_package_instead_of_a_file(folder: Path, run: Run) -> None:  # noqa: F811
    code, out, err = run("model.pt", "--nnpackage", "net", *INPUT)
    assert (code, err) == (0, "")
    assert out.startswith("net: nnpackage for onert\n")
    assert "  nnpackage    net: its test case passes in onert\n" in out
    assert nnpackage.check(folder / "net").passed


@ONERT
def test_a_package_beside_a_file(folder: Path, run: Run) -> None:  # noqa: F811
    code, out, _ = run("model.pt", "out.circle", "--nnpackage", "net.zip", *INPUT, "--json")
    assert code == 0
    assert json.loads(out)["nnpackage"] == {
        "path": "net.zip", "expected": "torch", "custom_ops": [], "case": {"passed": True, "size": 64, "off": 0, "largest": 0.0},
    }  # fmt: skip
    with zipfile.ZipFile(folder / "net.zip") as packed:
        assert packed.read("net/net.circle") == (folder / "out.circle").read_bytes()


def said_of(case: dict[str, object] | None, capsys: pytest.CaptureFixture[str], custom: tuple[str, ...] = ()) -> str:
    from torch2circle.cli.package import print_package

    print_package({"path": "net", "expected": "torch", "custom_ops": list(custom), "case": case})
    return capsys.readouterr().out


def test_a_test_case_that_will_fail_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = said_of({"passed": False, "size": 64, "off": 3, "largest": 0.25}, capsys)
    assert "ONE's nnpkg-test will say Fail, as 3 of 64 outputs are off by more than 0.001, at most by 0.25; --expected onert" in said
    assert "was not run" in said_of(None, capsys)
    assert "put the kernels of mine into its folder custom_op" in said_of(None, capsys, ("mine",))


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["out.tflite", "--nnpackage", "net"], 8, "not written for target litert"),
        (["--nnpackage", "net", "--target", "litert"], 8, "not written for target litert"),
        (["out.circle", "--nnpackage", "a b"], 2, "not a name for an nnpackage"),
        (["out.circle", "--nnpackage", "."], 9, "not empty"),
        (["out.circle", "--nnpackage", "net", "--target", "one", "--expected", "onert"], 11, "does not run what is written for target one"),
    ],
)
def test_refused_before_anything_is_written(folder: Path, run: Run, args: list[str], code: int, says: str) -> None:  # noqa: F811
    assert run("model.pt", *args, *INPUT)[0::2][0] == code
    assert says in run("model.pt", *args, *INPUT)[2]
    assert [path.name for path in folder.iterdir()] == ["model.pt"]


def test_methods_have_no_package(folder: Path, run: Run) -> None:  # noqa: F811
    (folder / "two.py").write_text(
        "import torch\ndef make():\n    net = torch.nn.Linear(2, 2).eval()\n    return {'a': (net, (torch.ones(1, 2),))}\n"
    )
    code, _, err = run("two.py:make", "out.circle", "--nnpackage", "net")
    assert (code, "of one model, not of methods: a" in err) == (2, True)
    assert not (folder / "out.circle").exists()


