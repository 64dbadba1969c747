"""What all ways to a model have in common: hints, messages, and that one thread reads at a time."""

from __future__ import annotations

import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import nn
from torch.export import ExportedProgram

Model = nn.Module | ExportedProgram
Runnable = Model | Callable[..., Any]
"""A model, or a method of a module."""
Methods = Mapping[str, Sequence[Any]]
"""Methods by name, each with its example inputs: see ``export_many``."""

FACTORY_HINT = "pass package.module:factory (or file.py:factory) as the model, and the weights with --state state.pt"
SAVE_HINT = "save the model with torch.save(model, path), torch.jit.save or torch.export.save"
READING = threading.RLock()


@contextmanager
def importing_from(*directories: Path) -> Iterator[None]:
    """The directories come first on sys.path, which other threads may change, too."""
    added = [str(directory) for directory in directories]
    sys.path[:0] = added
    try:
        yield
    finally:
        for directory in added:
            with suppress(ValueError):
                sys.path.remove(directory)


@contextmanager
def quiet() -> Iterator[None]:
    """One thread reads a file, without deprecation warnings from torch's own readers: nothing can be done about how a file was saved.

    What torch's unpickler may make, the program it deserializes, how it unpickles convolutions and the filters of warnings are global.
    """
    with READING, warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def reason(error: BaseException) -> str:
    """What torch found wrong, without the advice it wraps around it."""
    text = str(error)
    found = re.search(r"WeightsUnpickler error:\s*(.+)", text) or re.search(r"^\s*((?:size mismatch|While copying).+)", text, re.MULTILINE)
    return found[1].strip().rstrip(".") if found else first_line(error)
