"""Where in the user's model an operator was called, and what the user calls its parameters.

Python's own stack tells: the innermost frame whose ``self`` is a part of the model gives the module path, the innermost one
that is neither PyTorch's nor ours the source line. So nothing is hooked into the model. An exported graph runs as
generated code, one node a line, and its nodes remember both. TorchScript leaves no frames: there the parameters tell.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .ir import Where
from .quant import array_of

_OWN = str(Path(__file__).parent) + os.sep
_TORCH = str(Path(torch.__file__).parent) + os.sep
_TORCHAO = str(Path(torch.__file__).parents[1] / "torchao") + os.sep
_GENERATED = "<eval_with_key>"

Frames = Iterable[tuple[FrameType, int]]


class Provenance:
    """Knows the parts of one model by identity. ``state`` are its parameters, buffers and other tensors by name."""

    def __init__(self, module: nn.Module | None) -> None:
        parts = {} if module is None else dict(module.named_modules())
        self.paths = {id(part): path for path, part in parts.items()}
        self.state: dict[str, Tensor] = {}
        for path, part in parts.items():
            self.state |= {f"{path}.{name}".lstrip("."): tensor for name, tensor in _tensors(part).items()}
        self.names = {id(tensor): name for name, tensor in reversed(self.state.items())}  # of several names the first one
        self._packed = _packed_owners({path: part for path, part in parts.items() if isinstance(part, torch.jit.ScriptModule)})
        self._nodes: dict[int, dict[str, fx.Node]] = {}

    def here(self, op: str, args: Mapping[str, Any]) -> Where:
        """The place of the operator call that runs."""
        module, file, line = self._place(_running(sys._getframe(1)))
        if self._packed is not None:
            module = next((owner for arg in pytree.tree_leaves(dict(args)) if (owner := self._owner(arg))), module)
        return Where(op, module, file, line)

    def of_error(self, error: Exception, inner: Exception | None) -> tuple[str, Where]:
        """What an error of the model says, and the place it comes from. ``inner`` is the last one that an operator raised."""
        module, file, line = self._place(_raised(error.__traceback__))
        text = str(error).strip()
        if "Traceback of TorchScript" in text:  # the interpreter's own stack, as text
            lines = _source_lines(text.rpartition("original code")[2])
            file, line = lines[-1] if lines else (file, line)
            text = str(inner).strip() if inner else text.splitlines()[-1].removeprefix("RuntimeError: ")
        message = (text.splitlines() or [""])[0].rstrip(".")
        return f"{type(error).__name__}: {message}" if message else type(error).__name__, Where("", module, file, line)

    def _place(self, frames: Frames) -> tuple[str, str, int]:
        module, file, line = None, "", 0
        for frame, number in frames:
            code = frame.f_code
            part = frame.f_locals.get("self") if "self" in code.co_varnames or "self" in code.co_freevars else None
            source = code.co_filename
            path = self.paths.get(id(part))
            if isinstance(part, fx.GraphModule) and source.startswith(_GENERATED) and (node := self._node(part, source, number)):
                place = _place_of(node)
                path = ".".join(filter(None, (path, place[0])))
                if not file:
                    _, file, line = place
            if module is None:
                module = path
            if not file and _is_users(source):
                file, line = _short(source), number
        return module or "", file, line

    def _node(self, module: fx.GraphModule, source: str, number: int) -> fx.Node | None:
        """The node that a line of generated code assigns to its name."""
        if id(module) not in self._nodes:
            self._nodes[id(module)] = {node.name: node for node in module.graph.nodes}
        name = re.match(r"\s*(\w*)", linecache.getline(source, number))
        return self._nodes[id(module)].get(name[1]) if name else None

    def _owner(self, arg: Any) -> str:
        if isinstance(arg, Tensor):
            return self.names.get(id(arg), "").rpartition(".")[0]
        owners = self._packed.get(_fingerprint(arg), []) if self._packed and isinstance(arg, torch.ScriptObject) else []
        # twins with equal weights are told apart by their order
        return owners.pop(0) if len(owners) > 1 else owners[0] if owners else ""


def place_of_part(module: nn.Module, path: str) -> Where:
    """Where the model uses one of its parts: an exported graph knows the module and the line whose result the part gets."""
    calls = [node for node in module.graph.nodes if node.target == path] if isinstance(module, fx.GraphModule) else []
    places = [_place_of(node) for call in calls for node in (*call.all_input_nodes, call)]
    return next((Where("", *place) for place in places if place[0]), Where(module=path.rpartition(".")[0]))


def _tensors(part: nn.Module) -> dict[str, Tensor]:
    """The module's own parameters and buffers, then tensors in plain attributes."""
    held = {**part._parameters, **part._buffers} if not isinstance(part, torch.jit.ScriptModule) else {
        **dict(part.named_parameters(recurse=False)), **dict(part.named_buffers(recurse=False))
    }  # fmt: skip
    return {name: value for name, value in {**held, **vars(part)}.items() if isinstance(value, Tensor)}


def _packed_owners(parts: Mapping[str, nn.Module]) -> dict[bytes, list[str]] | None:
    """Module paths by packed parameters, or None if nothing is TorchScript. A packed object is wrapped anew each time it is
    met and knows no equality, so its content is the key.
    """
    owners: dict[bytes, list[str]] = {}
    for path, part in parts.items():
        holder: Any = part._c
        packed = holder.getattr("_packed_params") if holder.hasattr("_packed_params") else None
        if isinstance(packed, torch.ScriptObject) and (key := _fingerprint(packed)):
            owners.setdefault(key, []).append(path.removesuffix("._packed_params"))
    return owners if parts else None


def _fingerprint(packed: torch.ScriptObject) -> bytes:
    """A digest of the numbers in packed parameters; empty for objects of another kind."""
    if not packed._has_method("unpack"):  # type: ignore[attr-defined]
        return b""
    digest = hashlib.sha256()
    weight, bias = packed.unpack()  # type: ignore[attr-defined]
    for tensor in (weight, bias):
        if isinstance(tensor, Tensor):
            digest.update(array_of(tensor.contiguous()).tobytes())
    if weight.is_quantized:
        scales = [weight.q_scale()] if weight.qscheme() == torch.per_tensor_affine else weight.q_per_channel_scales().tolist()
        digest.update(repr(scales).encode())
    return digest.digest()


def _running(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    """The frames from the innermost to the one that records."""
    while frame is not None and not _is_recording(frame):
        yield frame, frame.f_lineno
        frame = frame.f_back


def _raised(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    frames = []
    while trace is not None:
        frames.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return [(frame, line) for frame, line in reversed(frames) if not _is_recording(frame)]


def _is_recording(frame: FrameType) -> bool:
    return frame.f_code.co_name == "record" and frame.f_globals.get("__name__") == f"{__package__}.record"


def _place_of(node: fx.Node) -> tuple[str, str, int]:
    """Module, file and line that an exported graph remembers of a node; of a weight that is quantized or dequantized, of its reader."""
    if all(source.op == "get_attr" for source in (*node.all_input_nodes, *[node] * (not node.all_input_nodes))):
        readers = [user for reader in node.users for user in (reader, *reader.users)]
        node = next((each for each in (node, *readers) if each.meta.get("nn_module_stack")), node)
    stack, lines = node.meta.get("nn_module_stack") or {}, _source_lines(node.meta.get("stack_trace") or "")
    return str([*stack.values()][-1][0]) if stack else "", *(lines[-1] if lines else ("", 0))


def _source_lines(trace: str) -> list[tuple[str, int]]:
    """The user's files and lines in a printed stack, innermost last."""
    found = re.findall(r'File "(.+?)", line (\d+)', trace)
    return [(_short(file), int(line)) for file, line in found if _is_users(file)]


def _is_users(file: str) -> bool:
    return not file.startswith((_OWN, _TORCH, _TORCHAO, "<"))


def _short(file: str) -> str:
    """Relative to the working directory where it lies below it."""
    return _relative(file, os.getcwd())


@cache
def _relative(file: str, folder: str) -> str:
    path = Path(file)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else file
