"""Which dimensions of the inputs may have any size.

A symbol stands for a number; dimensions of one symbol vary together. The forms are those of ``torch.export``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from ..errors import UnsupportedUse

LARGEST = 2**31 - 1
ARGUMENT = "dynamic_shapes"


@dataclass(frozen=True)
class Open:
    """A dimension of any size: ``of`` the number its symbol stands for, which is between ``low`` and ``high``."""

    symbol: str
    low: int = 1
    high: int = LARGEST
    of: Callable[[int], int] = field(default=lambda number: number, compare=False)

    def number(self, size: int) -> int | None:
        """The number that gives ``size``; None if none does."""
        return next((n for n in (size, *range(1, 2 * size + 2)) if self.of(n) == size), None)


Dims = Mapping[int, Open]
"""Of one tensor: dimension -> how it varies."""


def of_batch(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Dims]:
    """The first dimension of every tensor, as one symbol.

    Raises:
        UnsupportedUse: it has not the same size in all of them.
    """
    tensors = tensors_in((tuple(args), dict(kwargs)))
    sizes = {x.shape[0] for x in tensors if x.dim()}
    if len(sizes) != 1:
        got = f"inputs whose first dimensions are {', '.join(map(str, sorted(sizes))) or 'none'}"
        raise UnsupportedUse("dynamic_batch", got, "one size in all inputs; dynamic_shapes says it for each input by itself")
    return [{0: Open("batch")} if x.dim() else {} for x in tensors]


def of_program(program: ExportedProgram) -> list[Dims]:
    """The dimensions that the program itself leaves open, one mapping for each tensor among its inputs."""
    users = set(program.graph_signature.user_inputs)
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in users]
    return [
        {dim: _of_expression(program, size) for dim, size in enumerate(x.shape) if isinstance(size, torch.SymInt)}
        for x in values
        if isinstance(x, Tensor)
    ]


def _of_expression(program: ExportedProgram, size: Any) -> Open:
    expression = size.node.expr
    symbols = list(expression.free_symbols)
    if len(symbols) != 1:
        raise UnsupportedUse("a dimension of the exported program", expression, "of one symbol")
    bounds = cast(Any, program.range_constraints.get(symbols[0]))
    low, high = (1, LARGEST) if bounds is None else (max(1, int(bounds.lower)), int(min(bounds.upper, LARGEST)))
    return Open(str(symbols[0]), low, high, lambda number: int(expression.subs(symbols[0], number)))


def of_spec(spec: Any, names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Dims]:
    """As ``torch.export`` takes them: by name or position, then by dimension, ``Dim``, its hints, or a string that names a symbol.

    ``Dim.AUTO`` and ``Dim.DYNAMIC`` of equal sizes vary together.

    Raises:
        UnsupportedUse: a name or a dimension that is none, or something else in their place.
    """
    values = [*args, *kwargs.values()]
    if isinstance(spec, Mapping):
        unknown = [name for name in spec if name not in names]
        if unknown:
            raise UnsupportedUse(ARGUMENT, f"input {unknown[0]}", f"one of {', '.join(names)}")
        spec = [spec.get(name) for name in names]
    if not isinstance(spec, Sequence) or isinstance(spec, str) or len(spec) > len(values):
        raise UnsupportedUse(ARGUMENT, repr(spec), f"a dict by name or a tuple by position for the inputs {', '.join(names)}")
    padded = [*spec, *[None] * (len(values) - len(spec))]
    return [dims for name, part, value in zip(names, padded, values, strict=True) for dims in _of_value(name, part, value)]


def _of_value(name: str, spec: Any, value: Any) -> list[Dims]:
    if isinstance(value, Tensor):
        return [_of_tensor(name, spec, value)]
    if spec is None:
        return [{} for _ in tensors_in(value)]
    if isinstance(value, (list, tuple)) and isinstance(spec, (list, tuple)) and len(spec) == len(value):
        return [dims for i, (part, item) in enumerate(zip(spec, value, strict=True)) for dims in _of_value(f"{name}[{i}]", part, item)]
    if isinstance(value, Mapping) and isinstance(spec, Mapping) and spec.keys() <= value.keys():
        return [dims for key, item in value.items() for dims in _of_value(f"{name}[{key!r}]", spec.get(key), item)]
    raise UnsupportedUse(f"{ARGUMENT} of {name}", repr(spec), f"what fits {type(value).__name__}")


def _of_tensor(name: str, spec: Any, x: Tensor) -> Dims:
    given = dict(spec) if isinstance(spec, Mapping) else dict(enumerate(spec)) if isinstance(spec, (list, tuple)) else None
    if given is None and spec is not None:
        raise UnsupportedUse(f"{ARGUMENT} of {name}", repr(spec), "a dict of dimensions, or a tuple with one entry for each")
    dims = {}
    for dim, kind in (given or {}).items():
        if not isinstance(dim, int) or not -x.dim() <= dim < x.dim():
            accepted = f"0 to {x.dim() - 1}" if x.dim() else "none: it is a scalar"
            raise UnsupportedUse(f"{ARGUMENT} of {name}", f"dimension {dim} of a tensor of shape {list(x.shape)}", accepted)
        if (opened := _of_kind(f"{name}, dimension {dim}", kind, x.shape[dim])) is not None:
            dims[dim % x.dim()] = opened
    return dims


def _of_kind(place: str, kind: Any, size: int) -> Open | None:
    if kind is None or isinstance(kind, int) or kind == Dim.STATIC:
        if isinstance(kind, int) and kind != size:
            raise UnsupportedUse(f"{ARGUMENT} of {place}", kind, f"{size}, the example's size, or a name for one that is open")
        return None
    if isinstance(kind, str):
        return Open(kind)
    if isinstance(kind, type(Dim.AUTO)):
        return Open(f"of size {size}", kind.min or 1, kind.max or LARGEST)
    if not isinstance(kind, Dim):
        raise UnsupportedUse(f"{ARGUMENT} of {place}", repr(kind), "a torch.export.Dim, a name for it, or None")
    root, of = getattr(kind, "root", kind), getattr(kind, "fn", None)
    opened = Open(root.__name__, max(1, root.min), min(root.max, LARGEST))
    return opened if of is None else Open(opened.symbol, opened.low, opened.high, of)


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
