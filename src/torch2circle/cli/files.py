"""``torch2circle diff``, ``convert`` and ``view``: model files, whoever wrote them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

from ..errors import MissingRuntime, UserError
from ..text import one_line
from .group import SETTINGS, TARGET_NAMES, cli
from .terminal import print_json, say

SECTIONS = ["topology", "types", "quantization", "weights", "signatures", "metadata"]


@cli.command(context_settings=SETTINGS)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--ignore", multiple=True, type=click.Choice(SECTIONS), help="Do not compare this; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def diff(a: Path, b: Path, ignore: tuple[str, ...], as_json: bool, debug: bool) -> None:
    """Show how two .circle or .tflite files differ.

    Operators, types, scales, weights (how far, in steps of the scale), names and metadata, each by itself. The exit code
    is 0 if there is no difference, 1 if there is one. uint8 and int8, 128 apart, are the same.
    """
    from ..difference import diff as difference_of
    from ..overview import plain

    difference = difference_of(a, b).without(*ignore)
    if as_json:
        print_json(plain(difference.as_dict()))
    else:
        click.echo(str(difference))
    if difference:
        raise click.exceptions.Exit(1)


@cli.command(context_settings=SETTINGS)
@click.argument("source", type=click.Path(path_type=Path), metavar="FILE")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Runtime to write for; the suffix of OUTPUT tells the default.")
@click.option("--method", metavar="KEY", help="The signature to convert, where FILE has several.")
@click.option("--keep", is_flag=True, help="Write the same tables as they are, whether or not a runtime gets them right.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def convert(source: Path, output: Path, target: str | None, method: str | None, keep: bool, as_json: bool, debug: bool) -> None:
    """Write a .tflite FILE as .circle, or a .circle FILE as .tflite.

    8-bit tensors get the type that the target has kernels for, which moves integers and zero points by 128 and no real
    value. What the target would refuse or get wrong is refused, all of it at once. What the new file lacks is listed.
    """
    from ..conversion import convert as converted_to

    if keep and method is not None:
        raise click.UsageError("--keep writes the whole file, --method a part of it")
    made = converted_to(source, output, target, keep=keep, method=method)
    if as_json:
        facts = {"file": str(output), "target": made.target, "bytes": made.size, "kept": keep}
        print_json(facts | {"losses": [vars(f) for f in made.losses], "findings": [vars(f) for f in made.findings]})
        return
    click.echo(f"{one_line(str(output))}: {made.size:,} bytes for {made.target}" + (", as the tables were" if keep else ""))
    for finding in made.findings:
        say("loss" if finding in made.losses else finding.severity, f"{finding.code} in {finding.path}: {finding.message}")
    if not made.losses:
        say("losses", "none")


@cli.command(context_settings=SETTINGS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), help="Serve at this port; Netron takes a free one otherwise.")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page, or only say where it is.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def view(file: Path, port: int | None, browser: bool, debug: bool) -> None:
    """Show FILE in Netron, in the browser, until Ctrl-C."""
    from ..format import survey

    survey(file)  # what Netron would make of anything else is its own guess
    if importlib.util.find_spec("netron") is None:
        raise MissingRuntime("Netron is not installed", hint='pip install "torch2circle[view]"')
    import netron

    try:
        host, found = netron.start(str(file), address=("localhost", port) if port else None, browse=browser)
    except OSError as error:
        raise UserError(f"Netron cannot serve {file}: {error.strerror or error}", hint="choose another --port") from error
    click.echo(f"http://{host}:{found} shows {file}; Ctrl-C ends it", err=True)
    netron.wait()
