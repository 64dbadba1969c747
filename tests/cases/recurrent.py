"""Recurrent layers, and single steps of them: 3 time steps of 2 samples with 5 features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization import default_dynamic_qconfig, float16_dynamic_qconfig, per_channel_dynamic_qconfig, quantize_dynamic

from .making import FLOAT, WEIGHTED, Case, Made, Near, Shape, eager, floating, inputs, seeded

ROUNDED = Near(1, 0.5, "a step is twice what rounding its operands changes for PyTorch; the runtimes round them otherwise, or not at all")

SEQUENCE, IN_BATCHES, STEP = (3, 2, 5), (2, 3, 5), (2, 5)
UNROLLED = {"recurrent": "unrolled"}


class Layer(nn.Module):
    """A recurrent layer or cell of which ``read`` takes what the model returns; its first state may be an input."""

    def __init__(self, layer: nn.Module, read: Callable[[Any], Any] = lambda results: results) -> None:
        super().__init__()
        self.layer, self.read = layer, read

    def forward(self, x: Tensor, *state: Tensor) -> Any:
        return self.read(self.layer(x, state if len(state) > 1 else state[0] if state else None))


class Learned(nn.Module):
    """A first state that is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.first = nn.LSTM(5, 4), nn.Parameter(torch.empty(2, 1, 2, 4))

    def forward(self, x: Tensor) -> Any:
        return hidden(self.layer(x, (self.first[0], self.first[1])))


class Loop(nn.Module):
    """A cell in a loop of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(5, 4)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        for step in x:
            state = self.cell(step, state)
        return state


class Heard(nn.Module):
    """Convolutions over time below a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.layer = nn.Conv1d(5, 6, 3, padding=1), nn.LSTM(6, 4, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return output(self.layer(self.conv(x).transpose(1, 2)))


def output(results: Any) -> Any:
    return results[0]


def hidden(results: Any) -> Any:
    """The output and the last hidden state, of an LSTM not the cell state."""
    return results[0], results[1][0]


def last(results: Any) -> Any:
    return results[1][0]


def lstm(read: Callable[[Any], Any] = hidden, **kwargs: Any) -> nn.Module:
    return Layer(nn.LSTM(5, 4, **kwargs), read)


def negated(model: nn.Module) -> nn.Module:
    """The largest weight becomes the smallest one, which is then stored as -128."""
    with torch.no_grad():
        for tensor in seeded(model).parameters():
            tensor.neg_()
    return model


def dynamic(model: nn.Module, *shapes: Shape, qconfig: Any = default_dynamic_qconfig, engine: str = "fbgemm") -> Made:
    return quantized(seeded(model), *shapes, qconfig=qconfig, engine=engine)


def quantized(model: nn.Module, *shapes: Shape, qconfig: Any = default_dynamic_qconfig, engine: str = "fbgemm") -> Made:
    torch.backends.quantized.engine = engine
    kinds = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
    return quantize_dynamic(model, dict.fromkeys(kinds, qconfig)), inputs(shapes)


FLOATS = [
    Case("float.lstm", lambda: floating(lstm(), SEQUENCE), FLOAT),
    Case("float.lstm_output", lambda: floating(lstm(output), SEQUENCE), FLOAT),
    Case("float.lstm_last", lambda: floating(lstm(last), SEQUENCE), FLOAT),
    Case("float.lstm_batch_first", lambda: floating(lstm(batch_first=True), IN_BATCHES), FLOAT),
    Case("float.lstm_two_ways", lambda: floating(lstm(bidirectional=True), SEQUENCE), FLOAT),
    Case("float.lstm_stacked", lambda: floating(lstm(num_layers=2, bidirectional=True, batch_first=True), IN_BATCHES), FLOAT),
    Case("float.lstm_no_bias", lambda: floating(lstm(bias=False), SEQUENCE), FLOAT),
    Case("float.lstm_projected", lambda: floating(lstm(proj_size=3, num_layers=2, bidirectional=True), SEQUENCE), FLOAT),
    Case("float.lstm_state_given", lambda: floating(lstm(num_layers=3), SEQUENCE, (3, 2, 4), (3, 2, 4)), FLOAT),
    Case("float.lstm_state_learned", lambda: floating(Learned(), SEQUENCE), FLOAT),
    Case("float.lstm_one_step", lambda: floating(lstm(bidirectional=True), (1, 2, 5)), FLOAT),
    Case("float.lstm_unbatched", lambda: floating(lstm(), (3, 5)), FLOAT),
    Case("float.lstm_behind_conv", lambda: floating(Heard(), (2, 5, 3)), FLOAT),
    Case("float.lstm_cell_read", lambda: floating(Layer(nn.LSTM(5, 4)), SEQUENCE), FLOAT),
    Case("float.lstm_unrolled", lambda: floating(lstm(), SEQUENCE), FLOAT, UNROLLED),
    Case("float.lstm_unrolled_stacked", lambda: floating(
        lstm(num_layers=2, bidirectional=True, batch_first=True), IN_BATCHES), FLOAT, UNROLLED),
    Case("float.lstm_unrolled_projected", lambda: floating(lstm(proj_size=3, bias=False), SEQUENCE), FLOAT, UNROLLED),
    Case("float.lstm_unrolled_state_given", lambda: floating(
        Layer(nn.LSTM(5, 4, num_layers=2)), SEQUENCE, (2, 2, 4), (2, 2, 4)), FLOAT, UNROLLED),
    Case("float.lstm_unrolled_one_step", lambda: floating(lstm(), (1, 2, 5)), FLOAT, UNROLLED),
    Case("float.lstm_unrolled_unbatched", lambda: floating(lstm(), (3, 5)), FLOAT, UNROLLED),
    Case("float.gru", lambda: floating(Layer(nn.GRU(5, 4)), SEQUENCE), FLOAT),
    Case("float.gru_batch_first", lambda: floating(Layer(nn.GRU(5, 4, batch_first=True), output), IN_BATCHES), FLOAT),
    Case("float.gru_stacked", lambda: floating(Layer(nn.GRU(5, 4, num_layers=2, bidirectional=True)), SEQUENCE), FLOAT),
    Case("float.gru_no_bias", lambda: floating(Layer(nn.GRU(5, 4, bias=False)), SEQUENCE), FLOAT),
    Case("float.gru_state_given", lambda: floating(Layer(nn.GRU(5, 4, bidirectional=True)), SEQUENCE, (2, 2, 4)), FLOAT),
    Case("float.gru_one_step", lambda: floating(Layer(nn.GRU(5, 4)), (1, 2, 5), (1, 2, 4)), FLOAT),
    Case("float.gru_unbatched", lambda: floating(Layer(nn.GRU(5, 4)), (3, 5)), FLOAT),
    Case("float.rnn_tanh", lambda: floating(Layer(nn.RNN(5, 4)), SEQUENCE), FLOAT),
    Case("float.rnn_tanh_stacked", lambda: floating(Layer(nn.RNN(5, 4, num_layers=2, bidirectional=True)), SEQUENCE), FLOAT),
    Case("float.rnn_relu", lambda: floating(Layer(nn.RNN(5, 4, nonlinearity="relu")), SEQUENCE), FLOAT),
    Case("float.rnn_relu_no_bias", lambda: floating(
        Layer(nn.RNN(5, 4, nonlinearity="relu", bias=False, batch_first=True)), IN_BATCHES, (1, 2, 4)), FLOAT),
    Case("float.lstm_cell", lambda: floating(Layer(nn.LSTMCell(5, 4)), STEP, (2, 4), (2, 4)), FLOAT),
    Case("float.lstm_cell_no_state", lambda: floating(Layer(nn.LSTMCell(5, 4, bias=False)), STEP), FLOAT),
    Case("float.lstm_cell_unbatched", lambda: floating(Layer(nn.LSTMCell(5, 4)), (5,), (4,), (4,)), FLOAT),
    Case("float.gru_cell", lambda: floating(Layer(nn.GRUCell(5, 4)), STEP, (2, 4)), FLOAT),
    Case("float.gru_cell_no_bias", lambda: floating(Layer(nn.GRUCell(5, 4, bias=False)), STEP), FLOAT),
    Case("float.gru_cell_in_a_loop", lambda: floating(Loop(), SEQUENCE, (2, 4)), FLOAT),
    Case("float.rnn_tanh_cell", lambda: floating(Layer(nn.RNNCell(5, 4)), STEP, (2, 4)), FLOAT),
    Case("float.rnn_relu_cell", lambda: floating(Layer(nn.RNNCell(5, 4, nonlinearity="relu")), STEP, (2, 4)), FLOAT),
]  # fmt: skip

MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[Shape, ...]]] = {
    "lstm": (lstm, (SEQUENCE,)),
    "gru": (lambda: Layer(nn.GRU(5, 4, bidirectional=True)), (SEQUENCE,)),
    "lstm_cell": (lambda: Layer(nn.LSTMCell(5, 4)), (STEP, (2, 4), (2, 4))),
    "gru_cell": (lambda: Layer(nn.GRUCell(5, 4)), (STEP, (2, 4))),
    "rnn_tanh_cell": (lambda: Layer(nn.RNNCell(5, 4)), (STEP, (2, 4))),
    "rnn_relu_cell": (lambda: Layer(nn.RNNCell(5, 4, nonlinearity="relu")), (STEP, (2, 4))),
}


def modes(name: str) -> list[Case]:
    """A model in each way of computing what PyTorch quantizes at run time, and with float16 weights."""
    model, shapes = MODELS[name]
    return [
        Case(f"dynamic.{name}", lambda: dynamic(model(), *shapes), ROUNDED),
        Case(f"dynamic.{name}_dequantize", lambda: dynamic(model(), *shapes), ROUNDED, {"dynamic": "dequantize"}),
        Case(f"dynamic.{name}_exact", lambda: dynamic(model(), *shapes), FLOAT, {"dynamic": "exact"}),
        Case(f"float16.{name}", lambda: dynamic(model(), *shapes, qconfig=float16_dynamic_qconfig), FLOAT),
    ]


DYNAMIC = [
    *(case for name in MODELS for case in modes(name)),
    Case("dynamic.lstm_stacked", lambda: dynamic(lstm(num_layers=2, bidirectional=True, batch_first=True), IN_BATCHES), ROUNDED),
    Case("dynamic.lstm_state_given", lambda: dynamic(Layer(nn.LSTM(5, 4)), SEQUENCE, (1, 2, 4), (1, 2, 4)), ROUNDED),
    Case("dynamic.lstm_unrolled", lambda: dynamic(lstm(bidirectional=True), SEQUENCE), ROUNDED, UNROLLED),
    Case("dynamic.lstm_per_channel", lambda: dynamic(lstm(), SEQUENCE, qconfig=per_channel_dynamic_qconfig), ROUNDED),
    Case("dynamic.lstm_per_channel_unrolled", lambda: dynamic(
        lstm(), SEQUENCE, qconfig=per_channel_dynamic_qconfig), ROUNDED, UNROLLED),
    Case("dynamic.lstm_lowest", lambda: quantized(negated(lstm()), SEQUENCE), ROUNDED),
    Case("dynamic.lstm_qnnpack", lambda: dynamic(lstm(), SEQUENCE, engine="qnnpack"), ROUNDED),
    Case("dynamic.lstm_qnnpack_exact", lambda: dynamic(lstm(), SEQUENCE, engine="qnnpack"), FLOAT, {"dynamic": "exact"}),
    Case("dynamic.gru_batch_first", lambda: dynamic(Layer(nn.GRU(5, 4, num_layers=2, batch_first=True)), IN_BATCHES, (2, 2, 4)), ROUNDED),
    Case("dynamic.gru_cell_qnnpack_exact", lambda: dynamic(
        Layer(nn.GRUCell(5, 4)), STEP, (2, 4), engine="qnnpack"), FLOAT, {"dynamic": "exact"}),
]  # fmt: skip



def reference(layer: nn.Module, read: Callable[[Any], Any]) -> Made:
    """What PyTorch calls a reference: float operators on weights that are integers and dequantized."""
    facts = {"qscheme": torch.per_tensor_affine, "dtype": torch.qint8, "is_decomposed": False, "axis": 0}
    facts |= {"scale": 0.0047, "zero_point": 3, "axis_int": 0}
    names = [name for name, _ in seeded(layer).named_parameters()]
    reference = getattr(torch.ao.nn.quantized.reference, type(layer).__name__)
    made = reference.from_float(layer, dict.fromkeys(names, facts) | {"is_decomposed": False})
    return Layer(made, read).eval(), inputs([SEQUENCE])


REFERENCE = [
    Case("reference.lstm", lambda: reference(nn.LSTM(5, 4, bidirectional=True), hidden), FLOAT),
    Case("reference.gru", lambda: reference(nn.GRU(5, 4), output), FLOAT),
]

# converted to torch.ao.nn.quantized.LSTM: a linear layer, sigmoids, products and sums for each step
STATIC = [
    Case("lstm", lambda: eager(Layer(nn.LSTM(5, 4), output), SEQUENCE), WEIGHTED),
    Case("lstm.two_ways", lambda: eager(Layer(nn.LSTM(5, 4, bidirectional=True), output), SEQUENCE), WEIGHTED),
    Case("lstm.batch_first", lambda: eager(Layer(nn.LSTM(5, 4, batch_first=True), output), IN_BATCHES), WEIGHTED),
    Case("lstm.qnnpack", lambda: eager(Layer(nn.LSTM(5, 4), output), SEQUENCE, engine="qnnpack"), WEIGHTED),
]

CASES = [*FLOATS, *DYNAMIC, *REFERENCE, *STATIC]
