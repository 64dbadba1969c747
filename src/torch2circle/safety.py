"""Which files can be read without running anything their author chose.

Pickles: torch's own weights-only unpickler does the reading; this module says which classes it may make besides tensors.
They are PyTorch's own layers, so that a malicious file can at most build a strange network out of them. ``.pt2`` archives:
torch.export.load unpickles, evaluates expressions and generates code, so the archive is inspected before it is handed over.
"""

from __future__ import annotations

import importlib
import io
import json
import pickle
import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

# What torch.serialization.safe_globals takes: an object, and the name a file calls it by.
Granted = Callable[..., Any] | tuple[Callable[..., Any], str]

# Where PyTorch defines layers, under their present and their older names. torch.nn.parallel, torch.fx and most of
# torch.ao.quantization stay out: they hold modules that keep code or processes, not numbers.
_LAYERS = re.compile(
    r"torch\.(ao\.)?nn\.(modules|quantized|quantizable|intrinsic|qat|sparse)(\.\w+)*"
    r"|torch\.(ao\.)?quantization\.(stubs|observer|fake_quantize|_learnable_fake_quantize)"
)
# Functions that layers keep as attributes (the activation of a transformer layer).
_FUNCTIONS = {
    "torch.nn.functional": {"relu", "relu6", "gelu", "silu", "elu", "leaky_relu", "hardswish", "hardsigmoid", "softmax", "mish"},
    "torch._C._nn": {"gelu", "hardswish", "mish"},
}
# What the weights-only unpickler takes without being asked; its own list decides, this one only keeps messages short.
_ALWAYS = re.compile(
    r"collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex|bytearray)|_codecs encode"
    r"|torch\._utils _rebuild_\w+|torch\._tensor _rebuild_from_type_v2|torch\.nn\.parameter Parameter|torch\.storage \w+Storage"
    r"|torch (\w*Storage|Size|Tensor|device|q?u?int\d+\w*|quint4x2|quint2x4|float\w*|bfloat16|complex\w+|bool|per_\w+_\w+)"
    r"|torch\.serialization _get_layout"
)


def pickled_names(stream: io.BufferedIOBase, pickles: int = 1) -> set[str]:
    """The classes and functions that ``pickles`` consecutive pickles refer to, as "module name", without running them.

    Args:
        stream: positioned at the first pickle.
        pickles: how many to read.

    Raises:
        pickle.UnpicklingError: the pickle uses protocol 4 or later, whose references cannot be read off.
        ValueError: not a pickle.
    """
    names: set[str] = set()
    for _ in range(pickles):
        for opcode, argument, _position in pickletools.genops(stream):  # type: ignore[arg-type]
            if opcode.name in ("GLOBAL", "INST"):
                names.add(str(argument))
            elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                raise pickle.UnpicklingError("pickle protocol 4 or later")
    return names


def allowed(names: Iterable[str]) -> tuple[list[Granted], list[str]]:
    """Split what a pickle refers to into what may be made and what may not.

    Args:
        names: as ``pickled_names`` gives them.

    Returns:
        Pairs for ``torch.serialization.safe_globals``, and the dotted names that are refused.
    """
    granted: list[Granted] = []
    refused: list[str] = []
    registered = set(map(_name, torch.serialization.get_safe_globals()))  # by what is imported, as torchao for its tensors
    for name in sorted(names):
        if _ALWAYS.fullmatch(name) or name in registered:
            continue
        module, _, attribute = name.partition(" ")
        found = _harmless(module, attribute)
        if found is None:
            refused.append(f"{module}.{attribute}")
        else:
            granted.append((found, f"{module}.{attribute}"))
    return granted, refused


def _name(registered: Granted) -> str:
    """What a pickle calls it, as "module name"."""
    if isinstance(registered, tuple):
        return " ".join(registered[1].rsplit(".", 1))
    return f"{registered.__module__} {registered.__qualname__}"


def _harmless(module: str, attribute: str) -> Any | None:
    """The layer class, activation function or holder of packed weights with this name; None for anything else."""
    if (module, attribute) == ("torch", "ScriptObject"):
        return torch.ScriptObject
    if attribute in _FUNCTIONS.get(module, ()):
        return getattr(importlib.import_module(module), attribute)
    if not _LAYERS.fullmatch(module):
        return None
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None
    # A module imports much it does not define: only a class that one of these modules defines counts.
    is_layer = isinstance(found, type) and issubclass(found, nn.Module) and not issubclass(found, GraphModule)
    return found if is_layer and _LAYERS.fullmatch(found.__module__) else None


_PT2_FILES = re.compile(
    r"(models/\w+\.json|data/(weights|constants)/[\w.]+|data/sample_inputs/\w+\.pt|archive_format|archive_version|byteorder|version"
    r"|\.data/\w+|\.format_version|\.storage_alignment|extra(_files)?/.*|serialized_\w+\.(json|pt))"
)
# from_file maps a file of the author's choosing into memory, and can create it.
_TARGET = re.compile(
    r"torch\.ops\.(?!load)\w+\.(?!__|from_file)\w+(\.(?!__)\w+)?|torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.\w+"
    r"|_operator\.(?!attrgetter|itemgetter|methodcaller|call)\w+|math\.\w+|torch\.sym_\w+"
)
_SYMBOLIC = (
    r"Mul|Add|Pow|Integer|Float|Rational|Symbol|Max|Min|Abs|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Where"
    r"|TruncToInt|CeilToInt|FloorToInt|RoundToInt|RoundDecimal|IntTrueDiv|FloatTrueDiv|ToFloat|PowByNatural|FloatPow|Identity|LShift|RShift"
    r"|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|positive|integer|nonnegative|real|evaluate|True|False"
)
_EXPRESSION = re.compile(rf"(\b[su]\d+\b|'\w+'|\b\d+(\.\d*)?(e[-+]?\d+)?\b|[-+*/%(),=\s<>&|~]|\b({_SYMBOLIC})\b)*")
# Text that ends up in generated code can do no harm without a call, an assignment or a second statement.
_TAME = re.compile(r"[\w.,:/<>+* -]*")
_FREE_TEXT = {"stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "custom", "from_node", "as_string"}

_FILE_ACCESS = re.compile(rb"\b(?:torch|ops\.\w+)\.(?:save|from_file)\(")


def suspicious_in_torchscript(archive: zipfile.ZipFile) -> list[str]:
    """The source files of a TorchScript archive that write or map files; its language can do nothing worse.

    Args:
        archive: the open archive.

    Returns:
        Their names in the archive.
    """
    return [member for member in archive.namelist() if member.endswith(".py") and _FILE_ACCESS.search(archive.read(member))]


def suspicious_in_pt2(archive: zipfile.ZipFile) -> list[str]:
    """What in an ExportedProgram archive could run code of its author's choosing; empty for what torch.export.save writes.

    Args:
        archive: the open ``.pt2`` file.

    Returns:
        One short text for each finding.
    """
    try:
        return list(dict.fromkeys(_suspicions(archive)))
    except Exception as error:  # whatever a malformed document trips over
        return [f"malformed: {type(error).__name__}"]


def ambiguous(archive: zipfile.ZipFile) -> list[str]:
    """Members that another zip reader could take for each other: what is checked here must be what PyTorch reads.

    Args:
        archive: the open archive.

    Returns:
        Names that occur twice, upper and lower case being the same, as to PyTorch's own reader.
    """
    counts = Counter(member.casefold() for member in archive.namelist())
    return [name for name, count in counts.items() if count > 1]


def _suspicions(archive: zipfile.ZipFile) -> Iterator[str]:
    members = archive.namelist()
    flat = "serialized_exported_program.json" in members
    pickled: set[str] = set()
    for member in members:
        inner = member if flat else str(PurePosixPath(*PurePosixPath(member).parts[1:]))
        if not _PT2_FILES.fullmatch(inner):
            yield f"file {inner}"
        elif inner.endswith(".json"):
            try:
                document = json.loads(archive.read(member))
            except ValueError:
                yield f"unreadable {inner}"
                continue
            payloads = set(_pickled_payloads(document))
            pickled |= {f"{PurePosixPath(member).parent}/{name}" for name in payloads}
            yield from _in_json(document, "")
        elif inner.endswith(".pt"):
            pickled.add(member)
        elif PurePosixPath(inner).name.startswith(("custom_obj", "opaque_obj")):
            yield f"pickled object {inner}"
    for member in sorted(pickled):
        if not (member in members and _only_tensors(archive.read(member))):
            yield f"pickle {member}"


def _pickled_payloads(document: Any) -> Iterator[str]:
    config = document.get("config") if isinstance(document, dict) else None
    for entry in config.values() if isinstance(config, dict) else ():
        if entry.get("use_pickle"):
            yield str(entry.get("path_name"))


def _only_tensors(data: bytes) -> bool:
    try:
        torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:
        return not data  # torch.export.load takes an empty file for no inputs
    return True


def _in_json(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "__enum__" or not _TAME.fullmatch(name):
                yield f"key {name[:40]}"
            yield from _in_json(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _in_json(item, key)
    elif isinstance(value, str) and not _is_tame(value, key):
        yield f"{key} {value[:60]}"
    elif isinstance(value, str) and key in ("in_spec", "out_spec", "context") and value.startswith(("[", "{")):
        yield from _in_json(json.loads(value), "")


def _is_tame(value: str, key: str) -> bool:
    if key == "target":
        return _TARGET.fullmatch(value) is not None or re.fullmatch(r"\w+", value) is not None
    if key == "expr_str":
        return _EXPRESSION.fullmatch(value) is not None
    if key in ("in_spec", "out_spec", "context") and value.startswith(("[", "{")):
        try:
            json.loads(value)
        except ValueError:
            return False
        return True
    return key in _FREE_TEXT or _TAME.fullmatch(value) is not None
