"""Constants of 8 bits whose integers need no more than 4, two in a byte: what a model says to be int4 arrives as int8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...ir import DType, Node
from ...optimize.engine import Replacement, Rule, rule
from ...optimize.layout import operand

PLACES = {"FULLY_CONNECTED": 1, "DEQUANTIZE": 0}
"""The operand that may be stored like this."""


def in_nibbles(verdict: Callable[[Node], str], right: tuple[str, ...]) -> list[Rule]:
    """
    Args:
        verdict: what the runtime makes of a node.
        right: the verdicts that will do, the best first; none is given up for a worse one.
    """

    def narrowed(node: Node) -> Replacement:
        place = PLACES[node.op]
        stored = operand(node, place)
        if stored.data is None or stored.type.dtype is not DType.INT8 or stored.type.quant is None:
            return None
        four = replace(stored, type=replace(stored.type, dtype=DType.INT4))
        inputs = [four if i == place else value for i, value in enumerate(node.inputs)]
        made = node.rebuilt(inputs=inputs, outputs=(replace(node.out, origin=None),))
        new, old = verdict(made), verdict(node)
        if new not in right or (old in right and right.index(new) > right.index(old)):
            return None
        integers = stored.array()
        return made.out if integers.min(initial=0) >= -8 and integers.max(initial=0) <= 7 else None

    return [rule(op, why="two of these integers fit a byte, and the runtime reads them as well")(narrowed) for op in PLACES]
