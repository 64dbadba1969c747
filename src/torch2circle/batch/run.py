"""A run of a batch: what is to be done, and doing it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from dataclasses import replace
from pathlib import Path

from ..errors import UserError, WriteError
from .forkserver import GRACE
from .manifest import Job, Manifest
from .records import Outcome, Records, versions
from .worker import Run, failed, work

NOT_RUN = Outcome("not run")
_SEEN_LATE = 10.0
"""Seconds until a file that another machine wrote is seen at the latest: network file systems keep what folders hold for a while."""


@contextlib.contextmanager
def begun(manifest: Manifest, folder: Path, threads: int, debug: bool) -> Iterator[Run]:
    """A run that goes on until this ends, also for workers elsewhere; ``folder`` is for its logs and records.

    Raises:
        UserError: another run of this manifest goes on.
        WriteError: ``folder`` cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        running = open(folder / "running", "a+")  # noqa: SIM115  # it is locked as long as it is open
    except OSError as error:
        raise WriteError(f"cannot write {folder}: {error.strerror or error}", hint="name another folder with --work") from error
    with running:
        try:
            fcntl.flock(running, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"this manifest is being run already: {manifest.path}", hint="wait for that run, or end it") from error
        except OSError as error:
            hint = "name a folder that can be locked with --work"
            raise WriteError(f"cannot lock {folder / 'running'}: {error.strerror or error}", hint=hint) from error
        token = secrets.token_hex(8)
        running.truncate(0)  # not taken away: another run may have it open by now
        running.write(token)
        running.flush()
        try:
            yield Run(manifest.folder, folder, token, threads, debug, versions())
        finally:
            running.truncate(0)


def run(
    jobs: Sequence[Job],
    settings: Run,
    executor: Executor,
    ended: Callable[[Job, Outcome], None],
    wake: Callable[[list[str]], None],
    fail_fast: bool = False,
) -> bool:
    """Run the jobs; whether that was interrupted.

    ``ended`` gets each job's outcome as it ends, those that were not run at last; ``wake`` is called all the time with the names of the
    jobs that are known to run. With ``fail_fast`` the first failure ends it.
    """
    records = Records(settings.folder, settings.work)
    for job in jobs:
        records.log(job).unlink(missing_ok=True)  # it is of another run
    futures = {executor.submit(work, job, settings): job for job in jobs}
    left = set(futures)
    interrupted = stopped = False
    try:
        while left and not stopped:
            for future in wait(left, timeout=0.2, return_when=FIRST_COMPLETED).done:
                outcome = _finished(future, futures[future], records)
                ended(futures[future], outcome)
                left.discard(future)
                stopped = stopped or (fail_fast and not outcome.ok)
            wake([futures[future].name for future in left if future.running()])
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if left:
            for future in left:
                future.cancel()
            (settings.work / "running").write_text("")  # which ends those that run, wherever that is
    wait(left, timeout=2 * GRACE)
    for future in left:
        ended(futures[future], NOT_RUN if future.cancelled() or not future.done() else _finished(future, futures[future], records))
    return interrupted


def _finished(future: Future[Outcome], job: Job, records: Records) -> Outcome:
    """The outcome of a job, remembered if there is a file."""
    try:
        outcome = future.result()
    except CancelledError:
        return failed("lost", "the scheduler is gone, and the job with it", "run the batch again: what is done is not done twice")
    except Exception as error:
        if type(error).__name__ == "KilledWorker":
            count = getattr(error, "allowed_failures", 0) + 1
            return failed("lost", f"{count} workers died while they ran this job", "the logs of the workers may say why")
        hint = "install the same versions of torch2circle and Dask on all workers"
        return failed("lost", f"no worker could run it: {type(error).__name__}: {error}", hint)
    if outcome.status != "written":
        return outcome
    if missing := _unseen([records.folder / path for path in job.writes]):
        hint = "the folders of all files must be on a file system that all workers have, under the same path"
        return failed("lost", f"{outcome.worker} wrote {missing}, which is not to be seen here", hint)
    try:
        records.write(job, outcome)
    except WriteError as error:
        facts = {"kind": "WriteError", "exit_code": error.exit_code, "message": error.message, "hint": error.hint, "where": None}
        return replace(outcome, status="failed", error=facts)
    return outcome


def _unseen(paths: Sequence[Path]) -> Path | None:
    deadline = time.monotonic() + _SEEN_LATE
    while missing := [path for path in paths if not path.exists()]:
        if time.monotonic() > deadline:
            return missing[0]
        with contextlib.suppress(OSError):
            os.listdir(missing[0].parent)  # makes a network file system look again
        time.sleep(0.2)
    return None
