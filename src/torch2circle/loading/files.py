"""Models and states in files. None is trusted unless the user says so: see ``safety``."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import LoadError
from . import safety
from .archives import irregular
from .common import FACTORY_HINT, SAVE_HINT, Model, first_line, importing_from, quiet, reason
from .healing import healed_while_unpickling
from .mapping import can_be_mapped
from .pickles import Scan

_TORCHAO_HINT = "pip install torchao"
_DEEPEST = 100  # levels of modules; each costs three calls of Python's thousand
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # how torch.save began before PyTorch 1.6
_PROTOCOL_HINT = "save it with torch.save's default pickle protocol, or pass --trust-pickle if you trust its author"


def from_file(path: Path, trust: bool, mmap: bool) -> Model:
    """See ``load``."""
    check_file(path)
    with quiet():
        return _from_zip(path, trust, mmap) if zipfile.is_zipfile(path) else _from_legacy(path, trust)


def check_file(path: Path) -> None:
    """Refuse what cannot be a PyTorch file, naming what it is."""
    if not path.exists():
        raise LoadError(f"no such file: {path}", hint=f"pass a .pt or .pt2 file; for a model defined in Python, {FACTORY_HINT}")
    if path.is_dir():
        raise LoadError(f"a directory, not a model file: {path}", hint=SAVE_HINT)
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
        raise LoadError(f"{foreign}, not a PyTorch model: {path}", hint=SAVE_HINT)
    if head.startswith(b"PK") or zipfile.is_zipfile(path):
        _check_archive(path)


def _check_archive(path: Path) -> None:
    """Refuse an archive that PyTorch's reader and this one could read differently: what is checked here is read again there."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            problem = irregular(file, archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise LoadError(f"the file is damaged or cut short: {path}: {first_line(error)}", hint="save or copy it again") from error
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
    raise LoadError(f"a zip archive, but no PyTorch model: {path}", hint=SAVE_HINT)


def _from_torchscript(path: Path, archive: zipfile.ZipFile, trust: bool) -> Model:
    try:
        findings = [] if trust else safety.suspicious_in_torchscript(archive)
    except (pickle.UnpicklingError, ValueError, IndexError, KeyError) as error:
        raise LoadError(f"the TorchScript archive is damaged: {path}: {first_line(error)}", hint="save or copy it again") from error
    if findings:
        hint = "if you trust its author, pass --trust-pickle"
        raise LoadError(f"the TorchScript archive could reach beyond its own tensors: {path}: {', '.join(findings[:5])}", hint=hint)
    try:
        model: Model = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        raise LoadError(f"the TorchScript archive cannot be read: {path}: {first_line(error)}") from error
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
        message = f"the exported program cannot be read by PyTorch {torch.__version__}: {path}: {first_line(error)}"
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


def _safe_names(path: Path, read: Callable[[], Scan], hint: str = _PROTOCOL_HINT) -> Scan:
    try:
        return read()
    except pickle.UnpicklingError as error:
        raise LoadError(f"the pickle cannot be checked: {path}: {error}", hint=hint) from error
    except Exception as error:
        raise LoadError(f"the file is damaged or not a PyTorch file: {path}: {first_line(error)}", hint="save or copy it again") from error


def _from_pickle(path: Path, read: Callable[[], Scan], trust: bool, mmap: bool = False) -> Model:
    loaded = _trusted(path, mmap) if trust else untrusted(path, _safe_names(path, read), mmap)
    if isinstance(loaded, nn.Module):
        if problem := _malformed(loaded):
            raise LoadError(f"the file holds {problem}: {path}", hint=SAVE_HINT)
        return loaded
    if isinstance(loaded, Mapping):
        raise LoadError(f"the file holds weights (a state_dict), not a model: {path}", hint=FACTORY_HINT)
    raise LoadError(f"the file holds no model: {path}: {type(loaded).__name__}", hint=SAVE_HINT)


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


def untrusted(path: Path, found: Scan, mmap: bool = False) -> Any:
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
        raise LoadError(f"the file cannot be read safely: {path}: {reason(error)}", hint=_refusal([])) from error


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
    with importing_from(Path.cwd()):
        try:
            return top in sys.modules or importlib.util.find_spec(top) is not None
        except (ImportError, ValueError):
            return False


def _trusted(path: Path, mmap: bool) -> Any:
    try:
        with importing_from(Path.cwd()), healed_while_unpickling():
            return torch.load(path, weights_only=False, map_location="cpu", mmap=mmap and can_be_mapped(path))
    except (AttributeError, ImportError) as error:
        raise LoadError(f"the file needs a class that is not importable here: {path}: {first_line(error)}", hint=FACTORY_HINT) from error
    except Exception as error:
        raise LoadError(f"the file cannot be read: {path}: {reason(error)}") from error


def pickled_state(path: Path) -> Mapping[str, Any]:
    """The state_dict in ``path``, taken out of a training checkpoint if it is one."""
    check_file(path)
    with quiet():
        loaded = untrusted(path, state_names(path), mmap=True)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise LoadError(f"not a state_dict: {path}: {type(loaded).__name__}", hint="save it with torch.save(model.state_dict(), path)")
    return loaded


def state_names(path: Path) -> Scan:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            return _safe_names(path, lambda: safety.pickled_names(stream, 4))
    with zipfile.ZipFile(path) as archive:
        member = next((name for name in archive.namelist() if name.partition("/")[2] == "data.pkl"), None)
        if member is None:
            raise LoadError(f"a zip archive, but no state_dict: {path}", hint="save it with torch.save(model.state_dict(), path)")
        with archive.open(member) as stream:
            return _safe_names(path, lambda: safety.pickled_names(stream))
