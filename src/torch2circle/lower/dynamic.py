"""Layers with stored weights and float activations: those that PyTorch quantizes at run time, and weights in float16.

PyTorch takes the smallest and largest element of an activation, makes a scale of them, rounds the activation to quint8 and multiplies
integers. ``Options.dynamic`` says what the file does instead: leave that to the runtime's hybrid kernels, which round in their own way,
compute in float on the activation as it is, or round as PyTorch does by float operators in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..ir import DType, Quant, Type, Value
from ..quant import Weights, array_of, type_of
from .context import Context, Perm, Placed, plain, reshaped
from .conv import conv
from .formula import cast, part
from .linear import fully_connected
from .registry import Order, lowers
from .transposed import conv_transposed

Layer = Callable[[Context, Placed], Value]
Formula = Callable[[Tensor, Tensor, Tensor | None], Tensor]

LEAST_SCALE = float(np.float32(6.1e-5))
"""PyTorch raises smaller scales to this one."""
SCALE_OF_ZERO, LEAST_SPAN = 0.1, 1 / float(np.finfo(np.float32).max)
"""The scale that PyTorch takes for an activation whose own is at most this, so that float32 could not divide by it."""
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
    return dynamic_linear(c, x, c.packed(W_prepack), reduce_range, act)


@lowers("sparse::qlinear_dynamic", order=Order.FREE)
def sparse_linear_dynamic(c: Context, x: Placed, W_prepack: Any) -> Value:
    """QNNPACK's; zeros are stored like any other weight."""

    def unpacked() -> Sequence[Any]:
        parts: Sequence[Any] = torch.ops.sparse.qlinear_unpack(W_prepack)
        return parts

    weight, bias, _ = unpacked()
    return dynamic_linear(c, x, Weights(type_of(weight, c.where), bias, lambda: unpacked()[0]), False, "NONE")


@lowers("aten::fbgemm_linear_int8_weight", order=Order.FREE, ignores=("packed", "col_offsets"))
@lowers("aten::fbgemm_linear_int8_weight_fp32_activation", order=Order.FREE, ignores=("packed", "col_offsets"))
def linear_int8_weight(c: Context, x: Placed, weight: Tensor, weight_scale: float, weight_zero_point: int, bias: Tensor) -> Value:
    integers = torch._make_per_tensor_quantized_tensor(weight, weight_scale, weight_zero_point)
    return dynamic_linear(c, x, Weights.of(integers, bias), False, "NONE")


@lowers("quantized::conv1d_dynamic", "quantized::conv2d_dynamic", "quantized::conv3d_dynamic", order=Order.FREE)
def conv_dynamic(c: Context, x: Placed, packed_weight: Any, reduce_range: bool) -> Value:
    p, weights, dims = packed_weight, c.packed(packed_weight), len(x.order) - 2
    must_fit(c, x.shape[1], weights.type.shape[1] * p.groups())

    def layer(c: Context, x: Placed) -> Value:
        return conv(c, x, dims, weights, p.stride(), p.padding(), p.dilation(), p.groups())

    return dynamic(c, x, weights, layer, partial(_convolution, p, False), reduce_range, squeezed=True)


@lowers("quantized::conv_transpose1d_dynamic", "quantized::conv_transpose2d_dynamic", order=Order.FREE)
@lowers("quantized::conv_transpose3d_dynamic", order=Order.FREE)
def conv_transposed_dynamic(c: Context, x: Placed, packed_weight: Any, reduce_range: bool) -> Value:
    p, weights, dims = packed_weight, c.packed(packed_weight), len(x.order) - 2
    must_fit(c, x.shape[1], weights.type.shape[0])

    def layer(c: Context, x: Placed) -> Value:
        return conv_transposed(c, x, dims, weights, p.stride(), p.padding(), p.output_padding(), p.dilation(), p.groups())

    return dynamic(c, x, weights, layer, partial(_convolution, p, True), reduce_range, squeezed=True)


def _convolution(p: Any, transposed: bool, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    image = x.unsqueeze(2) if x.dim() < weight.dim() else x  # packed weights of lines have a row
    real = torch.convolution(image, weight, bias, p.stride(), p.padding(), p.dilation(), transposed, p.output_padding(), p.groups())
    return real.squeeze(2) if x.dim() < weight.dim() else real


@lowers("quantized::linear_with_input_q_dq_qweight_dq_output_fp32", order=Order.PLAIN, act="NONE")
@lowers("quantized::linear_with_input_q_dq_qweight_dq_relu_output_fp32", order=Order.PLAIN, act="RELU")
def linear_of_rounded(c: Context, x: Value, X_scale: float, X_zero_point: int, W_prepack: Any, act: str) -> Value:
    """The activation is rounded with a scale that is known before."""
    weights, steps = c.packed(W_prepack), Steps(X_scale, X_zero_point)
    example = Example(c.recorded("X"), weights, partial(linear, act))
    c.later(lambda: corrected(c, example.result(steps)))
    exact_but_for_ties(c, lambda: example, steps)
    integers = c.emit_as(Type(x.type.shape, DType.UINT8, Quant.per_tensor(X_scale, X_zero_point)), "QUANTIZE", x)
    return fully_connected(c, part(c, "DEQUANTIZE", integers, dtype=DType.FLOAT32), weights, act)


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


@lowers("aten::quantize_per_tensor_dynamic", ignores=("reduce_range",))
def quantize_dynamic(c: Context, x: Value) -> Value:
    """Reference models quantize at run time only to dequantize again, which float operators do exactly.

    ``reduce_range`` is QNNPACK's to ignore, so the scale that came out tells the number of steps.
    """
    dtype = c.outs[0].dtype
    if dtype is torch.float16:
        wide = part(c, "MUL", x, 2.0**13 + 1)  # what 11 bits do not hold drops out of the difference
        return c.at_run_time(wide, lambda c: c.emit("SUB", wide, part(c, "SUB", wide, x), fused_activation_function="NONE"))
    made, source = c.outs[0], c.recorded("self")
    count = min((255, 127), key=lambda count: abs(Steps.of(source, count).scale - made.q_scale()))
    grid = grid_of(c, x, count, torch.iinfo(dtype).min)
    integers = centred(c, x, grid)
    return c.at_run_time(integers, lambda c: c.emit("MUL", integers, grid.scale, fused_activation_function="NONE"))


# -- an activation that is quantized at run time


def must_fit(c: Context, channels: int, weights: int) -> None:
    """Refuse an input of another depth than the weight's, which QNNPACK's kernels take without a word."""
    c.only(channels == weights, "input", f"{channels} channels", f"{weights}, as the weight has")


def dynamic_linear(c: Context, x: Placed, weights: Weights, reduce_range: bool, act: str) -> Value:
    must_fit(c, x.shape[-1], weights.type.shape[-1])

    def layer(c: Context, x: Placed) -> Value:
        return fully_connected(c, c.builder.arrange(x, plain(len(x.order))), weights, act)

    return dynamic(c, x, weights, layer, partial(linear, act), reduce_range)


def linear(act: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    real = torch.nn.functional.linear(x, weight, bias)
    return real.relu() if act == "RELU" else real


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
    steps = Steps.of(example.x, 127 if reduce_range else 255)
    if mode == "exact":
        c.note("note", "dynamic", COMPUTES[mode])
        return _exact(c, x, layer, example, _compared(c, example, steps, squeezed), squeezed)

    def judge() -> None:  # with 127 steps, sums of two products fit the 16 bits of FBGEMM's kernels
        c.tolerate(example.bound(_compared(c, example, steps, squeezed) if squeezed or not reduce_range else steps))

    c.later(judge)
    c.hybrid = mode == "hybrid" and not weight_quant.zero_point.any()  # hybrid kernels know no zero point of a weight
    c.note("note", "dynamic", COMPUTES["hybrid" if c.hybrid else "dequantize"])
    return layer(c, x)


def _compared(c: Context, example: Example, steps: Steps, squeezed: bool) -> Steps:
    """The steps that explain PyTorch's result; where the file's will be another, verification is told."""
    real = {each: example.result(each) for each in (steps, Steps.of(example.x, 255))}
    torchs = {each: each.rounded(out) for each, out in real.items()} if squeezed else real
    steps = min(real, key=lambda each: _apart(torchs[each], c.outs[0]))
    if not squeezed:
        corrected(c, real[steps])
    elif c.builder.options.dynamic == "exact":
        corrected(c, torchs[steps], noise=1.5 * steps.scale)
    elif off := _apart(real[steps], c.outs[0]):
        c.builder.corrected[c.call.outs[0]] = array_of(real[steps])
        why = "PyTorch rounds and clips the result to the 8 bits of its input, as the file does with dynamic=\"exact\" only"
        c.note("warning", "dynamic-range", f"{why}: up to {off:.3g} off")
    return steps


def corrected(c: Context, documented: Tensor, noise: float | None = None) -> None:
    """Where PyTorch's own kernel is more than ``noise`` off, verification compares with what it documents."""
    off = _apart(documented, c.outs[0])
    if off > (FLOAT_NOISE * float(documented.abs().max()) if noise is None else noise):
        c.builder.corrected[c.call.outs[0]] = array_of(documented)
        c.note("warning", "kernel-overflow", f"PyTorch's own kernel is up to {off:.3g} off what it documents; the file is not")


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def exact_but_for_ties(c: Context, example: Callable[[], Example], steps: Grained) -> None:
    def judge() -> None:
        if (bound := example().tie_bound(steps)) > 0:
            c.tolerate(bound)

    c.later(judge)


def _exact(c: Context, x: Placed, layer: Layer, example: Example, steps: Steps, squeezed: bool) -> Value:
    grid = grid_of(c, x.value, steps.count, for_others=squeezed)
    rounded = Placed(on_grid(c, x.value, grid), x.order)
    if not squeezed:
        exact_but_for_ties(c, lambda: example, steps)
        return layer(c, rounded)
    c.later(lambda: c.tolerate(steps.scale))
    inner = Inner(c.builder, c.call, c.order)
    real = layer(inner, rounded)
    return c.as_result(on_grid(c, real, grid), inner.order_of(real))


class Inner(Context):
    """A context whose results are something else than PyTorch's, to be made from them."""

    def result(self, index: int, order: Perm | None = None) -> Value:
        out = super().result(index, order)
        assert out.origin is not None
        self.orders[out.name] = out.origin.order
        return replace(out, origin=None)


# -- numbers: what PyTorch computes on the example


class Grained(Protocol):
    """A quantization of an activation; its ``scale`` is one number, or one for each row."""

    @property
    def scale(self) -> float | Tensor: ...

    def rounded(self, x: Tensor) -> Tensor: ...

    def near_ties(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Steps:
    """PyTorch's quantization of an activation to quint8, of whose 256 integers ``count`` + 1 are used."""

    scale: float
    zero_point: int
    count: int = 255

    @staticmethod
    def of(x: Tensor, count: int) -> Steps:
        """``count`` steps from the smallest to the largest element and 0, as PyTorch chooses them in float64."""
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        span = (high - low) / count
        if span <= LEAST_SPAN:
            return Steps(SCALE_OF_ZERO, 0, count)
        return Steps(max(span, LEAST_SCALE), round(-low / span), count)

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

    def result(self, steps: Grained) -> Tensor:
        """As documented: the rounded activation times the weights."""
        bias = self.weights.bias
        return self.formula(steps.rounded(self.x), self.weights.load().dequantize(), None if bias is None else bias.detach())

    def bound(self, steps: Grained) -> float:
        """How far two results may be apart that round the activation rightly, each in its own way.

        PyTorch's step is s = (max - min) / count, a runtime's at most t = 2 * max|x| / 254, for each row, image or the whole. A rounded
        activation is off by at most s/2 or t/2 (0 if it is not rounded), so two of them are at most (s + t) / 2 apart, and a result,
        the sum of them times its weights, at most (s + t) / 2 times the sum of its absolute weights: the layer itself with all
        activations (s + t) / 2, absolute weights and no bias. A RELU behind only brings results nearer.
        """
        return self._spread((steps.scale + self.x.abs().max() / 127) / 2 * torch.ones_like(self.x))

    def tie_bound(self, steps: Grained) -> float:
        """As ``bound``, where both round to PyTorch's steps: only activations in the middle of two may go either way. 0 without these."""
        return self._spread(steps.near_ties(self.x) * steps.scale)

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


def grid_of(c: Context, x: Value, count: int, lowest: int = 0, *, for_others: bool = False) -> Grid:
    """``Steps.of`` in float32, the scale to its last bit: what float64 keeps is added behind.

    ``for_others``: not ``x`` alone is put on the grid. Then the scale matters also if ``x`` is zero.
    """
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
    least: Value | float = LEAST_SCALE
    if for_others:
        zero = cast(c, op("LESS_EQUAL", span, count * LEAST_SPAN, dtype=DType.BOOL), DType.FLOAT32)
        least = op("MAXIMUM", op("MUL", zero, SCALE_OF_ZERO), least)
    scale = op("MAXIMUM", op("ADD", near, op("DIV", op("ADD", rest, lost), count)), least)
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
