"""``torch2circle qparams`` and ``implant``: bundles of ONE's q-implant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..text import one_line
from .group import SETTINGS, TARGET_NAMES, cli
from .model import exported_model, loading_options
from .terminal import print_facts, print_findings, print_json, say, stages


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path), metavar="OUT_DIR")
@loading_options
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def qparams(model: str, folder: Path, as_json: bool, debug: bool, **loading: Any) -> None:
    """Write MODEL as a bundle for ONE's q-implant.

    OUT_DIR, new or empty, gets model.circle in float, and the integers of its tensors in qparam.json and .npy files.
    Inputs and outputs are quantized there, so --io-dtype has no effect on them.
    """
    with stages() as stage:
        from ..format import must_be_free
        from ..pipeline import ExportedModel

        must_be_free(folder)
        exported = exported_model(model, stage, **loading)
        if not isinstance(exported, ExportedModel):
            raise click.UsageError(f"a bundle is of one model, not of methods: {', '.join(exported.methods)}")
        stage("write")
        bundle = exported.save_qparams(folder)
    summary: dict[str, Any] = {
        "folder": str(folder),
        "tensors": len(bundle.entries),
        "bytes": (folder / "model.circle").stat().st_size,
        "diagnostics": [vars(finding) for finding in (*exported.diagnostics(), *bundle.findings)],
    }
    if as_json:
        print_json(summary)
        return
    click.echo(f"{folder}: qparam.json for {summary['tensors']} tensors of model.circle, {summary['bytes']:,} bytes")
    print_findings(summary["diagnostics"])


@cli.command(context_settings=SETTINGS)
@click.argument("source", type=click.Path(path_type=Path), metavar="MODEL")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="QPARAM")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Runtime to write for; the suffix of OUTPUT tells the default.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def implant(source: Path, bundle: Path, output: Path, target: str | None, as_json: bool, debug: bool) -> None:
    """Put a q-implant bundle into a float MODEL.

    MODEL is a .circle or .tflite file, QPARAM the bundle's qparam.json, OUTPUT the quantized .circle or .tflite file.
    Inputs and outputs that the bundle names take and give integers.
    """
    with stages() as stage:
        from ..format import survey
        from ..implant import implant_qparams
        from ..overview import summary as summary_of
        from ..targets import target_for

        stage("implant")
        chosen = target_for(output, target)
        implanted = implant_qparams(source, bundle, output, chosen.name)
    summary = summary_of(survey(output)) | {
        "target": chosen.name,
        "implanted": implanted.count,
        "left": implanted.left,
        "diagnostics": [vars(finding) for finding in implanted.findings],
    }
    if as_json:
        print_json(summary)
        return
    click.echo(f"{one_line(str(output))}: {summary['bytes']:,} bytes for {chosen.name}")
    print_facts(summary, "inputs", "outputs", "operators", "weights")
    say("implanted", f"{implanted.count} tensors; without an entry, hence in float: {', '.join(implanted.left) or 'none'}")
    say("islands", f"{len(implanted.findings)} operator(s) in float between quantized ones")
