"""The pytest plugin: the fixture ``circle_golden`` and the option ``--update-golden``.

pytest loads this wherever torch2circle is installed, so it imports nothing but pytest until a test asks for the fixture.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..methods import ExportedMethods
    from ..pipeline import ExportedModel
    from ..verify import Report

USED, WRITTEN, FOLDER = "circle_golden", "circle_golden_written", "circle_golden_folder"
"""Properties of a test's report, which the workers of pytest-xdist hand on: paths from pytest's root folder."""
SUFFIXES = (".circle", ".tflite", ".circle.txt", ".tflite.txt")
# Options of pytest that leave tests out, so that nothing is known of the golden files of these.
PARTIAL = ("keyword", "markexpr", "deselect", "lf", "stepwise", "ignore", "ignore_glob")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("circle_golden_dir", "folder of circle_golden's files, beside the test's own file", default="golden")


@pytest.hookimpl(hookwrapper=True)  # as pytest 7 knows it, too: that must not fail of a plugin that came with something else
def pytest_load_initial_conftests(parser: pytest.Parser) -> Generator[None, None, None]:
    yield
    # Only now it is known whether a conftest.py, or another plugin, has an option of that name; then the two are one.
    if "--update-golden" in parser.parse_known_and_unknown_args(["--update-golden"])[1]:
        help_ = "accept what is made now as the golden files of the tests that run"
        parser.getgroup("torch2circle").addoption("--update-golden", action="store_true", help=help_)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Summary(config), "torch2circle-golden-summary")


@pytest.fixture
def circle_golden(request: pytest.FixtureRequest) -> CircleGolden:
    """``circle_golden(exported, "name.circle")`` fails unless that file is what ``exported`` is written as."""
    return CircleGolden(request)


class CircleGolden:
    """The fixture of one test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request

    def __call__(
        self, exported: ExportedModel | ExportedMethods | Path, name: str, target: str | None = None, *, verify: bool = False
    ) -> Path:
        """Compare an export with its golden file, or with ``--update-golden`` accept it.

        Args:
            exported: what ``torch2circle.export`` or ``export_many`` gave, or a file that was written.
            name: of the golden file, below the folder ``golden`` beside the test's file; ends in .circle or .tflite.
            target: "onert", "litert" or "one"; None for the usual one of the suffix.
            verify: run the golden file in the target's runtime, too, and each operator: none may be more than 1 LSB off.

        Returns:
            The path of the golden file.

        Raises:
            UserError: the model cannot be written for the target; a name that is no file's below the folder; ``verify`` of a file.
            MissingRuntime: ``verify``, and the runtime is not installed.
        """
        __tracebackhide__ = True
        from ..errors import UserError
        from ..targets import target_for
        from .golden import GoldenFailure, GoldenFile

        path, node, root = self._path(name), self._request.node, self._request.config.rootpath
        chosen, golden = target_for(path, target).name, GoldenFile(path)
        node.user_properties += [(USED, _shown(path, root)), (FOLDER, _shown(self._folder, root))]
        if isinstance(exported, Path):
            if verify:
                raise UserError(f"a file alone cannot be verified: {exported}", hint="pass what torch2circle.export gave")
            made = _read(exported)
        else:
            made = exported.to_bytes(chosen)
        update = self._request.config.getoption("update_golden", default=False)
        if not update:
            failed = None
            try:
                golden.compare(made, self._request.getfixturevalue("tmp_path"))
            except GoldenFailure as failure:
                failed = str(failure)
            if failed is not None:  # outside of the handler, or pytest shows both failures, which have the same text
                pytest.fail(f"{failed}\n\nto accept what is made now: {self._command()}", pytrace=False)
        if verify and not isinstance(exported, Path):
            _must_be_right(exported.verify(chosen, None if update else path), name)
        if update:
            node.user_properties += [(WRITTEN, _shown(changed, root)) for changed in golden.update(made)]
        return path

    @property
    def _folder(self) -> Path:
        return Path(self._request.path.parent / self._request.config.getini("circle_golden_dir"))

    def _path(self, name: str) -> Path:
        from ..errors import UserError

        parts = PurePath(name).parts
        if not parts or PurePath(name).is_absolute() or ".." in parts:
            raise UserError(f"not a name for a golden file: {name!r}", hint="name a file below the folder, like net.circle")
        return self._folder / name

    def _command(self) -> str:
        """What accepts this test's files, from where pytest was started."""
        node, config = self._request.node, self._request.config
        file = os.path.relpath(node.path, config.invocation_params.dir)
        test = node.nodeid.partition("::")[2]
        return f"pytest {shlex.quote(f'{file}::{test}')} --update-golden"


def _read(path: Path) -> bytes:
    from ..errors import FormatError

    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error


def _must_be_right(report: Report, name: str) -> None:
    __tracebackhide__ = True
    worst = report.worst
    if not report.ok() and worst is not None:
        pytest.fail(f"{name}: {worst.op} {worst.name} is off by {worst.lsb:g} LSB in {report.runtime}\n  at {worst.where}", pytrace=False)


def _shown(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


class _Summary:
    """What the whole run says of golden files, the workers of pytest-xdist included."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.used: set[str] = set()
        self.written: dict[str, set[str]] = {}  # file -> the tests that wrote it
        self.tests: dict[str, set[Path]] = {}  # golden folder -> the folders of tests that name files in it
        self.unsettled: set[Path] = set()  # folders with a test that was skipped or failed, and so named not all of its files
        self.partial = any(config.getoption(option, default=None) for option in PARTIAL)

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.partial = self.partial or bool(items)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.partial = self.partial or bool(session.shouldfail or session.shouldstop)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = (self.config.rootpath / report.nodeid.partition("::")[0]).parent
        for key, value in report.user_properties:
            if key == FOLDER:
                self.tests.setdefault(str(value), set()).add(folder)
            elif key == USED:
                self.used.add(str(value))
            elif key == WRITTEN:
                self.written.setdefault(str(value), set()).add(report.nodeid)
        if not report.passed:
            self.unsettled.add(folder)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        stale = [] if self.partial else sorted(self._stale())
        if self.written or stale:
            terminalreporter.section("golden files")
        for name, tests in sorted(self.written.items()):
            terminalreporter.write_line(f"written {name}")
            if len(tests) > 1:
                of = ", ".join(sorted(tests))
                terminalreporter.write_line(f"  by tests that do not make the same, so give each a name of its own: {of}")
        for name in stale:
            terminalreporter.write_line(f"no test compares with {name}: delete it")

    def _stale(self) -> Iterator[str]:
        """The files in the golden folders that no test named, of folders whose tests all ran."""
        root = self.config.rootpath
        used = {root / name for name in self.used}
        used |= {path.with_name(f"{path.name}.txt") for path in used}
        for folder, tests in self.tests.items():
            if all(self._all_ran(beside) for beside in tests):
                files = (path for path in (root / folder).rglob("*") if path.name.endswith(SUFFIXES))
                yield from (_shown(path, root) for path in files if path not in used)

    def _all_ran(self, tests: Path) -> bool:
        return tests not in self.unsettled and any(_covers(arg, tests, self.config) for arg in self.config.args)


def _covers(arg: str, tests: Path, config: pytest.Config) -> bool:
    """Whether an argument of the command line names a folder in which the tests are."""
    named = (config.invocation_params.dir / arg).resolve()
    return named.is_dir() and tests.resolve().is_relative_to(named)
