"""``torch2circle report MODEL FILE -o report.html``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import UserError, VerifyFailed
from .group import SETTINGS, TARGET_NAMES, cli
from .model import exported_model, loading_options
from .terminal import print_json, say, stages


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="PAGE", help="The page; FILE's name with .html by default.")
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Target FILE was written for; its suffix tells the default.")
@loading_options
@click.option("--json", "as_json", is_flag=True, help="Print the data as JSON, and write a page only with -o.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def report(model: str, file: Path, output: Path | None, target: str | None, as_json: bool, debug: bool, **loading: Any) -> None:
    """Show MODEL and FILE on one HTML page.

    It has the graph, the errors, ranges, weights, float islands and sizes, and needs no network. FILE is run as by verify;
    the other runtime is shown beside it, with a fresh export of MODEL.
    """
    page = output or (None if as_json else file.with_suffix(".html"))
    with stages() as stage:
        from ..format import read
        from ..pipeline import ExportedModel
        from ..report import RUNTIMES, finite, report_facts, write_report
        from ..targets import target_for

        chosen = target_for(file, target).name
        read(file)
        exported = exported_model(model, stage, **loading)
        if not isinstance(exported, ExportedModel):
            hint = "write each method to a file of its own, and give report a factory of that one"
            raise UserError(f"a report is of one method, and {model} gives several: {', '.join(exported.methods)}", hint=hint)
        options: dict[str, Any] = {"file": file, "targets": (chosen, *RUNTIMES), "model": model, "progress": stage}
        facts = report_facts(exported, **options) if page is None else write_report(exported, page, **options)
    if as_json:
        print_json(finite(facts))
    else:
        _print_summary(facts, page)
    _fail_if_wrong(facts)


def _print_summary(facts: Mapping[str, Any], page: Path | None) -> None:
    if page is not None:
        click.echo(f"{page}: {page.stat().st_size:,} bytes")
    for side in facts["targets"]:
        done = side["verified"]
        if done is not None:
            outputs = "" if done["equal"] is None else f"{done['equal']:.2%} of outputs bit-equal, largest difference {done['lsb']:g} LSB; "
            say(side["target"], f"{outputs}operator by operator at most {done['operator_lsb']:g} LSB")
        if side["message"]:
            say(side["target"], f"not verified{' in part' if done else ''}: {side['message']}")


def _fail_if_wrong(facts: Mapping[str, Any]) -> None:
    """As ``verify`` does, for each runtime; the page is there to see why."""
    verified = [side for side in facts["targets"] if side["verified"] is not None]
    wrong = [f"in {side['runtime']}, {side['verified']['wrong']}" for side in verified if side["verified"]["wrong"]]
    if wrong:
        raise VerifyFailed("; ".join(wrong), hint="the page shows what is known about it")
