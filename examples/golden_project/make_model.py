"""Train a classifier of 8x8 digits, quantize it, and save it: ``python make_model.py``. Needs scikit-learn.

What comes out differs a little from machine to machine, as training and calibration are sums of floats. That is why ``digits.pt`` is kept
in the repository: from there on everything is the same everywhere.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.ao.quantization import DeQuantStub, QuantStub, convert, fuse_modules, get_default_qconfig, prepare
from torch.nn.functional import cross_entropy

HERE = Path(__file__).parent


def digits() -> tuple[Tensor, Tensor]:
    """Scikit-learn's images [1797, 1, 8, 8], 0..1, and the digits they show."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images.reshape(-1, 1, 8, 8), dtype=torch.float32) / 16, torch.tensor(labels)


def trained(images: Tensor, labels: Tensor) -> nn.Sequential:
    model = nn.Sequential(
        QuantStub(), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10),
        DeQuantStub(),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(20):
        for batch in torch.randperm(len(labels)).split(128):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def quantized(model: nn.Sequential, images: Tensor) -> nn.Module:
    fused = fuse_modules(model, [["1", "2"], ["3", "4"]])
    fused.qconfig = get_default_qconfig("fbgemm")
    prepared = prepare(fused)
    prepared(images)
    return convert(prepared)


def main(folder: Path = HERE) -> None:
    warnings.simplefilter("ignore")  # torch deprecates the quantization that its users have
    torch.manual_seed(0)
    images, labels = digits()
    model = quantized(trained(images[:1500], labels[:1500]), images[:200])
    right = (model(images[1500:]).argmax(1) == labels[1500:]).float().mean()
    torch.save(model, folder / "digits.pt")
    np.save(folder / "digits.npy", images[1500:1508].numpy())
    print(f"{folder / 'digits.pt'}: {right:.1%} of 297 digits that it was not trained with")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
