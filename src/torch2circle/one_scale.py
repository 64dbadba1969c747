"""Weights with a scale for each output channel, requantized to one scale, for a runtime whose kernels are many times faster then.

PyTorch computes with the requantized weights while it is recorded. So what is lowered and verified is that computation, and what it
costs is measured on the way, layer by layer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric)
PACKED = re.compile(r"_?quantized::(conv\dd|linear)(_relu|_add|_add_relu|_leaky_relu|_tanh)?(\.new)?")
FLOAT = re.compile(r"aten::(linear|conv\dd|conv_transpose\dd|convolution)\b")
LARGEST = 127


def per_tensor(weight: Tensor) -> Tensor:
    """The weight [O, ...] or [I, O, ...] in int8 with one scale and zero point 0: the largest magnitude is 127, and none is cut off."""
    real = weight.dequantize()
    scale = float(real.abs().max()) / LARGEST or 1.0
    return torch.quantize_per_tensor(real, scale, 0, torch.qint8)


def with_one_scale(op: str, bound: Mapping[str, Any], stored: Callable[[Any], Tensor | None]) -> tuple[str, Any, Tensor, Tensor] | None:
    """The argument of a call that holds its weight: its name and what takes its place, and the weight before and after.

    None for other calls, and for depthwise convolutions: their kernels gain little, and their channels differ most.

    Args:
        stored: the quantized constant that a float one was dequantized from.
    """
    if PACKED.fullmatch(op):
        name, packed = next((item for item in bound.items() if isinstance(item[1], torch.ScriptObject)), ("", None))
        weight, bias = (None, None) if packed is None else cast(Any, packed).unpack()
    elif FLOAT.match(op):
        name, packed, bias, weight = "weight", None, None, stored(bound.get("weight"))
    else:
        return None
    if weight is None or weight.qscheme() not in PER_CHANNEL or is_depthwise(weight, bound, packed):
        return None
    made = per_tensor(weight)
    return name, made.dequantize() if packed is None else packed_again(op, packed, made, bias), weight, made


def is_depthwise(weight: Tensor, bound: Mapping[str, Any], packed: Any) -> bool:
    """Whether each group has one channel to read."""
    groups = bound.get("groups", 1) if packed is None else packed.groups() if hasattr(packed, "groups") else 1
    transposed = weight.q_per_channel_axis() == 1
    return groups > 1 and (weight.shape[0] == groups if transposed else weight.shape[1] == 1)


def packed_again(op: str, packed: Any, weight: Tensor, bias: Tensor | None) -> Any:
    """``packed`` with another weight, for the same engine."""
    quantized = torch.ops.quantized
    if "linear" in op:
        return quantized.linear_prepack(weight, bias)
    prepack = quantized.conv3d_prepack if weight.dim() == 5 else quantized.conv2d_prepack  # lines are packed as images of one row
    return prepack(weight, bias, packed.stride(), packed.padding(), packed.dilation(), packed.groups())


def decibels(wanted: Tensor, found: Tensor) -> str:
    """The ratio of signal to noise, 10 log10(sum wanted^2 / sum (found - wanted)^2)."""
    wanted, found = (x.dequantize().double() for x in (wanted, found))
    noise = float((found - wanted).square().sum())
    return f"{10 * math.log10(float(wanted.square().sum()) / noise):.1f} dB" if noise and wanted.any() else "no loss"


def cost(weight: Tensor, made: Tensor, wanted: Tensor, found: Tensor) -> str:
    """What a layer loses, in words: of its weights, and of its result."""
    channels = len(weight.q_per_channel_scales())
    text = f"one weight scale instead of {channels}: weights {decibels(weight, made)} (SQNR), result {decibels(wanted, found)}"
    if not wanted.is_quantized:
        return text
    return f"{text}, up to {int((wanted.int_repr().int() - found.int_repr().int()).abs().max())} LSB"
