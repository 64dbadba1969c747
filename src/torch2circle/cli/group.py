"""The command group: a first word that is no command is the model of an export."""

from __future__ import annotations

import click

SETTINGS = {"help_option_names": ["-h", "--help"]}
TARGET_NAMES = ["onert", "litert", "one"]


class _ExportByDefault(click.Group):
    """A first word that is no command is the model of an export."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "-h", "--version"):
            args = ["export", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write("Usage: torch2circle MODEL OUTPUT [OPTIONS]\n       torch2circle COMMAND [ARGS]...\n")


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from .. import __version__

        click.echo(f"torch2circle {__version__}")
        ctx.exit()


@click.group(cls=_ExportByDefault, context_settings=SETTINGS)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version and exit.")
def cli() -> None:
    """Export an already quantized PyTorch model to a .circle (onert) or .tflite (LiteRT) file that computes the same integers.

    \b
    torch2circle model.pt model.circle --input 1x3x224x224
    torch2circle export --help        all options of the export

    A model file that is called like a command is given as ./ops.
    """
