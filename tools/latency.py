"""How fast files run, as ratios of one run: each in a process of its own, a few inferences at a time, in turns.

    python tools/latency.py ours=model.tflite theirs=other.tflite 'torch=tests/zoo.py:quantized("resnet18", "qnnpack")'

A contender is a .tflite file (LiteRT), a .circle file (onert), or a factory of a model and its input, ``FILE.py:CALL``, which runs in
PyTorch itself, quantized in its own engine. The first is what the others are compared with: a ratio below 1 is faster than the first.

On one thread the time is the processor's, which other work on the machine changes little; on more it is the clock's. Both
are the least of all inferences and their median.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
BLOCK = 5
"""Inferences in a turn; the first, which finds another's data in the caches, is not counted."""
HEADER = ("threads", "contender", "least ms", "median ms", "ratio", "ratio of medians")


def made(spec: str) -> Any:
    """What a ``FILE.py:CALL`` returns. A call is a name of the file with literal arguments, ``quantized("resnet18", size=64)``."""
    path, _, call = spec.partition(":")
    tree = ast.parse(call, mode="eval").body
    function, args, options = (tree.func, tree.args, tree.keywords) if isinstance(tree, ast.Call) else (tree, [], [])
    if not isinstance(function, ast.Name):
        raise SystemExit(f"not a call of a function of {path}: {call}")
    sys.path[:0] = [str(Path(path).resolve().parent)]
    found = spec_from_file_location(Path(path).stem, path)
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    sys.modules[module.__name__] = module
    found.loader.exec_module(module)
    literals = {str(option.arg): ast.literal_eval(option.value) for option in options}
    return getattr(module, function.id)(*map(ast.literal_eval, args), **literals)


def litert(path: str, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    for info in interpreter.get_input_details():
        interpreter.set_tensor(info["index"], drawn(info["shape"], np.dtype(info["dtype"])))
    invoke: Callable[[], object] = interpreter.invoke
    return invoke


def onert(path: str, threads: int) -> Callable[[], object]:
    os.environ["NUM_THREADS"] = str(threads)  # read when the session is made
    from onert.native import libnnfw_api_pybind as api

    session = api.infer.nnfw_session(path, "cpu")
    session.set_prepare_config(api.prepare_config.ENABLE_INTERNAL_OUTPUT_ALLOC)
    session.prepare()
    infos = [session.input_tensorinfo(index) for index in range(session.input_size())]
    arrays = [drawn(info.dims[: info.rank], np.dtype(info.dtype)) for info in infos]
    for index, array in enumerate(arrays):
        session.set_input(index, array)

    def run() -> object:
        return session.run(), arrays  # the session keeps pointers only

    return run


def pytorch(spec: str, threads: int) -> Callable[[], object]:
    import torch

    warnings.simplefilter("ignore")  # what PyTorch says about its own age is no result
    model, *args = made(spec)
    torch.set_num_threads(threads)

    def run() -> object:
        with torch.inference_mode():
            return model(*args)

    return run


def drawn(shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
    random = np.random.default_rng(0)
    if dtype.kind == "f":
        return random.random(tuple(shape), np.float32).astype(dtype)
    low, high = (0, 2) if dtype.kind == "b" else (0, 8) if dtype.itemsize > 1 else (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    return random.integers(low, high, tuple(shape)).astype(dtype)


def child(what: str, threads: int) -> None:
    """Answer each line of stdin, a number of inferences, with the seconds of each."""
    run = {".tflite": litert, ".circle": onert}.get(Path(what).suffix, pytorch)(what, threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # the runtimes print to 1
    run()
    answers.write("ready\n")
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            begun = clock()
            run()
            took.append(clock() - begun)
        answers.write(json.dumps(took) + "\n")


class Contender:
    """A process that has loaded the file, or made the model."""

    def __init__(self, name: str, what: str, threads: int) -> None:
        self.name, self.times = name, list[float]()
        command = [sys.executable, __file__, "--child", what, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            said = (self.process.communicate()[1] or "").strip().splitlines()
            raise RuntimeError(f"ended with {self.process.returncode}: {said[-1] if said else 'no message'}")
        return answer

    def turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{BLOCK}\n")
        self.process.stdin.flush()
        self.times += json.loads(self._answer())[1:]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def begin(name: str, what: str, threads: int) -> Contender | str:
    """A contender that is ready to run, or why it is not."""
    try:
        return Contender(name, what, threads)
    except RuntimeError as error:
        return str(error)


def race(contenders: Mapping[str, str], threads: int, turns: int) -> dict[str, list[float] | str]:
    """Seconds of each inference of each contender; of one that cannot run, its error."""
    found: dict[str, list[float] | str] = {}
    ready: list[Contender] = []
    try:
        for name, what in contenders.items():
            if isinstance(begun := begin(name, what, threads), str):
                found[name] = begun
            else:
                ready.append(begun)
        for _ in range(turns):
            for contender in ready:
                contender.turn()
    finally:
        for contender in ready:
            contender.close()
    return {name: found[name] if name in found else next(c.times for c in ready if c.name == name) for name in contenders}


def ratios(found: Mapping[str, list[float] | str]) -> dict[str, dict[str, Any]]:
    """Least and median milliseconds, and both compared with those of the first contender."""
    rows: dict[str, dict[str, Any]] = {}
    for name, times in found.items():
        if isinstance(times, str):
            rows[name] = {"error": times}
            continue
        rows[name] = {"least_ms": 1000 * min(times), "median_ms": 1000 * statistics.median(times)}
        first = next(iter(rows.values()))
        for key in ("least", "median"):
            if f"{key}_ms" in first:
                rows[name][f"ratio_{key}"] = rows[name][f"{key}_ms"] / first[f"{key}_ms"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", metavar="NAME=FILE", help="or NAME=FILE.py:CALL")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.threads[0])
        return
    contenders = dict(each.split("=", 1) for each in options.contenders)
    found = {threads: ratios(race(contenders, threads, options.turns)) for threads in options.threads}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    show(found)


def show(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> None:
    from torch2circle.show import columns

    rows: list[tuple[str, ...]] = [HEADER]
    for threads, contenders in found.items():
        for name, row in contenders.items():
            keys = ("least_ms", "median_ms", "ratio_least", "ratio_median")
            numbers = [row["error"], "", "", ""] if "error" in row else [f"{row[key]:.3f}" if key in row else "" for key in keys]
            rows.append((str(threads), name, *numbers))
    print(columns(rows, None))


if __name__ == "__main__":
    main()
