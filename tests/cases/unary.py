"""Functions of one element, and softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization import MinMaxObserver

from .arithmetic import ONE, positive
from .making import EXACT, FLOAT, NCHW, PAIR, SWISH, WEIGHTED, Case, Made, Near, Q, Seq, eager, floating, ints

S8 = torch.qint8

LEAKY = Near(1, 0.9, "XNNPACK multiplies by factors with 8 bits behind the point", ("litert",))
CLAMPED = Near(0.1, 1, f"{FLOAT.reason}, here that of the clamped sums")
ONE_IN_INTEGERS = Near(1, 0.95, "PyTorch multiplies what is above zero by 1 as the integers of the slopes hold it")
PRELU = Near(1, 0.98, "LiteRT multiplies by the slope in fixed point, rounded twice", ("litert",))


def both(function: Callable[[Tensor, int], Tensor], name: str, near: Near = EXACT) -> list[Case]:
    """On both integer types; the function gets the lowest integer, for a zero point."""
    kinds = ((f"{name}", torch.quint8, 0), (f"{name}.int8", torch.qint8, -128))
    return [Case(id_, lambda d=d, low=low: ints(lambda a: function(a, low), ONE, dtype=d), near) for id_, d, low in kinds]


def unit(function: Callable[[Tensor], Tensor]) -> Made:
    """All inputs between -1 and 1."""
    return floating(lambda a: function(a / 4.0), ONE)


def in_float(function: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
    """What a model writes that quantizes by hand."""
    return torch.quantize_per_tensor(function(a.dequantize()), 0.0307111, 255, torch.quint8)


def slopes(count: int, low: float, high: float = 1.275, dtype: torch.dtype = torch.quint8) -> Tensor:
    """Slopes in integers whose range is that of an observer."""
    values = torch.linspace(low, high, count)
    observer = MinMaxObserver(dtype=dtype)
    observer(values)
    scale, zero = observer.calculate_qparams()
    return torch.quantize_per_tensor(values, float(scale), int(zero), dtype)


CASES = [
    *both(lambda a, low: torch.relu(a), "relu"),
    *both(lambda a, low: Q.relu6(a), "relu6"),
    Case("relu6.hardtanh", lambda: ints(lambda a: F.hardtanh(a, 0, 6), (2, 5, 7, 3))),
    Case("relu6.module", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.ReLU6()), NCHW), WEIGHTED),
    Case("relu.behind_add", lambda: ints(lambda a, b: torch.relu(Q.add(a, b, 0.0603137, 120)), *PAIR)),
    Case("relu.behind_cat", lambda: ints(lambda a, b: torch.relu(Q.cat([a, b], 1, 0.0603137, 120)), *PAIR)),
    Case("relu.behind_table", lambda: ints(lambda a: torch.relu(Q.add_scalar(a, 0.5)), ONE)),
    *both(lambda a, low: torch.clamp(a, -1.3, 2.1), "clamp"),
    *both(lambda a, low: Q.clamp(a, -0.7, None), "clamp.min"),
    Case("clamp.max", lambda: ints(lambda a: torch.clamp(a, max=1.1), ONE)),
    Case("clamp.at_zero", lambda: ints(lambda a: torch.clamp(a, min=0), ONE)),
    *both(lambda a, low: F.hardtanh(a), "hardtanh"),
    Case("hardtanh.bounds", lambda: ints(lambda a: F.hardtanh(a, -0.3, 1.9), ONE)),
    Case("hardtanh.in_place", lambda: ints(lambda a: F.hardtanh(a, inplace=True), ONE)),
    Case("hardtanh.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.Hardtanh()), NCHW), WEIGHTED),
    Case("hardtanh.behind_linear", lambda: eager(Seq(nn.Linear(7, 5), nn.Hardtanh()), (3, 7)), WEIGHTED),
    Case("hardtanh.behind_add", lambda: ints(lambda a, b: F.hardtanh(Q.add(a, b, 0.0603137, 120)), *PAIR)),
    *both(lambda a, low: F.threshold(a, 0.4, -1.2), "threshold"),
    Case("threshold.function", lambda: ints(lambda a: Q.threshold(a, 0.4, -1.2), ONE)),
    *both(lambda a, low: F.leaky_relu(a, 0.1713), "leaky_relu", LEAKY),
    Case("leaky_relu.in_place", lambda: ints(lambda a: F.leaky_relu(a, 0.1713, inplace=True), ONE), LEAKY),
    Case("leaky_relu.scale", lambda: ints(lambda a: Q.leaky_relu(a, 0.17, False, 0.0207111, 12), ONE), LEAKY),
    Case("leaky_relu.module", lambda: eager(nn.LeakyReLU(0.17), NCHW), LEAKY),
    *both(lambda a, low: Q.elu(a, 0.0207111, 50 + low), "elu"),
    Case("elu.alpha", lambda: ints(lambda a: Q.elu(a, 0.0207111, 50, 1.3, 1.1, 0.9), ONE)),
    Case("elu.module", lambda: eager(nn.ELU(0.7), NCHW)),
    *both(lambda a, low: Q.celu(a, 0.0207111, 50 + low, 1.7), "celu"),
    *both(lambda a, low: F.gelu(a), "gelu"),
    Case("gelu.tanh", lambda: ints(lambda a: F.gelu(a, approximate="tanh"), ONE)),
    Case("prelu", lambda: ints(lambda a: Q.prelu(a, slopes(1, 1.275), 0.0207111, 50), ONE), PRELU),
    Case("prelu.int8", lambda: ints(lambda a: Q.prelu(a, slopes(1, 1.275, dtype=S8), 0.0207111, -78), ONE, dtype=S8), PRELU),
    Case("prelu.channels", lambda: ints(lambda a: Q.prelu(a, slopes(5, -0.255, 1.02), 0.0207111, 50), ONE), PRELU),
    Case("prelu.permuted", lambda: ints(lambda a: Q.prelu(a, slopes(5, 0.1), 0.0207111, 50).permute(0, 2, 3, 1), ONE), PRELU),
    Case("prelu.module", lambda: eager(nn.PReLU(5), ONE, weight=MinMaxObserver.with_args(dtype=torch.quint8)), ONE_IN_INTEGERS),
    *both(lambda a, low: Q.hardswish(a, 0.0307111, 12 + low), "hardswish", SWISH),
    Case("hardswish.module", lambda: eager(nn.Hardswish(), NCHW), SWISH),
    *both(lambda a, low: F.hardsigmoid(a), "hardsigmoid"),
    *both(lambda a, low: torch.sigmoid(a), "sigmoid"),
    *both(lambda a, low: Q.sigmoid(a, 0.0041137, 2 + low), "sigmoid.scale"),
    Case("sigmoid.scale_fixed", lambda: ints(lambda a: Q.sigmoid(a, 1 / 256, 0), (2, 5, 7, 3))),
    *both(lambda a, low: torch.tanh(a), "tanh"),
    Case("dropout", lambda: ints(lambda a: torch.relu(Q.dropout(a, 0.0311713, 112, 0.5, False)), ONE)),
    # a table where onert has no kernel on integers, and one for several operators in a row
    Case("in_a_row", lambda: ints(lambda a: torch.relu(Q.hardswish(Q.add_scalar(a, 0.5), 0.0307111, 12)), ONE), SWISH),
    Case("in_float", lambda: ints(lambda a: in_float(lambda x: -(x.exp() + 0.7).sqrt(), a), ONE), FLOAT),
    *both(lambda a, low: Q.softmax(a, -1, 1 / 256, low), "softmax.rank4"),
    Case("softmax", lambda: ints(lambda a: Q.softmax(a, -1, 1 / 256, 0), (31, 17))),
    Case("softmax.scale", lambda: ints(lambda a: Q.softmax(a, -1, 0.0031137, 4), (31, 17))),
    Case("softmax.dim", lambda: ints(lambda a: Q.softmax(a, 1, 1 / 256, 0), (2, 31, 5))),
    Case("softmax.first_dim", lambda: ints(lambda a: Q.softmax(a, 0, 1 / 256, 0), (31, 17))),
    Case("float.relu", lambda: floating(nn.ReLU(), (2, 5, 7, 3))),
    Case("float.relu6", lambda: floating(nn.ReLU6(), (2, 5, 7, 3))),
    Case("float.relu6_aten", lambda: floating(lambda a: torch.ops.aten.relu6(2 * a), (2, 5, 7, 3))),
    Case("float.conv_relu", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.ReLU()), NCHW), FLOAT),
    Case("float.conv_relu6", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.ReLU6()), NCHW), FLOAT),
    Case("float.conv_hardtanh", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.Hardtanh()), NCHW), CLAMPED),
    Case("float.hardtanh", lambda: floating(nn.Hardtanh(), ONE)),
    Case("float.hardtanh_bounds", lambda: floating(nn.Hardtanh(-0.3, 1.9), ONE)),
    Case("float.clamp", lambda: floating(lambda a: torch.clamp(a, -0.3, 1.9), ONE)),
    Case("float.clamp_min", lambda: floating(lambda a: torch.clamp_min(a, -0.3), ONE)),
    Case("float.clamp_max", lambda: floating(lambda a: torch.clamp_max(a, 1.9), ONE)),
    Case("float.clamp_tensors", lambda: floating(lambda a, b, c: torch.clamp(a, b, c), ONE, (5, 7, 3), (7, 3))),
    Case("float.clamp_min_tensor", lambda: floating(lambda a, b: torch.clamp_min(a, b), ONE, (7, 3))),
    Case("float.clamp_max_tensor", lambda: floating(lambda a, b: torch.clamp_max(a, b), ONE, (7, 3))),
    Case("float.clip", lambda: floating(lambda a: torch.clip(a, max=0.4), ONE)),
    Case("float.threshold", lambda: floating(nn.Threshold(0.4, -1.2), ONE)),
    Case("float.hardswish", lambda: floating(nn.Hardswish(), (2, 5, 7, 3)), FLOAT),
    Case("float.hardsigmoid", lambda: floating(nn.Hardsigmoid(), (2, 5, 7, 3)), FLOAT),
    Case("float.sigmoid", lambda: floating(nn.Sigmoid(), (2, 5, 7, 3)), FLOAT),
    Case("float.tanh", lambda: floating(nn.Tanh(), (2, 5, 7, 3)), FLOAT),
    Case("float.leaky_relu", lambda: floating(nn.LeakyReLU(0.17), ONE), FLOAT),
    Case("float.prelu", lambda: floating(nn.PReLU(), ONE), FLOAT),
    Case("float.prelu_channels", lambda: floating(nn.PReLU(5), ONE), FLOAT),
    Case("float.prelu_matrix", lambda: floating(nn.PReLU(7), (3, 7)), FLOAT),
    Case("float.prelu_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.PReLU(5)), NCHW), FLOAT),
    Case("float.prelu_kernel", lambda: floating(lambda a: torch._prelu_kernel(a, torch.arange(5.0).view(1, 5, 1, 1)), ONE), FLOAT),
    Case("float.elu", lambda: floating(nn.ELU(), ONE), FLOAT),
    Case("float.elu_alpha", lambda: floating(nn.ELU(0.7), ONE), FLOAT),
    Case("float.selu", lambda: floating(nn.SELU(), ONE), FLOAT),
    Case("float.celu", lambda: floating(nn.CELU(1.7), ONE), FLOAT),
    Case("float.gelu", lambda: floating(nn.GELU(), ONE), FLOAT),
    Case("float.gelu_tanh", lambda: floating(nn.GELU("tanh"), ONE), FLOAT),
    Case("float.silu", lambda: floating(nn.SiLU(), ONE), FLOAT),
    Case("float.mish", lambda: floating(nn.Mish(), ONE), FLOAT),
    Case("float.softplus", lambda: floating(nn.Softplus(1.3, 3), ONE), FLOAT),
    Case("float.softsign", lambda: floating(nn.Softsign(), ONE), FLOAT),
    Case("float.tanhshrink", lambda: floating(nn.Tanhshrink(), ONE), FLOAT),
    Case("float.hardshrink", lambda: floating(nn.Hardshrink(0.7), ONE)),
    Case("float.softshrink", lambda: floating(nn.Softshrink(0.7), ONE)),
    Case("float.logsigmoid", lambda: floating(nn.LogSigmoid(), ONE), FLOAT),
    Case("float.glu", lambda: floating(nn.GLU(1), (2, 6, 5, 3)), FLOAT),
    Case("float.abs", lambda: floating(torch.abs, ONE)),
    Case("float.neg", lambda: floating(torch.neg, ONE)),
    Case("float.sign", lambda: floating(lambda a: torch.sign(a.round()), ONE)),
    Case("float.sqrt", lambda: positive(torch.sqrt, ONE), FLOAT),
    Case("float.rsqrt", lambda: positive(torch.rsqrt, ONE), FLOAT),
    Case("float.reciprocal", lambda: positive(torch.reciprocal, ONE), FLOAT),
    Case("float.exp", lambda: floating(torch.exp, ONE), FLOAT),
    Case("float.exp2", lambda: floating(torch.exp2, ONE), FLOAT),
    Case("float.expm1", lambda: floating(torch.expm1, ONE), FLOAT),
    Case("float.log", lambda: positive(torch.log, ONE), FLOAT),
    Case("float.log2", lambda: positive(torch.log2, ONE), FLOAT),
    Case("float.log10", lambda: positive(torch.log10, ONE), FLOAT),
    Case("float.log1p", lambda: positive(torch.log1p, ONE), FLOAT),
    Case("float.sin", lambda: floating(torch.sin, ONE), FLOAT),
    Case("float.cos", lambda: floating(torch.cos, ONE), FLOAT),
    Case("float.tan", lambda: unit(torch.tan), FLOAT),
    Case("float.asin", lambda: unit(torch.asin), FLOAT),
    Case("float.acos", lambda: unit(torch.acos), FLOAT),
    Case("float.atan", lambda: floating(torch.atan, ONE), FLOAT),
    Case("float.erf", lambda: floating(lambda a: torch.erf(a * (a.abs() > 0.1)), ONE), FLOAT),
    Case("float.floor", lambda: floating(torch.floor, ONE)),
    Case("float.ceil", lambda: floating(torch.ceil, ONE)),
    Case("float.round", lambda: floating(lambda a: torch.round((4 * a).round() / 2), ONE)),
    Case("float.trunc", lambda: floating(torch.trunc, ONE)),
    Case("float.frac", lambda: floating(torch.frac, ONE)),
    Case("float.nan_to_num", lambda: floating(torch.nan_to_num, ONE)),
    Case("float.softmax", lambda: floating(nn.Softmax(-1), (31, 17)), FLOAT),
    Case("float.softmax_rank3", lambda: floating(nn.Softmax(2), (3, 5, 7)), FLOAT),
    Case("float.softmax_dim", lambda: floating(nn.Softmax(1), (2, 3, 4)), FLOAT),
    Case("float.softmax_rank1", lambda: floating(nn.Softmax(0), (17,)), FLOAT),
    Case("float.softmax_rank5", lambda: floating(nn.Softmax(2), (2, 3, 5, 4, 6)), FLOAT),
    Case("float.softmax_channels_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.Softmax(1)), NCHW), FLOAT),
    Case("float.softmax_of_integers", lambda: floating(lambda a: F.softmax(a.long(), 1, dtype=torch.float32), (3, 7)), FLOAT),
    Case("float._softmax", lambda: floating(lambda a: torch._softmax(a, 1, False), (31, 17)), FLOAT),
    Case("float.softmin", lambda: floating(nn.Softmin(-1), (31, 17)), FLOAT),
    Case("float.log_softmax", lambda: floating(nn.LogSoftmax(-1), (31, 17)), FLOAT),
    Case("float.log_softmax_dim", lambda: floating(nn.LogSoftmax(1), (2, 3, 4, 5)), FLOAT),
    Case("float._log_softmax", lambda: floating(lambda a: torch._log_softmax(a, 1, False), (31, 17)), FLOAT),
]  # fmt: skip
