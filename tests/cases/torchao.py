"""Layers that torchao's ``quantize_`` made: weights of 8 and of 4 bits, activations left alone or rounded row by row."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.ao.quantization import PerChannelMinMaxObserver

from .dynamic import FLOATS, bias, each
from .making import WEIGHTED, Call, Case, Made, Seq, Shape, eager, inputs, seeded


def quantized(body: nn.Module, x: Shape, config: Callable[[Any], Any]) -> Made:
    """``config`` gets the module ``torchao.quantization``, which is imported only here: that takes a second."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torchao|torch\.utils\._pytree")
        from torchao import quantization

        model = seeded(body)
        quantization.quantize_(model, config(quantization))
    return model, inputs([x])


def of(config: str, **options: Any) -> Callable[[Any], Any]:
    """The config of that name; an option that is a function gets the module."""
    return lambda ao: getattr(ao, config)(**{key: made(ao) if callable(made) else made for key, made in options.items()})


def convolution() -> Made:
    """A model that dequantizes a weight of 4 bits itself."""
    integers = torch.from_numpy(np.random.default_rng(3).integers(-8, 8, (5, 3, 3, 3)).astype(np.int8))
    weight = torch._make_per_channel_quantized_tensor(integers, torch.linspace(0.02, 0.05, 5), torch.zeros(5, dtype=torch.int64), 0)
    return Call(lambda x: nn.functional.conv2d(x, weight.dequantize(), bias(5))).eval(), inputs([(2, 3, 9, 11)])


def integers(depth: int) -> Made:
    """On activations of 8 bits."""
    narrow = PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-8, quant_max=7)
    return eager(nn.Linear(depth, 5), (30, depth), weight=narrow)


def layer(config: Callable[[Any], Any], x: Shape = (9, 17), units: int = 5, *, biased: bool = True) -> Made:
    return quantized(Seq(nn.Linear(x[-1], units, bias=biased)), x, config)


def tensor(ao: Any) -> Any:
    return ao.PerTensor()


def row(ao: Any) -> Any:
    return ao.PerAxis(0)


def group(ao: Any) -> Any:
    return ao.PerGroup(8)


def affine(ao: Any) -> Any:
    return ao.MappingType.ASYMMETRIC


STORED, ROUNDED, FOUR, FOUR_ROUNDED = (
    "Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig", "IntxWeightOnlyConfig", "Int8DynamicActivationIntxWeightConfig",
)  # fmt: skip
COARSE = replace(WEIGHTED, share=0.95, reason=f"{WEIGHTED.reason}: of 4 bits, weights have long steps, and so has the bias")
BITS = {"weight_dtype": torch.int4}

CASES = [
    Case("torchao.stored", lambda: layer(of(STORED)), FLOATS),
    Case("torchao.stored_rank3", lambda: layer(of(STORED), (2, 3, 17), biased=False), FLOATS),
    Case("torchao.stored_per_tensor", lambda: layer(of(STORED, granularity=tensor)), FLOATS),
    Case("torchao.stored_groups", lambda: layer(of(STORED, granularity=group), (9, 24)), FLOATS),
    *each("torchao.rounded", lambda: layer(of(ROUNDED), (2, 3, 17))),
    *each("torchao.rounded_per_tensor", lambda: layer(of(ROUNDED, granularity=tensor)), modes=("hybrid", "exact")),
    *each("torchao.rounded_affine", lambda: layer(of(ROUNDED, act_mapping_type=affine), biased=False), modes=("hybrid", "exact")),
    *each("torchao.rounded_two", lambda: quantized(Seq(nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, 5)), (9, 17), of(ROUNDED))),
    Case("torchao.four", lambda: layer(of(FOUR, granularity=row, **BITS)), FLOATS),
    Case("torchao.four_even", lambda: layer(of(FOUR, granularity=row, **BITS), (2, 3, 18)), FLOATS),
    Case("torchao.four_affine", lambda: layer(of(FOUR, granularity=row, mapping_type=affine, **BITS)), FLOATS),
    Case("torchao.four_groups", lambda: layer(of(FOUR, granularity=group, **BITS), (9, 24)), FLOATS),
    Case("torchao.four_affine_groups", lambda: layer(of(FOUR, granularity=group, mapping_type=affine, **BITS), (9, 24)), FLOATS),
    Case("torchao.four_conv2d", convolution, FLOATS),
    Case("torchao.four_integers", lambda: integers(18), COARSE),
    Case("torchao.four_integers_odd", lambda: integers(17), COARSE),
    *each("torchao.four_rounded", lambda: layer(of(FOUR_ROUNDED, weight_granularity=row, **BITS), (2, 3, 18))),
    *each("torchao.four_rounded_groups", lambda: layer(of(FOUR_ROUNDED, weight_granularity=group, **BITS), (9, 24))),
]  # fmt: skip
