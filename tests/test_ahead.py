"""What is made ahead in threads: in order, within bounds, and with its errors."""

from __future__ import annotations

import gc
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from torch2circle import collecting
from torch2circle.format import ahead as module
from torch2circle.format import save
from torch2circle.format.ahead import AHEAD, THREADS, WORTH, ahead
from torch2circle.ir import Constant, DType, Graph, Node, Type, Value


@pytest.fixture(autouse=True)
def always_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads begin behind the first large result, whatever that took."""
    monkeypatch.setattr(module, "SLOW", 0.0)


def test_what_is_made_fast_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW", 1.0)
    made = list(ahead(lambda n: threading.current_thread(), range(6), lambda n: WORTH))
    assert made == [threading.current_thread()] * 6


def test_results_come_in_order_whatever_thread_is_first() -> None:
    def make(n: int) -> int:
        time.sleep(0.001 * (n % 3))
        return n * n

    assert list(ahead(make, range(40), lambda n: WORTH * (n % 2))) == [n * n for n in range(40)]


def test_large_results_are_made_in_threads_and_small_ones_are_not() -> None:
    made: dict[int, str] = {}

    def make(n: int) -> None:
        made[n] = threading.current_thread().name

    list(ahead(make, range(7), lambda n: WORTH if n < 4 else 1))
    assert {made[n].startswith("ahead") for n in range(1, 4)} == {True}
    assert {made[n] for n in (0, 4, 5, 6)} == {threading.current_thread().name}


@pytest.mark.parametrize(("size", "most"), [(WORTH, THREADS + 1), (AHEAD // 2, 2), (AHEAD // 2 + 1, 1), (2 * AHEAD, 1)])
def test_no_more_is_held_than_the_bound(size: int, most: int) -> None:
    """Counting from when a result begins to be made until the next one is asked for."""
    lock, held, peak = threading.Lock(), 0, 0

    def make(n: int) -> int:
        nonlocal held, peak
        with lock:
            held += 1
            peak = max(peak, held)
        time.sleep(0.002)
        return n

    done = -1
    for n in ahead(make, range(12), lambda n: size):
        assert n == done + 1
        done = n
        time.sleep(0.002)
        with lock:
            held -= 1
    assert peak <= most


def test_an_error_comes_out_where_its_result_would() -> None:
    def make(n: int) -> int:
        if n == 3:
            raise ValueError("the third")
        return n

    results = ahead(make, range(100), lambda n: WORTH)
    assert [next(results), next(results), next(results)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the third"):
        next(results)


def test_who_stops_asking_stops_the_threads() -> None:
    made: list[int] = []
    results = ahead(lambda n: made.append(n), range(1000), lambda n: WORTH)
    next(results)
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.05)
    assert len(made) <= THREADS + 1


def constants(count: int, load: object = None) -> Graph:
    shape = (WORTH,)
    values = [
        Value(Type(shape, DType.INT8), f"c{i}", data=Constant(lambda i=i: np.full(shape, i, np.int8)))  # type: ignore[misc]
        for i in range(count)
    ]
    if load is not None:
        values[count // 2] = Value(values[0].type, "broken", data=Constant(load))  # type: ignore[arg-type]
    out = Value(Type((WORTH * count,), DType.INT8), "y")
    node = Node.make("CONCATENATION", values, [out], {"axis": 0, "fused_activation_function": "NONE"})
    return Graph((), (node.out,), (), ("y",))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("cannot unpack"), MemoryError()])
def test_an_error_in_a_thread_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    def load() -> np.ndarray:  # type: ignore[type-arg]
        raise error

    path = tmp_path / "model.circle"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        save(constants(9, load), path, identifier="CIR0")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_the_same_for_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for threads, bound in ((1, AHEAD), (2, AHEAD), (5, AHEAD), (2, 0)):
        monkeypatch.setattr(module, "THREADS", threads)
        monkeypatch.setattr(module, "AHEAD", bound)
        save(constants(9), tmp_path / "model.circle", identifier="CIR0")
        digests.add(hashlib.sha256((tmp_path / "model.circle").read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.fixture
def thawed() -> Iterator[None]:
    assert not gc.get_freeze_count()
    yield
    assert not gc.get_freeze_count()


def test_collections_look_at_new_objects_alone_until_the_last_export_ends(thawed: None) -> None:
    with collecting.only_new():
        with collecting.only_new():
            assert gc.get_freeze_count()
        assert gc.get_freeze_count()
    with pytest.raises(ValueError, match="mine"), collecting.only_new():
        raise ValueError("mine")


def test_objects_that_somebody_froze_stay_frozen(thawed: None) -> None:
    gc.freeze()
    try:
        with collecting.only_new():
            pass
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
