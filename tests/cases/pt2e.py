"""Graphs of quantization by torch.export: integers of 16 bits, scales of run time, and sums, pools and constants between scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .dynamic import HYBRID
from .making import ADDED, AVERAGE, FLOAT, NCHW, WEIGHTED, Case, Near, floating
from .onednn import SCALE, ZERO_POINT, D

WIDE = Near(1, 0.85, "LiteRT multiplies the sums of int16 by a factor of 16 bits", ("litert",))
WIDE_SUM = replace(WIDE, share=0.45, reason=f"{WIDE.reason}; {ADDED.reason}")
NO_INT16 = {"onert": "QUANTIZE (f32->i16: refused)"}
RANGES = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-32768, 32767)}


def pair(x: Tensor, scale: float = SCALE, zero_point: int = ZERO_POINT, dtype: torch.dtype = torch.uint8, low: int | None = None) -> Tensor:
    """Into integers and back."""
    facts = scale, zero_point, RANGES[dtype][0] if low is None else low, RANGES[dtype][1], dtype
    return D.dequantize_per_tensor(D.quantize_per_tensor(x, *facts), *facts)


def wide(x: Tensor, scale: float = 0.000317, low: int = -32768) -> Tensor:
    return pair(x, scale, 0, torch.int16, low)


def stored(weight: Tensor, ends: Sequence[int] = (-127, 127), *, each: bool = True) -> Tensor:
    """A weight behind its integers, which may be those of four bits."""
    if not each:
        scale = float(weight.abs().max()) / ends[1]
        integers = D.quantize_per_tensor(weight, scale, 0, *ends, torch.int8)
        return D.dequantize_per_tensor(integers, scale, 0, *ends, torch.int8)
    scales, zeros = weight.abs().flatten(1).amax(1) / ends[1], torch.zeros(len(weight), dtype=torch.int64)
    integers = D.quantize_per_channel(weight, scales, zeros, 0, *ends, torch.int8)
    return D.dequantize_per_channel(integers, scales, zeros, 0, *ends, torch.int8)


def in_groups(x: Tensor, size: int = 8, affine: bool = False) -> Tensor:
    """A linear layer of whose weight's rows each ``size`` elements have a scale."""
    scales = weight(5, x.shape[-1]).view(5, -1, size).abs().amax(2) / 7
    zeros = torch.arange(scales.numel()).view_as(scales) % 3 if affine else torch.zeros_like(scales, dtype=torch.int64)
    facts = scales, zeros, -8, 7, torch.int8, size
    integers = D.quantize_per_channel_group(weight(5, x.shape[-1]), *facts)
    return F.linear(x, D.dequantize_per_channel_group(integers, *facts, torch.float32), torch.linspace(-1, 1, 5))


def weight(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(0, 0.2, shape).astype(np.float32))


def conv(x: Tensor, channels: int = 5, size: int = 3, **options: Any) -> Tensor:
    return F.conv2d(x, stored(weight(channels, x.shape[1], size, size), **options), torch.linspace(-1, 1, channels), 1, size // 2)


def linear(x: Tensor, units: int = 5, **options: Any) -> Tensor:
    return F.linear(x, stored(weight(units, x.shape[-1]), **options), torch.linspace(-1, 1, units))


def integers_of_bias(x: Tensor) -> Tensor:
    """A bias that is quantized beforehand, too."""
    scale = SCALE * 0.0041
    bias = D.quantize_per_tensor(torch.linspace(-1, 1, 5), scale, 0, -(2**31), 2**31 - 1, torch.int32)
    kernel = D.quantize_per_tensor(weight(5, 3, 3, 3), 0.0041, 0, -127, 127, torch.int8)
    kernel = D.dequantize_per_tensor(kernel, 0.0041, 0, -127, 127, torch.int8)
    return pair(F.conv2d(pair(x), kernel, D.dequantize_per_tensor(bias, scale, 0, -(2**31), 2**31 - 1, torch.int32)), 0.117)


def added(step: float) -> Callable[[Tensor], Tensor]:
    """A layer and what is added to it, in steps of ``step``: with 0.0317 for the sum."""

    def model(x: Tensor) -> Tensor:
        branch = pair(conv(pair(x), size=1), step, 128)
        return pair(torch.relu(conv(pair(x)) + branch), 0.0317, 0)

    return model


def at_run_time(x: Tensor, *, symmetric: bool = False, dtype: torch.dtype = torch.int8) -> Tensor:
    choose = D.choose_qparams_symmetric.tensor if symmetric else D.choose_qparams.tensor
    facts = *choose(x, *RANGES[dtype], 2.0**-12, dtype), *RANGES[dtype], dtype
    return D.dequantize_per_tensor.tensor(D.quantize_per_tensor.tensor(x, *facts), *facts)


def masked(x: Tensor) -> Tensor:
    """The lowest float32 where attention must not look, in integers."""
    mask = torch.full((9, 5), torch.finfo(torch.float32).min).triu(1)
    step = torch.finfo(torch.float32).max / 255
    return pair(pair(linear(pair(x)), 0.117, 128) + pair(mask, step, 255), step, 255)


def offset(x: Tensor) -> Tensor:
    row = D.quantize_per_tensor(weight(5, 1, 1), 0.0041, 0, -128, 127, torch.int8)
    return pair(pair(conv(pair(x)), 0.117, 98) + D.dequantize_per_tensor(row, 0.0041, 0, -128, 127, torch.int8), 0.0917, 112)


def network(x: Tensor) -> Tensor:
    """All in int16."""
    x = wide(F.relu(conv(wide(x))))
    x = wide(F.max_pool2d(wide(conv(x) + x, 0.000417), 2), 0.000417)
    left, right = wide(conv(x, 4, 1, each=False)), wide(F.relu6(conv(x, 4)))
    x = wide(torch.cat([wide(left * right), left], 1))
    return wide(linear(wide(x.mean([2, 3]))), 0.000217)


def mixed(x: Tensor) -> Tensor:
    """Kernels on int16 give int16: what gives 8 bits computes in float."""
    return pair(conv(wide(x)), 0.117, 63)


CASES = [
    Case("pt2e.groups", lambda: floating(in_groups, (3, 32)), FLOAT),
    Case("pt2e.groups_affine", lambda: floating(lambda x: in_groups(x, affine=True), (3, 32)), FLOAT),
    Case("pt2e.bias_int32", lambda: floating(integers_of_bias, NCHW), WEIGHTED),
    Case("pt2e.int4", lambda: floating(lambda x: pair(linear(pair(x), ends=(-8, 7)), 0.117, 98), (9, 17)), WEIGHTED),
    Case("pt2e.sum", lambda: floating(added(0.0217), NCHW), ADDED),
    Case("pt2e.sum_of_larger_steps", lambda: floating(added(0.0417), NCHW), ADDED),
    Case("pt2e.sum_of_far_larger_steps", lambda: floating(added(0.0917), NCHW), WEIGHTED),
    Case("pt2e.constant", lambda: floating(offset, NCHW), WEIGHTED),
    Case("pt2e.mask", lambda: floating(masked, (9, 17)), WEIGHTED),
    Case("pt2e.max_pool", lambda: floating(lambda x: pair(F.max_pool2d(F.relu(conv(pair(x))), 3, 2, 1), 0.0317, 0), NCHW), WEIGHTED),
    Case("pt2e.average", lambda: floating(lambda x: pair(F.avg_pool2d(pair(x), 2), 0.0417, 98), NCHW), AVERAGE),
    Case("pt2e.int16", lambda: floating(network, NCHW), WIDE_SUM, refused=NO_INT16),
    Case("pt2e.int16_symmetric", lambda: floating(lambda x: wide(x + wide(x, low=-32767), low=-32767), (2, 5)), WIDE, refused=NO_INT16),
    Case("pt2e.int16_to_8", lambda: floating(mixed, NCHW), WIDE, refused=NO_INT16),
    Case("pt2e.dynamic", lambda: floating(lambda x: F.relu(linear(at_run_time(x))), (9, 17)), HYBRID),
    Case("pt2e.dynamic_conv", lambda: floating(lambda x: conv(at_run_time(x, dtype=torch.uint8)), NCHW), HYBRID),
    *(Case(f"pt2e.dynamic_{mode}", lambda: floating(lambda x: linear(at_run_time(x)), (9, 17)), near, {"dynamic": mode})
      for mode, near in (("dequantize", HYBRID), ("exact", FLOAT))),
    Case("pt2e.dynamic_symmetric", lambda: floating(
        lambda x: linear(at_run_time(x, symmetric=True)), (9, 17)), FLOAT, {"dynamic": "exact"}),
]  # fmt: skip
