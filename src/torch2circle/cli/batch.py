"""``torch2circle batch MANIFEST``: many exports, here or on a cluster, and what became of them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UserError
from .group import SETTINGS, cli
from .terminal import print_json

if TYPE_CHECKING:
    from ..batch.manifest import Job, Manifest
    from ..batch.records import Outcome, Records


@cli.command(context_settings=SETTINGS)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--jobs", type=click.IntRange(1), metavar="N", help="How many run at once; as many as there are cores by default.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="PyTorch's threads for each job; by default the cores are shared by "
              "those that run at once, and a job on a cluster has one.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=3600, show_default=True, metavar="SECONDS", help="How long a "
              "job may take that sets no timeout of its own.")  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS", help="Run the jobs on the Dask cluster of this scheduler, for example tcp://host:8786.")
@click.option("--force", is_flag=True, help="Run all jobs, also those that are done and nothing has changed of.")
@click.option("--fail-fast", is_flag=True, help="End all jobs when one fails.")
@click.option("--dry-run", "dry", is_flag=True, help="Say what would be run, and why, and run nothing.")
@click.option("--work", type=click.Path(path_type=Path), metavar="DIR", help="Folder for logs and records; MANIFEST with the suffix .batch "
              "by default.")  # fmt: skip
@click.option("--junit", type=click.Path(path_type=Path), metavar="XML", help="Write the report as JUnit XML, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--debug", is_flag=True, help="Log all that happens to the jobs' logs, and show tracebacks.")
def batch(
    manifest: Path,
    jobs: int | None,
    threads: int | None,
    timeout: float,
    scheduler: str | None,
    force: bool,
    fail_fast: bool,
    dry: bool,
    work: Path | None,
    junit: Path | None,
    as_json: bool,
    debug: bool,
) -> int:
    """Run all exports of MANIFEST, a TOML file.

    Each has a process of its own, whose end is the end of that job alone. A job is run again only if its file is not there, or if anything
    that it was made from has changed.
    """
    if sys.platform != "linux":
        raise UserError("batch needs Linux: jobs are forked from a process that has imported torch", hint="export the models one by one")
    if scheduler and jobs:
        raise click.UsageError("--jobs is for this machine; on a cluster its workers' threads say how many run at once")
    from ..batch import manifest as manifests
    from ..batch.executors import cluster, cores, local
    from ..batch.records import Records
    from ..batch.run import begun, run

    start = time.monotonic()
    read = manifests.read(manifest, timeout)
    folder = (work or manifest.with_suffix(".batch")).absolute()
    records = Records(read.folder, folder)
    reasons, outcomes = _known(read, records, force)
    todo = [job for job in read.jobs if job.name in reasons]
    if dry:
        _print_plan(read, reasons, as_json)
        return 0
    jobs = min(jobs or cores(), max(len(todo), 1))
    with _terminable(), begun(read, folder, threads or (1 if scheduler else max(1, cores() // jobs)), debug) as settings:
        progress = _Progress(len(read.jobs), outcomes)
        interrupted = False
        if todo:
            with (cluster(scheduler, progress.say) if scheduler else local(jobs)) as executor, progress.shown():

                def ended(job: Job, outcome: Outcome) -> None:
                    outcomes[job.name] = outcome
                    progress.ended(job, outcome)

                interrupted = run(todo, settings, executor, ended, progress.running, fail_fast)
    return _report(read, outcomes, records, time.monotonic() - start, scheduler, junit, as_json, interrupted)


def _known(manifest: Manifest, records: Records, force: bool) -> tuple[dict[str, str], dict[str, Outcome]]:
    """Why jobs must be run, and the outcomes of those that need not."""
    from ..batch.executors import cores

    reasons: dict[str, str] = {}
    outcomes: dict[str, Outcome] = {}
    known = [("--force", None)] * len(manifest.jobs) if force else records.read_all(manifest.jobs, cores())
    for job, (why, outcome) in zip(manifest.jobs, known, strict=True):
        if outcome is None:
            reasons[job.name] = why
        else:
            outcomes[job.name] = outcome
    return reasons, outcomes


def _print_plan(manifest: Manifest, reasons: dict[str, str], as_json: bool) -> None:
    if as_json:
        rows = [{"name": j.name, "model": j.model, "output": j.output, "run": j.name in reasons, "why": reasons.get(j.name)}
                for j in manifest.jobs]  # fmt: skip
        print_json({"manifest": str(manifest.path), "jobs": rows})
        return
    for job in manifest.jobs:
        click.echo(f"run        {job.name}: {reasons[job.name]}" if job.name in reasons else f"unchanged  {job.name}")
    click.echo(f"{manifest.path.name}: {len(reasons)} of {len(manifest.jobs)} jobs would be run")


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: with a report."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are not for it
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Progress:
    """A bar and what runs on a terminal; a line for each job that ends, there and in a pipe."""

    def __init__(self, total: int, known: dict[str, Outcome]) -> None:
        self._total, self._done, self._failed = total, len(known), 0
        self._bar: Any = None
        if known:
            click.echo(f"{len(known)} of {total} jobs are done and unchanged", err=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        what = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
        columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), what)
        with Progress(*columns, console=Console(stderr=True), expand=True) as self._bar:
            self._bar.add_task("starting", total=self._total, completed=self._done)
            yield

    def say(self, line: str) -> None:
        """Above the bar, if there is one."""
        if self._bar is None:
            click.echo(line, err=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False, overflow="ellipsis", no_wrap=True)

    def ended(self, job: Job, outcome: Outcome) -> None:
        from ..batch.report import told

        if outcome.status == "not run":
            return
        self._done += 1
        self._failed += not outcome.ok
        said = told(outcome)
        self.say(f"[{self._done:{len(str(self._total))}}/{self._total}] {outcome.status:8} {job.name}: {said}, {outcome.seconds:.1f} s")

    def running(self, names: Sequence[str]) -> None:
        if self._bar is not None:
            said = [f"{self._failed} failed"] if self._failed else []
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=", ".join([*said, *names]))


def _report(
    manifest: Manifest, outcomes: dict[str, Outcome], records: Records, seconds: float, scheduler: str | None, junit: Path | None,
    as_json: bool, interrupted: bool,
) -> int:  # fmt: skip
    """Show and write what became of all jobs; the exit code."""
    from ..batch.report import cases, counted, facts, failure

    if as_json:
        print_json(facts(manifest, outcomes, records, seconds, scheduler))
    if junit is not None:
        from ..junit import write

        write({manifest.path.name: cases(manifest, outcomes, records)}, junit)
    bad = [job for job in manifest.jobs if outcomes[job.name].status == "failed"]
    if bad:
        click.echo(f"\n{len(bad)} of {len(manifest.jobs)} jobs failed:", err=True)
    for job in bad:
        click.echo(f"{job.name}: {failure(outcomes[job.name], records.log(job))}", err=True)
    if not as_json:
        click.echo(f"{manifest.path.name}: {len(manifest.jobs)} jobs: {counted(outcomes)}; {seconds:.1f} s")
    if interrupted:
        click.echo("interrupted: what is done is kept; run it again for the rest", err=True)
        raise click.exceptions.Exit(130)
    if not all(outcome.ok for outcome in outcomes.values()):
        raise click.exceptions.Exit(1)
    return 0
