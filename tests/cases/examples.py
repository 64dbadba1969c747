"""The small models that Circle's own toolchain is tried on, in our own writing: float, and quantized where PyTorch can.

They are named after PyTorch's modules and functions.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import AVERAGE, EXACT, FLOAT, SYMMETRIC, WEIGHTED, Case, Made, Seq, Shape, eager, floating, inputs, ints, seeded
from .unary import LEAKY

IMAGE = (1, 2, 6, 10)
TWO = (IMAGE, IMAGE)
BODY = Callable[..., Any]


def batch_to_space(x: Tensor) -> Tensor:
    """Blocks of 2x2 from the batch into the image, with one row cropped off."""
    n, c, h, w = x.shape
    return x.view(2, 2, n // 4, c, h, w).permute(2, 3, 4, 0, 5, 1).reshape(n // 4, c, 2 * h, 2 * w)[:, :, 1:]


def space_to_batch(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(3, 5, 0, 1, 2, 4).reshape(4 * n, c, h // 2, w // 2)


def space_to_depth(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def yuv_to_rgb() -> nn.Module:
    conv = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1, 0, 1.13983], [1, -0.39465, -0.5806], [1, 2.03211, 0]])[:, :, None, None])
    return conv


def sequence(module: nn.Module, size: int = 4, layers: int = 1, states: int = 0) -> Made:
    """A recurrent network on (5 steps, batch of 2); ``states`` initial ones are given."""
    return seeded(module), (inputs([(5, 2, 3)])[0], *given_states(size, layers, states))


def given_states(size: int, layers: int, states: int) -> tuple[Any, ...]:
    made = tuple(x / 8 for x in inputs([(layers, 2, size)] * states, seed=2))
    return (made,) if states == 2 else made


def logical(function: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: function(a > 0, b > 0)


class Distance(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.dist(x, y)


# name -> what it computes, and the shapes of its inputs
FLOATS: dict[str, tuple[BODY, tuple[Shape, ...]]] = {
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(2), (IMAGE,)),
    "AdaptiveMaxPool2d": (nn.AdaptiveMaxPool2d((2, 3)), ((1, 2, 6, 9),)),
    "AvgPool2d": (nn.AvgPool2d(2), (IMAGE,)),
    "AvgPool2d.3_2": (nn.AvgPool2d((3, 2), 2, padding=(1, 0)), (IMAGE,)),
    "BatchNorm2d": (nn.BatchNorm2d(2), (IMAGE,)),
    "BatchToSpaceND": (batch_to_space, ((8, 3, 5, 7),)),
    "Bilinear": (nn.Bilinear(4, 3, 5), ((6, 4), (6, 3))),
    "ConstantPad2d": (nn.ConstantPad2d(1, 3.5), (IMAGE,)),
    "ConstantPad2d.zero": (nn.ConstantPad2d((1, 2, 0, 1), 0.0), (IMAGE,)),
    "ConstantPad2d.rank3": (nn.ConstantPad2d(2, -1.5), ((2, 6, 10),)),
    "ConstantPad2d.crop": (nn.ConstantPad2d((-1, 1, 1, -1), 0.5), (IMAGE,)),
    "Conv2d": (nn.Conv2d(2, 5, 3), (IMAGE,)),
    "Conv2d.dilated": (nn.Conv2d(2, 5, 3, dilation=2), (IMAGE,)),
    "Conv2d.depthwise": (nn.Conv2d(2, 2, 3, groups=2), (IMAGE,)),
    "Conv2d.padding": (nn.Conv2d(2, 5, 3, padding=1), (IMAGE,)),
    "Conv2d.yuv_to_rgb": (yuv_to_rgb(), ((1, 3, 6, 10),)),
    "ConvTranspose2d": (nn.ConvTranspose2d(2, 5, 3, stride=2, output_padding=1), (IMAGE,)),
    "ELU": (nn.ELU(), (IMAGE,)),
    "Flatten": (nn.Flatten(), (IMAGE,)),
    "InstanceNorm2d": (nn.InstanceNorm2d(2, affine=True), (IMAGE,)),
    "LPPool2d": (nn.LPPool2d(2, 2), (IMAGE,)),
    "LeakyReLU": (nn.LeakyReLU(0.2), (IMAGE,)),
    "Linear": (nn.Linear(10, 7), ((6, 10),)),
    "LocalResponseNorm": (nn.LocalResponseNorm(3), ((1, 8, 5, 7),)),
    "LogSoftmax": (nn.LogSoftmax(1), ((6, 10),)),
    "MaxPool2d": (nn.MaxPool2d(3, 2), (IMAGE,)),
    "PReLU": (nn.PReLU(), (IMAGE,)),
    "PReLU.conv1d": (Seq(nn.Conv1d(2, 5, 3), nn.PReLU(5)), ((1, 2, 9),)),
    "PReLU.conv2d": (Seq(nn.Conv2d(2, 5, 3), nn.PReLU(5)), (IMAGE,)),
    "PixelShuffle": (nn.PixelShuffle(2), ((1, 8, 3, 5),)),
    "ReLU": (nn.ReLU(), (IMAGE,)),
    "ReLU6": (nn.ReLU6(), (IMAGE,)),
    "Sigmoid": (nn.Sigmoid(), (IMAGE,)),
    "Softmax": (nn.Softmax(1), (IMAGE,)),
    "SpaceToBatchND": (space_to_batch, ((2, 3, 6, 10),)),
    "SpaceToDepth": (space_to_depth, ((2, 3, 6, 10),)),
    "Tanh": (nn.Tanh(), (IMAGE,)),
    "UpsamplingNearest2d": (nn.UpsamplingNearest2d(scale_factor=2), (IMAGE,)),
    "abs": (torch.abs, (IMAGE,)),
    "add": (torch.add, TWO),
    "argmax": (lambda a: torch.argmax(a, 1), (IMAGE,)),
    "argmin": (lambda a: torch.argmin(a, -1), (IMAGE,)),
    "cat": (lambda a, b: torch.cat((a, b), 0), TWO),
    "cat.channels": (lambda a, b: torch.cat((a, b), 1), TWO),
    "clamp": (lambda a: torch.clamp(a, -1.5, 2.5), (IMAGE,)),
    "cos": (torch.cos, (IMAGE,)),
    "dist": (Distance(), TWO),
    "div": (lambda a, b: a / (b.abs() + 1), TWO),
    "floor": (torch.floor, (IMAGE,)),
    "floor_divide": (lambda a, b: torch.floor_divide(a, b.abs() + 1), TWO),
    "ge": (torch.ge, TWO),
    "gt": (torch.gt, TWO),
    "interpolate": (lambda a: F.interpolate(a, scale_factor=2, mode="bilinear", align_corners=False), (IMAGE,)),
    "le": (torch.le, TWO),
    "log": (lambda a: torch.log(a.abs() + 1), (IMAGE,)),
    "logical_and": (logical(torch.logical_and), TWO),
    "logical_or": (logical(torch.logical_or), TWO),
    "logical_xor": (logical(torch.logical_xor), TWO),
    "lt": (torch.lt, TWO),
    "matmul": (torch.matmul, ((6, 4), (4, 5))),
    "min": (torch.min, TWO),
    "min.dim": (lambda a: torch.min(a, 1)[0], (IMAGE,)),
    "mul": (torch.mul, TWO),
    "ne": (torch.ne, TWO),
    "neg": (torch.neg, (IMAGE,)),
    "normalize": (lambda a: F.normalize(a, dim=1), (IMAGE,)),
    "permute": (lambda a: a.permute(0, 3, 1, 2), (IMAGE,)),
    "pow": (lambda a: torch.pow(a.abs() + 0.5, 1.5), (IMAGE,)),
    "reshape": (lambda a: torch.reshape(a, (4, 30)), (IMAGE,)),
    "rsqrt": (lambda a: torch.rsqrt(a.abs() + 1), (IMAGE,)),
    "sin": (torch.sin, (IMAGE,)),
    "slice": (lambda a: a[:, :, 1:4], (IMAGE,)),
    "split": (lambda a: torch.split(a, 2, 2), (IMAGE,)),
    "split.sizes": (lambda a: torch.split(a, [1, 5, 4], 3), (IMAGE,)),
    "split.uneven": (lambda a: torch.split(a, 4, 3), (IMAGE,)),
    "sqrt": (lambda a: torch.sqrt(a.abs()), (IMAGE,)),
    "squeeze": (torch.squeeze, ((1, 6, 1, 10),)),
    "squeeze.dim": (lambda a: torch.squeeze(a, 2), ((1, 6, 1, 10),)),
    "strided_slice": (lambda a: a[:, :, ::2, 1::3], (IMAGE,)),
    "sub": (torch.sub, TWO),
    "sum": (lambda a: torch.sum(a, (2, 3)), (IMAGE,)),
    "where": (lambda a, b: torch.where(a > b, a, b * 2), TWO),
    "zeros_like": (lambda a: torch.zeros_like(a) + a, (IMAGE,)),
}  # fmt: skip
SEQUENCES: dict[str, Callable[[], Made]] = {
    "LSTM": lambda: sequence(nn.LSTM(3, 4), states=2),
    "LSTM.no_initial_state": lambda: sequence(nn.LSTM(3, 4)),
    "LSTM.no_bias": lambda: sequence(nn.LSTM(3, 4, bias=False), states=2),
    "LSTM.bidirectional": lambda: sequence(nn.LSTM(3, 4, bidirectional=True), layers=2, states=2),
    "RNN": lambda: sequence(nn.RNN(3, 4), states=1),
    "RNN.relu": lambda: sequence(nn.RNN(3, 4, nonlinearity="relu"), states=1),
    "RNN.no_initial_state": lambda: sequence(nn.RNN(3, 4)),
    "RNN.no_bias": lambda: sequence(nn.RNN(3, 4, bias=False), states=1),
    "RNN.bidirectional": lambda: sequence(nn.RNN(3, 4, bidirectional=True), layers=2, states=1),
}

# How PyTorch quantizes them: a converted module, or an operator on quantized tensors.
EAGER = ("BatchNorm2d", "Conv2d", "Conv2d.dilated", "Conv2d.depthwise", "Conv2d.padding", "Conv2d.yuv_to_rgb", "ELU", "InstanceNorm2d",
         "LeakyReLU", "Linear", "AdaptiveAvgPool2d", "ReLU6", "Sigmoid", "Tanh")  # fmt: skip
ON_INTEGERS = ("AvgPool2d", "MaxPool2d", "ConstantPad2d", "Flatten", "PixelShuffle", "ReLU", "UpsamplingNearest2d", "clamp", "interpolate",
               "min.dim", "permute", "reshape", "slice", "split", "split.sizes", "squeeze", "strided_slice", "BatchToSpaceND",
               "SpaceToDepth")  # fmt: skip

NEARS = {"AvgPool2d": AVERAGE, "LeakyReLU": LEAKY}


def made(how: Callable[..., Made], name: str, **options: Any) -> Made:
    """Of a copy, since quantization leaves its marks on the module."""
    body, shapes = FLOATS[name]
    return how(deepcopy(body), *shapes, **options)


CASES = [
    *(Case(f"example.{name}", partial(made, floating, name), FLOAT) for name in FLOATS),
    *(Case(f"example.{name}", make, FLOAT) for name, make in SEQUENCES.items()),
    *(Case(f"example.{name}.quantized", partial(made, eager, name), NEARS.get(name, WEIGHTED)) for name in EAGER),
    Case("example.ConvTranspose2d.quantized", partial(made, eager, "ConvTranspose2d", weight=SYMMETRIC), WEIGHTED),
    *(Case(f"example.{name}.quantized", partial(made, ints, name), NEARS.get(name, EXACT)) for name in ON_INTEGERS),
]
