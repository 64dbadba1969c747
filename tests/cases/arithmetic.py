"""Arithmetic on two operands."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .making import (
    FLOAT,
    GATED,
    NCHW,
    PAIR,
    PRODUCT,
    WEIGHTED,
    AddBehindConv,
    Call,
    Case,
    Gate,
    Made,
    Q,
    Residual,
    Seq,
    Shape,
    eager,
    floating,
    inputs,
    ints,
)

ONE: Shape = (2, 5, 7, 3)


class ByNumber(nn.Module):
    """An operator of ``FloatFunctional`` with a number."""

    def __init__(self, method: str, value: float) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 5, 3), torch.ao.nn.quantized.FloatFunctional()
        self.method, self.value = method, value

    def forward(self, x: Tensor) -> Any:
        return getattr(self.function, self.method)(self.conv(x), self.value)


def by_functional(method: str, value: float) -> Made:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its observer sees nothing: the scale of the result is that of the operand
        return eager(ByNumber(method, value), NCHW)


def by_number(function: Callable[..., Tensor], value: float, **kwargs: Any) -> Made:
    return ints(lambda a: function(a, value), ONE, **kwargs)


def positive(function: Callable[..., Tensor], *shapes: Shape) -> Made:
    """All inputs above 0.5."""
    return Call(function).eval(), tuple(x.abs() + 0.5 for x in inputs(shapes))


def whole(function: Callable[..., Tensor], *dtypes: torch.dtype) -> Made:
    """Inputs of whole numbers from -29 to 30, the second one never 0."""
    steps = (7, 13, 11)
    tensors = [(torch.arange(30).view(2, 5, 3) * step % 60 - (29 if i == 0 else 60)) for i, step in enumerate(steps[: len(dtypes)])]
    return Call(function).eval(), tuple((t > -20) if d is torch.bool else t.to(d) for t, d in zip(tensors, dtypes, strict=True))


def several_to_integers(*args: Tensor) -> Any:
    made = torch.quantize_per_tensor(list(args), torch.tensor([0.0311713, 0.0469127]), torch.tensor([112, 98]), torch.quint8)
    return [part.dequantize() for part in made]


def scripted(function: Callable[..., Tensor], shape: Shape) -> Made:
    args = inputs([shape])
    return torch.jit.trace(Call(function).eval(), args), args


F32, I32, I64, BOOL = torch.float32, torch.int32, torch.int64, torch.bool

CASES = [
    Case("add", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, 120), *PAIR)),
    Case("add.by_another_name", lambda: ints(lambda a, b: torch.ops._quantized.add(a, b, 0.0603137, 120), *PAIR)),
    Case("add.relu", lambda: ints(lambda a, b: Q.add_relu(a, b, 0.0313547, 20), *PAIR)),
    Case("add.int8", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, -8), *PAIR, dtype=torch.qint8)),
    Case("add.qnnpack", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, 120), *PAIR, engine="qnnpack")),
    Case("add.one_tensor_twice", lambda: ints(lambda a: Q.add(a, a, 0.0603137, 120), PAIR[0])),
    Case("add.residual", lambda: eager(Residual("add"), NCHW), WEIGHTED),
    Case("add.residual_relu", lambda: eager(Residual("add_relu"), NCHW), WEIGHTED),
    # a number: the integers stay, or the sum outgrows them upwards or downwards
    Case("add_number", lambda: by_number(Q.add_scalar, 1.7)),
    Case("add_number.int8", lambda: by_number(Q.add_scalar, -1.7, dtype=torch.qint8)),
    Case("add_number.above", lambda: by_number(Q.add_scalar, 10.3)),
    Case("add_number.below", lambda: by_number(Q.add_scalar, -11.1, dtype=torch.qint8)),
    Case("add_number.far", lambda: by_number(Q.add_scalar, 1000.0)),
    Case("add_number.zero", lambda: by_number(Q.add_scalar, 0.0)),
    Case("add_number.qnnpack", lambda: by_number(Q.add_scalar, 1.7, engine="qnnpack")),
    Case("add_number.relu", lambda: by_number(Q.add_scalar_relu, -1.3)),
    Case("add_number.relu_below", lambda: by_number(Q.add_scalar_relu, -3.7, dtype=torch.qint8)),
    Case("add_number.tensor", lambda: by_number(Q.add_scalar, torch.tensor(1.7))),
    Case("add_number.relu_tensor", lambda: by_number(Q.add_scalar_relu, torch.tensor(10.3))),
    Case("add_number.overload", lambda: by_number(Q.add, 1.7)),
    Case("add_number.relu_overload", lambda: by_number(Q.add_relu, -1.3)),
    Case("add_number.in_front", lambda: by_number(lambda a, b: Q.add(b, a), 1.7)),
    Case("add_number.relu_in_front", lambda: by_number(lambda a, b: Q.add_relu(b, a), -1.3)),
    Case("add_number.module", lambda: by_functional("add_scalar", 0.9), WEIGHTED),
    Case("mul", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), *PAIR), PRODUCT),
    Case("mul.relu", lambda: ints(lambda a, b: Q.mul_relu(a, b, 0.0627717, 4), *PAIR), PRODUCT),
    Case("mul.int8", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, -8), *PAIR, dtype=torch.qint8), PRODUCT),
    Case("mul.qnnpack", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), *PAIR, engine="qnnpack"), PRODUCT),
    Case("mul.per_channel", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), (2, 5, 7, 3), (2, 5, 1, 1)), PRODUCT),
    Case("mul.residual", lambda: eager(Residual("mul"), NCHW), GATED),
    Case("mul.gate", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Gate()), NCHW), GATED),
    Case("mul_number", lambda: by_number(Q.mul_scalar, 0.3)),
    Case("mul_number.int8", lambda: by_number(Q.mul_scalar, 3.3, dtype=torch.qint8)),
    Case("mul_number.negative", lambda: by_number(Q.mul_scalar, -0.3)),
    Case("mul_number.negative_int8", lambda: by_number(Q.mul_scalar, -3.3, dtype=torch.qint8)),
    Case("mul_number.zero", lambda: by_number(Q.mul_scalar, 0.0)),
    Case("mul_number.qnnpack", lambda: by_number(Q.mul_scalar, -0.3, engine="qnnpack")),
    Case("mul_number.relu", lambda: by_number(Q.mul_scalar_relu, 0.3)),
    Case("mul_number.relu_negative", lambda: by_number(Q.mul_scalar_relu, -0.3, dtype=torch.qint8)),
    Case("mul_number.tensor", lambda: by_number(Q.mul_scalar, torch.tensor(0.3))),
    Case("mul_number.relu_tensor", lambda: by_number(Q.mul_scalar_relu, torch.tensor(0.3))),
    Case("mul_number.overload", lambda: by_number(Q.mul, -0.3)),
    Case("mul_number.relu_overload", lambda: by_number(Q.mul_relu, 0.3)),
    Case("mul_number.in_front", lambda: by_number(lambda a, b: Q.mul(b, a), -0.3)),
    Case("mul_number.relu_in_front", lambda: by_number(lambda a, b: Q.mul_relu(b, a), 0.3)),
    Case("mul_number.module", lambda: by_functional("mul_scalar", -0.9), WEIGHTED),
    Case("float.add", lambda: floating(torch.add, *PAIR)),
    Case("float.add_alpha", lambda: floating(lambda a, b: torch.add(a, b, alpha=0.5), *PAIR)),
    Case("float.add_number", lambda: floating(lambda a: a + 2, PAIR[0])),
    Case("float.sub", lambda: floating(torch.sub, *PAIR)),
    Case("float.sub_alpha", lambda: floating(lambda a, b: torch.sub(a, b, alpha=3), *PAIR), FLOAT),
    Case("float.rsub_number", lambda: floating(lambda a: 1.5 - a, PAIR[0])),
    Case("float.rsub", lambda: floating(lambda a, b: torch.rsub(a, b, alpha=2), *PAIR)),
    Case("float.mul", lambda: floating(torch.mul, *PAIR)),
    Case("float.mul_number", lambda: floating(lambda a: a * 0.3, PAIR[0])),
    Case("float.mul_per_channel", lambda: floating(torch.mul, (2, 5, 7, 3), (2, 5, 1, 1))),
    Case("float.mul_rank_unequal", lambda: floating(torch.mul, (2, 5, 7, 3), (7, 3))),
    Case("float.add_rank_unequal_behind_conv", lambda: floating(AddBehindConv((5, 1, 1)), NCHW), FLOAT),
    Case("float.add_row_behind_conv", lambda: floating(AddBehindConv((9,)), NCHW), FLOAT),
    Case("float.add_scalar_tensor", lambda: floating(lambda a, b: a + b, (2, 5, 7, 3), ())),
    Case("float.sum_of_list", lambda: floating(lambda a, b, c: sum([a, b, c]), *PAIR, ONE)),
    Case("float.div", lambda: floating(lambda a, b: a / (b * b + 1), *PAIR)),
    Case("float.div_number", lambda: floating(lambda a: a / 3, PAIR[0])),
    Case("float.div_by", lambda: positive(lambda a: 3 / a, ONE), FLOAT),
    Case("float.div_floor", lambda: positive(lambda a, b: torch.div(-a, b, rounding_mode="floor"), *PAIR)),
    Case("float.div_floor_number", lambda: floating(lambda a: a // 0.1, ONE)),
    Case("float.div_trunc", lambda: positive(lambda a, b: torch.div(-a, b, rounding_mode="trunc"), *PAIR)),
    Case("float.div_trunc_number", lambda: floating(lambda a: torch.ops.aten.div.Scalar_mode(a, 0.3, rounding_mode="trunc"), ONE)),
    Case("float.div_no_mode", lambda: positive(lambda a, b: torch.div(a, b, rounding_mode=None), *PAIR), FLOAT),
    Case("float.remainder", lambda: positive(lambda a, b: torch.remainder(-a, b), *PAIR), FLOAT),
    Case("float.remainder_number", lambda: floating(lambda a: a % 0.7, ONE), FLOAT),
    Case("float.remainder_of_number", lambda: positive(lambda a: torch.remainder(7, a), ONE), FLOAT),
    Case("float.fmod", lambda: positive(lambda a, b: torch.fmod(-a, b), *PAIR), FLOAT),
    Case("float.fmod_number", lambda: floating(lambda a: torch.fmod(a, 0.7), ONE), FLOAT),
    Case("float.maximum", lambda: floating(torch.maximum, *PAIR)),
    Case("float.minimum", lambda: floating(torch.minimum, *PAIR)),
    Case("float.max_of_two", lambda: floating(torch.max, (2, 5, 7, 3), (5, 1, 3))),
    Case("float.rank5", lambda: floating(torch.maximum, (2, 3, 5, 4, 6), (2, 3, 5, 4, 6))),
    Case("float.rank5_broadcast", lambda: floating(torch.maximum, (2, 3, 5, 4, 6), (2, 1, 1, 4, 6))),
    Case("float.atan2", lambda: floating(torch.atan2, *PAIR), FLOAT),
    Case("float.pow", lambda: positive(torch.pow, *PAIR), FLOAT),
    Case("float.pow_number", lambda: positive(lambda a: a**1.7, ONE), FLOAT),
    Case("float.pow_cube", lambda: floating(lambda a: a**3, ONE), FLOAT),
    Case("float.pow_square", lambda: floating(lambda a: a**2, ONE)),
    Case("float.pow_root", lambda: positive(lambda a: a**0.5, ONE), FLOAT),
    Case("float.pow_of_number", lambda: floating(lambda a: 3.0**a, ONE), FLOAT),
    Case("float.square", lambda: floating(torch.square, ONE)),
    Case("float.addcmul", lambda: floating(lambda a, b, c: torch.addcmul(a, b, c, value=0.3), *PAIR, (7, 3)), FLOAT),
    Case("float.addcdiv", lambda: positive(lambda a, b, c: torch.addcdiv(a, b, c, value=0.3), *PAIR, (7, 3)), FLOAT),
    Case("float.lerp", lambda: floating(lambda a, b: torch.lerp(a, b, 0.3), *PAIR), FLOAT),
    Case("float.lerp_tensor", lambda: floating(torch.lerp, *PAIR, (7, 3)), FLOAT),
    Case("float.scripted", lambda: scripted(lambda a: 2 - ((a * 0.5 + 1) / 3 - 4), ONE), FLOAT),
    Case("float.ones_like", lambda: floating(lambda a: a * 2 + torch.ones_like(a) - a.new_full((3,), 0.3), ONE), FLOAT),
    # -- integers, truth values, and promotion
    Case("int64.add", lambda: (Call(lambda a, b: a + b).eval(), (torch.arange(6).view(2, 3), torch.arange(3) * 7))),
    Case("int64.number", lambda: whole(lambda a: 3 - (a * 5 + 2), I64)),
    Case("int32.arithmetic", lambda: whole(lambda a, b: torch.sub(a * b, b, alpha=2), I32, I32)),
    Case("int32.div_floor", lambda: whole(lambda a, b: a // b, I32, I32)),
    Case("int32.div_trunc", lambda: whole(lambda a, b: a.div(b, rounding_mode="trunc"), I32, I32), refused={"onert": "DIV (i32: refused)"}),
    Case("int64.remainder", lambda: whole(lambda a, b: a % b, I64, I64)),
    Case("int32.remainder", lambda: whole(lambda a: a % 7, I32)),
    Case("int32.extremes", lambda: whole(lambda a, b: torch.maximum(a, b).clamp(-20, 9), I32, I32)),
    Case("int64.extremes", lambda: whole(lambda a, b: torch.minimum(a, b).clamp(min=-20), I64, I64)),
    Case("int32.pow", lambda: whole(lambda a: a**3, I32), refused={"onert": "POW (i32: refused)"}),
    Case("int32.square", lambda: whole(lambda a: a**2, I32)),
    Case("int32.abs", lambda: whole(torch.abs, I32)),
    Case("int64.neg", lambda: whole(torch.neg, I64)),
    Case("int64.div", lambda: whole(lambda a, b: a / b, I64, I64), FLOAT),
    Case("promoted.add", lambda: whole(torch.add, F32, I64)),
    Case("promoted.number", lambda: whole(lambda a: a + 0.5, I64)),
    Case("promoted.int32_int64", lambda: whole(torch.mul, I32, I64)),
    Case("promoted.bool", lambda: whole(lambda a, b: a * b + True, BOOL, I32)),
    Case("promoted.sqrt", lambda: whole(lambda a: (a * a).sqrt(), I64), FLOAT),
    Case("promoted.constant", lambda: whole(lambda a: a * torch.arange(3) + torch.arange(5.0)[:, None], F32)),
    Case("promoted.cat", lambda: whole(lambda a, b: torch.cat([a, b], 1), F32, I64)),
    Case("promoted.clamp", lambda: whole(lambda a: a.clamp(-1.5, 20.5), I64)),
    Case("bool.mul", lambda: whole(torch.mul, BOOL, BOOL)),
    Case("bool.add", lambda: whole(torch.add, BOOL, BOOL)),
    Case("to.float", lambda: whole(lambda a: a.float() * 2, I64)),
    Case("to.int", lambda: floating(lambda a: (3 * a).int(), ONE)),
    Case("to.long", lambda: floating(lambda a: (3 * a).to(torch.long), ONE)),
    Case("to.bool", lambda: whole(lambda a: a.clamp(min=0).bool(), F32)),
    Case("to.from_bool", lambda: whole(lambda a: a.to(torch.int32), BOOL)),
    Case("to.type_as", lambda: whole(lambda a, b: a.type_as(b), I32, I64)),
    Case("to.integers", lambda: floating(several_to_integers, *PAIR)),
    Case("to.float_several", lambda: ints(lambda a, b: torch.dequantize([a, b]), *PAIR)),
    Case("to.copy", lambda: floating(lambda a: (a + 1).to(torch.float32, copy=True), ONE)),
]  # fmt: skip
