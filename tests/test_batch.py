"""Many exports from one manifest: isolated, resumed, interrupted, and on a cluster of real processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path
from typing import Any

import click
import pytest
import torch

import torch2circle
from test_cli import LIGHT, in_a_process, on_a_terminal, quantized
from torch2circle import cli
from torch2circle.batch import executors, manifest, records, worker
from torch2circle.batch import run as batches
from torch2circle.batch.forkserver import SERVER
from torch2circle.batch.records import Outcome, Records, versions

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="batch needs Linux")

NETS = """
import os, signal, subprocess, sys, time
import torch


class Branching(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


def good():
    with open("starts", "a") as file:
        print(os.getpid(), file=file)
    return torch.nn.Linear(4, 2).eval()


def waits():
    good()
    with open("waiting", "a") as file:
        print(os.getpid(), file=file)
    while not os.path.exists("go"):
        time.sleep(0.05)
    return torch.nn.Linear(4, 3).eval()


def threads():
    with open("threads", "w") as file:
        print(torch.get_num_threads(), file=file)
    return good()


def branches():
    return Branching().eval()


def raises():
    raise ValueError("no luck")


def leaves():
    open(".leaves.circle.0123abcd.part", "w").close()
    child = subprocess.Popen(["sleep", "600"])
    with open("left", "w") as file:
        print(child.pid, file=file)
    os._exit(3)


def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs():
    good()
    for name in ("hangs", "deaf"):
        open(f".{name}.circle.0123abcd.part", "w").close()
    while True:
        try:
            time.sleep(60)
        except Exception:
            pass


def orphan():
    good()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hangs()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


Batch = Callable[..., tuple[int, str, str]]


@pytest.fixture
def batch(folder: Path, capfd: pytest.CaptureFixture[str]) -> Batch:
    """Run the batch of ``all.toml``; its exit code, standard output and standard error."""

    def call(*args: str, manifest: str = "all.toml") -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
            cli.main(["batch", manifest, *args])
        return int(caught.value.code or 0), *capfd.readouterr()

    return call


def write(text: str, *names: str) -> None:
    """``all.toml``: ``text`` and a job for each factory of ``nets.py``."""
    jobs = (f'[[job]]\nmodel = "nets.py:{name}"\noutput = "{name}{number or ""}.circle"\n' for number, name in enumerate(names))
    Path("all.toml").write_text(text + "\n" + "\n".join(jobs))


UNVERIFIED = "[defaults]\nverify = false\n"


def results(out: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(out)["jobs"]}


# -- each job by itself


def test_the_files_are_those_of_single_exports(folder: Path, batch: Batch) -> None:
    (folder / "zoo").mkdir()
    for seed, name in enumerate(("a", "b")):
        torch.save(quantized(seed), folder / "zoo" / f"{name}.pt")
    job = '[[job]]\nmodel = "zoo/*.pt"\noutput = ["out/{stem}.circle", "out/{stem}.tflite"]\n'
    write(f'[defaults]\ninput = "1x3x8x8"\n{job}verify = false\n[[job]]\nmodel = "zoo/a.pt"\noutput = "verified.circle"\n')
    code, out, err = batch("--jobs", "2")
    assert code == 0, err
    assert re.fullmatch(r"all\.toml: 5 jobs: 5 written; [\d.]+ s\n", out)
    assert len(re.findall(r"^\[\d/5\] written  out/[ab]\.\w+: [\d,]+ bytes for \w+, not verified, [\d.]+ s$", err, re.MULTILINE)) == 4
    assert re.search(r"^\[\d/5\] written  verified\.circle: [\d,]+ bytes for onert, verified in onert, ", err, re.MULTILINE)
    for seed, name in enumerate(("a", "b")):
        for suffix, target in ((".circle", "onert"), (".tflite", "litert")):
            wanted = torch2circle.export(quantized(seed), (torch.zeros(1, 3, 8, 8),)).to_bytes(target)
            assert (folder / "out" / f"{name}{suffix}").read_bytes() == wanted
    assert not list(folder.rglob("*.part"))


def test_the_end_of_a_process_is_the_end_of_its_job_alone(folder: Path, batch: Batch) -> None:
    write(UNVERIFIED, "leaves", "good", "raises", "crashes", "branches", "good")
    code, out, err = batch("--json", "--jobs", "3", "--junit", "all.xml")
    assert code == 1
    found = results(out)
    errors = {name: row["error"] for name, row in found.items() if row["status"] == "failed"}
    assert {name: (error["kind"], error["exit_code"]) for name, error in errors.items()} == {
        "leaves.circle": ("crash", None), "raises2.circle": ("LoadError", 3), "crashes3.circle": ("crash", None),
        "branches4.circle": ("LoadError", 3),
    }  # fmt: skip
    assert errors["leaves.circle"]["message"] == "the process ended with exit code 3, in the stage load"
    assert errors["crashes3.circle"]["message"] == "the process was killed by SIGSEGV, in the stage load"
    assert errors["raises2.circle"]["where"]["file"].endswith("nets.py")
    assert json.loads(out)["counts"] == {"written": 2, "unchanged": 0, "failed": 4, "not run": 0}
    ended = err.partition("4 of 6 jobs failed:\n")[2]
    assert "raises2.circle: LoadError (exit code 3): the factory nets.py:raises failed: ValueError: no luck\n  at /" in ended
    assert "\n  hint: it is imported and called without arguments, in the current directory\n  log: " in ended
    assert "ValueError: no luck" in Path(found["raises2.circle"]["log"]).read_text()

    # what it left is taken away: its unfinished file, and what it started
    assert not list(folder.rglob("*.part"))
    assert gone(int(Path("left").read_text()))

    (suite,) = ET.parse("all.xml").getroot()
    assert [suite.get(key) for key in ("name", "tests", "failures", "errors", "skipped")] == ["all.toml", "6", "2", "2", "0"]
    cases = {case.get("name"): case for case in suite}
    failure = cases["raises2.circle"].find("failure")
    assert failure is not None
    assert failure.get("type") == "LoadError"
    assert "hint: " in (failure.text or "")
    assert cases["raises2.circle"].get("line") == str(NETS[: NETS.index('raise ValueError("no luck")')].count("\n") + 1)
    assert cases["leaves.circle"].find("error") is not None
    assert [each.tag for each in cases["good1.circle"]] == ["system-out"]


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds: it is told by another, which must first learn of it itself."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except OSError:
            return True
        if state == "Z":  # ended, and nobody asks how
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("factory", ["hangs", "deaf"])
def test_a_job_that_hangs_is_ended(folder: Path, batch: Batch, factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``deaf`` ignores SIGTERM, as a job does that is busy outside of Python."""
    write(UNVERIFIED + "timeout = 4\n", factory)
    code, out, _ = batch("--json")
    assert code == 1
    error = results(out)[f"{factory}.circle"]["error"]
    assert (error["kind"], error["message"]) == ("timeout", "not done within 4 s, in the stage load")
    assert gone(pids("starts", 1)[0])
    assert not list(folder.glob(f".{factory}.*.part"))


def test_a_job_has_its_threads_and_the_server_one(folder: Path, batch: Batch) -> None:
    """Forking from a process with threads would copy their locks."""
    write(UNVERIFIED, "threads")
    assert batch("--threads", "3")[0] == 0
    assert Path("threads").read_text() == "3\n"
    assert SERVER._server is not None
    assert len(os.listdir(f"/proc/{SERVER._server.pid}/task")) == 1


def test_the_server_may_die(folder: Path, batch: Batch) -> None:
    write(UNVERIFIED, "good")
    assert batch()[0] == 0
    assert SERVER._server is not None
    SERVER._server.kill()
    assert batch("--force")[0] == 0


def test_a_server_that_cannot_start_says_why(folder: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    write(UNVERIFIED, "good")
    SERVER.close()
    (folder / "torch.py").write_text("raise ImportError('no torch here')\n")
    monkeypatch.syspath_prepend(folder)
    code, out, _ = batch("--json")
    SERVER.close()
    assert code == 1
    error = results(out)["good.circle"]["error"]
    assert error["kind"] == "crash"
    assert error["message"] == "the job could not be started: ImportError: no torch here"


def test_a_job_ends_with_the_process_that_watches_it(batch: Batch) -> None:
    write(UNVERIFIED, "orphan")
    code, out, _ = batch("--json")
    assert code == 1
    error = results(out)["orphan.circle"]["error"]
    assert error["message"] == "the process that watched the job has ended, and the job with it, in the stage load"
    assert gone(pids("starts", 1)[0])


WRONG = """
import torch
import torch2circle.verify
from torch2circle.ir import Where
from torch2circle.verify import Comparison, Report

wrong = Comparison("fc", "FULLY_CONNECTED", Where("", "fc", "net.py", 3), 10, 5, 3.0, 20.0)
torch2circle.verify.verify = lambda *_: Report("onert", [wrong], [wrong], 0.1)
net = torch.nn.Linear(4, 2).eval()
"""


def test_a_file_that_is_wrong_fails_and_is_kept(folder: Path, batch: Batch) -> None:
    (folder / "wrong.py").write_text(WRONG)
    Path("all.toml").write_text('[[job]]\nmodel = "wrong.py:net"\noutput = "wrong.circle"\n')
    code, out, err = batch("--json")
    assert code == 1
    assert "VerifyFailed (exit code 10): FULLY_CONNECTED fc is off by 3 LSB in onert" in err
    row = results(out)["wrong.circle"]
    assert row["summary"]["verified"]["operator_lsb"] == 3
    assert (folder / "wrong.circle").exists()
    assert "1 failed" in batch()[1]  # it is not done


# -- what is done is not done again


def test_a_job_is_run_again_if_anything_it_was_made_from_has_changed(folder: Path, batch: Batch) -> None:
    torch.save(quantized(), folder / "model.pt")
    (folder / "sizes.py").write_text("OUT = 2\n")
    (folder / "weights.txt").write_text("0.5")
    (folder / "more").mkdir()
    (folder / "more" / "a.bin").write_text("a")
    (folder / "mine.py").write_text(
        "import torch\nfrom sizes import OUT\n\n\ndef build():\n    net = torch.nn.Linear(4, OUT).eval()\n"
        "    torch.nn.init.constant_(net.weight, float(open('weights.txt').read()))\n    return net\n"
    )
    text = (
        '[defaults]\nverify = false\n[[job]]\nmodel = "model.pt"\noutput = "a.circle"\ninput = "1x3x8x8"\n'
        '[[job]]\nname = "mine"\nmodel = "mine.py:build"\noutput = "b.circle"\ndepends = "more"\n'
    )
    Path("all.toml").write_text(text)
    code, out, _ = batch("--json")
    assert code == 0
    first = results(out)
    read = json.loads((folder / "all.batch" / "mine.json").read_text())["outcome"]["reads"]
    assert sorted(read) == ["mine.py", "more/a.bin", "sizes.py", "weights.txt"]

    def why() -> dict[str, str]:
        rows = json.loads(batch("--dry-run", "--json")[1])["jobs"]
        return {row["name"]: row["why"] for row in rows if row["run"]}

    assert why() == {}
    code, out, err = batch("--json")
    assert (code, err) == (0, "2 of 2 jobs are done and unchanged\n")
    again = results(out)
    assert {name: row["status"] for name, row in again.items()} == {"a.circle": "unchanged", "mine": "unchanged"}
    assert all(row | {"status": ""} == first[name] | {"status": ""} for name, row in again.items())

    for name, of in (("model.pt", "a.circle"), ("sizes.py", "mine"), ("weights.txt", "mine"), ("mine.py", "mine"), ("more/a.bin", "mine")):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before + b"\n")
        assert why() == {of: f"{name} has changed, or is gone"}
        (folder / name).write_bytes(before)
    assert why() == {}  # the bytes count, not the time
    (folder / "more" / "b.bin").write_text("b")
    assert why() == {"mine": "more/b.bin is read, too"}
    (folder / "more" / "b.bin").unlink()
    Path("all.toml").write_text(text.replace('"1x3x8x8"', '"1x3x9x9"'))
    assert why() == {"a.circle": "other options"}
    Path("all.toml").write_text(text)
    os.utime("a.circle", ns=(0, 0))
    assert why() == {"a.circle": "a.circle is another"}
    Path("a.circle").unlink()
    assert why() == {"a.circle": "a.circle is gone"}
    assert batch()[0] == 0
    assert why() == {}
    (folder / "all.batch" / "mine.json").write_text('{"format": 1, "arg')
    assert why() == {"mine": "its record cannot be read"}
    shown = batch("--dry-run")[1]
    assert shown == "unchanged  a.circle\nrun        mine: its record cannot be read\nall.toml: 1 of 2 jobs would be run\n"
    assert batch("--force", "--json")[1].count('"status": "written"') == 2


def test_another_version_makes_another_file(folder: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    write(UNVERIFIED, "good")
    assert batch()[0] == 0
    other = versions() | {"torch": "99.0"}
    monkeypatch.setattr(records, "versions", lambda: other)
    assert f"run        good.circle: made with torch {versions()['torch']}\n" in batch("--dry-run")[1]


def test_a_file_that_changes_while_its_job_runs_is_not_taken_for_what_it_was_made_from(folder: Path, batch: Batch) -> None:
    (folder / "own.py").write_text(
        "import torch\nwith open('own.py', 'a') as file:\n    file.write('# more\\n')\nnet = torch.nn.Linear(4, 2).eval()\n"
    )
    Path("all.toml").write_text('[[job]]\nmodel = "own.py:net"\noutput = "a.circle"\nverify = false\n')
    for _ in range(2):
        assert "1 written" in batch()[1]


def test_a_job_that_failed_is_run_again(folder: Path, batch: Batch) -> None:
    write(UNVERIFIED, "good", "raises")
    assert batch()[0] == 1
    (folder / "nets.py").write_text(NETS.replace('raise ValueError("no luck")', "return good()"))
    code, out, _ = batch()
    assert code == 0
    assert "2 written" in out  # both are of the file that changed
    assert "2 unchanged" in batch()[1]


# -- interrupted


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a batch in a process of its own, which is ended with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torch2circle", "batch", "all.toml", *args]
        source = str(Path(torch2circle.__file__).parents[1])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield start
    for process in processes:
        with contextlib.suppress(OSError):
            process.kill()
        process.communicate()


def pids(name: str, count: int) -> list[int]:
    """The processes that jobs wrote to a file, once there are ``count``."""
    for _ in range(2400):
        with contextlib.suppress(FileNotFoundError):
            found = [int(pid) for pid in Path(name).read_text().split("\n")[:-1]]
            if len(found) >= count:
                return found
        time.sleep(0.05)
    raise AssertionError(f"{count} jobs do not begin")


def test_after_a_kill_only_the_rest_is_done(folder: Path, batch: Batch, started: Callable[..., subprocess.Popen[str]]) -> None:
    write(UNVERIFIED, "good", "good", "waits", "good")
    process = started("--jobs", "1")
    waiting = pids("waiting", 1)[0]
    process.kill()
    process.wait()
    assert gone(waiting)  # its job does not go on without it
    Path("go").touch()
    code, out, _ = batch("--json")
    assert code == 0
    assert json.loads(out)["counts"] == {"written": 2, "unchanged": 2, "failed": 0, "not run": 0}
    assert len(pids("starts", 5)) == 5  # two before, the one that was killed, and two now
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_what_runs_and_keeps_what_is_done(
    folder: Path, batch: Batch, started: Callable[..., subprocess.Popen[str]], how: signal.Signals
) -> None:  # fmt: skip
    write(UNVERIFIED, "good", "waits", "good")
    process = started("--jobs", "1", "--json", "--junit", "all.xml")
    waiting = pids("waiting", 1)[0]
    code, _, err = batch()
    assert code == 2
    assert "this manifest is being run already" in err
    process.send_signal(how)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "interrupted: what is done is kept" in err
    assert [row["status"] for row in json.loads(out)["jobs"]] == ["written", "not run", "not run"]
    assert gone(waiting)
    (suite,) = ET.parse("all.xml").getroot()
    assert (suite.get("tests"), suite.get("skipped")) == ("3", "2")
    Path("go").touch()
    assert "2 written, 1 unchanged" in batch()[1]


def test_fail_fast(folder: Path, batch: Batch) -> None:
    write(UNVERIFIED, "raises", "waits", "good")
    code, out, _ = batch("--fail-fast", "--json", "--jobs", "1")
    assert code == 1
    rows = [row["status"] for row in json.loads(out)["jobs"]]
    assert rows == ["failed", "not run", "not run"]


def test_a_job_that_is_taken_up_when_the_run_has_ended_is_not_run(folder: Path) -> None:
    """A thread may come to it between the end of the run and the moment when the job is taken back."""
    job = manifest.Job("good", "nets.py:good", "good.circle", (), (), ("good.circle",), 60)
    (folder / "running").write_text("")
    assert worker.work(job, worker.Run(folder, folder, "token", 1, False, versions())).status == "not run"
    assert not (folder / "good.circle").exists()


# -- what is shown


def test_progress_on_a_terminal(folder: Path) -> None:
    write(UNVERIFIED, "good", "raises")
    said = on_a_terminal(100, "batch", "all.toml", "--jobs", "1")
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", said)
    assert "[1/2] written  good.circle: " in plain
    assert "2/2" in plain
    assert "1 failed" in plain
    assert "1 of 2 jobs failed:" in plain


def test_the_batch_itself_imports_no_torch(folder: Path) -> None:
    write(UNVERIFIED, "good")
    done = in_a_process("-c", LIGHT, "batch", "all.toml")
    assert done.stdout.endswith("heavy: []\n"), done.stderr


def test_debug_is_for_the_logs(folder: Path, batch: Batch) -> None:
    write(UNVERIFIED, "good")
    assert batch("--debug")[0] == 0
    assert "torch2circle.cli: legalize" in (folder / "all.batch" / "good.circle.log").read_text()


def test_logs_and_records_may_be_elsewhere(folder: Path, batch: Batch) -> None:
    write(UNVERIFIED, "good")
    assert batch("--work", "a/b")[0] == 0
    assert sorted(path.name for path in (folder / "a" / "b").iterdir()) == ["good.circle.json", "good.circle.log", "running"]
    assert not (folder / "all.batch").exists()
    (folder / "file").write_text("")
    code, _, err = batch("--work", "file/x")
    assert code == torch2circle.WriteError.exit_code
    assert "cannot write" in err


# -- the manifest

FAULTS = {
    "there are no jobs": "[defaults]\nverify = true",
    "unknown table or key: jobs": "[jobs]\n[[job]]\nmodel='nets.py:good'\noutput='a.circle'",
    "the manifest is not TOML: all.toml: ": "[[job]\n",
    "line 4, job 1 (nets.py:good): unknown key: targte (nearest: target)":
        "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\ntargte = 'onert'",
    "line 2, defaults: unknown key: io_layout (nearest: io-layout)":
        "[defaults]\nio_layout='nhwc'\n[[job]]\nmodel='nets.py:good'\noutput='a.circle'",
    "not for a job: json": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\njson=true",
    "not for defaults: name": "[defaults]\nname='a'\n[[job]]\nmodel='nets.py:good'\noutput='a.circle'",
    "job 1 (nets.py:good): no output": "[[job]]\nmodel='nets.py:good'",
    "job 2 (nets.py:good): no output": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\n[[job]]\nmodel='nets.py:good'\noutput=''",
    "line 1, job 1: no model": "[[job]]\noutput='a.circle'",
    "verify must be true or false: 'no'": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\nverify='no'",
    "input must be a text or a list of texts: 3": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\ninput=3",
    "state must be a text or a number: ['a']": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\nstate=['a']",
    "model must be a text or a list of texts: 1": "[[job]]\nmodel=1\noutput='a.circle'",
    "timeout must be a number of seconds above 0: 0": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\ntimeout=0",
    "name must be a text: 7": "[[job]]\nname=7\nmodel='nets.py:good'\noutput='a.circle'",
    "Invalid value for '--io-layout': 'nwhc' is not one of": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\nio-layout='nwhc'",
    "the file name does not tell a format: a.bin (name it .circle or .tflite)": "[[job]]\nmodel='nets.py:good'\noutput='a.bin'",
    "target litert writes .tflite files: a.circle": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\ntarget='litert'",
    "no such file: absent.pt": "[[job]]\nmodel='absent.pt'\noutput='a.circle'",
    "no such file: absent.py": "[[job]]\nmodel='absent.py:build'\noutput='a.circle'",
    "no such file: absent.npz": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\ninputs='absent.npz'",
    "no such file: good.pth": "[[job]]\nmodel='nets.py:good'\noutput='a.circle'\nstate='{stem}.pth'",
    "no file is called like *.pt": "[[job]]\nmodel='*.pt'\noutput='a.circle'",
    "the output is a folder: dir.circle": "[[job]]\nmodel='nets.py:good'\noutput='dir.circle'",
    "the output's folder is a file: ": "[[job]]\nmodel='nets.py:good'\noutput='nets.py/a.circle'",
    "same.circle is written by two jobs, of nets.py:good and nets.py:waits":
        "[[job]]\nmodel=['nets.py:good', 'nets.py:waits']\noutput='same.circle'\nname='{stem}'",
    "dir.circle/../x.circle is written by two jobs":
        "[[job]]\nmodel='nets.py:good'\noutput='x.circle'\n[[job]]\nmodel='nets.py:good'\noutput='dir.circle/../x.circle'",
    "several jobs have the name a": "[[job]]\nname='a'\nmodel='nets.py:good'\noutput=['a.circle', 'a.tflite']",
    "x.circle would be written over what is read by the job a":
        "[[job]]\nname='a'\nmodel='nets.py:good'\noutput='a.circle'\ndepends='x.circle'\n[[job]]\nmodel='nets.py:good'\noutput='x.circle'",
}  # fmt: skip


@pytest.mark.parametrize("says", FAULTS)
def test_a_manifest_that_cannot_be_done_is_refused_before_the_first_job(folder: Path, batch: Batch, says: str) -> None:
    (folder / "dir.circle").mkdir()
    if "would be written over" in says:
        (folder / "x.circle").write_text("")
    Path("all.toml").write_text(FAULTS[says])
    code, _, err = batch()
    assert code == 2
    assert says in err
    assert not (folder / "all.batch").exists()


def test_all_faults_are_told_at_once(folder: Path, batch: Batch) -> None:
    Path("all.toml").write_text("[[job]]\nmodel = 'absent.pt'\noutput = 'a.circle'\n[[job]]\nmodel = 'nets.py:good'\noutptu = 'b.circle'\n")
    _, _, err = batch()
    assert err.startswith("error: 3 fault(s) in all.toml, so no job was begun:\n  line 1, job 1 (absent.pt): no such file: absent.pt\n")
    assert "line 6, job 2 (nets.py:good): unknown key: outptu (nearest: output)" in err
    assert batch(manifest="absent.toml")[2].startswith("error: the manifest cannot be read: absent.toml: No such file")


def test_the_keys_are_the_options_of_an_export() -> None:
    from torch2circle.cli.export import export

    named = {name for option in export.params if isinstance(option, click.Option) for name in option.opts}
    assert {f"--{key}" for key in manifest.options()} | {"--dry-run", "--json", "--debug"} == named
    assert not set(manifest.OWN) & set(manifest.options())
    # An option with a path must be known as read or written: what is read is looked for and remembered, what is written is no other job's.
    paths = {key for key, option in manifest.options().items() if isinstance(option.type, click.Path)}
    assert paths == {"inputs", "state", *manifest.WRITTEN}


def test_values_become_words(folder: Path) -> None:
    (folder / "good.pth").write_text("")
    Path("all.toml").write_text(
        "[defaults]\ninput = '1x4'\nverify = false\ntrust-pickle = true\nstate = '{stem}.pth'\n"
        "[[job]]\nmodel = 'nets.py:good'\noutput = '{stem}.circle'\nio-dtype = ['a=int8', 'b=int8']\ntimeout = 5\n"
        "[[job]]\nmodel = 'pack.age:good'\noutput = 'b.circle'\ninput = false\ntrust-pickle = false\nverify = true\nstate = false\n"
    )
    first, second = manifest.read(Path("all.toml"), 60).jobs
    state = ["--trust-pickle", "--state=good.pth"]
    assert sorted(first.arguments[:-3]) == sorted(["--input=1x4", *state, "--io-dtype=a=int8", "--io-dtype=b=int8", "--no-verify"])
    assert first.arguments[-3:] == ("--", "nets.py:good", "good.circle")
    assert (first.name, first.timeout, first.reads) == ("good.circle", 5, ("nets.py", "good.pth"))
    assert second.arguments == ("--verify", "--", "pack.age:good", "b.circle")
    assert (second.name, second.timeout, second.reads) == ("b.circle", 60, ())


def test_a_package_alone_is_a_job(folder: Path, batch: Batch) -> None:
    Path("all.toml").write_text("[[job]]\nmodel = 'nets.py:good'\nnnpackage = '{stem}.zip'\nverify = false\n")
    pytest.importorskip("h5py")
    assert batch()[0] == 0
    assert (folder / "good.zip").exists()
    assert "1 unchanged" in batch()[1]


def test_log_names_of_different_jobs_differ(tmp_path: Path) -> None:
    job = manifest.Job("", "", None, (), (), (), 1)
    names = ["a/b.circle", "a_b.circle", "../a/b.circle", ".a", "a" * 300, "a" * 301]
    logs = [Records(tmp_path, tmp_path).log(dataclasses.replace(job, name=name)) for name in names]
    assert len(set(logs)) == len(names)
    assert all(path.parent == tmp_path and not path.name.startswith(".") and len(path.name) < 100 for path in logs)


# -- on a cluster


def test_what_a_worker_does_not_have_is_a_clear_failure(folder: Path) -> None:
    job = manifest.Job("a", "a.pt", "a.circle", (), ("a.pt",), ("a.circle",), 1)
    settings = worker.Run(folder, folder, "token", 1, False, versions())

    def said(settings: worker.Run) -> str:
        outcome = worker.work(job, settings)
        assert (outcome.status, (outcome.error or {})["kind"]) == ("failed", "lost")
        return str((outcome.error or {})["message"])

    assert "does not see the run's files: " in said(settings)
    (folder / "running").write_text("another")
    assert "does not see the run's files: " in said(settings)
    (folder / "running").write_text("token")
    assert f"has torch {versions()['torch']}, the batch 1.0" in said(dataclasses.replace(settings, versions=versions() | {"torch": "1.0"}))
    assert f"does not see {folder / 'a.pt'}" in said(settings)


def test_no_scheduler(folder: Path, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    write(UNVERIFIED, "good")
    assert batch("--scheduler", "tcp://127.0.0.1:9", "--jobs", "2")[0] == 2
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda _name: None)
    code, _, err = batch("--scheduler", "tcp://127.0.0.1:9")
    assert code == torch2circle.MissingRuntime.exit_code
    assert 'pip install "torch2circle[cluster]"' in err


class Fake(Executor):
    """Gives what it was made with instead of running anything."""

    def __init__(self, result: Outcome | BaseException) -> None:
        self.result = result

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if isinstance(self.result, BaseException):
            future.set_exception(self.result)
        else:
            future.set_result(self.result)
        return future


def outcome_of(result: Outcome | BaseException, tmp_path: Path) -> tuple[str, str]:
    """Kind and message of the failure of a job for which an executor gives ``result``."""
    ended: list[Outcome] = []
    job = manifest.Job("a", "a.pt", "a.circle", (), (), ("a.circle",), 1)
    settings = worker.Run(tmp_path, tmp_path, "", 1, False, {})
    assert not batches.run([job], settings, Fake(result), lambda _job, outcome: ended.append(outcome), lambda _names: None)
    (outcome,) = ended
    assert outcome.status == "failed"
    assert outcome.error is not None
    return outcome.error["kind"], outcome.error["message"]


def test_what_a_cluster_loses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = pytest.importorskip("distributed.scheduler").KilledWorker("work-1", "tcp://a:1", 3)
    assert outcome_of(killed, tmp_path) == ("lost", "4 workers died while they ran this job")
    assert outcome_of(CancelledError(), tmp_path) == ("lost", "the scheduler is gone, and the job with it")
    assert outcome_of(ImportError("no torch2circle"), tmp_path) == ("lost", "no worker could run it: ImportError: no torch2circle")
    monkeypatch.setattr(batches, "_SEEN_LATE", 0.0)
    made = Outcome("written", worker="host:1", reads={})
    assert outcome_of(made, tmp_path) == ("lost", f"host:1 wrote {tmp_path / 'a.circle'}, which is not to be seen here")
    (tmp_path / "a.circle").write_text("")
    (tmp_path / "a.json").mkdir()
    kind, message = outcome_of(made, tmp_path)
    assert kind == "WriteError"
    assert message.startswith(f"cannot write {tmp_path / 'a.json'}: ")


@pytest.fixture
def scheduler(folder: Path) -> Iterator[str]:
    """A Dask scheduler and two workers, each a process, started as a user does."""
    pytest.importorskip("distributed")
    log = open("dask.log", "wb")  # noqa: SIM115  # closed below
    dask = [sys.executable, "-m", "dask"]
    source = str(Path(torch2circle.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    with contextlib.ExitStack() as stack:
        stack.callback(log.close)

        def start(*args: str) -> None:
            process = subprocess.Popen([*dask, *args], stdout=log, stderr=log, env=environment)
            stack.callback(process.wait)
            stack.callback(process.terminate)

        start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", "scheduler.json")
        for _ in range(1200):
            if Path("scheduler.json").exists():
                break
            time.sleep(0.05)
        address = str(json.loads(Path("scheduler.json").read_text())["address"])
        start("worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard")
        yield address


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def test_a_cluster_gives_the_same_report_though_a_worker_is_killed(
    folder: Path, batch: Batch, started: Callable[..., subprocess.Popen[str]], scheduler: str
) -> None:  # fmt: skip
    torch.save(quantized(), folder / "model.pt")
    model = '[[job]]\nmodel = "model.pt"\ninput = "1x3x8x8"\noutput = "{stem}.circle"\nverify = true\n'
    write(UNVERIFIED + model, "waits", "good", "raises", "leaves", "good")
    process = started("--scheduler", scheduler, "--json", "--work", "there")
    (waiting,) = pids("waiting", 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert results(out)["waits.circle"]["status"] == "not run"
    assert gone(waiting)  # a worker sees that nobody waits any more

    process = started("--scheduler", scheduler, "--json", "--work", "there", "--force")
    waiting = pids("waiting", 2)[1]
    os.kill(parent(parent(parent(waiting))), signal.SIGKILL)  # above the job: who watches it, the server, the worker
    assert gone(waiting)
    assert len(pids("waiting", 3)) == 3  # another worker has it
    Path("go").touch()
    out, err = process.communicate()
    assert process.returncode == 1, err
    there = json.loads(out)
    code, out, _ = batch("--force", "--json")
    here = json.loads(out)
    assert code == 1
    assert [stable(row) for row in there["jobs"]] == [stable(row) for row in here["jobs"]]
    assert there["counts"] == here["counts"] == {"written": 4, "unchanged": 0, "failed": 2, "not run": 0}
    assert there["scheduler"] == scheduler


def stable(row: dict[str, Any]) -> dict[str, Any]:
    """Without what is of one run: times, places."""
    row = {key: value for key, value in row.items() if key not in ("seconds", "cpu_seconds", "peak_bytes", "worker", "log")}
    if row["summary"] and row["summary"]["verified"]:
        row["summary"]["verified"].pop("seconds")
    return row


def test_outcomes_say_whether_there_is_a_file() -> None:
    assert [Outcome(status).ok for status in ("written", "unchanged", "failed", "not run")] == [True, True, False, False]
