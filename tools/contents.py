"""What the wheel and the source distribution hold, held against the repository."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "torch2circle"
# Not Python, and torch2circle does not run without them.
DATA = {"py.typed", "support.json", "targets/capabilities.json", "report/page.html", "report/page.css", "report/page.js"}
INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
# What a build, the tests and `make` start from.
NEEDED = {
    "pyproject.toml", "constraints.txt", "constraints-oldest.txt", "Makefile", "mkdocs.yml", "schema/circle.fbs", "LICENSE", ".ci/run",
    "tests/conftest.py", "tools/contents.py",
}  # fmt: skip


def modules() -> set[str]:
    """The files of the package, from its folder on."""
    return {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def faults_of_wheel(path: Path) -> list[str]:
    """What it lacks or has too much: it is every file of the package, the five of its description, and nothing else."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
    name, version, *_ = path.name.split("-")
    expected = {f"{name}/{module}" for module in modules()} | {f"{name}-{version}.dist-info/{file}" for file in INFO}
    lost = sorted(DATA - modules())
    return [*(f"the package lacks {file}" for file in lost), *_differences(path.name, names, expected)]


def faults_of_sdist(path: Path) -> list[str]:
    """The same: it is every file of the repository, and its description."""
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    root = path.name.removesuffix(".tar.gz")
    names = {member.name.removeprefix(f"{root}/") for member in members if member.isfile()}
    kinds = [f"{path.name}: {member.name} is a link" for member in members if member.issym() or member.islnk()]
    expected = (tracked() or NEEDED | names) | {"PKG-INFO"}
    return [*kinds, *_differences(path.name, names, expected)]


def tracked() -> set[str]:
    """The files of the repository, those not yet committed included; none where this is no repository."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {name for name in found.split("\0") if name and (ROOT / name).exists()}


def _differences(where: str, names: set[str], expected: set[str]) -> list[str]:
    lacks, extra = sorted(expected - names), sorted(names - expected)
    return [*(f"{where} lacks {name}" for name in lacks), *(f"{where} should not have {name}" for name in extra)]
