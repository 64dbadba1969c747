"""More inputs for a model that was recorded on one: the user's, which must be of the same types, or random ones of the same range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import RecordError, UserError
from .trees import leaves, replaced

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of a model."""


def drawn(example: Inputs, seed: int) -> Inputs:
    """Random inputs like ``example``: of its shapes and types, each uniform between the least and the largest element of its example."""
    generator = torch.Generator().manual_seed(seed)

    def like(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.numel():
            return leaf
        if leaf.is_quantized:
            raise UserError("random samples of quantized inputs are not made", hint="give samples as inputs instead")
        if leaf.dtype is torch.bool:
            return torch.rand(leaf.shape, generator=generator) < 0.5
        low, high = leaf.min().item(), leaf.max().item()
        if leaf.is_floating_point():
            return (torch.rand(leaf.shape, generator=generator, dtype=torch.float64) * (high - low) + low).to(leaf.dtype)
        return torch.randint(int(low), int(high) + 1, leaf.shape, generator=generator).to(leaf.dtype)

    return replaced(example[0], like), replaced(example[1], like)


def as_inputs(given: Any) -> Inputs:
    """A sample as a user may give it: a tensor, positional arguments, or named ones; or both as a pair."""
    if isinstance(given, Mapping):
        return (), dict(given)
    if isinstance(given, Tensor):
        return (given,), {}
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], (tuple, list)) and isinstance(given[1], Mapping):
        return tuple(given[0]), dict(given[1])
    if isinstance(given, Sequence):
        return tuple(given), {}
    raise RecordError(f"a sample must be a tensor, a tuple of arguments or a mapping of named ones: {type(given).__name__}")


def must_be_alike(example: Inputs, sample: Inputs, name: str) -> None:
    """Refuse a sample whose tensors are not of the example's number, shapes and types.

    Raises:
        RecordError: naming the first difference; ``name`` says which sample it is.
    """
    wanted, found = ({".".join(path): _said(leaf) for path, leaf in leaves(list(of[0])) + leaves(of[1])} for of in (example, sample))
    hint = "all samples must have the names, shapes and types of the first inputs"
    if list(wanted) != list(found):
        message = f"{name} has the inputs {', '.join(found) or 'none'}; the recorded ones are {', '.join(wanted) or 'none'}"
        raise RecordError(message, hint=hint)
    for key, said in wanted.items():
        if found[key] != said:
            raise RecordError(f"input {key} of {name} is {found[key]}, the recorded one {said}", hint=hint)


def _said(leaf: Any) -> str:
    if not isinstance(leaf, Tensor):
        return repr(leaf)
    return f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}"
