"""GELU written out, as models did before PyTorch had it: x / 2 * (1 + erf(x / sqrt(2))), and its approximation by tanh."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..ir import Node, Value
from .engine import Replacement, emit, rule
from .layout import operand

NEAR = 2e-6
"""How far a constant may be from the one that is meant: they are written with some digits. A result then moves by a tenth of 2^-16."""


@rule("MUL", why="the file has one operator for it")
def gelu(node: Node) -> Replacement:
    """Whatever the order of the three factors."""
    if not node.out.type.dtype.is_float or node.attrs["fused_activation_function"] != "NONE":
        return None
    numbers, factors = _factors(node.out)
    if len(factors) != 2 or not _near(math.prod(numbers), 0.5):
        return None
    for x, total in (factors, factors[::-1]):
        for inner in _plus(total, 1.0) if x.type == node.out.type else ():
            approximate = _is_tanh_of(inner, x)
            if approximate or _is_erf_of(inner, x):
                return emit("GELU", node.out.type, x, like=node, approximate=approximate)
    return None


def _factors(value: Value, depth: int = 2) -> tuple[list[float], list[Value]]:
    """The numbers and the tensors that are multiplied, of at most four factors."""
    if (number := _number(value)) is not None:
        return [number], []
    if depth == 0 or not _is(value, "MUL") or value.node is None:
        return [], [value]
    left, right = (_factors(operand(value.node, i), depth - 1) for i in (0, 1))
    return left[0] + right[0], left[1] + right[1]


def _is_erf_of(value: Value, x: Value) -> bool:
    """As ``erf`` is lowered: 2 * gelu(z) / z - 1, for z = sqrt(2) * (x / sqrt(2))."""
    if not _is(value, "SELECT_V2") or value.node is None:
        return False
    for ratio in (q for two in _plus(operand(value.node, 2), -1.0) for q in _times(two, 2.0)):
        above = operand(ratio.node) if _is(ratio, "DIV") and ratio.node is not None else None
        if above is not None and _is(above, "GELU") and above.node is not None and not above.node.attrs["approximate"]:
            return any(y is x for u in _times(operand(above.node), math.sqrt(2)) for y in _times(u, math.sqrt(0.5)))
    return False


def _is_tanh_of(value: Value, x: Value) -> bool:
    """tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))"""
    if not _is(value, "TANH") or value.node is None:
        return False
    sums = [s.node for s in _times(operand(value.node), math.sqrt(2 / math.pi)) if _is(s, "ADD")]
    pairs = [(operand(s, i), operand(s, 1 - i)) for s in sums if s is not None for i in (0, 1)]
    return any(one is x and _is_cube(cube, x) for one, other in pairs for cube in _times(other, 0.044715))


def _is_cube(value: Value, x: Value) -> bool:
    if _is(value, "POW") and value.node is not None:
        exponent = _number(operand(value.node, 1))
        return operand(value.node) is x and exponent == 3
    return _factors(value) == ([], [x, x, x])


def _times(value: Value, number: float) -> Iterator[Value]:
    """What ``number`` times it is."""
    if value.node is not None and value.node.op in ("MUL", "DIV"):
        for i in (0, 1):
            other = _number(operand(value.node, i))
            meant = number if value.node.op == "MUL" else 1 / number
            if other is not None and _near(other, meant) and _is(value, value.node.op) and (i or value.node.op == "MUL"):
                yield operand(value.node, 1 - i)


def _plus(value: Value, number: float) -> Iterator[Value]:
    """What it is with ``number`` added."""
    if value.node is not None and value.node.op in ("ADD", "SUB") and _is(value, value.node.op):
        for i in (0, 1) if value.node.op == "ADD" else (1,):
            other = _number(operand(value.node, i))
            if other is not None and other == (number if value.node.op == "ADD" else -number):
                yield operand(value.node, 1 - i)


def _number(value: Value) -> float | None:
    return float(value.array().reshape(-1)[0]) if value.data is not None and value.type.size == 1 and value.type.dtype.is_float else None


def _near(number: float, meant: float) -> bool:
    return abs(number / meant - 1) < NEAR


def _is(value: Value, op: str) -> bool:
    return value.node is not None and value.node.op == op and value.node.attrs.get("fused_activation_function", "NONE") == "NONE"


RULES = [gelu]
