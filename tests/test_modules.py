"""Every module class that PyTorch's quantization makes: in a model, exported, run in both runtimes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.ao.nn.intrinsic as nni
import torch.ao.nn.intrinsic.quantized as nniq
import torch.ao.nn.intrinsic.quantized.dynamic as nniqd
import torch.ao.nn.quantizable as nnqa
import torch.ao.nn.quantized as nnq
import torch.ao.nn.quantized.dynamic as nnqd
import torch.ao.nn.sparse.quantized as nnsq
import torch.ao.nn.sparse.quantized.dynamic as nnsqd
import torch.ao.quantization as tq
from torch import Tensor, nn

import torch2circle
from cases.making import SYMMETRIC, Made, Seq, Shape, Stubbed, eager, floating, inputs, ints, seeded
from torch2circle import runtimes

VOLUME, IMAGE, LINE = (2, 3, 5, 6, 7), (2, 3, 8, 9), (2, 3, 11)


def dynamic(module: nn.Module, *shapes: Shape, dtype: torch.dtype = torch.qint8) -> Made:
    made = tq.quantize_dynamic(seeded(Seq(module)), {type(module)}, dtype=dtype)
    return made, inputs(shapes)


def dynamic_convolution(converted: type[nn.Module], module: nn.Module, shape: Shape) -> Made:
    """``quantize_dynamic`` maps no convolutions by default."""
    mapping = {type(module): converted}
    return tq.quantize_dynamic(seeded(Seq(module)), {type(module): tq.default_dynamic_qconfig}, mapping=mapping), inputs([shape])


def onednn(body: nn.Module, *shapes: Shape) -> Made:
    """What only this engine fuses."""
    return eager(body, *shapes, engine="onednn")


def embedding(module: nn.Module, qconfig: Any, *args: Tensor) -> Made:
    model = seeded(Seq(module))
    model[0].qconfig = qconfig  # type: ignore[index]
    return tq.convert(tq.prepare(model)), args


def tokens() -> Tensor:
    return torch.arange(10).view(2, 5) * 3 % 7


class Functional(nn.Module):
    """All methods of a module of arithmetic; FX mode's, left unconverted, is float."""

    def __init__(self, made: nn.Module) -> None:
        super().__init__()
        self.made = made
        for name in ("plus", "plus_relu", "scaled", "shifted", "times", "join"):
            setattr(self, name, type(made)())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        f: Any = self
        both = f.plus_relu.add_relu(f.plus.add(x, y), f.times.mul(x, y))
        return f.join.cat([f.scaled.mul_scalar(both, 0.5), f.shifted.add_scalar(y, 1.25)], 1)


def functional() -> Made:
    return eager(Functional(nnq.FloatFunctional()), IMAGE, IMAGE)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class FirstOf(nn.Module):
    """The output sequence of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any) -> Tensor:
        return self.layer(*args)[0]


def observed(module: nn.Module, *shapes: Shape) -> Made:
    """Layers that have a class of their own while PyTorch watches them: nn.LSTM, nn.MultiheadAttention."""
    torch.backends.quantized.engine = "fbgemm"
    model = seeded(Stubbed(module, len(shapes)))
    model.qconfig = tq.get_default_qconfig("fbgemm")
    watching = {nn.LSTM: nnqa.LSTM, nn.MultiheadAttention: nnqa.MultiheadAttention}
    prepared = tq.prepare(model, prepare_custom_config_dict={"float_to_observed_custom_module_class": watching})
    args = inputs(shapes)
    with torch.no_grad():
        prepared(*args)
    quantized = {nnqa.LSTM: nnq.LSTM, nnqa.MultiheadAttention: nnq.MultiheadAttention}
    return tq.convert(prepared, convert_custom_config_dict={"observed_to_quantized_custom_module_class": quantized}), args


def sparse(converted: Any, call: Callable[..., Made], *shapes: Shape) -> Made:
    """A weight with blocks of 1x4 that are zero."""
    torch.backends.quantized.engine = "fbgemm" if converted is nnsq.Linear else "qnnpack"
    layer = converted(8, 5, 1, 4)
    weight = inputs([(5, 8)], seed=3)[0]
    weight[::2, :4] = 0
    layer.set_weight_bias(torch.quantize_per_tensor(weight, 0.04, 0, torch.qint8), inputs([(5,)])[0], 1, 4)
    layer.scale, layer.zero_point = 0.21, 120
    return call(layer, *shapes)


def with_recipe(module: nn.Module) -> nn.Module:
    for part in module.modules():
        part.qconfig = tq.default_dynamic_qconfig  # type: ignore[assignment]
    return seeded(module)


STATIC: dict[type[nn.Module], Callable[[], Made]] = {
    nnq.BatchNorm2d: partial(eager, nn.BatchNorm2d(3), IMAGE),
    nnq.BatchNorm3d: partial(eager, nn.BatchNorm3d(3), VOLUME),
    nnq.Conv1d: partial(eager, nn.Conv1d(3, 5, 3), LINE),
    nnq.Conv2d: partial(eager, nn.Conv2d(3, 5, 3), IMAGE),
    nnq.Conv3d: partial(eager, nn.Conv3d(3, 5, 3), VOLUME),
    nnq.ConvTranspose1d: partial(eager, nn.ConvTranspose1d(3, 5, 3, 2), LINE, weight=SYMMETRIC),
    nnq.ConvTranspose2d: partial(eager, nn.ConvTranspose2d(3, 5, 3, 2), IMAGE, weight=SYMMETRIC),
    nnq.ConvTranspose3d: partial(eager, nn.ConvTranspose3d(3, 5, 3, 2), VOLUME, weight=SYMMETRIC),
    nnq.Quantize: partial(eager, nn.ReLU(), IMAGE),
    nnq.DeQuantize: partial(eager, nn.ReLU(), IMAGE),
    nnq.Dropout: partial(eager, Seq(nn.Linear(7, 5), nn.Dropout()), (6, 7)),
    nnq.ELU: partial(eager, nn.ELU(), IMAGE),
    nnq.GroupNorm: partial(eager, nn.GroupNorm(2, 6), (2, 6, 5, 7)),
    nnq.Hardswish: partial(eager, nn.Hardswish(), IMAGE),
    nnq.InstanceNorm1d: partial(eager, nn.InstanceNorm1d(3, affine=True), LINE),
    nnq.InstanceNorm2d: partial(eager, nn.InstanceNorm2d(3, affine=True), IMAGE),
    nnq.InstanceNorm3d: partial(eager, nn.InstanceNorm3d(3, affine=True), VOLUME),
    nnq.LayerNorm: partial(eager, nn.LayerNorm((8, 9)), IMAGE),
    nnq.LeakyReLU: partial(eager, nn.LeakyReLU(0.2), IMAGE),
    nnq.Linear: partial(eager, nn.Linear(7, 5), (6, 7)),
    nnq.MaxPool2d: partial(ints, nnq.MaxPool2d(3, 2, 1), IMAGE),
    nnq.PReLU: partial(eager, nn.PReLU(3), IMAGE, weight=tq.MinMaxObserver.with_args(dtype=torch.quint8)),
    nnq.ReLU6: partial(ints, nnq.ReLU6(), IMAGE),
    nnq.Sigmoid: partial(ints, nnq.Sigmoid(1 / 256, 0), IMAGE),
    nnq.Softmax: partial(ints, nnq.Softmax(-1, 1 / 256, 0), IMAGE),
    nnq.QFunctional: functional,
    nnq.FloatFunctional: partial(floating, Functional(nnq.FloatFunctional()), IMAGE, IMAGE),
    nnq.FXFloatFunctional: partial(floating, Functional(nnq.FXFloatFunctional()), IMAGE, IMAGE),
    nnq.Embedding: lambda: embedding(nn.Embedding(7, 12), tq.float_qparams_weight_only_qconfig, tokens()),
    nnq.EmbeddingBag: lambda: embedding(nn.EmbeddingBag(7, 12, mode="sum"), tq.float_qparams_weight_only_qconfig_4bit, tokens()),
    nnq.LSTM: partial(observed, FirstOf(nn.LSTM(3, 4)), (5, 2, 3)),
    nnq.MultiheadAttention: partial(observed, Attention(), (2, 5, 8)),
    nniq.BNReLU2d: lambda: eager(nni.BNReLU2d(nn.BatchNorm2d(3), nn.ReLU()), IMAGE),
    nniq.BNReLU3d: lambda: eager(nni.BNReLU3d(nn.BatchNorm3d(3), nn.ReLU()), VOLUME),
    nniq.ConvReLU1d: lambda: eager(nni.ConvReLU1d(nn.Conv1d(3, 5, 3), nn.ReLU()), LINE),
    nniq.ConvReLU2d: lambda: eager(nni.ConvReLU2d(nn.Conv2d(3, 5, 3), nn.ReLU()), IMAGE),
    nniq.ConvReLU3d: lambda: eager(nni.ConvReLU3d(nn.Conv3d(3, 5, 3), nn.ReLU()), VOLUME),
    nniq.LinearReLU: lambda: eager(nni.LinearReLU(nn.Linear(7, 5), nn.ReLU()), (6, 7)),
    nniq.LinearLeakyReLU: lambda: onednn(nni.LinearLeakyReLU(nn.Linear(7, 5), nn.LeakyReLU(0.2)), (6, 7)),
    nniq.LinearTanh: lambda: onednn(nni.LinearTanh(nn.Linear(7, 5), nn.Tanh()), (6, 7)),
    nniq.ConvAdd2d: lambda: onednn(nni.ConvAdd2d(nn.Conv2d(3, 5, 3, padding=1), torch.add), IMAGE, (2, 5, 8, 9)),
    nniq.ConvAddReLU2d: lambda: onednn(nni.ConvAddReLU2d(nn.Conv2d(3, 5, 3, padding=1), torch.add, nn.ReLU()), IMAGE, (2, 5, 8, 9)),
    nnsq.Linear: partial(sparse, nnsq.Linear, ints, (6, 8)),
}  # fmt: skip
DYNAMIC: dict[type[nn.Module], Callable[[], Made]] = {
    nnqd.Conv1d: partial(dynamic_convolution, nnqd.Conv1d, nn.Conv1d(3, 5, 3), LINE),
    nnqd.Conv2d: partial(dynamic_convolution, nnqd.Conv2d, nn.Conv2d(3, 5, 3), IMAGE),
    nnqd.Conv3d: partial(dynamic_convolution, nnqd.Conv3d, nn.Conv3d(3, 5, 3), VOLUME),
    nnqd.ConvTranspose1d: partial(dynamic_convolution, nnqd.ConvTranspose1d, nn.ConvTranspose1d(3, 5, 3), LINE),
    nnqd.ConvTranspose2d: partial(dynamic_convolution, nnqd.ConvTranspose2d, nn.ConvTranspose2d(3, 5, 3), IMAGE),
    nnqd.ConvTranspose3d: partial(dynamic_convolution, nnqd.ConvTranspose3d, nn.ConvTranspose3d(3, 5, 3), VOLUME),
    nnqd.Linear: partial(dynamic, nn.Linear(7, 5), (6, 7)),
    nnqd.LSTM: partial(dynamic, nn.LSTM(3, 4), (5, 2, 3)),
    nnqd.GRU: partial(dynamic, nn.GRU(3, 4), (5, 2, 3)),
    nnqd.LSTMCell: partial(dynamic, nn.LSTMCell(3, 4), (2, 3)),
    nnqd.GRUCell: partial(dynamic, nn.GRUCell(3, 4), (2, 3)),
    nnqd.RNNCell: partial(dynamic, nn.RNNCell(3, 4), (2, 3)),
    nniqd.LinearReLU: lambda: floating(nniqd.LinearReLU.from_float(with_recipe(nni.LinearReLU(nn.Linear(7, 5), nn.ReLU()))), (6, 7)),
    nnsqd.Linear: partial(sparse, nnsqd.Linear, floating, (6, 8)),
}  # fmt: skip
"""Those whose activations are quantized at run time."""

NOT_LAYERS = {
    nnqa.LSTM: "watches; convert() makes torch.ao.nn.quantized.LSTM of it",
    nnqa.LSTMCell: "watches; part of the former",
    nnqa.MultiheadAttention: "watches; convert() makes torch.ao.nn.quantized.MultiheadAttention of it",
    nnsq.LinearPackedParams: "holds the weights of a layer",
}
LAYERS = STATIC | DYNAMIC


def name_of(layer: type[nn.Module]) -> str:
    return f"{layer.__module__.removeprefix('torch.ao.nn.').partition('.modules')[0]}.{layer.__name__}"


@pytest.mark.filterwarnings("ignore:must run observer before calling calculate_qparams:UserWarning")  # of what attention does not use
@pytest.mark.filterwarnings("ignore:The current implementation of the DynamicQuantizedConv:UserWarning")
@pytest.mark.parametrize("layer", [pytest.param(layer, id=name_of(layer)) for layer in LAYERS])
def test_a_model_with_the_layer_runs_in_both_runtimes(layer: type[nn.Module]) -> None:
    model, args = LAYERS[layer]()
    assert layer in {type(part) for part in model.modules()}
    exported = torch2circle.export(model, args)
    for runtime in filter(runtimes.available, ("onert", "litert")):
        report = exported.verify(runtime)
        assert report.ok(), f"{runtime}: {report.worst}"


def test_every_class_is_tried() -> None:
    namespaces = (nnq, nnqd, nniq, nniqd, nnqa, nnsq, nnsqd)
    known = {made for space in namespaces for made in vars(space).values() if inspect.isclass(made) and issubclass(made, nn.Module)}
    assert known == {*LAYERS, *NOT_LAYERS}


def test_every_method_of_the_functional_modules_is_called() -> None:
    methods = {name for name in vars(nnq.FloatFunctional) if not name.startswith("_") and name != "forward"}
    source = inspect.getsource(Functional.forward)
    assert {name for name in methods if f".{name}(" not in source} == {"matmul"}  # see test_language
