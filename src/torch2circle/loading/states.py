"""The weights of a factory's module, from files that are mapped instead of read.

A parameter that has no memory yet (on PyTorch's meta device) becomes the file's own tensor, whose memory is the file; into any other
one the numbers are copied. What a file says is not trusted: an index names files beside it and nothing else, and tensors come from
readers that run no code.
"""

from __future__ import annotations

import importlib.util
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import LoadError, MissingRuntime

INDEX_LIMIT = 64 << 20
"""Bytes of an index; those of the largest models have a few hundred thousand."""

State = Mapping[str, Any]


def read_state(path: Path, pickled: Callable[[Path], State]) -> State:
    """Tensors by name, each as it lies in the file.

    Args:
        path: a safetensors file, a file of ``torch.save``, or the index (``*.index.json``) of several of them beside it.
        pickled: reads what is no safetensors file.

    Raises:
        LoadError: there is no such file, or none of these.
        MissingRuntime: the package safetensors is not installed.
    """
    if path.suffix == ".json" and path.is_file():
        return _sharded(path, pickled)
    return _safetensors(path) if _is_safetensors(path) else pickled(path)


def _is_safetensors(path: Path) -> bool:
    """By its name, or by its header: a length of 64 bits, then an object of JSON."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(10)
    except OSError as error:
        raise LoadError(f"the file cannot be read: {path}: {error.strerror}") from error
    return path.suffix == ".safetensors" or head[8:] == b'{"'


def _safetensors(path: Path) -> State:
    if importlib.util.find_spec("safetensors") is None:
        raise MissingRuntime(f"safetensors is not installed, which reads {path}", hint='pip install "torch2circle[safetensors]"')
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:  # which checks the header against the file's size
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except Exception as error:  # whatever its reader finds, or torch of its types
        message = f"the safetensors file cannot be read: {path}: {_first_line(error)}"
        raise LoadError(message, hint="save or copy it again") from error


def _sharded(path: Path, pickled: Callable[[Path], State]) -> State:
    by_file: dict[str, list[str]] = {}
    for name, file in _weight_map(path).items():
        by_file.setdefault(file, []).append(name)
    state: dict[str, Any] = {}
    for file, names in by_file.items():
        shard = path.parent / file
        if not shard.is_file():
            raise LoadError(f"no such file, which {path} names: {shard}", hint="all parts must be in the folder of their index")
        found = _safetensors(shard) if _is_safetensors(shard) else pickled(shard)
        if absent := [name for name in names if name not in found]:
            raise LoadError(f"{shard} has not what {path.name} says: {few(absent)}", hint="the index and its parts are of two models")
        state |= {name: found[name] for name in names}
    return state


def _weight_map(path: Path) -> Mapping[str, str]:
    """Tensor -> file, from an index as transformers and accelerate write it."""
    hint = 'an index has {"weight_map": {"tensor": "file"}} with files beside it'
    try:
        if path.stat().st_size > INDEX_LIMIT:
            raise LoadError(f"too large for an index of weights: {path}", hint=hint)
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise LoadError(f"the index of weights cannot be read: {path}: {_first_line(error)}", hint=hint) from error
    files = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise LoadError(f"not an index of weights: {path}", hint=hint)
    if outside := [file for file in files.values() if not _is_beside(file)]:
        raise LoadError(f"the index of weights names a file that is not beside it: {path}: {outside[0]!r:.80}", hint=hint)
    return files


def _is_beside(file: str) -> bool:
    return file not in ("", ".", "..") and not set("/\\:\0").intersection(file)


def put(module: nn.Module, state: State) -> None:
    """Load ``state`` into ``module``. Tensors without memory are replaced, in the module's own types; others are written.

    What the module has under several names may be in ``state`` under one of them.

    Raises:
        RuntimeError: as ``load_state_dict``, if the two do not fit.
    """
    whole = OrderedDict(state)
    if hasattr(state, "_metadata"):  # the versions of layers
        whole._metadata = state._metadata  # type: ignore[attr-defined]
    for names in _tied(module):
        found = next((whole[name] for name in names if name in whole), None)
        if found is not None:
            for name in names:
                whole.setdefault(name, found)
    without_memory = [*meta_tensors(module)]
    if without_memory:
        _convert(module, whole)
    module.load_state_dict(whole, assign=bool(without_memory))


def _tied(module: nn.Module) -> Iterable[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _convert(module: nn.Module, state: dict[str, Any]) -> None:
    """Numbers of another type than the module has are converted, as copying would."""
    for name, tensor in (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)):
        found: Any = state.get(name)
        if {type(found), type(tensor)} <= {Tensor, nn.Parameter} and found.dtype is not tensor.dtype:
            state[name] = found.to(tensor.dtype)


def meta_tensors(module: nn.Module) -> Iterator[str]:
    """The names of tensors of the module, be they no parameters, that have no memory."""
    for path, part in module.named_modules():
        for name, tensor in {**vars(part).get("_parameters", {}), **vars(part).get("_buffers", {}), **vars(part)}.items():
            if isinstance(tensor, Tensor) and tensor.is_meta:
                yield f"{path}.{name}".lstrip(".")


def few(names: list[str], limit: int = 5) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
