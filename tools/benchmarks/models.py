"""The models that are measured: the tests' networks, and some that are only large."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.nn import quantized

Made = tuple[nn.Module, Tensor]
NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "inception_v3")


def zoo() -> ModuleType:
    """The tests' networks."""
    return import_module("zoo")


def make(name: str, engine: str, size: int = 224) -> Made:
    """A model by its name: one of ``MODELS``, of tests/zoo.py, or efficientnet_lite0."""
    torch.backends.quantized.engine = engine
    if name in MODELS:
        return MODELS[name]()
    networks = zoo()
    made: Made = networks.efficientnet_lite0(engine) if name == "efficientnet_lite0" else networks.quantized(name, engine, size)
    return made


def bert_base() -> Made:
    """A float encoder of BERT-base's size, every layer with weights of its own, on 128 tokens."""
    torch.manual_seed(0)
    layers = (nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True) for _ in range(12))
    return nn.Sequential(nn.Embedding(30522, 768), *layers).eval(), torch.randint(0, 30522, (1, 128))


def mlp(layers: int, width: int) -> Made:
    """Quantized linear layers, made one by one, so that they are never in float. Activations keep their spread from layer to layer."""
    torch.manual_seed(0)
    step = 0.05
    spread = 73 * 40 * width**0.5  # of the sums of uniform weights times activations that spread over 40 steps
    scales, zeros = torch.full((width,), 40 / spread), torch.zeros(width, dtype=torch.int64)
    layers_of: Any = quantized  # its classes have no annotations
    body: list[nn.Module] = [layers_of.Quantize(step, 64, torch.quint8)]
    for _ in range(layers):
        layer = layers_of.Linear(width, width)
        integers = torch.randint(-127, 128, (width, width), dtype=torch.int8)
        if torch.backends.quantized.engine == "qnnpack":  # has one scale
            weight = torch._make_per_tensor_quantized_tensor(integers, 40 / spread, 0)
        else:
            weight = torch._make_per_channel_quantized_tensor(integers, scales, zeros, 0)
        layer.set_weight_bias(weight, torch.zeros(width))
        layer.scale, layer.zero_point = step, 64
        body.append(layer)
    return nn.Sequential(*body, layers_of.DeQuantize()).eval(), torch.randn(1, width)


def deep(layers: int) -> Made:
    """A quantized network of that many convolutions, each with its own weights."""
    torch.backends.quantized.engine = "qnnpack"  # its forward pass takes least, and hides least of ours
    torch.manual_seed(0)
    body = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(layers)))
    quantization: Any = torch.ao.quantization  # its functions have no annotations
    model, x = quantization.QuantWrapper(body).eval(), torch.rand(1, 8, 16, 16)
    model.qconfig = quantization.get_default_qconfig("qnnpack")
    quantization.prepare(model, inplace=True)(x)
    return quantization.convert(model, inplace=True), x


def long(steps: int) -> Made:
    """An LSTM, to be unrolled."""
    return nn.LSTM(64, 128).eval(), torch.rand(steps, 1, 64)


MODELS: Mapping[str, Callable[[], Made]] = {
    "bert_base": bert_base,
    "operators_2000": lambda: deep(2000),
    "mlp_10m": lambda: mlp(10, 1024),
    "mlp_100m": lambda: mlp(24, 2048),
    "mlp_1b": lambda: mlp(60, 4096),
}
ALL = (*NETWORKS, *MODELS)
