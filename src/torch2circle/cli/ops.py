"""``torch2circle ops``."""

from __future__ import annotations

import click

from .group import SETTINGS, cli
from .terminal import print_json, width


@cli.command(context_settings=SETTINGS)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def ops(as_json: bool, debug: bool) -> None:
    """List the supported operators.

    First PyTorch's and how each target computes them, with the largest difference measured; then those on quantized
    tensors that have no lowering; then the file's and what the runtimes do with them. docs/support.md explains the words.
    """
    from ..show import columns, file_rows, refused_rows, support_rows

    if as_json:
        tables = {"lowered": support_rows(), "refused": refused_rows(), "measured": file_rows()}
        print_json(tables)
        return
    click.echo(columns([("PyTorch operator", "operands", "onert", "LiteRT"), *support_rows()], None))
    click.echo()
    click.echo(columns([("without a lowering", "why"), *refused_rows()], width()))
    click.echo()
    click.echo(columns([("file operator", "onert", "LiteRT"), *file_rows()], None))
