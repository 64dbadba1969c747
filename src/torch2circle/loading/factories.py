"""Models that the user's own code makes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..errors import LoadError
from ..ir import Where
from . import states
from .common import READING, Methods, Model, first_line, importing_from, reason
from .files import pickled_state
from .healing import heal


def from_factory(module: str, attribute: str, state: Path | None) -> Model | Methods:
    made = _make(_import(module), module, attribute)
    if isinstance(made, Mapping) and made and all(isinstance(given, (tuple, list)) for given in made.values()):
        if state is not None:
            raise LoadError(f"--state is for a factory of a module, and {module}:{attribute} gives methods", hint="load the weights there")
        return made
    if not isinstance(made, nn.Module):
        hint = 'it must be a function that returns one, or be one; or methods of one, {"name": (model.method, args)}'
        raise LoadError(f"{module}:{attribute} gives no nn.Module: {type(made).__name__}", hint=hint)
    made = heal(made) if state is None else _with_state(made, state)
    if empty := [*states.meta_tensors(made)]:
        named = f"{module}:{attribute}: {states.few(empty)}"
        if state is None:
            raise LoadError(f"the factory's module is on the meta device, without numbers: {named}", hint="pass its weights with --state")
        hint = "make them outside of torch.device('meta'), or buffers of the state: register_buffer(..., persistent=True)"
        raise LoadError(f"the weights do not have what the factory's module has on the meta device: {named}", hint=hint)
    return made


def _import(module: str) -> ModuleType:
    path = Path(module)
    is_file = path.suffix == ".py" or os.sep in module
    if is_file and not path.is_file():
        raise LoadError(f"no such file: {path}", hint="pass package.module:factory or path/to/file.py:factory")
    if not is_file and not re.fullmatch(r"\w+(\.\w+)*", module):
        raise LoadError(f"neither a file nor a Python module: {module}", hint="pass package.module:factory or path/to/file.py:factory")
    try:
        with importing_from(Path.cwd(), *([path.resolve().parent] if is_file else [])):
            return _import_file(path) if is_file else importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            hint = f"it is looked for in the current directory and on PYTHONPATH: {Path.cwd()}"
            raise LoadError(f"no such Python module: {error.name}", hint=hint) from error
        raise _failure(f"importing {module} failed", error) from error
    except (Exception, SystemExit) as error:
        raise _failure(f"importing {module} failed", error) from error


def _import_file(path: Path) -> ModuleType:
    # A name of its own: a file called types.py must not become everybody's `types`.
    name = f"_torch2circle_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"not Python source: {path}")
    module = importlib.util.module_from_spec(spec)
    with READING:  # two files of one name in two threads
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


def _make(module: ModuleType, name: str, attribute: str) -> Any:
    if not hasattr(module, attribute):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise LoadError(f"no such name in {name}: {attribute}", hint=f"it defines: {', '.join(public) or 'nothing to call'}")
    found = getattr(module, attribute)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        return found
    try:
        with READING, importing_from(Path.cwd()):  # a factory may seed the generator that all threads share
            return found()
    except (Exception, SystemExit) as error:
        raise _failure(f"the factory {name}:{attribute} failed", error) from error


def _failure(message: str, error: BaseException) -> LoadError:
    """``error`` of the user's own code, placed at the innermost line outside PyTorch and the import machinery."""
    where = None
    if isinstance(error, SyntaxError) and error.filename:
        where = Where(file=error.filename, line=error.lineno or 0)
    else:
        library = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<frozen", str(Path(importlib.__file__).parent))
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(library)]
        if frames:
            where = Where(module=frames[-1].name, file=frames[-1].filename, line=frames[-1].lineno or 0)
    hint = "it is imported and called without arguments, in the current directory"
    return LoadError(f"{message}: {type(error).__name__}: {first_line(error)}", where=where, hint=hint)


def _with_state(module: nn.Module, path: Path) -> nn.Module:
    state = states.read_state(path, pickled_state)
    heal(module)
    try:
        states.put(module, state)
    except Exception as error:
        wanted = module.state_dict()
        missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
        if not missing and not unexpected:
            raise LoadError(f"the weights do not fit the factory's module: {path}: {reason(error)}") from error
        parts = [f"{kind}: {states.few(keys)}" for kind, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
        hint = "the factory must return the module as it was when its state was saved, quantized and converted"
        raise LoadError(f"the weights do not fit the factory's module: {path}: {'; '.join(parts)}", hint=hint) from error
    return module
