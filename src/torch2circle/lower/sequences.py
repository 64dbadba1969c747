"""Recurrent layers on a sequence: one operator for all of it where the files have it, every time step unrolled otherwise.

The rows of a weight are the gates one below the other: input, forget, cell, output (LSTM), reset, update, new (GRU).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..ir import Constant, DType, Node, Quant, Type, Value
from .context import Context, Placed, plain, reshaped
from .dynamic import grid_of, on_grid
from .parts import part_as

State = tuple[Value, ...]
Results = Sequence[Value | None]


@dataclass(frozen=True)
class Linear:
    """``x @ weight.T + bias``. ``steps``: to how many PyTorch rounds ``x``, from its smallest element to its largest; 0 for not at all."""

    weight: Value
    bias: Value
    steps: int = 0

    def __call__(self, c: Context, x: Value) -> Value:
        type_ = Type((x.type.shape[0], self.weight.type.shape[0]), DType.FLOAT32)
        return c.emit_as(type_, "FULLY_CONNECTED", x, self.weight, self.bias, fused_activation_function="NONE", keep_num_dims=False)

    def rounded(self, c: Context, x: Value) -> Value:
        return on_grid(c, x, grid_of(c, x, self.steps)) if self.steps else x


@dataclass(frozen=True)
class Layer:
    """One layer in one direction: what it makes of its input, of its hidden state, and of its result."""

    inward: Linear
    back: Linear
    projection: Linear | None = None


Step = Callable[[Context, Layer, Value, State, Results], State]
Run = Callable[[Value, Layer, State, bool], tuple[Value, State]]


# -- one time step: of the input's part of the gates and the state before it the state behind it, by nodes that make ``results`` if given


def lstm_step(c: Context, layer: Layer, inward: Value, state: State, results: Results) -> State:
    """c' = f * c + i * g, h' = o * tanh(c')"""
    hidden, cell = state
    i, f, g, o = split(c, op(c, "ADD", inward, fed_back(c, layer, hidden)), 4, axis=1)
    new = op(c, "MUL", op(c, "LOGISTIC", i), op(c, "TANH", g))
    cell = op(c, "ADD", op(c, "MUL", op(c, "LOGISTIC", f), cell), new, result=results[1])
    hidden = op(c, "MUL", op(c, "LOGISTIC", o), op(c, "TANH", cell), result=results[0])
    return (layer.projection(c, hidden) if layer.projection else hidden), cell


def gru_step(c: Context, layer: Layer, inward: Value, state: State, results: Results) -> State:
    """n = tanh(n_x + r * n_h), h' = (h - n) * z + n"""
    (hidden,) = state
    (r, z, n), (r_h, z_h, n_h) = (split(c, gates, 3, axis=1) for gates in (inward, fed_back(c, layer, hidden)))
    reset, update = op(c, "LOGISTIC", op(c, "ADD", r, r_h)), op(c, "LOGISTIC", op(c, "ADD", z, z_h))
    new = op(c, "TANH", op(c, "ADD", n, op(c, "MUL", reset, n_h)))
    return (op(c, "ADD", op(c, "MUL", op(c, "SUB", hidden, new), update), new, result=results[0]),)


def _rnn_step(activation: str, c: Context, layer: Layer, inward: Value, state: State, results: Results) -> State:
    """h' = activation(x + h)"""
    return (op(c, activation, op(c, "ADD", inward, fed_back(c, layer, state[0])), result=results[0]),)


rnn_tanh_step, rnn_relu_step = partial(_rnn_step, "TANH"), partial(_rnn_step, "RELU")


def fed_back(c: Context, layer: Layer, hidden: Value) -> Value:
    """The hidden state's part of the gates; of a first state that is zero nothing is left but the bias."""
    if hidden.data is not None and not hidden.array().any():
        batch, bias = hidden.type.shape[0], layer.back.bias
        data = Constant(lambda: bias.array()[np.newaxis].repeat(batch, 0))
        return replace(bias, type=Type((batch, *bias.type.shape), DType.FLOAT32), data=data)
    return layer.back(c, layer.back.rounded(c, hidden))


# -- steps and sequences


def single_step(c: Context, x: Value, state: Sequence[Value], layer: Layer, step: Step) -> Sequence[Value]:
    """The call's results by one time step."""
    layer = computing(c, layer)
    inward = layer.inward(c, layer.inward.rounded(c, x))
    return step(c, layer, inward, tuple(state), [c.result(i) for i in range(len(state))])


def lstm(
    c: Context, x: Placed, hx: Sequence[Placed], layers: Sequence[Layer], bidirectional: bool, batch_first: bool
) -> Sequence[Value | None]:
    """The call's results: in one operator for each layer and direction if it can be, which keeps its last cell state to itself."""
    rounded = any(layer.inward.steps for layer in layers)
    if c.builder.options.recurrent == "fused" and not rounded and not c.is_read(2):
        return fused_lstm(c, x, hx, layers, bidirectional, batch_first)
    return unrolled(c, x, hx, layers, lstm_step, bidirectional, batch_first)


def unrolled(
    c: Context, x: Placed, hx: Sequence[Placed], layers: Sequence[Layer], step: Step, bidirectional: bool, batch_first: bool
) -> Sequence[Value]:
    """Every time step by itself; only the input's part of the gates is one FULLY_CONNECTED for all of them."""
    layers = [computing(c, layer) for layer in layers]
    order = (1, 0, 2) if batch_first else (0, 1, 2)  # what belongs to one time step lies together
    sequence = c.builder.arrange(x, order)
    steps, batch, depth = sequence.type.shape

    def run(rows: Value, layer: Layer, state: State, backward: bool) -> tuple[Value, State]:
        hidden = []
        inward = split(c, layer.inward(c, rows), steps, axis=0)
        for part in reversed(inward) if backward else inward:
            state = step(c, layer, part, state, (None, None))
            hidden.append(state[0])
        return joined(c, hidden[::-1] if backward else hidden, axis=0), state

    rows, last = stacked(c, reshaped(c, sequence, (steps * batch, depth)), hx, layers, bidirectional, run)
    shape = [steps, batch, rows.type.shape[1]]
    output = c.emit_result(0, "RESHAPE", rows, c.const(shape, "shape"), order=order, new_shape=shape)
    return output, *(last_states(c, 1 + i, states) for i, states in enumerate(zip(*last, strict=True)))


def fused_lstm(
    c: Context, x: Placed, hx: Sequence[Placed], layers: Sequence[Layer], bidirectional: bool, batch_first: bool
) -> Sequence[Value | None]:
    """A UNIDIRECTIONAL_SEQUENCE_LSTM for each layer and direction, backwards between two REVERSE_V2."""
    order = x.order if x.order[2] == 2 else plain(3)
    time = order.index(1 if batch_first else 0)
    sequence = c.builder.arrange(x, order)
    steps = sequence.type.shape[time]

    def run(x: Value, layer: Layer, state: State, backward: bool) -> tuple[Value, State]:
        result = c.result(0, order) if layer is layers[-1] and not bidirectional else None
        made = sequence_lstm(c, in_reverse(x) if backward else x, layer, state, time == 0, result)
        end = reshaped(c, part_as(c, made, time, steps - 1, 1), (1, *state[0].type.shape))
        return in_reverse(made) if backward else made, (end,)

    def in_reverse(x: Value) -> Value:
        return c.emit_as(x.type, "REVERSE_V2", x, c.const([time], "time")) if steps > 1 else x

    output, last = stacked(c, sequence, hx, layers, bidirectional, run)
    if bidirectional:
        output = c.as_result(output, order)
    return output, last_states(c, 1, [hidden for (hidden,) in last]), None


def sequence_lstm(c: Context, x: Value, layer: Layer, state: State, time_major: bool, result: Value | None) -> Value:
    """UNIDIRECTIONAL_SEQUENCE_LSTM: among its 24 operands are the gates' weights and biases one by one, but no peepholes and norms."""
    weights = [in_float(c, gate) for linear in (layer.inward, layer.back) for gate in split(c, linear.weight, 4, axis=0)]
    b_ih, b_hh = layer.inward.bias, layer.back.bias
    biases = split(c, replace(b_ih, data=Constant(lambda: b_ih.array() + b_hh.array())), 4, axis=0)
    projection = in_float(c, layer.projection.weight) if layer.projection else None
    inputs = (x, *weights, None, None, None, *biases, projection, None, *state, None, None, None, None)
    result = result or fresh(c, "lstm", Type((*x.type.shape[:2], state[0].type.shape[1]), DType.FLOAT32))
    attrs = {"fused_activation_function": "TANH", "time_major": time_major}
    return Node.make("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, (result,), attrs, c.where).out


def stacked(
    c: Context, x: Value, hx: Sequence[Placed], layers: Sequence[Layer], bidirectional: bool, run: Run
) -> tuple[Value, Sequence[State]]:
    """Each layer on what the one before gave: the output of the last one, and the last state of every layer and direction.

    ``run(x, layer, state, backward)`` gives the output of one direction and its last state.
    """
    states = list(zip(*(first_states(c, state) for state in hx), strict=True))
    last: list[State] = []
    for _ in range(0, len(layers), 1 + bidirectional):
        x, outs = layers[len(last)].inward.rounded(c, x), []
        for backward in (False, True) if bidirectional else (False,):
            out, state = run(x, layers[len(last)], states[len(last)], backward)
            outs.append(out)
            last.append(state)
        x = joined(c, outs, axis=x.type.rank - 1)
    return x, last


def first_states(c: Context, hx: Placed) -> Sequence[Value]:
    """[layers and directions, batch, units] -> [batch, units] of each."""
    together = c.builder.arrange(hx, plain(3))
    return [reshaped(c, one, together.type.shape[1:]) for one in split(c, together, together.type.shape[0], axis=0)]


def last_states(c: Context, index: int, states: Sequence[Value]) -> Value:
    """Of each layer and direction -> [layers and directions, batch, units], result ``index`` of the call."""
    shape = list(c.outs[index].shape)
    return c.emit_result(index, "RESHAPE", joined(c, states, axis=0), c.const(shape, "shape"), order=plain(3), new_shape=shape)


# -- parts


def computing(c: Context, layer: Layer) -> Layer:
    """The layer with its weights as FULLY_CONNECTED takes them, once for all time steps."""
    inward, back = (replace(linear, weight=in_float(c, linear.weight)) for linear in (layer.inward, layer.back))
    return replace(layer, inward=inward, back=back)


def in_float(c: Context, weight: Value) -> Value:
    """A stored weight as the operators take it: integers if these are hybrid."""
    if weight.type.dtype is DType.FLOAT32 or c.hybrid:
        return weight
    return c.emit_as(Type(weight.type.shape, DType.FLOAT32), "DEQUANTIZE", weight)


def op(c: Context, name: str, *operands: Value, result: Value | None = None) -> Value:
    """An elementwise operator on operands of one shape."""
    attrs = {"fused_activation_function": "NONE"} if len(operands) == 2 else {}
    return Node.make(name, operands, (result or fresh(c, name.lower(), operands[0].type),), attrs, c.where).out


def split(c: Context, x: Value, count: int, axis: int) -> Sequence[Value]:
    """Equal parts; those of a constant are constants."""
    if count == 1:
        return [x]
    if x.data is not None:
        return [_part_of_constant(x, k, count, axis) for k in range(count)]
    shape = (*x.type.shape[:axis], x.type.shape[axis] // count, *x.type.shape[axis + 1 :])
    parts = [fresh(c, "split", x.type.reshape(shape)) for _ in range(count)]
    return Node.make("SPLIT", (c.const(axis, "axis"), x), parts, {"num_splits": count}, c.where).outputs


def _part_of_constant(x: Value, k: int, count: int, axis: int) -> Value:
    assert x.data is not None
    size, quant = x.type.shape[axis] // count, x.type.quant
    mine = slice(k * size, (k + 1) * size)
    if quant is not None and quant.axis == axis:
        quant = Quant(quant.scale[mine], quant.zero_point[mine], axis)
    type_ = Type((*x.type.shape[:axis], size, *x.type.shape[axis + 1 :]), x.type.dtype, quant)
    return replace(x, name=f"{x.name}.{k}", type=type_, data=x.data.map(lambda array: array.take(range(mine.start, mine.stop), axis)))


def joined(c: Context, parts: Sequence[Value], axis: int) -> Value:
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].type.shape)
    shape[axis] *= len(parts)
    return c.emit_as(parts[0].type.reshape(shape), "CONCATENATION", *parts, axis=axis, fused_activation_function="NONE")


def fresh(c: Context, kind: str, type_: Type) -> Value:
    """A value that is not yet made."""
    return Value(type_, c.builder.name(f"{c.stem}.{kind}"))
