"""``torch2circle MODEL [OUTPUT] --dry-run``: what an export would give, for each target. Nothing is written, and no runtime is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import TargetError, Torch2CircleError, UnsupportedOps, UserError, WriteError
from .group import TARGET_NAMES
from .model import exported_model
from .terminal import print_findings, print_json, say, stages

if TYPE_CHECKING:
    from ..preflight import Operator, Outlook


def dry_run(model: str, output: Path | None, target: str | None, as_json: bool, **loading: Any) -> int:
    """Show it; the exit code is what the export for ``target``, or for the suffix of ``output``, would end with."""
    asked = target
    failure: UserError | None = None
    seen: list[Outlook] = []
    found: list[dict[str, Any]] = []
    with stages() as stage:
        from ..preflight import findings, must_be_writable, preflight
        from ..targets import target_for

        if output is not None:
            asked = target_for(output, target).name
        try:
            exported = exported_model(model, stage, **loading)
            stage("legalize")
            seen = preflight(exported, [target] if target else TARGET_NAMES)
            found = [vars(finding) for finding in findings(exported)]
        except UserError as error:
            failure = error
        if failure is None:
            failure = _of_asked(seen, asked)
        if failure is None and output is not None:
            try:
                must_be_writable(output, next(outlook.size for outlook in seen if outlook.target == asked))
            except WriteError as error:
                failure = error
    code = 0 if failure is None else failure.exit_code
    if as_json:
        errors = [] if failure is None else [error_facts(each) for each in (failure, *failure.also)]
        facts = {"model": model, "target": asked, "exit_code": code, "errors": errors, "diagnostics": found}
        print_json(facts | {"targets": {outlook.target: _facts(outlook) for outlook in seen}})
        return code
    click.echo(f"{model}: a dry run, nothing is written")
    print_findings(found)
    for outlook in seen:
        _print(outlook)
    if failure is not None and not seen:
        _print_places(failure)
    if failure is not None:
        raise failure
    return 0


def _of_asked(seen: list[Outlook], asked: str | None) -> UserError | None:
    """The error of the target that was asked for; of the first one, if none was asked for and all fail."""
    if asked is None:
        return None if any(outlook.error is None for outlook in seen) else seen[0].error
    return next(outlook.error for outlook in seen if outlook.target == asked)


def _print(outlook: Outlook) -> None:
    error = outlook.error
    if error is not None:
        click.echo(f"{outlook.target}: would be refused (exit code {error.exit_code}): {error.message.splitlines()[0].rstrip(':')}")
        for op, scheme, verdict, where in error.refused if isinstance(error, TargetError) else []:
            say("refused", f"{op} ({scheme}: {verdict}) at {where}")
        for layer, count in error.layers if isinstance(error, WriteError) else []:
            say("bytes", f"{count:,} in {layer}")
        return
    click.echo(f"{outlook.target}: {outlook.size:,} bytes")
    count = sum(op.count for op in outlook.operators)
    say("operators", f"{count}: " + ", ".join(f"{op.count} {op.op} v{op.version}" for op in outlook.operators))
    say("islands", f"{len(outlook.islands)} operator(s) in float between quantized ones")
    for island in outlook.islands:
        say("", f"{island.path}: {island.message}")
    say("runs in", _runs_in(outlook))


def _runs_in(outlook: Outlook) -> str:
    measured = f"{outlook.measured} (measured)" if outlook.measured else "the ONE toolchain, by its contract: no runtime was measured"
    if outlook.since is None:
        return measured
    latest = [op for op in outlook.operators if op.since == outlook.since]
    unknown = [op for op in outlook.operators if op.since is None]
    also = f"; not known of {_named(unknown)}" if unknown else ""
    return f"{measured}; TensorFlow Lite since {outlook.since} has its operators, the last {_named(latest)}{also}"


def _named(operators: list[Operator]) -> str:
    return ", ".join(f"{op.op} v{op.version}" for op in operators)


def _print_places(error: Torch2CircleError) -> None:
    """All that the model itself fails of; the message of the error alone has the first place of each operator, or the first use."""
    for each in (error, *error.also):
        if isinstance(each, UnsupportedOps):
            for op, places in each.places.items():
                for where in places:
                    say("no lowering", f"{op} at {where}")
        elif error.also:
            say("refused", each.message.replace("\n", " ") + (f" at {each.where}" if each.where else ""))


def error_facts(error: Torch2CircleError) -> dict[str, Any]:
    """An error as plain data: exit code, message, hint, place, and the operators that it is about."""
    facts: dict[str, Any] = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
    facts["where"] = None if error.where is None else vars(error.where)
    if isinstance(error, UnsupportedOps):
        facts["operators"] = [
            {"op": op, "count": count, "reason": error.reasons.get(op), "nearest": list(near), "places": list(map(vars, error.places[op]))}
            for op, count, _, near in error.missing
        ]
    if isinstance(error, WriteError):
        facts["layers"] = [{"place": layer, "bytes": count} for layer, count in error.layers]
    if isinstance(error, TargetError):
        keys = ("op", "scheme", "verdict")
        facts["operators"] = [dict(zip(keys, row, strict=False)) | {"where": vars(row[3])} for row in error.refused]
    return facts


def _facts(outlook: Outlook) -> dict[str, Any]:
    return {
        "error": None if outlook.error is None else error_facts(outlook.error),
        "bytes": outlook.size,
        "operators": [vars(op) for op in outlook.operators],
        "islands": [vars(island) for island in outlook.islands],
        "measured": outlook.measured,
        "tensorflow_lite": outlook.since,
    }
