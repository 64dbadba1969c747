"""Pages of the documentation as programs: every code block of a page runs, from top to bottom, or says why it does not.

- ``python`` runs in one namespace a page, in an empty folder. With ``title="net.py"`` it is a file of that name, for a later command.
- ``console`` has commands behind ``$`` and what they print; ``...`` stands for what varies: a part of a line, or, alone, any lines.
- ``sh`` has commands, each of which must end with exit code 0.
- Commands are ``torch2circle``, ``python`` and ``pytest``, which are run, and ``cat``.
- ``text`` below ``<!-- prints -->`` is what the Python in front of it prints.
- Below ``<!-- numbers vary -->`` (or ``<!-- prints, numbers vary -->``) each number that is shown stands for any: those of another machine.
- ``<!-- not run: why -->`` stands in front of a block that is not run, ``<!-- setup ... -->`` holds Python that the reader does not see.
- Other languages (``text``, ``json``, ``yaml``, ``toml``, ``cpp``) are only shown.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from torch2circle import cli

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md", "examples/golden_project/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SHOWN = {"text", "json", "yaml", "toml", "cpp"}
RUN = {"python", "console", "sh"}
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?|inf)(?![\w])")
# pytest tells its workers, and what it starts, what it is doing: a run of its own must not hear of that
_OUTER = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID")
_COMMENT = re.compile(r"\s*<!--\s*(prints, numbers vary|numbers vary|prints|setup|not run)\b:?(.*?)-->\s*", re.DOTALL)


class PageError(AssertionError):
    """A block does not do what the page says, or cannot be run; the message begins with the page and its line."""


@dataclass(frozen=True)
class Block:
    """A code block: ``line`` is the page's, of its first line of code; ``mark`` and ``reason`` are of the comment in front of it."""

    language: str
    title: str
    text: str
    line: int
    mark: str = ""
    reason: str = ""


def blocks(text: str) -> list[Block]:
    """The code blocks of a page, those that only the comment ``<!-- setup -->`` has among them."""
    found: list[Block] = []
    mark, reason = "", ""
    for token in MarkdownIt("commonmark").parse(text):
        line = (token.map or [0])[0] + 1
        if token.type == "html_block" and (comment := _COMMENT.fullmatch(token.content)):
            mark, reason = comment[1], comment[2].strip()
            if mark == "setup":
                found.append(Block("python", "", comment[2], line + comment[0].count("\n", 0, comment.start(2) - comment.start(0))))
                mark = reason = ""
        elif token.type in ("fence", "code_block"):
            language, _, rest = token.info.strip().partition(" ")
            title = re.fullmatch(r'title="([^"]+)"', rest.strip())
            found.append(Block(language, title[1] if title else "", token.content, line + (token.type == "fence"), mark, reason))
            mark = reason = ""
        elif not token.type.endswith("_open"):  # a list item or a quote may begin between the comment and its block
            mark = reason = ""
    return found


def faults(text: str) -> list[str]:
    """What is wrong with the blocks of a page before anything is run: line and reason."""
    found, names = [], blocks(text)
    for block in names:
        if block.mark == "not run":
            if not block.reason:
                found.append(f"{block.line}: not run, but no reason is given")
        elif block.mark.startswith("prints") and block.language != "text":
            found.append(f"{block.line}: what is printed is a block of text, not of {block.language or 'no language'}")
        elif block.language not in RUN | SHOWN:
            found.append(f"{block.line}: a block is of {', '.join(sorted(RUN | SHOWN))}, not of {block.language or 'no language'}")
        elif block.title and not any(block.title in other.text for other in names if other.line > block.line and other.language != "text"):
            found.append(f"{block.line}: no later block uses the file {block.title}")
    return found


def same(shown: str, printed: str, numbers: bool = False) -> bool:
    """Whether a text is what was printed, where ``...`` stands for a part of a line, and alone in its line for any lines.

    With ``numbers``, those that are shown stand for any, in columns of any width.
    """
    pattern = ""
    if numbers:
        shown, printed = (re.sub(r" +|-{2,}", " ", _NUMBER.sub("0", text)) for text in (shown, printed))
    for line in shown.strip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace(r"\.\.\.", r"[^\n]*?") + r"[ \t]*\n"
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None


class Page:
    """Runs the blocks of a page in the current folder, which should be empty."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, path.read_text(encoding="utf-8")
        self.name = re.sub(r"\W", "_", path.relative_to(ROOT).with_suffix("").as_posix()).removeprefix("docs_")
        self.module = types.ModuleType(f"page_{self.name}")  # torchao.md must not stand in the way of `import torchao`
        self.module.__file__ = f"{self.name}.py"
        self.printed, self.said, self.code = "", "", 0
        self.unlike: list[str] = []
        self.numbers = False

    def run(self) -> dict[str, Any]:
        """Run every block.

        Returns:
            The names that the Python leaves behind.

        Raises:
            PageError: a block fails, which ends the page, or some print something else than the page shows.
        """
        before = set(sys.modules)
        sys.modules[self.module.__name__] = self.module  # classes that are pickled or scripted are looked up there
        sys.path.insert(0, str(Path.cwd()))
        try:
            for block in blocks(self.text):
                if block.mark != "not run":
                    self._run(block)
            self._must_have_worked(self.text.count("\n"))
            if self.unlike:
                raise PageError("\n".join(self.unlike))
        finally:
            sys.path.remove(str(Path.cwd()))
            for name in set(sys.modules) - before:
                if str(getattr(sys.modules[name], "__file__", None) or "").startswith((str(Path.cwd()), self.name)):
                    del sys.modules[name]
        return vars(self.module)

    def _run(self, block: Block) -> None:
        self.numbers = block.mark.endswith("numbers vary")
        if block.mark.startswith("prints"):
            self._must_be(block.text, self.printed, block.line)
        elif block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._python(block)
        elif block.language in ("console", "sh"):
            for line, command, shown in commands(block):
                self._command(block.line + line, command, shown, block.language == "sh")

    def _python(self, block: Block) -> None:
        """Lines have the numbers of the page, also where PyTorch reads the source of a function."""
        source, file = "\n" * (block.line - 1) + block.text, f"{self.name}.py"
        before = linecache.cache.get(file, (0, None, [], file))[2]
        lines = [*before, *[""] * block.line][: block.line - 1] + block.text.splitlines(keepends=True)
        linecache.cache[file] = (1, None, [line or "\n" for line in lines], file)
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what PyTorch and torchao say of their own age
                exec(compile(source, file, "exec"), vars(self.module))
        except Exception as error:
            raise PageError(f"{self.path}:{block.line}: {type(error).__name__}: {error}") from error
        self.printed = output.getvalue()

    def _command(self, line: int, command: str, shown: str, must_work: bool) -> None:
        words = shlex.split(command, comments=True)
        if words == ["echo", "$?"]:
            self._must_be(shown, f"{self.code}\n", line)
            self.code = 0
            return
        self._must_have_worked(line)
        if words[:1] == ["torch2circle"]:
            self.code, printed = in_process(words[1:])
        elif words[:1] in (["python"], ["pytest"]):
            call = [sys.executable, *(["-m", "pytest"] if words[0] == "pytest" else []), *words[1:]]
            outer = {name: value for name, value in os.environ.items() if name not in _OUTER}
            done = subprocess.run(call, env=outer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            self.code, printed = done.returncode, done.stdout
        elif words[:1] == ["cat"]:
            self.code, printed = 0, "".join(Path(name).read_text(encoding="utf-8") for name in words[1:])
        else:
            known = "only torch2circle, python, pytest and cat are run"
            raise PageError(f"{self.path}:{line}: {known}: mark the block `<!-- not run: why -->`")
        if shown:
            self._must_be(shown, printed, line)
        self.said = printed
        if must_work:
            self._must_have_worked(line)

    def _must_have_worked(self, line: int) -> None:
        """A command may fail only if the page shows its exit code."""
        if self.code:
            raise PageError(f"{self.path}:{line}: exit code {self.code}, which no `$ echo $?` shows:\n{self.said}")

    def _must_be(self, shown: str, printed: str, line: int) -> None:
        if not same(shown, printed, self.numbers):
            self.unlike.append(f"{self.path}:{line}: the page shows\n{shown}\nand this was printed:\n{printed}")


def commands(block: Block) -> Iterator[tuple[int, str, str]]:
    """(line in the block, command, output shown for it)."""
    lines = block.text.splitlines()
    if block.language == "sh":
        yield from ((number, line, "") for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#"))
        return
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    if not starts or starts[0] != 0:
        raise PageError(f"{block.line}: a console block begins with a command behind `$ `")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield start, lines[start][2:], "\n".join(lines[start + 1 : end])


def in_process(args: list[str]) -> tuple[int, str]:
    """Exit code of the command line, and what it wrote to both streams."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
        try:
            cli.main(args)
        except SystemExit as ended:
            code = ended.code
    return int(code or 0), output.getvalue()
