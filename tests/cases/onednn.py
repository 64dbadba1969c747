"""Plain 8-bit integers with the scale in an argument: graphs of quantization by torch.export, and those that the inductor makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # makes torch.ops.quantized_decomposed
import torch.nn.functional as F
from torch import Tensor

from .conv import stored
from .making import ADDED, FLOAT, NCHW, WEIGHTED, Case, Made, Near, Shape, floating

ISLAND = Near(1, 0.98, "a sum of float products, where PyTorch adds up integers, may lie on the other side of the middle of two steps")
D, N = torch.ops.quantized_decomposed, torch.ops.onednn
CONV = N.qconv_pointwise if hasattr(N, "qconv_pointwise") else N.qconv2d_pointwise  # its name before PyTorch 2.7
SCALE, ZERO_POINT = 0.0641713, 63  # seven bits, which no kernel overflows on
PRODUCT = Near(1, 0.95, "onert rounds a product in fixed point twice, the first time to sixteenths of a step", ("onert",))


def quantized(x: Tensor, scale: float = SCALE, zero_point: int = ZERO_POINT) -> Tensor:
    return D.quantize_per_tensor(x, scale, zero_point, 0, 255, torch.uint8)


def parameters(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Integers, scales and zero points."""
    if weight.qscheme() is torch.per_tensor_affine:
        return weight.int_repr(), torch.tensor([weight.q_scale()]), torch.tensor([weight.q_zero_point()])
    return weight.int_repr(), weight.q_per_channel_scales().float(), weight.q_per_channel_zero_points()


def exported(dtype: torch.dtype = torch.uint8, *, axis: int | None = 0) -> Made:
    """A convolution between integers, as ``convert_pt2e`` writes it."""
    shift = 0 if dtype is torch.uint8 else -128
    integers, scales, zeros = parameters(stored((5, 3, 3, 3), axis=axis))
    info, bias = torch.iinfo(dtype), torch.linspace(-1, 1, 5)

    def model(x: Tensor) -> Tensor:
        x = D.quantize_per_tensor(x, SCALE, ZERO_POINT + shift, info.min, info.max, dtype)
        x = D.dequantize_per_tensor(x, SCALE, ZERO_POINT + shift, info.min, info.max, dtype)
        if axis is None:
            weight = D.dequantize_per_tensor(integers, float(scales), int(zeros), -127, 127, torch.int8)
        else:
            weight = D.dequantize_per_channel(integers, scales, zeros, 0, -127, 127, torch.int8)
        made = F.conv2d(x, weight, bias, 1, 1).relu()
        made = D.quantize_per_tensor(made, 0.117, shift, info.min, info.max, dtype)
        return D.dequantize_per_tensor(made, 0.117, shift, info.min, info.max, dtype)

    return floating(model, NCHW)


def by_tensors(x: Tensor) -> Tensor:
    facts = torch.tensor(SCALE), torch.tensor(ZERO_POINT)
    x = D.dequantize_per_tensor.tensor(D.quantize_per_tensor.tensor(x, *facts, 0, 255, torch.uint8), *facts, 0, 255, torch.uint8)
    ends = torch.tensor(0), torch.tensor(255)
    x = D.quantize_per_tensor.tensor2(x.clamp(-1, 2), *facts, *ends, torch.uint8)
    return D.dequantize_per_tensor.tensor2(x, *facts, *ends, torch.uint8)


def reduced_range(x: Tensor) -> Tensor:
    return D.dequantize_per_tensor(D.quantize_per_tensor(x, 0.0417, 60, 0, 127, torch.uint8), 0.0417, 60, 0, 127, torch.uint8)


Post = tuple[str, list[float], str]
NONE: Post = ("none", [], "")
OUT = {torch.uint8: (0.317, 74), torch.int8: (0.317, -54), torch.float32: (1.0, 0)}


def in_float(made: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype is torch.float32:
        return made
    return D.dequantize_per_tensor(made, *OUT[dtype], torch.iinfo(dtype).min, torch.iinfo(dtype).max, dtype)


def facts(tensors: bool) -> tuple[Any, Any]:
    """Scale and zero point of ``x``."""
    return (torch.tensor(SCALE), torch.tensor(ZERO_POINT)) if tensors else (SCALE, ZERO_POINT)


def conv(
    op: Callable[..., Tensor] = CONV.default, x: Shape = NCHW, shape: Shape = (5, 3, 3, 3), *,
    post: Post = NONE, dtype: torch.dtype = torch.uint8, tensors: bool = False, groups: int = 1,
) -> Made:  # fmt: skip
    dims = len(shape) - 2
    integers, scales, zeros = parameters(stored(shape))
    where: list[Any] = [[1] * dims, [1] * dims, [1] * dims, groups]
    packed, bias = N.qconv_prepack(integers, scales, SCALE, ZERO_POINT, *where, list(x)), torch.linspace(-1, 1, shape[0])

    def model(a: Tensor) -> Tensor:
        made = op(quantized(a), *facts(tensors), packed, scales, zeros, bias, *where, *OUT[dtype], dtype, *post)
        return in_float(made, dtype)

    return floating(model, x)


def conv_sum(op: Callable[..., Tensor], *, post: str = "none", dtype: torch.dtype = torch.uint8, tensors: bool = False) -> Made:
    integers, scales, zeros = parameters(stored((5, 3, 3, 3)))
    where: list[Any] = [[1, 1], [1, 1], [1, 1], 1]
    packed = N.qconv_prepack(integers, scales, SCALE, ZERO_POINT, *where, list(NCHW))

    def model(a: Tensor) -> Tensor:
        other = torch.cat([a, a], 1)[:, :5].contiguous(memory_format=torch.channels_last)
        other, grid = (other, (1.0, 0)) if dtype is torch.float32 else (quantized(other, 0.0417, 112), (0.0417, 112))
        operands = quantized(a), *facts(tensors), packed, scales, zeros, other, None
        return in_float(op(*operands, *where, *OUT[dtype], dtype, *grid, "sum", None, post, [], ""), dtype)

    return floating(model, NCHW)


def linear(
    op: Callable[..., Tensor] = N.qlinear_pointwise.default, *, axis: int | None = 0, post: Post = NONE,
    dtype: torch.dtype = torch.uint8, tensors: bool = False, binary: str = "",
) -> Made:  # fmt: skip
    integers, scales, zeros = parameters(stored((9, 17), axis=axis))
    packed, bias = N.qlinear_prepack(integers, [31, 17]), torch.linspace(-1, 1, 9)

    def model(a: Tensor) -> Tensor:
        x = quantized(a)
        other = (a[:, :9] if binary == "add" or dtype is torch.float32 else quantized(a[:, :9], 0.0417, 112)).contiguous()
        operands, last = ((other, bias), (0.0417, 112, binary, 1.0)) if binary else ((bias,), ())
        return in_float(op(x, *facts(tensors), packed, scales, zeros, *operands, *OUT[dtype], dtype, *last, *post), dtype)

    return floating(model, (31, 17))


def elementwise(op: Callable[..., Tensor]) -> Made:
    def model(a: Tensor, b: Tensor) -> Tensor:
        made = op(quantized(a), SCALE, ZERO_POINT, quantized(b, 0.0417, 112), 0.0417, 112, 0.0717, 98, torch.uint8)
        return D.dequantize_per_tensor(made, 0.0717, 98, 0, 255, torch.uint8)

    return floating(model, (2, 5, 7, 3), (2, 5, 7, 3))


def batch_norm(x: Tensor) -> Tensor:
    statistics = [torch.linspace(*ends, 3) for ends in ((0.5, 1.5), (-1, 1), (0.2, 0.4), (0.5, 2))]
    made = N.qbatch_norm2d(quantized(x), SCALE, ZERO_POINT, *statistics, 1e-5, 0.0717, 98, torch.uint8)
    return D.dequantize_per_tensor(made, 0.0717, 98, 0, 255, torch.uint8)


CASES = [
    Case("exported.conv", exported, WEIGHTED),
    Case("exported.conv_int8", lambda: exported(torch.int8), WEIGHTED),
    Case("exported.conv_per_tensor", lambda: exported(axis=None), WEIGHTED),
    Case("exported.by_tensors", lambda: floating(by_tensors, (2, 5))),
    Case("exported.reduced_range", lambda: floating(reduced_range, (2, 5))),
    Case("onednn.conv", conv, WEIGHTED),
    Case("onednn.conv_tensors", lambda: conv(CONV.tensor, tensors=True), WEIGHTED),
    Case("onednn.conv_relu", lambda: conv(post=("relu", [], "")), WEIGHTED),
    Case("onednn.conv_hardtanh", lambda: conv(post=("hardtanh", [0.0, 6.0], "")), WEIGHTED),
    Case("onednn.conv_hardswish", lambda: conv(post=("hardswish", [], "")), ISLAND),
    Case("onednn.conv_swish", lambda: conv(post=("swish", [], "")), ISLAND),
    Case("onednn.conv_int8", lambda: conv(dtype=torch.int8), WEIGHTED),
    Case("onednn.conv_float", lambda: conv(dtype=torch.float32), FLOAT),
    Case("onednn.conv_grouped", lambda: conv(shape=(6, 1, 3, 3), groups=3), WEIGHTED),
    Case("onednn.conv1d", lambda: conv(N.qconv1d_pointwise, (2, 3, 17), (5, 3, 3)), WEIGHTED),
    Case("onednn.conv2d", lambda: conv(N.qconv2d_pointwise.default), WEIGHTED),
    Case("onednn.conv2d_tensors", lambda: conv(N.qconv2d_pointwise.tensor, tensors=True), WEIGHTED),
    Case("onednn.conv3d", lambda: conv(N.qconv3d_pointwise, (2, 3, 5, 7, 9), (5, 3, 3, 3, 3)), WEIGHTED),
    Case("onednn.conv_sum", lambda: conv_sum(N.qconv2d_pointwise.binary), ADDED),
    Case("onednn.conv_sum_relu", lambda: conv_sum(N.qconv2d_pointwise.binary_tensor, post="relu", tensors=True), ADDED),
    Case("onednn.conv_sum_float", lambda: conv_sum(N.qconv2d_pointwise.binary, dtype=torch.float32), FLOAT),
    Case("onednn.linear", linear, WEIGHTED),
    Case("onednn.linear_per_tensor", lambda: linear(axis=None), WEIGHTED),
    Case("onednn.linear_tensors", lambda: linear(N.qlinear_pointwise.tensor, tensors=True), WEIGHTED),
    Case("onednn.linear_relu", lambda: linear(post=("relu", [], "")), WEIGHTED),
    Case("onednn.linear_gelu", lambda: linear(post=("gelu", [], "none")), ISLAND),
    Case("onednn.linear_gelu_tanh", lambda: linear(post=("gelu", [], "tanh")), ISLAND),
    Case("onednn.linear_int8", lambda: linear(dtype=torch.int8), WEIGHTED),
    Case("onednn.linear_float", lambda: linear(dtype=torch.float32), FLOAT),
    Case("onednn.linear_sum", lambda: linear(N.qlinear_pointwise.binary, binary="sum"), ADDED),
    Case("onednn.linear_add", lambda: linear(N.qlinear_pointwise.binary_tensor, tensors=True, binary="add", post=("relu", [], "")), ISLAND),
    Case("onednn.add", lambda: elementwise(N.qadd.tensor)),
    Case("onednn.add_relu", lambda: elementwise(N.qadd_relu.tensor)),
    Case("onednn.mul", lambda: elementwise(N.qmul.tensor), PRODUCT),
    Case("onednn.batch_norm", lambda: floating(batch_norm, NCHW), ISLAND),
]
