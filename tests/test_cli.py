"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.ao import quantization as Q

import torch2circle
from torch2circle import cli
from torch2circle.format import read
from torch2circle.ir import Where
from torch2circle.show import columns, labelled

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
INPUT = ["--input", "1x3x8x8"]


def quantized(seed: int = 0, channels: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(Q.QuantStub(), nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, 4, 3), Q.DeQuantStub()).eval()
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = Q.prepare(model)
    prepared(IMAGE)
    made: nn.Module = Q.convert(prepared)
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(quantized(), tmp_path / "model.pt")
    return tmp_path


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; its exit code, standard output and standard error."""

    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
            cli.main(args)
        return int(caught.value.code or 0), *capfd.readouterr()

    return call


def in_a_process(*args: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(torch2circle.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, *args], env=environment, capture_output=True, text=True, check=False)


# -- export


def test_export(folder: Path, run: Run) -> None:
    code, out, err = run("model.pt", "out.circle", *INPUT)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"out.circle: {(folder / 'out.circle').stat().st_size:,} bytes for onert"
    assert [line.split()[0] for line in lines[1:]] == ["operators", "weights", "islands", "verified"]
    assert "2 CONV_2D" in lines[1]
    assert "in onert: " in lines[4]
    assert "of outputs bit-equal" in lines[4]
    same = torch2circle.export(quantized(), (torch.zeros(1, 3, 8, 8),)).to_bytes("onert")
    assert (folder / "out.circle").read_bytes() == same


def test_export_for_other_targets(folder: Path, run: Run) -> None:
    assert "bytes for litert" in run("model.pt", "out.tflite", *INPUT, "--no-verify")[1]
    code, out, _ = run("export", "model.pt", "out.circle", "--target", "one", *INPUT)
    assert code == 0
    assert "verified     no: no runtime for this target" in out
    assert "verified     no: not asked for" in run("--no-verify", "model.pt", "out.circle", *INPUT)[1]


def test_export_as_json(folder: Path, run: Run) -> None:
    code, out, err = run("model.pt", "out.circle", *INPUT, "--json")
    assert (code, err) == (0, "")
    summary = json.loads(out)
    assert list(summary) == ["json_version", "file", "target", "bytes", "operators", "weights", "islands", "diagnostics", "verified"]
    assert (summary["file"], summary["target"]) == ("out.circle", "onert")
    assert summary["bytes"] == (folder / "out.circle").stat().st_size
    assert list(summary["verified"]) == ["runtime", "equal", "lsb", "operator_lsb", "seconds", "unverified"]
    assert summary["verified"]["operator_lsb"] <= 1
    assert json.loads(run("model.pt", "out.circle", *INPUT, "--json", "--no-verify")[1])["verified"] is None


def test_explain(folder: Path, run: Run) -> None:
    assert run("model.pt", "out.circle", *INPUT, "--explain", "why/so", "--no-verify")[0] == 0
    texts = {path.name: path.read_text() for path in (folder / "why" / "so").iterdir()}
    assert sorted(texts) == ["1_recorded.txt", "2_lowered.txt", "3_onert.txt", "4_rules.txt"]
    assert "quantized::conv2d" in texts["1_recorded.txt"]
    assert "CONV_2D" in texts["3_onert.txt"]
    (folder / "file").write_text("")
    code, _, err = run("model.pt", "out.circle", *INPUT, "--explain", "file/x", "--no-verify")
    assert code == torch2circle.WriteError.exit_code
    assert "cannot write file/x/1_recorded.txt" in err


def test_layout_and_inputs(folder: Path, run: Run) -> None:
    run("model.pt", "out.circle", *INPUT, "--io-layout", "nhwc", "--no-verify")
    graph = read(folder / "out.circle").graph
    assert graph.inputs[0].type.shape == (1, 8, 8, 3)
    assert graph.outputs[0].type.shape == (1, 4, 4, 4)
    torch.save((IMAGE,), folder / "sample.pt")
    code, out, _ = run("model.pt", "out.circle", "--inputs", "sample.pt", "--io-layout", "nhwc")
    assert code == 0
    assert "bit-equal" in out


def test_a_factory_and_its_state(folder: Path, run: Run) -> None:
    (folder / "net_of_mine.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(4, 2).eval()\n")
    torch.save({"weight": torch.ones(2, 4), "bias": torch.zeros(2)}, folder / "state.pt")
    assert run("net_of_mine.py:make", "out.circle", "--state", "state.pt")[0] == 0
    weights = [value.array() for value in read(folder / "out.circle").graph.values() if value.data and value.type.shape == (2, 4)]
    assert (weights[0] == 1).all()


def test_no_output_file(folder: Path, run: Run) -> None:
    code, _, err = run("model.pt")
    assert code == 2
    assert "no output file: torch2circle model.pt model.circle (for onert) or model.tflite (for LiteRT)" in err


def test_a_model_called_like_a_command(folder: Path, run: Run) -> None:
    torch.save(quantized(), folder / "ops")
    assert run("./ops", "out.circle", *INPUT, "--no-verify")[0] == 0
    assert "./ops" in run("--help")[1]


# -- verify


def test_verify(folder: Path, run: Run) -> None:
    run("model.pt", "out.circle", *INPUT, "--no-verify")
    code, out, err = run("verify", "model.pt", "out.circle", *INPUT)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["operator", "equal", "LSB", "SQNR", "dB", "end", "to", "end", "reason", "source", "tensor"]
    assert [line.split()[0] for line in lines if "CONV_2D" in line] == ["CONV_2D"] * 2
    order = [line.split()[0] for line in lines[1:-1]]
    assert order.index("QUANTIZE") < order.index("CONV_2D") < order.index("DEQUANTIZE")  # as they run
    assert lines[-1].startswith("  output ")
    both = json.loads(run("verify", "model.pt", "out.circle", *INPUT, "--json")[1])
    assert list(both) == ["json_version", "runtime", "samples", "outputs", "operators"]
    keys = ["op", "name", "size", "equal", "lsb", "sqnr", "reason", "differs", "module", "file", "line", "end_to_end"]
    assert list(both["operators"][0]) == keys
    assert both["operators"][0]["end_to_end"] == {"equal": 1.0, "lsb": 0.0, "sqnr": None}


def test_verify_a_file_of_another_model(folder: Path, run: Run) -> None:
    torch2circle.export(quantized(seed=1), (IMAGE,)).save("weights.circle")
    torch2circle.export(quantized(), (torch.zeros(1, 3, 9, 9),)).save("size.circle")
    torch2circle.export(nn.Sequential(quantized(), nn.ReLU()).eval(), (IMAGE,), io_layout="nhwc").save("layout.circle")
    for file, says in (("size", "has other inputs than the model"), ("layout", "has other inputs")):
        code, out, err = run("verify", "model.pt", f"{file}.circle", *INPUT)
        assert (code, out) == (torch2circle.VerifyFailed.exit_code, "")
        assert f"{file}.circle" in err
        assert says in err
        assert "Traceback" not in err
    code, out, err = run("verify", "model.pt", "weights.circle", *INPUT)
    assert code == torch2circle.VerifyFailed.exit_code
    assert "differs from the model" in out
    assert err.startswith("error: CONV_2D 2 is not the model's: ")  # the first of two
    assert "`1.weight` differs in" in err
    assert "Traceback" not in err


def test_verify_a_file_that_is_none(folder: Path, run: Run) -> None:
    assert run("verify", "model.pt", "absent.circle", *INPUT)[0] == torch2circle.FormatError.exit_code
    (folder / "text.circle").write_text("hello")
    assert run("verify", "model.pt", "text.circle", *INPUT)[0] == torch2circle.FormatError.exit_code


def test_an_operator_that_is_wrong_fails(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch2circle.verify import Comparison, Report

    wrong = Comparison("fc", "CONV_2D", Where("", "fc", "net.py", 3), 10, 5, 3.0, 20.0)
    monkeypatch.setattr("torch2circle.verify.verify", lambda *_: Report("onert", [wrong], [wrong], 0.1))
    code, out, err = run("model.pt", "out.circle", *INPUT)
    assert code == torch2circle.VerifyFailed.exit_code
    assert "largest difference 3 LSB" in out
    assert "CONV_2D fc is off by 3 LSB in onert, 50.00% of its outputs differ\n  at net.py:3 in fc" in err
    assert (folder / "out.circle").exists()


# -- inspect, ops, help


def test_inspect(folder: Path, run: Run) -> None:
    run("model.pt", "out.circle", *INPUT, "--no-verify")
    code, out, _ = run("inspect", "out.circle")
    assert code == 0
    assert "identifier   CIR0" in out
    assert "input float32[1,3,8,8]" in out
    facts = json.loads(run("inspect", "out.circle", "--json")[1])
    assert facts["operators"]["CONV_2D"] == 2
    assert json.loads(facts["metadata"]["torch2circle"])["exporter"] == "torch2circle"


def test_inspect_a_file_of_another_exporter(folder: Path, run: Run) -> None:
    module = pytest.importorskip("circle_schema.v0_10.circle.Model", reason="the official bindings are not installed")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = module.ModelT.InitFromPackedBuf(torch2circle.export(quantized(), (IMAGE,)).to_bytes("onert"))
    model.description, model.metadata = "made elsewhere", None
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"CIR0")
    (folder / "other.circle").write_bytes(bytes(builder.Output()))
    code, out, _ = run("inspect", "other.circle")
    assert code == 0
    assert "description  made elsewhere" in out
    assert run("inspect", "model.pt")[0] == torch2circle.FormatError.exit_code


def test_ops(run: Run) -> None:
    code, out, _ = run("ops")
    assert code == 0
    assert "quantized::conv2d_relu.new" in out
    assert set(json.loads(run("ops", "--json")[1])) == {"json_version", "lowered", "refused", "measured"}


def test_help_and_version(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: torch2circle MODEL OUTPUT [OPTIONS]\n       torch2circle COMMAND [ARGS]...\n")
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "..." not in out.partition("Commands:")[2]  # no summary of a command is cut
    assert run("-h")[1] == out
    code, nothing, help_ = run()
    assert (code, nothing or help_) in ((0, out), (2, out))
    assert run("--version")[1] == f"torch2circle {torch2circle.__version__}\n"
    for command in ("export", "batch", "verify", "inspect", "check", "diff", "convert", "view", "ops"):
        assert run(command, "--help")[0] == 0


LIGHT = """
import sys
from torch2circle.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("heavy:", sorted({"torch", "rich", "onert"} & set(sys.modules)))
"""


def test_what_needs_no_torch_does_not_import_it(folder: Path, run: Run) -> None:
    run("model.pt", "out.circle", *INPUT, "--no-verify")
    out, other = str(folder / "out.circle"), str(folder / "other.tflite")
    on_files = (["inspect", out, "--json"], ["check", out, "--target", "one"], ["diff", out, out], ["convert", out, other])
    for args in (["--help"], ["--version"], ["export", "--help"], ["inspect", str(folder / "out.circle")], *on_files):
        assert in_a_process("-c", LIGHT, *args).stdout.endswith("heavy: []\n")


def test_debug_shows_what_happens(folder: Path) -> None:
    done = in_a_process("-m", "torch2circle", "model.pt", "out.circle", *INPUT, "--no-verify", "--debug")
    assert done.returncode == 0
    assert "torch2circle.cli: record" in done.stderr
    assert "torch2circle.optimize.engine: " in done.stderr
    done = in_a_process("-m", "torch2circle", "absent.pt", "out.circle", "--debug")
    assert done.returncode == torch2circle.LoadError.exit_code
    assert "Traceback" in done.stderr


# -- terminals


def on_a_terminal(width: int, *args: str) -> str:
    """What the command writes to a terminal."""
    parent, child = pty.openpty()
    source = str(Path(torch2circle.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source, "COLUMNS": str(width), "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-m", "torch2circle", *args], stdout=child, stderr=child, env=environment):
        os.close(child)
        said = b""
        while True:
            try:
                data = os.read(parent, 4096)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            said += data
    os.close(parent)
    return said.decode()


def test_a_narrow_terminal(folder: Path) -> None:
    said = on_a_terminal(44, "model.pt", "out.circle", *INPUT)
    assert "import torch" in said  # the spinner
    summary = [line for line in said.replace("\r", "").split("\x1b[2K")[-1].splitlines() if line]
    assert summary[0].startswith("out.circle: ")
    assert all(len(line) <= 44 for line in summary[1:])
    assert all(line.startswith(" " * 2) for line in summary[1:])


def test_columns() -> None:
    rows = [("operator", "LSB", "tensor"), ("CONV_2D", "1", "features.0.conv"), ("ADD", "10", "features.0.add")]
    assert columns(rows, None).splitlines() == [
        "operator  LSB  tensor", "CONV_2D     1  features.0.conv", "ADD        10  features.0.add"
    ]  # fmt: skip
    assert columns(rows, 27).splitlines()[1] == "CONV_2D     1  …ures.0.conv"
    assert columns(rows, 20).splitlines()[1] == "CONV_2D     1"
    assert columns(rows, 5).splitlines()[1] == "CONV_2D"


def test_labelled() -> None:
    assert labelled("weights", "none", None) == "  weights      none"
    assert labelled("operators", "3: 1 ADD, 2 CONV_2D, 20 FULLY_CONNECTED", 40).splitlines() == [
        "  operators    3: 1 ADD, 2 CONV_2D, 20",
        "               FULLY_CONNECTED",
    ]
