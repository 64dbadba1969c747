"""PyTorch tensors as types and constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .errors import QuantizationError, UnsupportedUse
from .ir import Array, Constant, DType, Quant, Type, Where

_DTYPES = {
    torch.float32: DType.FLOAT32, torch.float16: DType.FLOAT16,
    torch.int16: DType.INT16, torch.int32: DType.INT32, torch.int64: DType.INT64, torch.bool: DType.BOOL,
    torch.quint8: DType.UINT8, torch.qint8: DType.INT8, torch.qint32: DType.INT32, torch.uint8: DType.UINT8, torch.int8: DType.INT8,
}  # fmt: skip

IN_PARTS = "compute with the real and the imaginary part in a tensor each; a Fourier transform is a product with cosines and sines"
INSTEAD = {
    **dict.fromkeys((torch.float64, torch.bfloat16), "convert model and inputs with .float()"),
    **dict.fromkeys((torch.complex64, torch.complex128), IN_PARTS),
}


def type_of(tensor: torch.Tensor, where: Where = Where(), name: str = "") -> Type:
    """The file's type of a PyTorch tensor, in PyTorch's dimension order and with its own integers.

    Args:
        tensor: a constant, or what PyTorch computed.
        where: the call that reads or makes it, for the message of an error.
        name: what the user calls it, for the same.

    Raises:
        QuantizationError: a scale that is zero, negative, infinite or NaN.
        UnsupportedUse: an element type or quantization scheme the files cannot hold.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        got, accepted = f"{tensor.dtype} ({name})" if name else str(tensor.dtype), [str(d).removeprefix("torch.") for d in _DTYPES]
        instead = f"; {INSTEAD[tensor.dtype]}" if tensor.dtype in INSTEAD else ""
        raise UnsupportedUse("dtype", got, ", ".join(accepted) + instead, where=None if where == Where() else where)
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
    if not (quant.scale.min(initial=1) > 0 and quant.scale.max(initial=1) < np.inf):  # NaN is neither
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


def constant_of(load: Callable[[], torch.Tensor], source: tuple[Any, ...] | None = None) -> Constant:
    """A constant that reads its tensor only when it is written, so that packed weights are unpacked one at a time."""
    return Constant(lambda: array_of(load()), source)


@dataclass(frozen=True)
class Weights:
    """Parameters of a convolution or linear layer. ``load`` gives the weight, whose type in PyTorch's order is ``type``.

    ``source``: two with an equal one have equal elements. An object that holds packed parameters is another one in each call, so the place
    in the model stands for it.
    """

    type: Type
    bias: torch.Tensor | None
    load: Callable[[], torch.Tensor]
    source: tuple[Any, ...] | None = None

    @staticmethod
    def of(weight: torch.Tensor, bias: torch.Tensor | None) -> Weights:
        return Weights(type_of(weight), bias, lambda: weight, (id(weight),))
