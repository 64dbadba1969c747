"""A manifest in TOML: its jobs, whose keys are the options of ``torch2circle export``, and what is wrong with it, all at once."""

from __future__ import annotations

import difflib
import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..errors import Torch2CircleError, UserError

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same code, of the same author
    import tomli as tomllib

OWN = ("name", "model", "output", "timeout", "depends")
"""Keys that are no options of an export."""
_OF_THE_BATCH = ("help", "dry-run", "json", "debug")
"""Options of an export that are the batch's own, for all jobs."""
WRITTEN = ("explain", "nnpackage")
"""Options whose path is written; all others with a path name a file that is read."""


@dataclass(frozen=True)
class Job:
    """An export. Paths are relative to the manifest's folder, which is where it runs.

    ``arguments`` are the words behind ``torch2circle export``; ``reads`` are the files that they name, and those of ``depends``; ``writes``
    what they name to be written, the model file first; ``timeout`` is in seconds.
    """

    name: str
    model: str
    output: str | None
    arguments: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    timeout: float


@dataclass(frozen=True)
class Manifest:
    """The jobs of the file at ``path``, in its order."""

    path: Path
    jobs: tuple[Job, ...]

    @property
    def folder(self) -> Path:
        """Where the manifest is; absolute."""
        return self.path.parent


def options() -> dict[str, click.Option]:
    """The options of ``torch2circle export`` that a job may have, by their key: the long name without its dashes."""
    from ..cli.export import export

    found = {_key(option): option for option in export.params if isinstance(option, click.Option)}
    return {key: option for key, option in found.items() if key not in _OF_THE_BATCH}


def _key(option: click.Option) -> str:
    return next(name for name in option.opts if name.startswith("--"))[2:]


def read(path: Path, timeout: float) -> Manifest:
    """The jobs of a manifest; ``timeout`` is for those that set none.

    Raises:
        UserError: it cannot be read, or anything in it cannot be done: all of that at once, each with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise UserError(f"the manifest cannot be read: {path}: {error.strerror or error}") from error
    except ValueError as error:  # of UTF-8 or of TOML
        raise UserError(f"the manifest is not TOML: {path}: {error}") from error
    reader = _Reader(Manifest(path.absolute(), ()).folder, _Lines(text), timeout)
    jobs = reader.jobs(table)
    if reader.faults:
        raise UserError("\n  ".join([f"{len(reader.faults)} fault(s) in {path}, so no job was begun:", *reader.faults]))
    return Manifest(path.absolute(), tuple(jobs))


class _Lines:
    """Where the tables and keys of a TOML text are, as its parser does not say it; 0 where that is not sure."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._headers = [number for number, line in enumerate(self._lines) if re.match(r"\s*\[\[?\s*[\w\"'.-]+\s*\]", line)]
        self._jobs = [number for number in self._headers if re.match(r"\s*\[\[\s*job\s*\]\]", self._lines[number])]

    def of(self, job: int | None, jobs: int, key: str | None = None) -> int:
        """The line of job number ``job`` of ``jobs``, or of ``[defaults]`` for None; of its ``key``, if that is there."""
        if job is None:
            starts = [number for number in self._headers if re.match(r"\s*\[\s*defaults\s*\]", self._lines[number])]
        else:
            starts = self._jobs[job : job + 1] if len(self._jobs) == jobs else []
        if not starts:
            return 0
        end = next((number for number in self._headers if number > starts[0]), len(self._lines))
        named = rf"\s*[\"']?{re.escape(key or '')}[\"']?\s*[=.]"
        lines = [number for number in range(starts[0] + 1, end) if key and re.match(named, self._lines[number])]
        return (lines or starts)[0] + 1


class _Reader:
    def __init__(self, folder: Path, lines: _Lines, timeout: float) -> None:
        self.folder, self.lines, self.timeout = folder, lines, timeout
        self.options = options()
        self.faults: list[str] = []
        self._number: int | None = None  # of the job that is read
        self._of = 0
        self._called = ""

    def _fault(self, message: str, key: str | None = None) -> None:
        line = self.lines.of(self._number, self._of, key)
        who = "defaults" if self._number is None else f"job {self._number + 1}" + (f" ({self._called})" if self._called else "")
        self.faults.append((f"line {line}, " if line else "") + f"{who}: {message}")

    def jobs(self, table: Mapping[str, Any]) -> list[Job]:
        for key in table.keys() - {"defaults", "job"}:
            self.faults.append(f"unknown table or key: {key}: a manifest has [defaults] and [[job]]")
        defaults, tables = table.get("defaults", {}), table.get("job", [])
        if not isinstance(defaults, dict):
            self.faults.append("defaults must be a table: [defaults]")
            defaults = {}
        if not isinstance(tables, list) or not tables or not all(isinstance(each, dict) for each in tables):
            self.faults.append("there are no jobs: each is a table [[job]] with a model and an output")
            tables = []
        self._check(defaults, known={*OWN, *self.options} - {"name"})
        found: list[tuple[int, Job]] = []
        self._of = len(tables)
        for self._number, own in enumerate(tables):
            self._called = str(own.get("name", own.get("model", "")))
            self._check(own, known={*OWN, *self.options})
            found += [(self._number, job) for job in self._expanded({**defaults, **own})]
        self._together(found)
        return [job for _, job in found]

    # ---- one table

    def _check(self, table: Mapping[str, Any], known: set[str]) -> None:
        """Keys and the kinds of their values."""
        for key, value in table.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f" (nearest: {near[0]})" if near else ""
                own = key in _OF_THE_BATCH or key == "name"
                self._fault(f"not for {'defaults' if key == 'name' else 'a job'}: {key}" if own else f"unknown key: {key}{hint}", key)
            elif wanted := self._misfit(key, value):
                self._fault(f"{key} must be {wanted}: {value!r}", key)

    def _misfit(self, key: str, value: Any) -> str:
        """What the value must be, if it is not."""
        texts = isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
        if key in ("model", "output", "depends"):
            return "" if texts else "a text or a list of texts"
        if key == "timeout":
            right = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            return "" if right else "a number of seconds above 0"
        if key == "name":
            return "" if isinstance(value, str) and value.strip() else "a text"
        option = self.options[key]
        if option.is_flag:
            return "" if isinstance(value, bool) else "true or false"
        if value is False:  # takes back what defaults say
            return ""
        if option.multiple:
            return "" if texts else "a text or a list of texts"
        right = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        return "" if right else "a text or a number"

    def _expanded(self, table: Mapping[str, Any]) -> Iterator[Job]:
        """A job for each model and output of a table."""
        if any(self._misfit(key, value) for key, value in table.items() if key in {*OWN, *self.options}):
            return
        before = len(self.faults)
        outputs: list[str | None] = [each for each in _listed(table.get("output", [])) if each]
        if not outputs and not table.get("nnpackage"):
            self._fault("no output")
        models = [model for given in _listed(table.get("model", [])) for model in self._models(given)]
        if not models and len(self.faults) == before:
            self._fault("no model")
        if len(self.faults) > before:
            return
        for model in models:
            for output in outputs or [None]:
                if (job := self._job(table, model, output)) is not None:
                    yield job

    def _models(self, given: str) -> list[str]:
        """The files that a pattern means; a file or a factory as it is."""
        if not given:
            return []
        if not glob.has_magic(given) or (self.folder / given).exists():
            return [given]
        found = sorted(glob.glob(given, root_dir=self.folder, recursive=True))
        if not found:
            self._fault(f"no file is called like {given}", "model")
        return found

    def _job(self, table: Mapping[str, Any], model: str, output: str | None) -> Job | None:
        source, factory = self._source(model)
        stem = factory or Path(model).stem

        def filled(text: str) -> str:
            return text.replace("{stem}", stem)

        output = None if output is None else filled(output)
        words: list[str] = []
        reads, writes = [source] if source else [], [output] if output else []
        for key, option in self.options.items():
            value = table.get(key, False)
            if option.is_flag:
                words += _flag(option, value) if key in table else []
                continue
            is_path = isinstance(option.type, click.Path)
            given = [] if value is False else [filled(each) if is_path else each for each in map(str, _listed(value))]
            words += [f"--{key}={each}" for each in given]
            if is_path:
                (writes if key in WRITTEN else reads).extend(given)
        reads += [filled(each) for each in _listed(table.get("depends", []))]
        words += ["--", model, *([output] if output else [])]
        name = filled(str(table["name"])) if "name" in table else writes[0]
        if faults := [*self._command(words, table), *self._missing(reads), *self._unwritable(writes)]:
            for fault in faults:
                self._fault(fault)
            return None
        files = dict.fromkeys(file for each in reads for file in self._files(each))
        return Job(name, model, output, tuple(words), tuple(files), tuple(writes), float(table.get("timeout", self.timeout)))

    def _files(self, each: str) -> list[str]:
        """What is below a folder; a file itself."""
        path = self.folder / each
        if not path.is_dir():
            return [each]
        return [os.path.join(each, found.relative_to(path)) for found in sorted(path.rglob("*")) if found.is_file()]

    def _source(self, model: str) -> tuple[str | None, str]:
        """The file that holds a model or its factory, None for a factory in a module; and the factory's name."""
        module, colon, attribute = model.rpartition(":")
        if not colon or (self.folder / model).exists() or not attribute.isidentifier():
            return model, ""
        return (module if module.endswith(".py") or os.sep in module else None), attribute

    def _command(self, words: Sequence[str], table: Mapping[str, Any]) -> Iterator[str]:
        """What the command line itself would refuse before it loads anything."""
        from ..cli.export import export
        from ..targets import target_for

        try:
            given = export.make_context("torch2circle export", list(words)).params
            target_for(given["output"], given["target"] if given["output"] else given["target"] or "onert")
        except click.ClickException as error:
            yield error.format_message()
        except Torch2CircleError as error:
            yield error.message + (f" ({error.hint})" if error.hint else "")

    def _missing(self, reads: Sequence[str]) -> Iterator[str]:
        for each in reads:
            path = self.folder / each
            if not path.exists():
                yield f"no such file: {each}"
            elif not os.access(path, os.R_OK):
                yield f"the file cannot be read: {each}"

    def _unwritable(self, writes: Sequence[str]) -> Iterator[str]:
        for number, each in enumerate(writes):
            path = self.folder / each
            if number == 0 and path.is_dir() and path.suffix in (".circle", ".tflite"):
                yield f"the output is a folder: {each}"
                continue
            above = next(parent for parent in path.parents if parent.exists())
            if not above.is_dir():
                yield f"the output's folder is a file: {above}"
            elif not os.access(above, os.W_OK | os.X_OK):
                yield f"nothing can be written into {above}"

    # ---- all of them

    def _together(self, found: Sequence[tuple[int, Job]]) -> None:
        """Jobs that get in each other's way."""
        names = Counter(job.name for _, job in found)
        read = {os.path.realpath(self.folder / each): job for _, job in found for each in job.reads}
        written: dict[str, Job] = {}
        for self._number, job in found:
            self._called = job.name
            if names[job.name] > 1:
                names[job.name] = 0
                self._fault(f"several jobs have the name {job.name}: leave it out, and they are called by their outputs", "name")
            for each in job.writes:
                real = os.path.realpath(self.folder / each)
                if real in written:
                    both = f"{written[real].model} and {job.model}"
                    self._fault(f"{each} is written by two jobs, of {both} ({{stem}} stands for the model's name)", "output")
                elif real in read:
                    self._fault(f"{each} would be written over what is read by the job {read[real].name}", "output")
                written.setdefault(real, job)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flag(option: click.Option, value: bool) -> list[str]:
    if value:
        return [f"--{_key(option)}"]
    return option.secondary_opts[:1]
