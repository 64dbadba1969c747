"""Python's garbage collector, spared what an export cannot make garbage of."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_inside = 0


@contextmanager
def only_new() -> Iterator[None]:
    """Within this block, collections look only at what was made in it. Before and behind it they look at everything.

    A full collection looks at each object there is, half a million once torch is imported, and an export makes enough new ones to cause
    several. Graphs refer to their nodes in circles, so without any collection memory would grow with the passes over a graph.
    """
    global _inside
    with _lock:
        ours = bool(_inside) or not gc.get_freeze_count()  # who froze objects before wants them to stay so
        if ours and not _inside:
            gc.freeze()
        _inside += ours
    try:
        yield
    finally:
        with _lock:
            _inside -= ours
            if ours and not _inside:
                gc.unfreeze()
