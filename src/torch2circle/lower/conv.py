"""Convolutions, dense, depthwise and grouped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..ir import Value
from ..quant import Weights
from .context import Context
from .registry import Order, lowers
from .weighted import weighted
from .window import padded_same, padded_window

OHWI, DEPTHWISE = (0, 2, 3, 1), (1, 2, 3, 0)


@lowers("quantized::conv2d.new", order=Order.LAST, act="NONE")
@lowers("quantized::conv2d_relu.new", order=Order.LAST, act="RELU")
def quantized_conv2d(c: Context, x: Value, packed_weight: Any, act: str) -> Value:
    p = packed_weight
    return conv2d(c, x, Weights.packed(p, c.where), p.stride(), p.padding(), p.dilation(), p.groups(), act)


@lowers("aten::conv2d", order=Order.LAST)
@lowers("aten::conv2d.padding", order=Order.LAST)
def float_conv2d(
    c: Context,
    x: Value,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    return conv2d(c, x, Weights.of(weight, bias), stride, padding, dilation, groups, "NONE")


@lowers("aten::convolution", order=Order.LAST)
@lowers("aten::_convolution", order=Order.LAST, ignores=("benchmark", "deterministic", "allow_tf32"))
def convolution(
    c: Context, x: Value, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, output_padding: Sequence[int], groups: int,
) -> Value:  # fmt: skip
    c.only(not transposed and not any(output_padding), "transposed", transposed, "False")
    c.only(weight.dim() == 4, "number of spatial dimensions", weight.dim() - 2, "2")
    return conv2d(c, x, Weights.of(weight, bias), stride, padding, dilation, groups, "NONE")


def conv2d(
    c: Context,
    x: Value,
    weights: Weights,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
    act: str,
) -> Value:
    """CONV_2D, or DEPTHWISE_CONV_2D where every group has one channel."""
    channels, (kh, kw) = x.type.shape[3], weights.type.shape[2:]
    pads = padded_same(padding, (kh, kw), dilation) if isinstance(padding, str) else padding
    x, padding = padded_window(c, x, (kh, kw), _pair(stride), _pair(pads), _pair(dilation))
    (stride_h, stride_w), (dilation_h, dilation_w) = _pair(stride), _pair(dilation)
    window = {"stride_h": stride_h, "stride_w": stride_w, "dilation_h_factor": dilation_h, "dilation_w_factor": dilation_w}
    attrs: dict[str, Any] = {**window, "padding": padding, "fused_activation_function": act}

    def documented(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        real = torch.nn.functional.conv2d(image, weight, bias, stride, pads, dilation, groups)
        return real.relu() if act == "RELU" else real

    if groups == channels and groups > 1:
        return weighted(c, "DEPTHWISE_CONV_2D", x, weights, DEPTHWISE, documented, depth_multiplier=c.out_shape[1] // channels, **attrs)
    return weighted(c, "CONV_2D", x, weights, OHWI, documented, **attrs)


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (value[0], value[-1])
