"""Every way an export fails: the class and message through the library, and through the command line its exit code, one clean
message, and no file left behind.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization as Q

import torch2circle
from torch2circle import cli, errors, runtimes

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
INPUT = ["--input", "1x3x8x8"]


def quantized(*layers: nn.Module) -> nn.Module:
    """The layers in eager quantization, calibrated on the image; made of PyTorch's own classes only, so that its file loads."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(Q.QuantStub(), *(layers or (nn.Conv2d(3, 4, 3), nn.ReLU())), Q.DeQuantStub()).eval()
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = Q.prepare(model)
    prepared(IMAGE)
    made: nn.Module = Q.convert(prepared)
    return made


def saved(model: Any, folder: Path) -> str:
    torch.save(model, folder / "model.pt")
    return str(folder / "model.pt")


class Failed:
    """What the command line said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def fails(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Failed]:
    """Run the command line in an empty folder; it must fail, say so in one message, and leave no file."""
    monkeypatch.chdir(tmp_path)

    def run(error: type[errors.Torch2CircleError] | int, *args: str, says: str = "", output: str = "out.circle") -> Failed:
        before = {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
            cli.main([args[0], output, *args[1:]])
        out, err = capfd.readouterr()
        assert caught.value.code == (error if isinstance(error, int) else error.exit_code), err
        assert "Traceback" not in err
        assert says in err
        assert not out
        assert {path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts} == before
        return Failed(int(caught.value.code), out, err)

    return run


Fails = Callable[..., Failed]


def test_no_two_errors_share_an_exit_code() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.Torch2CircleError)]
    assert len({each.exit_code for each in classes}) == len(classes)


# -- loading


def test_not_a_model_file(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(errors.LoadError, match="a text file, not a PyTorch model"):
        torch2circle.load(tmp_path / "notes.txt")
    fails(errors.LoadError, "notes.txt", says="error: a text file, not a PyTorch model: notes.txt\n\nhint: ")
    fails(errors.LoadError, "absent.pt", says="no such file: absent.pt")
    with pytest.raises(errors.LoadError, match="not a PyTorch model: int"):
        torch2circle.export(3)  # type: ignore[arg-type]


def test_a_state_dict_without_a_factory(fails: Fails, tmp_path: Path) -> None:
    path = saved(nn.Linear(2, 2).state_dict(), tmp_path)
    with pytest.raises(errors.LoadError, match="holds weights"):
        torch2circle.load(path)
    fails(errors.LoadError, "model.pt", says="--state")


def test_a_truncated_file(fails: Fails, tmp_path: Path) -> None:
    path = Path(saved(quantized(), tmp_path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(errors.LoadError, match="damaged or cut short"):
        torch2circle.load(path)
    fails(errors.LoadError, "model.pt", says="damaged or cut short")


class Own(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def test_a_users_class_without_trust(fails: Fails, tmp_path: Path) -> None:
    path = saved(Own().eval(), tmp_path)
    with pytest.raises(errors.LoadError, match="not plain PyTorch layers"):
        torch2circle.load(path)
    fails(errors.LoadError, "model.pt", says="test_errors.Own")
    assert isinstance(torch2circle.load(path, trust_pickle=True), Own)


def test_a_checkpoint_saved_on_a_gpu_loads(tmp_path: Path) -> None:
    """Its storages name a device this machine has not; the pickle inside is rewritten to say so."""
    plain, made = Path(saved(quantized(), tmp_path)), tmp_path / "cuda.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                old, new = pickle.dumps("cpu", 2)[2:-1].split(b"q")[0], pickle.dumps("cuda:0", 2)[2:-1].split(b"q")[0]
                assert old in data
                data = data.replace(old, new)
            target.writestr(name, data)
    model = torch2circle.load(made)
    assert torch.equal(model(IMAGE), quantized()(IMAGE))  # type: ignore[operator]


# -- recording


def test_train_mode(fails: Fails, tmp_path: Path) -> None:
    model = quantized()
    model.train()
    with pytest.raises(errors.RecordError, match="the model is in train mode: <top>"):
        torch2circle.export(model, (IMAGE,))
    saved(model, tmp_path)
    fails(errors.RecordError, "model.pt", *INPUT, says="hint: call model.eval() first")


def test_prepared_but_not_converted(fails: Fails, tmp_path: Path) -> None:
    model = nn.Sequential(Q.QuantStub(), nn.Conv2d(3, 4, 3), Q.DeQuantStub()).eval()
    model.qconfig = Q.default_qconfig  # type: ignore[assignment]
    prepared = Q.prepare(model)
    with pytest.raises(errors.RecordError, match="prepared but not converted"):
        torch2circle.export(prepared, (IMAGE,))
    (tmp_path / "prepared_model.py").write_text(
        "from torch import nn\nfrom torch.ao import quantization as Q\n"
        "def make():\n    m = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()\n    m.qconfig = Q.default_qconfig\n    return Q.prepare(m)\n"
    )
    fails(errors.RecordError, "prepared_model:make", *INPUT, says="still holds an observer: 0.activation_post_process")


def test_a_wrong_input_shape(fails: Fails, tmp_path: Path) -> None:
    model = quantized()
    with pytest.raises(errors.RecordError, match="the model cannot run on these inputs: RuntimeError") as caught:
        torch2circle.export(model, (IMAGE[:, :2],))
    assert caught.value.where is not None
    assert caught.value.where.module == "1"
    saved(model, tmp_path)
    fails(errors.RecordError, "model.pt", "--input", "1x2x8x8", says="in 1")


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


BRANCHING = """
import torch
class M(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x
m = M().eval()
"""


def test_a_branch_on_data(fails: Fails, tmp_path: Path) -> None:
    with pytest.raises(errors.RecordError, match="depends on its input") as caught:
        torch2circle.export(Branching().eval(), (IMAGE,))
    assert "test_errors.py" in str(caught.value)
    (tmp_path / "branching.py").write_text(BRANCHING)
    fails(errors.RecordError, "branching.py:m", *INPUT, says="branching.py:5 in <top>")


# -- lowering


MISSING = """
import torch
class Part(torch.nn.Module):
    def forward(self, x):
        return torch.special.i0e(x).erfinv()
class M(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Part(), Part()
    def forward(self, x):
        return torch.special.i1e(self.b(self.a(x)))
def make():
    return M().eval()
"""


def test_operators_without_a_lowering_are_all_named_at_once(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "missing_ops.py").write_text(MISSING)
    model = torch2circle.load(f"{tmp_path}/missing_ops.py:make")
    with pytest.raises(errors.UnsupportedOps) as caught:
        torch2circle.export(model, (IMAGE,))
    found = [(op, count, where.module, Path(where.file).name, where.line) for op, count, where, _ in caught.value.missing]
    assert found == [
        ("aten::special_i0e", 2, "a", "missing_ops.py", 5),
        ("aten::erfinv", 2, "a", "missing_ops.py", 5),
        ("aten::special_i1e", 1, "", "missing_ops.py", 11),
    ]
    said = fails(errors.UnsupportedOps, "missing_ops.py:make", *INPUT, says="3 operator(s) without a lowering:")
    assert "  aten::special_i0e x2, first at missing_ops.py:5 in a\n" in said.err


def test_an_unsupported_dtype(fails: Fails, tmp_path: Path) -> None:
    with pytest.raises(errors.UnsupportedUse, match=r"dtype not supported: torch.float64"):
        torch2circle.export(nn.ReLU().eval(), (IMAGE.double(),))
    saved(nn.ReLU().eval(), tmp_path)
    torch.save((IMAGE.double(),), tmp_path / "sample.pt")
    fails(errors.UnsupportedUse, "model.pt", "--inputs", "sample.pt", says="hint: accepted: float32")
    fails(errors.LoadError, "model.pt", "--input", "1x3:float64", says="unknown dtype: float64")


@pytest.mark.parametrize(("scale", "shown"), [(0.0, "0.0"), (float("nan"), "nan"), (float("inf"), "inf")])
def test_a_scale_that_is_no_positive_number(scale: float, shown: str, fails: Fails, tmp_path: Path) -> None:
    model = quantized()
    model[0].scale.fill_(scale)  # type: ignore[index, union-attr, operator]
    with pytest.raises(errors.QuantizationError, match=rf"a scale must be a positive number: {shown}") as caught:
        torch2circle.export(model, (IMAGE,))
    assert caught.value.where is not None
    assert caught.value.where.module == "0"
    saved(model, tmp_path)
    fails(errors.QuantizationError, "model.pt", *INPUT, says="in 0 (aten::quantize_per_tensor)")


def test_a_bias_that_overflows(fails: Fails, tmp_path: Path) -> None:
    model = quantized()
    weight, bias = model[1]._weight_bias()  # type: ignore[index, union-attr, operator]
    bias = bias.detach().clone()
    bias[2] = 1e9
    model[1].set_weight_bias(weight, bias)  # type: ignore[index, union-attr, operator]
    with pytest.raises(errors.QuantizationError, match=r"does not fit int32 .* in 1 channel.*: 2"):
        torch2circle.export(model, (IMAGE,), bias_overflow="error")
    exported = torch2circle.export(model, (IMAGE,))
    warned = {finding.code for finding in exported.findings if finding.severity == "warning"}
    # FBGEMM's own kernel overflows on a bias of 1e9, too, when it converts its float sum
    assert warned == {"bias-overflow", "kernel-overflow"}
    saved(model, tmp_path)
    fails(errors.QuantizationError, "model.pt", *INPUT, "--bias-overflow", "error", says="does not fit int32")


def test_a_float_model_exports_as_float() -> None:
    exported = torch2circle.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), (IMAGE,))
    assert {value.type.dtype.value for value in exported.for_target("onert").values()} <= {"float32", "int32"}
    assert exported.to_bytes("onert")


# -- targets and files


def test_targets_and_file_names(fails: Fails, tmp_path: Path) -> None:
    exported = torch2circle.export(quantized(), (IMAGE,))
    for call in (exported.for_target, exported.to_bytes, exported.diagnostics, exported.verify):
        with pytest.raises(errors.TargetError, match="no such target: tpu"):
            call("tpu")
    with pytest.raises(errors.TargetError, match="does not tell a format"):
        exported.save(tmp_path / "model.onnx")
    with pytest.raises(errors.TargetError, match=r"writes \.tflite files"):
        exported.save(tmp_path / "model.circle", "litert")
    with pytest.raises(ValueError, match="io_layout must be one of"):
        torch2circle.export(quantized(), (IMAGE,), io_layout="nchw")
    saved(quantized(), tmp_path)
    fails(errors.TargetError, "model.pt", *INPUT, output="out.onnx", says="hint: name it .circle or .tflite")
    fails(errors.TargetError, "model.pt", *INPUT, "--target", "litert", says="hint: name it out.tflite")
    fails(2, "model.pt", *INPUT, "--target", "tpu", says="'tpu' is not one of 'onert', 'litert', 'one'")


def test_output_in_a_missing_folder(fails: Fails, tmp_path: Path) -> None:
    with pytest.raises(errors.WriteError, match="absent"):
        torch2circle.export(quantized(), (IMAGE,)).save(tmp_path / "absent" / "out.circle")
    saved(quantized(), tmp_path)
    fails(errors.WriteError, "model.pt", *INPUT, output="absent/out.circle", says="absent")


def test_a_runtime_that_is_not_installed(fails: Fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any) -> None:
    exported = torch2circle.export(quantized(), (IMAGE,))
    saved(quantized(), tmp_path)
    exported.save(tmp_path / "made.circle")
    find = runtimes.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "onert" else find(name, *rest))
    with pytest.raises(errors.MissingRuntime, match="onert"):
        exported.verify("onert")
    fails(errors.MissingRuntime, "verify", "made.circle", *INPUT, output="model.pt", says="pip install")
    with pytest.raises(SystemExit) as caught:  # an export only says that it could not verify
        cli.main(["model.pt", "out.circle", *INPUT])
    assert caught.value.code == 0
    assert 'no: onert is not installed: pip install "torch2circle[verify]"' in capfd.readouterr().out
    with pytest.raises(errors.MissingRuntime, match="target one has no runtime"):
        exported.verify("one")


# -- the command's own arguments


def test_wrong_arguments(fails: Fails, tmp_path: Path) -> None:
    saved(quantized(), tmp_path)
    fails(errors.LoadError, "model.pt", "--input", "1,3,8,8", says="not an input: 1,3,8,8\n\nhint: write")
    fails(2, "model.pt", *INPUT, "--inputs", "sample.npz", says="give --input or --inputs, not both")
    fails(errors.LoadError, "model.pt", "--inputs", "sample.npz", says="no such file: sample.npz")
    fails(errors.LoadError, "model.pt", says="pass it: --input 1x3xHxW")


def test_brackets_in_a_path_are_shown_as_they_are(fails: Fails, tmp_path: Path) -> None:
    (tmp_path / "a[bold]b[").write_text("x")
    fails(errors.LoadError, "a[bold]b[", says="not a PyTorch model: a[bold]b[\n")


def test_an_error_of_ours_asks_for_a_report(fails: Fails, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    saved(quantized(), tmp_path)
    monkeypatch.setattr("torch2circle.pipeline.lower", lambda *_: {}["x"])
    fails(errors.Bug, "model.pt", *INPUT, says="error: KeyError: 'x'\n\nhint: this is a bug in torch2circle: please report it")


# -- a full disk, Ctrl-C: in a process of its own


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "torch2circle", *args]


@pytest.fixture
def environment() -> dict[str, str]:
    source = str(Path(torch2circle.__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}


def test_a_full_disk(tmp_path: Path, environment: dict[str, str]) -> None:
    saved(quantized(nn.Conv2d(3, 256, 7)), tmp_path)
    (tmp_path / "out.circle").write_bytes(b"what was there")

    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))

    done = subprocess.run(
        command("model.pt", "out.circle", *INPUT, "--no-verify"),
        cwd=tmp_path, env=environment, capture_output=True, text=True, preexec_fn=small_files_only, check=False,
    )  # fmt: skip
    assert done.returncode == errors.WriteError.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert "out.circle" in done.stderr
    assert (tmp_path / "out.circle").read_bytes() == b"what was there"
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "out.circle"}


SLEEPER = """
import time, pathlib, torch
class M(torch.nn.Module):
    def forward(self, x):
        pathlib.Path("running").touch()
        time.sleep(60)
        return x
m = M().eval()
"""


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended"), (signal.SIGHUP, 129, "ended")]
)
def test_signals_that_end_a_command(number: int, code: int, said: str, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    process = subprocess.Popen(
        command("sleeper.py:m", "out.circle", *INPUT), cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, number, signal.SIG_DFL),  # a shell has its background jobs ignore some
    )  # fmt: skip
    for _ in range(600):
        if (tmp_path / "running").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.strip() == f"{said}: no file was left half written"
    assert {path.name for path in tmp_path.iterdir()} <= {"sleeper.py", "running", "__pycache__"}
