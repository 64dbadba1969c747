"""The documentation site builds without a warning, needs nothing from elsewhere, and leaves nothing out."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import torch2circle
from conftest import pinned
from pages import ROOT
from torch2circle import errors
from torch2circle.cli.group import cli

sys.path.insert(0, str(ROOT / "tools"))
DOCS, SOURCE = ROOT / "docs", Path(torch2circle.__file__).parent


class Html(HTMLParser):
    """What a page links to, what it loads, its anchors and its headings."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and "src" in found:
            self.loads.append(found["src"])
        if tag == "link" and "href" in found and found.get("rel") != "canonical":
            self.loads.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``make docs`` builds it: in strict mode a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout == ""
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Html]:
    return {path: Html(path) for path in site.rglob("*.html")}


def test_nothing_is_loaded_from_elsewhere(site: Path, built: dict[Path, Html]) -> None:
    assert {load for page in built.values() for load in page.loads if re.match(r"(https?:)?//", load)} == set()
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert [url for text in styles for url in re.findall(r"(?:url\(|@import )[\"']?((?:https?:)?//[^)\"']+)", text)] == []


def test_links_inside_of_the_site_resolve(site: Path, built: dict[Path, Html]) -> None:
    broken = []
    for path, page in built.items():
        if path.name == "404.html":  # its links are from the root of a server
            continue
        for link in (*page.links, *page.loads):
            if re.match(r"[a-z]+:|//", link):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target in built and anchor not in built[target].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_every_page_is_a_page_of_the_site(site: Path, built: dict[Path, Html]) -> None:
    """And every one is in the navigation: a build in strict mode fails otherwise."""
    pages = {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")}
    assert pages <= {path.relative_to(site).with_suffix("") for path in built}


def test_a_page_that_is_not_in_the_navigation_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# a\n")
    (tmp_path / "docs" / "lost.md").write_text("# b\n")
    rules = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (validation,) = re.findall(r"^validation:\n(?:  .*\n)+", rules, re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(f"site_name: a\nnav: [index.md]\n{validation}")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "lost.md" in done.stderr


# -- nothing is left out


def test_the_reference_has_every_public_name(built: dict[Path, Html], site: Path) -> None:
    anchors = built[site / "api.html"].anchors
    assert [name for name in torch2circle.__all__ if f"torch2circle.{name}" not in anchors] == []


def test_the_reference_has_every_command_and_option(site: Path) -> None:
    text = (site / "commands.html").read_text(encoding="utf-8")
    for name, command in cli.commands.items():
        assert f"torch2circle {name}" in text
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        # in the table an option may stand behind its short form, as --output does in "-o, --output"
        assert [option for option in options if not re.search(rf"<code>(-\w, )?{option}\b", text)] == []


def classes() -> list[type[errors.Torch2CircleError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.Torch2CircleError)]
    return [each for each in found if each not in (errors.Torch2CircleError, errors.UserError)]


@cache
def catalogue() -> str:
    return (DOCS / "errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("error", classes(), ids=lambda error: error.__name__)
def test_every_error_has_an_entry_with_an_example(error: type[errors.Torch2CircleError]) -> None:
    """Below its heading a command ends with its exit code, which ``test_docs`` runs."""
    (entry,) = re.findall(rf"^## {error.exit_code}: {error.__name__}\n(.*?)(?=^## |\Z)", catalogue(), re.MULTILINE | re.DOTALL)
    if error is errors.Bug:  # none is known, or it would be mended
        assert "```" not in entry
    else:
        assert re.search(rf"\$ echo \$\?\n{error.exit_code}\n", entry), f"no example ends with exit code {error.exit_code}"
        assert "**Fix**" in entry


def test_the_readme_names_every_exit_code() -> None:
    table = re.findall(r"^\| ([\d, ]+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = {int(code) for cell in table for code in cell.split(",")}
    assert {error.exit_code for error in classes()} - listed == set()


def codes() -> Iterator[str]:
    """The code of every finding that the source makes, ``*`` for a part of it that is computed.

    Those of graphs that are not well formed are a ``Bug``, and a name is a code that was made elsewhere and is handed on.
    """
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name not in ("Finding", "note") or len(node.args) < 2:
                continue
            severities, code = {n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)}, node.args[1]
            if "error" in severities and path.name == "spec.py":
                continue
            if isinstance(code, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in code.values)
            elif isinstance(code, ast.IfExp):
                yield from (part.value for part in (code.body, code.orelse) if isinstance(part, ast.Constant))
            elif isinstance(code, ast.Constant):
                yield str(code.value)


def explained(code: str) -> list[str]:
    """What the documentation says of a code: its part of the catalogue, or its row of a table on the page of a command."""
    name = re.escape(code).replace(r"\*", r"[\w-]+")
    entries = re.findall(rf"^### {name}\n(.*?)(?=^##|\Z)", catalogue(), re.MULTILINE | re.DOTALL)
    pages = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")]
    return entries or [row for text in pages for row in re.findall(rf"^\| `{name}` \|.*", text, re.MULTILINE)]


@pytest.mark.parametrize("code", sorted(set(codes())))
def test_every_diagnostic_is_explained(code: str) -> None:
    assert explained(code)


@pytest.mark.parametrize("code", re.findall(r"^### ([\w-]+)$", catalogue(), re.MULTILINE))
def test_every_diagnostic_of_the_catalogue_has_an_example(code: str) -> None:
    """Whose Python prints it, which ``test_docs`` holds it to; and something makes it."""
    (entry,) = explained(code)
    assert re.search(rf"<!-- prints -->\n```text\n[^`]*\[{code}\]", entry)
    assert any(re.fullmatch(re.escape(made).replace(r"\*", r"\w+"), code) for made in codes())


def test_the_page_about_conversions_has_every_code() -> None:
    tree = ast.parse((SOURCE / "conversion.py").read_text(encoding="utf-8"))
    calls = [(getattr(node.func, "id", ""), node.args) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = [args[0 if name == "loss" else 1] for name, args in calls if name in ("loss", "Finding")]
    said = {str(code.value) for code in made if isinstance(code, ast.Constant)}
    assert len(said) > 5
    text = (DOCS / "convert.md").read_text(encoding="utf-8")
    assert {code for code in said if f"`{code}`" not in text} == set()


# -- figures


@pytest.mark.skipif(not pinned("matplotlib"), reason="another matplotlib than the one of constraints.txt draws other paths")
def test_figures_are_what_is_drawn_now() -> None:
    import figures

    assert figures.stale() == []


def test_every_figure_is_shown_and_described() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    shown: dict[str, Any] = dict(re.findall(r"!\[([^\]]+)\]\([./]*figures/([\w.]+)\)", text))
    assert set(shown.values()) == {path.name for path in (DOCS / "figures").iterdir()}
