"""Layers with stored weights and float activations: those that PyTorch quantizes at run time, and weights in float16.

PyTorch takes the smallest and largest element of an activation, makes a scale of them, rounds the activation to quint8 and multiplies
integers. ``Options.dynamic`` says what the file does instead: leave that to the runtime's hybrid kernels, which round in their own way,
compute in float on the activation as it is, or round as PyTorch does by float operators in front.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ir import DType, Quant, Type, Value
from ..quant import Weights, array_of
from ..record import Call
from .context import Builder, Context, Perm, Placed, plain, reshaped
from .conv import conv
from .formula import part
from .linear import fully_connected
from .registry import Order, lowers
from .transposed import conv_transposed

Layer = Callable[[Context, Placed], Value]
Formula = Callable[[Tensor, Tensor, Tensor | None], Tensor]

LEAST_SCALE = float(np.float32(6.1e-5))
"""PyTorch raises smaller scales to this one."""
FLOAT_NOISE = 2.0**-16
"""Of the largest result: what sums of float32 products differ by if they are added in another order."""
NEAR_TIE = 2.0**-14
"""Of a step: numbers nearer than this to the middle of two steps may be rounded either way, since float32 has no more digits there."""

COMPUTES = {
    "hybrid": "the runtime multiplies 8-bit weights and rounds the activation in its own way, where it has such a kernel",
    "dequantize": "computes in float on 8-bit weights, the activation is not rounded",
    "exact": "computes in float on 8-bit weights, the activation is rounded as PyTorch rounds it",
}


# -- PyTorch's operators


@lowers("quantized::linear_dynamic", "_quantized::linear_dynamic", order=Order.FREE, act="NONE")
@lowers("quantized::linear_relu_dynamic", order=Order.FREE, act="RELU")
def linear_dynamic(c: Context, x: Placed, W_prepack: Any, reduce_range: bool, act: str) -> Value:
    return dynamic_linear(c, x, Weights.packed(W_prepack, c.where), reduce_range, act)


@lowers("sparse::qlinear_dynamic", order=Order.FREE)
def sparse_linear_dynamic(c: Context, x: Placed, W_prepack: Any) -> Value:
    """QNNPACK's; the zeros are stored."""
    return dynamic_linear(c, x, Weights.packed(W_prepack, c.where), False, "NONE")


@lowers("aten::fbgemm_linear_int8_weight", order=Order.FREE, ignores=("packed", "col_offsets"))
@lowers("aten::fbgemm_linear_int8_weight_fp32_activation", order=Order.FREE, ignores=("packed", "col_offsets"))
def linear_int8_weight(c: Context, x: Placed, weight: Tensor, weight_scale: float, weight_zero_point: int, bias: Tensor) -> Value:
    integers = torch._make_per_tensor_quantized_tensor(weight, weight_scale, weight_zero_point)
    return dynamic_linear(c, x, Weights.of(integers, bias), False, "NONE")


@lowers("quantized::conv1d_dynamic", "quantized::conv2d_dynamic", "quantized::conv3d_dynamic", order=Order.FREE)
def conv_dynamic(c: Context, x: Placed, packed_weight: Any, reduce_range: bool) -> Value:
    p, weights, dims = packed_weight, Weights.packed(packed_weight, c.where), len(x.order) - 2

    def layer(c: Context, x: Placed) -> Value:
        return conv(c, x, dims, weights, p.stride(), p.padding(), p.dilation(), p.groups())

    return dynamic(c, x, weights, layer, partial(_convolution, p, False), reduce_range, squeezed=True)


@lowers("quantized::conv_transpose1d_dynamic", "quantized::conv_transpose2d_dynamic", order=Order.FREE)
@lowers("quantized::conv_transpose3d_dynamic", order=Order.FREE)
def conv_transposed_dynamic(c: Context, x: Placed, packed_weight: Any, reduce_range: bool) -> Value:
    p, weights, dims = packed_weight, Weights.packed(packed_weight, c.where), len(x.order) - 2

    def layer(c: Context, x: Placed) -> Value:
        return conv_transposed(c, x, dims, weights, p.stride(), p.padding(), p.output_padding(), p.dilation(), p.groups())

    return dynamic(c, x, weights, layer, partial(_convolution, p, True), reduce_range, squeezed=True)


def _convolution(p: Any, transposed: bool, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x = x.reshape(*x.shape[:-1], *[1] * (weight.dim() - x.dim()), x.shape[-1])  # packed weights of lines have a row
    return torch.convolution(x, weight, bias, p.stride(), p.padding(), p.dilation(), transposed, p.output_padding(), p.groups())


@lowers("quantized::linear_with_input_q_dq_qweight_dq_output_fp32", order=Order.PLAIN, act="NONE")
@lowers("quantized::linear_with_input_q_dq_qweight_dq_relu_output_fp32", order=Order.PLAIN, act="RELU")
def linear_of_rounded(c: Context, x: Value, X_scale: float, X_zero_point: int, W_prepack: Any, act: str) -> Value:
    """The activation is rounded with a scale that is known before."""
    integers = c.emit_as(Type(x.type.shape, DType.UINT8, Quant.per_tensor(X_scale, X_zero_point)), "QUANTIZE", x)
    return fully_connected(c, part(c, "DEQUANTIZE", integers, dtype=DType.FLOAT32), Weights.packed(W_prepack, c.where), act)


@lowers("quantized::linear_dynamic_fp16", order=Order.PLAIN, act="NONE")
@lowers("quantized::linear_relu_dynamic_fp16", order=Order.PLAIN, act="RELU")
def linear_fp16(c: Context, x: Value, W_prepack: Any, act: str) -> Value:
    return fully_connected(c, x, half(*W_prepack.unpack()), act)


@lowers("quantized::linear_dynamic_fp16_unpacked_weight", order=Order.PLAIN)
def linear_fp16_unpacked(c: Context, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    return fully_connected(c, x, half(weight, bias), "NONE")


@lowers("_quantized::wrapped_fbgemm_linear_fp16_weight", order=Order.PLAIN, ignores=("out_channel",))
def linear_fp16_wrapped(c: Context, x: Value, W: Tensor, B: Tensor) -> Value:
    return linear_fp16_packed(c, x, W, B)


@lowers("aten::fbgemm_linear_fp16_weight", "aten::fbgemm_linear_fp16_weight_fp32_activation", order=Order.PLAIN)
def linear_fp16_packed(c: Context, x: Value, packed_weight: Tensor, bias: Tensor | None) -> Value:
    """Nothing unpacks these weights but a product with the unit matrix, which is exact."""
    unit = torch.eye(x.type.shape[-1])
    return fully_connected(c, x, half(torch.fbgemm_linear_fp16_weight_fp32_activation(unit, packed_weight, None).T, bias), "NONE")


@lowers("onednn::linear_dynamic_fp16", order=Order.PLAIN, act="NONE")
@lowers("onednn::linear_relu_dynamic_fp16", order=Order.PLAIN, act="RELU")
def linear_fp16_onednn(c: Context, x: Value, w: Tensor, bias: Tensor | None, act: str) -> Value:
    return fully_connected(c, x, half(w.to_dense().T, bias), act)


def half(weight: Tensor, bias: Tensor | None) -> Weights:
    """Weights as PyTorch rounds them to float16, the largest number of that type in place of larger ones."""
    largest = torch.finfo(torch.float16).max
    return Weights.of(weight.clamp(-largest, largest).half(), bias)


# -- an activation that is quantized at run time


def dynamic_linear(c: Context, x: Placed, weights: Weights, reduce_range: bool, act: str) -> Value:
    def layer(c: Context, x: Placed) -> Value:
        return fully_connected(c, c.builder.arrange(x, plain(len(x.order))), weights, act)

    def formula(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        real = torch.nn.functional.linear(x, weight, bias)
        return real.relu() if act == "RELU" else real

    return dynamic(c, x, weights, layer, formula, reduce_range)


def dynamic(
    c: Context, x: Placed, weights: Weights, layer: Layer, formula: Formula, reduce_range: bool, *, squeezed: bool = False
) -> Value:
    """The call's result by ``layer``, with the activation rounded as ``Options.dynamic`` says.

    Args:
        formula: the float function (input, weight, bias) that the layer is.
        reduce_range: PyTorch takes 127 steps instead of 255. (QNNPACK does not.)
        squeezed: PyTorch rounds the result to the steps of its input, too, and clips it to their range.
    """
    mode, weight_quant = c.builder.options.dynamic, weights.type.quant
    assert weight_quant is not None
    example = Example(c.recorded(next(iter(c.call.args))), weights, formula)
    steps = 127 if reduce_range else 255
    if mode == "exact" or squeezed or not reduce_range:  # else its 16-bit sums cannot saturate
        steps = _compared(c, example, steps, squeezed)
    if mode == "exact":
        c.note("note", "dynamic", COMPUTES[mode])
        return _exact(c, x, layer, example, steps, squeezed)
    c.hybrid = mode == "hybrid" and not weight_quant.zero_point.any()  # hybrid kernels know no zero point of a weight
    c.builder.steps[c.call.outs[0]] = example.bound(steps)
    c.note("note", "dynamic", COMPUTES["hybrid" if c.hybrid else "dequantize"])
    return layer(c, x)


def _compared(c: Context, example: Example, steps: int, squeezed: bool) -> int:
    """The number of steps that explains PyTorch's result; where none does, its kernel is at fault and is told so."""
    real = {n: example.result(n) for n in {steps, 255}}
    torchs = {n: example.grid(n).rounded(out) for n, out in real.items()} if squeezed else real
    got = c.outs[0]
    off = {n: float((out - got).abs().max()) for n, out in torchs.items()}
    steps = min(off, key=lambda n: off[n])
    noise = 1.5 * example.grid(steps).scale if squeezed else FLOAT_NOISE * float(got.abs().max())
    if squeezed and c.builder.options.dynamic != "exact":
        off[steps], noise = float((real[steps] - got).abs().max()), 0
        message = "PyTorch rounds and clips this result to the steps of its input and is up to {:.3g} off; only dynamic=\"exact\" does so, too"
    else:
        message, real = "PyTorch's own kernel saturates here and is up to {:.3g} off; the file is not", torchs
    if off[steps] > noise:
        c.builder.corrected[c.call.outs[0]] = array_of(real[steps])
        c.note("warning", "kernel-overflow", message.format(off[steps]))
    return steps


def _exact(c: Context, x: Placed, layer: Layer, example: Example, steps: int, squeezed: bool) -> Value:
    grid = grid_of(c, x.value, steps)
    rounded = Placed(on_grid(c, x.value, grid), x.order)
    if not squeezed:
        if (bound := example.tie_bound(steps)) > 0:
            c.builder.steps[c.call.outs[0]] = bound
        return layer(c, rounded)
    c.builder.steps[c.call.outs[0]] = example.grid(steps).scale
    inner = Inner(c.builder, c.call, c.order)
    real = layer(inner, rounded)
    made = on_grid(c, real, grid).node
    assert made is not None
    return c.emit(made.op, *made.inputs, order=inner.orders[real.name], **made.attrs)


class Inner(Context):
    """A context whose results are something else than PyTorch's, to be made from them."""

    def __init__(self, builder: Builder, call: Call, order: Perm) -> None:
        super().__init__(builder, call, order)
        self.orders: dict[str, Perm] = {}

    def result(self, index: int, order: Perm | None = None) -> Value:
        out = super().result(index, order)
        assert out.origin is not None
        self.orders[out.name] = out.origin.order
        return replace(out, origin=None)


# -- numbers: what PyTorch computes on the example


@dataclass(frozen=True)
class Steps:
    """PyTorch's quantization of one activation to quint8."""

    scale: float
    zero_point: int

    @staticmethod
    def of(x: Tensor, count: int) -> Steps:
        """``count`` steps from the smallest to the largest element and 0, as PyTorch chooses them in float64."""
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        span = (high - low) / count
        return Steps(max(span, LEAST_SCALE), round(-low / span)) if np.float32(span) > 0 else Steps(0.1, 0)

    def rounded(self, x: Tensor) -> Tensor:
        return torch.quantize_per_tensor(x, self.scale, self.zero_point, torch.quint8).dequantize()

    def near_ties(self, x: Tensor) -> Tensor:
        """1 where ``x`` lies in the middle of two steps, as far as float32 can tell."""
        place = x.double() / self.scale + self.zero_point
        return ((place - place.floor() - 0.5).abs() < NEAR_TIE).float()


@dataclass(frozen=True)
class Example:
    """The layer on the recorded activation."""

    x: Tensor
    weights: Weights
    formula: Formula

    def grid(self, count: int) -> Steps:
        return Steps.of(self.x, count)

    def result(self, count: int) -> Tensor:
        """As documented: the rounded activation times the weights."""
        bias = self.weights.bias
        return self.formula(self.grid(count).rounded(self.x), self.weights.load().dequantize(), bias if bias is None else bias.detach())

    def bound(self, count: int) -> float:
        """How far two results may be apart that round the activation rightly, each in its own way.

        PyTorch's step is s = (max - min) / count, a runtime's at most t = 2 * max|x| / 254, for each row, image or the whole. A rounded
        activation is off by at most s/2 or t/2 (0 if it is not rounded), so two of them are at most (s + t) / 2 apart, and a result,
        the sum of them times its weights, at most (s + t) / 2 times the sum of its absolute weights: the layer itself with all
        activations (s + t) / 2, absolute weights and no bias. A RELU behind only brings results nearer.
        """
        apart = (self.grid(count).scale + float(self.x.abs().max()) / 127) / 2
        return self._spread(torch.full_like(self.x, apart))

    def tie_bound(self, count: int) -> float:
        """As ``bound``, where both round to PyTorch's steps: only activations in the middle of two may go either way. 0 if there are none."""
        grid = self.grid(count)
        return self._spread(grid.near_ties(self.x) * grid.scale)

    def _spread(self, apart: Tensor) -> float:
        return float(self.formula(apart, self.weights.load().dequantize().abs(), None).max())


# -- the same in the file's operators


@dataclass(frozen=True)
class Grid:
    """Scale, its inverse and the zero point, each one element in float32; the integers begin with ``lowest``."""

    scale: Value
    inverse: Value
    zero_point: Value
    lowest: int = 0


def grid_of(c: Context, x: Value, count: int, lowest: int = 0) -> Grid:
    """``Steps.of`` in float32, the scale to its last bit: what float64 keeps is added behind."""
    x = _few_dimensions(c, x)
    op = partial(part, c)
    axes = c.const(list(range(x.type.rank)), "axes")

    def largest(v: Value) -> Value:
        one = Type((1,) * v.type.rank, DType.FLOAT32)
        return op("RELU", c.emit_as(one, "REDUCE_MAX", v, axes, keep_dims=True))

    high, low = largest(x), largest(op("NEG", x))
    span = op("ADD", high, low)
    lost = op("SUB", op("MINIMUM", high, low), op("SUB", span, op("MAXIMUM", high, low)))
    near = op("DIV", span, count)
    rest = op("ADD", op("SUB", span, op("MUL", near, count + 1)), near)  # span - count * near, and nothing of it is lost
    scale = op("MAXIMUM", op("ADD", near, op("DIV", op("ADD", rest, lost), count)), LEAST_SCALE)
    share = op("DIV", low, op("MAXIMUM", span, float(np.finfo(np.float32).tiny)))
    first = lowest * (count + 1) // 256
    zero_point = op("ROUND", op("ADD", op("MUL", share, count), first) if first else op("MUL", share, count))
    return Grid(scale, op("DIV", c.const(1.0), scale), zero_point, lowest)


def on_grid(c: Context, x: Value, grid: Grid) -> Value:
    """``x`` rounded: ``scale * (clamp(round(x / scale + zero_point)) - zero_point)``"""
    rounded = part(c, "MUL", centred(c, _few_dimensions(c, x), grid), grid.scale)
    return rounded if rounded.type.shape == x.type.shape else reshaped(c, rounded, x.type.shape)


def centred(c: Context, x: Value, grid: Grid) -> Value:
    """The integers of ``x`` without the zero point, as floats."""
    op = partial(part, c)
    integers = op("ROUND", op("ADD", op("MUL", x, grid.inverse), grid.zero_point))
    clamped = op("MINIMUM", op("MAXIMUM", integers, grid.lowest), grid.lowest + 255)
    return op("SUB", clamped, grid.zero_point)


def _few_dimensions(c: Context, x: Value) -> Value:
    """onert reduces and clamps four dimensions at most."""
    return x if x.type.rank <= 4 else reshaped(c, x, (x.type.shape[0], x.type.size // x.type.shape[0]))
