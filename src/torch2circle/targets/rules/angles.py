"""Arcs of tangents where a runtime has none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from ...ir import Array, DType, Node, Type, Value
from ...optimize.engine import Replacement, emit, rule
from ...optimize.layout import operand
from .substitutes import NONE, float_operator, number

TERMS = 11
"""Of the series for arctan(t) / t in t^2: what is left out is below 1e-8 for t in [0, 1]."""


def _series() -> list[float]:
    def ratio(square: Array) -> Array:
        t = np.sqrt(square)
        return np.arctan(t) / t

    fitted = Chebyshev.interpolate(ratio, TERMS - 1, domain=[0, 1])
    return [float(a) for a in fitted.convert(kind=Polynomial).coef]


SERIES = _series()


@rule("ATAN2", why="the runtime has no ATAN2: an angle below 45 degrees by its series, mirrored at the diagonals and axes")
def arc_as_series(node: Node) -> Replacement:
    y, x = operand(node), operand(node, 1)
    if not y.type.dtype.is_float:
        return None

    def made(op: str, *inputs: Value | float, **attrs: Any) -> Value:
        return float_operator(node, op, *(number(node, v) if isinstance(v, float) else v for v in inputs), **attrs)

    def less(a: Value, b: Value) -> Value:
        return emit("LESS", Type(node.out.type.shape, DType.BOOL), a, b, like=node)

    rise, run = made("ABS", y), made("ABS", x)
    longer = made("MAXIMUM", made("MAXIMUM", rise, run), float(np.finfo(np.float32).tiny))
    t = made("DIV", made("MINIMUM", rise, run), longer, **NONE)
    square = made("MUL", t, t, **NONE)
    total = made("ADD", made("MUL", square, SERIES[-1], **NONE), SERIES[-2], **NONE)
    for coefficient in SERIES[-3::-1]:
        total = made("ADD", made("MUL", total, square, **NONE), coefficient, **NONE)
    angle = made("MUL", total, t, **NONE)
    angle = made("SELECT_V2", less(run, rise), made("SUB", math.pi / 2, angle, **NONE), angle)
    angle = made("SELECT_V2", less(x, number(node, 0.0)), made("SUB", math.pi, angle, **NONE), angle)
    return made("SELECT_V2", less(y, number(node, 0.0)), made("NEG", angle), angle)
