"""Where jobs run: in threads here, which wait for their processes, or on the workers of a Dask cluster; both are standard executors."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..errors import MissingRuntime, UserError

_CONNECT = 10
"""Seconds to wait for a scheduler."""


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def local(jobs: int) -> Iterator[Executor]:
    """``jobs`` at a time on this machine."""
    executor = ThreadPoolExecutor(jobs, thread_name_prefix="job")
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def cluster(address: str, say: Callable[[str], None]) -> Iterator[Executor]:
    """As many at a time as the workers of the scheduler at ``address`` have threads; ``say`` gets what the user should know meanwhile.

    Raises:
        MissingRuntime: Dask's distributed is not installed.
        UserError: there is no scheduler at this address.
    """
    if importlib.util.find_spec("distributed") is None:
        raise MissingRuntime("Dask's distributed is not installed", hint='pip install "torch2circle[cluster]"')
    from distributed import Client

    try:
        client: Any = Client(address, timeout=_CONNECT, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise UserError(f"no Dask scheduler can be reached at {address}: {error}", hint="start one: dask scheduler") from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what becomes of the jobs says it
    with client:
        if not client.nthreads():
            say(f"{address} has no workers yet: jobs wait for them")
        # A job is not a function of its arguments: Dask must not take the result of an equal one.
        executor: Executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)
