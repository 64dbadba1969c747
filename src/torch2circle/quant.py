"""PyTorch tensors as types and constants, and the arithmetic of integers with a scale.

real = scale * (q - zero_point), rounding half to even, as PyTorch's ``quantize_per_tensor`` documents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from .errors import QuantizationError, UnsupportedUse
from .ir import Array, Constant, DType, Quant, Type, Where

_DTYPES = {
    torch.float32: DType.FLOAT32, torch.float16: DType.FLOAT16, torch.int8: DType.INT8, torch.uint8: DType.UINT8,
    torch.int16: DType.INT16, torch.int32: DType.INT32, torch.int64: DType.INT64, torch.bool: DType.BOOL,
    torch.quint8: DType.UINT8, torch.qint8: DType.INT8, torch.qint32: DType.INT32,
}  # fmt: skip

INT32_MAX = 2**31 - 1


def type_of(tensor: torch.Tensor, where: Where = Where()) -> Type:
    """The file's type of a PyTorch tensor, in PyTorch's dimension order and with its own integers.

    Raises:
        QuantizationError: a scale that is zero, negative, infinite or NaN.
        UnsupportedUse: an element type or quantization scheme the files cannot hold.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise UnsupportedUse("dtype", str(tensor.dtype), ", ".join(d.value for d in DType), where=where)
    return Type(tuple(tensor.shape), dtype, _quant_of(tensor, where) if tensor.is_quantized else None)


def _quant_of(tensor: torch.Tensor, where: Where) -> Quant:
    scheme = tensor.qscheme()
    if scheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        quant = Quant.per_tensor(tensor.q_scale(), tensor.q_zero_point())
    elif scheme in (torch.per_channel_affine, torch.per_channel_symmetric):
        scales, zero_points = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
        quant = Quant(scales.numpy().astype(np.float32), zero_points.numpy().astype(np.int64), tensor.q_per_channel_axis())
    else:
        raise UnsupportedUse("qscheme", str(scheme), "per_tensor_affine, per_channel_affine", where=where)
    if not (np.isfinite(quant.scale).all() and (quant.scale > 0).all()):
        bad = quant.scale[~(np.isfinite(quant.scale) & (quant.scale > 0))][0]
        raise QuantizationError(
            f"a scale must be a positive number: {bad}", where=where, hint="calibrate the model with real data before convert()"
        )
    return quant


def array_of(tensor: torch.Tensor) -> Array:
    """A tensor's elements, the integers themselves where it is quantized; shares the tensor's memory."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        # int_repr() would copy, element by element: reading the storage as integers is some fifty times faster
        plain = torch.empty(0, dtype=getattr(torch, _DTYPES[tensor.dtype].value))
        tensor = plain.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    result: Array = tensor.resolve_neg().cpu().numpy()
    return result


def constant_of(load: Callable[[], torch.Tensor]) -> Constant:
    """A constant that reads its tensor only when it is written, so that packed weights are unpacked one at a time."""
    return Constant(lambda: array_of(load()))


@dataclass(frozen=True)
class Weights:
    """Parameters of a convolution or linear layer. ``load`` gives the weight, whose type in PyTorch's order is ``type``.

    Packed parameters are unpacked once for the type and again when the file is written, never all at one time.
    """

    type: Type
    bias: torch.Tensor | None
    load: Callable[[], torch.Tensor]

    @staticmethod
    def of(weight: torch.Tensor, bias: torch.Tensor | None) -> Weights:
        return Weights(type_of(weight), bias, lambda: weight)

    @staticmethod
    def packed(packed: Any, where: Where = Where()) -> Weights:
        weight, bias = packed.unpack()
        return Weights(type_of(weight, where), bias, lambda: cast(torch.Tensor, packed.unpack()[0]))


@dataclass(frozen=True)
class Bias:
    """``q`` int32[n] and its scale float32[n]; ``weight_scale`` is float32[n], larger than given where a bias would not fit."""

    q: Array
    quant: Quant
    weight_scale: Array
    raised: Array

    def value_type(self) -> Type:
        return Type(self.q.shape, DType.INT32, self.quant)


def quantize_bias(bias: Array, input_scale: np.float32, weight_scale: Array, accumulated: int = 0) -> Bias:
    """``q = rint(bias / (input_scale * weight_scale))`` in float64, with the product taken in float32 as the file states it.

    Args:
        bias: float[n], one entry an output channel.
        input_scale: the activation's scale.
        weight_scale: float32[1] or float32[n].
        accumulated: largest sum of products the kernel adds to the bias, so that the int32 accumulator cannot overflow.

    A channel whose bias does not fit gets its weight scale raised just enough (all channels at once if there is one scale);
    the caller requantizes those weights. PyTorch and LiteRT both define the bias scale as that product; a bias clamped
    in float32 would come out with the wrong sign, since float32 rounds 2**31 - 1 up.

    Raises:
        QuantizationError: a bias that is NaN or infinite.
    """
    real = bias.astype(np.float64)
    if not np.isfinite(real).all():
        raise QuantizationError(
            f"a bias must be a finite number: {bias[~np.isfinite(real)][0]} in channel {int(np.argmin(np.isfinite(real)))}"
        )
    limit = INT32_MAX - accumulated
    scale = np.float32(input_scale) * weight_scale.astype(np.float32)
    # 1.0001: the raised scale is rounded to float32, and so is its product with the input's scale
    least = np.abs(real) / limit / np.float64(input_scale) * 1.0001
    need = least if len(weight_scale) == len(real) else np.array([least.max(initial=0.0)])
    raised = np.abs(real / scale.astype(np.float64)) > limit
    raised = raised if len(weight_scale) == len(real) else np.array([bool(raised.any())])
    weight_scale = np.where(raised, need, weight_scale.astype(np.float64)).astype(np.float32)
    scale = np.float32(input_scale) * weight_scale
    q = np.rint(real / scale.astype(np.float64)).astype(np.int64)
    assert np.abs(q).max(initial=0) <= INT32_MAX
    quant = Quant(scale, np.zeros(len(scale), np.int64), 0 if len(scale) > 1 else None)
    return Bias(q.astype(np.int32), quant, weight_scale, np.flatnonzero(raised))


def rescaled(weight: Array, factor: Array, axis: int) -> Array:
    """Integer weights under a larger scale: ``rint(q * factor)`` with ``factor`` = old scale / new scale per index of ``axis``."""
    shape = [1] * weight.ndim
    shape[axis] = len(factor)
    result: Array = np.rint(weight.astype(np.float64) * factor.reshape(shape)).astype(weight.dtype)
    return result


def dequantized(q: Array, quant: Quant) -> Array:
    """``scale * (q - zero_point)`` in float32, as PyTorch computes it; for per-tensor quantization."""
    result: Array = (q.astype(np.float32) - np.float32(quant.zero_point[0])) * quant.scale[0]
    return result


def quantized(real: Array, type_: Type) -> Array:
    """``clamp(rint(real / scale) + zero_point)`` in float64, for per-tensor types."""
    assert type_.quant is not None
    info = np.iinfo(type_.dtype.numpy)
    q = np.rint(real.astype(np.float64) / np.float64(type_.quant.scale[0])) + type_.quant.zero_point[0]
    result: Array = np.clip(q, info.min, info.max).astype(type_.dtype.numpy)
    return result
