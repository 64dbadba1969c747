"""Convolutions."""

from __future__ import annotations

import torch
from torch import nn

from .making import AFFINE, FLOAT, NCHW, NO_BIAS, PER_CHANNEL, SYMMETRIC, WEIGHTED, Case, Seq, Weighted, conv_relu, eager, floating

CASES = [
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
]  # fmt: skip
