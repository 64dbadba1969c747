"""What is built and given away: the wheel, the source distribution, what they say of themselves, and what they bring."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import torch2circle
from pages import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import contents
import licences
import release
import versions


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, made from the source distribution, and that."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def build(source: Path, into: Path, **environment: str) -> None:
    """With the build tool that is installed here, so that the tests need no network."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(source)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"\bwarning\b|deprecat", done.stdout + done.stderr, re.IGNORECASE)


# -- what is built


def test_the_wheel_is_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    assert contents.faults_of_wheel(built[0]) == []
    names = zipfile.ZipFile(built[0]).namelist()
    assert [name for name in names if not name.startswith(("torch2circle/", "torch2circle-"))] == []


@pytest.mark.skipif(not contents.tracked(), reason="this is no repository to compare with")
def test_the_source_distribution_is_the_repository(built: tuple[Path, Path]) -> None:
    assert contents.faults_of_sdist(built[1]) == []


def test_what_is_missing_or_too_much_is_found(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel = tmp_path / built[0].name
    with zipfile.ZipFile(built[0]) as old, zipfile.ZipFile(wheel, "w") as new:
        for name in old.namelist():
            if name != "torch2circle/support.json":
                new.writestr(name, old.read(name))
        new.writestr("tests/test_cli.py", "")
    assert contents.faults_of_wheel(wheel) == [
        f"{wheel.name} lacks torch2circle/support.json", f"{wheel.name} should not have tests/test_cli.py"
    ]  # fmt: skip
    source, root = tmp_path / built[1].name, built[1].name.removesuffix(".tar.gz")
    with tarfile.open(built[1]) as old_tar, tarfile.open(source, "w:gz") as new_tar:
        for member in old_tar.getmembers():
            if member.name != f"{root}/schema/circle.fbs":
                new_tar.addfile(member, old_tar.extractfile(member))
        link = tarfile.TarInfo(f"{root}/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        new_tar.addfile(link)
    assert contents.faults_of_sdist(source) == [f"{source.name}: {root}/link is a link", f"{source.name} lacks schema/circle.fbs"]


def test_the_same_bytes_whoever_builds(built: tuple[Path, Path], tmp_path: Path) -> None:
    """In another folder, on another day, with other permissions; the wheel from the source distribution that was built."""
    with tarfile.open(built[1]) as archive:
        for member in archive.getmembers():
            member.mtime, member.mode = 1_000_000_000, member.mode & 0o700
            archive.extract(member, tmp_path, set_attrs=True)
    (folder,) = tmp_path.iterdir()
    build(folder, tmp_path / "again", TZ="Asia/Seoul", PYTHONHASHSEED="7")
    for path in built:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_the_wheel_says_of_itself_is_valid(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        about = Metadata.from_email(wheel.read(name), validate=True)  # raises for each field that an index would refuse
        (points,) = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    assert about.name == "torch2circle"
    assert (str(about.version), about.license_expression, about.license_files) == (torch2circle.__version__, "Apache-2.0", ["LICENSE"])
    assert str(about.requires_python) == ">=3.10"
    assert about.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert "torch2circle = torch2circle.cli:main" in points


def test_there_is_one_version() -> None:
    assert torch2circle.__version__ == release.project()["version"]
    assert release.version_agrees(final=False).startswith(torch2circle.__version__)


@pytest.mark.parametrize(
    ("changelog", "says"),
    [
        ("## [Unreleased]\n\n## [9.9.9] - 2030-01-01\n", "does not begin with"),
        ("## [Unreleased]\n\n## [VERSION] - unreleased\n", "where the day of the release"),
        ("## [Unreleased]\n\n- new\n\n## [VERSION] - 2030-01-01\n", "below [Unreleased]"),
    ],
)
def test_a_changelog_that_is_not_of_the_release(
    changelog: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(changelog.replace("VERSION", torch2circle.__version__), encoding="utf-8")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    with pytest.raises(release.Failed, match=re.escape(says)):
        release.version_agrees(final=True)


def test_an_audit_that_could_not_be_made_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for said, code, kind in (
        ("", 0, None),
        ("ConnectionError: no such host", 1, release.NotDone),
        ("click: Dependency not found on PyPI and could not be audited", 1, release.NotDone),
        ("Found 1 known vulnerability in 1 package", 1, release.Failed),
    ):
        monkeypatch.setattr(release, "_process", lambda _, said=said, code=code: subprocess.CompletedProcess([], code, said, ""))
        if kind is None:
            assert release.audited(tmp_path / "c.txt") == "no known vulnerability in c.txt"
        else:
            with pytest.raises(kind):
                release.audited(tmp_path / "c.txt")


# -- what is needed


def requirements() -> Iterator[tuple[str, Requirement]]:
    """Each requirement of pyproject.toml with the extra it is of."""
    yield from (("", Requirement(text)) for text in release.project()["dependencies"])
    for extra, texts in release.project()["optional-dependencies"].items():
        yield from ((extra, Requirement(text)) for text in texts if not text.startswith("torch2circle["))


def pins(name: str) -> dict[str, str]:
    """Version by normalized name of a file of constraints, lines for other Pythons left out."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line]
    assert [str(each) for each in found if not re.fullmatch(r"==[^*,]+", str(each.specifier))] == []
    return {canonicalize_name(each.name): str(each.specifier)[2:] for each in found if each.marker is None or each.marker.evaluate()}


def test_every_requirement_is_pinned_within_its_range() -> None:
    found = pins("constraints.txt")
    for _, requirement in requirements():
        if requirement.marker is None or requirement.marker.evaluate():
            version = found.get(canonicalize_name(requirement.name), "none")
            assert version != "none", f"{requirement} is not in constraints.txt"
            assert requirement.specifier.contains(version, prereleases=True), f"constraints.txt has {requirement.name}=={version}"


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    """Of all that users install; the tests' own tools are those of constraints.txt."""
    found = pins("constraints-oldest.txt")
    installed = [requirement for extra, requirement in requirements() if extra in ("", *release.EXTRAS)]
    for requirement in installed:
        (bound,) = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
        if requirement.marker is None or requirement.marker.evaluate():
            assert Version(found.pop(canonicalize_name(requirement.name))) == bound, f"{requirement}: another version is the oldest tested"
    assert found == {}


def test_an_environment_of_the_oldest_has_them_and_the_tools_of_today(tmp_path: Path) -> None:
    for which, torch, lines, without in (
        ("oldest", None, {"torch==2.6.0", "click==8.0.0", f"pytest=={pins('constraints.txt')['pytest']}"}, {"filelock"}),
        ("oldest", "2.9.1", {"click==8.0.0"}, {"torch"}),
        ("pinned", "2.9.1", {f"click=={pins('constraints.txt')['click']}"}, {"torch", "sympy"}),
    ):
        _, file = versions.constraints(tmp_path, which, torch)
        written = [line for line in Path(file).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
        names = [line.partition("==")[0] for line in written]
        assert len(names) == len(set(names))
        assert lines <= set(written)
        assert not without & set(names)
    assert versions.constraints(tmp_path, "newest", None) == []
    assert versions.constraints(tmp_path, "pinned", None) == ["-c", ROOT / "constraints.txt"]


@pytest.mark.parametrize("extras", [(), release.EXTRAS], ids=["base", "all"])
def test_what_comes_along_may_be_used_and_passed_on(extras: tuple[str, ...]) -> None:
    try:
        # A CUDA build of PyTorch brings NVIDIA's libraries, under NVIDIA's licence.
        names = [name for name in licences.closure("torch2circle", extras) if not name.startswith(("nvidia-", "cuda-"))]
        found = {name: licences.licences(name) for name in names}
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    allowed = licences.PERMISSIVE if not extras else licences.PERMISSIVE | licences.BY_FILE
    assert {name: has for name, has in found.items() if not has or not has <= allowed} == {}


def test_a_licence_that_binds_is_seen() -> None:
    assert licences.permitted({"MIT", "MPL-2.0"})
    assert not licences.permitted({"MIT", "GPL-3.0-only"})
    assert not licences.permitted(set())


# -- Python 3.10


@pytest.mark.parametrize("folder", ["src", "tools", "tests", "examples"])
def test_the_syntax_is_that_of_the_oldest_python(folder: str) -> None:
    """Names and modules of the library are mypy's to check, which is told the same version."""
    (oldest,) = re.findall(r">=3\.(\d+)", release.project()["requires-python"])
    for path in (ROOT / folder).rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, int(oldest)))
    assert f'python_version = "3.{oldest}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
