"""Hyperbolic functions and their inverses, of exponentials and logarithms."""

from __future__ import annotations

from ..ir import Value
from .context import Context
from .formula import cast, part, result
from .registry import lowers


@lowers("aten::cosh")
def cosh(c: Context, x: Value) -> Value:
    return result(c, "MUL", _sum_of_powers(c, cast(c, x, c.out_type().dtype)), 0.5)


@lowers("aten::sinh")
def sinh(c: Context, x: Value) -> Value:
    """``tanh(x) * cosh(x)``: the difference of two powers would lose all digits near zero."""
    x = cast(c, x, c.out_type().dtype)
    return result(c, "MUL", part(c, "TANH", x), part(c, "MUL", _sum_of_powers(c, x), 0.5))


def _sum_of_powers(c: Context, x: Value) -> Value:
    return part(c, "ADD", part(c, "EXP", x), part(c, "EXP", part(c, "NEG", x)))


@lowers("aten::asinh")
def asinh(c: Context, x: Value) -> Value:
    """``log(|x| + sqrt(x * x + 1))`` with the sign of ``x``: 6e-8 off near zero, where PyTorch's is not."""
    x = cast(c, x, c.out_type().dtype)
    size = part(c, "ABS", x)
    root = part(c, "SQRT", part(c, "ADD", part(c, "MUL", x, x), 1.0))
    return result(c, "MUL", part(c, "LOG", part(c, "ADD", size, root)), part(c, "SIGN", x))


@lowers("aten::acosh")
def acosh(c: Context, x: Value) -> Value:
    """``log(x + sqrt((x - 1) * (x + 1)))``, without the loss of digits near 1."""
    x = cast(c, x, c.out_type().dtype)
    root = part(c, "SQRT", part(c, "MUL", part(c, "SUB", x, 1.0), part(c, "ADD", x, 1.0)))
    return result(c, "LOG", part(c, "ADD", x, root))


@lowers("aten::atanh")
def atanh(c: Context, x: Value) -> Value:
    """``log((1 + x) / (1 - x)) / 2``: 6e-8 off near zero, where PyTorch's is not."""
    x = cast(c, x, c.out_type().dtype)
    return result(c, "MUL", part(c, "LOG", part(c, "DIV", part(c, "ADD", x, 1.0), part(c, "SUB", 1.0, x))), 0.5)
