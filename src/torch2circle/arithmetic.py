"""The arithmetic of integers with a scale: real = scale * (q - zero_point), rounded half to even.

So PyTorch's ``quantize_per_tensor`` documents it. In numpy alone: what reads files or rewrites graphs needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import QuantizationError
from .ir import Array, DType, Quant, Type

INT32_MAX = 2**31 - 1
INT48_MAX = 2**47 - 1
"""What kernels with 64-bit sums rescale: they multiply them by 16 bits."""


@dataclass(frozen=True)
class Bias:
    """``q`` int32[n] (int64 of wide sums) and its scale float32[n]; ``weight_scale`` is float32[n], larger than given where a bias would
    not fit.
    """

    q: Array
    quant: Quant
    weight_scale: Array
    raised: Array

    def value_type(self) -> Type:
        return Type(self.q.shape, DType.of(self.q), self.quant)


def quantize_bias(bias: Array, input_scale: np.float32, weight_scale: Array, accumulated: int = 0, *, wide: bool = False) -> Bias:
    """``q = rint(bias / (input_scale * weight_scale))`` in float64, with the product taken in float32 as the file states it.

    Args:
        bias: float[n], one entry an output channel.
        input_scale: the activation's scale.
        weight_scale: float32[1] or float32[n].
        accumulated: largest sum of products the kernel adds to the bias, so that the int32 accumulator cannot overflow.
        wide: the accumulator and the bias are int64, as next to int16 activations.

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
    limit = (INT48_MAX if wide else INT32_MAX) - accumulated
    scale = np.float32(input_scale) * weight_scale.astype(np.float32)
    # 1.0001: the raised scale is rounded to float32, and so is its product with the input's scale
    least = np.abs(real) / limit / np.float64(input_scale) * 1.0001
    need = least if len(weight_scale) == len(real) else np.array([least.max(initial=0.0)])
    raised = np.abs(real / scale.astype(np.float64)) > limit
    raised = raised if len(weight_scale) == len(real) else np.array([bool(raised.any())])
    weight_scale = np.where(raised, need, weight_scale.astype(np.float64)).astype(np.float32)
    scale = np.float32(input_scale) * weight_scale
    q = np.rint(real / scale.astype(np.float64)).astype(np.int64)
    assert np.abs(q).max(initial=0) <= limit
    quant = Quant(scale, np.zeros(len(scale), np.int64), 0 if len(scale) > 1 else None)
    return Bias(q if wide else q.astype(np.int32), quant, weight_scale, np.flatnonzero(raised))


def rescaled(weight: Array, factor: Array, axis: int) -> Array:
    """Integer weights under a larger scale: ``rint(q * factor)`` with ``factor`` = old scale / new scale per index of ``axis``."""
    shape = [1] * weight.ndim
    shape[axis] = len(factor)
    result: Array = np.rint(weight.astype(np.float64) * factor.reshape(shape)).astype(weight.dtype)
    return result


def dequantized(q: Array, quant: Quant) -> Array:
    """``scale * (q - zero_point)``, rounded to float32 once."""
    scale, zero_point = along_axis(quant, q.ndim)
    result: Array = ((q.astype(np.float64) - zero_point) * scale).astype(np.float32)
    return result


def quantized(real: Array, type_: Type) -> Array:
    """``clamp(rint(real / scale) + zero_point)`` in float64."""
    assert type_.quant is not None
    scale, zero_point = along_axis(type_.quant, real.ndim)
    info = np.iinfo(type_.dtype.numpy)
    # the largest float64 below the bound: int64's own is none, and would come out negative
    q = np.clip(np.rint(real.astype(np.float64) / scale) + zero_point, info.min, np.nextafter(info.max + 1.0, 0))
    result: Array = np.asarray(q).astype(type_.dtype.numpy)  # numpy makes a number of an array without dimensions
    return result


def along_axis(quant: Quant, rank: int) -> tuple[Array, Array]:
    """Scale and zero point in float64, one of each or along their axis."""
    shape = [1] * rank
    if quant.axis is not None:
        shape[quant.axis] = -1
    return quant.scale.astype(np.float64).reshape(shape), quant.zero_point.astype(np.float64).reshape(shape)


def in_nibbles(q: Array) -> Array:
    """Integers from -8 to 7, two a byte, the first in its lower half."""
    flat = q.reshape(-1).view(np.uint8) & 0x0F
    low, high = flat[::2], np.append(flat[1::2], np.zeros(len(flat) % 2, np.uint8))
    result: Array = low | high << 4
    return result


def of_nibbles(data: Array, count: int) -> Array:
    """The ``count`` integers of ``in_nibbles``, as int8."""
    flat = np.stack([data << 4, data & 0xF0], -1).reshape(-1)[:count]
    result: Array = flat.view(np.int8) >> 4
    return result


def moved_by_128(q: Array, dtype: DType) -> Array:
    """int8 as uint8, 128 larger, or the other way round: both flip the top bit."""
    result: Array = q.view(dtype.numpy) ^ np.array(0x80, np.uint8).view(dtype.numpy)
    return result
