"""The public interface as lines of text, one promise each: what docs/stability.md calls public.

A line that goes or changes breaks somebody's program; a new one breaks nobody's, but for a new argument that must be given.
"""

from __future__ import annotations

import enum
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import click

from pages import ROOT
from torch2circle import errors
from torch2circle.cli.group import cli

# Of the others that have fields, only torch2circle makes any: what they have is promised, how they are made is not.
MADE_BY_USERS = {"torch2circle.Limits", "torch2circle.testing.GoldenFile"}
# Keys of these objects are names that the model or the file gives, not ours.
NAMED = {
    "operators", "weights", "inputs", "outputs", "metadata", "methods", "options", "targets",
}  # fmt: skip


def recorded(codes: set[str], json: dict[str, list[Any]]) -> str:
    """All of it. ``codes`` are the diagnostics, ``json`` has for each command what its ``--json`` printed."""
    parts = [python(), commands(), exit_codes(), (f"diagnostic {code}" for code in sorted(codes)), json_keys(json)]
    return "".join(f"{line}\n" for part in parts for line in part)


def broken(before: str, after: str) -> list[str]:
    """The lines of ``before`` that are not kept, and new arguments without which calls of before fail."""
    old, new = before.splitlines(), after.splitlines()
    kept, callable_before = set(new), {_called(line) for line in old}
    added = [line for line in new if line not in old and line.endswith(" required") and _called(line) in callable_before]
    return [line for line in old if line not in kept] + added


def _called(line: str) -> str:
    """What the line is an argument of: a function with its parentheses, or a command."""
    found = re.match(r"python \S+\(\)|command [a-z0-9 -]*?[a-z0-9](?= \(| -)", line)
    return found[0] if found else line


# -- Python


def documented() -> Iterator[tuple[str, list[str] | None]]:
    """Each name of docs/api.md, and its members if the page chooses them."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name, members in re.findall(r"^::: (\S+)\n(?:    options:\n      members: (.*)\n)?", text, re.MULTILINE):
        yield name, None if not members else [] if members == "false" else re.findall(r"\w+", members)


def python() -> Iterator[str]:
    for name, members in documented():
        module, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(module), attribute)
        if inspect.isclass(thing):
            yield from _class(name, thing, members)
        elif callable(thing):
            yield from _function(name, thing)
        else:
            yield f"python {name}: {type(thing).__name__}"


def _class(name: str, thing: type, members: list[str] | None) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
    yield f"python {name}" + (f" is a {bases}" if bases else "")
    kinds = inspect.get_annotations(thing)
    own = [member for member in (*kinds, *vars(thing)) if not member.startswith("_")]
    if name in MADE_BY_USERS:
        yield from _function(name, thing)
    for member in dict.fromkeys(own if members is None else members):
        value = inspect.getattr_static(thing, member, None)
        if isinstance(value, property | functools.cached_property):
            function = value.fget if isinstance(value, property) else value.func
            yield f"python {name}.{member}: {inspect.get_annotations(function)['return'] if function else ''}"  # type: ignore[arg-type]
        elif isinstance(value, classmethod | staticmethod) or inspect.isfunction(value):
            yield from _function(f"{name}.{member}", getattr(thing, member))
        elif isinstance(value, enum.Enum):
            yield f"python {name}.{member}"
        else:
            yield f"python {name}.{member}" + (f": {kinds[member]}" if member in kinds else "")


def _function(name: str, function: Any) -> Iterator[str]:
    """Each argument with its place, if it may be given by place, its type and its default."""
    signature = inspect.signature(function)
    returns = "" if signature.return_annotation is signature.empty else f" -> {signature.return_annotation}"
    yield f"python {name}(){returns}"
    place = 0
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        where = "by name" if parameter.kind is parameter.KEYWORD_ONLY else f"{place}"
        place += 1
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        if stars:
            end = ""
        elif parameter.default is parameter.empty:
            end = " required"
        else:
            end = f" = {'...' if ' at 0x' in repr(parameter.default) else repr(parameter.default)}"
        yield f"python {name}() ({where}) {stars}{parameter.name}{kind}{end}"


# -- the command line


def commands() -> Iterator[str]:
    yield from _commands(cli, "torch2circle")


def _commands(group: click.Group, words: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{words} {name}")
            continue
        yield f"command {words} {name}"
        place = 0
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                yield f"command {words} {name} ({place}) {parameter.human_readable_name}" + (" required" if parameter.required else "")
                place += 1
            elif isinstance(parameter, click.Option) and not parameter.hidden:
                yield f"command {words} {name} {_option(parameter)}"


def _option(option: click.Option) -> str:
    names = ", ".join((*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names + (" (on)" if option.default is True else "")
    kind = "|".join(option.type.choices) if isinstance(option.type, click.Choice) else option.type.name
    default = f" = {option.default}" if isinstance(option.default, int | float | str) else ""
    return f"{names} {kind}{'...' if option.multiple else ''}{default}{' required' if option.required else ''}"


def exit_codes() -> Iterator[str]:
    """Those of the errors, and of README's table."""
    table = re.findall(r"^\| ([\d, ]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    names: dict[int, str] = {int(code): "" for cell in table for code in cell.split(",")}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.Torch2CircleError) and value is not errors.Torch2CircleError:
            names[value.exit_code] = value.__name__
    yield from (f"exit code {code} {name}".rstrip() for code, name in sorted(names.items()))


# -- JSON


def json_keys(printed: dict[str, list[Any]]) -> Iterator[str]:
    """Paths of keys in the order they come; ``*`` is any name, ``[]`` any element. Types would depend on what is null in the examples."""
    for command, values in sorted(printed.items()):
        yield from dict.fromkeys(f"json {command}: {path}" for value in values for path in _paths(value, ""))


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        named = path.rpartition(".")[2] in NAMED
        for key, each in value.items():
            inner = f"{path}.{'*' if named else key}".lstrip(".")
            yield inner
            yield from _paths(each, inner)
    elif isinstance(value, list):
        for each in value:
            yield from _paths(each, f"{path}[]")
