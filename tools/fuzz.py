"""Feed damaged model files to everything that reads them: ``python tools/fuzz.py --runs 10000 --target survey``.

Each target runs in a process of its own. What is wrong with an execution: an exception that is no ``UserError``, too much time or memory,
the end of the process (``tools/fuzzing/targets.py``). The input of each finding, the smallest one, is kept in the folder ``--work``.

``--engine mutations`` changes files of the corpus one at a time, the same for the same ``--seed`` on any machine. ``--engine atheris``
goes on from what reached new lines, with the same mutations and libFuzzer's own; its corpus stays in ``--work``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]
CORPUS = ROOT / "tests" / "corpus"
NAMES = ("survey", "read", "check", "inspect", "dot", "diff", "convert", "rewrap", "golden", "bundle", "verify")
TRACED = 50
"""Each so manieth execution has all its allocations counted."""
MOST_BYTES = 1 << 14


class Work:
    """The executions of one target in one process. What was done so far is in ``folder``, whenever the process ends."""

    def __init__(self, target: str, folder: Path, runs: int, seconds: float) -> None:
        from fuzzing import targets

        self.target, self.folder, self.runs, self.targets = target, folder, runs, targets
        self.end, self.count, self.findings = time.monotonic() + seconds, 0, Counter[str]()
        self.scratch = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        self.current = open(self.scratch / "current", "w+b", buffering=0)  # noqa: SIM115  # open as long as the process

    def execute(self, data: bytes) -> None:
        os.pwrite(self.current.fileno(), len(data).to_bytes(4, "little") + data, 0)
        self.count += 1
        found = self.targets.tried(self.target, data, self.scratch, traced=self.count % TRACED == 0)
        if found is not None:
            self.findings[found.key] += 1
            keep(self.folder, self.target, found.key, data, found.text)
        if self.done or self.count % 500 == 0:
            self.save()

    @property
    def done(self) -> bool:
        return self.count >= self.runs or time.monotonic() > self.end

    def save(self) -> None:
        state = {"executions": self.count, "findings": self.findings, "scratch": str(self.scratch)}
        (self.folder / f"{self.target}.json").write_text(json.dumps(state))


def keep(folder: Path, target: str, key: str, data: bytes, text: str) -> None:
    path = folder / "findings" / f"{target}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    if not path.exists() or path.stat().st_size > len(data):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(f"{key}\n{text}", errors="backslashreplace")


def inputs(corpus: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(corpus.rglob("*")) if path.is_file()]


def mutations(work: Work, seed: int, files: list[bytes]) -> None:
    from fuzzing.mutation import mutate

    for data in files:
        if not work.done:
            work.execute(data)
    while not work.done:
        rng = random.Random(f"{seed}:{work.count}")
        work.execute(mutate(rng.choice(files), rng, MOST_BYTES, files))


def coverage_guided(work: Work, seed: int, files: list[bytes]) -> None:
    """With libFuzzer, which ends the process when it is done."""
    import atheris

    from fuzzing.mutation import mutate

    own = work.folder / "corpus" / work.target
    own.mkdir(parents=True, exist_ok=True)
    for data in files:
        (own / hashlib.sha1(data).hexdigest()).write_bytes(data)

    def change(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        return mutate(data, rng, most, files) if rng.random() < 0.8 else atheris.Mutate(data, most)

    def one(data: bytes) -> None:
        if not work.done:
            work.execute(data)
        if work.done:
            shutil.rmtree(work.scratch, ignore_errors=True)
            os._exit(0)

    options = [f"-seed={seed + 1}", f"-max_len={MOST_BYTES}", "-rss_limit_mb=0", "-timeout=1000000", "-reload=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(own)], one, custom_mutator=change, internal_libfuzzer=True)
    atheris.Fuzz()


ENGINES: dict[str, Callable[[Work, int, list[bytes]], None]] = {"mutations": mutations, "atheris": coverage_guided}


def child(target: str, folder: Path, options: argparse.Namespace) -> None:
    if options.engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["torch2circle"], exclude=["torch2circle.format.facts"]):
            from fuzzing import targets
    else:
        from fuzzing import targets
    files = inputs(options.corpus)
    targets.PARTNER = files[0]
    work = Work(target, folder, options.runs, options.seconds)
    work.save()
    ENGINES[options.engine](work, options.seed, files)
    shutil.rmtree(work.scratch, ignore_errors=True)


def run(target: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Start processes until all is done; one that dies is a finding, and the next goes on with other numbers."""
    total: dict[str, Any] = {"executions": 0, "findings": Counter(), "coverage": 0, "seconds": 0.0}
    start, seed = time.monotonic(), options.seed
    while (left := options.runs - total["executions"]) > 0 and (time_left := options.seconds - (time.monotonic() - start)) > 0:
        command = [sys.executable, __file__, "--child", "--target", target, "--engine", options.engine, "--seed", str(seed)]
        command += ["--runs", str(left), "--seconds", str(time_left), "--corpus", str(options.corpus), "--work", str(folder)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
        state = json.loads((folder / f"{target}.json").read_text())
        total["executions"] += state["executions"]
        total["findings"].update(state["findings"])
        total["coverage"] = max([total["coverage"], *map(int, re.findall(r"cov: (\d+)", done.stderr))])
        if done.returncode == 0:
            break
        scratch = Path(state["scratch"])
        last = (scratch / "current").read_bytes() if (scratch / "current").exists() else bytes(4)
        key = f"process ended with {done.returncode}"
        keep(folder, target, key, last[4 : 4 + int.from_bytes(last[:4], "little")], done.stderr[-5000:])
        total["findings"][key] += 1
        shutil.rmtree(scratch, ignore_errors=True)
        seed += 1000
        if not state["executions"]:
            sys.exit(done.stderr)
    return total | {"seconds": time.monotonic() - start}


def version() -> str:
    """The commit, and whether the tree has changes besides."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=NAMES, help="may be given several times; all without")
    parser.add_argument("--runs", type=int, default=10_000, help="executions of each target")
    parser.add_argument("--seconds", type=float, default=3600, help="that each target may take")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, default="mutations")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="a folder of files to begin with")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fuzz", help="a folder for findings, the new corpus and the tally")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.child:
        child(options.target[0], options.work, options)
        return 0
    wrong, tally = 0, options.work / "tally.jsonl"
    for target in options.target or NAMES:
        total = run(target, options.work, options)
        row = {"target": target, "engine": options.engine, "version": version(), "seed": options.seed, **total}
        with tally.open("a") as file:
            file.write(json.dumps(row) + "\n")
        rate = total["executions"] / max(total["seconds"], 1e-9)
        print(f"{target:8} {total['executions']:9,} executions, {rate:5.0f}/s, coverage {total['coverage'] or '-'}", flush=True)
        for key, count in total["findings"].most_common():
            print(f"  {count:6} {key}", flush=True)
        wrong += len(total["findings"])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
