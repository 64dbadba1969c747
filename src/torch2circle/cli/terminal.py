"""What all commands show: the stage that runs, labelled lines, findings."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

JSON_VERSION = 1
"""Of what ``--json`` prints: one more whenever a key goes, or means something else. New keys may come at any time."""


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show the stage that runs, with a spinner on a terminal and not at all in a pipe."""
    if not sys.stderr.isatty():
        yield logging.getLogger("torch2circle.cli").debug
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("import torch") as status:
        yield lambda stage: status.update(escape(stage))


def say(label: str, text: str) -> None:
    from ..show import labelled

    click.echo(labelled(label, text, width()))


def print_findings(findings: Sequence[dict[str, Any]]) -> None:
    for finding in findings:
        if finding["code"] != "island":
            say(finding["severity"], f"{finding['code']} in {finding['path']}: {finding['message']}")


def print_facts(facts: dict[str, Any], *keys: str) -> None:
    for key in keys:
        value = facts[key]
        say(key, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value))


def print_json(facts: Mapping[str, Any]) -> None:
    """What ``--json`` prints: one object, which begins with the version of its keys."""
    json.dump({"json_version": JSON_VERSION, **facts}, sys.stdout, indent=2)  # the text as a whole would take more than the facts
    click.echo()


def width() -> int | None:
    """Of the terminal; None in a pipe, where nothing may be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
