"""LSTM, GRU and plain recurrent layers, and their single steps: in float, and with int8 or float16 weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import UnsupportedUse
from ..ir import Value
from ..quant import array_of, constant_of
from ..record import Ref
from .context import Context, Placed
from .dynamic import COMPUTES, FLOAT_NOISE, Steps, half
from .registry import Order, lowers, operator
from .sequences import Layer, Linear, Step, gru_step, lstm_step, rnn_relu_step, rnn_tanh_step, single_step, unrolled
from .sequences import lstm as lstm_sequence

IN_EVAL = ("num_layers", "dropout", "train")  # the parameters tell the first, and nothing is dropped
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")
PACKED_TOO = ("b_ih", "b_hh")
STORED = (torch.qint8, torch.quint8, torch.float16)
Params = Sequence[Any]
Packed = tuple[Any, Any, bool]
"""The packed weights for the input and for the hidden state, and whether PyTorch rounds their operands to 127 steps instead of 255."""

# -- whole sequences


@lowers("aten::lstm.input", order=Order.FREE, ignores=("params", *IN_EVAL))
def lstm(
    c: Context, x: Placed, hx: Sequence[Placed], has_biases: bool, bidirectional: bool, batch_first: bool
) -> Sequence[Value | None]:
    layers = float_layers(c, has_biases, projected=hx[0].shape[2] != hx[1].shape[2])
    return lstm_sequence(c, x, hx, layers, bidirectional, batch_first)


@lowers("aten::gru.input", order=Order.FREE, ignores=("params", *IN_EVAL), step=gru_step)
@lowers("aten::rnn_tanh.input", order=Order.FREE, ignores=("params", *IN_EVAL), step=rnn_tanh_step)
@lowers("aten::rnn_relu.input", order=Order.FREE, ignores=("params", *IN_EVAL), step=rnn_relu_step)
def recurrent(
    c: Context, x: Placed, hx: Placed, has_biases: bool, bidirectional: bool, batch_first: bool, step: Step
) -> Sequence[Value]:
    return unrolled(c, x, [hx], float_layers(c, has_biases), step, bidirectional, batch_first)


@lowers("aten::quantized_lstm.input", order=Order.FREE, ignores=(*IN_EVAL, "has_biases", "use_dynamic"))
def quantized_lstm(
    c: Context, x: Placed, hx: Sequence[Placed], params: Params, bidirectional: bool, batch_first: bool
) -> Sequence[Value | None]:
    return lstm_sequence(c, x, hx, stored_layers(c, params, torch.lstm), bidirectional, batch_first)


@lowers("aten::quantized_gru.input", order=Order.FREE, ignores=(*IN_EVAL, "has_biases"))
def quantized_gru(c: Context, x: Placed, hx: Placed, params: Params, bidirectional: bool, batch_first: bool) -> Sequence[Value]:
    return unrolled(c, x, [hx], stored_layers(c, params, torch.gru), gru_step, bidirectional, batch_first)


# -- single steps


@lowers("aten::lstm_cell", order=Order.PLAIN, ignores=WEIGHTS, step=lstm_step)
@lowers("aten::gru_cell", order=Order.PLAIN, ignores=WEIGHTS, step=gru_step)
@lowers("aten::rnn_tanh_cell", order=Order.PLAIN, ignores=WEIGHTS, step=rnn_tanh_step)
@lowers("aten::rnn_relu_cell", order=Order.PLAIN, ignores=WEIGHTS, step=rnn_relu_step)
def cell(c: Context, x: Value, hx: Value | Sequence[Value], step: Step) -> Sequence[Value]:
    w_ih, w_hh, b_ih, b_hh = (c.call.args[name] for name in WEIGHTS)
    return single_step(c, x, pytree.tree_leaves(hx), Layer(linear(c, w_ih, b_ih), linear(c, w_hh, b_hh)), step)


@lowers("quantized::quantized_lstm_cell_dynamic", order=Order.PLAIN, ignores=("bias_ih", "bias_hh"), step=lstm_step, plain=torch.lstm_cell)
@lowers("quantized::quantized_gru_cell_dynamic", order=Order.PLAIN, ignores=PACKED_TOO, step=gru_step, plain=torch.gru_cell)
@lowers("quantized::quantized_rnn_tanh_cell_dynamic", order=Order.PLAIN, ignores=PACKED_TOO, step=rnn_tanh_step, plain=torch.rnn_tanh_cell)
@lowers("quantized::quantized_rnn_relu_cell_dynamic", order=Order.PLAIN, ignores=PACKED_TOO, step=rnn_relu_step, plain=torch.rnn_relu_cell)
def quantized_cell(
    c: Context, x: Value, hx: Value | Sequence[Value], w_ih: Any, w_hh: Any, step: Step, plain: Callable[..., Any]
) -> Sequence[Value]:
    packed, call = [(w_ih, w_hh, True)], given(c)
    (layer,) = packed_layers(c, packed, partial(plain, call["input"], call["hx"], *real_parameters(packed)))
    return single_step(c, x, pytree.tree_leaves(hx), layer, step)


# -- parameters


def float_layers(c: Context, has_biases: bool, projected: bool = False) -> Sequence[Layer]:
    """PyTorch's flat list has for each layer and direction weight_ih, weight_hh, bias_ih, bias_hh, weight_hr."""
    count, layers = 2 + 2 * has_biases + projected, []
    params = c.call.args["params"]
    for first in range(0, len(params), count):
        w_ih, w_hh, *rest = params[first : first + count]
        b_ih, b_hh = rest[:2] if has_biases else (None, None)
        layers.append(Layer(linear(c, w_ih, b_ih), linear(c, w_hh, b_hh), linear(c, rest[-1], None) if projected else None))
    return layers


def linear(c: Context, weight: Ref | Tensor, bias: Ref | Tensor | None) -> Linear:
    """Constants, the weight as the model stores it."""
    if isinstance(weight, Ref) or isinstance(bias, Ref):
        raise UnsupportedUse(f"parameters of {c.call.op}", "tensors computed from an input", "parameters of the model", where=c.where)
    stored = c.builder.recording.stored_as(weight)
    value = c.builder.place(stored if stored.dtype in STORED else weight).value
    return Linear(value, c.const(np.zeros(len(weight), np.float32), "zero") if bias is None else c.builder.place(bias).value)


def stored_layers(c: Context, params: Params, plain: Callable[..., Any]) -> Sequence[Layer]:
    """Of an object for each layer and direction; ``plain`` is the same operator with float parameters."""
    packed = []
    for param in params:
        kind, _, _, reduce_range, linears = param.__getstate__()[0]
        c.only(kind in ("quantized_dynamic", "quantized_fp16"), "parameters", kind, "those of torch.ao.nn.quantized.dynamic")
        packed.append((*linears, bool(reduce_range and reduce_range[0])))
    call = given(c)
    options = (True, *(call[name] for name in ("num_layers", "dropout", "train", "bidirectional", "batch_first")))
    return packed_layers(c, packed, partial(plain, call["input"], call["hx"], real_parameters(packed), *options))


def packed_layers(c: Context, packed: Sequence[Packed], unrounded: Callable[[], Any]) -> Sequence[Layer]:
    """On int8 weights PyTorch multiplies a rounded operand; ``Options.dynamic`` says what the file does. ``unrounded`` does it on the
    operand as it is.
    """
    exact = c.builder.options.dynamic == "exact"
    layers = [Layer(*(stored_linear(c, linear, exact, reduce_range) for linear in linears)) for *linears, reduce_range in packed]
    quants = [linear.weight.type.quant for layer in layers for linear in (layer.inward, layer.back)]
    if any(quants):
        symmetric = not any(quant.zero_point.any() for quant in quants if quant)  # hybrid kernels know no zero point of a weight
        c.hybrid = c.builder.options.dynamic == "hybrid" and symmetric
        c.note("note", "dynamic", COMPUTES["exact" if exact else "hybrid" if c.hybrid else "dequantize"])
        tolerate(c, partial(nudged, c) if exact else unrounded)
    return layers


def stored_linear(c: Context, packed: Any, exact: bool, reduce_range: bool) -> Linear:
    weight, bias = packed.unpack()
    weights = c.packed(packed) if weight.is_quantized else half(weight, bias)
    stored = Value(weights.type, c.builder.name(f"{c.stem}.weight"), data=constant_of(weights.load))
    return Linear(stored, c.const(array_of(bias), f"{c.stem}.bias"), steps_of(packed, reduce_range) if exact and weight.is_quantized else 0)


@torch.inference_mode()
def steps_of(packed: Any, reduce_range: bool) -> int:
    """To how many steps the operand is rounded: FBGEMM obeys ``reduce_range``, QNNPACK does not."""
    weight, bias = packed.unpack()
    x = torch.linspace(-1, 1, weight.shape[1]).reshape(1, -1)
    got = torch.ops.quantized.linear_dynamic(x, packed, reduce_range)
    off = {n: (torch.nn.functional.linear(Steps.of(x, n).rounded(x), weight.dequantize(), bias) - got).abs().max() for n in (127, 255)}
    return min(off, key=lambda n: off[n])


# -- how far two right ways of rounding may be apart


def tolerate(c: Context, other: Callable[[], Any]) -> None:
    """PyTorch's results are so far from those of ``other``; a third one may be as far on the other side of these.

    Of a few elements all may happen to be near. Then it is the root of their mean square that tells: 8 times that is never reached.
    """
    with torch.inference_mode():
        results = pytree.tree_leaves(other())
    for number, got, result in zip(c.call.outs, c.outs, results, strict=True):
        apart = (got - result).abs()
        likely = max(2 * float(apart.max()), 8 * float(apart.square().mean().sqrt()))
        c.builder.steps[number] = max(likely, FLOAT_NOISE * float(got.abs().max()))


def nudged(c: Context) -> Any:
    """PyTorch's own operator on an input with other last bits: what lies in the middle of two steps is rounded otherwise."""
    call = given(c)
    return operator(c.call.op)(**{**call, "input": call["input"] * (1 + 2**-20)})


def real_parameters(packed: Sequence[Packed]) -> list[Tensor]:
    """weight_ih, weight_hh, bias_ih, bias_hh of each layer and direction."""
    pairs = [[linear.unpack() for linear in linears] for *linears, _ in packed]
    return [part.dequantize() if part.is_quantized else part for pair in pairs for kind in zip(*pair, strict=True) for part in kind]


def given(c: Context) -> dict[str, Any]:
    """The call's arguments as PyTorch had them."""
    tensors = c.builder.recording.tensors
    return {
        name: pytree.tree_map(lambda leaf: tensors[leaf.index] if isinstance(leaf, Ref) else leaf, value)
        for name, value in c.call.args.items()
    }
