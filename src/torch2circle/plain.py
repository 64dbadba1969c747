"""Operators on plain 8-bit integers, with the scale in an argument, as operators on PyTorch's quantized tensors.

So the graphs of quantization by ``torch.export`` are written (``quantized_decomposed::``), and what PyTorch's inductor makes of them for
x86 (``onednn::``). While recording, each runs as the formula here, whose integers know their scale. So do the layers of quantized
tensors that something is added to before they are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # makes torch.ops.quantized_decomposed
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from .errors import QuantizationError, UnsupportedUse

Number = float | Tensor
FLOAT_NOISE = 2.0**-14
"""Of the largest result: what sums of float32 products differ by if they are added in another order."""
FLOAT32 = (torch.float32, 6)  # as a default value in a schema it is a number
QUANTIZED = {torch.uint8: torch.quint8, torch.int8: torch.qint8, torch.int32: torch.qint32}
ACTIVATIONS: Mapping[str, Callable[[Tensor, Sequence[Any], str], Tensor]] = {
    "none": lambda x, _, __: x,
    "relu": lambda x, _, __: torch.relu(x),
    "hardtanh": lambda x, bounds, __: F.hardtanh(x, *bounds),
    "hardswish": lambda x, _, __: F.hardswish(x),
    "swish": lambda x, _, __: F.silu(x),
    "gelu": lambda x, _, algorithm: F.gelu(x, approximate=algorithm),
}


def formula_for(op: str, bound: Mapping[str, Any], known: Callable[[Tensor], bool]) -> Callable[..., Tensor] | None:
    """The formula of an operator, unless no quantized tensor of PyTorch can hold its result: int16, a scale that is not ``known``, or for
    a constant other blocks than channels and groups of a row."""
    scale = bound.get("scale")
    if bound.get("dtype") is torch.int16 or (isinstance(scale, Tensor) and not known(scale)):
        return None
    if op == "torchao::dequantize_affine" and known(bound["input"]) and not _is_storable(bound):
        return None
    return FORMULAS.get(op)


def deviation(made: Tensor, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """By how much PyTorch's own kernel ``func`` is off what its formula ``made``; empty if only by rounding."""

    def integers(x: Tensor) -> Tensor:
        return x.int_repr() if x.is_quantized else x

    def given(x: Tensor) -> Tensor:  # a copy, since some kernels write into an operand
        return x.clone() if x.is_floating_point() or func.namespace == "quantized" else integers(x)

    args, kwargs = pytree.tree_map_only(Tensor, given, (tuple(args), dict(kwargs)))
    found, wanted = integers(func(*args, **kwargs)).double(), integers(made).double()
    off = (found - wanted).abs().max()
    if made.is_quantized:
        return f"{int(off)} LSB" if off > 1 else ""
    return f"{off:.3g}" if off > FLOAT_NOISE * wanted.abs().max() else ""


def real(x: Tensor, scale: Number, zero_point: Number) -> Tensor:
    """The numbers that integers stand for; float ones are that already."""
    if x.is_floating_point():
        return x
    return torch.dequantize(x if x.is_quantized else torch._make_per_tensor_quantized_tensor(x, float(scale), int(zero_point)))


def real_channels(x: Tensor, scales: Tensor, zero_points: Tensor | None, axis: int = 0, *_: Any) -> Tensor:
    if len(scales) != x.shape[axis]:
        message = f"{len(scales)} scale(s) for {x.shape[axis]} channels"
        raise QuantizationError(message, hint="calibrate the prepared model with real data before it is converted")
    zeros = torch.zeros(len(scales), dtype=torch.int64) if zero_points is None else zero_points.long()
    return torch.dequantize(torch._make_per_channel_quantized_tensor(x, scales, zeros, axis))


def rounded(x: Tensor, scale: Number, zero_point: Number, dtype: torch.dtype | None) -> Tensor:
    """``x`` in integers of type ``dtype``, or in float."""
    if dtype is torch.float32:
        return x
    dtype = dtype or torch.uint8
    if dtype not in QUANTIZED:
        raise UnsupportedUse("output_dtype", str(dtype), "torch.uint8, torch.int8, torch.float32")
    return torch.quantize_per_tensor(x, float(scale), int(zero_point), QUANTIZED[dtype])


def quantize(x: Tensor, scale: Number, zero_point: Number, low: int, high: int, dtype: torch.dtype, *_: Any) -> Tensor:
    integers, info = rounded(x, scale, zero_point, dtype), torch.iinfo(dtype)
    ends = (None if int(end) == idle else (int(end) - int(zero_point)) * float(scale) for end, idle in ((low, info.min), (high, info.max)))
    return integers if (low, high) == (info.min, info.max) else torch.clamp(integers, *ends)


def dequantize(x: Tensor, scale: Number, zero_point: Number, *_: Any) -> Tensor:
    return real(x, scale, zero_point)


# -- torchao's own pair, whose scales are those of blocks


def quantize_blocks(x: Tensor, block: Sequence[int], scale: Tensor, zero_point: Tensor | None, dtype: torch.dtype, *ends: Any) -> Tensor:
    zero_points, info = torch.zeros_like(scale) if zero_point is None else zero_point, torch.iinfo(dtype)
    low, high = (idle if end is None else int(end) for end, idle in zip(ends[:2], (info.min, info.max), strict=True))
    if scale.numel() == 1:
        return quantize(x, scale, zero_points, low, high, dtype)
    return (torch.round(x * (1 / spread(scale, x))) + spread(zero_points, x)).clamp(low, high).to(dtype)


def dequantize_blocks(x: Tensor, block: Sequence[int], scale: Tensor, zero_point: Tensor | None, *_: Any) -> Tensor:
    zero_points = torch.zeros_like(scale) if zero_point is None else zero_point
    if scale.numel() == 1:
        return real(x, scale, zero_points)
    if (axis := _channel_axis(x, block)) is not None:
        return real_channels(x, scale.flatten(), zero_points.flatten(), axis)
    if _in_groups(x, block) and not zero_points.is_floating_point():
        return real_channels(x.reshape(-1, block[-1]), scale.flatten(), zero_points.flatten()).reshape(x.shape)
    return (x - spread(zero_points, x)) * spread(scale, x)


def dequantize_groups(x: Tensor, scales: Tensor, zero_points: Tensor | None, low: int, high: int, dtype: Any, size: int, *_: Any) -> Tensor:
    """Each ``size`` elements of a row have a scale."""
    return dequantize_blocks(x, (1, size), scales, zero_points)


def _channel_axis(x: Tensor, block: Sequence[int]) -> int | None:
    """The axis whose every index has a scale of its own."""
    axes = [axis for axis, size in enumerate(block) if size != x.shape[axis]]
    return axes[0] if len(axes) == 1 and block[axes[0]] == 1 else None


def _in_groups(x: Tensor, block: Sequence[int]) -> bool:
    return x.dtype in QUANTIZED and list(block[:-1]) == [1] * (x.dim() - 1)


def _is_storable(bound: Mapping[str, Any]) -> bool:
    x, block, zero_point = bound["input"], bound["block_size"], bound["zero_point"]
    blocks = bound["scale"].numel() == 1 or _channel_axis(x, block) is not None or _in_groups(x, block)
    integers = x.dtype in QUANTIZED and (zero_point is None or not zero_point.is_floating_point())
    return blocks and integers and bound["output_dtype"] in FLOAT32


def spread(facts: Tensor, x: Tensor) -> Tensor:
    """One number for each block, as one for each element."""
    for axis, size in enumerate(x.shape):
        facts = facts.repeat_interleave(size // facts.shape[axis], axis)
    return facts


# -- a product of integers and what is computed behind it, in float, before it is rounded


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, where: Sequence[Any]) -> Tensor:
    stride, padding, dilation, groups = where
    # oneDNN's order in memory, which it demands of another operand, too
    x = x.contiguous(memory_format={4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim(), torch.contiguous_format))
    return torch.convolution(x, weight, bias, stride, padding, dilation, False, [0] * (x.dim() - 2), groups)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, where: Sequence[Any]) -> Tensor:
    return F.linear(x, weight, bias)


def product(args: Sequence[Any], layer: Callable[..., Tensor], bias: Tensor | None, where: Sequence[Any]) -> Tensor:
    x, x_scale, x_zero_point, packed, w_scale, w_zero_point = args
    dense = packed.to_dense()
    weight = dense.t() if layer is linear else dense.squeeze(2) if dense.dim() > x.dim() else dense  # kernels of lines have a row
    numbers = real(weight, w_scale, w_zero_point) if w_scale.numel() == 1 else real_channels(weight, w_scale, w_zero_point)
    return layer(real(x, x_scale, x_zero_point), numbers, bias, where)


def activated(x: Tensor, name: str, arguments: Sequence[Any], algorithm: str | None) -> Tensor:
    if name not in ACTIVATIONS:
        raise UnsupportedUse("operator behind a product of integers", name, ", ".join(ACTIVATIONS))
    return ACTIVATIONS[name](x, arguments, algorithm or "none")


def pointwise(layer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def formula(*args: Any) -> Tensor:
        operands, bias, where, (scale, zero_point, dtype, *activation) = args[:6], args[6], args[7:-6], args[-6:]
        return rounded(activated(product(operands, layer, bias, where), *activation), scale, zero_point, dtype)

    return formula


def pointwise_binary(layer: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def formula(*args: Any) -> Tensor:
        operands, other, bias, where = args[:6], args[6], args[7], args[8:-10]
        scale, zero_point, dtype, other_scale, other_zero_point, name, alpha, *activation = args[-10:]
        if name not in ("sum", "add") or alpha not in (None, 1):
            raise UnsupportedUse("operator on a product of integers and another tensor", f"{name} with alpha={alpha}", "sum, add; alpha=1")
        total = product(operands, layer, bias, where) + real(other, other_scale, other_zero_point)
        return rounded(activated(total, *activation), scale, zero_point, dtype)

    return formula


def packed_sum(activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def formula(x: Tensor, other: Tensor, packed: Any, scale: float, zero_point: int) -> Tensor:
        weight, bias = packed.unpack()
        where = packed.stride(), packed.padding(), packed.dilation(), packed.groups()
        total = convolution(x.dequantize(), weight.dequantize(), bias, where) + other.dequantize()
        return torch.quantize_per_tensor(activation(total), scale, zero_point, torch.quint8)

    return formula


def elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def formula(*args: Any) -> Tensor:
        return rounded(function(real(*args[:3]), real(*args[3:6])), *args[6:])

    return formula


def batch_norm(*args: Any) -> Tensor:
    weight, bias, mean, variance, eps, *out = args[3:]
    return rounded(F.batch_norm(real(*args[:3]), mean, variance, weight, bias, eps=eps), *out)


FORMULAS: Mapping[str, Callable[..., Tensor]] = {
    **dict.fromkeys((f"quantized_decomposed::quantize_per_tensor{overload}" for overload in ("", ".tensor", ".tensor2")), quantize),
    **dict.fromkeys((f"quantized_decomposed::dequantize_per_tensor{overload}" for overload in ("", ".tensor", ".tensor2")), dequantize),
    "quantized_decomposed::dequantize_per_channel": real_channels,
    "quantized_decomposed::dequantize_per_channel_group": dequantize_groups,
    "torchao::quantize_affine": quantize_blocks,
    "torchao::dequantize_affine": dequantize_blocks,
    **dict.fromkeys(
        (
            "onednn::qconv_pointwise", "onednn::qconv_pointwise.tensor", "onednn::qconv1d_pointwise", "onednn::qconv2d_pointwise",
            "onednn::qconv2d_pointwise.tensor", "onednn::qconv3d_pointwise",
        ),
        pointwise(convolution),
    ),
    **dict.fromkeys(("onednn::qconv2d_pointwise.binary", "onednn::qconv2d_pointwise.binary_tensor"), pointwise_binary(convolution)),
    **dict.fromkeys(("onednn::qlinear_pointwise", "onednn::qlinear_pointwise.tensor"), pointwise(linear)),
    **dict.fromkeys(("onednn::qlinear_pointwise.binary", "onednn::qlinear_pointwise.binary_tensor"), pointwise_binary(linear)),
    "quantized::conv2d_add": packed_sum(lambda x: x),
    "quantized::conv2d_add_relu": packed_sum(torch.relu),
    "onednn::qadd.tensor": elementwise(torch.add),
    "onednn::qadd_relu.tensor": elementwise(lambda a, b: torch.relu(a + b)),
    "onednn::qmul.tensor": elementwise(torch.mul),
    "onednn::qbatch_norm2d": batch_norm,
}  # fmt: skip
"""Operator -> the same on quantized tensors, with the arguments in the order of the schema."""
