"""One job, where it is run: in a thread of the batch, or on a worker of a cluster. Either way in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..format import unfinished
from .forkserver import SERVER, Process
from .manifest import Job
from .records import Outcome, Records, versions

_POLL = 0.2
_STARTUP = 600.0
"""Seconds that importing torch may take."""


@dataclass(frozen=True)
class Run:
    """What all jobs of one run of a batch have in common, as the worker's machine must see it, too.

    ``folder`` is the manifest's, ``work`` that of logs and records. ``token`` is the content of the file ``running`` in there while
    the run goes on: who does not find it works for nobody, or on another file system. ``threads`` are PyTorch's, of each job.
    """

    folder: Path
    work: Path
    token: str
    threads: int
    debug: bool
    versions: Mapping[str, str | None]

    @property
    def goes_on(self) -> bool:
        """Whether anybody waits for results."""
        return self._said() == self.token

    @property
    def has_ended(self) -> bool:
        """Whether it said so."""
        return self._said() == ""

    def _said(self) -> str | None:
        """What the run's file says: its token, nothing once it has ended; None if there is no file to be seen."""
        try:
            return (self.work / "running").read_text()
        except OSError:
            return None


def failed(kind: str, message: str, hint: str | None = None) -> Outcome:
    """The outcome of a job that raised no error of its own."""
    return Outcome("failed", {"kind": kind, "exit_code": None, "message": message, "hint": hint, "where": None}, worker=_here())


def _here() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def work(job: Job, run: Run) -> Outcome:
    """Run the job in a process of its own; whatever happens to that is the job's outcome."""
    if run.has_ended:  # between what ended it and the word to leave this job
        return Outcome("not run", worker=_here())
    if not run.goes_on:
        hint = "the manifest's folder must be on a file system that all workers have, under the same path"
        return failed("lost", f"{_here()} does not see the run's files: {run.work}", hint)
    for package, version in run.versions.items():
        if versions()[package] != version:
            here = versions()[package] or "none"
            hint = "install the same versions on all workers, or the files would depend on where they are made"
            return failed("lost", f"{_here()} has {package} {here}, the batch {version or 'none'}", hint)
    if missing := [path for path in job.reads if not (run.folder / path).exists()]:
        return failed("lost", f"{_here()} does not see {run.folder / missing[0]}", "put it where all workers have it, under the same path")
    begun = time.monotonic()
    try:
        outcome = _run(job, run)
    except OSError as error:  # no room for the log, no process to be had
        outcome = failed("crash", f"the job cannot be started: {error.strerror or error}: {error.filename or run.work}")
    return replace(outcome, seconds=time.monotonic() - begun, worker=_here())


def _run(job: Job, run: Run) -> Outcome:
    with _temporary() as temporary, open(Records(run.folder, run.work).log(job), "wb") as log, tempfile.TemporaryFile() as answers:
        order = {
            "folder": str(run.folder), "temporary": temporary, "arguments": job.arguments, "reads": job.reads, "threads": run.threads,
            "debug": run.debug,
        }  # fmt: skip
        for path in job.writes:
            (run.folder / path).parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # a job that never began may begin again: the server may have died with its message unread
            process = SERVER.start(order, log, answers)
            try:
                why = _wait(process, job, run)
            finally:
                process.close()
            if process.started or why:
                break
        outcome = _outcome(process, job, why, _lines(answers))
        if outcome.status == "not run" or (outcome.error and outcome.error["exit_code"] is None):
            _tidy(job, run)
        return outcome


def _tidy(job: Job, run: Run) -> None:
    """Take away what a process had no time to take away itself."""
    for part in (part for path in job.writes for part in unfinished(run.folder / path)):
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextmanager
def _temporary() -> Iterator[str]:
    """A folder for what the job, or a runtime that it started, does not take away itself."""
    folder = tempfile.mkdtemp(prefix="torch2circle-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: Process, job: Job, run: Run) -> str:
    """Until the process has ended; why it was told to, or ""."""
    why, started, deadline = "", False, time.monotonic() + _STARTUP
    while not process.wait(_POLL):
        if process.started and not started:
            started, deadline = True, time.monotonic() + job.timeout
        if not why and time.monotonic() > deadline:
            why = "timeout"
        elif not why and not run.goes_on:
            why = "stopped"
        else:
            continue
        process.stop()
    return why


def _lines(answers: BinaryIO) -> list[dict[str, Any]]:
    answers.seek(0)
    return [json.loads(line) for line in answers.read().splitlines(keepends=True) if line.endswith(b"\n")]


def _outcome(process: Process, job: Job, why: str, lines: list[dict[str, Any]]) -> Outcome:
    ended, stage = process.ended or {}, next((f", in the stage {line['stage']}" for line in reversed(lines) if "stage" in line), "")
    facts = {"cpu_seconds": ended.get("cpu", 0.0), "peak_bytes": ended.get("peak", 0)}
    result = lines[-1] if lines and "stage" not in lines[-1] else None
    if result and not (why and result["error"]):  # an error of what was told to end may come of that
        return Outcome("failed" if result["error"] else "written", result["error"], result["summary"], result.get("reads"), **facts)
    if why == "stopped":
        return Outcome("not run", **facts)
    if why == "timeout":
        made = failed("timeout", f"not done within {job.timeout:g} s{stage}", "raise its timeout, in seconds, if it needs more")
    elif not process.started:
        made = failed("crash", f"the job could not be started: {SERVER.said() or 'the process that starts jobs has ended'}")
    elif not ended:
        made = failed("crash", f"the process that watched the job has ended, and the job with it{stage}")
    elif os.WIFSIGNALED(ended["status"]):
        name = signal.Signals(os.WTERMSIG(ended["status"])).name
        hint = "out of memory? run fewer jobs at once" if name == "SIGKILL" else None
        made = failed("crash", f"the process was killed by {name}{stage}", hint)
    else:
        made = failed("crash", f"the process ended with exit code {os.WEXITSTATUS(ended['status'])}{stage}")
    return replace(made, **facts)
