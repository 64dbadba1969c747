"""From what the user names (a file, a factory, a module in hand) to a program that can be run.

Every function here either returns a model with its own weights, or raises a ``LoadError`` that says what to do instead.
A file is never trusted unless the user says so: see ``safety``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pickle
import re
import sys
import threading
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.jit import ScriptModule

from . import safety, states
from .archives import bomb, irregular
from .errors import LoadError
from .healing import heal, healed_while_unpickling
from .ir import Where
from .mapping import can_be_mapped
from .pickles import Scan

Model = nn.Module | ExportedProgram
Runnable = Model | Callable[..., Any]
"""A model, or a method of a module."""
Methods = Mapping[str, Sequence[Any]]
"""Methods by name, each with its example inputs: see ``export_many``."""

FACTORY_HINT = "pass package.module:factory (or file.py:factory) as the model, and the weights with --state state.pt"
_SAVE_HINT = "save the model with torch.save(model, path), torch.jit.save or torch.export.save"
_TORCHAO_HINT = "pip install torchao"
_reading = threading.RLock()
_DEEPEST = 100  # levels of modules; each costs three calls of Python's thousand
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # how torch.save began before PyTorch 1.6
_DTYPES = {name: getattr(torch, name) for name in ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")}


@dataclass(frozen=True)
class Program:
    """A model, or a method of one, that can be called with ``args`` and ``kwargs``.

    ``names`` has one entry for each of ``args`` and then each of ``kwargs``, as the model's own signature calls them.
    ``kind`` is "module", "method", "torchscript" or "exported".
    """

    module: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    kind: str
    names: tuple[str, ...]


def program(model: Runnable, *, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None) -> Program:
    """Make ``model`` ready to run; its train or eval mode is left alone.

    Args:
        model: an nn.Module, a ScriptModule, an ExportedProgram, or a method of an nn.Module.
        args: example inputs; if both are None, those the model itself fixes.
        kwargs: example inputs by name.

    Raises:
        LoadError: ``model`` is something else, or no example inputs were given and the model does not fix them.
    """
    if isinstance(model, ExportedProgram):
        return _exported(model, args, kwargs)
    if inspect.ismethod(model) and isinstance(model.__self__, nn.Module):
        heal(model.__self__)
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        return Program(model, args, kwargs, "method", _names(_parameters(model), args, kwargs))
    if not isinstance(model, nn.Module):
        hint = "pass an nn.Module or a method of one, a ScriptModule or an ExportedProgram; torch2circle.load() reads one from a file"
        raise LoadError(f"not a PyTorch model: {type(model).__name__}", hint=hint)
    scripted = isinstance(model, ScriptModule)
    if not scripted:
        heal(model)
    if args is None and kwargs is None:
        args = infer_inputs(model)
    args, kwargs = tuple(args or ()), dict(kwargs or {})
    names = _script_parameters(model) if scripted else _parameters(model.forward)
    return Program(model, args, kwargs, "torchscript" if scripted else "module", _names(names, args, kwargs))


def _exported(model: ExportedProgram, args: tuple[Any, ...] | None, kwargs: Mapping[str, Any] | None) -> Program:
    if args is None and kwargs is None:
        args, kwargs = _example_inputs(model)
    args, kwargs = tuple(args or ()), dict(kwargs or {})
    with _reading:  # the names of generated code are counted without a lock
        module = model.module()
    # The signature has one name an argument; graph_signature.user_inputs has one a leaf.
    return Program(module, args, kwargs, "exported", _names(_parameters(module.forward), args, kwargs))


def _example_inputs(model: ExportedProgram) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if model.example_inputs is None:
        raise LoadError("the exported program holds no example inputs", hint="pass them, for example --input 1x3x224x224")
    args, kwargs = model.example_inputs
    return tuple(args), dict(kwargs)


def _names(parameters: list[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """A name for each input: the parameter it binds to, with a number behind for those a ``*args`` takes."""
    rest = "input" if not parameters else parameters[-1].lstrip("*")
    named = [name for name in parameters if not name.startswith("*")]
    positional = [named[i] if i < len(named) else f"{rest}_{i - len(named)}" for i in range(len(args))]
    return (*positional, *kwargs)


def _parameters(forward: Any) -> list[str]:
    """Positional parameters; a ``*args`` comes last, with its star."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    prefix = {inspect.Parameter.POSITIONAL_ONLY: "", inspect.Parameter.POSITIONAL_OR_KEYWORD: "", inspect.Parameter.VAR_POSITIONAL: "*"}
    return [prefix[parameter.kind] + parameter.name for parameter in parameters if parameter.kind in prefix]


def _script_parameters(module: Any) -> list[str]:
    return [str(argument.name) for argument in module.forward.schema.arguments[1:]]


# Files


def load(
    path_or_spec: str | Path, *, trust_pickle: bool = False, state: str | Path | None = None, mmap: bool = False
) -> Model | Methods:
    """Read a model, on the CPU and in the mode it was saved in.

    Args:
        path_or_spec: a file written by torch.save(module), torch.jit.save or torch.export.save, or a factory:
            ``package.module:name`` or ``path/to/file.py:name``, called without arguments, or an nn.Module itself. What
            it gives may also be methods as ``export_many`` takes them.
        trust_pickle: let the file run whatever code its author put in; needed for classes that are not PyTorch's own.
        state: a state_dict for the factory's module: a safetensors file, one of torch.save, or the index (``*.index.json``) of several.
            Parameters that the factory makes on PyTorch's meta device become the file's own tensors, mapped and not read.
        mmap: map the weights of a pickled module instead of reading them. The file must then stay as it is while the model is used.

    Raises:
        LoadError: there is no model to be had from this, or not safely.
        MissingRuntime: a package that reads the state is not installed.
    """
    spec, path = str(path_or_spec), Path(path_or_spec)
    module, colon, attribute = spec.rpartition(":")
    if colon and not path.exists() and attribute.isidentifier():
        return _from_factory(module, attribute, None if state is None else Path(state))
    if state is not None:
        raise LoadError(f"--state needs a factory, not a file: {spec}", hint=FACTORY_HINT)
    _check_file(path)
    with _quiet():
        return _from_zip(path, trust_pickle, mmap) if zipfile.is_zipfile(path) else _from_legacy(path, trust_pickle)


def _check_file(path: Path) -> None:
    """Refuse what cannot be a PyTorch file, naming what it is."""
    if not path.exists():
        raise LoadError(f"no such file: {path}", hint=f"pass a .pt or .pt2 file; for a model defined in Python, {FACTORY_HINT}")
    if path.is_dir():
        raise LoadError(f"a directory, not a model file: {path}", hint=_SAVE_HINT)
    if path.suffix == ".py":
        raise LoadError(f"Python source without the name of a factory: {path}", hint=f"pass {path}:factory")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise LoadError(f"the file cannot be read: {path}: {error.strerror}") from error
    if not head:
        raise LoadError(f"the file is empty: {path}", hint="save or copy it again")
    foreign = _foreign_format(head, path.suffix.lower())
    if foreign:
        raise LoadError(f"{foreign}, not a PyTorch model: {path}", hint=_SAVE_HINT)
    if head.startswith(b"PK") or zipfile.is_zipfile(path):
        _check_archive(path)


def _check_archive(path: Path) -> None:
    """Refuse an archive that PyTorch's reader and this one could read differently: what is checked here is read again there."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            problem = irregular(file, archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise LoadError(f"the file is damaged or cut short: {path}: {_first_line(error)}", hint="save or copy it again") from error
    if problem:
        raise LoadError(f"the archive is not as PyTorch writes one: {path}: {problem}", hint="save it again")


def _foreign_format(head: bytes, suffix: str) -> str | None:
    by_magic = {b"TFL3": "a TFLite file", b"CIR0": "a Circle file", b"ET12": "an ExecuTorch program"}
    if head[4:8] in by_magic:
        return by_magic[head[4:8]]
    if head.startswith(b"\x89HDF"):
        return "an HDF5 (Keras) file"
    if suffix == ".safetensors" or head[8:10] == b'{"':
        return "a safetensors file (weights only)"
    if suffix == ".onnx":
        return "an ONNX file"
    if head.startswith(b"\x80") and _LEGACY_MAGIC not in head[:40]:
        return "a plain Python pickle"
    if head.startswith((b"PK", b"\x80")):
        return None
    text = head.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in head)
    return "a text file" if text else "an unknown file format"


def _from_zip(path: Path, trust: bool, mmap: bool) -> Model:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            # PyTorch puts everything below one folder; its name is free.
            inner = {member.partition("/")[2] for member in members}
            if "serialized_exported_program.json" in members or any(re.fullmatch(r"models/[^/]+\.json", member) for member in inner):
                return _from_export(path, archive, trust)
            if "constants.pkl" in inner and any(member.startswith("code/") for member in inner):
                return _from_torchscript(path, archive, trust)
            pickles = [member for member in members if member.partition("/")[2] == "data.pkl"]
            if pickles:
                with archive.open(pickles[0]) as stream:
                    return _from_pickle(path, lambda: safety.pickled_names(stream), trust, mmap)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise LoadError(f"the file is damaged or cut short: {path}: {error}", hint="save or copy it again") from error
    raise LoadError(f"a zip archive, but no PyTorch model: {path}", hint=_SAVE_HINT)


def _from_torchscript(path: Path, archive: zipfile.ZipFile, trust: bool) -> Model:
    try:
        findings = [] if trust else safety.suspicious_in_torchscript(archive)
    except (pickle.UnpicklingError, ValueError, IndexError, KeyError) as error:
        raise LoadError(f"the TorchScript archive is damaged: {path}: {_first_line(error)}", hint="save or copy it again") from error
    if findings:
        hint = "if you trust its author, pass --trust-pickle"
        raise LoadError(f"the TorchScript archive could reach beyond its own tensors: {path}: {', '.join(findings[:5])}", hint=hint)
    try:
        model: Model = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise LoadError(f"the TorchScript archive cannot be read: {path}: {_first_line(error)}") from error
    return model


def _from_export(path: Path, archive: zipfile.ZipFile, trust: bool) -> Model:
    _import_torchao_for(path, archive)
    findings = [] if trust else safety.suspicious_in_pt2(archive)
    if findings:
        shown = ", ".join(findings[:5])
        hint = "torch.export.load could run code from this file: if you trust its author, pass --trust-pickle"
        raise LoadError(f"the exported program is not plain data: {path}: {shown}", hint=hint)
    importlib.import_module("torch.ao.quantization.fx._decomposed")  # makes the operators of PT2E
    try:
        return torch.export.load(path)
    except Exception as error:
        message = f"the exported program cannot be read by PyTorch {torch.__version__}: {path}: {_first_line(error)}"
        raise LoadError(message, hint="it is bound to its PyTorch version: export it again with this one") from error


def _import_torchao_for(path: Path, archive: zipfile.ZipFile) -> None:
    """torchao's operators and tensors are known to PyTorch only when it is imported."""
    programs = (archive.read(member) for member in archive.namelist() if member.endswith(".json") and "weights" not in member)
    if any(b"torchao" in program for program in programs):
        try:
            importlib.import_module("torchao.quantization")
        except ImportError as error:
            raise LoadError(f"the exported program was quantized by torchao, which is not installed: {path}", hint=_TORCHAO_HINT) from error


def _from_legacy(path: Path, trust: bool) -> Model:
    """The format before PyTorch 1.6: five pickles (magic number, version, system, object, storage names), then the storages."""
    with path.open("rb") as stream:
        found = _safe_names(path, lambda: safety.pickled_names(stream, 4), "save it again with torch.save's defaults")
    # Weights are packed while the object is unpickled, but this format reads their numbers afterwards: torch.load gives a
    # module with arbitrary weights, without a word.
    packed = sorted(name for name in found.names if name == "torch ScriptObject" or ".quantized." in name)
    if packed:
        hint = f"save it again in the present format (torch.save without _use_new_zipfile_serialization=False), or {FACTORY_HINT}"
        raise LoadError(f"quantized modules in the old zip-less format, which PyTorch itself reads wrongly: {path}", hint=hint)
    # The weights-only reader takes no modules in this format, only state dicts.
    if not trust and any(name.startswith("torch.nn.modules.") for name in found.names):
        hint = f"if you trust its author, pass --trust-pickle; otherwise save it again in the present format, or {FACTORY_HINT}"
        raise LoadError(f"a module in the old zip-less format cannot be read safely: {path}", hint=hint)
    return _from_pickle(path, lambda: found, trust)


_PROTOCOL_HINT = "save it with torch.save's default pickle protocol, or pass --trust-pickle if you trust its author"


def _safe_names(path: Path, read: Callable[[], Scan], hint: str = _PROTOCOL_HINT) -> Scan:
    try:
        return read()
    except pickle.UnpicklingError as error:
        raise LoadError(f"the pickle cannot be checked: {path}: {error}", hint=hint) from error
    except Exception as error:
        raise LoadError(f"the file is damaged or not a PyTorch file: {path}: {_first_line(error)}", hint="save or copy it again") from error


def _from_pickle(path: Path, read: Callable[[], Scan], trust: bool, mmap: bool = False) -> Model:
    loaded = _trusted(path, mmap) if trust else _untrusted(path, _safe_names(path, read), mmap)
    if isinstance(loaded, nn.Module):
        if problem := _malformed(loaded):
            raise LoadError(f"the file holds {problem}: {path}", hint=_SAVE_HINT)
        return loaded
    if isinstance(loaded, Mapping):
        raise LoadError(f"the file holds weights (a state_dict), not a model: {path}", hint=FACTORY_HINT)
    raise LoadError(f"the file holds no model: {path}: {type(loaded).__name__}", hint=_SAVE_HINT)


def _malformed(module: nn.Module) -> str | None:
    """What no module made in Python has: a loop, or more levels than Python's stack; None if there is nothing."""
    level: dict[int, nn.Module] = {id(module): module}
    for _ in range(_DEEPEST):
        for each in level.values():
            for kind in ("_modules", "_parameters", "_buffers"):
                if not isinstance(vars(each).get(kind, {}), dict):
                    return f"a module without a dictionary of {kind.strip('_')}"
        children = (child for each in level.values() for child in vars(each).get("_modules", {}).values())
        level = {id(child): child for child in children if isinstance(child, nn.Module)}
        if not level:
            return None
    return f"modules in modules, more than {_DEEPEST} levels"


def _untrusted(path: Path, found: Scan, mmap: bool = False) -> Any:
    granted, refused = safety.allowed(found.names)
    if refused:
        message = f"the file needs classes or functions that are not plain PyTorch layers: {path}: {', '.join(refused)}"
        raise LoadError(message, hint=_refusal(refused))
    if found.fault:
        raise LoadError(f"the file does what torch.save does not write: {path}: {found.fault}", hint=_refusal([]))
    try:
        with torch.serialization.safe_globals(granted), healed_while_unpickling():
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mmap and can_be_mapped(path))
    except Exception as error:
        raise LoadError(f"the file cannot be read safely: {path}: {_reason(error)}", hint=_refusal([])) from error


def _refusal(refused: list[str]) -> str:
    if "torch.fx.graph_module.reduce_graph_module" in refused:
        why = "a GraphModule's file holds Python source, which loading runs"
        return f"{why}: if you trust its author, pass --trust-pickle; otherwise {FACTORY_HINT}"
    missing = [name for name in refused if not _importable(name)]
    if missing:
        return f"not importable here: {', '.join(missing)}: {FACTORY_HINT}"
    return f"loading them can run any code: if you trust the file's author, pass --trust-pickle; otherwise {FACTORY_HINT}"


def _importable(name: str) -> bool:
    """Whether the class's module exists, found without importing it: the name comes from an untrusted file."""
    top = name.partition(".")[0]
    if top == "__main__":
        return False
    with _importing_from(Path.cwd()):
        try:
            return top in sys.modules or importlib.util.find_spec(top) is not None
        except (ImportError, ValueError):
            return False


def _trusted(path: Path, mmap: bool) -> Any:
    try:
        with _importing_from(Path.cwd()), healed_while_unpickling():
            return torch.load(path, weights_only=False, map_location="cpu", mmap=mmap and can_be_mapped(path))
    except (AttributeError, ImportError) as error:
        raise LoadError(f"the file needs a class that is not importable here: {path}: {_first_line(error)}", hint=FACTORY_HINT) from error
    except Exception as error:
        raise LoadError(f"the file cannot be read: {path}: {_reason(error)}") from error


# Factories


def _from_factory(module: str, attribute: str, state: Path | None) -> Model | Methods:
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
        with _importing_from(Path.cwd(), *([path.resolve().parent] if is_file else [])):
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
    with _reading:  # two files of one name in two threads
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
        with _reading, _importing_from(Path.cwd()):  # a factory may seed the generator that all threads share
            return found()
    except (Exception, SystemExit) as error:
        raise _failure(f"the factory {name}:{attribute} failed", error) from error


def _failure(message: str, error: BaseException) -> LoadError:
    """``error`` of the user's own code, placed at the innermost line outside PyTorch and the import machinery."""
    where = None
    if isinstance(error, SyntaxError) and error.filename:
        where = Where(file=error.filename, line=error.lineno or 0)
    else:
        library = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<frozen", str(Path(importlib.__file__).parent))
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(library)]
        if frames:
            where = Where(module=frames[-1].name, file=frames[-1].filename, line=frames[-1].lineno or 0)
    hint = "it is imported and called without arguments, in the current directory"
    return LoadError(f"{message}: {type(error).__name__}: {_first_line(error)}", where=where, hint=hint)


def _with_state(module: nn.Module, path: Path) -> nn.Module:
    state = states.read_state(path, _pickled_state)
    heal(module)
    try:
        states.put(module, state)
    except Exception as error:
        wanted = module.state_dict()
        missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
        if not missing and not unexpected:
            raise LoadError(f"the weights do not fit the factory's module: {path}: {_reason(error)}") from error
        parts = [f"{kind}: {states.few(keys)}" for kind, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
        hint = "the factory must return the module as it was when its state was saved, quantized and converted"
        raise LoadError(f"the weights do not fit the factory's module: {path}: {'; '.join(parts)}", hint=hint) from error
    return module


def _pickled_state(path: Path) -> Mapping[str, Any]:
    """The state_dict in ``path``, taken out of a training checkpoint if it is one."""
    _check_file(path)
    with _quiet():
        loaded = _untrusted(path, _state_names(path), mmap=True)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise LoadError(f"not a state_dict: {path}: {type(loaded).__name__}", hint="save it with torch.save(model.state_dict(), path)")
    return loaded


def _state_names(path: Path) -> Scan:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            return _safe_names(path, lambda: safety.pickled_names(stream, 4))
    with zipfile.ZipFile(path) as archive:
        member = next((name for name in archive.namelist() if name.partition("/")[2] == "data.pkl"), None)
        if member is None:
            raise LoadError(f"a zip archive, but no state_dict: {path}", hint="save it with torch.save(model.state_dict(), path)")
        with archive.open(member) as stream:
            return _safe_names(path, lambda: safety.pickled_names(stream))


# Inputs


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
        raise LoadError(f"the example inputs cannot be read: {path}: {_reason(error)}", hint=hint) from error


def _from_npy(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (torch.from_numpy(np.load(path, allow_pickle=False)),), {}


def _from_pt(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    _check_file(path)
    with _quiet():
        loaded = _untrusted(path, _state_names(path))
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


def infer_inputs(model: Model) -> tuple[Any, ...]:
    """The inputs that the model itself fixes: an ExportedProgram's own examples, or 1 x in_features for one that begins with a Linear.

    Raises:
        LoadError: the model leaves something open; the hint says what to pass.
    """
    if isinstance(model, ExportedProgram):
        args, kwargs = _example_inputs(model)
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


# Small things


@contextmanager
def _importing_from(*directories: Path) -> Iterator[None]:
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
def _quiet() -> Iterator[None]:
    """One thread reads a file, without deprecation warnings from torch's own readers: nothing can be done about how a file was saved.

    What torch's unpickler may make, the program it deserializes, how it unpickles convolutions and the filters of warnings are global.
    """
    with _reading, warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, UserWarning):
            warnings.simplefilter("ignore", category)
        yield


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _reason(error: BaseException) -> str:
    """What torch found wrong, without the advice it wraps around it."""
    text = str(error)
    found = re.search(r"WeightsUnpickler error:\s*(.+)", text) or re.search(r"^\s*((?:size mismatch|While copying).+)", text, re.MULTILINE)
    return found[1].strip().rstrip(".") if found else _first_line(error)
