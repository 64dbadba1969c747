"""What cases are made of: models, inputs, and how near a result must be. ``test_ops`` runs each case in each runtime.

Every dimension has another extent, so that no two can be mistaken for each other. Weights, inputs and ranges are the same on any
machine: they come from numpy, and calibrated ranges are rounded, so that the last bit of a float kernel does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.ao.nn.intrinsic as nni
from torch import Tensor, nn
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver, QConfig, convert, prepare
from torch.ao.quantization.observer import ObserverBase

import torch2circle
from torch2circle.pipeline import ExportedModel

Made = tuple[nn.Module, tuple[Any, ...]]
Shape = tuple[int, ...]
Q = torch.ops.quantized
Seq = nn.Sequential

RUNTIMES = ("onert", "litert")


@dataclass(frozen=True)
class Near:
    """How far each operator of a case may be off on ``targets``, and which share of its elements must be equal; ``reason``: why not all.

    ``sqnr`` is what the ratio of signal to noise must be at least, in dB.
    """

    lsb: float
    share: float
    reason: str
    targets: tuple[str, ...] = RUNTIMES
    sqnr: float = -np.inf


EXACT = Near(0, 1, "")
FLOAT = Near(0.05, 1, "the runtimes add products in another order and have their own exp; a step is 2**-16 of the largest magnitude")
WEIGHTED = Near(1, 0.98, "PyTorch adds the bias in float32, the file has it in int32; onert also rounds a fixed-point product twice")
ADDED = Near(1, 0.45, "a layer that something is added to has integers of its own: they are rounded by up to a step of the result")
NO_BIAS = Near(1, 0.98, "onert rounds a fixed-point product, where PyTorch and XNNPACK multiply in float32", ("onert",))
PRODUCT = Near(1, 0.98, "onert multiplies by a factor in fixed point, rounded twice", ("onert",))
GATED = replace(WEIGHTED, share=0.97, reason=f"{WEIGHTED.reason}; {PRODUCT.reason}")
SWISH = Near(1, 0.98, "LiteRT computes x * relu6(x + 3) / 6 in 16-bit fixed point", ("litert",))
AVERAGE = Near(1, 0.85, "onert rounds an average that lies half way between two integers upwards, PyTorch to even", ("onert",))


@dataclass(frozen=True)
class Case:
    """A model and its inputs; each operator must be bit-equal to PyTorch's, or as ``near`` allows.

    ``options`` are those of ``export``; ``refused`` says for a target that cannot run it what is said instead.
    """

    id: str
    make: Callable[[], Made]
    near: Near = EXACT
    options: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def exported(self) -> ExportedModel:
        model, args = self.make()
        return torch2circle.export(model, args, **self.options)


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
        return [in_float(part) for part in made] if isinstance(made, (list, tuple)) else in_float(made)


def in_float(made: Tensor) -> Tensor:
    return made.dequantize() if made.is_quantized else made


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
