"""Integers whose scale the call that makes them tells: int16, and 8 bits with a scale that is chosen at run time.

No quantized tensor of PyTorch has int16, or a scale that is not known while recording, so ``quantized_decomposed``'s calls are lowered as
they are. A layer behind a scale of run time computes as ``Options.dynamic`` says, on the activation before it was rounded if not exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ..ir import DType, Quant, Type, Value
from ..record import Call, Ref
from .context import Builder, Context
from .dynamic import COMPUTES, Grid
from .formula import part
from .registry import lowers, operator

QUANTIZE = ("quantized_decomposed::quantize_per_tensor", "quantized_decomposed::quantize_per_tensor.tensor")
DEQUANTIZE = ("quantized_decomposed::dequantize_per_tensor", "quantized_decomposed::dequantize_per_tensor.tensor")


@lowers("quantized_decomposed::choose_qparams.tensor", symmetric=False)
@lowers("quantized_decomposed::choose_qparams_symmetric.tensor", symmetric=True)
def choose(c: Context, x: Value, quant_min: int, quant_max: int, eps: float, symmetric: bool) -> Sequence[Value]:
    """In float32, as PyTorch does it."""
    op, axes = partial(part, c), c.const(list(range(x.type.rank)), "axes")

    def largest(v: Value) -> Value:
        return op("RELU", c.emit_as(Type((1,) * v.type.rank, DType.FLOAT32), "REDUCE_MAX", v, axes, keep_dims=True))

    high, low = largest(x), largest(op("NEG", x))
    if symmetric:
        high = low = op("MAXIMUM", high, low)
    scale = op("MAXIMUM", op("DIV", op("ADD", high, low), float(quant_max - quant_min)), eps)
    first = op("ADD", op("ROUND", op("DIV", low, scale)), float(quant_min))
    zero = op("MINIMUM", op("MAXIMUM", first, quant_min), quant_max)
    if symmetric:
        zero = c.const(128.0 if c.call.args["dtype"] is torch.uint8 else 0.0)
    c.builder.grids[c.call.outs[0]] = Grid(scale, op("DIV", 1.0, scale), zero, quant_min)
    for number in c.call.outs:
        c.builder.dequantize[number] = lambda c: scale
    return scale, zero


@lowers(*QUANTIZE)
def quantize(c: Context, x: Value, quant_min: int, quant_max: int) -> Value:
    chosen = c.call.args["scale"]
    if isinstance(chosen, Ref):
        return _at_run_time(c, x, c.builder.grids[chosen.index], quant_max)
    zero_point, info = int(c.call.args["zero_point"]), np.iinfo(np.int16)
    c.only(zero_point == 0, "zero_point of int16", zero_point, "0, as the kernels have it")
    c.only(info.min <= quant_min <= info.min + 1 and quant_max == info.max, "range of int16", (quant_min, quant_max), "all of it")
    quant = c.builder.quants[c.call.outs[0]] = Quant.per_tensor(float(chosen), 0)
    if quant_min == info.min:
        return c.emit("QUANTIZE", x)
    lowest = c.const(np.array(quant_min, np.int16), "lowest", quant)
    return c.emit("MAXIMUM", c.emit_as(Type(x.type.shape, DType.INT16, quant), "QUANTIZE", x), lowest)


def _at_run_time(c: Context, x: Value, grid: Grid, quant_max: int) -> Value:
    op = partial(part, c)
    integers = op("ADD", op("ROUND", op("MUL", x, grid.inverse)), grid.zero_point)
    centred = op("SUB", op("MINIMUM", op("MAXIMUM", integers, grid.lowest), quant_max), grid.zero_point)
    c.builder.unrounded[c.call.outs[0]] = c.call.args["input"], c.call.args["scale"]
    return c.at_run_time(centred, lambda c: c.emit("MUL", centred, grid.scale, fused_activation_function="NONE"))


@lowers(*DEQUANTIZE, ignores=("quant_min", "quant_max", "out_dtype"))
def dequantize(c: Context, x: Value) -> Value:
    number = c.call.args["input"].index
    if number in c.builder.unrounded:
        c.builder.unrounded[c.call.outs[0]] = c.builder.unrounded[number]
        return c.builder.dequantize[number](c)
    scale = float(c.call.args["scale"])
    c.only(x.type.quant == Quant.per_tensor(scale, 0), "scale", scale, "the one that the integers were made with")
    return c.emit("DEQUANTIZE", x)


def on_unrounded(builder: Builder, call: Call) -> Call:
    """A layer on an activation that was rounded at run time, on what it was before; unless it is to be rounded as PyTorch does."""
    x = call.args.get("input")
    if builder.options.dynamic == "exact" or not isinstance(x, Ref) or x.index not in builder.unrounded:
        return call
    return replace(call, args={**call.args, "input": builder.unrounded[x.index][0]})


def prepare_hybrid(c: Context, rounded: Call) -> None:
    """Let a layer use the runtime's hybrid kernel, if wanted, and tell verification how far two ways of rounding may be apart."""
    weight = c.builder.recording.stored_as(rounded.args["weight"])
    per_channel = weight.is_quantized and weight.qscheme() is torch.per_channel_affine
    zeros = weight.q_per_channel_zero_points() if per_channel else torch.tensor(weight.q_zero_point() if weight.is_quantized else 1)
    c.hybrid = c.builder.options.dynamic == "hybrid" and not zeros.any()
    c.note("note", "dynamic", COMPUTES["hybrid" if c.hybrid else "dequantize"])
    x, scale = c.recorded("input"), c.builder.unrounded[rounded.args["input"].index][1]

    def judge() -> None:
        apart = (float(c.builder.recording.tensors[scale.index]) + float(x.abs().max()) / 127) / 2  # half a step of each
        args = {**rounded.args, "input": torch.full_like(x, apart), "weight": rounded.args["weight"].abs(), "bias": None}
        c.tolerate(float(operator(c.call.op)(**args).max()))

    c.later(judge)
