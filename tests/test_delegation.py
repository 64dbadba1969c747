"""What LiteRT gives to XNNPACK of our files: all of it, of quantized networks and of float ones."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

import torch2circle
import zoo

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
pytestmark = pytest.mark.usefixtures("fresh_random_and_quiet")
SIZE = 96


def left(model: nn.Module, x: torch.Tensor, path: Path) -> tuple[Counter[str], int]:
    """The operators that XNNPACK leaves, and how many parts it takes the others in."""
    from delegation import delegation

    torch2circle.export(model, (x,)).save(path)
    found = delegation(path)
    assert found.taken.total() > 30
    return found.left, found.parts


@pytest.mark.parametrize("name", [name for name in zoo.NAMES if name != "resnext101_32x8d"])
def test_every_operator_of_a_quantized_network_is_delegated(name: str, tmp_path: Path) -> None:
    assert left(*zoo.quantized(name, "fbgemm", SIZE), tmp_path / "model.tflite") == (Counter(), 1)


@pytest.mark.parametrize("engine", ["qnnpack", "x86"])
def test_every_operator_is_delegated_for_each_engine(engine: str, tmp_path: Path) -> None:
    assert left(*zoo.quantized("mobilenet_v2", engine, SIZE), tmp_path / "model.tflite") == (Counter(), 1)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_every_operator_of_a_float_network_is_delegated(name: str, tmp_path: Path) -> None:
    model = getattr(zoo.torchvision().models, name)(weights=None).eval()
    assert left(model, torch.rand(1, 3, SIZE, SIZE), tmp_path / "model.tflite") == (Counter(), 1)


def test_an_operator_that_is_left_is_seen(tmp_path: Path) -> None:
    """Behind a pad with what is no zero, the rest is a part of its own."""
    body = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(20)), nn.MaxPool2d(3, 2, 1), *(nn.Conv2d(3, 3, 1) for _ in range(20)))
    assert left(body.eval(), torch.rand(1, 3, 16, 16), tmp_path / "model.tflite") == (Counter(PADV2=1), 2)
