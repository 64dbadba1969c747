"""``torch2circle MODEL OUTPUT``: load, export, write, verify, and say what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .dry_run import dry_run
from .group import SETTINGS, TARGET_NAMES, cli
from .model import exported_model, loading_options
from .package import must_be_possible, package_options, print_package, save_package
from .terminal import print_findings, print_json, say, stages
from .verify import fail_if_wrong

if TYPE_CHECKING:
    from ..ir import Graph
    from ..methods import ExportedMethods
    from ..pipeline import ExportedModel
    from ..verify import Report


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path), required=False, metavar="OUTPUT")
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Runtime to write for; the suffix of OUTPUT tells the default.")
@loading_options
@click.option("--verify/--no-verify", default=True, show_default=True, help="Run the file in its runtime, if installed, and compare.")
@click.option("--dry-run", "dry", is_flag=True, help="Say for each target what would be written, and write nothing.")
@package_options
@click.option("--explain", type=click.Path(path_type=Path), metavar="DIR", help="Write every stage as text into DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def export(
    model: str,
    output: Path | None,
    target: str | None,
    verify: bool,
    dry: bool,
    package: Path | None,
    expected: str,
    explain: Path | None,
    as_json: bool,
    debug: bool,
    **loading: Any,
) -> int:
    """Export MODEL to OUTPUT (.circle or .tflite).

    MODEL is a file from torch.save, torch.jit.save or torch.export.save, or package.module:factory. A factory may also give several
    methods, {"name": (model.method, args)}, for one .tflite file.
    """
    if dry:
        if package or explain:
            raise click.UsageError(f"--dry-run writes nothing: leave out {'--nnpackage' if package else '--explain'}")
        return dry_run(model, output, target, as_json, **loading)
    if output is None and package is None:
        stem = Path(model.partition(":")[0]).stem
        raise click.UsageError(f"no output file: torch2circle {model} {stem}.circle (for onert) or {stem}.tflite (for LiteRT)")
    with stages() as stage:
        summary, why, report = exported_file(model, output, target, verify, package, expected, explain, stage, **loading)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary, why)
    fail_if_wrong(report)
    return 0


def exported_file(
    model: str,
    output: Path | None,
    target: str | None,
    verify: bool,
    package: Path | None,
    expected: str,
    explain: Path | None,
    stage: Callable[[str], None],
    **loading: Any,
) -> tuple[dict[str, Any], str, Report | None]:
    """Load, export, write and verify: the summary, why nothing was verified, and what was found if it was."""
    from ..runtimes import available
    from ..targets import target_for

    chosen = target_for(output, target if output else target or "onert")
    if package:
        must_be_possible(package, chosen, expected)
    exported = exported_model(model, stage, **loading)
    if explain:
        exported.explain(explain, chosen.name)
    stage("legalize")
    graphs = exported.for_target(chosen)
    stage("write")
    packed = save_package(exported, package, chosen, expected, run=verify) if package else None
    size = exported.save(output, chosen.name) if output else None
    report = None
    stage("check PyTorch's kernels")
    exported.diagnostics(chosen.name)  # which computes layers again, and remembers what it found
    if not verify:
        why = "not asked for"
    elif chosen.runtime is None:
        why = "no runtime for this target"
    elif not available(chosen.runtime):
        why = f'{chosen.runtime} is not installed: pip install "torch2circle[verify]"'
    else:
        why = ""
        stage(f"verify in {chosen.runtime}")
        report = exported.verify(chosen.name, output)
    summary = _summary(exported, list(graphs.values()) if isinstance(graphs, dict) else [graphs], chosen.name, output, size, report)
    if packed:
        summary["nnpackage"] = packed
    return summary, why, report


def _summary(
    exported: ExportedModel | ExportedMethods,
    graphs: Sequence[Graph],
    target: str,
    output: Path | None,
    size: int | None,
    report: Report | None,
) -> dict[str, Any]:
    from ..show import counted, weight_bytes

    diagnostics = exported.diagnostics(target)
    verified = None
    if report is not None:
        worst = report.worst.lsb if report.worst else 0
        verified = {
            "runtime": report.runtime, "equal": report.share, "lsb": report.lsb, "operator_lsb": worst, "seconds": report.seconds,
            "unverified": list(report.unverified),
        }  # fmt: skip
    return {
        "file": str(output) if output else None,
        "target": target,
        "bytes": size,
        "operators": counted(*graphs),
        "weights": weight_bytes(*graphs),
        "islands": sum(1 for finding in diagnostics if finding.code == "island"),
        "diagnostics": [vars(finding) for finding in diagnostics],
        "verified": verified,
    }


def print_summary(summary: dict[str, Any], why_not_verified: str) -> None:
    """The summary as lines of text."""
    operators, done = summary["operators"], summary["verified"]
    if summary["file"]:
        click.echo(f"{summary['file']}: {summary['bytes']:,} bytes for {summary['target']}")
    else:
        click.echo(f"{summary['nnpackage']['path']}: nnpackage for {summary['target']}")
    say("operators", f"{sum(operators.values())}: " + ", ".join(f"{count} {op}" for op, count in operators.items()))
    say("weights", ", ".join(f"{name} {size:,} bytes" for name, size in summary["weights"].items()) or "none")
    say("islands", f"{summary['islands']} operator(s) in float between quantized ones")
    print_findings(summary["diagnostics"])
    if "nnpackage" in summary:
        print_package(summary["nnpackage"])
    if done is None:
        say("verified", f"no: {why_not_verified}")
        return
    if done["unverified"]:
        without = f"{done['runtime']} has no kernel for {', '.join(done['unverified'])}, so the file was not run"
        say("verified", f"in part: {without}; the other operators one by one at most {done['operator_lsb']:g} LSB")
        return
    text = f"in {done['runtime']}: {done['equal']:.2%} of outputs bit-equal, largest difference {done['lsb']:g} LSB; "
    say("verified", f"{text}operator by operator at most {done['operator_lsb']:g} LSB; {done['seconds']:.3f} s a run")
