"""``torch2circle inspect FILE``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .group import SETTINGS, cli
from .terminal import print_facts


@cli.command(context_settings=SETTINGS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def inspect(file: Path, as_json: bool, debug: bool) -> None:
    """Show what is in a .circle or .tflite FILE, whoever wrote it."""
    from ..format import read
    from ..show import describe

    contents = read(file)
    facts = describe(contents, file)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    print_facts(facts, "file", "identifier", "version", "description", "bytes")
    for name, graph in contents.graphs.items():
        if len(contents.graphs) > 1:
            click.echo(f"\n{name}")
        print_facts(facts.get("methods", {name: facts})[name], "inputs", "outputs", "operators", "weights")
        click.echo(f"\n{graph}", nl=False)
