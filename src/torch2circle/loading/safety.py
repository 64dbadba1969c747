"""Which files can be read without running anything their author chose.

Pickles: torch's own weights-only unpickler does the reading; this module says which classes it may make besides tensors.
They are PyTorch's own layers, so that a malicious file can at most build a strange network out of them. ``.pt2`` archives:
torch.export.load unpickles, evaluates expressions and generates code, so the archive is inspected before it is handed over.
TorchScript is a language of its own, compiled and run by PyTorch; its source is searched for the few operators that reach beyond tensors.
"""

from __future__ import annotations

import ast
import importlib
import io
import json
import math
import mmap
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import IO, Any

import torch
from torch import nn
from torch.fx import GraphModule

from .archives import irregular
from .mapping import numbers_are_there
from .pickles import Scan, scan

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


def pickled_names(stream: IO[bytes], pickles: int = 1) -> Scan:
    """The classes and functions that ``pickles`` consecutive pickles refer to, without running them.

    Args:
        stream: positioned at the first pickle, which is the file's beginning where it has a descriptor.
        pickles: how many to read.

    Raises:
        pickle.UnpicklingError: an opcode of protocol 4 or later, whose references cannot be read off; or tuples nested without end.
        ValueError, IndexError, KeyError: not a pickle.
    """
    try:
        descriptor = stream.fileno()
    except OSError:  # a member of an archive
        return scan(stream.read(), pickles, _registered())
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        return scan(data, pickles, _registered())


def _registered() -> set[str]:
    """What may be made because it is imported, as torchao's tensors."""
    return set(map(_name, torch.serialization.get_safe_globals()))


def allowed(names: Iterable[str]) -> tuple[list[Granted], list[str]]:
    """Split what a pickle refers to into what may be made and what may not.

    Args:
        names: as ``pickled_names`` gives them.

    Returns:
        Pairs for ``torch.serialization.safe_globals``, and the dotted names that are refused.
    """
    granted: list[Granted] = []
    refused: list[str] = []
    registered = _registered()
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
# Operators that reach beyond tensors: files (save pickles to any path, from_file maps a file and can make it), other processes.
_REACHING = r"save|from_file|load\w*|read_file|write_file"
_REMOTE = r"_?c10d\w*|symm_mem|debugprims|dist_rpc|rpc\w*"
_TARGET = re.compile(
    rf"torch\.ops\.(?!load|__|({_REMOTE})\.)\w+\.(?!__|({_REACHING})(\.|$))\w+(\.(?!__)\w+)?"
    r"|torch\.ops\.aten\.__i?(and|or|xor|lshift|rshift)__\.\w+"
    r"|_operator\.(?!attrgetter|itemgetter|methodcaller|call|__)\w+|math\.(?!__)\w+|torch\.sym_\w+"
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

# The module and name that a defaultdict among the inputs is made with; the module would be imported.
_FACTORIES = {("builtins", name) for name in ("bool", "dict", "float", "int", "list", "set", "str", "tuple")}
# What makes large numbers of small ones, and the exponents it may have.
_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift"}
_EXPONENT = re.compile(r"-?\d{1,2}|Integer\(-?\d{1,2}\)|Rational\(-?\d{1,2}, \d{1,2}\)")

# In TorchScript any spelling counts: spaces and line breaks may stand in ``torch . save``, and ``f = torch.save`` is a name for it.
_WORDS = re.compile(rf"\b({_REACHING}|{_REMOTE})\b".encode())
_ATTRIBUTE = re.compile(rf"(?m)^  ({_REACHING}) : ".encode())  # the declaration of a module's attribute
_GETATTR = re.compile(rb'\bgetattr\([\w.]+, "[^"\\\n]+"\)')  # as PyTorch writes it; strings put together or escaped could spell any word
_BOUND_CLASS = re.compile(rb"\bclasses\b")
_PACKED_CLASS = re.compile(rb"__torch__\.torch\.classes\.(quantized[.\n]\w+PackedParamsBase|rnn[.\n]CellParamsBase)\b")
_NAMESPACE = re.compile(rb"\b__torch__\b(?!\.\w)|\b__torch__\.torch\b(?!\.\w)")  # the namespace itself, which could get another name


def suspicious_in_torchscript(archive: zipfile.ZipFile) -> list[str]:
    """What in a TorchScript archive could reach files, processes or memory: operators, classes bound to C++, numbers that are not there.

    Args:
        archive: the open archive.

    Returns:
        One short text for each finding.
    """
    found: list[str] = []
    for member in archive.namelist():
        folder = member.partition("/")[2].casefold()  # PyTorch's reader takes upper and lower case for the same
        if folder.startswith(("data/", "constants/")):
            continue
        text = archive.read(member)
        # PyTorch's reader in C++ takes as many numbers as the pickle says, however many there are.
        if folder in ("data.pkl", "constants.pkl") and not numbers_are_there(archive, member):
            found.append(f"numbers that are not there in {member}")
        if len(_BOUND_CLASS.findall(text)) > len(_PACKED_CLASS.findall(text)):
            found.append(f"a class bound to C++ in {member}")
        if not folder.startswith("code/") or folder.endswith(".debug_pkl"):
            continue
        found += sorted(f"{word.decode()} in {member}" for word in set(_WORDS.findall(_ATTRIBUTE.sub(b"", text))))
        if b"getattr" in _without_getattr(text):
            found.append(f"getattr in {member}")
        if _NAMESPACE.search(text):
            found.append(f"a namespace as a value in {member}")
    return found


def _without_getattr(text: bytes) -> bytes:
    """``text`` with each getattr of a plain name taken for that attribute, from the inside to the outside."""
    while True:
        shorter = _GETATTR.sub(b"x", text)
        if shorter == text:
            return text
        text = shorter


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


def _suspicions(archive: zipfile.ZipFile) -> Iterator[str]:
    members = archive.namelist()
    flat = "serialized_exported_program.json" in members
    pickled: set[str] = set()
    for member in members:
        inner = member if flat else str(PurePosixPath(*PurePosixPath(member).parts[1:]))
        if not _PT2_FILES.fullmatch(inner) or inner.casefold().startswith(("data/constants/custom_obj", "data/constants/opaque_obj")):
            yield f"file {inner}"
        elif inner.endswith(".json"):
            try:
                document = json.loads(archive.read(member))
            except ValueError:
                yield f"unreadable {inner}"
                continue
            for entry in _payloads(document):
                path = f"{PurePosixPath(member).parent}/{entry.get('path_name')}"
                if entry.get("use_pickle"):
                    pickled.add(path)
                if not archive.getinfo(path).file_size and _numbers(entry):
                    yield f"no numbers in {path}"  # PyTorch would make as many zeros as the description says
            yield from _in_json(document, "")
        elif inner.endswith(".pt"):
            pickled.add(member)
    for member in sorted(pickled):
        if not (member in members and _only_tensors(archive.read(member))):
            yield f"pickle {member}"


def _payloads(document: Any) -> Iterator[Any]:
    config = document.get("config") if isinstance(document, dict) else None
    yield from config.values() if isinstance(config, dict) else ()


def _numbers(entry: Any) -> int:
    meta = entry.get("tensor_meta")
    return math.prod(size["as_int"] for size in meta["sizes"]) if meta else 0


def _only_tensors(data: bytes) -> bool:
    """Whether torch.load makes nothing but tensors and plain values of it, be it allowed to make anything."""
    if not data:
        return True  # torch.export.load takes an empty file for no inputs
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if irregular(io.BytesIO(data), archive):
                return False
            pickled = [archive.read(member) for member in archive.namelist() if member.endswith("/data.pkl")]
        if any(scan(each, 1, _registered()).fault for each in pickled):
            return False
        torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception:
        return False
    return True


def _in_json(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        factory = value.get("default_factory_module"), value.get("default_factory_name")
        if any(factory) and factory not in _FACTORIES:
            yield f"module {str(factory[0])[:40]}"
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
    if key in ("target", "as_operator"):
        return _TARGET.fullmatch(value) is not None or re.fullmatch(r"\w+", value) is not None
    if key == "expr_str":
        return _EXPRESSION.fullmatch(value) is not None and _is_quick(value)
    if key in ("in_spec", "out_spec", "context") and value.startswith(("[", "{")):
        try:
            json.loads(value)
        except ValueError:
            return False
        return True
    return key in _FREE_TEXT or (_TAME.fullmatch(value) is not None and "**" not in value)


def _is_quick(expression: str) -> bool:
    """Whether it is computed in no time: an expression of three numbers can have more digits than there is memory."""
    exponents = []
    for node in ast.walk(ast.parse(expression.strip() or "0", mode="eval")):
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Pow, ast.LShift)):
            exponents.append(node.right)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _POWERS:
            exponents += node.args[1:]
    digits = max(map(len, re.findall(r"\d+", expression)), default=0)
    return digits <= 20 and len(exponents) <= 3 and all(_EXPONENT.fullmatch(ast.unparse(exponent)) for exponent in exponents)
