"""What is known of a job that ended with a file: from what it was made, so that it need not be made again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..format import whole_file
from .manifest import Job

_FORMAT = 1


@dataclass(frozen=True)
class Outcome:
    """How a job ended: "written", "unchanged" (done before), "failed", or "not run".

    ``error`` has the ``kind`` (a class of ``torch2circle.errors``, or "crash", "timeout", "lost"), ``exit_code``, ``message``, ``where``
    and ``hint``; ``summary`` is that of the export. ``reads`` has the SHA-256 of each file that was read, None if it changed meanwhile.
    ``seconds`` are of the clock, ``cpu_seconds`` of all threads, ``peak_bytes`` the largest resident memory; ``worker`` where it ran.
    """

    status: str
    error: Mapping[str, Any] | None = None
    summary: Mapping[str, Any] | None = None
    reads: Mapping[str, str | None] | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    worker: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is a right file."""
        return self.status in ("written", "unchanged")


@cache
def versions() -> dict[str, str | None]:
    """Of what a file, and what is said of it, depends on; None for what is not installed."""
    return {package: _version(package) for package in ("torch2circle", "torch", "onert", "ai-edge-litert")}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    made = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            made.update(block)
    return made.hexdigest()


class Records:
    """The records of the jobs of the manifest in ``folder``, a file each in ``work``."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work = folder, work
        self._digests: dict[str, str] = {}

    def log(self, job: Job) -> Path:
        """Where what the job says goes to."""
        return self.work / f"{_slug(job.name)}.log"

    def _path(self, job: Job) -> Path:
        return self.work / f"{_slug(job.name)}.json"

    def read_all(self, jobs: Sequence[Job], threads: int) -> list[tuple[str, Outcome | None]]:
        """``read`` of each, as of the moment when this is called first."""
        with ThreadPoolExecutor(threads) as executor:  # digests are computed outside of Python's lock
            return list(executor.map(self.read, jobs))

    def read(self, job: Job) -> tuple[str, Outcome | None]:
        """Why the job must be run; or "" and the outcome that it had."""
        try:
            known = json.loads(self._path(job).read_text(encoding="utf-8"))
            if known["format"] != _FORMAT:
                return "done by another version of torch2circle", None
            if changed := self._changed(job, known):
                return changed, None
            return "", Outcome(**known["outcome"] | {"status": "unchanged"})
        except FileNotFoundError:
            return "not done yet", None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "its record cannot be read", None

    def _changed(self, job: Job, known: Mapping[str, Any]) -> str:
        if known["arguments"] != list(job.arguments):
            return "other options"
        for package, version in versions().items():
            if known["versions"].get(package) != version:
                return f"made with {package} {known['versions'].get(package) or 'absent'}"
        for path, stamp in known["writes"].items():
            if stamp != self._stamp(path):
                return f"{path} is {'gone' if self._stamp(path) is None else 'another'}"
        reads: Mapping[str, str | None] = known["outcome"]["reads"]
        if new := [path for path in job.reads if path not in reads]:
            return f"{new[0]} is read, too"
        return next((f"{path} has changed, or is gone" for path, before in reads.items() if not self._is(path, before)), "")

    def _is(self, path: str, before: str | None) -> bool:
        try:
            if before is not None and path not in self._digests:  # several jobs may read one file
                self._digests[path] = digest(self.folder / path)
            return before is not None and self._digests[path] == before
        except OSError:
            return False

    def write(self, job: Job, outcome: Outcome) -> None:
        """Remember how a job ended that wrote its files.

        Raises:
            WriteError: the folder cannot be written, a full disk.
        """
        known = {
            "format": _FORMAT,
            "arguments": job.arguments,
            "versions": versions(),
            "writes": {path: self._stamp(path) for path in job.writes},
            "outcome": asdict(outcome),
        }
        with whole_file(self._path(job)) as sink:
            sink.write(json.dumps(known, indent=1).encode())

    def _stamp(self, path: str) -> list[int] | None:
        """What tells that nobody wrote a file since: its size and time, None if it is not there."""
        try:
            found = os.stat(self.folder / path)
        except OSError:
            return None
        return [found.st_size, found.st_mtime_ns]


def _slug(name: str) -> str:
    """A file name for a job: its own if that can be one, else with a digest, so that no two are the same."""
    plain = re.sub(r"[^\w.-]", "_", name)
    if plain == name and not name.startswith(".") and len(name) <= 80:
        return name
    return f"{plain.lstrip('.')[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
