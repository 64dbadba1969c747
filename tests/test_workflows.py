"""The ways that PyTorch quantizes a model, with each of its recipes, and the forms in which the result is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization as Q
from torch.ao.quantization import quantize_fx

import torch2circle
from cases.making import seeded
from torch2circle import runtimes
from torch2circle.ir import Node

pytestmark = pytest.mark.usefixtures("fresh_random_and_quiet")
ENGINES = ("fbgemm", "x86", "onednn", "qnnpack")
X = torch.linspace(-2, 2, 2 * 3 * 12 * 14).sin().mul(2).reshape(2, 3, 12, 14)


class Net(nn.Module):
    """Convolution, normalization, a shortcut, a gate, a join, a pool and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = Q.QuantStub(), Q.DeQuantStub()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.depth, self.depth_norm = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.gate, self.sigmoid, self.linear = nn.Conv2d(8, 8, 1), nn.Sigmoid(), nn.Linear(16, 5)
        self.add, self.mul, self.cat = (torch.ao.nn.quantized.FloatFunctional() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(self.quant(x))))
        y = self.add.add(self.depth_norm(self.depth(x)), x)
        z = self.mul.mul(y, self.sigmoid(self.gate(y)))
        pooled: Tensor = self.cat.cat([x, z], 1).mean((2, 3))
        return self.dequant(self.linear(pooled))


FUSED = [["conv", "norm", "act"], ["depth", "depth_norm"]]


def net() -> nn.Module:
    return seeded(Net())


def static(qconfig: Any, engine: str = "fbgemm") -> nn.Module:
    torch.backends.quantized.engine = engine
    model = Q.fuse_modules(net(), FUSED)
    model.qconfig = qconfig
    Q.prepare(model, inplace=True)
    model(X)
    return Q.convert(model)


def default(engine: str) -> nn.Module:
    return static(Q.get_default_qconfig(engine), engine)


def aware_training(engine: str) -> nn.Module:
    torch.backends.quantized.engine = engine
    model = Q.fuse_modules_qat(net().train(), FUSED)
    model.qconfig = Q.get_default_qat_qconfig(engine)
    Q.prepare_qat(model, inplace=True)
    trained(model)
    return Q.convert(model.eval())


def trained(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    for _ in range(3):
        optimizer.zero_grad()
        model(X).square().sum().backward()
        optimizer.step()


class Plain(Net):
    """As FX takes it: without stubs, with Python's own operators."""

    # FX would hand annotations on as text, which TorchScript cannot read
    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.act(self.norm(self.conv(x)))
        y = self.depth_norm(self.depth(x)) + x
        z = y * self.sigmoid(self.gate(y))
        return self.linear(torch.cat([x, z], 1).mean((2, 3)))


def graph_mode(engine: str, convert: Callable[[nn.Module], nn.Module] = quantize_fx.convert_fx) -> nn.Module:
    torch.backends.quantized.engine = engine
    prepared = quantize_fx.prepare_fx(seeded(Plain()), Q.get_default_qconfig_mapping(engine), (X,))
    prepared(X)
    return convert(prepared)


def graph_mode_training(engine: str) -> nn.Module:
    torch.backends.quantized.engine = engine
    prepared = quantize_fx.prepare_qat_fx(seeded(Plain()).train(), Q.get_default_qat_qconfig_mapping(engine), (X,))
    trained(prepared)
    return quantize_fx.convert_fx(prepared.eval())


def dynamic(dtype: torch.dtype, engine: str = "fbgemm") -> nn.Module:
    torch.backends.quantized.engine = engine
    return Q.quantize_dynamic(seeded(Plain()), {nn.Linear}, dtype=dtype)


def graph_mode_dynamic() -> nn.Module:
    mapping = Q.QConfigMapping().set_object_type(nn.Linear, Q.default_dynamic_qconfig)
    return quantize_fx.convert_fx(quantize_fx.prepare_fx(seeded(Plain()), mapping, (X,)))


def activation(**kwargs: Any) -> Any:
    return Q.MinMaxObserver.with_args(dtype=torch.quint8, **kwargs)


def weight(observer: Any = Q.PerChannelMinMaxObserver, scheme: torch.qscheme = torch.per_channel_symmetric) -> Any:
    return observer.with_args(dtype=torch.qint8, qscheme=scheme)


RECIPES = {
    "full_range": Q.QConfig(activation(), weight()),
    "reduced_range": Q.QConfig(activation(reduce_range=True), weight()),
    "symmetric_activation": Q.QConfig(activation(qscheme=torch.per_tensor_symmetric), weight()),
    "weight_per_tensor": Q.QConfig(activation(reduce_range=True), weight(Q.MinMaxObserver, torch.per_tensor_symmetric)),
    "weight_affine": Q.QConfig(activation(reduce_range=True), weight(Q.MinMaxObserver, torch.per_tensor_affine)),
    "histogram": Q.QConfig(Q.HistogramObserver.with_args(reduce_range=True), weight()),
    "moving_average": Q.QConfig(Q.default_observer, weight(Q.MovingAveragePerChannelMinMaxObserver)),
}
WORKFLOWS: dict[str, Callable[[], nn.Module]] = {
    **{f"static.{engine}": partial(default, engine) for engine in ENGINES},
    **{f"recipe.{name}": partial(static, recipe) for name, recipe in RECIPES.items()},
    **{f"aware_training.{engine}": partial(aware_training, engine) for engine in ENGINES},
    **{f"graph_mode.{engine}": partial(graph_mode, engine) for engine in ENGINES},
    "graph_mode_training": partial(graph_mode_training, "fbgemm"),
    "graph_mode_reference": partial(graph_mode, "fbgemm", quantize_fx.convert_to_reference_fx),
    "dynamic.qint8": partial(dynamic, torch.qint8),
    "dynamic.qint8_qnnpack": partial(dynamic, torch.qint8, "qnnpack"),
    "dynamic.float16": partial(dynamic, torch.float16),
    "graph_mode_dynamic": graph_mode_dynamic,
}
STATIC = [name for name in WORKFLOWS if "dynamic" not in name]


def checked(model: nn.Module) -> torch2circle.ExportedModel:
    exported = torch2circle.export(model, (X[:1],))
    for runtime in filter(runtimes.available, ("onert", "litert")):
        report = exported.verify(runtime)
        assert report.ok(), f"{runtime}: {report.worst}"
    return exported


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_operator(name: str) -> None:
    exported = checked(WORKFLOWS[name]())
    weights = [node.inputs[1] for node in exported.graph.nodes() if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert len(weights) == 4
    assert all(w is not None and w.type.quant for w in weights) == (name in STATIC)


# The forms in which a converted model is kept. Loading must give the same file as the module itself.


def pickled(model: nn.Module, path: Path) -> nn.Module | Path:
    torch.save(model, path)
    return path


def scripted(model: nn.Module, path: Path) -> nn.Module | Path:
    torch.jit.save(torch.jit.script(model), str(path))
    return path


def traced(model: nn.Module, path: Path) -> nn.Module | Path:
    torch.jit.save(torch.jit.trace(model, (X[:1],)), str(path))
    return path


def operators(exported: torch2circle.ExportedModel, target: str) -> list[str]:
    def shown(node: Node) -> str:
        return f"{node.op} {' '.join(str(v.type) for v in (*node.inputs, *node.outputs) if v is not None)}"

    return [shown(node) for node in exported.for_target(target).nodes()]


@pytest.mark.parametrize("keep", [pickled, scripted, traced])
@pytest.mark.parametrize("name", ["static.fbgemm", "aware_training.qnnpack", "graph_mode.x86", "graph_mode_reference", "dynamic.qint8"])
def test_kept_in_a_file(name: str, keep: Callable[[nn.Module, Path], Path], tmp_path: Path) -> None:
    model = WORKFLOWS[name]()
    if keep is pickled and isinstance(model, torch.fx.GraphModule):
        pytest.skip("a pickled GraphModule is code: test_loading")
    loaded = torch2circle.load(keep(model, tmp_path / "model.pt"), trust_pickle=keep is pickled)
    kept = torch2circle.export(loaded, (X[:1],))
    direct = torch2circle.export(model, (X[:1],))
    for target in ("onert", "litert"):
        assert operators(kept, target) == operators(direct, target)
    assert kept.verify("litert").ok()
