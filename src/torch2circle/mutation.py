"""Writes in place and views, turned into operators that make new tensors.

A write changes every tensor that shares the memory. It is carried up from a view to its base at once, by a scatter or the
inverse of the view; other views of the memory are taken again from their base when somebody reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .errors import RecordError
from .ir import Where


@dataclass(frozen=True)
class View:
    """``out`` was made from ``base`` by ``op``; ``key`` is the argument of ``op`` that is the base."""

    out: Tensor
    base: Tensor
    op: str
    key: str
    args: Mapping[str, Any]


class Aliases:
    """How each view was made, and which tensors a write to their memory has overtaken."""

    def __init__(self) -> None:
        self.views: dict[int, View] = {}
        self._writes: Counter[int] = Counter()  # by storage
        self._seen: dict[int, int] = {}  # by tensor: how many of those its number reflects

    def add(self, op: str, args: Mapping[str, Any], outs: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """Note which results of a call share the memory of one of its arguments."""
        for index, out in enumerate(outs):
            base = next((t for t in tensors if storage_of(t) == storage_of(out)), None)
            if base is None or any(t is out for t in tensors):
                continue
            key = next((name for name, value in args.items() if value is base), "")
            self.views[id(out)] = View(out, base, *(_one_of(op, args, outs, index, key) if len(outs) > 1 else (op, key, args)))
            self.refresh(out)

    def rename(self, tensor: Tensor, other: Tensor) -> None:
        """``other`` stands for what ``tensor`` was, which itself becomes something else."""
        self._seen[id(other)] = self._seen.get(id(tensor), 0)
        if (view := self.views.pop(id(tensor), None)) is not None:
            self.views[id(other)] = replace(view, out=other)
        for key, view in self.views.items():
            if view.base is tensor:
                self.views[key] = replace(view, base=other, args={name: other if arg is tensor else arg for name, arg in view.args.items()})

    def refresh(self, tensor: Tensor) -> None:
        """The tensor has a number for what it now holds."""
        self._seen[id(tensor)] = self._writes[storage_of(tensor)]

    def overtake(self, storage: int) -> None:
        """A write changed what the tensors in this memory hold."""
        self._writes[storage] += 1

    def is_written(self, tensor: Tensor) -> bool:
        """Whether its memory was written to, by whatever name."""
        return storage_of(tensor) in self._writes

    def is_stale(self, tensor: Tensor) -> bool:
        return bool(self._writes) and self._seen.get(id(tensor), 0) != self._writes[storage_of(tensor)]

    def above(self, tensor: Tensor) -> list[View]:
        """The views that lead from ``tensor`` to the tensor that owns the memory."""
        chain: list[View] = []
        while (view := self.views.get(id(tensor))) is not None:
            chain.append(view)
            tensor = view.base
        return chain


def _one_of(op: str, args: Mapping[str, Any], outs: Sequence[Tensor], index: int, key: str) -> tuple[str, str, Mapping[str, Any]]:
    """One result of an operator that gives several views, as an operator of its own."""
    name, dim = op.partition(".")[0], args.get("dim", 0)
    if name == "aten::unbind":
        return "aten::select.int", key, {key: args[key], "dim": dim, "index": index}
    if name in ("aten::split", "aten::chunk", "aten::split_with_sizes", "aten::tensor_split"):
        start = sum(out.shape[dim] for out in outs[:index])
        return "aten::slice.Tensor", key, {key: args[key], "dim": dim, "start": start, "end": start + outs[index].shape[dim], "step": 1}
    return op, "", args


def functional_name(op: str) -> str | None:
    """``aten::relu_`` -> ``aten::relu``, ``aten::__iand__`` -> ``aten::__and__``; None if there is no form that makes a new tensor."""
    name, dot, overload = op.partition(".")
    namespace, _, base = name.partition("::")
    pure = f"__{base[3:]}" if base.startswith("__i") else base.removesuffix("_")
    functional = f"{namespace}::{pure}{dot}{overload}"
    return functional if pure != base and operator_of(functional) is not None else None


def operator_of(name: str) -> Any | None:
    """PyTorch's operator of a full name, if there is one."""
    packet, _, overload = name.partition(".")
    namespace, _, base = packet.partition("::")
    return getattr(getattr(getattr(torch.ops, namespace), base, None), overload or "default", None)


_SCATTER = {"aten::slice.Tensor": "aten::slice_scatter", "aten::select.int": "aten::select_scatter"}
_RESHAPES = {
    "aten::view", "aten::reshape", "aten::flatten.using_ints", "aten::unsqueeze", "aten::squeeze", "aten::squeeze.dim",
    "aten::squeeze.dims", "aten::_unsafe_view", "aten::alias", "aten::detach", "aten::view_as", "aten::reshape_as", "aten::unflatten.int",
}  # fmt: skip


def write_back(view: View, base: Any, new: Any, where: Where) -> tuple[str, dict[str, Any]]:
    """The call that makes the new base from the old one and the new view.

    Raises:
        RecordError: the view cannot be undone.
    """
    others = {name: value for name, value in view.args.items() if name != view.key}
    if view.op in _SCATTER:
        return _SCATTER[view.op], {"self": base, "src": new, **others}
    if view.op in _RESHAPES:
        return "aten::view", {"self": new, "size": list(view.base.shape)}
    if view.op in ("aten::transpose.int", "aten::t"):
        return view.op, {"self": new, **others}
    if view.op == "aten::permute":
        dims = [d % view.base.dim() for d in view.args["dims"]]
        return view.op, {"self": new, "dims": [dims.index(d) for d in range(len(dims))]}
    raise RecordError(f"a write in place through a view that cannot be undone: {view.op}", where=where)


def storage_of(tensor: Tensor) -> int:
    """A key of the memory a tensor lies in."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)
