"""Files run in the real runtimes, in a process that may die."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torch2circle import format as fileformat
from torch2circle import runtimes
from torch2circle.errors import MissingRuntime, TargetError
from torch2circle.ir import Constant, DType, Graph, Node, Quant, Type, Value

FILES = {"onert": (".circle", "CIR0"), "litert": (".tflite", "TFL3")}
BOTH = pytest.mark.parametrize(
    "runtime", [pytest.param(r, marks=pytest.mark.skipif(not runtimes.available(r), reason="not installed")) for r in FILES]
)
DTYPES = [DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT32, DType.INT64, DType.BOOL]


def save(graph: Graph, folder: Path, runtime: str) -> Path:
    suffix, identifier = FILES[runtime]
    path = folder / f"model{suffix}"
    path.write_bytes(fileformat.to_bytes(graph, identifier=identifier))
    return path


def flatten(dtype: DType, shape: tuple[int, ...], count: int = 1) -> Graph:
    """``count`` inputs, each flattened; the outputs in reverse order, so that a runtime that sorts them is seen."""
    quant = Quant.per_tensor(0.1, 3) if dtype in (DType.INT8, DType.UINT8) else None
    size = int(np.prod(shape))
    inputs = tuple(Value(Type(shape, dtype, quant), f"x{i}") for i in range(count))
    target = Value(Type((1,), DType.INT32), "shape", data=Constant.of(np.array([size], np.int32)))
    outputs = [
        Node.make("RESHAPE", [x, target], [Value(Type((size,), dtype, quant), f"y{i}")], {"new_shape": (size,)}).out
        for i, x in enumerate(inputs)
    ]
    return Graph(inputs, tuple(outputs[::-1]), tuple(x.name for x in inputs), tuple(y.name for y in outputs[::-1]))


def no_kernel() -> Graph:
    """RELU float32 -> float16, which neither runtime has."""
    x = Value(Type((1, 4), DType.FLOAT32), "x")
    node = Node.make("RELU", [x], [Value(Type((1, 4), DType.FLOAT16), "y")])
    return Graph((x,), node.outputs, ("x",), ("y",))


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "count"), [((1, 2, 2, 3), 1), ((), 1), ((2, 3), 200)])
def test_values_come_back_bit_for_bit_in_graph_order(
    tmp_path: Path, runtime: str, dtype: DType, shape: tuple[int, ...], count: int
) -> None:
    rng = np.random.default_rng(0)
    batches = [[rng.integers(0, 2 if dtype is DType.BOOL else 100, shape).astype(dtype.numpy) for _ in range(count)] for _ in range(2)]
    result = runtimes.run(runtime, save(flatten(dtype, shape, count), tmp_path, runtime), batches)
    assert len(result.seconds) == len(result.outputs) == 2
    assert all(second > 0 for second in result.seconds)
    for batch, outputs in zip(batches, result.outputs, strict=True):
        for given, got in zip(batch, outputs[::-1], strict=True):
            assert got.dtype == given.dtype
            np.testing.assert_array_equal(got, given.ravel())


@BOTH
def test_a_refusal_has_the_runtimes_own_words(tmp_path: Path, runtime: str) -> None:
    words = {"onert": "OperationValidator failed", "litert": "failed to prepare"}[runtime]
    with pytest.raises(TargetError, match=words):
        runtimes.run(runtime, save(no_kernel(), tmp_path, runtime), [[np.ones((1, 4), np.float32)]])


@BOTH
@pytest.mark.parametrize("array", [np.ones((1, 5), np.float32), np.ones((1, 4), np.float64), None])
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, runtime: str, array: np.ndarray | None) -> None:
    path = save(flatten(DType.FLOAT32, (1, 4)), tmp_path, runtime)
    with pytest.raises(TargetError, match=r"input 0 is|inputs given: 0, the graph takes: 1"):
        runtimes.run(runtime, path, [[] if array is None else [array]])


@pytest.mark.skipif(not runtimes.available("onert"), reason="not installed")
def test_a_crash_costs_one_result(tmp_path: Path) -> None:
    good = save(flatten(DType.UINT8, (4,)), tmp_path, "onert")
    junk = tmp_path / "junk.circle"
    junk.write_bytes(b"not a model")  # onert reads it as a flatbuffer and dies
    batch = [[np.arange(4, dtype=np.uint8)]]
    first, crash, refusal, last = runtimes.run_many(
        "onert", [(good, batch), (junk, batch), (tmp_path / "none.circle", batch), (good, batch)]
    )
    assert isinstance(first, runtimes.Result)
    assert isinstance(last, runtimes.Result)
    assert "killed by SIG" in str(crash)
    assert "Failed to open file" in str(refusal)


@BOTH
def test_a_run_that_takes_too_long_is_ended(tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "_idle", {})  # a new process alone takes longer
    with pytest.raises(TargetError, match=r"no result after 0\.01 s"):
        runtimes.run(runtime, save(flatten(DType.FLOAT32, (4,)), tmp_path, runtime), [[np.ones(4, np.float32)]], timeout=0.01)


@BOTH
def test_one_process_runs_many_files_and_a_dead_one_is_replaced(
    tmp_path: Path, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle: dict[str, list[Any]] = {}
    monkeypatch.setattr(runtimes, "_idle", idle)
    path, batch = save(flatten(DType.FLOAT32, (4,)), tmp_path, runtime), [[np.ones(4, np.float32)]]
    processes = []
    for _ in range(3):
        assert runtimes.run(runtime, path, batch).outputs[0][0].tolist() == [1, 1, 1, 1]
        processes.append(idle[runtime][0].process)
    assert processes[0] is processes[1] is processes[2]
    processes[0].kill()
    processes[0].wait()
    assert runtimes.run(runtime, path, batch).outputs[0][0].tolist() == [1, 1, 1, 1]
    assert len(idle[runtime]) == 1
    idle[runtime].pop().close()


@pytest.mark.skipif(not runtimes.available("litert"), reason="not installed")
def test_litert_without_delegate(tmp_path: Path) -> None:
    path = save(flatten(DType.FLOAT32, (2, 2)), tmp_path, "litert")
    result = runtimes.run("litert", path, [[np.ones((2, 2), np.float32)]], delegate=False, threads=2)
    assert result.outputs[0][0].shape == (4,)


def test_a_missing_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes.importlib.util, "find_spec", lambda name: None)
    assert runtimes.versions() == {}
    with pytest.raises(MissingRuntime) as caught:
        runtimes.run("onert", Path("model.circle"), [])
    assert 'pip install "torch2circle[verify]"' in str(caught.value)


def test_the_module_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import torch2circle.runtimes"
    subprocess.run([sys.executable, "-c", code], check=True)
