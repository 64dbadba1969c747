"""Post-training quantization in eager mode: ``python -m efficientnet_lite0.quantize --engine qnnpack model.pt``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.ao.nn.intrinsic import ConvReLU2d
from torch.ao.quantization import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver, QConfig, convert, fuse_modules, prepare
from torch.nn.functional import conv2d

from quiet import deprecated_quantization

from .network import EfficientNetLite0, trained
from .photos import for_calibration

ENGINES = ("fbgemm", "x86", "qnnpack")


class ReLU6Observer(MinMaxObserver):
    """Makes of the convolution + ReLU before it the ReLU6 that eager mode cannot fuse.

    Calibration goes on with the clamped values, and the integers, whose range ends at 6 at most, saturate there.
    """

    def forward(self, x: Tensor) -> Tensor:
        clamped: Tensor = super().forward(x.clamp(max=6))  # type: ignore[no-untyped-call]
        return clamped


# FBGEMM adds pairs of products in 16 bits, which saturate where both factors have all 8 bits. Its default takes a bit from
# the activations; weights, with a scale for each channel, miss it less.
LARGEST_WEIGHT = 63
_WEIGHT = PerChannelMinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-LARGEST_WEIGHT, quant_max=LARGEST_WEIGHT
)
GENERAL = QConfig(HistogramObserver.with_args(dtype=torch.quint8), _WEIGHT)
BEFORE_RELU6 = QConfig(ReLU6Observer.with_args(dtype=torch.quint8), _WEIGHT)


def fuse(network: nn.Module) -> None:
    """Joins each convolution of an ``nn.Sequential`` with the batch norm and the ReLU behind it."""
    for sequence in [module for module in network.modules() if type(module) is nn.Sequential]:
        for index, layer in enumerate(sequence):
            if isinstance(layer, nn.Conv2d):
                length = 3 if index + 2 < len(sequence) and isinstance(sequence[index + 2], nn.ReLU) else 2
                fuse_modules(sequence, [str(index + offset) for offset in range(length)], inplace=True)


def calibrate(network: nn.Module, batches: Sequence[Tensor]) -> None:
    """Shows the batches to the observers, and gives back to each bias the mean that rounding the weights takes from the outputs.

    That mean is far from zero, because what comes out of a ReLU6 is never negative.
    """
    lost: dict[nn.Conv2d, Tensor] = {}

    def measure(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(layer.padding, tuple)
        missing = conv2d(inputs[0], rounding_error(layer.weight), None, layer.stride, layer.padding, layer.dilation, layer.groups)
        lost[layer] = lost.get(layer, torch.zeros(())) + missing.mean((0, 2, 3)) / len(batches)

    hooks = [module.register_forward_hook(measure) for module in network.modules() if isinstance(module, nn.Conv2d)]
    for batch in batches:
        network(batch)
    for hook in hooks:
        hook.remove()
    for layer, mean in lost.items():
        assert layer.bias is not None  # that of the batch norm
        layer.bias.add_(mean)


def rounding_error(weight: Tensor) -> Tensor:
    scale = weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12) / LARGEST_WEIGHT
    return weight - (weight / scale).round() * scale


def quantized(engine: str = "fbgemm") -> EfficientNetLite0:
    """The trained network in the integers of ``engine``."""
    torch.backends.quantized.engine = engine
    network = trained(nn.ReLU)
    with deprecated_quantization(), torch.no_grad():
        fuse(network)
        network.qconfig = GENERAL  # type: ignore[assignment]
        for module in network.modules():
            if isinstance(module, ConvReLU2d):
                module.qconfig = BEFORE_RELU6  # type: ignore[assignment]
        prepare(network, inplace=True)
        calibrate(network, list(for_calibration()))
        convert(network, inplace=True)
    return network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--engine", choices=ENGINES, default="fbgemm")
    arguments = parser.parse_args()
    torch.save(quantized(arguments.engine), arguments.path)


if __name__ == "__main__":
    main()
