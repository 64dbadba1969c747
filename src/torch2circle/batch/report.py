"""What became of the jobs: for people, as plain data, and as JUnit XML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..ir import Where
from ..junit import Case, Trouble
from .manifest import Job, Manifest
from .records import Outcome, Records

STATUSES = ("written", "unchanged", "failed", "not run")


def counts(outcomes: Mapping[str, Outcome]) -> dict[str, int]:
    """How many jobs ended in each way."""
    found = [outcome.status for outcome in outcomes.values()]
    return {status: found.count(status) for status in STATUSES}


def counted(outcomes: Mapping[str, Outcome]) -> str:
    """``counts`` as text."""
    return ", ".join(f"{count} {status}" for status, count in counts(outcomes).items() if count)


def told(outcome: Outcome) -> str:
    """In one line, what a job has made or why it failed."""
    if outcome.error is not None:
        return f"{_kind(outcome.error)}: {_first(outcome.error)}"
    summary = outcome.summary
    if summary is None:
        return ""
    size = f"{summary['bytes']:,} bytes for {summary['target']}" if summary["file"] else f"nnpackage for {summary['target']}"
    verified = summary["verified"]
    how = f"verified in {verified['runtime']}, operators at most {verified['operator_lsb']:g} LSB off" if verified else "not verified"
    warnings = sum(finding["severity"] == "warning" for finding in summary["diagnostics"])
    return f"{size}, {how}" + (f", {warnings} warning(s)" if warnings else "")


def failure(outcome: Outcome, log: Path) -> str:
    """A failure with all that its error says, as the command line shows it, and the job's log."""
    error = outcome.error or {}
    where = f"\n  at {Where(**error['where'])}" if error.get("where") else ""
    hint = f"\n  hint: {error['hint']}" if error.get("hint") else ""
    ran = f"\n  log: {log}" if log.exists() else ""
    return f"{_kind(error)}: {error.get('message', '')}{where}{hint}{ran}"


def _first(error: Mapping[str, Any]) -> str:
    """The first line of its message."""
    return str(error["message"]).partition("\n")[0].rstrip(":")


def _kind(error: Mapping[str, Any]) -> str:
    code = error.get("exit_code")
    return str(error.get("kind")) if code is None else f"{error.get('kind')} (exit code {code})"


def facts(manifest: Manifest, outcomes: Mapping[str, Outcome], records: Records, seconds: float, scheduler: str | None) -> dict[str, Any]:
    """The report as plain data."""
    rows = [_row(job, outcomes[job.name], records) for job in manifest.jobs]
    return {"manifest": str(manifest.path), "scheduler": scheduler, "seconds": seconds, "counts": counts(outcomes), "jobs": rows}


def _row(job: Job, outcome: Outcome, records: Records) -> dict[str, Any]:
    log = records.log(job)
    return {
        "name": job.name, "status": outcome.status, "model": job.model, "output": job.output, "error": outcome.error,
        "summary": outcome.summary, "seconds": outcome.seconds, "cpu_seconds": outcome.cpu_seconds, "peak_bytes": outcome.peak_bytes,
        "worker": outcome.worker, "log": str(log) if log.exists() else None,
    }  # fmt: skip


def cases(manifest: Manifest, outcomes: Mapping[str, Outcome], records: Records) -> list[Case]:
    """The jobs as test cases. What the model is to blame for is a failure, what ended the process an error."""
    return [_case(job, outcomes[job.name], records) for job in manifest.jobs]


def _case(job: Job, outcome: Outcome, records: Records) -> Case:
    error, trouble, where = outcome.error, None, Where()
    if error is not None:
        where = Where(**error["where"]) if error["where"] else where
        how: Any = "error" if error["exit_code"] is None or error["kind"] == "Bug" else "failure"
        trouble = Trouble(how, error["kind"], _first(error), failure(outcome, records.log(job)))
    elif outcome.status == "not run":
        trouble = Trouble("skipped", "not run", "the batch ended before")
    said = f"{outcome.status}: {told(outcome)}" if outcome.ok else ""
    return Case(job.name, job.model, said, trouble, where.file, where.line, outcome.seconds)
