"""What ARCHITECTURE.md promises about imports and sizes, read from the source."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

import torch2circle

SOURCE = Path(torch2circle.__file__).parent
# A module imports from its own row and the rows above. The last row is what ties everything together.
ROWS = [
    {"errors"},
    {"ir", "text"},
    {"spec", "releases", "arithmetic", "quant", "format", "unfused", "plain", "one_scale", "collecting"},
    {
        "loading", "shapes", "record", "provenance", "mutation", "trees", "lower", "optimize", "targets", "boundary", "scales", "implant",
        "runtimes", "samples", "checks", "difference", "conversion", "junit",
    },
    {"verify", "nnpackage"},
    {"pipeline"},
    {"support", "methods", "preflight"},
    {"report"},
    {"overview", "dot", "show", "cli", "batch", "testing"},
    {"__init__", "__main__"},
]  # fmt: skip
RECORDING = {"record", "provenance", "mutation", "trees", "unfused", "plain", "one_scale"}
ALLOWED = {
    "torch": RECORDING | {"loading", "shapes", "quant", "lower", "pipeline", "support", "samples", "batch"},
    "flatbuffers": set(),
    "onert": set(),  # runtimes.py imports them by name, in a child
    "ai_edge_litert": set(),
    "bokeh": {"report"},
    "fast_sugiyama": {"report"},
    "distributed": {"batch"},
    "numpy": {name for row in ROWS[1:] for name in row},
}
FILES = [pytest.param(path, id=str(path.relative_to(SOURCE))) for path in sorted(SOURCE.rglob("*.py"))]


def part(path: Path) -> str:
    """The module or package right below torch2circle."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """What a file imports when it runs, as paths of names; relative ones begin with ``torch2circle``."""
    package = ("torch2circle", *path.relative_to(SOURCE).parts[:-1])
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for branch in ast.walk(tree):  # what only a type checker reads binds nobody
        if isinstance(branch, ast.If) and isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING":
            branch.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(name.name.split(".")) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
                if node.level
                else tuple((node.module or "").split("."))
            )
            yield from ((*filter(None, base), name.name) for name in node.names)


@pytest.mark.parametrize("path", FILES)
def test_imports_go_up(path: Path) -> None:
    rank = {name: number for number, row in enumerate(ROWS) for name in row}
    own = part(path)
    assert own in rank, f"give {own} a place in the order, here and in ARCHITECTURE.md"
    for target in imports(path):
        if target[0] == "torch2circle" and target[1] in rank:
            assert rank[target[1]] <= rank[own], f"{own} imports {target[1]}, which comes behind it"


@pytest.mark.parametrize("path", FILES)
def test_packages_are_imported_where_they_belong(path: Path) -> None:
    for target in imports(path):
        assert part(path) in ALLOWED.get(target[0], {part(path)}), f"{part(path)} imports {target[0]}"


def test_the_order_is_the_documents() -> None:
    text = (SOURCE.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (order,) = re.findall(r"`(errors < .*)`", text)
    rows = [set(re.findall(r"\w+", row)) for row in order.split("<")]
    assert len(rows) == len(ROWS) - 1
    for documented, row in zip(rows, ROWS, strict=False):
        assert documented <= row
    modules = {part(path) for path in SOURCE.rglob("*.py")} - ROWS[-1]
    assert [name for name in sorted(modules) if not re.search(rf"\b{name}\b", text)] == []


def lowerings() -> list[int]:
    """Lines of each function that ``@lowers`` registers, decorators included."""
    functions = [
        node
        for path in (SOURCE / "lower").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    marked = [f for f in functions if any(isinstance(d, ast.Call) and getattr(d.func, "id", "") == "lowers" for d in f.decorator_list)]
    return [(f.end_lineno or f.lineno) - f.decorator_list[0].lineno + 1 for f in marked]


def test_lowerings_are_short() -> None:
    lines = lowerings()
    assert len(lines) > 30
    assert statistics.median(lines) <= 15
    assert max(lines) <= 30
