"""Operators on plain 8-bit integers, with the scale in an argument, as operators on PyTorch's quantized tensors.

So the graphs of ``torch.export`` quantization are written (``quantized_decomposed::``), and what PyTorch's inductor makes of them for x86
(``onednn::``). While recording, such an operator runs as the formula here, whose integers know their scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes

from .errors import UnsupportedUse

Number = float | Tensor
Operator = Callable[..., Tensor]

_QUANTIZED = {torch.uint8: torch.quint8, torch.int8: torch.qint8}
_ACTIVATIONS: Mapping[str, Callable[[Tensor, Sequence[Any], str], Tensor]] = {
    "none": lambda x, _, __: x,
    "relu": lambda x, _, __: torch.relu(x),
    "relu6": lambda x, _, __: F.relu6(x),
    "hardtanh": lambda x, bounds, __: F.hardtanh(x, *bounds),
    "hardswish": lambda x, _, __: F.hardswish(x),
    "swish": lambda x, _, __: F.silu(x),
    "gelu": lambda x, _, algorithm: F.gelu(x, approximate=algorithm),
}


def real(x: Tensor, scale: Number, zero_point: Number) -> Tensor:
    """The numbers that integers stand for; float ones are that already."""
    if x.is_floating_point():
        return x
    return torch.dequantize(x if x.is_quantized else torch._make_per_tensor_quantized_tensor(x, float(scale), int(zero_point)))


def rounded(x: Tensor, scale: Number, zero_point: Number, dtype: torch.dtype | None, low: int | None = None, high: int | None = None) -> Tensor:
    """``x`` in integers of type ``dtype`` from ``low`` to ``high``, or in float."""
    if dtype is torch.float32:
        return x
    if dtype not in _QUANTIZED:
        raise UnsupportedUse("dtype of integers", str(dtype), "torch.uint8, torch.int8")
    scale, zero_point, info = float(scale), int(zero_point), torch.iinfo(dtype)
    integers = torch.quantize_per_tensor(x, scale, zero_point, _QUANTIZED[dtype])
    if (low, high) in ((None, None), (info.min, info.max)):
        return integers
    return torch.clamp(integers, *((end - zero_point) * scale for end in (low, high)))


# -- graphs of torch.export


def quantize(input: Tensor, scale: Number, zero_point: Number, quant_min: int, quant_max: int, dtype: torch.dtype) -> Tensor:
    return rounded(input, scale, zero_point, dtype, int(quant_min), int(quant_max))


def dequantize(input: Tensor, scale: Number, zero_point: Number, *_: Any, **__: Any) -> Tensor:
    return real(input, scale, zero_point)


def dequantize_channels(input: Tensor, scales: Tensor, zero_points: Tensor | None, axis: int, *_: Any, **__: Any) -> Tensor:
    zeros = torch.zeros(len(scales), dtype=torch.long) if zero_points is None else zero_points.long()
    return torch.dequantize(torch._make_per_channel_quantized_tensor(input, scales, zeros, axis))
