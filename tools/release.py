"""Do all of a release that can be done by a program, but for the tests: build, look at what was built, install it where nothing else is.

    python tools/release.py           into dist/: wheel, source distribution, bill of materials, digests
    python tools/release.py --final   and the changelog must have the day of the release
    python tools/release.py --only vulnerable

Each step says what it found. The exit code is 1 if one of them failed; what could not be done for want of a network is said, and is
no failure.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import contents
import licences

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DIST, WORK = ROOT / "dist", ROOT / "build" / "release"
NAME = "torch2circle"
EXTRAS = ("verify", "report", "nnpackage", "view", "safetensors", "cluster")
IMPORTED = {"view": "netron", "safetensors": "safetensors", "cluster": "distributed"}
"""The package of an extra whose command serves without end, or needs what is not here."""
PROJECT = ROOT / "examples" / "golden_project"


class Failed(Exception):
    """A step found something that must not be released."""


class NotDone(Exception):
    """A step needs what this machine does not have."""


Step = Callable[[], str]
Words = Sequence[str | Path]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--final", action="store_true", help="the release itself: changelog dated, everything committed")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="these steps alone; some look at what others made")
    args = parser.parse_args(argv)
    final: bool = args.final
    steps: list[tuple[str, Step]] = [
        ("version", lambda: version_agrees(final)), ("committed", lambda: committed(final)), ("build", build), ("metadata", twine),
        ("reproducible", reproducible), ("contents", whole), ("base", base_install), ("extras", extras_install),
        ("licences", licences_permit), ("materials", materials), ("vulnerable", audit), ("digests", digests),
    ]  # fmt: skip
    if unknown := set(args.only or ()) - {name for name, _ in steps}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(name for name, _ in steps)}")
    steps = [(name, step) for name, step in steps if not args.only or name in args.only]
    failed = undone = 0
    for name, step in steps:
        try:
            word, text = "ok", step()
        except NotDone as error:
            word, text, undone = "not done", str(error), undone + 1
        except Failed as error:
            word, text, failed = "FAILED", str(error), failed + 1
        print(f"{word:8}  {name:12}  {text}", flush=True)
        if word == "FAILED" and name == "build":
            break  # the others look at what was built
    print(f"{len(steps) - failed - undone} steps ok, {failed} failed, {undone} not done")
    return 1 if failed else 0


# -- what was built


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def version_agrees(final: bool) -> str:
    """pyproject.toml has the version, and the changelog a section for it: the newest below [Unreleased]."""
    version = project()["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[([^\]]+)\](?: - (\S+))?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if [name for name, *_ in sections[:2]] != ["Unreleased", version]:
        raise Failed(f"CHANGELOG.md does not begin with [Unreleased] and [{version}], the version of pyproject.toml")
    (_, _, coming), (_, day, _) = sections[:2]
    if final and not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
        raise Failed(f"CHANGELOG.md says '{day}' where the day of the release of {version} belongs")
    if final and coming.strip():
        raise Failed(f"CHANGELOG.md has entries below [Unreleased]: they belong to {version}, or the version to them")
    return f"{version} in pyproject.toml and CHANGELOG.md ({day})"


def committed(final: bool) -> str:
    found = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        raise NotDone("this is no git repository")
    if final and found.stdout:
        raise Failed(f"not committed:\n{found.stdout.rstrip()}")
    return f"{len(found.stdout.splitlines())} changed files are not committed" if found.stdout else "nothing is changed"


def build() -> str:
    """Wheel and source distribution, the wheel from the latter as an installer would; in an environment of their own."""
    for old in DIST.glob(f"{NAME}-*"):
        old.unlink()
    said = _run([sys.executable, "-m", "build", "--outdir", DIST, ROOT])
    if warned := [line for line in said.splitlines() if re.search(r"\bwarning\b|deprecat", line, re.IGNORECASE)]:
        raise Failed("the build warns: " + "; ".join(warned))
    return ", ".join(f"{path.name} {path.stat().st_size:,} bytes" for path in built()) + "; no warning"


def built() -> tuple[Path, Path]:
    """The wheel and the source distribution."""
    (wheel,), (source,) = DIST.glob(f"{NAME}-*.whl"), DIST.glob(f"{NAME}-*.tar.gz")
    return wheel, source


def twine() -> str:
    said = _run([sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built()])
    return f"twine: {said.count('PASSED')} files passed"


def reproducible() -> str:
    """The same bytes from a copy in another folder, of another date and umask, on another day, in another time zone and language."""
    with tempfile.TemporaryDirectory(dir=WORK.parent if WORK.parent.is_dir() else None) as folder:
        copy = Path(folder) / "elsewhere"
        for name in contents.tracked() or {path.name for path in ROOT.iterdir() if path.name not in ("dist", "build", ".venv")}:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(ROOT / name, copy / name) if (ROOT / name).is_dir() else shutil.copy(ROOT / name, copy / name)
        for path in copy.rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000))
            path.chmod(path.stat().st_mode & 0o700)
        environment = {"TZ": "Asia/Seoul", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
        _run([sys.executable, "-m", "build", "--outdir", copy / "dist", copy], environment)
        if differ := [path.name for path in built() if (copy / "dist" / path.name).read_bytes() != path.read_bytes()]:
            raise Failed(f"built again elsewhere, the bytes are others: {', '.join(differ)}")
    return "the same bytes from another folder, with other dates, permissions, time zone and hash seed"


def whole() -> str:
    wheel, source = built()
    if faults := [*contents.faults_of_wheel(wheel), *contents.faults_of_sdist(source)]:
        raise Failed("\n".join(faults))
    with zipfile.ZipFile(wheel) as archive:
        return f"{len(archive.namelist())} files in the wheel, and the whole repository in the source distribution"


# -- installed


def inside() -> Path:
    return WORK / "environment" / "bin" / "python"


def base_install() -> str:
    """In an environment that holds nothing but the wheel and what it asks for, in the versions of constraints.txt."""
    shutil.rmtree(WORK, ignore_errors=True)
    _run([sys.executable, "-m", "venv", "--without-pip", WORK / "environment"])
    _install(str(built()[0]))
    found = _run([inside(), "-m", NAME, "--version"])
    if found.split() != [NAME, project()["version"]]:
        raise Failed(f"--version says {found!r}")
    golden = PROJECT / "tests" / "golden"
    for look in (["--help"], ["inspect", str(golden / "digits.circle")]):
        loaded = _run([inside(), "-X", "importtime", "-m", NAME, *look])
        if re.search(r"\|\s+torch$", loaded, re.MULTILINE):
            raise Failed(f"{look[0]} imports torch")
    for suffix in ("circle", "tflite"):
        made = WORK / f"digits.{suffix}"
        said = _run([inside(), "-m", NAME, PROJECT / "digits.pt", made, "--inputs", PROJECT / "digits.npy"])
        if "is not installed" not in said:
            raise Failed(f"the export does not say that the file was not verified:\n{said}")
        _run([inside(), "-m", NAME, "diff", golden / made.name, made, "--ignore", "metadata"])
    for extra, words in _commands():
        done = _process([inside(), "-m", NAME, *words])
        if done.returncode != 11 or f'pip install "{NAME}[{extra}]"' not in done.stderr or "Traceback" in done.stderr:
            raise Failed(f"without the extra {extra}: exit code {done.returncode}\n{done.stderr}")
    count = len(_packages())
    return f"{count} packages; --help, inspect, both exports (as accepted), and each missing extra is named with exit code 11"


def extras_install() -> str:
    _install(f"{built()[0]}[{','.join(EXTRAS)}]")
    for extra, words in _commands():
        if extra in IMPORTED:
            _run([inside(), "-c", f"import {IMPORTED[extra]}"])
        else:
            _run([inside(), "-m", NAME, *words])
    return f"{len(_packages())} packages; verify, report and --nnpackage run, {', '.join(IMPORTED.values())} can be imported"


def _commands() -> Iterator[tuple[str, Words]]:
    """For each extra a command that needs it."""
    model, file = PROJECT / "digits.pt", WORK / "digits.circle"
    sample: Words = ["--inputs", PROJECT / "digits.npy"]
    yield "verify", ["verify", model, file, *sample]
    yield "report", ["report", model, file, "-o", WORK / "digits.html", *sample]
    yield "nnpackage", [model, "--nnpackage", WORK / "digits.zip", *sample]
    yield "view", ["view", file, "--no-browser"]
    (WORK / "net.py").write_text("import torch\n\n\ndef net():\n    return torch.nn.Linear(2, 2).eval()\n", encoding="utf-8")
    (WORK / "net.safetensors").touch()
    yield "safetensors", [f"{WORK / 'net.py'}:net", WORK / "net.circle", "--state", WORK / "net.safetensors"]
    (WORK / "nets.toml").write_text('[[job]]\nmodel = "net.py:net"\noutput = "net.circle"\n', encoding="utf-8")
    yield "cluster", ["batch", WORK / "nets.toml", "--scheduler", "tcp://127.0.0.1:1"]


def _install(what: str) -> None:
    options: Words = ["--disable-pip-version-check", "--quiet", "--constraint", ROOT / "constraints.txt"]
    _run([sys.executable, "-m", "pip", "--python", inside(), "install", *options, what])


def _packages() -> list[str]:
    code = "import importlib.metadata as m; print(*sorted({d.metadata['Name'].lower() for d in m.distributions()}))"
    return _run([inside(), "-c", code]).split()


# -- what it brings


def licences_permit() -> str:
    """Of what an installation with all extras for users brings here: permissive, or copyleft by file."""
    found = {name: licences.licences(name) for name in licences.closure(NAME, EXTRAS)}
    if wrong := [f"{name}: {', '.join(sorted(has)) or 'none'}" for name, has in sorted(found.items()) if not licences.permitted(has)]:
        raise Failed("licences that are not known to permit use: " + "; ".join(wrong))
    return f"of {len(found)} packages: {', '.join(sorted(set().union(*found.values())))}"


def materials() -> str:
    """The bill of materials of that environment in CycloneDX, without what is of this machine."""
    path = DIST / f"{NAME}-{project()['version']}.cdx.json"
    options: Words = ["--pyproject", ROOT / "pyproject.toml", "--mc-type", "library", "--output-reproducible", "-o", path]
    _run([sys.executable, "-m", "cyclonedx_py", "environment", *options, inside()])
    bill = json.loads(path.read_text(encoding="utf-8"))
    for component in bill["components"]:
        references = [each for each in component.get("externalReferences", []) if not each["url"].startswith("file:")]
        component["externalReferences"] = references
        if not references:
            del component["externalReferences"]
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    if str(ROOT) in text:
        raise Failed(f"{path.name} has paths of this machine")
    path.write_text(text, encoding="utf-8")
    return f"{path.name}: {len(bill['components'])} components, CycloneDX {bill['specVersion']}"


def audit() -> str:
    """The versions of constraints.txt against the database of known vulnerabilities; a package that it does not know fails, too."""
    return audited(ROOT / "constraints.txt")


def audited(versions: Path) -> str:
    options: Words = ["--strict", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    done = _process([sys.executable, "-m", "pip_audit", *options, "-r", versions])
    said = done.stdout + done.stderr
    if done.returncode == 0:
        return f"no known vulnerability in {versions.name}"
    if re.search(r"ConnectionError|ServiceError|not found on PyPI|could not be audited|timed out", said):
        raise NotDone("the database of vulnerabilities cannot be reached from here: run `make audit` where it can")
    raise Failed(said.strip())


def digests() -> str:
    files = sorted(path for path in DIST.glob(f"{NAME}-*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in files]
    (DIST / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"dist/SHA256SUMS of {len(files)} files"


def _process(command: Words, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | (environment or {})
    return subprocess.run(command, cwd=WORK if WORK.is_dir() else None, env=clean, capture_output=True, text=True, check=False)


def _run(command: Words, environment: dict[str, str] | None = None) -> str:
    """What the command prints; it must succeed."""
    done = _process(command, environment)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
