"""Weights and biases of convolutions and linear layers: constants in the file's layout, biases as int32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..arithmetic import Bias, along_axis, quantize_bias, quantized, rescaled
from ..errors import QuantizationError
from ..ir import Array, Constant, DType, Quant, Type, Value
from ..quant import Weights, array_of, constant_of
from ..record import Ref
from .context import Context

Layout = Callable[[Array], Array]
SAMPLE = 4
"""So many output channels of each layer are computed as documented, to find kernels that compute something else."""


@dataclass(frozen=True)
class Documented:
    """The float function (input, weight, bias) that PyTorch documents an operator to be.

    ``outputs``: the output channels' axis in PyTorch's weight; None where the function wants all of them, because they are in groups.
    ``suspect``: a kernel of PyTorch is known to compute something else.
    """

    function: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    outputs: int | None = 0
    suspect: bool = False

    def integers(self, c: Context, x: Tensor, weights: Weights, dtype: torch.dtype, channels: Tensor | None = None) -> Array:
        """The call's result, computed in float of type ``dtype``; of ``channels`` alone, if told."""
        weight, bias = weights.load().dequantize(), weights.bias
        if channels is not None and self.outputs is not None:
            weight, bias = weight.index_select(self.outputs, channels), None if bias is None else bias[channels]
        with torch.inference_mode():
            real = self.function(x.dequantize().to(dtype), weight.to(dtype), None if bias is None else bias.detach().to(dtype))
        return quantized(real.numpy(), c.out_type())

    def largest(self, weights: Weights) -> Tensor | None:
        """The output channels with the largest weights, in which sums overflow first."""
        if self.outputs is None:
            return None
        weight = weights.load()
        magnitudes = torch.from_numpy(array_of(weight)).abs() if weight.dtype is torch.qint8 else weight.dequantize().abs()
        magnitudes = magnitudes.view(torch.uint8) if weight.dtype is torch.qint8 else magnitudes  # of -128 int8 has none
        sums = magnitudes.movedim(self.outputs, 0).flatten(1).sum(1)
        return sums.topk(min(SAMPLE, len(sums))).indices


def result_type(c: Context, x: Value, shape: Sequence[int]) -> Type:
    """The type of the call's result with another shape; next to float ``x``, float."""
    return replace(c.out_type() if x.type.quant else x.type, shape=tuple(shape))


def weight_and_bias(
    c: Context, x: Value, weights: Weights, layout: Layout, documented: Documented | None = None, channels: int = 0
) -> tuple[Value, Value]:
    """The two constants of an operator on ``x``.

    Next to quantized ``x`` the bias is int32 with scale ``input_scale * weight_scale``. Next to float ``x`` it is float, and integer
    weights stay what they are: the operator is a hybrid one.

    Args:
        layout: PyTorch's weight as the operator holds it. A 0 that it puts in is a real zero.
        documented: what PyTorch documents the call to compute, if its result is to be held to that.
        channels: the axis of the output channels in that layout.
    """
    type_ = weights.type
    shape = layout(np.broadcast_to(np.zeros((), np.int8), type_.shape)).shape
    real = np.zeros(shape[channels], np.float32) if weights.bias is None else array_of(weights.bias).astype(np.float32)
    quant = type_.quant and replace(type_.quant, axis=None if type_.quant.axis is None else channels)
    data = _changed(constant_of(weights.load, weights.source), layout, type_.quant, quant)
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
        if documented is not None:
            c.later(partial(_correct, c, weights, documented, fitted.raised))
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
    return along_axis(quant, rank)[1].astype(np.int16)


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
    """Where PyTorch's kernel is not what it documents, verification compares with what it documents.

    QNNPACK overflows on a large bias, oneDNN's transposed convolutions mistake channels for others, and 16-bit sums of FBGEMM
    saturate if activations use more than 7 bits: on which channels depends on the machine.
    """
    x = next(c.builder.recording.tensors[arg.index] for arg in c.call.args.values() if isinstance(arg, Ref))
    if not (len(raised) or documented.suspect or array_of(x).max(initial=0) > 127):
        return
    weight = weights.load()  # once, if it is packed
    weights = replace(weights, load=lambda: weight)
    axis = 1 if weights.type.rank > 2 else c.outs[0].dim() - 1

    def by_channel(ints: Array) -> Array:
        return np.moveaxis(ints.reshape(*c.out_shape[:axis], -1, *c.out_shape[axis + 1 :]), axis, 0)

    got = by_channel(array_of(c.outs[0]))
    sample = documented.largest(weights)
    found = by_channel(documented.integers(c, x, weights, torch.float32, sample))
    if not len(raised) and _apart(found, got if sample is None else got[sample]).max(initial=0) <= 1:  # which is float32's own
        return
    found = by_channel(documented.integers(c, x, weights, torch.float64))
    wrong = _apart(found, got).reshape(len(got), -1).max(1, initial=0) > 1
    if weights.type.quant is not None and weights.type.quant.axis is not None:
        wrong[raised] = True
    elif len(raised):
        wrong[:] = True
    corrected = got.copy()
    corrected[wrong] = found[wrong]
    c.builder.corrected[c.call.outs[0]] = np.moveaxis(corrected, 0, axis)
    if (off := _apart(found, got).max()) > 1:
        c.note("warning", "kernel-overflow", f"PyTorch's own kernel overflows or is wrong, and is up to {off} LSB off; the file is not")


def _apart(a: Array, b: Array) -> Array:
    result: Array = np.abs(a.astype(np.int64) - b)
    return result


def _name(c: Context, kind: str) -> str:
    return c.builder.name(f"{c.where.module}.{kind}" if c.where.module else kind)
