"""Weights and biases of convolutions and linear layers: constants in the file's layout, biases as int32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import Bias, quantize_bias, quantized, rescaled
from ..errors import QuantizationError
from ..ir import Array, Constant, DType, Quant, Type, Value
from ..quant import Weights, array_of, constant_of
from ..record import Ref
from .context import Context

Documented = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Layout = Callable[[Array], Array]


def weight_and_bias(
    c: Context, x: Value, weights: Weights, layout: Layout, documented: Documented, channels: int = 0
) -> tuple[Value, Value]:
    """The two constants of an operator on ``x``.

    Next to quantized ``x`` the bias is int32 with scale ``input_scale * weight_scale``. Next to float ``x`` it is float, and integer
    weights stay what they are: the operator is a hybrid one.

    Args:
        layout: PyTorch's weight as the operator holds it. A 0 that it puts in is a real zero.
        documented: the float function (input, weight, bias) that PyTorch documents the operator to be.
        channels: the axis of the output channels in that layout.
    """
    type_ = weights.type
    shape = layout(np.broadcast_to(np.zeros((), np.int8), type_.shape)).shape
    real = np.zeros(shape[channels], np.float32) if weights.bias is None else array_of(weights.bias).astype(np.float32)
    quant = type_.quant and replace(type_.quant, axis=None if type_.quant.axis is None else channels)
    data = _changed(constant_of(weights.load), layout, type_.quant, quant)
    bias, bias_type = real, Type(real.shape, DType.FLOAT32)
    if x.type.quant is not None:
        assert quant is not None and len(quant.scale) in (1, len(real)), quant
        # the kernel adds up products of a centred 8-bit activation and weight
        accumulated = int(np.prod(shape)) // len(real) * 255 * 255
        fitted = _fit(c, real, x.type.quant.scale[0], quant.scale, accumulated)
        if len(fitted.raised):
            factor = quant.scale.astype(np.float64) / fitted.weight_scale
            data = _changed(data, lambda q: rescaled(q, factor, channels), quant, quant)
            quant = replace(quant, scale=fitted.weight_scale)
            _correct(c, weights, documented, fitted.raised)
        bias, bias_type = fitted.q, fitted.value_type()
    weight = Value(Type(shape, type_.dtype, quant), _name(c, "weight"), data=data)
    return weight, Value(bias_type, _name(c, "bias"), data=Constant.of(bias))


def _changed(data: Constant, change: Layout, before: Quant | None, after: Quant | None) -> Constant:
    """``change`` of the integers without their zero points, which are put back behind."""
    if before is None or after is None or not before.zero_point.any():
        return data.map(change)

    def changed(q: Array) -> Array:
        centred = change(q.astype(np.int16) - _zero_points(before, q.ndim))
        result: Array = (centred + _zero_points(after, centred.ndim)).astype(q.dtype)
        return result

    return data.map(changed)


def _zero_points(quant: Quant, rank: int) -> Array:
    shape = [1] * rank
    if quant.axis is not None:
        shape[quant.axis] = -1
    return quant.zero_point.astype(np.int16).reshape(shape)


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
    real = real.reshape(out.shape)
    axis = 1 if weights.type.rank > 2 else -1
    channels = raised if weights.type.quant is not None and weights.type.quant.axis is not None else np.arange(out.shape[axis])
    corrected = np.moveaxis(ints, axis, 0)  # a view
    corrected[channels] = np.moveaxis(quantized(real.numpy(), type_), axis, 0)[channels]
    c.builder.corrected[c.call.outs[0]] = ints
    if (off := np.abs(ints.astype(np.int64) - array_of(out)).max()) > 1:
        c.note("warning", "kernel-overflow", f"PyTorch's own kernel overflows on this bias and is up to {off} LSB off; the file is not")


def _name(c: Context, kind: str) -> str:
    return c.builder.name(f"{c.where.module}.{kind}" if c.where.module else kind)
