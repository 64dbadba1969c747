"""Tensors in nested arguments and results: what each is called, and the same structure with other tensors.

PyTorch's own trees know lists, tuples, dictionaries and registered classes. Here dataclasses are open, too, and every part has a name,
also where a class was registered without names for its parts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

Path = tuple[str, ...]


def leaves(tree: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """What has no parts, each with the keys, field names and positions that lead to it."""
    if (opened := _opened(tree)) is None:
        return [(path, tree)]
    names, parts, _ = opened
    return [leaf for name, part in zip(names, parts, strict=True) for leaf in leaves(part, (*path, name))]


def replaced(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The same structure, with ``change`` of each leaf in its place."""
    if (opened := _opened(tree)) is None:
        return change(tree)
    _, parts, closed = opened
    return closed([replaced(part, change) for part in parts])


ATOMS = (type(None), bool, int, float, str)
"""Most arguments of operators are of these types, and need no walk."""
HOLDERS = (list, tuple, dict)
"""Of an operator's arguments, those that have parts: schemas know no others."""


def mapped(change: Callable[[Any], Any], tree: Any) -> Any:
    """As PyTorch's ``tree_map``, which takes 20 microseconds for a number; ``change`` leaves numbers and strings as they are."""
    if type(tree) in ATOMS:
        return tree
    return pytree.tree_map(change, tree) if isinstance(tree, HOLDERS) else change(tree)


def parts(arguments: Mapping[str, Any]) -> list[Any]:
    """As PyTorch's ``tree_leaves``, without the numbers and strings among the arguments."""
    found: list[Any] = []
    for value in arguments.values():
        if isinstance(value, HOLDERS):
            plain = not isinstance(value, dict) and all(type(part) in ATOMS for part in value)
            found += [] if plain else pytree.tree_leaves(value)
        elif type(value) not in ATOMS:
            found.append(value)
    return found


def has_names(tree: Any) -> bool:
    """Whether its parts are called by names: a dictionary, a named tuple, a dataclass."""
    return isinstance(tree, Mapping) or hasattr(tree, "_fields") or _is_dataclass(tree)


def hides_tensors(leaf: Any) -> bool:
    """Whether a leaf is an object of a class whose parts nobody knows, and one of them is a tensor."""
    if isinstance(leaf, (Tensor, nn.Module, type)):
        return False
    return any(isinstance(part, Tensor) for _, held in leaves(getattr(leaf, "__dict__", {})) for _, part in leaves(held))


def _opened(tree: Any) -> tuple[Sequence[str], list[Any], Callable[[list[Any]], Any]] | None:
    """The names of the parts, the parts, and what makes the same of others; None for a leaf."""
    if _is_dataclass(tree) and not isinstance(tree, Mapping):
        names = [field.name for field in fields(tree)]
        return names, [getattr(tree, name) for name in names], partial(_with_fields, tree, names)
    parts, spec = pytree.tree_flatten(tree, is_leaf=lambda part: part is not tree)
    if spec.is_leaf():
        return None
    keys = tree if isinstance(tree, Mapping) else getattr(tree, "_fields", range(len(parts)))
    return [str(key) for key in keys], parts, lambda others: pytree.tree_unflatten(others, spec)


def _with_fields(tree: Any, names: Sequence[str], parts: Sequence[Any]) -> Any:
    made = copy.copy(tree)
    for name, part in zip(names, parts, strict=True):
        object.__setattr__(made, name, part)  # it may be frozen
    return made


def _is_dataclass(tree: Any) -> bool:
    return is_dataclass(tree) and not isinstance(tree, type)
