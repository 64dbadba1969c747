"""Run model files in the real runtimes: onert (.circle) and LiteRT (.tflite).

Everything runs in a child process, because a runtime may die of a file it does not understand. The child runs this
file by its path, outside the package and without torch, so the rest of torch2circle is imported only where the
parent needs it. The two exchange arrays through files in a temporary folder.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .errors import TargetError

Array = npt.NDArray[Any]
Runtime = Literal["onert", "litert"]
Batches = Sequence[Sequence[Array]]


class Signature(NamedTuple):
    """A method of a file with several: its key, and the names of its inputs and outputs in the order of the arrays."""

    key: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Job(NamedTuple):
    """A file, and for each invocation its input arrays in the order of the graph; ``signature`` if not the file's first graph is to run."""

    path: Path
    batches: Batches
    signature: Signature | None = None


# runtime -> (name on PyPI, module that is imported, file suffix)
_PACKAGES = {"onert": ("onert", "onert", ".circle"), "litert": ("ai-edge-litert", "ai_edge_litert", ".tflite")}
# Lines that the runtimes print on success too.
_NOISE = re.compile(r"^\s*$|^(INFO|WARNING|W0000|I0000)")


@dataclass(frozen=True)
class Result:
    """``outputs[i]``: the graph's outputs, in its order, of invocation ``i``, which took ``seconds[i]``."""

    outputs: list[list[Array]]
    seconds: list[float]


def available(runtime: str) -> bool:
    return importlib.util.find_spec(_PACKAGES[runtime][1]) is not None


def versions() -> dict[str, str]:
    """The installed runtimes and their versions."""
    return {runtime: importlib.metadata.version(package[0]) for runtime, package in _PACKAGES.items() if available(runtime)}


def run(runtime: str, path: Path, batches: Batches, *, timeout: float = 600, delegate: bool = True, threads: int = 1) -> Result:
    """Load the file once and invoke it with each batch: one list of arrays per invocation, in the order of the graph's inputs.

    ``delegate`` and ``threads`` are LiteRT's: whether XNNPACK takes what it can, and on how many threads.
    Raises ``TargetError`` with the runtime's own words if it refuses the file, dies or takes longer than ``timeout`` seconds.
    """
    result = run_many(runtime, [Job(path, batches)], timeout=timeout, delegate=delegate, threads=threads)[0]
    if isinstance(result, Exception):
        raise result
    return result


def run_many(
    runtime: str, jobs: Sequence[Job | tuple[Path, Batches]], *, timeout: float = 600, delegate: bool = True, threads: int = 1
) -> list[Result | TargetError]:
    """Many files in few children; a file that kills its child costs only its own result. ``timeout`` is for each child."""
    _require(runtime)
    with tempfile.TemporaryDirectory(prefix="torch2circle-") as folder:
        work = Path(folder)
        for index, (path, batches, signature) in enumerate(Job(*job) for job in jobs):
            arrays = {f"{i}.{j}": array for i, batch in enumerate(batches) for j, array in enumerate(batch)}
            _save(work / f"{index}.in.npz", arrays)
            (work / f"{index}.job").write_text(json.dumps([str(Path(path).resolve()), len(batches), signature]))
        results: list[Result | TargetError] = []
        while len(results) < len(jobs):  # a child that dies is followed by one that goes on behind the job it died of
            order = json.dumps([str(work), len(results), len(jobs), delegate, threads])
            ending = _work(runtime, order, timeout)
            results += _collect(runtime, work, [job[0] for job in jobs], len(results), ending)
        return results


def _require(runtime: str) -> None:
    from .errors import MissingRuntime

    if not available(runtime):
        raise MissingRuntime(f"runtime not installed: {runtime}", hint='pip install "torch2circle[verify]"')


class _Child:
    """A process that has imported a runtime and takes jobs until one of them ends it: importing takes longer than most models."""

    def __init__(self, runtime: str) -> None:
        # run_path and not the file itself: that would put this folder, with its ``ir`` and ``format``, on the child's path.
        code = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path)}
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  # what it writes to stderr outside any job; closed with the child
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, runtime],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True,
        )  # fmt: skip

    def work(self, order: str, timeout: float) -> str:
        """Have it do a line of work; how the child ended, or "" if it lives."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watch = threading.Timer(timeout, self.process.kill)
        watch.start()
        try:
            self.process.stdin.write(f"{order}\n")
            self.process.stdin.flush()
            done = self.process.stdout.readline()
        except BrokenPipeError:
            done = ""
        finally:
            late = not watch.is_alive()
            watch.cancel()
        if done:
            return ""
        code = self.process.wait()
        if late:
            return f"no result after {timeout:g} s"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        self.said.seek(0)
        said = self.said.read().decode(errors="replace").strip().splitlines() or ["no message"]
        return f"exit code {code}: {said[-1]}"

    def close(self) -> None:
        """End it, if it has not ended itself."""
        self.process.kill()
        self.process.communicate()
        self.said.close()


_idle: dict[str, list[_Child]] = {}
"""Children without work, by runtime. A thread takes one away while it works with it."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


@atexit.register
def _close_idle() -> None:
    for child in (child for children in _idle.values() for child in children):
        child.close()
    _idle.clear()


def _work(runtime: str, order: str, timeout: float) -> str:
    """Have an idle child, or a new one, do a line of work; how the child ended, or "" if it lives."""
    children = _idle.setdefault(runtime, [])
    try:
        child = children.pop()
    except IndexError:  # none, or another thread took the last one
        child = _Child(runtime)
    if child.process.poll() is not None:  # ended by a Ctrl-C, which was meant for the parent
        child.close()
        child = _Child(runtime)
    ending = "interrupted"
    try:
        ending = child.work(order, timeout)
    finally:
        if ending:
            child.close()
        else:
            children.append(child)
    return ending


def _collect(runtime: str, work: Path, paths: Sequence[Path], first: int, ending: str) -> list[Result | TargetError]:
    """The results from ``first`` on, up to the one that ended the child."""
    results: list[Result | TargetError] = []
    for index in range(first, len(paths)):
        if (work / f"{index}.out.npz").exists():
            results.append(_load(work / f"{index}.out.npz"))
        elif (work / f"{index}.err").exists():
            results.append(_failure(runtime, Path(paths[index]), work / str(index), ""))
        else:
            return [*results, _failure(runtime, Path(paths[index]), work / str(index), ending or "the child left early")]
    return results


def _load(path: Path) -> Result:
    with np.load(path) as arrays:
        seconds = arrays["seconds"].tolist()
        count = int(arrays["count"])
        return Result([[arrays[f"{i}.{j}"] for j in range(count)] for i in range(len(seconds))], seconds)


def _failure(runtime: str, path: Path, stem: Path, ending: str) -> TargetError:
    from .errors import TargetError

    log, raised = (_text(stem.with_suffix(suffix)) for suffix in (".log", ".err"))
    lines = [line.strip() for line in log.splitlines() if not _NOISE.match(line)]
    if not raised or raised.startswith("NNFW_STATUS"):  # onert raises a bare status and prints the reason, LiteRT raises it
        raised = (lines or [raised])[-1]
    reason = ": ".join(text for text in (ending, raised.replace("Node number", "; node").strip()) if text)
    return TargetError(f"{runtime} cannot run {path.name}: {reason}")


def _save(path: Path, arrays: dict[str, Array]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub takes any name for allow_pickle


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


# ---- what follows runs in the child


def _child(runtime: str) -> None:
    """Do the lines of work on stdin, and answer each with a line when it is done."""
    importlib.import_module(_API[runtime])
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # the runtimes print to 1
    for line in sys.stdin:
        folder, *order = json.loads(line)
        os.chdir(folder)
        _jobs(runtime, *order)
        os.chdir(tempfile.gettempdir())
        answers.write("done\n")


def _jobs(runtime: str, first: int, end: int, delegate: bool, threads: int) -> None:
    for index in range(first, end):
        with open(f"{index}.log", "wb") as log:  # C++ writes to the descriptors, not to sys.stderr
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        path, count, signature = json.loads(Path(f"{index}.job").read_text())
        try:
            with np.load(f"{index}.in.npz") as arrays:
                names = [[n for n in arrays.files if n.startswith(f"{i}.")] for i in range(count)]
                batches = [[arrays[name] for name in row] for row in names]
            step = _onert(path, signature) if runtime == "onert" else _litert(path, delegate, threads, signature)
            results = [step(batch) for batch in batches]
        except Exception as error:  # whatever a runtime raises is its answer
            Path(f"{index}.err").write_text(str(error) or type(error).__name__)
            continue
        outputs = {f"{i}.{j}": array for i, (row, _) in enumerate(results) for j, array in enumerate(row)}
        count_out = len(results[0][0]) if results else 0
        seconds = np.array([s for _, s in results])
        _save(Path("partial.npz"), outputs | {"count": np.array(count_out), "seconds": seconds})
        os.rename("partial.npz", f"{index}.out.npz")  # a file cut short by a crash is no result


_API = {"onert": "onert.native.libnnfw_api_pybind", "litert": "ai_edge_litert.interpreter"}
_Type = tuple[np.dtype[Any], tuple[int, ...]]
_Step = Callable[[list[Array]], tuple[list[Array], float]]


def _onert(path: str, signature: Sequence[Any] | None) -> _Step:
    if signature:
        raise ValueError(f"only the first graph of a file can be run, not the method {signature[0]}")
    # The low-level session, because onert.infer.session cannot take uint8 inputs and casts the others silently.
    # One for each set of sizes, known before it is prepared.
    api = importlib.import_module(_API["onert"])


    def loaded() -> Any:
        session = api.infer.nnfw_session(path, "cpu")
        session.set_prepare_config(api.prepare_config.ENABLE_INTERNAL_OUTPUT_ALLOC)
        return session

    session = loaded()
    infos = [session.input_tensorinfo(i) for i in range(session.input_size())]
    types = [(np.dtype(info.dtype), tuple(info.dims[: info.rank])) for info in infos]
    prepared: list[tuple[int, ...]] | None = None

    def step(batch: list[Array]) -> tuple[list[Array], float]:
        nonlocal session, prepared
        _match(types, batch)
        shapes = [array.shape for array in batch]
        if shapes != prepared:
            session = session if prepared is None else loaded()
            _set_sizes(session, types, shapes)
            session.prepare()
            prepared = shapes
        for index, array in enumerate(batch):  # onert keeps the pointers only
            session.set_input(index, array)
        start = time.perf_counter()
        session.run()
        seconds = time.perf_counter() - start
        return [session.get_output(i) for i in range(session.output_size())], seconds

    return step


def _set_sizes(session: Any, types: Sequence[_Type], shapes: Sequence[tuple[int, ...]]) -> None:
    """Tell an onert session the sizes of its open dimensions."""
    infos = [*map(session.input_tensorinfo, range(len(types))), *map(session.output_tensorinfo, range(session.output_size()))]
    info = next((info for info in infos if info.dtype != "uint8"), None)  # that name it does not take back; nor does it read any
    for index, ((_, shape), wanted) in enumerate(zip(types, shapes, strict=True)):
        if shape != wanted:
            if info is None:
                raise ValueError("onert's Python interface sets no sizes where all inputs and outputs are uint8")
            info.dims = list(wanted)
            session.set_input_tensorinfo(index, info)


def _litert(path: str, delegate: bool, threads: int, signature: Sequence[Any] | None) -> _Step:
    api = importlib.import_module(_API["litert"])
    resolver = api.OpResolverType.AUTO if delegate else api.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = api.Interpreter(path, num_threads=threads, experimental_op_resolver_type=resolver)
    if signature:
        return _litert_method(interpreter, *signature)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()  # both in the order of the file
    types = [(np.dtype(info["dtype"]), tuple(info["shape_signature"].tolist())) for info in inputs]
    allocated = [tuple(info["shape"].tolist()) for info in inputs]

    def step(batch: list[Array]) -> tuple[list[Array], float]:
        nonlocal allocated
        _match(types, batch)
        shapes = [array.shape for array in batch]
        if shapes != allocated:
            for info, shape in zip(inputs, shapes, strict=True):
                interpreter.resize_tensor_input(info["index"], shape, strict=True)
            interpreter.allocate_tensors()
            allocated = shapes
        for info, array in zip(inputs, batch, strict=True):
            interpreter.set_tensor(info["index"], array)
        start = time.perf_counter()
        interpreter.invoke()
        seconds = time.perf_counter() - start
        return [interpreter.get_tensor(info["index"]) for info in outputs], seconds

    return step


def _litert_method(interpreter: Any, key: str, inputs: Sequence[str], outputs: Sequence[str]) -> _Step:
    runner = interpreter.get_signature_runner(key)
    infos = runner.get_input_details()
    types = [(np.dtype(infos[name]["dtype"]), tuple(infos[name]["shape"].tolist())) for name in inputs]

    def step(batch: list[Array]) -> tuple[list[Array], float]:
        _match(types, batch)
        start = time.perf_counter()
        made = runner(**dict(zip(inputs, batch, strict=True)))
        return [made[name] for name in outputs], time.perf_counter() - start

    return step


def _match(types: Sequence[_Type], batch: Sequence[Array]) -> None:
    """Refuse what a runtime would read past its end, or as another type. A size of -1 is any."""
    if len(types) != len(batch):
        raise ValueError(f"inputs given: {len(batch)}, the graph takes: {len(types)}")
    for index, ((dtype, shape), array) in enumerate(zip(types, batch, strict=True)):
        fits = len(shape) == array.ndim and all(size in (-1, given) for size, given in zip(shape, array.shape, strict=True))
        if array.dtype != dtype or not fits:
            raise ValueError(f"input {index} is {array.dtype}{list(array.shape)}, the graph takes: {dtype}{list(shape)}")


if __name__ == "__main__":
    _child(sys.argv[1])
