"""The command line: ``torch2circle MODEL OUTPUT``, and ``verify``, ``inspect``, ``qparams``, ``implant``, ``ops``.

Data goes to standard output, progress and errors to standard error. torch is imported only by the commands that need it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .errors import Bug, Torch2CircleError, VerifyFailed

if TYPE_CHECKING:
    from .ir import Graph
    from .methods import ExportedMethods
    from .pipeline import ExportedModel
    from .verify import Comparison, Report

F = TypeVar("F", bound=Callable[..., Any])
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
        from . import __version__

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


def _loading(command: F) -> F:
    """The options that tell how to get a model and its example inputs."""
    file = click.Path(path_type=Path)
    raised = "Raise the weight scale of a channel whose bias does not fit int32, or stop."
    options = [
        click.option("--input", "shapes", multiple=True, metavar="[NAME=]1x3x224x224[:DTYPE]", help="Shape of an example input, filled "
                     "with fixed random numbers. Repeat for more inputs."),
        click.option("--inputs", "sample", type=file, metavar="FILE", help="Example inputs from a .npz, .npy or .pt file."),
        click.option("--state", type=file, metavar="FILE", help="state_dict to load into the model that package.module:factory makes."),
        click.option("--trust-pickle", is_flag=True, help="Run the code in a pickled model. Only for files you made yourself."),
        click.option("--custom-op", "custom_ops", multiple=True, metavar="NS::OP[=CODE]", help="Write this PyTorch operator as a custom "
                     "one, for which the application brings the kernel. Repeat for more."),
        click.option("--dynamic-batch", is_flag=True, help="Take any size of the first dimension of all inputs."),
        click.option("--dynamic-shape", "dynamic_shapes", multiple=True, metavar="NAME=DIM[:SYMBOL],...", help="Take any size of these "
                     "dimensions of an input; those with the same symbol vary together. Repeat for more inputs."),
        click.option("--static-shapes", is_flag=True, help="Fix the sizes that an ExportedProgram leaves open, too."),
        click.option("--specialize", is_flag=True, help="Fix branches that depend on the input to the example's."),
        click.option("--io-layout", type=click.Choice(["torch", "nhwc"]), default="torch", show_default=True, help="Dimension order "
                     "of inputs and outputs of rank 4."),
        click.option("--io-dtype", "io_dtypes", multiple=True, metavar="NAME=uint8|int8", help="Leave quantizing this input, or "
                     "dequantizing this output, to the caller. Repeat for more."),
        click.option("--bias-overflow", type=click.Choice(["raise", "error"]), default="raise", show_default=True, help=raised),
        click.option("--dynamic", type=click.Choice(["hybrid", "dequantize", "exact"]), default="hybrid", show_default=True, help="Layers "
                     "with activations quantized at run time: the runtime's kernels, float on int8 weights, or PyTorch's own rounding."),
        click.option("--weights", type=click.Choice(["stored", "float16"]), default="stored", show_default=True, help="Weights as the "
                     "model has them, or those of linear layers and convolutions in float16 (LiteRT)."),
        click.option("--recurrent", type=click.Choice(["fused", "unrolled"]), default="fused", show_default=True, help="Sequence "
                     "operators where the runtime has right ones, or every time step on its own."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path), required=False, metavar="OUTPUT")
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Runtime to write for; the suffix of OUTPUT tells the default.")
@_loading
@click.option("--verify/--no-verify", default=True, show_default=True, help="Run the file in its runtime, if installed, and compare.")
@click.option("--explain", type=click.Path(path_type=Path), metavar="DIR", help="Write every stage as text into DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def export(
    model: str, output: Path | None, target: str | None, verify: bool, explain: Path | None, as_json: bool, debug: bool, **loading: Any
) -> None:
    """Export MODEL to OUTPUT (.circle or .tflite).

    MODEL is a file from torch.save, torch.jit.save or torch.export.save, or package.module:factory. A factory may also give several
    methods, {"name": (model.method, args)}, for one .tflite file.
    """
    if output is None:
        stem = Path(model.partition(":")[0]).stem
        raise click.UsageError(f"no output file: torch2circle {model} {stem}.circle (for onert) or {stem}.tflite (for LiteRT)")
    with _stages() as stage:
        from .runtimes import available
        from .targets import target_for

        chosen = target_for(output, target)
        exported = _export(model, stage, **loading)
        if explain:
            exported.explain(explain, chosen.name)
        stage("legalize")
        graphs = exported.for_target(chosen)
        stage("write")
        size = exported.save(output, chosen.name)
        report = None
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
    if as_json:
        click.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(summary, why)
    _fail_if_wrong(report)


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Target FILE was written for; its suffix tells the default.")
@_loading
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def verify(model: str, file: Path, target: str | None, as_json: bool, debug: bool, **loading: Any) -> None:
    """Run FILE in its runtime and compare with MODEL.

    End to end it is FILE that runs. The operators are those of a fresh export of MODEL, each fed with PyTorch's own values;
    a FILE with another content must come as close to PyTorch as that one.
    """
    with _stages() as stage:
        from .format import read
        from .targets import target_for

        chosen = target_for(file, target)
        read(file)
        exported = _export(model, stage, **loading)
        stage(f"verify in {chosen.runtime}")
        report = exported.verify(chosen.name, file)
    if as_json:
        unverified = {"unverified": list(report.unverified)} if report.unverified else {}
        tables = {"outputs": [_row(c) for c in report.outputs], "operators": [_row(c) for c in report.operators]}
        click.echo(json.dumps(tables | unverified, indent=2))
    else:
        click.echo(_comparison_table(report))
        if report.unverified:
            _say("not verified", f"{chosen.runtime} has no kernel for {', '.join(report.unverified)}, so the file was not run")
        for c in report.outputs:
            _say(f"output {c.name}", f"{c.share:.2%} bit-equal, largest difference {c.lsb:g} LSB, SQNR {c.sqnr:.1f} dB")
    _fail_if_wrong(report)


@cli.command(context_settings=SETTINGS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def inspect(file: Path, as_json: bool, debug: bool) -> None:
    """Show what is in a .circle or .tflite FILE, whoever wrote it."""
    from .format import read
    from .show import describe

    contents = read(file)
    facts = describe(contents, file)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    _print_facts(facts, "file", "identifier", "version", "description", "bytes")
    for name, graph in contents.graphs.items():
        if len(contents.graphs) > 1:
            click.echo(f"\n{name}")
        _print_facts(facts.get("methods", {name: facts})[name], "inputs", "outputs", "operators", "weights")
        click.echo(f"\n{graph}", nl=False)


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path), metavar="OUT_DIR")
@_loading
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def qparams(model: str, folder: Path, as_json: bool, debug: bool, **loading: Any) -> None:
    """Write MODEL as a bundle for ONE's q-implant.

    OUT_DIR, new or empty, gets model.circle in float, and the integers of its tensors in qparam.json and .npy files.
    Inputs and outputs are quantized there, so --io-dtype has no effect on them.
    """
    with _stages() as stage:
        from .implant import must_be_free
        from .pipeline import ExportedModel

        must_be_free(folder)
        exported = _export(model, stage, **loading)
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
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(f"{folder}: qparam.json for {summary['tensors']} tensors of model.circle, {summary['bytes']:,} bytes")
    _print_findings(summary["diagnostics"])


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
    with _stages() as stage:
        from .format import read
        from .implant import implant_qparams
        from .show import describe
        from .targets import target_for

        stage("implant")
        chosen = target_for(output, target)
        implanted = implant_qparams(source, bundle, output, chosen.name)
    summary = describe(read(output), output) | {
        "target": chosen.name,
        "implanted": implanted.count,
        "left": implanted.left,
        "diagnostics": [vars(finding) for finding in implanted.findings],
    }
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(f"{output}: {summary['bytes']:,} bytes for {chosen.name}")
    _print_facts(summary, "inputs", "outputs", "operators", "weights")
    _say("implanted", f"{implanted.count} tensors; without an entry, hence in float: {', '.join(implanted.left) or 'none'}")
    _say("islands", f"{len(implanted.findings)} operator(s) in float between quantized ones")


@cli.command(context_settings=SETTINGS)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def ops(as_json: bool, debug: bool) -> None:
    """List the supported operators.

    First PyTorch's and how each target computes them, with the largest difference measured; then those on quantized
    tensors that have no lowering; then the file's and what the runtimes do with them. docs/support.md explains the words.
    """
    from .show import columns, file_rows, refused_rows, support_rows

    if as_json:
        tables = {"lowered": support_rows(), "refused": refused_rows(), "measured": file_rows()}
        click.echo(json.dumps(tables, indent=2))
        return
    click.echo(columns([("PyTorch operator", "operands", "onert", "LiteRT"), *support_rows()], None))
    click.echo()
    click.echo(columns([("without a lowering", "why"), *refused_rows()], _width()))
    click.echo()
    click.echo(columns([("file operator", "onert", "LiteRT"), *file_rows()], None))


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns every error into a message and its exit code.

    Args:
        args: the command line without the program's name; None takes the process's own.

    Raises:
        SystemExit: with an error's own exit code, 0 without one, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in argv
    warnings.filterwarnings("default" if debug else "ignore")
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("torch2circle").setLevel(logging.DEBUG if debug else logging.ERROR)
    try:
        result = cli.main(argv, prog_name="torch2circle", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        _exit(130, "interrupted: no file was left half written")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        ours = error if isinstance(error, Torch2CircleError) else Bug(f"{type(error).__name__}: {error}")
        _exit(ours.exit_code, f"{click.style('error:', fg='red', bold=True)} {click.unstyle(str(ours))}")
    sys.exit(result if isinstance(result, int) else 0)  # an int is how click hands on what --help and --version exit with


def _exit(code: int, message: str) -> None:
    click.echo(message, err=True)
    sys.exit(code)


@contextmanager
def _stages() -> Iterator[Callable[[str], None]]:
    """Show the stage that runs, with a spinner on a terminal and not at all in a pipe."""
    if not sys.stderr.isatty():
        yield logging.getLogger(__name__).debug
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("import torch") as status:
        yield lambda stage: status.update(escape(stage))


def _export(model: str, stage: Callable[[str], None], **loading: Any) -> ExportedModel | ExportedMethods:
    shapes, sample, state, trust_pickle = (loading.pop(name) for name in ("shapes", "sample", "state", "trust_pickle"))
    if shapes and sample:
        raise click.UsageError("give --input or --inputs, not both")
    from .loading import load
    from .methods import export_many
    from .pipeline import export as export_model

    args, kwargs = _example(shapes, sample)
    stage("load")
    loaded = load(model, trust_pickle=trust_pickle, state=state)
    io_dtypes = dict(_named(text) for text in loading.pop("io_dtypes"))
    named = (text.rpartition("=") for text in loading.pop("custom_ops"))
    custom_ops = {op or code: code for op, _, code in named}
    shapes_open = _open_shapes(loading["dynamic_batch"], loading.pop("dynamic_shapes"), loading.pop("static_shapes"))
    options = {"progress": stage, "io_dtypes": io_dtypes, "custom_ops": custom_ops, "dynamic_shapes": shapes_open, **loading}
    if not isinstance(loaded, Mapping):
        return export_model(loaded, args, kwargs, **options)
    if shapes or sample:
        raise click.UsageError(f"{model} gives several methods with their inputs; --input and --inputs are for one model")
    return export_many(loaded, **options)


def _open_shapes(batch: bool, texts: Sequence[str], static: bool) -> dict[str, dict[int, str]] | None:
    """``dynamic_shapes`` of an export from ``x=0:batch,2``."""
    if batch + bool(texts) + static > 1:
        raise click.UsageError("give one of --dynamic-batch, --dynamic-shape and --static-shapes")
    if not texts:
        return {} if static else None
    found: dict[str, dict[int, str]] = {}
    for text in texts:
        name, equals, dims = text.partition("=")
        parts = [re.fullmatch(r"(\d+)(?::([A-Za-z_]\w*))?", part) for part in dims.split(",")]
        if not equals or not all(parts):
            raise click.UsageError(f"--dynamic-shape takes NAME=DIM or NAME=DIM:SYMBOL, several dimensions by commas: {text}")
        found.setdefault(name, {}).update({int(part[1]): part[2] or f"{name}.{part[1]}" for part in parts if part})
    return found


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals:
        raise click.UsageError(f"--io-dtype takes NAME=uint8 or NAME=int8: {text}")
    return name, value


def _example(shapes: Sequence[str], sample: Path | None) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    from .loading import load_inputs, parse_input

    if sample:
        return load_inputs(sample)
    if not shapes:
        return None, None
    parsed = [parse_input(text, seed=i) for i, text in enumerate(shapes)]
    return tuple(tensor for name, tensor in parsed if name is None), {name: tensor for name, tensor in parsed if name is not None}


def _summary(
    exported: ExportedModel | ExportedMethods, graphs: Sequence[Graph], target: str, output: Path, size: int, report: Report | None
) -> dict[str, Any]:
    from .show import counted, weight_bytes

    diagnostics = exported.diagnostics(target)
    verified = None
    if report is not None:
        worst = report.worst.lsb if report.worst else 0
        verified = {
            "runtime": report.runtime, "equal": report.share, "lsb": report.lsb, "operator_lsb": worst, "seconds": report.seconds,
            "unverified": list(report.unverified),
        }  # fmt: skip
    return {
        "file": str(output),
        "target": target,
        "bytes": size,
        "operators": counted(*graphs),
        "weights": weight_bytes(*graphs),
        "islands": sum(1 for finding in diagnostics if finding.code == "island"),
        "diagnostics": [vars(finding) for finding in diagnostics],
        "verified": verified,
    }


def _print_summary(summary: dict[str, Any], why_not_verified: str) -> None:
    operators, done = summary["operators"], summary["verified"]
    click.echo(f"{summary['file']}: {summary['bytes']:,} bytes for {summary['target']}")
    _say("operators", f"{sum(operators.values())}: " + ", ".join(f"{count} {op}" for op, count in operators.items()))
    _say("weights", ", ".join(f"{name} {size:,} bytes" for name, size in summary["weights"].items()) or "none")
    _say("islands", f"{summary['islands']} operator(s) in float between quantized ones")
    _print_findings(summary["diagnostics"])
    if done is None:
        _say("verified", f"no: {why_not_verified}")
        return
    if done["unverified"]:
        without = f"{done['runtime']} has no kernel for {', '.join(done['unverified'])}, so the file was not run"
        _say("verified", f"in part: {without}; the other operators one by one at most {done['operator_lsb']:g} LSB")
        return
    text = f"in {done['runtime']}: {done['equal']:.2%} of outputs bit-equal, largest difference {done['lsb']:g} LSB; "
    _say("verified", f"{text}operator by operator at most {done['operator_lsb']:g} LSB; {done['seconds']:.3f} s a run")


def _print_findings(findings: Sequence[dict[str, Any]]) -> None:
    for finding in findings:
        if finding["code"] != "island":
            _say(finding["severity"], f"{finding['code']} in {finding['path']}: {finding['message']}")


def _print_facts(facts: dict[str, Any], *keys: str) -> None:
    for key in keys:
        value = facts[key]
        _say(key, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))


def _fail_if_wrong(report: Report | None) -> None:
    """An operator more than one step off is a wrong file, however small the difference looks at the end."""
    if report is not None and not report.ok() and report.worst is not None:
        worst = report.worst
        message = f"{worst.op} {worst.name} is off by {worst.lsb:g} LSB in {report.runtime}, {1 - worst.share:.2%} of its outputs differ"
        raise VerifyFailed(message, where=worst.where, hint="the file was kept; `torch2circle verify` lists every operator")


def _comparison_table(report: Report) -> str:
    from .show import columns

    def place(c: Comparison) -> str:
        return f"{Path(c.where.file).name}:{c.where.line}" if c.where.file else ""

    rows = [(c.op, f"{c.share:.2%}", f"{c.lsb:g}", f"{c.sqnr:.1f}", place(c), c.name) for c in report.operators]
    return columns([("operator", "equal", "LSB", "SQNR dB", "source", "tensor"), *rows], _width())


def _row(c: Comparison) -> dict[str, Any]:
    row = {"op": c.op, "name": c.name, "size": c.size, "equal": c.share, "lsb": c.lsb, "sqnr": c.sqnr}
    return row | {"module": c.where.module, "file": c.where.file, "line": c.where.line}


def _say(label: str, text: str) -> None:
    from .show import labelled

    click.echo(labelled(label, text, _width()))


def _width() -> int | None:
    """Of the terminal; None in a pipe, where nothing may be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
