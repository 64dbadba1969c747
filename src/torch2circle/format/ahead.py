"""Results in order, made ahead in threads: while one constant is written, the next ones are unpacked, permuted and moved."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD: Final = 32 << 20
"""Bytes of results that are made or being made and not yet done with, at most, or one result. Of many small ones, there are three."""
WORTH: Final = 1 << 16
"""Bytes from which a thread pays."""
THREADS: Final = 2


def ahead(make: Callable[[T], R], items: Iterable[T], size: Callable[[T], int]) -> Iterator[R]:
    """``map(make, items)``, where what is as large as ``WORTH`` is made in a few threads before it is asked for.

    A result counts until the next one is asked for. An error comes out where its result would; what was not begun then is not made.

    Args:
        size: the bytes of an item's result.
    """
    items = list(items)
    large = deque(item for item in items if size(item) >= WORTH)
    if len(large) < 2:
        yield from map(make, items)
        return
    made: deque[Future[R]] = deque()
    held = 0
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ahead")
    try:
        for item in items:
            if size(item) < WORTH:
                yield make(item)
                continue
            while large and (not made or (len(made) < THREADS and held + size(large[0]) <= AHEAD)):
                held += size(large[0])
                made.append(pool.submit(make, large.popleft()))
            yield made.popleft().result()
            held -= size(item)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
