"""The golden kit as its users run it: pytest in a folder of its own, with the plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import torch2circle
from test_cli import IMAGE, quantized
from torch2circle import runtimes
from torch2circle.format import read, to_bytes, write
from torch2circle.testing import GoldenFailure, GoldenFile, canonical_text, same

pytest_plugins = ["pytester"]

# Stands for an export: what the fixture asks of one. The bytes are real ones, made by the test around it, so that torch is imported once.
MODEL = """
from pathlib import Path
class Exported:
    def __init__(self, name):
        self.name = name
    def to_bytes(self, target):
        return (Path(__file__).parent / f"{self.name}.{target}").read_bytes()
def exported(bias=0.5):
    return Exported(f"bias{bias}")
"""
TEST = """
import pytest
from model import exported
def test_net(circle_golden):
    circle_golden(exported(), "net.circle")
"""
ACCEPT = "to accept what is made now: pytest test_net.py::test_net --update-golden"
PLUGIN = ("-p", "torch2circle.testing.plugin", "-p", "no:cacheprovider")


def linear(bias: float, target: str) -> bytes:
    net = nn.Linear(3, 2).eval()
    with torch.no_grad():
        net.weight.copy_(torch.arange(6.0).reshape(2, 3) / 7)
        net.bias.fill_(bias)
    return torch2circle.export(net, (torch.ones(1, 3),)).to_bytes(target)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Made before ``pytester`` is set up, which afterwards forgets all modules that were imported since."""
    return {f"bias{bias}.{target}": linear(bias, target) for bias, target in product((0.5, 0.25), ("onert", "litert"))}


@pytest.fixture
def project(files: dict[str, bytes], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(model=MODEL, test_net=TEST)
    pytester.makeini("[pytest]\npythonpath = .\n")
    for name, data in files.items():
        (pytester.path / name).write_bytes(data)
    return pytester


def run(project: pytest.Pytester, *args: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*PLUGIN, *args)


def golden(project: pytest.Pytester, name: str = "net.circle") -> Path:
    return project.path / "golden" / name


def test_accepted_compared_and_refused(project: pytest.Pytester) -> None:
    missing = run(project)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*no golden file *net.circle", ACCEPT])
    assert not golden(project).parent.exists()

    accepted = run(project, "--update-golden")
    accepted.assert_outcomes(passed=1)
    accepted.stdout.fnmatch_lines(["written golden/net.circle", "written golden/net.circle.txt"])
    assert read(golden(project)).graph.input_names == ("input",)
    text = golden(project, "net.circle.txt").read_text()
    assert "FULLY_CONNECTED" in text
    assert "2 x float32 [0.5, 0.5]" in text

    unchanged = run(project)
    unchanged.assert_outcomes(passed=1)
    unchanged.stdout.no_fnmatch_line("*golden files*")

    project.makepyfile(model=MODEL.replace("bias=0.5", "bias=0.25"))
    changed = run(project)
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines([
        "*net.circle is not what is made now *", "weights", "*~ bias: 2 of 2 differ, at most 0.25, *", ACCEPT,
    ])  # fmt: skip
    assert "[0.5, 0.5]" in golden(project, "net.circle.txt").read_text()
    assert "written golden/net.circle" in run(project, "--update-golden").outlines
    run(project).assert_outcomes(passed=1)


def test_the_command_names_the_test_from_where_pytest_ran(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.path / "sub").mkdir()
    (project.path / "test_net.py").unlink()
    with_parameter = TEST.replace("def test_net(", "@pytest.mark.parametrize('x', ['a b'])\ndef test_net(x, ")
    (project.path / "sub" / "test_net.py").write_text(with_parameter)
    monkeypatch.chdir(project.path / "sub")
    run(project).stdout.fnmatch_lines(["to accept what is made now: pytest 'test_net.py::test_net[[]a b[]]' --update-golden"])
    assert run(project, "--update-golden").ret == 0
    assert (project.path / "sub" / "golden" / "net.circle").exists()


def test_the_versions_that_wrote_it_do_not_matter(project: pytest.Pytester) -> None:
    run(project, "--update-golden")
    contents = read(golden(project).read_bytes())
    about = json.loads(contents.metadata["torch2circle"]) | {"torch": "1.0", "version": "0.0.1"}
    older = contents.metadata | {"torch2circle": json.dumps(about, sort_keys=True).encode()}
    golden(project).write_bytes(to_bytes(contents.graphs, identifier="CIR0", metadata=older))
    assert b'"torch": "1.0"' in golden(project).read_bytes()
    run(project).assert_outcomes(passed=1)
    assert not [line for line in run(project, "--update-golden").outlines if line.startswith("written")]  # no change for nothing

    other = contents.metadata | {"torch2circle": json.dumps(about | {"target": "one"}, sort_keys=True).encode()}
    golden(project).write_bytes(to_bytes(contents.graphs, identifier="CIR0", metadata=other))
    run(project).stdout.fnmatch_lines(["metadata", "*~ torch2circle: target 'one' -> 'onert'*"])


def test_a_stale_text_fails(project: pytest.Pytester) -> None:
    run(project, "--update-golden")
    text = golden(project, "net.circle.txt")
    right = text.read_bytes()
    text.write_bytes(right.replace(b"0.5", b"0.6"))
    run(project).stdout.fnmatch_lines(["*net.circle.txt is not the text of net.circle, which itself is what is made now"])
    text.unlink()
    run(project).assert_outcomes(failed=1)
    assert [line for line in run(project, "--update-golden").outlines if line.startswith("written")] == ["written golden/net.circle.txt"]
    assert text.read_bytes() == right
    text.write_bytes(right.replace(b"\n", b"\r\n"))  # as git may check it out
    run(project).assert_outcomes(passed=1)


def test_a_damaged_golden_file(project: pytest.Pytester) -> None:
    run(project, "--update-golden")
    golden(project).write_bytes(golden(project).read_bytes()[:100])
    run(project).stdout.fnmatch_lines(["*is damaged, or none of a model"])
    run(project, "--update-golden").assert_outcomes(passed=1)
    run(project).assert_outcomes(passed=1)


def test_a_file_of_ones_own(project: pytest.Pytester) -> None:
    project.makepyfile(test_net="""
        from model import exported
        def test_file(circle_golden, tmp_path):
            (tmp_path / "made.tflite").write_bytes(exported().to_bytes("litert"))
            circle_golden(tmp_path / "made.tflite", "deep/net.tflite")
        def test_no_file(circle_golden, tmp_path):
            circle_golden(tmp_path / "absent.tflite", "absent.tflite")
        def test_unverifiable(circle_golden, tmp_path):
            circle_golden(tmp_path / "made.tflite", "made.tflite", verify=True)
    """)  # fmt: skip
    first = run(project, "--update-golden")
    first.assert_outcomes(passed=1, failed=2)
    first.stdout.fnmatch_lines(["*cannot read *absent.tflite: No such file*", "*a file alone cannot be verified*"])
    assert read(golden(project, "deep/net.tflite")).identifier == "TFL3"


def test_the_folder_is_an_option(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\npythonpath = .\ncircle_golden_dir = accepted/files\n")
    run(project, "--update-golden").assert_outcomes(passed=1)
    assert (project.path / "accepted" / "files" / "net.circle").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("../net.circle", "not a name for a golden file"), ("", "not a name for a golden file"), ("net.onnx", "does not tell a format"),
     ("/tmp/net.circle", "not a name for a golden file")],
)  # fmt: skip
def test_names_that_are_refused(project: pytest.Pytester, name: str, says: str) -> None:
    project.makepyfile(test_net=TEST.replace("net.circle", name))
    result = run(project, "--update-golden")
    result.assert_outcomes(failed=1)
    assert says in result.stdout.str()
    assert not golden(project).parent.exists()


@pytest.mark.skipif(not runtimes.available("onert"), reason="onert is not installed")
def test_verify(project: pytest.Pytester) -> None:
    project.makepyfile(
        model="""
        import torch, torch2circle
        def exported():
            return torch2circle.export(torch.nn.Linear(3, 2).eval(), (torch.ones(1, 3),))
        """,
        test_net="""
        import pytest, torch
        from dataclasses import replace
        from model import exported
        from torch2circle import verify
        right = verify.verify
        def off(*args):
            report = right(*args)
            return replace(report, operators=[replace(c, lsb=3.0) for c in report.operators])
        @pytest.mark.parametrize("wrong", [False, True])
        def test_net(circle_golden, monkeypatch, wrong):
            if wrong:
                monkeypatch.setattr(verify, "verify", off)
            torch.manual_seed(0)
            circle_golden(exported(), f"{wrong}.circle", verify=True)
        """,
    )
    made = run(project, "--update-golden")
    made.assert_outcomes(passed=1, failed=1)
    made.stdout.fnmatch_lines(["True.circle: FULLY_CONNECTED * is off by 3 LSB in onert"])
    assert not golden(project, "True.circle").exists()  # what is wrong is not accepted
    golden(project, "True.circle").write_bytes(golden(project, "False.circle").read_bytes())
    golden(project, "True.circle.txt").write_bytes(golden(project, "False.circle.txt").read_bytes())
    again = run(project)
    again.assert_outcomes(passed=1, failed=1)
    again.stdout.fnmatch_lines(["True.circle: FULLY_CONNECTED * is off by 3 LSB in onert"])


STALE = "no test compares with golden/old.circle: delete it"


def test_files_without_a_test_are_named_when_all_ran(project: pytest.Pytester) -> None:
    run(project, "--update-golden")
    golden(project, "old.circle").write_bytes(golden(project).read_bytes())
    assert STALE in run(project).outlines
    assert golden(project, "old.circle").exists()
    for part in (["-k", "net"], ["test_net.py"], ["test_net.py::test_net"], ["--deselect", "other"]):
        assert STALE not in run(project, *part).outlines
    project.makepyfile(test_other="import pytest\n@pytest.mark.skip\ndef test_old(circle_golden): ...\n")
    assert STALE not in run(project).outlines  # the skipped test may be its own
    project.makepyfile(test_other="def test_old(): assert False\n")
    assert STALE not in run(project).outlines


def test_two_tests_that_disagree_about_a_file(project: pytest.Pytester) -> None:
    project.makepyfile(test_net=f"{TEST}def test_other(circle_golden):\n    circle_golden(exported(0.25), 'net.circle')\n")
    said = run(project, "--update-golden").outlines
    assert "  by tests that do not make the same, so give each a name of its own: test_net.py::test_net, test_net.py::test_other" in said
    project.makepyfile(test_net=f"{TEST}def test_other(circle_golden):\n    circle_golden(exported(), 'net.circle')\n")
    said = run(project, "--update-golden").outlines
    assert [line for line in said if "by tests" in line] == []


def test_workers(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    project.makepyfile(test_net="""
        import pytest
        from model import exported
        @pytest.mark.parametrize("i", range(8))
        def test_net(circle_golden, i):
            circle_golden(exported(), "net.circle")
            circle_golden(exported(0.25), f"{i}.circle")
    """)  # fmt: skip
    made = run(project, "-n", "2", "--update-golden")
    made.assert_outcomes(passed=8)
    made.stdout.fnmatch_lines([f"written golden/{i}.circle" for i in range(8)])
    assert len(list(golden(project).parent.iterdir())) == 2 * 9  # no half-written file is left
    golden(project, "old.circle").write_bytes(golden(project).read_bytes())
    again = run(project, "-n", "2")
    again.assert_outcomes(passed=8)
    assert STALE in again.outlines


# -- side by side with others


def test_an_option_of_the_same_name_is_shared(project: pytest.Pytester) -> None:
    project.makeconftest("""
        def pytest_addoption(parser):
            parser.addoption("--update-golden", action="store_true", help="mine")
    """)  # fmt: skip
    run(project).assert_outcomes(failed=1)
    run(project, "--update-golden").assert_outcomes(passed=1)
    run(project).assert_outcomes(passed=1)
    assert "mine" in run(project, "--help").stdout.str()


def test_help_names_the_option(project: pytest.Pytester) -> None:
    text = run(project, "--help").stdout.str()
    assert "--update-golden" in text
    assert "circle_golden_dir" in text


def test_pytest_starts_without_torch(project: pytest.Pytester) -> None:
    project.makepyfile(test_net="import sys\ndef test_light(): assert not {'torch', 'numpy', 'torch2circle.ir'} & set(sys.modules)")
    run(project).assert_outcomes(passed=1)


def test_the_plugin_is_registered_for_pytest() -> None:
    points = [point for point in entry_points(group="pytest11") if point.module.startswith("torch2circle")]
    assert [(point.name, point.value) for point in points] == [("torch2circle.testing.plugin",) * 2]


# -- what is compared


def test_the_text_tells_scales_and_constants_to_the_last_digit() -> None:
    def text(scale: float, weight: float) -> str:
        class Net(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return torch.quantize_per_tensor(x, scale, 3, torch.quint8).dequantize() + torch.full((9,), weight)

        return canonical_text(read(torch2circle.export(Net().eval(), (torch.zeros(9),)).to_bytes("onert")))

    plain = text(0.1, 1.0)
    next_scale, next_weight = (float(np.nextafter(np.float32(x), np.float32(2))) for x in (0.1, 1.0))
    assert len({plain, text(next_scale, 1.0), text(0.1, next_weight)}) == 3
    assert "scale [0.1], zero point [3]" in plain
    assert text(0.1, 1.0) == plain


def test_layout_is_not_content(tmp_path: Path) -> None:
    """A file is the same when its description is, wherever the constants lie; another name, number or order is not the same."""
    made = torch2circle.export(quantized(), (IMAGE,)).to_bytes("onert")
    flatbuffers, bindings = pytest.importorskip("flatbuffers"), pytest.importorskip("circle_schema.v0_10.circle.Model")
    builder = flatbuffers.Builder()
    builder.Finish(bindings.ModelT.InitFromPackedBuf(made).Pack(builder), b"CIR0")
    repacked = bytes(builder.Output())
    assert repacked != made
    assert same(repacked, made)
    other = torch2circle.export(quantized(seed=1), (IMAGE,)).to_bytes("onert")
    assert not same(other, made)
    file = GoldenFile(tmp_path / "net.circle")
    assert file.update(made) == [file.path, file.text_path]
    assert file.update(repacked) == []
    file.compare(repacked, tmp_path)
    with pytest.raises(GoldenFailure, match="is not what is made now"):
        file.compare(other, tmp_path)


def test_another_description_is_another_file(tmp_path: Path) -> None:
    contents = read(torch2circle.export(nn.ReLU().eval(), (IMAGE,)).to_bytes("onert"))
    files = []
    for words in ("torch2circle", "by hand"):
        with open(tmp_path / words, "w+b") as sink:
            write(contents.graphs, sink, identifier="CIR0", description=words)
        files.append((tmp_path / words).read_bytes())
    assert not same(*files)


def test_long_differences_are_cut(tmp_path: Path) -> None:
    class Sums(nn.Module):
        def __init__(self, by: float) -> None:
            super().__init__()
            self.by = by

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for i in range(90):
                x = (x + self.by + i).relu()
            return x

    one, other = (torch2circle.export(Sums(by).eval(), (torch.zeros(3),)).to_bytes("litert") for by in (0.5, 0.25))
    file = GoldenFile(tmp_path / "net.tflite")
    file.update(one)
    (tmp_path / "kept").mkdir()
    with pytest.raises(GoldenFailure, match=r"\.\.\. and \d+ more lines") as caught:
        file.compare(other, tmp_path / "kept")
    assert len(str(caught.value).splitlines()) < 70
    assert (tmp_path / "kept" / "net.tflite").read_bytes() == other
    assert (tmp_path / "kept" / "net.tflite.txt").exists()


# -- the example; test_docs runs what docs/golden.md shows


EXAMPLE = Path(__file__).parents[1] / "examples" / "golden_project"


@pytest.mark.skipif(not all(map(runtimes.available, ("onert", "litert"))), reason="a runtime is not installed")
def test_the_example_project(tmp_path: Path) -> None:
    """Its golden files, made on another day by another machine, are what is made here; another model is seen and accepted."""
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))

    def pytest_in_it(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", *PLUGIN, "-W", "ignore", *args]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    first = pytest_in_it()
    assert first.returncode == 0, first.stdout
    assert "3 passed" in first.stdout
    assert "golden files" not in first.stdout  # none is stale
    model = torch2circle.load(project / "digits.pt")
    next(model.children()).scale.mul_(2)  # type: ignore[operator,union-attr]
    torch.save(model, project / "digits.pt")
    second = pytest_in_it("-k", "onert")
    assert second.returncode == 1
    assert "digits.circle is not what is made now" in second.stdout
    assert "to accept what is made now: pytest tests/test_export.py::test_for_onert --update-golden" in second.stdout
    third = pytest_in_it("tests/test_export.py::test_for_onert", "--update-golden")
    assert third.returncode == 0, third.stdout
    assert pytest_in_it("-k", "onert").returncode == 0


STABLE = """
import hashlib, sys, torch, torch2circle
from torch import nn
model = torch2circle.load("model.pt", trust_pickle=True)
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 64), nn.GELU(), nn.Linear(64, 5)).eval()
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(8, 16)
    def forward(self, x):
        return self.rnn(x)[0]
x = torch.ones(1, 3, 8, 8)
for model, args in ((model, (x,)), (net, (x,)), (Recurrent().eval(), (torch.ones(3, 1, 8),))):
    exported = torch2circle.export(model, args)
    for target in ("onert", "litert"):
        print(hashlib.sha256(exported.to_bytes(target)).hexdigest())
print(torch.get_num_threads(), file=sys.stderr)
"""


def test_threads_and_hash_seeds_change_nothing(tmp_path: Path) -> None:
    torch.save(quantized(), tmp_path / "model.pt")
    said, threads = [], []
    for number, seed in (("1", "0"), ("2", "1"), ("2", "77")):
        environment = os.environ | {"OMP_NUM_THREADS": number, "PYTHONHASHSEED": seed, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run([sys.executable, "-c", STABLE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout.split())
        threads.append(done.stderr.split()[-1])
    assert threads == ["1", "2", "2"]
    assert len(said[0]) == 6
    assert said[0] == said[1] == said[2]
