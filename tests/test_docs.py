"""Every code block of every page runs, or says why it does not: see ``pages``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pages import PAGES, ROOT, Block, Page, PageError, blocks, commands, faults, same
from torch2circle import runtimes
from torch2circle.lower import LOWERINGS

EACH = pytest.mark.parametrize("path", [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in PAGES])


@pytest.fixture(autouse=True)
def _no_lowering_is_left() -> Iterator[None]:
    before = dict(LOWERINGS)
    yield
    LOWERINGS.clear()
    LOWERINGS.update(before)


@EACH
def test_every_block_is_run_or_says_why_not(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@EACH
@pytest.mark.skipif(not (runtimes.available("litert") and runtimes.available("onert")), reason="a runtime is not installed")
def test_a_page_does_what_it_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Page(path).run()


@EACH
def test_links_to_files_exist(path: Path) -> None:
    """Those inside of the site are checked where it is built, with their anchors."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (path.parent / target).exists()] == []


def page(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Page:
    monkeypatch.setattr("pages.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    return Page(tmp_path / "a.md")


def test_blocks_are_found_with_their_marks() -> None:
    text = "a\n\n<!-- not run: too long -->\n```sh\nmake\n```\n\n- b\n\n  ```python\n  x = 1\n  ```\n\n    y\n"
    assert blocks(text) == [Block("sh", "", "make\n", 5, "not run", "too long"), Block("python", "", "x = 1\n", 11)]
    assert [block.language for block in blocks("a\n\n    indented\n")] == [""]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```\nx\n```", "not of no language"),
        ("a\n\n    indented", "not of no language"),
        ("```bash\nls\n```", "not of bash"),
        ("<!-- not run: -->\n```sh\nls\n```", "no reason"),
        ('```python title="a.py"\nx = 1\n```', "no later block uses the file a.py"),
        ("<!-- prints -->\n```json\n1\n```", "a block of text"),
    ],
)
def test_a_block_that_is_neither_run_nor_marked_is_a_fault(text: str, says: str) -> None:
    (fault,) = faults(text)
    assert says in fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```python\nassert 1 == 2\n```", ":2: AssertionError"),
        ("```python\nprint(1)\n```\n\n<!-- prints -->\n```text\n2\n```", "and this was printed:\n1"),
        ("```sh\nrm x\n```", "only torch2circle, python, pytest and cat are run"),
        ("```console\n$ torch2circle inspect absent\n```\n\n```sh\ncat a.md\n```", "exit code 12"),
        ("```sh\ntorch2circle inspect absent\n```", "exit code 12"),
        ("```console\n$ torch2circle inspect absent\n...\n$ echo $?\n3\n```", "the page shows\n3"),
        ("```console\n$ torch2circle inspect absent\n```", "exit code 12"),
        ("```console\n$ torch2circle --version\ntorch3circle ...\n```", "the page shows\ntorch3circle"),
    ],
)
def test_a_page_that_does_something_else_fails(text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PageError) as caught:
        page(tmp_path, text, monkeypatch).run()
    assert says in str(caught.value)


def test_a_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        '<!-- setup\nx = 1\n-->\n```python title="net.py"\nprint("made")\n```\n\n```python\ny = x + 1\nprint(y)\n```\n'
        "\n<!-- prints -->\n```text\n2\n```\n\n```console\n$ python net.py\nma...\n"
        "$ torch2circle inspect absent.tflite\nerror: ...\n...\n$ echo $?\n12\n```\n"
    )
    assert page(tmp_path, text, monkeypatch).run()["y"] == 2


def test_dots_stand_for_what_varies() -> None:
    assert same("a ... c\n", "a b c\n")
    assert same("a\n...\nd", "a\nb\nc\nd\n")
    assert same("a\n...\nd", "a\nd")
    assert not same("a ... c", "a b\nc")
    assert not same("a", "a\nb")
    assert same("a 1,234 bytes, 0.5 s", "a   7 bytes, inf s", numbers=True)
    assert not same("a 1 b2", "a 1 b3", numbers=True)
    assert not same("1 bytes", "2 bytes")
    with pytest.raises(PageError, match="begins with a command"):
        list(commands(Block("console", "", "a\n$ b\n", 1)))
