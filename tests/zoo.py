"""torchvision's quantizable networks, quantized in eager mode, with seeded weights that behave like trained ones.

Untrained weights would not do: activations die or explode with depth, and a converter that is wrong in most layers would still
agree. Here the batch norms have met photos, so each layer has outputs of about the same size, as in a trained network. Their
biases are mostly positive: with biases around zero most of these networks are chaotic, and a difference of one step in an early
layer, which runtimes may have, is tens of steps in the logits. Trained EfficientNet-Lite0 has about one.
"""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.ao.quantization import convert, get_default_qconfig, prepare

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from efficientnet_lite0 import photos, quantize
from quiet import deprecated_quantization

NAMES = (
    "resnet18",
    "resnet50",
    "resnext101_32x8d",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "googlenet",
    "inception_v3",
    "shufflenet_v2_x1_0",
)
ENGINES = quantize.ENGINES
# Without these, the two would be built for training: with a second output, and with a first initialisation of their own.
_OPTIONS = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}


@cache
def torchvision() -> ModuleType:
    """The package; where its extension does not fit the installed torch, importing it needs operators that nobody will call."""
    try:
        return import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        boxes = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library = torch.library.Library("torchvision", "DEF")
        _LIBRARIES.append(library)
        library.define(f"nms{boxes}")
        library.define(f"qnms{boxes}")
        return import_module("torchvision")


_LIBRARIES: list[torch.library.Library] = []  # an operator goes with its library


def quantized(name: str, engine: str = "fbgemm", size: int = 224, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The network in the integers of ``engine``, and a photo [1, 3, size, size]. It is shared: leave it as it is."""
    model = _quantized(name, engine, size, seed)
    torch.backends.quantized.engine = engine
    return model, photos.for_test(size)["cat"]


def efficientnet_lite0(engine: str = "fbgemm") -> tuple[nn.Module, Tensor]:
    """The same of the example, whose weights are trained."""
    model = _efficientnet_lite0(engine)
    torch.backends.quantized.engine = engine
    return model, photos.for_test()["cat"]


_efficientnet_lite0 = cache(quantize.quantized)


@cache
def _quantized(name: str, engine: str, size: int, seed: int) -> nn.Module:
    torch.backends.quantized.engine = engine
    views = torch.cat(list(photos.for_test(size).values()))
    with torch.random.fork_rng(), deprecated_quantization(), torch.no_grad():
        torch.manual_seed(seed)
        model = _float(name)
        settle(model, views)
        model.fuse_model()  # type: ignore[operator]
        model.qconfig = get_default_qconfig(engine)
        prepare(model, inplace=True)
        for view in views.split(2):
            model(view)
        # torchvision gives each block an addition, and the blocks without a shortcut never use theirs.
        warnings.filterwarnings("ignore", "must run observer before calling calculate_qparams", UserWarning)
        convert(model, inplace=True)
    return model


def _float(name: str) -> nn.Module:
    torchvision()
    families = import_module("torchvision.models.quantization")
    model: nn.Module = getattr(families, name)(weights=None, quantize=False, **_OPTIONS.get(name, {}))
    return model.eval()


def settle(model: nn.Module, views: Tensor) -> None:
    """Gives the batch norms different channels, as training does, and the statistics of the photos."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 1, 0.5)
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    model(views)
    model.eval()
