"""What mkdocs.yml calls while the site is built: the command reference is made from the commands themselves."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import click

from torch2circle.cli.group import cli

COMMANDS = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference in the place of ``<!-- commands -->``; called by mkdocs for each page."""
    return markdown.replace(COMMANDS, "\n".join(reference())) if COMMANDS in markdown else markdown


def reference() -> Iterator[str]:
    """Each command in Markdown: what it does, how it is called, its options; ``export``, which is the default, comes first."""
    yield from _commands(cli, click.Context(cli, info_name="torch2circle"), "torch2circle")


def _commands(group: click.Group, above: click.Context, words: str) -> Iterator[str]:
    for name in sorted(group.commands, key=lambda name: (name != "export", name)):
        command = group.commands[name]
        context = click.Context(command, info_name=name, parent=above)
        yield f"## {words} {name}\n"
        yield from map(_paragraph, (command.help or "").split("\n\n"))
        if isinstance(command, click.Group):
            yield from _commands(command, context, f"{words} {name}")
            continue
        usage = " ".join(command.collect_usage_pieces(context)).replace("[OPTIONS] ", "")
        yield f"```text\n{words} {name} {usage} [OPTIONS]\n```\n"
        yield "| option | |\n|---|---|"
        for parameter in command.get_params(context):
            if (record := parameter.get_help_record(context)) and record[1]:
                option, text = record
                yield f"| <code>{html.escape(option).replace('|', '&#124;')}</code> | {_escaped(text).replace('|', '&#124;')} |"
        yield ""


def _paragraph(text: str) -> str:
    """In one line; behind a backspace, click's mark for it, as it stands."""
    if text.startswith("\b\n"):
        return f"```text\n{text[2:]}\n```\n"
    return _escaped(" ".join(text.split())) + "\n"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("[", "\\[")
