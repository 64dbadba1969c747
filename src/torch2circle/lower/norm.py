"""Normalization: by statistics that the model keeps, or by those of each example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..ir import Array, Value
from ..quant import Weights, array_of
from .context import Context, Placed, channels_last, reshaped
from .conv import as_result
from .formula import part
from .reduce import reduced
from .registry import Order, lowers
from .weighted import Documented, weight_and_bias

# -- by statistics that the model keeps


@lowers("aten::batch_norm", "aten::native_batch_norm", ignores=("momentum",))
@lowers("aten::_native_batch_norm_legit_no_training", ignores=("momentum",), training=False)
def batch_norm(
    c: Context, x: Value, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
    running_var: Tensor | None, training: bool, eps: float
) -> Sequence[Value | None]:
    """One product and one sum a channel; without kept statistics those of the batch."""
    if running_mean is None or running_var is None:
        return batch_statistics_norm(c, x, weight, bias, training, eps)
    c.only(not training, "training", training, "False")
    factor, offset = factor_and_offset(weight, bias, running_mean, running_var, eps)
    return _alone(c, _affine(c, x, _along_channels(c, factor), _along_channels(c, offset)))


@lowers("aten::_native_batch_norm_legit.no_stats", ignores=("momentum",))
def batch_statistics_norm(
    c: Context, x: Value, weight: Tensor | None, bias: Tensor | None, training: bool, eps: float
) -> Sequence[Value | None]:
    c.only(training, "running_mean", None, "the statistics that the model keeps")
    normal = _standardized(c, x, [axis for axis in range(x.type.rank) if axis != c.axis(1)], eps)
    return _alone(c, _affine(c, normal, *(p if p is None else _along_channels(c, array_of(p)) for p in (weight, bias))))


def factor_and_offset(weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> tuple[Array, Array]:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` as a product and a sum, in float64."""
    factor = (1 if weight is None else array_of(weight)) / np.sqrt(array_of(var).astype(np.float64) + eps)
    return factor, (0 if bias is None else array_of(bias)) - array_of(mean) * factor


QUANTIZED = ("quantized::batch_norm", "quantized::batch_norm1d", "quantized::batch_norm2d", "quantized::batch_norm3d")


@lowers(*QUANTIZED, "aten::quantized_batch_norm", order=Order.FREE, act="NONE")
@lowers(*(f"{name}_relu" for name in QUANTIZED), order=Order.FREE, act="RELU")
def quantized_batch_norm(
    c: Context, x: Placed, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float, act: str
) -> Value:
    """A depthwise convolution with one pixel: a channel's factor is its scale, and 127 or -127 its weight."""
    value = c.builder.arrange(x, channels_last(len(x.order)))
    n, *sizes, channels = value.type.shape
    image = reshaped(c, value, (n, prod(sizes[:-1]), prod(sizes[-1:]), channels))
    factor, offset = factor_and_offset(weight, bias, mean, var, eps)
    scales = np.where(factor == 0, 1, np.abs(factor)) / 127
    integers = torch.from_numpy(np.sign(factor).astype(np.int8) * 127)
    weights = torch._make_per_channel_quantized_tensor(integers, torch.from_numpy(scales), torch.zeros(channels, dtype=torch.int64), 0)

    def documented(real: Tensor, factor: Tensor, offset: Tensor | None) -> Tensor:
        assert offset is not None
        shape = (-1, *[1] * len(sizes))
        real = real * factor.view(shape) + offset.view(shape)
        return real.relu() if act == "RELU" else real

    constants = weight_and_bias(
        c, image, Weights.of(weights, torch.from_numpy(offset)), lambda w: w.reshape(1, 1, 1, -1), Documented(documented, None), channels=3
    )
    attrs = {"stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1, "depth_multiplier": 1}
    type_ = replace(c.out_type(), shape=image.type.shape)
    made = c.emit_as(type_, "DEPTHWISE_CONV_2D", image, *constants, padding="VALID", fused_activation_function=act, **attrs)
    return as_result(c, made, len(sizes))


# -- by statistics of each example


@lowers("aten::native_layer_norm")
@lowers("quantized::layer_norm", island=True)
def layer_norm(
    c: Context, x: Value, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Sequence[Value | None]:
    rank = x.type.rank
    axes = sorted(c.axis(d) for d in range(rank - len(normalized_shape), rank))
    factor, offset = (p if p is None else array_of(p).reshape((1,) * (rank - p.dim()) + p.shape).transpose(c.order) for p in (weight, bias))
    return _alone(c, _affine(c, _standardized(c, x, axes, eps), factor, offset))


@lowers("aten::native_group_norm", ignores=("N", "C", "HxW"))
def native_group_norm(c: Context, x: Value, weight: Tensor | None, bias: Tensor | None, group: int, eps: float) -> Sequence[Value | None]:
    return group_norm(c, x, group, weight, bias, eps)


@lowers("quantized::group_norm", island=True)
def group_norm(c: Context, x: Value, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Sequence[Value | None]:
    """Split into groups, the channels lie between what comes in front of them, the batch apart, and what comes behind."""
    axis, shape = c.axis(1), x.type.shape
    c.only(c.order[0] == 0, "order of dimensions", c.order, "the batch first")
    groups = reshaped(c, x, (shape[0], prod(shape[1:axis]), num_groups, prod(shape[axis:]) // num_groups))
    normal = reshaped(c, _standardized(c, groups, [1, 3], eps), shape)
    return _alone(c, _affine(c, normal, *(p if p is None else _along_channels(c, array_of(p)) for p in (weight, bias))))


@lowers("quantized::instance_norm", island=True)
def instance_norm(c: Context, x: Value, weight: Tensor | None, bias: Tensor | None, eps: float) -> Sequence[Value | None]:
    """A group for each channel."""
    return group_norm(c, x, x.type.shape[c.axis(1)], weight, bias, eps)


@lowers("aten::instance_norm", ignores=("momentum",))
def float_instance_norm(
    c: Context,
    x: Value,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    eps: float,
) -> Sequence[Value | None]:
    if use_input_stats or running_mean is None or running_var is None:
        return instance_norm(c, x, weight, bias, eps)
    return batch_norm(c, x, weight, bias, running_mean, running_var, False, eps)


def _standardized(c: Context, x: Value, axes: Sequence[int], eps: float) -> Value:
    """``(x - mean) / sqrt(variance + eps)``"""
    off = part(c, "SUB", x, reduced(c, "MEAN", x, axes))
    variance = reduced(c, "MEAN", part(c, "MUL", off, off), axes)
    return part(c, "MUL", off, part(c, "RSQRT", part(c, "ADD", variance, eps)))


# -- what both need


def _along_channels(c: Context, array: Array) -> Array:
    """One number a channel, shaped for the operands' order."""
    shape = [1] * len(c.order)
    shape[c.axis(1)] = -1
    return array.reshape(shape)


def _affine(c: Context, x: Value, factor: Array | None, offset: Array | None) -> Value:
    x = x if factor is None else part(c, "MUL", x, c.const(factor.astype(np.float32), "factor"))
    return x if offset is None else part(c, "ADD", x, c.const(offset.astype(np.float32), "offset"))


def _alone(c: Context, value: Value) -> Sequence[Value | None]:
    """``value`` as the first result; the others are statistics, which are there for training."""
    unread = [None for index in range(1, len(c.outs)) if not c.is_read(index)]
    c.only(len(unread) == len(c.outs) - 1, "statistics", "read by the model", "the normalized tensor alone")
    return [c.as_result(value), *unread]
