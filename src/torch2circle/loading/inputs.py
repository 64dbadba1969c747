"""Example inputs: described, in files, or such as the model itself fixes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.jit import ScriptModule

from ..errors import LoadError
from .archives import bomb
from .common import Model, quiet, reason
from .files import check_file, state_names, untrusted
from .healing import heal

_DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")}


def parse_input(text: str, *, seed: int = 0) -> tuple[str | None, torch.Tensor]:
    """An example input from ``[name=]1x3x224x224[:dtype]``; always the same numbers, and torch's own generator is not touched.

    Floats are standard normal. uint8 is 0 to 255, int8 0 to 127, wider integers 0 to 9 (they are mostly indices, so small
    ones are the safer ones), bool either.

    Args:
        text: sizes joined by x, or ``scalar``; the dtype is float32 if left out.
        seed: another one gives other numbers; use the input's position.

    Raises:
        LoadError: not of this form.
    """
    match = re.fullmatch(r"(?:([A-Za-z_]\w*)=)?(\d+(?:x\d+)*|scalar)(?::(\w+))?", text.strip())
    if match is None:
        hint = "write [name=]SIZES[:dtype] with all sizes as numbers, for example 1x3x224x224 or ids=1x16:int64"
        raise LoadError(f"not an input: {text}", hint=hint)
    name, sizes, dtype = match[1], match[2], match[3] or "float32"
    if dtype not in _DTYPES:
        raise LoadError(f"unknown dtype: {dtype}", hint=f"one of {', '.join(_DTYPES)}")
    shape = [] if sizes == "scalar" else [int(size) for size in sizes.split("x")]
    return name, _random(shape, _DTYPES[dtype], seed)


def _random(shape: list[int], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    high = {torch.bool: 2, torch.uint8: 256, torch.int8: 128}.get(dtype, 10)
    return torch.randint(0, high, shape, generator=generator).to(dtype)


def load_inputs(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs from a file, as positional and named arguments.

    Args:
        path: ``.npy``, one positional input; ``.npz``, by name, or by position if the names are arr_0, arr_1, ...;
            ``.pt``, a tensor, a tuple or list by position, a dict by name.

    Raises:
        LoadError: no such file, another format, or something in it that is not an array.
    """
    path = Path(path)
    readers = {".npy": _from_npy, ".npz": _from_npz, ".pt": _from_pt, ".pth": _from_pt}
    if not path.is_file() or path.suffix not in readers:
        problem = "not an input file" if path.is_file() else "no such file"
        raise LoadError(f"{problem}: {path}", hint="example inputs are a .npz, .npy or .pt file")
    try:
        return readers[path.suffix](path)
    except LoadError:
        raise
    except Exception as error:
        hint = "only plain arrays and tensors are read"
        raise LoadError(f"the example inputs cannot be read: {path}: {reason(error)}", hint=hint) from error


def _from_npy(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (torch.from_numpy(np.load(path, allow_pickle=False)),), {}


def _from_pt(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    check_file(path)
    with quiet():
        loaded = untrusted(path, state_names(path))
    if isinstance(loaded, torch.Tensor):
        return (loaded,), {}
    if isinstance(loaded, (tuple, list)):
        return tuple(loaded), {}
    if isinstance(loaded, Mapping):
        return (), dict(loaded)
    raise LoadError(f"no tensors in it: {path}: {type(loaded).__name__}", hint="save a tensor, a tuple of tensors or a dict of them")


def _from_npz(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    with path.open("rb") as file, zipfile.ZipFile(file) as zipped:
        if problem := bomb(file, zipped):
            hint = "save them with numpy.savez, which does not compress"
            raise LoadError(f"the example inputs are not read: {path}: {problem}", hint=hint)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
    if arrays.keys() == {f"arr_{i}" for i in range(len(arrays))}:
        return tuple(arrays[f"arr_{i}"] for i in range(len(arrays))), {}
    return (), arrays


def example_inputs(model: ExportedProgram) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if model.example_inputs is None:
        raise LoadError("the exported program holds no example inputs", hint="pass them, for example --input 1x3x224x224")
    args, kwargs = model.example_inputs
    return tuple(args), dict(kwargs)


def infer_inputs(model: Model) -> tuple[Any, ...]:
    """The inputs that the model itself fixes: an ExportedProgram's own examples, or 1 x in_features for one that begins with a Linear.

    Raises:
        LoadError: the model leaves something open; the hint says what to pass.
    """
    if isinstance(model, ExportedProgram):
        args, kwargs = example_inputs(model)
        if kwargs:
            raise LoadError(f"the exported program takes inputs by name: {', '.join(kwargs)}", hint="use program(), which passes them on")
        return args
    for name, module in heal(model).named_modules() if not isinstance(model, ScriptModule) else model.named_modules():
        kind = str(getattr(module, "original_name", type(module).__name__))
        if isinstance(features := getattr(module, "in_features", None), int):
            return (_random([1, features], torch.float32),)
        suggestion = _suggestion(module, kind)
        if suggestion is not None:
            first = f"the model begins with {kind}" + (f" ({name})" if name else "")
            raise LoadError(f"the input's shape is not fixed by the model: {first}", hint=f"pass it: {suggestion}")
    raise LoadError("the input's shape is not fixed by the model: no layer in it says", hint="pass it, for example --input 1x3x224x224")


def _suggestion(module: nn.Module, kind: str) -> str | None:
    """The option to pass for a model whose first layer is ``module``; None if that says nothing about the input."""
    channels = getattr(module, "in_channels", getattr(module, "num_features", None))
    if isinstance(channels, int) and (rank := re.search(r"([123])d$", kind)):
        sizes, example = {"1": ("L", "64"), "2": ("HxW", "224x224"), "3": ("DxHxW", "16x112x112")}[rank[1]]
        return f"--input 1x{channels}x{sizes}, for example --input 1x{channels}x{example}"
    if isinstance(size := getattr(module, "input_size", None), int):
        shape = f"1xTx{size}" if getattr(module, "batch_first", False) else f"Tx1x{size}"
        return f"--input {shape}, for example --input {shape.replace('T', '16')}"
    if isinstance(getattr(module, "num_embeddings", None), int):
        return "--input 1xT:int64, for example --input 1x16:int64"
    return None
