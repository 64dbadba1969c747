"""The sizes of two recordings, example inputs of these sizes, and what the file names as the example's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from math import gcd, prod
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import UnsupportedUse
from .dims import ARGUMENT, Dims, Open, tensors_in


@dataclass(frozen=True)
class Sizes:
    """What a symbol stands for in the ``example`` and in two recordings: there never 1, which would hide what broadcasting does."""

    example: int
    first: int
    second: int


def sizes(dims: Sequence[Dims], args: Sequence[Any], kwargs: Mapping[str, Any], *, watched: bool) -> dict[str, Sizes]:
    """Two numbers for each symbol, one of them even, one odd; no two symbols get the same second number.

    The second is less than half of the first, or more than twice as large, so that no share of the one (``size // 2``, or what windows with
    a stride leave) is the same of the other. Only of a first dimension, which windows leave alone, it may be the next number if all that
    a model computes from it is ``watched``.

    Raises:
        UnsupportedUse: dimensions of one symbol have sizes that do not fit together, or a range holds less than two numbers.
    """
    found: dict[str, Sizes] = {}
    inner = {each.symbol for opened in dims for dim, each in opened.items() if dim > 0}
    for x, opened in zip(tensors_in((tuple(args), dict(kwargs))), dims, strict=True):
        for dim, each in opened.items():
            example = each.number(x.shape[dim])
            if example is None or found.get(each.symbol, Sizes(example, 0, 0)).example != example:
                got = f"size {x.shape[dim]} in dimension {dim} of an example input"
                raise UnsupportedUse(f"{ARGUMENT}: {each.symbol}", got, "one size wherever it stands")
            if each.symbol not in found:
                found[each.symbol] = _two(each, example, {other.second for other in found.values()}, watched and each.symbol not in inner)
    return found


def _two(each: Open, example: int, taken: set[int], near: bool) -> Sizes:
    low = max(2, each.low)
    first = max(example, low) if example == 1 else example
    smaller = range((first - 1) // 2, low - 1, -1)
    larger = range(first + 1 if near else 2 * first + 1, 3 * first + 9)
    # of large sizes, the rests by 3 and 5 are unequal, too
    wanted = [*(n for n in smaller if gcd(first - n, 30) == 1), *(n for n in (*smaller, *larger) if (first - n) % 2), each.high, low]
    second = next((n for n in wanted if low <= n <= each.high and n != first and n not in taken), None)
    if not low <= first <= each.high:
        raise UnsupportedUse(f"{ARGUMENT}: {each.symbol}", f"{example}, which is the example's", f"from {low} to {each.high}")
    if second is None:
        raise UnsupportedUse(f"{ARGUMENT}: {each.symbol}", f"from {each.low} to {each.high}", "a range with two sizes above 1 in it")
    return Sizes(example, first, second)


def resized(dims: Sequence[Dims], numbers: Mapping[str, int], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The example inputs in other sizes: cut, or repeated with their elements moved on along the last dimension."""
    leaves, tree = pytree.tree_flatten((tuple(args), dict(kwargs)))
    each = iter(dims)
    made = [_resized(leaf, next(each), numbers) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    return cast("tuple[Any, Any]", pytree.tree_unflatten(made, tree))


def _resized(x: Tensor, dims: Dims, numbers: Mapping[str, int]) -> Tensor:
    for dim, opened in dims.items():
        size, wanted = x.shape[dim], opened.of(numbers[opened.symbol])
        if size != wanted:
            repeats = [x if x.is_quantized else x.roll(i, -1) for i in range(-(-wanted // size))]
            x = torch.cat(repeats, dim).narrow(dim, 0, wanted)
    return x


def example_size(sizes: Sequence[Sizes], first: int, second: int) -> int:
    """The example's size of a dimension, from what it is in the recordings: a multiple of a product of symbols, or growing with one.

    Of neither it is ``first``, which is the example's wherever the example has no open dimension of size 1.
    """
    if all(s.example == s.first for s in sizes) or first == second:
        return first
    for some in chain.from_iterable(combinations(sizes, count) for count in range(1, len(sizes) + 1)):
        a, b = prod(s.first for s in some), prod(s.second for s in some)
        if first % a == 0 and first // a * b == second:
            return first // a * prod(s.example for s in some)
    for s in sizes:
        slope, rest = divmod(second - first, s.second - s.first)
        if rest == 0 and (size := first + slope * (s.example - s.first)) > 0:
            return size
    return first
