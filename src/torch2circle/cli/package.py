"""``--nnpackage``: an export as ONE's nnpackage, and what its test case says in onert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import UserError
from .terminal import say

if TYPE_CHECKING:
    from ..methods import ExportedMethods
    from ..pipeline import ExportedModel
    from ..targets import Target

F = TypeVar("F", bound=Callable[..., Any])


def package_options(command: F) -> F:
    """``--nnpackage`` and ``--expected``."""
    package = click.option("--nnpackage", "package", type=click.Path(path_type=Path), metavar="DIR|ZIP", help="Write ONE's nnpackage, "
                           "too, or instead of OUTPUT: the model, its MANIFEST, and the example as a test case.")  # fmt: skip
    expected = click.option("--expected", type=click.Choice(["torch", "onert"]), default="torch", show_default=True, help="Whose outputs "
                            "the test case of the nnpackage expects.")  # fmt: skip
    return package(expected(command))


def must_be_possible(path: Path, target: Target, expected: str) -> None:
    """Refuse before the model is loaded what can be told by then."""
    from .. import nnpackage
    from ..format import must_be_free

    nnpackage.package_name(path)
    nnpackage.must_have(target, expected)
    if not nnpackage.is_archive(path):
        must_be_free(path)


def save_package(exported: ExportedModel | ExportedMethods, path: Path, target: Target, expected: str, run: bool) -> dict[str, Any]:
    """Write the package and, if it is to ``run`` and onert is there, run its test case; what the summary says of it."""
    from .. import nnpackage
    from ..pipeline import ExportedModel
    from ..runtimes import available

    if not isinstance(exported, ExportedModel):
        names = ", ".join(exported.methods)
        raise UserError(f"an nnpackage is of one model, not of methods: {names}", hint="export each of them by itself")
    made = exported.save_nnpackage(path, target.name, expected=expected)
    case = None
    if run and not made.custom_ops and target.runtime is not None and available(target.runtime):
        outcome = nnpackage.check(path)
        case = {"passed": outcome.passed, "size": outcome.size, "off": outcome.off, "largest": outcome.largest}
    return {"path": str(path), "expected": expected, "custom_ops": list(made.custom_ops), "case": case}


def print_package(package: dict[str, Any]) -> None:
    """A line of the summary."""
    case, path = package["case"], package["path"]
    if package["custom_ops"]:
        say("nnpackage", f"{path}: put the kernels of {', '.join(package['custom_ops'])} into its folder custom_op")
    elif case is None:
        say("nnpackage", f"{path}: its test case was not run")
    elif case["passed"]:
        say("nnpackage", f"{path}: its test case passes in onert")
    else:
        hint = "; --expected onert writes what onert computes here" if package["expected"] == "torch" else ""
        off = f"{case['off']} of {case['size']} outputs are off by more than 0.001, at most by {case['largest']:g}"
        say("nnpackage", f"{path}: ONE's nnpkg-test will say Fail, as {off}{hint}")
