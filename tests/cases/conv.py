"""Convolutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.ao.nn.intrinsic as nni
from torch import Tensor, nn

from .making import (
    ADDED,
    AFFINE,
    FLOAT,
    NCHW,
    NO_BIAS,
    PER_CHANNEL,
    SYMMETRIC,
    WEIGHTED,
    Case,
    Made,
    PerChannelMinMaxObserver,
    Q,
    Seq,
    Shape,
    Weighted,
    conv_relu,
    eager,
    floating,
    inputs,
)

AFFINE_CHANNELS = PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_affine)
Change = Callable[[Tensor], Tensor]


class Packed(nn.Module):
    """An operator by its name, on ``x`` in seven bits and packed weights; a second operand is what ``also`` makes of ``x``."""

    def __init__(
        self, op: Callable[..., Tensor], packed: Any, rest: Sequence[Any], scale: float, also: Change | None, last: Sequence[Any]
    ) -> None:
        super().__init__()
        self.op, self.packed, self.rest, self.scale, self.also, self.last = op, packed, rest, scale, also, last

    def forward(self, x: Tensor) -> Tensor:
        x = torch.quantize_per_tensor(x, 0.0641713, 63, torch.quint8)
        first = (x,) if self.also is None else (x, self.also(x))
        return self.op(*first, self.packed, *self.rest, self.scale, 74, *self.last).dequantize()


def stored(shape: Shape, *, axis: int | None = 0, zero_points: int = 0, largest: int = 127) -> Tensor:
    """A quantized weight; along ``axis``, scales a factor of 3 apart, and zero points of either sign."""
    rng = np.random.default_rng(7)
    integers = torch.from_numpy(rng.integers(-largest, largest + 1, shape).astype(np.int8))
    integers.view(len(integers), -1)[:, 0] = -largest - 1
    if axis is None:
        return torch._make_per_tensor_quantized_tensor(integers, 0.00471, zero_points)
    count = shape[axis]
    scales = rng.permutation(np.geomspace(0.0031, 0.0093, count))
    zeros = rng.permutation(np.linspace(-zero_points, zero_points, count).round().astype(np.int64))
    return torch._make_per_channel_quantized_tensor(integers, torch.from_numpy(scales), torch.from_numpy(zeros), axis)


def packed(
    op: Callable[..., Tensor], prepack: Callable[..., Any], weight: Tensor, units: int, x: Shape, *arguments: Any,
    rest: Sequence[Any] = (), engine: str = "fbgemm", also: Change | None = None, scale: float = 0.317,
    last: Sequence[Any] = (),
) -> Made:  # fmt: skip
    """``arguments`` of ``prepack`` stand behind weight and bias; those of ``op`` behind the packed weights (``rest``), or ``last``."""
    torch.backends.quantized.engine = engine
    bias = torch.from_numpy(np.random.default_rng(8).uniform(-1, 1, units).astype(np.float32))
    return Packed(op, prepack(weight, bias, *arguments), rest, scale, also, last).eval(), inputs([x])


def conv1d_relu(*args: Any, **kwargs: Any) -> nn.Module:
    return nni.ConvReLU1d(nn.Conv1d(*args, **kwargs), nn.ReLU())


def conv3d_relu(*args: Any, **kwargs: Any) -> nn.Module:
    return nni.ConvReLU3d(nn.Conv3d(*args, **kwargs), nn.ReLU())


def five(x: Tensor) -> Tensor:
    """Another image, of five channels, a row and a column smaller at each end."""
    return torch.quantize_per_tensor(torch.cat([x.dequantize()] * 2, 1)[:, :5, 1:-1, 1:-1] / 2, 0.0171, 112, torch.quint8)


NCL, NCDHW = (2, 3, 17), (2, 3, 5, 7, 9)
SLIDING = [1, 1], [0, 0], [1, 1], 1
LINE, VOLUME = ([2], [1], [1], 1), ([1, 2, 1], [1, 0, 1], [1, 1, 1], 1)

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
    Case("float.conv_unbatched", lambda: floating(nn.Conv2d(3, 8, 3, padding=1), (3, 9, 11)), FLOAT),
    Case("float._convolution_deprecated", lambda: floating(Weighted(
        torch.ops.aten._convolution.deprecated, (5, 3, 3, 3), [2, 1], [1, 1], [1, 1], False, [0, 0], 1, False, False, True), NCHW), FLOAT),
    # -- weights that are packed by hand: the axis of the scales shows, and old operators have more arguments
    Case("conv.scales", lambda: packed(Q.conv2d.new, Q.conv2d_prepack, stored((5, 3, 3, 3)), 5, NCHW, *SLIDING), WEIGHTED),
    Case("conv.legacy", lambda: packed(
        Q.conv2d.default, Q.conv2d_prepack, stored((5, 3, 3, 3)), 5, NCHW, *SLIDING, rest=SLIDING), WEIGHTED),
    Case("conv.legacy_relu", lambda: packed(
        Q.conv2d_relu.default, Q.conv2d_prepack, stored((5, 3, 3, 3)), 5, NCHW, *SLIDING, rest=SLIDING), WEIGHTED),
    Case("conv.internal", lambda: packed(
        torch.ops._quantized.conv2d, torch.ops._quantized.conv2d_prepack, stored((5, 3, 3, 3)), 5, NCHW, *SLIDING), WEIGHTED),
    Case("conv.internal_relu", lambda: packed(
        torch.ops._quantized.conv2d_relu, torch.ops._quantized.conv2d_prepack, stored((5, 3, 3, 3)), 5, NCHW, *SLIDING), WEIGHTED),
    Case("conv.add", lambda: packed(
        Q.conv2d_add, Q.conv2d_prepack, stored((5, 3, 3, 3)), 5, NCHW, *SLIDING, engine="onednn", also=five), ADDED),
    Case("conv.add_relu", lambda: packed(
        Q.conv2d_add_relu, Q.conv2d_prepack, stored((5, 3, 3, 3)), 5, NCHW, *SLIDING, engine="onednn", also=five), ADDED),
    # -- a zero point for each channel: 2 parts of the weight, 1 and 3
    Case("conv.affine_channels", lambda: packed(
        Q.conv2d.new, Q.conv2d_prepack, stored((5, 3, 3, 3), zero_points=120), 5, NCHW, [2, 1], [1, 0], [1, 2], 1), WEIGHTED),
    Case("conv.affine_channels_small", lambda: packed(
        Q.conv2d.new, Q.conv2d_prepack, stored((5, 3, 3, 3), zero_points=60, largest=63), 5, NCHW, *SLIDING), WEIGHTED),
    Case("conv.affine_channels_wide", lambda: packed(
        Q.conv2d.new, Q.conv2d_prepack, stored((5, 3, 3, 3), zero_points=127), 5, NCHW, *SLIDING, scale=0.917), WEIGHTED),
    Case("conv.affine_channels_observed", lambda: eager(nn.Conv2d(3, 5, 3), NCHW, weight=AFFINE_CHANNELS), WEIGHTED),
    Case("conv.affine_channels_grouped", lambda: packed(
        Q.conv2d_relu.new, Q.conv2d_prepack, stored((6, 2, 3, 3), zero_points=120), 6, (2, 4, 9, 11), [1, 2], [0, 2], [2, 1], 2), WEIGHTED),
    Case("conv.affine_channels_depthwise", lambda: packed(
        Q.conv2d.new, Q.conv2d_prepack, stored((6, 1, 3, 2), zero_points=120), 6, (2, 3, 9, 11), [2, 1], [1, 0], [1, 1], 3), WEIGHTED),
    Case("conv.affine_channels_same", lambda: packed(
        Q.conv2d.new, Q.conv2d_prepack, stored((6, 1, 3, 3), zero_points=120), 6, (2, 6, 9, 12), [2, 1], [1, 1], [1, 1], 6), WEIGHTED),
    # -- lines
    Case("conv1d", lambda: eager(nn.Conv1d(3, 8, 4), NCL), WEIGHTED),
    Case("conv1d.relu", lambda: eager(conv1d_relu(3, 8, 3, padding=1), NCL), WEIGHTED),
    Case("conv1d.no_bias_stride2", lambda: eager(nn.Conv1d(3, 8, 3, stride=2, padding=1, bias=False), NCL), NO_BIAS),
    Case("conv1d.dilated", lambda: eager(nn.Conv1d(3, 8, 3, dilation=2, padding=3), NCL, engine="x86"), WEIGHTED),
    Case("conv1d.grouped", lambda: eager(nn.Conv1d(6, 9, 3, groups=3), (2, 6, 17)), WEIGHTED),
    Case("conv1d.depthwise", lambda: eager(nn.Conv1d(5, 10, 3, groups=5, padding=1), (2, 5, 17)), WEIGHTED),
    Case("conv1d.affine", lambda: eager(nn.Conv1d(3, 8, 3), NCL, weight=AFFINE), WEIGHTED),
    Case("conv1d.qnnpack", lambda: eager(nn.Conv1d(3, 8, 3, padding=1), NCL, engine="qnnpack"), WEIGHTED),
    Case("conv1d.onednn", lambda: eager(conv1d_relu(3, 8, 3), NCL, engine="onednn"), WEIGHTED),
    Case("conv1d.two", lambda: eager(Seq(conv1d_relu(3, 4, 3), nn.Conv1d(4, 5, 1)), NCL), WEIGHTED),
    Case("conv1d.scales", lambda: packed(Q.conv1d, Q.conv1d_prepack, stored((5, 3, 3)), 5, NCL, *LINE), WEIGHTED),
    Case("float.conv1d", lambda: floating(nn.Conv1d(3, 8, 4, stride=3, padding=2), NCL), FLOAT),
    Case("float.conv1d_relu", lambda: floating(Seq(nn.Conv1d(3, 8, 4), nn.ReLU()), NCL), FLOAT),
    Case("float.conv1d_batch_norm", lambda: floating(Seq(nn.Conv1d(3, 8, 4), nn.BatchNorm1d(8), nn.ReLU()), NCL), FLOAT),
    Case("float.conv1d_same", lambda: floating(nn.Conv1d(3, 8, 4, padding="same", dilation=2), NCL), FLOAT),
    Case("float.conv1d_unbatched", lambda: floating(nn.Conv1d(3, 8, 4, groups=1), (3, 17)), FLOAT),
    Case("float.convolution_1d", lambda: floating(Weighted(torch.convolution, (5, 3, 3), [2], [1], [2], False, [0], 1), NCL), FLOAT),
    # -- volumes
    Case("conv3d", lambda: eager(nn.Conv3d(3, 8, (2, 3, 4)), NCDHW), WEIGHTED),
    Case("conv3d.relu", lambda: eager(conv3d_relu(3, 8, 3, padding=(1, 0, 1)), NCDHW), WEIGHTED),
    Case("conv3d.no_bias", lambda: eager(nn.Conv3d(3, 8, 3, bias=False), NCDHW), NO_BIAS),
    Case("conv3d.1x1", lambda: eager(nn.Conv3d(3, 8, 1), NCDHW), WEIGHTED),
    Case("conv3d.flat", lambda: eager(nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1)), NCDHW), WEIGHTED),
    Case("conv3d.deep", lambda: eager(nn.Conv3d(3, 8, (3, 1, 1), padding=(1, 0, 0)), NCDHW), WEIGHTED),
    Case("conv3d.strided", lambda: eager(nn.Conv3d(3, 8, 3, stride=(2, 1, 3), padding=1), NCDHW, engine="x86"), WEIGHTED),
    Case("conv3d.dilated", lambda: eager(nn.Conv3d(3, 8, (2, 3, 2), dilation=(3, 2, 1), padding=(1, 2, 0)), NCDHW), WEIGHTED),
    Case("conv3d.grouped", lambda: eager(nn.Conv3d(6, 9, (2, 3, 3), groups=3, padding=(0, 1, 1)), (2, 6, 4, 7, 5)), WEIGHTED),
    Case("conv3d.grouped_dilated", lambda: eager(nn.Conv3d(6, 4, 3, groups=2, dilation=2, padding=2), (2, 6, 4, 7, 5)), WEIGHTED),
    Case("conv3d.depthwise", lambda: eager(nn.Conv3d(5, 5, 3, groups=5, padding=1, stride=(1, 2, 2)), (2, 5, 4, 7, 9)), WEIGHTED),
    Case("conv3d.depthwise_x2", lambda: eager(nn.Conv3d(3, 6, (3, 2, 1), groups=3), NCDHW), WEIGHTED),
    Case("conv3d.affine", lambda: eager(nn.Conv3d(3, 8, 3), NCDHW, weight=AFFINE), WEIGHTED),
    Case("conv3d.affine_grouped_dilated", lambda: eager(
        nn.Conv3d(6, 4, 3, groups=2, dilation=2, padding=2), (2, 6, 4, 7, 5), weight=AFFINE), WEIGHTED),
    Case("conv3d.onednn", lambda: eager(nn.Conv3d(3, 8, 3, padding=1), NCDHW, engine="onednn"), WEIGHTED),
    Case("conv3d.scales", lambda: packed(
        Q.conv3d.new, Q.conv3d_prepack, stored((5, 3, 3, 2, 3)), 5, NCDHW, *VOLUME, scale=0.717), WEIGHTED),
    Case("conv3d.legacy", lambda: packed(
        Q.conv3d.default, Q.conv3d_prepack, stored((5, 3, 3, 2, 3)), 5, NCDHW, *VOLUME, rest=VOLUME, scale=0.717), WEIGHTED),
    Case("conv3d.legacy_relu", lambda: packed(
        Q.conv3d_relu.default, Q.conv3d_prepack, stored((5, 3, 3, 2, 3)), 5, NCDHW, *VOLUME, rest=VOLUME, scale=0.717), WEIGHTED),
    Case("float.conv3d", lambda: floating(nn.Conv3d(3, 8, (3, 2, 3), stride=(1, 2, 1), padding=(1, 1, 0)), NCDHW), FLOAT),
    Case("float.conv3d_same", lambda: floating(nn.Conv3d(3, 8, (1, 3, 5), padding="same"), NCDHW), FLOAT),
    Case("float.conv3d_depthwise", lambda: floating(nn.Conv3d(3, 6, 3, groups=3, dilation=(1, 2, 1), padding=1), NCDHW), FLOAT),
    Case("float.conv3d_unbatched", lambda: floating(nn.Conv3d(3, 8, 3, padding=1), NCDHW[1:]), FLOAT),
    Case("float.convolution_3d", lambda: floating(
        Weighted(torch.convolution, (5, 3, 2, 3, 1), [1, 2, 1], [0, 1, 0], [2, 1, 1], False, [0, 0, 0], 1), NCDHW), FLOAT),
]  # fmt: skip
