"""Mends modules that torch.save and torch.load break.

A quantized convolution pickles as a bare tuple, and its ``__setstate__`` puts back only what the tuple holds: the
attributes that ``nn.Module.__init__`` makes (``_modules``, ``_backward_hooks``, ...) are missing afterwards, so the module
fails when it is called, listed, or traced. The weights are intact; only the empty dictionaries have to come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.ao.nn.quantized.modules import conv


def heal(module: nn.Module) -> nn.Module:
    """Give ``module`` and all its sub-modules the ``nn.Module`` attributes they lost; a whole module is left as it is.

    Args:
        module: any module; it is changed in place.

    Returns:
        The same module.
    """
    pending, seen = [module], {id(module)}
    while pending:
        current = pending.pop()
        _add_missing(current)
        # Not .children(): that fails on the very modules to be mended.
        for child in vars(current).get("_modules", {}).values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                pending.append(child)
    return module


@contextmanager
def healed_while_unpickling() -> Iterator[None]:
    """Quantized convolutions come back whole from any unpickling in this block.

    ``heal`` is too late for a pickled FX GraphModule, because torch traces the broken modules while it unpickles.
    """
    original = conv._ConvNd.__setstate__

    def setstate(self: conv._ConvNd, state: object) -> None:
        _add_missing(self)
        original(self, state)

    conv._ConvNd.__setstate__ = setstate  # type: ignore[method-assign]
    try:
        yield
    finally:
        conv._ConvNd.__setstate__ = original  # type: ignore[method-assign]


def _add_missing(module: nn.Module) -> None:
    own = vars(module)
    if "_modules" in own and "_backward_hooks" in own and "_parameters" in own:
        return
    for key, value in vars(nn.Module()).items():
        own.setdefault(key, value)
