"""Float networks, of examples/networks and of torchvision, in both runtimes: near PyTorch, also on inputs that were not recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import torch2circle
from float_zoo import NETWORKS, OURS, Made, noise, seeded
from torch2circle import runtimes
from torch2circle.show import counted
from zoo import torchvision

pytestmark = pytest.mark.usefixtures("fresh_random_and_quiet")
NEAR = 90.0  # dB: float32 rounds at about 150, and of some hundred layers each adds its own


def small_swin() -> Made:
    swin = torchvision().models.swin_transformer.SwinTransformer
    return seeded(lambda: swin([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=7), noise(1, 3, 32, 32))


def small_vit() -> Made:
    vit = torchvision().models.VisionTransformer
    return seeded(lambda: vit(32, 8, 2, 4, 48, 96, num_classes=7), noise(1, 3, 32, 32))


SMALL: Mapping[str, Callable[[], Made]] = {
    **OURS, "swin": small_swin, "vit": small_vit, "squeezenet1_1": NETWORKS["squeezenet1_1"], "mnasnet0_5": NETWORKS["mnasnet0_5"],
}  # fmt: skip
# What an attention needs: its queries, keys, values and results by heads; and what is around it.
MOST_TRANSPOSES = {
    "bert": 2 * 4, "gpt": 2 * 4, "whisper": 2 * 4 + 1, "vit": 2 * 4 + 1, "squeezenet1_1": 1, "mnasnet0_5": 1, "conv_tasnet": 1, "tcn": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_a_network_is_near_pytorch_on_any_input(name: str, tmp_path: Path) -> None:
    model, args = SMALL[name]()
    exported = torch2circle.export(model, args)
    others = [x.flatten().flip(0).view(x.shape) for x in args]
    with torch.inference_mode():
        wanted = _arrays(model(*others))
    for runtime, suffix in (("onert", ".circle"), ("litert", ".tflite")):
        moves = counted(exported.for_target(runtime)).get("TRANSPOSE", 0)
        assert moves <= MOST_TRANSPOSES.get(name, moves)
        if not runtimes.available(runtime):
            continue
        report = exported.verify(runtime)
        assert min(c.sqnr for c in report.outputs) >= NEAR
        assert report.ok(0.5)
        path = tmp_path / f"model{suffix}"
        exported.save(path)
        for got, want in zip(runtimes.run(runtime, path, [[x.numpy() for x in others]]).outputs[0], wanted, strict=True):
            assert _sqnr(got, want) >= NEAR


def _arrays(made: Tensor | tuple[Tensor, ...]) -> list[np.ndarray]:
    return [made.numpy()] if isinstance(made, Tensor) else [each.numpy() for each in made]


def _sqnr(got: np.ndarray, want: np.ndarray) -> float:
    noise = np.square(got.astype(np.float64) - want).sum()
    return float("inf") if noise == 0 else 10 * float(np.log10(np.square(want.astype(np.float64)).sum() / noise))
