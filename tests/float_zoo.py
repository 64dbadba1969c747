"""Float networks and inputs for them: torchvision's, in every family, and those of examples/networks. Weights are random, and settled."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from networks import bert, conv_tasnet, gpt, tcn, whisper
from zoo import torchvision

Made = tuple[nn.Module, tuple[Tensor, ...]]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def settled(model: nn.Module, *args: Tensor) -> nn.Module:
    """Batch norms with channels of different size and the statistics of ``args``; scales of layers that start near zero, larger."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.3, 0.3)
            module.momentum = None  # a plain mean over the batches
            module.train()
        elif hasattr(module, "layer_scale"):  # ConvNeXt's, which hides what a block computes
            nn.init.uniform_(module.layer_scale, 0.2, 0.5)
        elif isinstance(module, nn.Linear) and not module.weight.any():  # ViT's head starts at zero
            nn.init.normal_(module.weight, 0, 0.1)
        elif isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and module.weight is not None:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        model(*args)
    return model.eval()


def seeded(make: Callable[[], nn.Module], *args: Tensor, settle: tuple[Tensor, ...] = ()) -> Made:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return settled(make().eval(), *(settle or args)), args


def vision(name: str, size: int = 64, module: str = "torchvision.models", **options: Any) -> Made:
    torchvision()
    make = getattr(import_module(module), name)
    options = {"weights": None, **({"weights_backbone": None} if module != "torchvision.models" else {}), **options}
    return seeded(lambda: make(**options), noise(1, 3, size, size), settle=(noise(4, 3, size, size, seed=2),))


def segmentation(name: str) -> Made:
    return vision(name, 64, "torchvision.models.segmentation")


class SsdHead(nn.Module):
    """The backbone and the heads of a detector, without the boxes that are picked behind them."""

    def __init__(self) -> None:
        super().__init__()
        torchvision()
        detector = import_module("torchvision.models.detection").ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        made: dict[str, Tensor] = self.head(list(self.backbone(x).values()))
        return made


PLAIN = {"aux_logits": False, "init_weights": False}
VISION: Mapping[str, Callable[[], Made]] = {
    **{
        name: (lambda name=name: vision(name))  # type: ignore[misc]
        for name in (
            "alexnet", "vgg11", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121", "mobilenet_v2",
            "mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "efficientnet_b4", "efficientnet_v2_s", "regnet_x_400mf",
            "regnet_y_400mf", "convnext_tiny", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "mnasnet0_5", "mnasnet1_0",
            "swin_t", "swin_v2_t",
        )
    },
    "googlenet": lambda: vision("googlenet", **PLAIN),
    "inception_v3": lambda: vision("inception_v3", 128, **PLAIN),
    "vit_b_16": lambda: vision("vit_b_16", 64, image_size=64),
    "vit_b_32": lambda: vision("vit_b_32", 64, image_size=64),
    "maxvit_t": lambda: vision("maxvit_t", 224),
    "deeplabv3_resnet50": lambda: segmentation("deeplabv3_resnet50"),
    "deeplabv3_mobilenet_v3_large": lambda: segmentation("deeplabv3_mobilenet_v3_large"),
    "fcn_resnet50": lambda: segmentation("fcn_resnet50"),
    "lraspp_mobilenet_v3_large": lambda: segmentation("lraspp_mobilenet_v3_large"),
    "ssdlite320_mobilenet_v3_large": lambda: seeded(SsdHead, noise(1, 3, 128, 128), settle=(noise(4, 3, 128, 128, seed=2),)),
}  # fmt: skip
OURS: Mapping[str, Callable[[], Made]] = {
    "bert": lambda: seeded(bert.Bert, *bert.example()),
    "gpt": lambda: seeded(gpt.Gpt, *gpt.example()),
    "whisper": lambda: seeded(whisper.AudioEncoder, noise(1, 20, 60)),
    "tcn": lambda: seeded(tcn.Tcn, noise(2, 6, 40)),
    "conv_tasnet": lambda: seeded(conv_tasnet.ConvTasNet, noise(2, 200)),
}
LARGE: Mapping[str, Callable[[], Made]] = {
    "bert_base": lambda: seeded(lambda: bert.Bert(30522, 768, 12, 12, 512), *bert.example(1, 128, 30522)),
}
"""Of full size, for times."""
NETWORKS = {**VISION, **OURS}
