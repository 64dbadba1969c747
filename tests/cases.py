"""One line a way of calling an operator. ``test_ops`` exports each for each target, runs it and compares it with PyTorch.

Every dimension has another extent, so that no two can be mistaken for each other. Weights, inputs and ranges are the same on any
machine: they come from numpy, and calibrated ranges are rounded, so that the last bit of a float kernel does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.ao.nn.intrinsic as nni
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver, QConfig, convert, prepare
from torch.ao.quantization.observer import ObserverBase

Made = tuple[nn.Module, tuple[Any, ...]]
Shape = tuple[int, ...]
Q = torch.ops.quantized
Seq = nn.Sequential

RUNTIMES = ("onert", "litert")


@dataclass(frozen=True)
class Near:
    """How far each operator of a case may be off on ``targets``, and which share of its elements must be equal; ``reason``: why not all."""

    lsb: float
    share: float
    reason: str
    targets: tuple[str, ...] = RUNTIMES


EXACT = Near(0, 1, "")
FLOAT = Near(0.05, 1, "the runtimes add products in another order and have their own exp; a step is 2**-16 of the largest magnitude")
WEIGHTED = Near(1, 0.98, "PyTorch adds the bias in float32, the file has it in int32; onert also rounds a fixed-point product twice")
NO_BIAS = Near(1, 0.98, "onert rounds a fixed-point product, where PyTorch and XNNPACK multiply in float32", ("onert",))
PRODUCT = Near(1, 0.98, "onert multiplies by a factor in fixed point, rounded twice", ("onert",))
GATED = replace(WEIGHTED, share=0.97, reason=f"{WEIGHTED.reason}; {PRODUCT.reason}")
SWISH = Near(1, 0.98, "LiteRT computes x * relu6(x + 3) / 6 in 16-bit fixed point", ("litert",))
AVERAGE = Near(1, 0.85, "onert rounds an average that lies half way between two integers upwards, PyTorch to even", ("onert",))


@dataclass(frozen=True)
class Case:
    """A model and its inputs; each operator must be bit-equal to PyTorch's, or as ``near`` allows."""

    id: str
    make: Callable[[], Made]
    near: Near = EXACT


# ---- models


class Call(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


class OnIntegers(nn.Module):
    """A function of quantized tensors: its operands are quantized, each in its own way, and its result is dequantized."""

    # Scales without a common divisor, and even zero points: otherwise many results lie half way between two integers, and it is the
    # zero point that decides, since PyTorch's scalar kernels add it before they round, and its vector kernels behind.
    SCALES, ZERO_POINTS = (0.0311713, 0.0469127, 0.0233917), (112, 98, 130)

    def __init__(self, function: Callable[..., Any], dtype: torch.dtype) -> None:
        super().__init__()
        self.function, self.dtype = function, dtype
        self.shift = 0 if dtype is torch.quint8 else -128

    def forward(self, *args: Tensor) -> Any:
        facts = zip(args, self.SCALES, self.ZERO_POINTS, strict=False)
        made = self.function(*(torch.quantize_per_tensor(x, scale, zero + self.shift, self.dtype) for x, scale, zero in facts))
        return [part.dequantize() for part in made] if isinstance(made, (list, tuple)) else made.dequantize()


class Stubbed(nn.Module):
    """What eager-mode quantization wants around a model."""

    def __init__(self, body: nn.Module, count: int) -> None:
        super().__init__()
        self.body = body
        self.quant = nn.ModuleList(torch.ao.quantization.QuantStub() for _ in range(count))
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, *args: Tensor) -> Any:
        made = self.body(*(stub(x) for stub, x in zip(self.quant, args, strict=True)))
        return [self.dequant(part) for part in made] if isinstance(made, (list, tuple)) else self.dequant(made)


def inputs(shapes: Sequence[Shape], seed: int = 1) -> tuple[Tensor, ...]:
    rng = np.random.default_rng(seed)
    return tuple(torch.from_numpy(rng.uniform(-4, 4, shape).astype(np.float32)) for shape in shapes)


def seeded(module: nn.Module) -> nn.Module:
    """Weights and statistics from numpy; variances and the factors of normalization stay away from zero."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.dtype is torch.float32:
                low, high = (0.5, 1.5) if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")) else (-0.4, 0.6)
                values = rng.uniform(low, high, tuple(tensor.shape))
                if tensor.dim() > 1:  # output channels of unequal size, so that no scale passes for another
                    values *= rng.uniform(0.3, 1.5, (len(values), *[1] * (values.ndim - 1)))
                tensor.copy_(torch.from_numpy(values.astype(np.float32)))
    return module.eval()


def floating(body: nn.Module | Callable[..., Any], *shapes: Shape) -> Made:
    return seeded(body if isinstance(body, nn.Module) else Call(body)), inputs(shapes)


def ints(function: Callable[..., Any], *shapes: Shape, dtype: torch.dtype = torch.quint8, engine: str = "fbgemm") -> Made:
    torch.backends.quantized.engine = engine
    return OnIntegers(function, dtype).eval(), inputs(shapes)


PER_CHANNEL = PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
SYMMETRIC = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
AFFINE = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_affine)


def eager(body: nn.Module, *shapes: Shape, engine: str = "fbgemm", weight: Any = None) -> Made:
    """``body`` after eager-mode post-training quantization, with the recipe of ``engine`` unless ``weight`` is another observer."""
    torch.backends.quantized.engine = engine
    model = seeded(Stubbed(body, len(shapes)))
    # FBGEMM's recipe leaves a bit of the activation free, so that its 16-bit sums do not saturate
    activation = MinMaxObserver.with_args(dtype=torch.quint8, reduce_range=engine != "qnnpack")
    weight = weight or (SYMMETRIC if engine == "qnnpack" else PER_CHANNEL)
    model.qconfig = QConfig(activation=activation, weight=weight)  # type: ignore[assignment]
    prepare(model, inplace=True)
    args = inputs(shapes)
    with torch.no_grad():
        model(*args)
    for part in model.modules():
        if isinstance(part, ObserverBase):
            part.min_val, part.max_val = (torch.round(end * 16) / 16 for end in (part.min_val, part.max_val))  # type: ignore[assignment]
    return convert(model, inplace=True), args


def conv_relu(*args: Any, **kwargs: Any) -> nn.Module:
    return nni.ConvReLU2d(nn.Conv2d(*args, **kwargs), nn.ReLU())


def linear_relu(*args: Any, **kwargs: Any) -> nn.Module:
    return nni.LinearReLU(nn.Linear(*args, **kwargs), nn.ReLU())


class Residual(nn.Module):
    """Two convolutions and the operators of ``FloatFunctional``."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 5, 3, padding=1), conv_relu(3, 5, 1)
        self.join, self.method = torch.ao.nn.quantized.FloatFunctional(), method

    def forward(self, x: Tensor) -> Tensor:
        parts = self.left(x), self.right(x)
        return self.join.cat(parts, 1) if self.method == "cat" else getattr(self.join, self.method)(*parts)


class Gate(nn.Module):
    """Squeeze and excitation: a factor for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.shrink, self.grow = nn.AdaptiveAvgPool2d(1), conv_relu(5, 2, 1), nn.Conv2d(2, 5, 1)
        self.gate, self.times = nn.Hardsigmoid(), torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        return self.times.mul(x, self.gate(self.grow(self.shrink(self.squeeze(x)))))


class WithConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchors", torch.zeros(3, 4))
        self.anchors: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(x), self.anchors


def shuffled(x: Tensor, groups: int = 2) -> Tensor:
    """The channel shuffle of ShuffleNet."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def quantized_by_tensors(x: Tensor) -> Tensor:
    return torch.ops.aten.quantize_per_tensor.tensor_qparams(x, torch.tensor(0.0311713), torch.tensor(112), torch.quint8).dequantize()


def assigned(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3] = y
    return x


def zeroed(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3] = 0
    return x


def row_assigned(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 2] = y
    return x


def view_written(x: Tensor) -> Tensor:
    x = x + 1
    x.view(2, -1)[:, 3:9].relu_()
    return x


def transpose_written(x: Tensor) -> Tensor:
    x = x + 1
    x.transpose(1, 3)[:, :2].mul_(3.0)
    return x


def halves_written(x: Tensor) -> Tensor:
    x = x + 1
    half = x[:, :2]
    x.mul_(0.5)
    return half + 2


class Weighted(nn.Module):
    """An operator with a weight and a bias, called by its own name."""

    def __init__(self, function: Callable[..., Tensor], shape: Shape, *rest: Any) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(shape)), nn.Parameter(torch.empty(shape[0]))
        self.function, self.rest = function, rest

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias, *self.rest)


class AddBehindConv(nn.Module):
    """A constant of lower rank, which broadcasting aligns at the last dimension in PyTorch's order."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.conv, self.offset = nn.Conv2d(3, 5, 3), nn.Parameter(torch.empty(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.offset


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Conv2d(3, 5, 3), nn.Conv2d(3, 5, 1), torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.join.add(self.left(x), self.right(y))


def integers(dtype: torch.dtype) -> Tensor:
    return torch.quantize_per_tensor(inputs([(2, 5, 8, 6)])[0], 0.0311713, 112 if dtype is torch.quint8 else -16, dtype)


NCHW = (2, 3, 9, 11)
PAIR = ((2, 5, 7, 3), (2, 5, 7, 3))

CASES = [
    # -- convolutions
    Case("conv", lambda: eager(nn.Conv2d(3, 8, 3), NCHW), WEIGHTED),
    Case("conv.relu", lambda: eager(conv_relu(3, 8, 3), NCHW), WEIGHTED),
    Case("conv.1x1", lambda: eager(nn.Conv2d(3, 8, 1), NCHW), WEIGHTED),
    Case("conv.no_bias", lambda: eager(nn.Conv2d(3, 8, 3, bias=False), NCHW), NO_BIAS),
    Case("conv.padding1", lambda: eager(nn.Conv2d(3, 8, 3, padding=1), NCHW), WEIGHTED),
    Case("conv.padding1_stride2_odd", lambda: eager(nn.Conv2d(3, 8, 3, padding=1, stride=2), NCHW), WEIGHTED),
    Case("conv.padding1_stride2_even", lambda: eager(nn.Conv2d(3, 8, 3, padding=1, stride=2), (2, 3, 10, 12)), WEIGHTED),
    Case("conv.padding_asymmetric", lambda: eager(nn.Conv2d(3, 8, (3, 5), padding=(2, 1)), NCHW), WEIGHTED),
    Case("conv.same", lambda: eager(nn.Conv2d(3, 8, (3, 5), padding=(1, 2)), NCHW), WEIGHTED),
    Case("conv.even_kernel", lambda: eager(nn.Conv2d(3, 8, (2, 4), padding=(1, 2)), NCHW), WEIGHTED),
    Case("conv.stride_asymmetric", lambda: eager(nn.Conv2d(3, 8, 3, stride=(2, 3)), NCHW), WEIGHTED),
    Case("conv.kernel_asymmetric", lambda: eager(nn.Conv2d(3, 8, (1, 4)), NCHW), WEIGHTED),
    Case("conv.dilated", lambda: eager(nn.Conv2d(3, 8, 3, dilation=(2, 3), padding=(2, 3)), NCHW), WEIGHTED),
    Case("conv.grouped", lambda: eager(nn.Conv2d(6, 9, 3, groups=3), (2, 6, 8, 11)), WEIGHTED),
    Case("conv.grouped_relu", lambda: eager(conv_relu(6, 4, 3, groups=2, padding=1), (2, 6, 8, 11)), WEIGHTED),
    Case("conv.depthwise", lambda: eager(nn.Conv2d(5, 5, 3, groups=5, padding=1), (2, 5, 8, 11)), WEIGHTED),
    Case("conv.depthwise_stride2", lambda: eager(nn.Conv2d(5, 5, 3, groups=5, padding=1, stride=2), (2, 5, 8, 11)), WEIGHTED),
    Case("conv.depthwise_x2", lambda: eager(nn.Conv2d(5, 10, 3, groups=5), (2, 5, 8, 11)), WEIGHTED),
    Case("conv.depthwise_dilated", lambda: eager(nn.Conv2d(5, 5, 3, groups=5, dilation=2), (2, 5, 8, 11)), WEIGHTED),
    Case("conv.depthwise_relu_pt", lambda: eager(conv_relu(5, 5, 3, groups=5), (2, 5, 8, 11), weight=SYMMETRIC), WEIGHTED),
    Case("conv.one_input_channel", lambda: eager(nn.Conv2d(1, 6, 3), (2, 1, 8, 11)), WEIGHTED),
    Case("conv.one_output_channel", lambda: eager(nn.Conv2d(3, 1, 3), NCHW), WEIGHTED),
    Case("conv.per_tensor", lambda: eager(nn.Conv2d(3, 8, 3), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("conv.affine", lambda: eager(nn.Conv2d(3, 8, 3), NCHW, weight=AFFINE), WEIGHTED),
    Case("conv.affine_depthwise", lambda: eager(nn.Conv2d(5, 5, 3, groups=5), (2, 5, 8, 11), weight=AFFINE), WEIGHTED),
    Case("conv.x86", lambda: eager(conv_relu(3, 8, 3, padding=1), NCHW, engine="x86"), WEIGHTED),
    Case("conv.qnnpack", lambda: eager(nn.Conv2d(3, 8, 3, padding=1), NCHW, engine="qnnpack"), WEIGHTED),
    Case("conv.qnnpack_relu", lambda: eager(conv_relu(3, 8, 3), NCHW, engine="qnnpack"), WEIGHTED),
    Case("conv.qnnpack_depthwise", lambda: eager(nn.Conv2d(5, 5, 3, groups=5), (2, 5, 8, 11), engine="qnnpack"), WEIGHTED),
    Case("conv.qnnpack_per_channel", lambda: eager(nn.Conv2d(3, 8, 3), NCHW, engine="qnnpack", weight=PER_CHANNEL), WEIGHTED),
    Case("conv.two", lambda: eager(Seq(conv_relu(3, 4, 3), nn.Conv2d(4, 5, 1)), NCHW), WEIGHTED),
    Case("float.conv", lambda: floating(nn.Conv2d(3, 8, 3), NCHW), FLOAT),
    Case("float.conv_no_bias_stride2", lambda: floating(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), NCHW), FLOAT),
    Case("float.conv_same", lambda: floating(nn.Conv2d(3, 8, (4, 3), padding="same", dilation=2), (2, 3, 13, 9)), FLOAT),
    Case("float.conv_valid", lambda: floating(nn.Conv2d(3, 8, 3, padding="valid"), NCHW), FLOAT),
    Case("float.conv_depthwise", lambda: floating(nn.Conv2d(5, 10, 3, groups=5, padding=1), (2, 5, 8, 11)), FLOAT),
    Case("float.conv_grouped", lambda: floating(nn.Conv2d(6, 9, 3, groups=3), (2, 6, 8, 11)), FLOAT),
    Case("float.convolution", lambda: floating(
        Weighted(torch.convolution, (5, 3, 3, 3), [1, 2], [1, 0], [1, 1], False, [0, 0], 1), NCHW), FLOAT),
    Case("float._convolution", lambda: floating(
        Weighted(torch._convolution, (5, 3, 3, 3), [2, 1], [1, 1], [1, 1], False, [0, 0], 1, False, False, True, True), NCHW), FLOAT),
    # -- linear layers
    Case("linear", lambda: eager(nn.Linear(17, 9), (31, 17)), WEIGHTED),
    Case("linear.relu", lambda: eager(linear_relu(17, 9), (31, 17)), WEIGHTED),
    Case("linear.no_bias", lambda: eager(nn.Linear(17, 9, bias=False), (31, 17)), NO_BIAS),
    Case("linear.rank3", lambda: eager(nn.Linear(7, 9), (5, 6, 7)), WEIGHTED),
    Case("linear.rank4", lambda: eager(nn.Linear(7, 9), (2, 3, 5, 7)), WEIGHTED),
    Case("linear.rank1", lambda: floating(nn.Linear(7, 9), (7,)), FLOAT),
    Case("linear.per_tensor", lambda: eager(nn.Linear(17, 9), (31, 17), weight=SYMMETRIC), WEIGHTED),
    Case("linear.per_tensor_rank3", lambda: eager(nn.Linear(7, 9), (5, 6, 7), weight=SYMMETRIC), WEIGHTED),
    Case("linear.affine", lambda: eager(nn.Linear(17, 9), (31, 17), weight=AFFINE), WEIGHTED),
    Case("linear.x86", lambda: eager(nn.Linear(17, 9), (31, 17), engine="x86"), WEIGHTED),
    Case("linear.qnnpack", lambda: eager(nn.Linear(17, 9), (31, 17), engine="qnnpack"), WEIGHTED),
    Case("linear.qnnpack_relu", lambda: eager(linear_relu(17, 9), (31, 17), engine="qnnpack"), WEIGHTED),
    Case("linear.behind_conv", lambda: eager(Seq(conv_relu(3, 5, 3), nn.Flatten(), nn.Linear(5 * 4 * 6, 17)), (2, 3, 6, 8)), WEIGHTED),
    Case("linear.behind_pool", lambda: eager(
        Seq(conv_relu(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(5, 17)), (2, 3, 6, 8)), WEIGHTED),
    Case("float.linear", lambda: floating(nn.Linear(17, 9), (31, 17)), FLOAT),
    Case("float.linear_relu", lambda: floating(Seq(nn.Linear(17, 9), nn.ReLU()), (31, 17)), FLOAT),
    Case("float.linear_rank3_no_bias", lambda: floating(nn.Linear(7, 9, bias=False), (5, 6, 7)), FLOAT),
    Case("float.linear_rank4", lambda: floating(nn.Linear(7, 9), (2, 3, 5, 7)), FLOAT),
    Case("float.linear_behind_conv", lambda: floating(
        Seq(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 4 * 6, 17)), (2, 3, 6, 8)), FLOAT),
    # -- arithmetic
    Case("add", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, 120), *PAIR)),
    Case("add.relu", lambda: ints(lambda a, b: Q.add_relu(a, b, 0.0313547, 20), *PAIR)),
    Case("add.int8", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, -8), *PAIR, dtype=torch.qint8)),
    Case("add.qnnpack", lambda: ints(lambda a, b: Q.add(a, b, 0.0603137, 120), *PAIR, engine="qnnpack")),
    Case("add.one_tensor_twice", lambda: ints(lambda a: Q.add(a, a, 0.0603137, 120), PAIR[0])),
    Case("add.residual", lambda: eager(Residual("add"), NCHW), WEIGHTED),
    Case("add.residual_relu", lambda: eager(Residual("add_relu"), NCHW), WEIGHTED),
    Case("mul", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), *PAIR), PRODUCT),
    Case("mul.relu", lambda: ints(lambda a, b: Q.mul_relu(a, b, 0.0627717, 4), *PAIR), PRODUCT),
    Case("mul.int8", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, -8), *PAIR, dtype=torch.qint8), PRODUCT),
    Case("mul.qnnpack", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), *PAIR, engine="qnnpack"), PRODUCT),
    Case("mul.per_channel", lambda: ints(lambda a, b: Q.mul(a, b, 0.1217133, 120), (2, 5, 7, 3), (2, 5, 1, 1)), PRODUCT),
    Case("mul.residual", lambda: eager(Residual("mul"), NCHW), GATED),
    Case("mul.gate", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Gate()), NCHW), GATED),
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
    Case("float.div", lambda: floating(lambda a, b: a / (b * b + 1), *PAIR)),
    Case("float.div_number", lambda: floating(lambda a: a / 3, PAIR[0])),
    Case("int64.add", lambda: (Call(lambda a, b: a + b).eval(), (torch.arange(6).view(2, 3), torch.arange(3) * 7))),
    # -- concatenation
    Case("cat", lambda: ints(lambda a, b: Q.cat([a, b], 1, 0.0513371, 116), (2, 5, 7, 3), (2, 4, 7, 3))),
    Case("cat.axis2", lambda: ints(lambda a, b: Q.cat([a, b], 2, 0.0513371, 116), (2, 5, 7, 3), (2, 5, 4, 3))),
    Case("cat.last_axis", lambda: ints(lambda a, b: Q.cat([a, b], -1, 0.0513371, 116), (2, 5, 7, 3), (2, 5, 7, 4))),
    Case("cat.axis0_rank2", lambda: ints(lambda a, b: Q.cat([a, b], 0, 0.0513371, 116), (13, 7), (12, 7))),
    Case("cat.relu", lambda: ints(lambda a, b: Q.cat_relu([a, b], 1, 0.0273113, 20), (2, 5, 7, 3), (2, 4, 7, 3))),
    Case("cat.equal_scales", lambda: ints(lambda a: Q.cat([a, torch.relu(a)], 1, 0.0311713, 112), (2, 5, 7, 3))),
    Case("cat.int8", lambda: ints(lambda a, b: Q.cat([a, b], 1, 0.0513371, -12), (2, 5, 7, 3), (2, 4, 7, 3), dtype=torch.qint8)),
    Case("cat.aten", lambda: ints(lambda a: torch.cat([a, torch.relu(a[:, 1:])], 1), (2, 5, 7, 3))),
    Case("cat.three", lambda: ints(lambda a, b, c: Q.cat([a, b, c], 1, 0.0513371, 116), (2, 5, 7, 3), (2, 4, 7, 3), (2, 1, 7, 3))),
    Case("cat.residual", lambda: eager(Residual("cat"), NCHW), WEIGHTED),
    Case("float.cat", lambda: floating(lambda a, b: torch.cat([a, b], 1), (2, 5, 7, 3), (2, 4, 7, 3))),
    Case("float.cat_last_axis", lambda: floating(lambda a, b: torch.cat([a, b], -1), (2, 5, 7, 3), (2, 5, 7, 4))),
    # -- functions of one element
    Case("relu", lambda: ints(torch.relu, (2, 5, 7, 3))),
    Case("relu.int8", lambda: ints(torch.relu, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("relu6", lambda: ints(lambda a: Q.relu6(a), (2, 5, 7, 3))),
    Case("relu6.hardtanh", lambda: ints(lambda a: F.hardtanh(a, 0, 6), (2, 5, 7, 3))),
    Case("relu6.module", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.ReLU6()), NCHW), WEIGHTED),
    Case("relu.behind_add", lambda: ints(lambda a, b: torch.relu(Q.add(a, b, 0.0603137, 120)), *PAIR)),
    Case("hardswish", lambda: ints(lambda a: Q.hardswish(a, 0.0307111, 12), (2, 5, 7, 3)), SWISH),
    Case("hardswish.int8", lambda: ints(lambda a: Q.hardswish(a, 0.0307111, -116), (2, 5, 7, 3), dtype=torch.qint8), SWISH),
    Case("hardswish.module", lambda: eager(nn.Hardswish(), NCHW), SWISH),
    Case("hardsigmoid", lambda: ints(F.hardsigmoid, (2, 5, 7, 3))),
    Case("hardsigmoid.int8", lambda: ints(F.hardsigmoid, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("sigmoid", lambda: ints(torch.sigmoid, (2, 5, 7, 3))),
    Case("sigmoid.int8", lambda: ints(torch.sigmoid, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("sigmoid.scale", lambda: ints(lambda a: Q.sigmoid(a, 0.0041137, 2), (2, 5, 7, 3))),
    Case("sigmoid.scale_fixed", lambda: ints(lambda a: Q.sigmoid(a, 1 / 256, 0), (2, 5, 7, 3))),
    Case("tanh", lambda: ints(torch.tanh, (2, 5, 7, 3))),
    Case("tanh.int8", lambda: ints(torch.tanh, (2, 5, 7, 3), dtype=torch.qint8)),
    Case("softmax", lambda: ints(lambda a: Q.softmax(a, -1, 1 / 256, 0), (31, 17))),
    Case("softmax.rank4", lambda: ints(lambda a: Q.softmax(a, 3, 1 / 256, 0), (2, 5, 7, 13))),
    Case("softmax.scale", lambda: ints(lambda a: Q.softmax(a, -1, 0.0031137, 4), (31, 17))),
    Case("softmax.int8", lambda: ints(lambda a: Q.softmax(a, -1, 1 / 256, -128), (31, 17), dtype=torch.qint8)),
    Case("float.relu", lambda: floating(nn.ReLU(), (2, 5, 7, 3))),
    Case("float.relu6", lambda: floating(nn.ReLU6(), (2, 5, 7, 3))),
    Case("float.relu6_aten", lambda: floating(lambda a: torch.ops.aten.relu6(2 * a), (2, 5, 7, 3))),
    Case("float.conv_relu", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.ReLU()), NCHW), FLOAT),
    Case("float.conv_relu6", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.ReLU6()), NCHW), FLOAT),
    Case("float.hardswish", lambda: floating(nn.Hardswish(), (2, 5, 7, 3)), FLOAT),
    Case("float.hardsigmoid", lambda: floating(nn.Hardsigmoid(), (2, 5, 7, 3)), FLOAT),
    Case("float.sigmoid", lambda: floating(nn.Sigmoid(), (2, 5, 7, 3)), FLOAT),
    Case("float.tanh", lambda: floating(nn.Tanh(), (2, 5, 7, 3)), FLOAT),
    Case("float.softmax", lambda: floating(nn.Softmax(-1), (31, 17)), FLOAT),
    Case("float.softmax_rank3", lambda: floating(nn.Softmax(2), (3, 5, 7)), FLOAT),
    Case("float._softmax", lambda: floating(lambda a: torch._softmax(a, 1, False), (31, 17)), FLOAT),
    # -- pools and means
    Case("max_pool", lambda: ints(lambda a: F.max_pool2d(a, (2, 3)), (2, 5, 8, 9))),
    Case("max_pool.padding", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, 1), (2, 5, 8, 11))),
    Case("max_pool.padding_odd", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, 1), (2, 5, 7, 9))),
    Case("max_pool.ceil", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, ceil_mode=True), (2, 5, 8, 10))),
    Case("max_pool.int8", lambda: ints(lambda a: F.max_pool2d(a, 3, 2, 1), (2, 5, 8, 11), dtype=torch.qint8)),
    Case("max_pool.by_name", lambda: ints(lambda a: Q.max_pool2d(a, [2, 3], [2, 2], [1, 1], [1, 1], False), (2, 5, 8, 9))),
    Case("max_pool.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.MaxPool2d(3, 2, 1)), NCHW), WEIGHTED),
    Case("avg_pool", lambda: ints(lambda a: F.avg_pool2d(a, (2, 3)), (2, 5, 8, 9)), AVERAGE),
    Case("avg_pool.padding", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, 1), (2, 5, 8, 11))),
    Case("avg_pool.padding_not_counted", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, 1, count_include_pad=False), (2, 5, 8, 11)), AVERAGE),
    Case("avg_pool.ceil", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, ceil_mode=True), (2, 5, 8, 10)), AVERAGE),
    Case("avg_pool.divisor", lambda: ints(lambda a: F.avg_pool2d(a, 3, 2, divisor_override=5), (2, 5, 7, 9))),
    Case("avg_pool.int8", lambda: ints(lambda a: F.avg_pool2d(a, (2, 3)), (2, 5, 8, 9), dtype=torch.qint8), AVERAGE),
    Case("avg_pool.qnnpack", lambda: ints(lambda a: F.avg_pool2d(a, (2, 3)), (2, 5, 8, 9), engine="qnnpack"), AVERAGE),
    Case("adaptive.to_one", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, 1), (3, 37, 7, 9))),
    Case("adaptive.divisible", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, (2, 3)), (2, 5, 8, 9)), AVERAGE),
    Case("adaptive.irregular", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, (3, 4)), (2, 5, 7, 9))),
    Case("adaptive.identity", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, (7, 9)), (2, 5, 7, 9))),
    Case("adaptive.to_one_int8", lambda: ints(lambda a: F.adaptive_avg_pool2d(a, 1), (3, 37, 7, 9), dtype=torch.qint8)),
    Case("adaptive._aten", lambda: ints(lambda a: torch.ops.aten._adaptive_avg_pool2d(a, [2, 3]), (2, 5, 8, 9)), AVERAGE),
    Case("mean", lambda: ints(lambda a: a.mean([2, 3]), (3, 37, 7, 9))),
    Case("mean.keepdim", lambda: ints(lambda a: a.mean([2, 3], keepdim=True), (3, 37, 7, 9))),
    Case("mean.int8", lambda: ints(lambda a: a.mean([2, 3]), (3, 37, 7, 9), dtype=torch.qint8)),
    Case("mean.last", lambda: ints(lambda a: a.mean(-1), (13, 17, 9))),
    Case("float.max_pool", lambda: floating(nn.MaxPool2d(3, 2, 1), (2, 5, 8, 11))),
    Case("float.max_pool_ceil", lambda: floating(nn.MaxPool2d((3, 2), ceil_mode=True), (2, 5, 8, 11))),
    Case("float.avg_pool", lambda: floating(nn.AvgPool2d((2, 3)), (2, 5, 8, 9)), FLOAT),
    Case("float.avg_pool_padding", lambda: floating(nn.AvgPool2d(3, 2, 1), (2, 5, 8, 11)), FLOAT),
    Case("float.avg_pool_not_counted", lambda: floating(nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 5, 8, 11)), FLOAT),
    Case("float.avg_pool_ceil", lambda: floating(nn.AvgPool2d(3, 2, 1, ceil_mode=True), (2, 5, 8, 10)), FLOAT),
    Case("float.avg_pool_divisor", lambda: floating(nn.AvgPool2d(3, 2, divisor_override=5), (2, 5, 7, 9)), FLOAT),
    Case("float.adaptive_to_one", lambda: floating(nn.AdaptiveAvgPool2d(1), (2, 5, 7, 9)), FLOAT),
    Case("float.adaptive_irregular", lambda: floating(nn.AdaptiveAvgPool2d((3, 4)), (2, 5, 7, 9)), FLOAT),
    Case("float.mean", lambda: floating(lambda a: a.mean((1, 3)), (2, 5, 7, 3)), FLOAT),
    Case("float.mean_keepdim", lambda: floating(lambda a: a.mean((-1, 1), keepdim=True), (2, 5, 7, 3)), FLOAT),
    Case("float.mean_all", lambda: floating(lambda a: torch.ops.aten.mean.dim(a, None, False), (2, 5, 3)), FLOAT),
    Case("float.mean_spatial_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.mean((2, 3)))), NCHW), FLOAT),
    Case("float.mean_width_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.mean(3))), NCHW), FLOAT),
    # -- views
    Case("flatten", lambda: ints(lambda a: a.flatten(1), (2, 5, 7, 3))),
    Case("flatten.middle", lambda: ints(lambda a: a.flatten(1, 2), (2, 5, 7, 3))),
    Case("view", lambda: ints(lambda a: a.view(2, 35, 3), (2, 5, 7, 3))),
    Case("reshape", lambda: ints(lambda a: a.reshape(6, 35), (2, 3, 5, 7))),
    Case("unflatten", lambda: ints(lambda a: a.unflatten(1, (3, 5)), (2, 15, 7))),
    Case("unsqueeze", lambda: ints(lambda a: a.unsqueeze(1), (5, 7, 3))),
    Case("squeeze", lambda: ints(lambda a: a.squeeze(1).squeeze(-1), (5, 1, 7, 1))),
    Case("squeeze.all", lambda: ints(lambda a: a.squeeze(), (5, 1, 7, 1))),
    Case("permute", lambda: ints(lambda a: a.permute(0, 2, 3, 1), (2, 5, 7, 3))),
    Case("transpose", lambda: ints(lambda a: a.transpose(1, -1), (2, 5, 7, 3))),
    Case("transpose.behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.transpose(1, 2))), NCHW), FLOAT),
    Case("t", lambda: floating(lambda a: a.t(), (5, 7))),
    Case("tokens.behind_conv", lambda: floating(
        Seq(nn.Conv2d(3, 5, 3, 2), Call(lambda a: a.flatten(2).transpose(1, 2)), nn.Linear(5, 6)), NCHW), FLOAT),
    Case("squeeze.dims", lambda: floating(lambda a: torch.ops.aten.squeeze.dims(a, [1, 3]), (5, 1, 7, 1))),
    Case("unsafe_view", lambda: floating(lambda a: torch.ops.aten._unsafe_view(a, [10, 21]), (2, 5, 7, 3))),
    Case("alias", lambda: floating(lambda a: torch.ops.aten.alias(torch.relu(a)), (2, 5))),
    Case("detach", lambda: floating(lambda a: torch.relu(a).detach() * 2, (2, 5))),
    Case("clone", lambda: ints(lambda a: torch.relu(a).clone(), (2, 5))),
    Case("contiguous", lambda: floating(lambda a: a.transpose(0, 1).contiguous(), (2, 5))),
    Case("identity", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.Identity(), nn.Dropout()), NCHW), WEIGHTED),
    Case("float.dropout", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.Dropout(), nn.Dropout2d(), nn.ReLU()), NCHW), FLOAT),
    # -- parts
    Case("slice", lambda: ints(lambda a: a[:, 1:4], (2, 5, 7, 3))),
    Case("slice.step", lambda: ints(lambda a: a[:, :, 1::2], (2, 5, 7, 3))),
    Case("slice.step_two_axes", lambda: ints(lambda a: a[:, :, ::2, 1::3], (2, 5, 7, 11))),
    Case("slice.negative", lambda: ints(lambda a: a[:, -3:-1], (2, 5, 7, 3))),
    Case("slice.empty", lambda: floating(lambda a: a[:, 2:2], (2, 5))),
    Case("slice.int8", lambda: ints(lambda a: a[:, :, 1::2], (2, 5, 7, 3), dtype=torch.qint8)),
    Case("slice.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a[:, 1:4, ::2])), NCHW), WEIGHTED),
    Case("select", lambda: ints(lambda a: a[:, 2], (2, 5, 7, 3))),
    Case("select.negative", lambda: ints(lambda a: a[..., -1], (2, 5, 7, 3))),
    Case("chunk", lambda: ints(lambda a: a.chunk(3, 1), (2, 6, 7, 3))),
    Case("chunk.uneven", lambda: ints(lambda a: a.chunk(2, 1), (2, 5, 7, 3))),
    Case("chunk.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 6, 3), Call(lambda a: a.chunk(2, 1)[1])), NCHW), WEIGHTED),
    Case("split", lambda: ints(lambda a: a.split(2, -2), (2, 5, 6, 3))),
    Case("split.uneven", lambda: ints(lambda a: a.split(3, 2), (2, 5, 7, 3))),
    Case("split.sizes", lambda: ints(lambda a: a.split([1, 4, 2], 2), (2, 5, 7, 3))),
    Case("split.with_sizes", lambda: floating(lambda a: torch.ops.aten.split_with_sizes(a, [1, 4, 2], 2), (2, 5, 7, 3))),
    Case("split.by_name", lambda: floating(lambda a: torch.ops.aten.split.sizes(a, [1, 4, 2], 2), (2, 5, 7, 3))),
    Case("float.slice_step", lambda: floating(lambda a: a[:, 1::2, :, -2:], (2, 5, 7, 3))),
    Case("float.split", lambda: floating(lambda a: a.split(2, 1), (2, 6, 7, 3))),
    Case("float.select", lambda: floating(lambda a: a.select(3, 1), (2, 5, 7, 3))),
    Case("pad", lambda: ints(lambda a: F.pad(a, (1, 2, 3, 0)), (2, 5, 7, 3))),
    Case("pad.value", lambda: ints(lambda a: F.pad(a, (1, 2, 0, 1), value=1.5), (2, 5, 7, 3))),
    Case("pad.channels", lambda: ints(lambda a: F.pad(a, (0, 0, 0, 0, 2, 1)), (2, 5, 7, 3))),
    Case("pad.int8", lambda: ints(lambda a: F.pad(a, (1, 2, 3, 0)), (2, 5, 7, 3), dtype=torch.qint8)),
    Case("pad.before_conv", lambda: eager(Seq(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 5, 3, 2)), (2, 3, 8, 10)), WEIGHTED),
    Case("float.pad", lambda: floating(lambda a: F.pad(a, (1, 2, 3, 0)), (2, 5, 7, 3))),
    Case("float.pad_value", lambda: floating(lambda a: F.pad(a, (1, 2, 3, 0), value=-2.5), (2, 5, 7, 3))),
    Case("float.constant_pad_nd", lambda: floating(lambda a: torch.constant_pad_nd(a, [1, 2], 0.5), (5, 7, 3))),
    Case("shuffle.views", lambda: ints(shuffled, (2, 6, 7, 3))),
    Case("shuffle.views_behind_conv", lambda: eager(Seq(nn.Conv2d(3, 6, 3), Call(shuffled), nn.Conv2d(6, 5, 1)), NCHW), WEIGHTED),
    Case("shuffle.module", lambda: ints(nn.ChannelShuffle(3), (2, 6, 7, 5))),
    Case("shuffle.aten", lambda: ints(lambda a: torch.ops.aten.channel_shuffle(a, 2), (2, 6, 7, 5))),
    Case("shuffle.native", lambda: floating(lambda a: torch.native_channel_shuffle(a, 3), (2, 6, 7, 5))),
    # -- normalization
    Case("float.batch_norm", lambda: floating(nn.BatchNorm2d(5), (2, 5, 7, 3)), FLOAT),
    Case("float.batch_norm_plain", lambda: floating(nn.BatchNorm2d(5, affine=False), (2, 5, 7, 3)), FLOAT),
    Case("float.batch_norm_rank2", lambda: floating(nn.BatchNorm1d(5), (13, 5)), FLOAT),
    Case("float.batch_norm_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU()), NCHW), FLOAT),
    Case("float.batch_norm_depthwise", lambda: floating(Seq(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU6()), NCHW), FLOAT),
    Case("float.batch_norm_linear", lambda: floating(Seq(nn.Linear(17, 9), nn.BatchNorm1d(9)), (31, 17)), FLOAT),
    # -- writes in place
    Case("inplace.relu", lambda: ints(lambda a: torch.relu_(Q.add(a, a, 0.0603137, 120)), (2, 5, 7, 3))),
    Case("inplace.float_relu", lambda: floating(lambda a: (a + 1).relu_(), (2, 5, 7, 3))),
    Case("inplace.add", lambda: floating(lambda a, b: (a * 2).add_(b), *PAIR)),
    Case("inplace.input", lambda: floating(lambda a: a.add_(1), (2, 5, 7, 3))),
    Case("inplace.slice", lambda: floating(assigned, (2, 5, 7, 3), (2, 2, 7, 3))),
    Case("inplace.row", lambda: floating(row_assigned, (2, 5, 7, 3), (2, 7, 3))),
    Case("inplace.zeros", lambda: floating(zeroed, (2, 5, 7, 3))),
    Case("inplace.view", lambda: floating(view_written, (2, 5, 7, 3))),
    Case("inplace.transpose", lambda: floating(transpose_written, (2, 5, 7, 3))),
    Case("inplace.seen_by_a_view", lambda: floating(halves_written, (2, 5, 7, 3))),
    # -- graph edges
    Case("edge.float_out_nhwc", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.permute(0, 2, 3, 1))), NCHW), FLOAT),
    Case("edge.view_out", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.flatten(2))), NCHW), WEIGHTED),
    Case("edge.two_out", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: (a, a.mean([2, 3])))), NCHW), WEIGHTED),
    Case("edge.same_out_twice", lambda: floating(lambda a: [torch.relu(a)] * 2, (2, 5))),
    Case("edge.constant_out", lambda: floating(WithConstant(), (2, 5))),
    Case("edge.input_out", lambda: floating(lambda a: (a, torch.relu(a)), (2, 5))),
    Case("edge.only_input_out", lambda: floating(lambda a: a, (2, 5))),
    Case("edge.unused_input", lambda: floating(lambda a, b: torch.relu(a), (2, 5), (3, 7))),
    Case("edge.two_in", lambda: eager(Joined(), (2, 3, 9, 11), (2, 3, 7, 9)), WEIGHTED),
    Case("edge.uint8_in_out", lambda: (Call(lambda a: F.max_pool2d(a, 2)).eval(), (integers(torch.quint8),))),
    Case("edge.int8_in_out", lambda: (Call(lambda a: F.max_pool2d(a, 2)).eval(), (integers(torch.qint8),))),
    Case("edge.uint8_passed", lambda: (Call(lambda a: (a, torch.relu(a))).eval(), (integers(torch.quint8),))),
    Case("edge.int8_view_out", lambda: (Call(lambda a: a.permute(0, 2, 3, 1)).eval(), (integers(torch.qint8),))),
    Case("edge.qparams_in_tensors", lambda: floating(quantized_by_tensors, (2, 5))),
    Case("edge.rank5", lambda: floating(lambda a: (a + 1).permute(0, 4, 1, 2, 3), (2, 3, 5, 1, 7))),
]  # fmt: skip
