"""``torch2circle inspect FILE`` and ``check FILE``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FormatError, TargetError
from ..text import one_line, shown
from .group import SETTINGS, TARGET_NAMES, cli
from .terminal import print_facts, say, width

if TYPE_CHECKING:
    from ..format import Survey
    from ..format.survey import Subgraph
    from ..ir import Finding

SHOWN = 5
"""Findings of one code that are printed unless all are asked for."""


@cli.command(context_settings=SETTINGS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--operators", is_flag=True, help="Also list each operator with its options.")
@click.option("--tensors", is_flag=True, help="Also list each tensor: type, bytes, who makes and reads it.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--dot", "as_dot", is_flag=True, help="Print the graph for Graphviz.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def inspect(file: Path, operators: bool, tensors: bool, as_json: bool, as_dot: bool, debug: bool) -> None:
    """Show what is in a .circle or .tflite FILE, whoever wrote it.

    For each operator it says how many there are, in which version and with which operands, and what the runtimes were
    measured to make of it: exact, 1lsb (at most one step off), hybrid, wrong, refused, crash, or unknown.
    """
    from ..format import survey

    whole = survey(file)
    if as_json:
        from ..overview import overview

        json.dump(overview(whole), sys.stdout, indent=2)  # the text as a whole would take more than the facts
        click.echo()
    elif as_dot:
        from ..dot import dot

        click.echo(dot(whole), nl=False)
    else:
        _print_file(whole, operators, tensors)


def _print_file(whole: Survey, operators: bool, tensors: bool) -> None:
    from ..checks import check
    from ..overview import callable_signatures, summary

    facts = summary(whole) | {"bytes": f"{whole.size:,}"}
    print_facts(facts, "file", "identifier", "version", "description", "bytes")
    for name, text in facts["metadata"].items():
        say("metadata", f"{shown(name)}: {text if len(text) <= 200 else f'{text[:200]}... ({len(text):,} characters)'}")
    say("check", _counted(check(whole), whole.label))
    for subgraph in whole.subgraphs:
        keys = [signature for signature in callable_signatures(whole) if signature.subgraph == subgraph.index]
        if len(whole.subgraphs) > 1:
            click.echo(f"\n{shown(subgraph.name) or f'subgraph {subgraph.index}'}")
        for signature in keys:
            say("signature", shown(signature.key))
        _print_subgraph(subgraph, keys[0] if keys else None, operators, tensors)


def _print_subgraph(subgraph: Subgraph, signature: Any, operators: bool, tensors: bool) -> None:
    from .. import overview

    for what in ("inputs", "outputs"):
        for name, kind in overview.ends(subgraph, signature, what).items():
            say(what[:-1], f"{name} {kind}")
    counts = Counter(operator.label for operator in subgraph.operators)
    kinds = ", ".join(f"{count} {shown(label)}" for label, count in counts.most_common())
    say("operators", f"{len(subgraph.operators)}: {kinds or 'none'}")
    say("weights", ", ".join(f"{kind} {size:,} bytes" for kind, size in overview.weights(subgraph).items()) or "none")
    _print_table(("operator", "version", "scheme", "count", "onert", "LiteRT"), overview.operator_rows(subgraph))
    _print_table(("bytes", "type", "largest constants"), overview.largest(subgraph))
    if operators:
        _print_table(("", "operator", "options", "reads", "makes"), overview.each_operator(subgraph))
    if tensors:
        _print_table(("", "type", "bytes", "made by", "read by", "tensor"), overview.tensor_rows(subgraph))


def _print_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from ..show import columns

    rows = list(rows)
    if rows:
        click.echo("\n" + columns([names, *rows], width()))


def _counted(findings: Sequence[Finding], file: str) -> str:
    counts = Counter(finding.severity for finding in findings)
    said = ", ".join(f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in ("error", "warning", "note"))
    return f"{said}; `torch2circle check {file}` lists them" if findings else "nothing wrong was found"


@cli.command(context_settings=SETTINGS)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", type=click.Choice(TARGET_NAMES), help="Also say what this target would refuse or get wrong.")
@click.option("--all", "everything", is_flag=True, help=f"Print every finding, not only the first {SHOWN} of a code.")
@click.option("--json", "as_json", is_flag=True, help="Print all findings as JSON.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def check(file: Path, target: str | None, everything: bool, as_json: bool, debug: bool) -> None:
    """Look for what is wrong with a .circle or .tflite FILE.

    The exit code is 12 if there is an error in the file itself, 8 if the target alone is in the way, 0 otherwise.
    docs/check.md explains each code.
    """
    from ..checks import TARGET_CODES
    from ..checks import check as found_in

    findings = found_in(file, target)
    if as_json:
        click.echo(json.dumps({"file": str(file), "target": target, "findings": [vars(finding) for finding in findings]}, indent=2))
    else:
        _print_findings(findings, everything)
        click.echo(f"{one_line(str(file))}: " + _totals(findings))
    errors = [finding for finding in findings if finding.severity == "error"]
    if any(not finding.code.startswith(TARGET_CODES) for finding in errors):
        raise click.exceptions.Exit(FormatError.exit_code)
    if errors:
        raise click.exceptions.Exit(TargetError.exit_code)


def _print_findings(findings: Sequence[Finding], everything: bool) -> None:
    printed: Counter[tuple[str, str]] = Counter()
    totals = Counter((finding.severity, finding.code) for finding in findings)
    for finding in findings:
        kind = (finding.severity, finding.code)
        printed[kind] += 1
        if everything or printed[kind] <= SHOWN:
            click.echo(str(finding))
        elif printed[kind] == totals[kind]:
            click.echo(f"{finding.severity}[{finding.code}] ... and {totals[kind] - SHOWN} more (--all lists them)")


def _totals(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in ("error", "warning", "note"))
