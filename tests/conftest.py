"""Expected texts in files: compared, or written anew with ``--update-golden``."""

from __future__ import annotations

import difflib
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples on every machine, however slow: what a change breaks shows with that change. More are tried by
# `pytest --hypothesis-profile default`.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

GOLDEN = Path(__file__).parent / "golden"


def every(kind: str) -> set[str]:
    """All that a line ``kind`` (``calls`` or ``rules``) of the expected graphs names; ``test_ops`` holds each line against its case."""
    lines = (line for path in GOLDEN.rglob("*.txt") for line in path.read_text(encoding="utf-8").splitlines()[:2])
    return {name for line in lines if line.startswith(f"{kind} ") for name in line.split()[1:]}


def pinned(package: str) -> bool:
    """Whether the version that is installed is that of constraints.txt."""
    version = importlib.metadata.version(package).partition("+")[0]
    return f"{package}=={version}" in (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew, and run only the tests that compare with it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--update-golden"):
        golden = [item for item in items if "golden" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in golden])
        items[:] = golden


@pytest.fixture(autouse=True)
def _engine() -> None:
    """PyTorch's quantized engine is global: no test may see another test's."""
    torch.backends.quantized.engine = "fbgemm"


@pytest.fixture
def fresh_random_and_quiet() -> Iterator[None]:
    """For models that a test trains or quantizes itself: the same on each run, and without what PyTorch says about its own workflows."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``golden(name, text)`` fails unless the file ``name`` holds ``text``; ``accept`` says how to accept what it is now."""

    def compare(name: str, text: str, accept: str = "`make golden` accepts this") -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        expected = path.read_text(encoding="utf-8") if path.exists() else ""
        if text != expected:
            diff = difflib.unified_diff(expected.splitlines(True), text.splitlines(True), f"tests/golden/{name}", "now")
            pytest.fail(f"{name} is not what is written now; {accept}:\n{''.join(diff)}", pytrace=False)

    return compare
