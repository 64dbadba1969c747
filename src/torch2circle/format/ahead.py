"""Results in order, made ahead in threads where making one takes long: while one constant is written, the next ones are unpacked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

AHEAD: Final = 32 << 20
"""Bytes of results that are made or being made and not yet done with, at most, or one result. Of many small ones, there are three."""
WORTH: Final = 1 << 16
"""Bytes from which a thread may pay."""
SLOW: Final = 2e-9
"""Seconds a byte from which it does. FBGEMM unpacks at 6e-9; permuting takes 7e-10, for which handing over takes longer than it saves."""
THREADS: Final = 2


def ahead(make: Callable[[T], R], items: Iterable[T], size: Callable[[T], int]) -> Iterator[R]:
    """``map(make, items)``; once one as large as ``WORTH`` was ``SLOW``, the next such ones are made in threads before they are asked for.

    A result counts until the next one is asked for. An error comes out where its result would; what was not begun then is not made.

    Args:
        size: the bytes of an item's result.
    """
    items = list(items)
    large = deque(item for item in items if size(item) >= WORTH)
    made: deque[Future[R]] = deque()
    held = 0
    pool: ThreadPoolExecutor | None = None
    try:
        for item in items:
            if size(item) < WORTH:
                yield make(item)
            elif pool is None:
                begun = perf_counter()
                result = make(large.popleft())
                if perf_counter() - begun > SLOW * size(item) and len(large) > 1:
                    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="ahead")
                yield result
                del result  # or it would be held while the next one is made
            else:
                while large and (not made or (len(made) < THREADS and held + size(large[0]) <= AHEAD)):
                    held += size(large[0])
                    made.append(pool.submit(make, large.popleft()))
                yield made.popleft().result()
                held -= size(item)
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
