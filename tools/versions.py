"""Run the tests with other versions of what torch2circle needs, each set in an environment of its own.

    python tools/versions.py oldest                     the lower bounds of pyproject.toml: constraints-oldest.txt
    python tools/versions.py newest                     the newest of everything
    python tools/versions.py pinned --python python3.13 constraints.txt, with another Python
    python tools/versions.py oldest --torch 2.9.1 tests/test_ops.py

Environments stay in build/versions and are used again. PyTorch comes from wherever pip is told to look: without an index of CPU builds
it is a CUDA build, and an environment takes 5 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
IN_TURN = "# what these need in turn"


def environment(which: str, python: str, torch: str | None) -> Path:
    """The Python of an environment with the package, in place, and all that its tests need."""
    tag = _said(python, "import sys; print('%d.%d' % sys.version_info[:2])")
    folder = ROOT / "build" / "versions" / "-".join(filter(None, (which, f"python{tag}", torch and f"torch{torch}")))
    inside = folder / "bin" / "python"
    if not inside.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    wanted = [*constraints(folder, which, torch), "-e", ".[test]", *([f"torch=={torch}"] if torch else [])]
    _pip(inside, "install", *(["--upgrade"] if which == "newest" else []), *wanted)
    _pip(inside, "check")
    version = _said(inside, "import torch; print(torch.__version__)")
    # The release of torchvision that belongs to a release of torch, without its dependencies, or it would choose a torch of its own.
    _pip(inside, "install", "--no-deps", f"torchvision==0.{int(version.split('.')[1]) + 15}.*")
    return inside


def constraints(folder: Path, which: str, torch: str | None) -> list[str | Path]:
    """constraints.txt, or the oldest versions and its own for what only the tests need; without PyTorch if another one is asked for."""
    if which == "newest":
        return []
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if which == "pinned" and torch is None:
        return ["-c", ROOT / "constraints.txt"]
    lines = lines[: lines.index(IN_TURN)]  # what the others need in turn is for them to say
    if which == "oldest":
        oldest = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
        lines = [*oldest, *(line for line in lines if _name(line) not in set(map(_name, oldest)))]
    if torch is not None:
        lines = [line for line in lines if _name(line) != "torch"]
    own = folder / "constraints.txt"
    own.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["-c", own]


def _name(line: str) -> str:
    return line.partition("==")[0].lower()


def _said(python: str | Path, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _pip(python: Path, *args: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "-q", *args], cwd=ROOT, check=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("oldest", "pinned", "newest"))
    parser.add_argument("--python", default=sys.executable, help="the interpreter; this one by default")
    parser.add_argument("--torch", metavar="VERSION", help="this PyTorch instead of the set's")
    parser.add_argument("--jobs", default="2", help="processes that run tests")
    parser.add_argument("tests", nargs="*", default=["tests"], help="tests to run; all by default")
    args = parser.parse_args(argv)
    python = environment(args.which, args.python, args.torch)
    # A set of versions is tried; style, types and the figures are those of constraints.txt.
    command = [python, "-m", "pytest", "-q", "-n", args.jobs, "-p", "no:cacheprovider", *args.tests]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": ""}, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
