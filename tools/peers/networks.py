"""Models that several exporters take, beside those of tests/zoo.py: float ones, and such that ``torch.export`` quantized."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples"), str(ROOT / "src")]


def zoo() -> Any:
    return import_module("zoo")


def floating(name: str, size: int = 224) -> tuple[nn.Module, Tensor]:
    """One of torchvision's networks in float, with batch norms that have seen photos."""
    networks = zoo()
    networks.torchvision()
    torch.manual_seed(0)
    views = torch.cat(list(networks.photos.for_test(size).values()))
    model: nn.Module = getattr(import_module("torchvision.models"), name)(weights=None)
    with torch.no_grad():
        networks.settle(model.eval(), views)
    return model, views[:1]


def encoder(layers: int = 6, width: int = 256, tokens: int = 64) -> tuple[nn.Module, Tensor]:
    """A transformer's encoder in float."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(width, 8, 4 * width, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval(), torch.randn(1, tokens, width)


def pt2e(name: str, size: int = 224) -> tuple[nn.Module, Tensor]:
    """A network that ``torch.export`` quantized as XNNPACK's quantizer says."""
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    model, x = floating(name, size)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config())
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    with torch.no_grad():
        for view in zoo().photos.for_test(size).values():
            prepared(view)
    return move_exported_model_to_eval(convert_pt2e(prepared)), x


def litert_pt2e(name: str, size: int = 224) -> tuple[nn.Module, Tensor]:
    """The same as the quantizer of litert-torch says, with what its converter has to be told; only in its environment."""
    config = import_module("litert_torch.quantize.quant_config")
    quantizers = import_module("litert_torch.quantize.pt2e_quantizer")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    model, x = floating(name, size)
    quantizer = quantizers.PT2EQuantizer().set_global(quantizers.get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
    with torch.no_grad():
        for view in zoo().photos.for_test(size).values():
            prepared(view)
    made = convert_pt2e(prepared, fold_quantize=False)
    made.quant_config = config.QuantConfig(pt2e_quantizer=quantizer)
    return made, x


def program(path: str) -> tuple[Any, Tensor]:
    """An exported program from a file, and its own example input."""
    loaded = torch.export.load(path)
    assert loaded.example_inputs is not None
    return loaded, loaded.example_inputs[0][0]
