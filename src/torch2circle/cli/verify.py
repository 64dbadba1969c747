"""``torch2circle verify MODEL FILE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import VerifyFailed
from .group import SETTINGS, TARGET_NAMES, cli
from .model import exported_model, loading_options
from .terminal import say, stages, width

if TYPE_CHECKING:
    from ..verify import Comparison, Report


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Target FILE was written for; its suffix tells the default.")
@loading_options
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def verify(model: str, file: Path, target: str | None, as_json: bool, debug: bool, **loading: Any) -> None:
    """Run FILE in its runtime and compare with MODEL.

    End to end it is FILE that runs. The operators are those of a fresh export of MODEL, each fed with PyTorch's own values;
    a FILE with another content must come as close to PyTorch as that one.
    """
    with stages() as stage:
        from ..format import read
        from ..targets import target_for

        chosen = target_for(file, target)
        read(file)
        exported = exported_model(model, stage, **loading)
        stage(f"verify in {chosen.runtime}")
        report = exported.verify(chosen.name, file)
    if as_json:
        unverified = {"unverified": list(report.unverified)} if report.unverified else {}
        tables = {"outputs": [_row(c) for c in report.outputs], "operators": [_row(c) for c in report.operators]}
        click.echo(json.dumps(tables | unverified, indent=2))
    else:
        click.echo(_comparison_table(report))
        if report.unverified:
            say("not verified", f"{chosen.runtime} has no kernel for {', '.join(report.unverified)}, so the file was not run")
        for c in report.outputs:
            say(f"output {c.name}", f"{c.share:.2%} bit-equal, largest difference {c.lsb:g} LSB, SQNR {c.sqnr:.1f} dB")
    fail_if_wrong(report)


def fail_if_wrong(report: Report | None) -> None:
    """An operator more than one step off is a wrong file, however small the difference looks at the end."""
    if report is not None and not report.ok() and report.worst is not None:
        worst = report.worst
        message = f"{worst.op} {worst.name} is off by {worst.lsb:g} LSB in {report.runtime}, {1 - worst.share:.2%} of its outputs differ"
        raise VerifyFailed(message, where=worst.where, hint="the file was kept; `torch2circle verify` lists every operator")


def _comparison_table(report: Report) -> str:
    from ..show import columns

    def place(c: Comparison) -> str:
        return f"{Path(c.where.file).name}:{c.where.line}" if c.where.file else ""

    rows = [(c.op, f"{c.share:.2%}", f"{c.lsb:g}", f"{c.sqnr:.1f}", place(c), c.name) for c in report.operators]
    return columns([("operator", "equal", "LSB", "SQNR dB", "source", "tensor"), *rows], width())


def _row(c: Comparison) -> dict[str, Any]:
    row = {"op": c.op, "name": c.name, "size": c.size, "equal": c.share, "lsb": c.lsb, "sqnr": c.sqnr}
    return row | {"module": c.where.module, "file": c.where.file, "line": c.where.line}
