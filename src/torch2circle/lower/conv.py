"""Convolutions over one, two and three dimensions: each is one CONV_2D or DEPTHWISE_CONV_2D, so that its sum is rounded once.

A line is an image of one row. Of a volume, the depth slices that a kernel sees lie side by side in one image: in its channels, or in
its rows where every group of channels has a kernel of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ir import Array, Value
from ..quant import Weights
from .context import Context, Perm, Placed, channels_last, reshaped
from .registry import Order, lowers
from .weighted import Documented, Layout, result_type, weight_and_bias
from .window import pad, padded_same, padded_window

Triple = tuple[int, int, int]


@lowers("quantized::conv1d", "quantized::conv2d.new", "quantized::conv3d.new", "_quantized::conv2d", order=Order.FREE, act="NONE")
@lowers("quantized::conv1d_relu", "quantized::conv2d_relu.new", "quantized::conv3d_relu.new", order=Order.FREE, act="RELU")
@lowers("_quantized::conv2d_relu", order=Order.FREE, act="RELU")
def quantized_conv(c: Context, x: Placed, packed_weight: Any, act: str) -> Value:
    p = packed_weight
    return conv(c, x, len(x.order) - 2, c.packed(p), p.stride(), p.padding(), p.dilation(), p.groups(), act)


PACKED = ("stride", "padding", "dilation", "groups")


@lowers("quantized::conv2d", "quantized::conv3d", order=Order.FREE, ignores=PACKED, act="NONE")
@lowers("quantized::conv2d_relu", "quantized::conv3d_relu", order=Order.FREE, ignores=PACKED, act="RELU")
def legacy_conv(c: Context, x: Placed, weight: Any, act: str) -> Value:
    """PyTorch itself looks at the packed arguments only."""
    return quantized_conv(c, x, weight, act)


@lowers("aten::conv1d", "aten::conv2d", "aten::conv3d", order=Order.FREE)
@lowers("aten::conv1d.padding", "aten::conv2d.padding", "aten::conv3d.padding", order=Order.FREE)
def float_conv(
    c: Context, x: Placed, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int] | str,
    dilation: Sequence[int], groups: int,
) -> Value:  # fmt: skip
    return conv(c, x, weight.dim() - 2, Weights.of(weight, bias), stride, padding, dilation, groups)


def conv(
    c: Context,
    x: Placed,
    dims: int,
    weights: Weights,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
    act: str = "NONE",
) -> Value:
    """The call's result: ``x`` with ``dims`` spatial dimensions convolved, in float, in integers, or float ``x`` with integer weights."""
    return as_result(c, convolved(c, images(c, x, dims), weights, stride, padding, dilation, groups, act), dims)


def images(c: Context, x: Placed, dims: int) -> Value:
    """``x`` as [N, spatial dimensions..., C]; N is 1 where PyTorch has no batch."""
    value = c.builder.arrange(x, _last(len(x.order), dims))
    return value if len(x.order) == dims + 2 else reshaped(c, value, (1, *value.type.shape))


def as_result(c: Context, image: Value, dims: int) -> Value:
    """``image`` [N * depth, rows, columns, C] as the call's result with ``dims`` spatial dimensions."""
    order = _last(len(c.out_shape), dims)
    shape = [c.out_shape[d] for d in order]
    if list(image.type.shape) != shape:
        return c.emit_result(0, "RESHAPE", image, c.const(shape, "shape"), order=order, new_shape=shape)
    return c.as_result(image, order)


def _last(rank: int, dims: int) -> Perm:
    return channels_last(rank) if rank == dims + 2 else (*range(1, rank), 0)


def convolved(
    c: Context,
    x: Value,
    weights: Weights,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
    act: str = "NONE",
) -> Value:
    """``x`` [N, spatial dimensions..., C] convolved, as an image [N * depth, rows, columns, C] that is not yet the call's result."""
    size = weights.type.shape[2:]
    dims = len(size)
    front = padded_same(padding, size, each(dilation, dims)) if isinstance(padding, str) else padding
    window = Window(triple(size, dims, 1), triple(stride, dims, 1), triple(front, dims, 0), triple(dilation, dims, 1))

    def documented(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        image = image.reshape(*image.shape[:-1], *[1] * (weight.dim() - image.dim()), image.shape[-1])  # packed weights of lines have a row
        real = torch.convolution(image, weight, bias, stride, front, dilation, False, [0] * dims, groups)
        return real.relu() if act == "RELU" else real

    def kernel(w: Array) -> Array:
        return np.moveaxis(w, 1, -1).reshape(len(w), *window.size, w.shape[1])

    return slid(c, x, weights, kernel, window, groups, act, Documented(documented, 0 if groups == 1 else None))


# -- a window of three dimensions over images


@dataclass(frozen=True)
class Window:
    """Depth, rows and columns, 1 or 0 where there are none. ``padding`` is in front; behind, it follows from the number of results."""

    size: Triple
    stride: Triple
    padding: Triple
    dilation: Triple


def each(values: Sequence[int], dims: int) -> tuple[int, ...]:
    """One number for each dimension; PyTorch takes one for all, too."""
    return tuple(values) * dims if len(values) == 1 else tuple(values)


def triple(values: Sequence[int], dims: int, missing: int) -> Triple:
    """Of depth, rows and columns, those that are not there are ``missing``."""
    depth, rows, columns = (*[missing] * (3 - dims), *each(values, dims))
    return depth, rows, columns


def extents(x: Value) -> tuple[int, Triple, int]:
    """Batch; depth, rows and columns; channels of [N, spatial dimensions..., C]."""
    n, *spatial, channels = x.type.shape
    return n, triple(spatial, len(spatial), 1), channels


def slid(c: Context, x: Value, weights: Weights, kernel: Layout, window: Window, groups: int, act: str, documented: Documented) -> Value:
    """``window`` slid over ``x`` [N, spatial dimensions..., C], as an image [N * depth, rows, columns, C].

    Args:
        kernel: PyTorch's weight as [O, depth, rows, columns, I / groups].
    """
    dims = x.type.rank - 2
    slices, (rows, columns) = window.size[0], window.size[1:]
    (stride_h, stride_w), (dilation_h, dilation_w), front = window.stride[1:], window.dilation[1:], window.padding[1:]
    outs = triple(c.out_shape[-dims:], dims, 1)
    image = one_image(c, x, window, outs[0], grouped=groups > 1)
    gaps = 1
    if groups > 1 and slices > 1:  # each row of the kernel is one of every slice, and a dilated one has rows of zeros between
        gaps, dilation_h = dilation_h, 1
        rows, stride_h, front = slices * ((rows - 1) * gaps + 1), slices * stride_h, (slices * front[0], front[1])
    image, padding = padded_window(c, image, (rows, columns), (stride_h, stride_w), front, (dilation_h, dilation_w), outs=outs[1:])
    attrs: dict[str, Any] = {"stride_h": stride_h, "stride_w": stride_w, "dilation_h_factor": dilation_h, "dilation_w_factor": dilation_w}
    attrs |= {"padding": padding, "fused_activation_function": act}
    depthwise = groups > 1 and groups == x.type.shape[-1]

    def layout(w: Array) -> Array:
        w = in_rows(kernel(w), gaps) if groups > 1 else in_channels(kernel(w))
        return w.transpose(3, 1, 2, 0) if depthwise else w

    constants = weight_and_bias(c, image, weights, layout, documented, channels=3 if depthwise else 0)
    units = c.out_shape[-dims - 1]
    type_ = result_type(c, x, (image.type.shape[0], *outs[1:], units))
    if depthwise:
        return c.emit_as(type_, "DEPTHWISE_CONV_2D", image, *constants, depth_multiplier=units // groups, **attrs)
    return c.emit_as(type_, "CONV_2D", image, *constants, **attrs)


def one_image(c: Context, x: Value, window: Window, outs: int, *, grouped: bool = False) -> Value:
    """``x`` [N, spatial dimensions..., C] as images, one for each of ``outs`` places of the window along the depth: the slices it sees."""
    n, (depth, rows, columns), channels = extents(x)
    slices, stride, front, dilation = window.size[0], window.stride[0], window.padding[0], window.dilation[0]
    if (slices, stride, front) == (1, 1, 0) and outs == depth:
        return reshaped(c, x, (n * depth, rows, columns, channels))
    behind = (outs - 1) * stride + (slices - 1) * dilation + 1 - front - depth
    flat = (n, depth, rows, columns * channels) if grouped else (n, depth, rows * columns, channels)
    volume = pad(c, reshaped(c, x, flat), [(0, 0), (front, max(behind, 0)), (0, 0), (0, 0)])
    seen = [_every(c, volume, tap * dilation, outs, stride) for tap in range(slices)]
    if slices > 1:
        wide = (n, outs, flat[2], slices * flat[3])
        seen = [c.emit_as(x.type.reshape(wide), "CONCATENATION", *seen, axis=3, fused_activation_function="NONE")]
    return reshaped(c, seen[0], (n * outs, rows * slices, columns, channels) if grouped else (n * outs, rows, columns, slices * channels))


def _every(c: Context, volume: Value, first: int, count: int, stride: int) -> Value:
    """``count`` depth slices of a volume of rank 4."""
    n, _, *rest = volume.type.shape
    type_ = volume.type.reshape((n, count, *rest))
    if stride > 1:
        return c.emit_as(type_, "GATHER", volume, c.const([first + i * stride for i in range(count)], "slices"), axis=1, batch_dims=0)
    return c.emit_as(type_, "SLICE", volume, c.const([0, first, 0, 0], "begin"), c.const([n, count, *rest], "size"))


def in_channels(kernel: Array) -> Array:
    """[O, depth, rows, columns, I] -> [O, rows, columns, depth * I]"""
    o, _, h, w, _ = kernel.shape
    result: Array = kernel.transpose(0, 2, 3, 1, 4).reshape(o, h, w, -1)
    return result


def in_rows(kernel: Array, gaps: int) -> Array:
    """[O, depth, rows, columns, I] -> [O, rows * depth, columns, I], the rows ``gaps`` apart."""
    o, d, h, w, i = kernel.shape
    wide = np.zeros((o, (h - 1) * gaps + 1, d, w, i), kernel.dtype)
    wide[:, ::gaps] = kernel.transpose(0, 2, 1, 3, 4)
    return wide.reshape(o, -1, w, i)
