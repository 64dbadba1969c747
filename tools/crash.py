"""What a path holds after a command that was killed, interrupted, or had no room.

    python tools/crash.py [--trials 100] [--seed 0] [--json] [case ...]

Each trial converts a model, by the command line, onto a path that holds an older file (or none), and ends it at a random moment of the
time that it takes. All commands write in the same way; this one needs no torch, whose threads do not survive a fork. ``old`` and ``new``:
the path held that file, whole. ``missing`` and ``torn`` must be 0. ``part``: hidden files left beside it, which only a process that is
killed may leave; ``temporary``: what is left in the folder for temporary files. Each trial is a fork of one process that has imported
everything, so that the moments fall into the work and not into imports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from torch2circle import conversion  # noqa: E402, F401  # before the forks
from torch2circle.cli import main as command  # noqa: E402
from torch2circle.format import save  # noqa: E402
from torch2circle.ir import Constant, DType, Graph, Node, Type, Value  # noqa: E402
from torch2circle.show import columns  # noqa: E402

SIZE = 1000  # a layer's weights are 4 MB then: long enough to write for moments to fall into it
STATES = ("old", "new", "missing", "torn")


class Trials:
    """Two models, the files of both, and a random generator."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        os.environ["TMPDIR"] = str(self.temporary)
        tempfile.tempdir = None
        self.made: dict[str, bytes] = {}
        for name in ("old", "new"):
            save(layer(len(self.made)), folder / f"{name}.circle", identifier="CIR0")
            assert self._finished(self.start(name, folder / f"{name}.tflite")) == 0
            self.made[name] = (folder / f"{name}.tflite").read_bytes()
        assert self.made["old"] != self.made["new"]
        begun = time.perf_counter()
        self._finished(self.start("new", folder / "new.tflite"))
        self.seconds = time.perf_counter() - begun

    def start(self, model: str, path: Path, limit: int | None = None) -> int:
        """A conversion in a process of its own; its number, once it runs."""
        ready, began = os.pipe()
        child = os.fork()
        if child:
            os.close(began)
            os.read(ready, 1)
            os.close(ready)
            return child
        signal.signal(signal.SIGINT, signal.default_int_handler)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        code = 70
        os.write(began, b"1")
        try:
            command(["convert", str(self.folder / f"{model}.circle"), str(path)])
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
        except KeyboardInterrupt:  # before the command began, or behind its end
            code = 130
        finally:
            os._exit(code)

    def _finished(self, child: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def ended_by(self, number: int, occupied: bool = True) -> Counter[str]:
        """A conversion onto an older file, or onto none, ended at a random moment."""
        place = self._place()
        path = place / "model.tflite"
        if occupied:
            path.write_bytes(self.made["old"])
        child = self.start("new", path)
        time.sleep(self.random.uniform(0, 1.1 * self.seconds))
        os.kill(child, number)
        code = self._finished(child)
        found = self.seen(path, f"exit {code}")
        if not occupied:  # no file is what was there
            found["old"] += found.pop("missing", 0)
        return found

    def without_room(self, mounted: bool) -> Counter[str]:
        """A conversion onto a disk with room for the old file and a part of the new one; or with a limit for a file's size."""
        room = self.random.randrange(len(self.made["new"]))
        if not mounted:
            path = self._place() / "model.tflite"
            path.write_bytes(self.made["old"])
            return self.seen(path, f"exit {self._finished(self.start('new', path, room))}")
        with filesystem(self._place(), f"size={len(self.made['old']) + room}") as place:
            path = place / "model.tflite"
            path.write_bytes(self.made["old"])
            return self.seen(path, f"exit {self._finished(self.start('new', path))}")

    def read_only(self) -> Counter[str]:
        with filesystem(self._place(), "size=16m") as place:
            path = place / "model.tflite"
            path.write_bytes(self.made["old"])
            mount("-o", "remount,ro", str(place))
            return self.seen(path, f"exit {self._finished(self.start('new', path))}")

    def at_once(self, count: int) -> Counter[str]:
        """Conversions of both models onto one path, which is read all the while."""
        path = self._place() / "model.tflite"
        path.write_bytes(self.made["old"])
        children = {self.start(("old", "new")[number % 2], path) for number in range(count)}
        codes = []
        torn = 0
        while children:
            torn += path.read_bytes() not in self.made.values()
            number, status = os.waitpid(-1, os.WNOHANG)
            if number:
                children.discard(number)
                codes.append(os.waitstatus_to_exitcode(status))
        return self.seen(path, f"exit {max(codes)}") + Counter({"torn": torn})

    def seen(self, path: Path, *more: str) -> Counter[str]:
        held = path.read_bytes() if path.exists() else None
        state = "missing" if held is None else next((name for name, data in self.made.items() if data == held), "torn")
        found = Counter([state, *more])
        found["part"] = sum(other != path for other in path.parent.iterdir())
        found["temporary"] = sum(1 for _ in self.temporary.iterdir())
        for left in self.temporary.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        return found

    def _place(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


def layer(seed: int) -> Graph:
    """A linear layer of random weights."""
    weights = np.random.default_rng(seed).standard_normal((SIZE, SIZE), np.float32)
    x = Value(Type((1, SIZE), DType.FLOAT32), "x")
    w = Value(Type((SIZE, SIZE), DType.FLOAT32), "w", data=Constant.of(weights))
    made = Node.make("FULLY_CONNECTED", [x, w, None], [Value(Type((1, SIZE), DType.FLOAT32), "y")])
    return Graph((x,), (made.out,), ("x",), ("y",))


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@contextlib.contextmanager
def filesystem(place: Path, options: str) -> Iterator[Path]:
    """A file system in memory at ``place``."""
    mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def may_mount(folder: Path) -> bool:
    try:
        with filesystem(folder, "size=1m"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def cases(trials: Trials) -> dict[str, Callable[[], Counter[str]]]:
    """Name -> one trial. What this machine does not let us do is left out, and said."""
    found: dict[str, Callable[[], Counter[str]]] = {
        "killed": lambda: trials.ended_by(signal.SIGKILL),
        "killed, no file before": lambda: trials.ended_by(signal.SIGKILL, occupied=False),
        "interrupted": lambda: trials.ended_by(signal.SIGINT),
        "terminated": lambda: trials.ended_by(signal.SIGTERM),
        "limit for files": lambda: trials.without_room(mounted=False),
        "2 at once": lambda: trials.at_once(2),
        "8 at once": lambda: trials.at_once(8),
    }
    (trials.folder / "mount").mkdir()
    if may_mount(trials.folder / "mount"):
        found |= {"disk full": lambda: trials.without_room(mounted=True), "disk read-only": trials.read_only}
    else:
        print("no file system may be mounted here: disk full and disk read-only are left out", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="beginnings of names; all without one")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        trials = Trials(Path(folder), options.seed)
        for name, trial in cases(trials).items():
            if not options.cases or name.startswith(tuple(options.cases)):
                counts[name] = sum((trial() for _ in range(options.trials)), Counter())
    if options.json:
        print(json.dumps(counts))
        return
    keys = (*STATES, "part", "temporary")
    rows = [
        (name, str(options.trials), *(str(found[key]) for key in keys),
         ", ".join(f"{count} x {key}" for key, count in sorted(found.items()) if key.startswith("exit")))
        for name, found in counts.items()
    ]  # fmt: skip
    print(columns([("case", "trials", *keys, "exit codes"), *rows], None))


if __name__ == "__main__":
    main()
