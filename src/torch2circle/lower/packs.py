"""Packed weights: unpacked once, ahead of the lowering that asks for them, in threads of their own.

PyTorch says what packed parameters hold, be it only their shape and scales, by unpacking all of them, and FBGEMM does that one element
after the other. Nothing of it needs Python's lock, so two are unpacked at a time while the graph is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final

import torch
from torch import Tensor

from ..errors import UnsupportedUse
from ..ir import Where
from ..quant import Weights, type_of
from ..record import Call

KEPT: Final = 32 << 20
"""Bytes of unpacked weights that stay in memory for the file, at most; others are unpacked again when they are written."""
AHEAD: Final = 32 << 20
"""Bytes of weights that are unpacked and nobody has asked for yet, at most, or one weight."""
THREADS: Final = 2
WORTH: Final = 2e-4
"""Seconds of unpacking from which threads pay. QNNPACK and oneDNN give what they keep, in no time."""

ASKING: Final = re.compile(r"_?quantized::(conv|linear)(?!.*fp16)")
"""Operators whose lowering asks."""

Parts = tuple[Tensor, "Tensor | None"]


class Packs:
    """Unpacks the packed parameters of a recording. What is kept, and what threads do, changes no result."""

    def __init__(self) -> None:
        self.kept = 0
        self._pending: dict[int, Any] = {}  # in the order in which they will be asked for
        self._futures: dict[int, Future[Parts]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._largest = 0

    @contextmanager
    def ahead(self, calls: Sequence[Call]) -> Iterator[None]:
        """Within this block, ``calls`` are lowered in their order."""
        self._pending = {id(arg): arg for call in calls if ASKING.match(call.op) for arg in call.args.values() if _is_packed(arg)}
        try:
            yield
        finally:
            self._futures.clear()
            self._pending.clear()
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def weights(self, packed: Any, where: Where) -> Weights:
        """What ``packed`` holds.

        Raises:
            UnsupportedUse: PyTorch cannot unpack it.
        """
        try:
            weight, bias = self._unpacked(packed)
        except RuntimeError as error:  # QNNPACK has no way for volumes
            raise UnsupportedUse("packed weights", str(error).splitlines()[0], "weights that PyTorch can unpack", where=where) from None
        return Weights(type_of(weight, where), bias, self._loader(packed, weight), (where,) if where.op else None)

    def _loader(self, packed: Any, weight: Tensor) -> Callable[[], Tensor]:
        if self.kept + weight.numel() > KEPT:
            return lambda: _unpack(packed)[0]
        self.kept += weight.numel()
        return lambda: weight

    def _unpacked(self, packed: Any) -> Parts:
        self._pending.pop(id(packed), None)
        future = self._futures.pop(id(packed), None)
        if future is not None:
            parts = future.result()
        else:
            begun = perf_counter()
            parts = _unpack(packed)
            if perf_counter() - begun > WORTH and self._pool is None:
                self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="unpack")
        self._largest = max(self._largest, parts[0].numel())
        self._go_on()
        return parts

    def _go_on(self) -> None:
        """Start what fits."""
        while self._pool and self._pending and (not self._futures or (len(self._futures) + 1) * self._largest <= AHEAD):
            key = next(iter(self._pending))
            self._futures[key] = self._pool.submit(_unpack, self._pending.pop(key))


def _is_packed(arg: Any) -> bool:
    return isinstance(arg, torch.ScriptObject) and arg._has_method("unpack")  # type: ignore[attr-defined]


def _unpack(packed: Any) -> Parts:
    weight, bias = packed.unpack()
    return weight, bias
