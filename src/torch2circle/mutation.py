"""Writes in place and views, turned into operators that make new tensors.

A write to a tensor changes every tensor that shares its storage. The tensors of one storage form a tree of views: the
write is carried up from a view to its base (a scatter, or the inverse of the view), and then the other views are taken
again from the new base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import RecordError
from .ir import Where

RecordView = Callable[[str, Mapping[str, Any], Tensor, Mapping[Tensor, Tensor], Where], None]


@dataclass(frozen=True)
class View:
    """``out`` was made from ``base`` by ``op``; ``key`` is the argument of ``op`` that is the base."""

    out: Tensor
    base: Tensor
    op: str
    key: str
    args: Mapping[str, Any]


class Aliases:
    """Which of the recorded tensors share a storage, and how each view was made."""

    def __init__(self) -> None:
        self.groups: dict[int, list[Tensor]] = {}
        self.views: dict[int, View] = {}

    def track(self, tensor: Tensor) -> None:
        group = self.groups.setdefault(storage_of(tensor), [])
        if not any(tensor is known for known in group):
            group.append(tensor)

    def add_views(self, op: str, args: Mapping[str, Any], outs: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        """Note which results of a call share the storage of one of its arguments."""
        for out in outs:
            base = next((t for t in tensors if t is not out and storage_of(t) == storage_of(out)), None)
            if base is None or any(t is out for t in tensors):
                continue
            key = next((name for name, value in args.items() if value is base), "")
            self.views[id(out)] = View(out, base, op, key, args)
            self.track(base)
            self.track(out)

    def snapshot(self, target: Tensor) -> dict[Tensor, Tensor]:
        """Copies of ``target`` and of every tensor that shares its storage, before a write."""
        self.track(target)
        return {tensor: tensor.clone() for tensor in self.groups[storage_of(target)]}

    def propagate(self, target: Tensor, before: Mapping[Tensor, Tensor], record: RecordView, where: Where) -> None:
        """Record what a write to ``target`` did to the other tensors of its storage."""
        done = {id(target)}
        tensor = target
        while (view := self.views.get(id(tensor))) is not None:
            op, args = _write_back(view, where)
            record(op, args, view.base, before, where)
            done.add(id(view.base))
            tensor = view.base
        for other in self.groups[storage_of(target)]:  # bases come before their views
            if id(other) in done:
                continue
            made = self.views.get(id(other))
            if made is None or not made.key:
                raise RecordError(f"a write in place to one of several results that share memory: {made.op if made else ''}", where=where)
            record(made.op, made.args, other, before, where)
            done.add(id(other))


def functional_name(op: str, where: Where) -> str:
    """``aten::relu_`` -> ``aten::relu``.

    Raises:
        RecordError: if the operator has no form that makes a new tensor.
    """
    name, _, overload = op.partition(".")
    if name.endswith("_"):
        namespace, _, base = name[:-1].partition("::")
        if hasattr(getattr(torch.ops, namespace), base):
            return f"{namespace}::{base}" + (f".{overload}" if overload else "")
    raise RecordError(f"a write in place that cannot be recorded: {op}", where=where, hint="use the form that returns a new tensor")


_SCATTER = {"aten::slice.Tensor": "aten::slice_scatter", "aten::select.int": "aten::select_scatter"}
_RESHAPES = {
    "aten::view", "aten::reshape", "aten::flatten.using_ints", "aten::unsqueeze", "aten::squeeze", "aten::squeeze.dim", "aten::squeeze.dims",
    "aten::_unsafe_view", "aten::alias", "aten::detach", "aten::view_as", "aten::unflatten.int",
}  # fmt: skip


def _write_back(view: View, where: Where) -> tuple[str, dict[str, Any]]:
    """The call that makes the new base from the new view."""
    others = {name: value for name, value in view.args.items() if name != view.key}
    if view.op in _SCATTER:
        return _SCATTER[view.op], {"self": view.base, "src": view.out, **others}
    if view.op in _RESHAPES:
        return "aten::view", {"self": view.out, "size": list(view.base.shape)}
    if view.op == "aten::transpose.int":
        return view.op, {"self": view.out, **others}
    if view.op == "aten::permute":
        dims = [d % view.base.dim() for d in view.args["dims"]]
        return view.op, {"self": view.out, "dims": [dims.index(d) for d in range(len(dims))]}
    raise RecordError(f"a write in place through a view that cannot be undone: {view.op}", where=where)


def storage_of(tensor: Tensor) -> int:
    """A key of the memory a tensor lies in."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)
