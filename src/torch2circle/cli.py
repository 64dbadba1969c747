"""The command line: ``torch2circle MODEL OUTPUT``, and ``verify``, ``inspect``, ``ops``.

Data goes to standard output, progress and errors to standard error. torch is imported only by the commands that need it.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from .errors import Torch2CircleError, VerifyFailed

if TYPE_CHECKING:
    from .ir import Finding
    from .pipeline import ExportedModel
    from .verify import Report

F = TypeVar("F", bound=Callable[..., Any])

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class _ExportByDefault(click.Group):
    """A first word that is no command is the model of an export."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "-h", "--version"):
            args = ["export", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage("torch2circle", "MODEL OUTPUT [OPTIONS]\n       torch2circle COMMAND [ARGS]...")


@click.group(cls=_ExportByDefault, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="torch2circle")
def cli() -> None:
    """Export an already quantized PyTorch model to a .circle (onert) or .tflite (LiteRT) file that computes the same integers.

    \b
    torch2circle model.pt model.circle --input 1x3x224x224
    torch2circle export --help        all options of the export
    """


def _loading(command: F) -> F:
    """The options that tell how to get a model and its example inputs."""
    for option in reversed(
        [
            click.option("--input", "shapes", multiple=True, metavar="[NAME=]1x3x224x224[:DTYPE]", help="Shape of an example input, filled with fixed random numbers. Repeat for more inputs."),
            click.option("--inputs", "sample", type=click.Path(path_type=Path), metavar="FILE", help="Example inputs from a .npz, .npy or .pt file."),
            click.option("--state", type=click.Path(path_type=Path), metavar="FILE", help="state_dict to load into the model that package.module:factory makes."),
            click.option("--trust-pickle", is_flag=True, help="Run the code in a pickled model. Only for files you made yourself."),
            click.option("--specialize", is_flag=True, help="Fix branches that depend on the input to the example's."),
            click.option("--io-layout", type=click.Choice(["torch", "nhwc"]), default="torch", show_default=True, help="Dimension order of inputs and outputs of rank 4."),
            click.option("--bias-overflow", type=click.Choice(["raise", "error"]), default="raise", show_default=True, help="Raise the weight scale of a channel whose bias does not fit, or stop."),
        ]
    ):
        command = option(command)
    return command


@cli.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(["onert", "litert", "one"]), help="Runtime to write for; the suffix of OUTPUT tells the default.")
@_loading
@click.option("--verify/--no-verify", default=True, show_default=True, help="Run the file in the target's runtime, if that is installed, and compare.")
@click.option("--explain", type=click.Path(path_type=Path), metavar="DIR", help="Write every stage as text into DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def export(model: str, output: Path, target: str | None, verify: bool, explain: Path | None, as_json: bool, debug: bool, **loading: Any) -> None:
    """Export MODEL to OUTPUT (.circle or .tflite).

    MODEL is a file from torch.save, torch.jit.save or torch.export.save, or package.module:factory.
    """
    with _stages() as stage:
        from .runtimes import available
        from .targets import target_for

        chosen = target_for(output, target)
        exported = _export(model, stage, **loading)
        stage("legalize")
        graph = exported.for_target(chosen)
        if explain:
            exported.explain(explain, chosen.name)
        stage("write")
        size = exported.save(output, chosen.name)
        report = None
        if verify and chosen.runtime and available(chosen.runtime):
            stage(f"verify in {chosen.runtime}")
            report = exported.verify(chosen.name, output)
    summary = _summary(exported, graph, chosen.name, output, size, report)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(summary, exported.diagnostics(chosen.name))
        if report is None:
            why = "not asked for" if not verify else "no runtime for this target" if not chosen.runtime else f'{chosen.runtime} is not installed: pip install "torch2circle\\[verify]"'
            out.print(f"  verified     no: {why}")
    _fail_if_wrong(report)


@cli.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(["onert", "litert", "one"]), help="Target FILE was written for; its suffix tells the default.")
@_loading
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def verify(model: str, file: Path, target: str | None, as_json: bool, debug: bool, **loading: Any) -> None:
    """Run FILE in its runtime and compare it with MODEL, end to end and operator by operator."""
    with _stages() as stage:
        from .format import read
        from .targets import target_for

        chosen = target_for(file, target)
        read(file)
        exported = _export(model, stage, **loading)
        stage(f"verify in {chosen.runtime}")
        report = exported.verify(chosen.name, file)
    if as_json:
        click.echo(json.dumps({"outputs": [_row(c) for c in report.outputs], "operators": [_row(c) for c in report.operators]}, indent=2))
    else:
        out.print(_comparison_table(report))
        out.print(_verdict(report))
    _fail_if_wrong(report)


@cli.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def inspect(file: Path, as_json: bool, debug: bool) -> None:
    """Show what is in a .circle or .tflite FILE, whoever wrote it."""
    from .format import read
    from .show import describe

    contents = read(file)
    if as_json:
        click.echo(json.dumps(describe(contents, file), indent=2))
        return
    facts = describe(contents, file)
    for key in ("file", "identifier", "version", "description", "bytes", "inputs", "outputs", "operators", "weights"):
        value = facts[key]
        out.print(f"{key:12} {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}", markup=False)
    click.echo()
    click.echo(str(contents.graph), nl=False)


@cli.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def ops(as_json: bool, debug: bool) -> None:
    """List the PyTorch operators that can be exported, and what the runtimes do with the file's operators."""
    from .show import support_rows

    lowered, measured = support_rows()
    if as_json:
        click.echo(json.dumps({"lowered": lowered, "measured": measured}, indent=2))
        return
    table = Table("PyTorch operator", "lowered by", "on quantized tensors")
    for row in lowered:
        table.add_row(*row)
    out.print(table)
    table = Table("file operator", "onert", "LiteRT")
    for row in measured:
        table.add_row(*row)
    out.print(table)


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns every error into a message and its exit code."""
    argv = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in argv
    warnings.filterwarnings("default" if debug else "ignore")
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s")
    try:
        cli.main(argv, prog_name="torch2circle", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except (KeyboardInterrupt, click.Abort):
        err.print("interrupted: nothing was written")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Torch2CircleError as error:
        if debug:
            raise
        err.print(f"[bold red]error:[/] {click.unstyle(str(error)).replace('[', chr(92) + '[')}")
        sys.exit(error.exit_code)


@contextmanager
def _stages() -> Iterator[Callable[[str], None]]:
    """Show the stage that runs, with a spinner on a terminal and not at all in a pipe."""
    with err.status("import torch") as status:
        yield lambda stage: status.update(stage)


def _export(model: str, stage: Callable[[str], None], shapes: Sequence[str], sample: Path | None, state: Path | None, trust_pickle: bool, **options: Any) -> ExportedModel:
    from .loading import load
    from .pipeline import export as export_model

    stage("load")
    loaded = load(model, trust_pickle=trust_pickle, state=state)
    args, kwargs = _example(shapes, sample)
    return export_model(loaded, args, kwargs, progress=stage, **options)


def _example(shapes: Sequence[str], sample: Path | None) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    from .loading import load_inputs, parse_input

    if shapes and sample:
        raise click.UsageError("give --input or --inputs, not both")
    if sample:
        return load_inputs(sample)
    if not shapes:
        return None, None
    parsed = [parse_input(text, seed=i) for i, text in enumerate(shapes)]
    return tuple(tensor for name, tensor in parsed if name is None), {name: tensor for name, tensor in parsed if name is not None}


def _summary(exported: ExportedModel, graph: Any, target: str, output: Path, size: int, report: Report | None) -> dict[str, Any]:
    from .show import counted, weight_bytes

    diagnostics = exported.diagnostics(target)
    return {
        "file": str(output),
        "target": target,
        "bytes": size,
        "operators": counted(graph),
        "weights": weight_bytes(graph),
        "islands": sum(1 for finding in diagnostics if finding.code == "island"),
        "diagnostics": [vars(finding) for finding in diagnostics],
        "verified": None if report is None else {"runtime": report.runtime, "equal": report.share, "lsb": report.lsb, "operator_lsb": report.worst.lsb if report.worst else 0, "seconds": report.seconds},
    }


def _print_summary(summary: dict[str, Any], diagnostics: Sequence[Finding]) -> None:
    operators = summary["operators"]
    weights = ", ".join(f"{name} {size:,} bytes" for name, size in summary["weights"].items()) or "none"
    out.print(f"{summary['file']}: {summary['bytes']:,} bytes for {summary['target']}", markup=False)
    out.print(f"  operators    {sum(operators.values())}: " + ", ".join(f"{count} {op}" for op, count in operators.items()))
    out.print(f"  weights      {weights}")
    out.print(f"  islands      {summary['islands']} operator(s) in float between quantized ones")
    notable = [finding for finding in diagnostics if finding.code != "island"]
    for finding in notable:
        out.print(f"  {finding}", markup=False)
    if (done := summary["verified"]) is not None:
        out.print(
            f"  verified     in {done['runtime']}: {done['equal']:.2%} of outputs bit-equal, largest difference {done['lsb']:g} LSB; "
            f"operator by operator at most {done['operator_lsb']:g} LSB; {done['seconds']:.3f} s a run"
        )


def _fail_if_wrong(report: Report | None) -> None:
    """An operator more than one step off is a wrong file, however small the difference looks at the end."""
    if report is not None and not report.ok() and report.worst is not None:
        worst = report.worst
        message = f"{worst.op} {worst.name} is off by {worst.lsb:g} LSB in {report.runtime}, {1 - worst.share:.2%} of its outputs differ"
        raise VerifyFailed(message, where=worst.where, hint="the file was kept; `torch2circle verify` lists every operator")


def _comparison_table(report: Report) -> Table:
    table = Table("operator", "tensor", "elements", "bit-equal", "max LSB", "SQNR dB", "where")
    for c in report.operators:
        table.add_row(c.op, c.name, f"{c.size:,}", f"{c.share:.3%}", f"{c.lsb:g}", f"{c.sqnr:.1f}", str(c.where))
    return table


def _verdict(report: Report) -> str:
    lines = [f"output {c.name}: {c.share:.2%} bit-equal, largest difference {c.lsb:g} LSB, SQNR {c.sqnr:.1f} dB" for c in report.outputs]
    return "\n".join(lines)


def _row(c: Any) -> dict[str, Any]:
    return {"op": c.op, "name": c.name, "size": c.size, "equal": c.share, "lsb": c.lsb, "sqnr": c.sqnr, "module": c.where.module, "file": c.where.file, "line": c.where.line}



