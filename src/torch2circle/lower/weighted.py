"""Weights and biases of convolutions and linear layers: constants in the file's layout, biases as int32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import Bias, quantize_bias, quantized, rescaled
from ..errors import QuantizationError
from ..ir import Array, Constant, DType, Type, Value
from ..quant import Weights, array_of, constant_of
from ..record import Ref
from .context import Context, Perm

Documented = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def weighted(c: Context, op: str, x: Value, weights: Weights, perm: Perm, documented: Documented, **attrs: Any) -> Value:
    """``op`` on ``x`` with a weight whose first PyTorch dimension is the output channel; ``perm`` brings it into the file's order.

    ``documented`` is the float function (input, weight, bias) that PyTorch documents the operator to be.
    """
    return c.emit(op, x, *weight_and_bias(c, x, weights, perm, documented), **attrs)


def weight_and_bias(c: Context, x: Value, weights: Weights, perm: Perm, documented: Documented) -> tuple[Value, Value]:
    """The two constants, the bias of a quantized operator as int32 with scale ``input_scale * weight_scale``."""
    type_, channels = weights.type, weights.type.shape[0]
    taps = type_.size // channels
    real = np.zeros(channels, np.float32) if weights.bias is None else array_of(weights.bias).astype(np.float32)
    data = constant_of(weights.load)
    if x.type.quant is None:
        ints: Array = real
        bias_type = Type(real.shape, DType.FLOAT32)
    else:
        assert type_.quant is not None
        # the kernel adds up taps products of a centred 8-bit activation and weight
        fitted = _fit(c, real, x.type.quant.scale[0], type_.quant.scale, accumulated=taps * 255 * 255)
        if len(fitted.raised):
            factor = type_.quant.scale.astype(np.float64) / fitted.weight_scale
            data = data.map(lambda q: rescaled(q, factor, 0))
            type_ = replace(type_, quant=replace(type_.quant, scale=fitted.weight_scale))
            _correct(c, weights, documented, fitted.raised)
        ints, bias_type = fitted.q, fitted.value_type()
    weight = Value(type_.permute(perm), _name(c, "weight"), data=data.map(lambda array: array.transpose(perm)))
    return weight, Value(bias_type, _name(c, "bias"), data=Constant.of(ints))


def _fit(c: Context, real: Array, input_scale: np.float32, weight_scale: Array, accumulated: int) -> Bias:
    try:
        fitted = quantize_bias(real, input_scale, weight_scale, accumulated)
    except QuantizationError as error:
        raise QuantizationError(error.message, where=c.where) from None
    if not len(fitted.raised):
        return fitted
    channels = ", ".join(map(str, fitted.raised[:8])) + (", ..." if len(fitted.raised) > 8 else "")
    message = f"the bias does not fit int32 at scale input * weight in {len(fitted.raised)} channel(s): {channels}"
    if c.builder.options.bias_overflow == "error":
        raise QuantizationError(message, where=c.where, hint='bias_overflow="raise" raises the weight scale of those channels just enough')
    c.note("warning", "bias-overflow", f"{message}; their weight scale was raised and the weights requantized")
    return fitted


def _correct(c: Context, weights: Weights, documented: Documented, raised: Array) -> None:
    """Where a bias does not fit int32, QNNPACK's own kernel overflows: verification then compares with the documented arithmetic."""
    x = next(c.builder.recording.tensors[arg.index] for arg in c.call.args.values() if isinstance(arg, Ref))
    out, type_ = c.outs[0], c.out_type()
    with torch.inference_mode():
        real = documented(
            x.dequantize().double(), weights.load().dequantize().double(), None if weights.bias is None else weights.bias.double()
        )
    ints = array_of(out).copy()
    axis = 1 if out.dim() > 2 else -1
    channels = raised if weights.type.quant is not None and weights.type.quant.axis is not None else np.arange(out.shape[axis])
    corrected = np.moveaxis(ints, axis, 0)  # a view
    corrected[channels] = np.moveaxis(quantized(real.numpy(), type_), axis, 0)[channels]
    c.builder.corrected[c.call.outs[0]] = ints
    if (off := np.abs(ints.astype(np.int64) - array_of(out)).max()) > 1:
        c.note("warning", "kernel-overflow", f"PyTorch's own kernel overflows on this bias and is up to {off} LSB off; the file is not")


def _name(c: Context, kind: str) -> str:
    return c.builder.name(f"{c.where.module}.{kind}" if c.where.module else kind)
