"""``torch2circle verify MODEL FILE`` and ``torch2circle verify FILE FILE``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import VerifyFailed
from .group import SETTINGS, TARGET_NAMES, cli
from .model import exported_model, sampled_options
from .terminal import print_json, say, stages, width

if TYPE_CHECKING:
    from ..verify import Comparison, FilesReport, Limits, Report

FILES = (".circle", ".tflite")


@cli.command(context_settings=SETTINGS)
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Target FILE was written for; its suffix tells the default.")
@sampled_options
@click.option("--samples", type=click.IntRange(0), default=0, metavar="N", help="Compare on N random inputs more, of the shapes, types and "
              "ranges of the example.")  # fmt: skip
@click.option("--max-lsb", type=click.FloatRange(0), default=1, show_default=True, help="How far an operator may be off.")
@click.option("--min-sqnr", type=float, metavar="DB", help="The least SQNR of an operator.")
@click.option("--min-equal", type=click.FloatRange(0, 100), metavar="PERCENT", help="The least share of an operator's elements that is "
              "bit-equal.")  # fmt: skip
@click.option("--max-output-lsb", type=click.FloatRange(0), help="How far an output may be off, end to end.")
@click.option("--min-output-sqnr", type=float, metavar="DB", help="The least SQNR of an output, end to end.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=600, show_default=True, metavar="SECONDS", help="How long a "
              "run of the file may take.")  # fmt: skip
@click.option("--junit", type=click.Path(path_type=Path), metavar="XML", help="Write the comparison as JUnit XML, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.option("--debug", is_flag=True, help="Log what happens, and show tracebacks.")
def verify(
    model: str,
    file: Path,
    target: str | None,
    samples: int,
    max_lsb: float,
    min_sqnr: float | None,
    min_equal: float | None,
    max_output_lsb: float | None,
    min_output_sqnr: float | None,
    timeout: float,
    junit: Path | None,
    as_json: bool,
    debug: bool,
    **loading: Any,
) -> None:
    """Run FILE in its runtime and compare with MODEL.

    Every tensor is compared twice: end to end, and with each operator of FILE fed with PyTorch's own values. An operator fails that is too
    far off, or that has other weights, scales or options than MODEL says. The first one that fails is named with its line in MODEL, and
    for what differs the reason is.

    MODEL may be a .circle or .tflite file, too: both files then run on the same inputs, and their outputs are compared and the tensors that
    both call alike. Without --inputs these are random.
    """
    from ..verify import Limits

    share = None if min_equal is None else min_equal / 100
    limits = Limits(max_lsb, min_sqnr, share, max_output_lsb, min_output_sqnr)
    inputs = loading.pop("sample")
    if Path(model).suffix in FILES:
        _files(Path(model), file, inputs, samples, timeout, limits, junit, as_json, {"--target": target, **loading})
        return
    with stages() as stage:
        from ..format import read
        from ..targets import target_for

        chosen = target_for(file, target)
        read(file)
        exported = exported_model(model, stage, sample=inputs[0] if inputs else None, **loading)
        stage(f"verify in {chosen.runtime}")
        report = _report(exported, chosen.name, file, inputs[1:], samples, timeout)
    suites = {"operators": [(c, limits.broken_by(c)) for c in report.operators]}
    suites["outputs"] = [(c, limits.broken_end_to_end(c)) for c in report.outputs]
    _write_junit(junit, f"{file.name} in {report.runtime}", suites)
    if as_json:
        print_json(_tables(report))
    else:
        _print(report, limits)
    fail_if_wrong(report, limits)


def _report(exported: Any, target: str, file: Path, more: Sequence[Path], samples: int, timeout: float) -> Report:
    from ..loading import load_inputs

    if not hasattr(exported, "methods"):
        report: Report = exported.verify(target, file, inputs=[load_inputs(path) for path in more], random=samples, timeout=timeout)
        return report
    if more or samples:
        raise click.UsageError("a model of several methods brings their inputs; --inputs and --samples are for one model")
    methods: Report = exported.verify(target, file, timeout=timeout)
    return methods


def fail_if_wrong(report: Report | None, limits: Limits | None = None) -> None:
    """An operator more than one step off is a wrong file, however small the difference looks at the end."""
    from ..verify import Limits

    if report is None:
        return
    limits, hint = limits or Limits(), "the file was kept; `torch2circle verify` lists every operator"
    if (first := report.first_wrong(limits)) is not None:
        what = f"{first.op} {first.name}"
        if first.differs:
            message = f"{what} is not the model's: {'; '.join(first.differs)}"
            if first.size and first.lsb:
                message += f"; in {report.runtime} it is off by {first.lsb:g} LSB, {1 - first.share:.2%} of its elements differ"
        elif first.lsb > limits.lsb:
            message = f"{what} is off by {first.lsb:g} LSB in {report.runtime}, {1 - first.share:.2%} of its outputs differ"
        else:
            message = f"{what} in {report.runtime}: {'; '.join(limits.broken_by(first))}"
        if not first.differs and first.reason:
            message += f" ({first.reason})"
        if report.failed:
            message += f"\n{report.failed}"
        raise VerifyFailed(message, where=first.where, hint=hint)
    for c in report.outputs:
        if broken := limits.broken_end_to_end(c):
            raise VerifyFailed(f"output {c.name} in {report.runtime}: {'; '.join(broken)}", hint="each operator alone keeps its limits")


def _print(report: Report, limits: Limits) -> None:
    click.echo(_comparison_table(report))
    for c in report.operators:
        for said in c.differs:
            say("differs", f"{c.op} {c.name}: {said}")
    if report.unverified:
        say("not verified", f"{report.runtime} has no kernel for {', '.join(report.unverified)}, so the file was not run")
    if report.unaligned:
        say("operators", f"of a fresh export: {report.unaligned}")
    if report.samples > 1:
        say("samples", str(report.samples))
    for c in report.outputs:
        say(f"output {c.name}", f"{c.share:.2%} bit-equal, largest difference {c.lsb:g} LSB, SQNR {c.sqnr:.1f} dB")


def _comparison_table(report: Report) -> str:
    from ..show import columns

    whole = {c.name: c for c in report.tensors}
    rows = [
        (c.op, f"{c.share:.2%}", f"{c.lsb:g}", f"{c.sqnr:.1f}", f"{whole[c.name].lsb:g}" if c.name in whole else "",
         "differs from the model" if c.differs else c.reason, _place(c), c.name)
        for c in report.operators
    ]  # fmt: skip
    return columns([("operator", "equal", "LSB", "SQNR dB", "end to end", "reason", "source", "tensor"), *rows], width())


def _place(c: Comparison) -> str:
    return f"{Path(c.where.file).name}:{c.where.line}" if c.where.file else ""


def _tables(report: Report) -> dict[str, Any]:
    whole = {c.name: c for c in report.tensors}
    operators = [_row(c) | {"end_to_end": _numbers(whole[c.name]) if c.name in whole else None} for c in report.operators]
    tables: dict[str, Any] = {"runtime": report.runtime, "samples": report.samples, "outputs": [_row(c) for c in report.outputs]}
    tables |= {"operators": operators}
    said = {"unverified": list(report.unverified), "unaligned": report.unaligned, "failed": report.failed}
    return tables | {key: value for key, value in said.items() if value}


def _numbers(c: Comparison) -> dict[str, Any]:
    """JSON has no infinities: what is bit-equal has no SQNR, and what could not be run no largest difference."""
    return {"equal": c.share, **{key: value if isfinite(value) else None for key, value in (("lsb", c.lsb), ("sqnr", c.sqnr))}}


def _row(c: Comparison) -> dict[str, Any]:
    row = {"op": c.op, "name": c.name, "size": c.size} | _numbers(c)
    return row | {"reason": c.reason, "differs": list(c.differs), "module": c.where.module, "file": c.where.file, "line": c.where.line}


def _write_junit(path: Path | None, name: str, suites: Mapping[str, Sequence[tuple[Comparison, Sequence[str]]]]) -> None:
    if path is not None:
        from ..junit import write
        from ..verify.junit import case

        write({f"{name}: {kind}": [case(*row) for row in rows] for kind, rows in suites.items()}, path)


# ---- two files


def _files(
    first: Path, second: Path, inputs: Sequence[Path], samples: int, timeout: float, limits: Limits, junit: Path | None, as_json: bool,
    loading: Mapping[str, Any],
) -> None:  # fmt: skip
    defaults = {param.name: param.default for param in verify.params}
    given = [name for name, value in loading.items() if name != "--target" and value and value != defaults.get(name)]
    if loading["--target"] or given:
        raise click.UsageError("two files are compared as they are: options that tell how to export a model do not apply")
    with stages() as stage:
        from ..verify.files import compare_files

        stage("run both")
        report = compare_files(first, second, [_arrays(path) for path in inputs], samples, timeout)
    broken = report.broken(limits)
    rows = [(c, [said for said in broken if said.startswith(f"output {c.name} ")]) for c in report.outputs]
    _write_junit(junit, f"{second.name} against {first.name}", {"outputs": rows, "tensors": [(c, ()) for c in report.tensors]})
    if as_json:
        facts = {"runtimes": list(report.runtimes), "samples": report.samples, "apart": list(report.apart)}
        tables = {"outputs": [_row(c) for c in report.outputs], "tensors": [_row(c) for c in report.tensors]}
        print_json(facts | tables)
    else:
        _print_files(report)
    if broken:
        at = report.first
        told = f"the first tensor of both that differs is {at.name} ({at.op}), by {at.lsb:g} LSB" if at else "no tensor inside is in both"
        raise VerifyFailed(f"{second} does not compute what {first} does: {'; '.join(broken)}", hint=told)


def _print_files(report: FilesReport) -> None:
    from ..show import columns

    rows = [(c.op, f"{c.share:.2%}", f"{c.lsb:g}", f"{c.sqnr:.1f}", c.reason, c.name) for c in report.tensors]
    click.echo(columns([("operator", "equal", "LSB", "SQNR dB", "reason", "tensor"), *rows], width()))
    for text in report.apart:
        say("not compared", text)
    say("samples", str(report.samples))
    for c in report.outputs:
        say(f"output {c.name}", f"{c.share:.2%} bit-equal, largest difference {c.lsb:g} LSB, SQNR {c.sqnr:.1f} dB")


def _arrays(path: Path) -> Any:
    """A sample as arrays by name or in order."""
    from ..loading import load_inputs
    from ..quant import array_of

    args, kwargs = load_inputs(path)
    return {name: array_of(tensor) for name, tensor in kwargs.items()} or [array_of(tensor) for tensor in args]
