"""Comparisons, logic, choices by truth values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .arithmetic import BOOL, F32, I32, I64, ONE, whole
from .making import PAIR, Call, Case, Made, floating, ints

COMPARISONS = {"eq": torch.eq, "ne": torch.ne, "gt": torch.gt, "ge": torch.ge, "lt": torch.lt, "le": torch.le}


def alike(a: Tensor, b: Tensor) -> Tensor:
    """``b`` in the quantization of ``a``."""
    return torch.quantize_per_tensor(b.dequantize(), a.q_scale(), a.q_zero_point(), a.dtype)


def odd(function: Callable[[Tensor], Tensor]) -> Made:
    """Numbers, both infinities, and what is none."""
    return Call(function).eval(), (torch.tensor([[1.5, float("nan"), -0.0], [float("inf"), -2.5, -float("inf")]]),)


CASES = [
    *(Case(f"{name}", lambda f=f: ints(f, *PAIR)) for name, f in COMPARISONS.items()),
    *(Case(f"{name}.number", lambda f=f: ints(lambda a: f(a, 0.4987408), ONE)) for name, f in COMPARISONS.items()),
    *(Case(f"{name}.float", lambda f=f: floating(lambda a, b: f(a.round(), b.round()), *PAIR)) for name, f in COMPARISONS.items()),
    *(Case(f"{name}.int64", lambda f=f: whole(f, I64, I64)) for name, f in COMPARISONS.items()),
    Case("gt.int8", lambda: ints(torch.gt, *PAIR, dtype=torch.qint8)),
    Case("gt.number_int8", lambda: ints(lambda a: a > 0.3, ONE, dtype=torch.qint8)),
    Case("gt.one_scale", lambda: ints(lambda a, b: a > alike(a, b), *PAIR)),
    Case("eq.one_scale_int8", lambda: ints(lambda a, b: torch.eq(a, alike(a, b)), *PAIR, dtype=torch.qint8)),
    Case("le.broadcast", lambda: floating(torch.le, (2, 5, 7, 3), (5, 1, 3))),
    Case("lt.rank5", lambda: floating(torch.lt, (2, 3, 5, 4, 6), (2, 3, 5, 4, 6))),
    Case("lt.promoted", lambda: whole(torch.lt, F32, I64)),
    Case("ge.promoted_number", lambda: whole(lambda a: a >= 0.5, I32)),
    Case("eq.bool", lambda: whole(torch.eq, BOOL, BOOL)),
    Case("logical_and", lambda: whole(torch.logical_and, BOOL, BOOL)),
    Case("logical_or.float", lambda: whole(torch.logical_or, F32, I64)),
    Case("logical_xor", lambda: whole(torch.logical_xor, BOOL, BOOL)),
    Case("logical_not", lambda: whole(torch.logical_not, BOOL)),
    Case("logical_not.float", lambda: whole(torch.logical_not, F32)),
    Case("bitwise_and", lambda: whole(lambda a, b: a & b, BOOL, BOOL)),
    Case("bitwise_or", lambda: whole(lambda a, b: a | b, BOOL, BOOL)),
    Case("bitwise_xor", lambda: whole(lambda a, b: a ^ b, BOOL, BOOL)),
    Case("bitwise_xor.number", lambda: whole(lambda a: ((a & True) | False) ^ True, BOOL)),
    Case("bitwise_not", lambda: whole(lambda a: ~a, BOOL)),
    Case("isnan", lambda: odd(torch.isnan)),
    Case("isinf", lambda: odd(torch.isinf)),
    Case("isfinite", lambda: odd(torch.isfinite)),
    Case("where", lambda: floating(lambda a, b: torch.where(a > b, a, -b), *PAIR)),
    Case("where.number", lambda: floating(lambda a: torch.where(a > 0.5, a, -1.5), ONE)),
    Case("where.broadcast", lambda: floating(lambda a, b: torch.where(b > 0, a, b), (2, 5, 7, 3), (5, 1, 3))),
    Case("where.int64", lambda: whole(lambda a, b: torch.where(a > b, a, b), I64, I64)),
    Case("where.rank5", lambda: floating(lambda a, b: torch.where(a > b, a, b), (2, 3, 5, 4, 6), (2, 3, 5, 4, 6))),
    Case("masked_fill", lambda: ints(lambda a, b: a.masked_fill(a > b, 1.3), *PAIR)),
    Case("masked_fill.int8", lambda: ints(lambda a, b: a.masked_fill(a > b, -1.3), *PAIR, dtype=torch.qint8)),
    Case("masked_fill.in_place", lambda: ints(lambda a: torch.relu(a).masked_fill_(a > 1, 0.0), ONE)),
    Case("masked_fill.tensor", lambda: ints(lambda a: a.masked_fill(a > 1, torch.tensor(0.3)), ONE)),
    Case("masked_fill.constant", lambda: ints(lambda a: a.masked_fill(torch.arange(3) > 1, 0.3), ONE)),
    Case("masked_fill.float", lambda: floating(lambda a, b: a.masked_fill(b > 0, float("-inf")).relu(), (2, 5, 7, 3), (7, 3))),
    Case("masked_fill.float_tensor", lambda: floating(lambda a, b: a.masked_fill(a > 0, b), (2, 5, 7, 3), ())),
    Case("masked_fill.int64", lambda: whole(lambda a: a.masked_fill(a > 3, -1), I64)),
]  # fmt: skip
