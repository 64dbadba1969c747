"""Quantization-aware training in seconds: ``python -m digits_qat.train digits.pt``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.ao.quantization import DeQuantStub, QuantStub, convert, fuse_modules_qat, get_default_qat_qconfig, prepare_qat
from torch.nn.functional import cross_entropy

from quiet import deprecated_quantization

ENGINE = "fbgemm"


@dataclass(frozen=True)
class Split:
    """Images [N, 1, 8, 8], 0..1, and the digits they show."""

    images: Tensor
    digits: Tensor

    def accuracy(self, logits: Tensor) -> float:
        return float((logits.argmax(1) == self.digits).float().mean())


@cache
def splits() -> tuple[Split, Split]:
    """Scikit-learn's 1797 digits: three quarters to train with, the rest to test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype("float32") / 16
    train_x, test_x, train_y, test_y = train_test_split(images, digits, test_size=0.25, stratify=digits, random_state=0)
    return Split(torch.tensor(train_x), torch.tensor(train_y)), Split(torch.tensor(test_x), torch.tensor(test_y))


def network() -> nn.Sequential:
    """Made of PyTorch's own classes only, so its pickle can be loaded without trust."""

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(QuantStub(), *stage(1, 16), *stage(16, 32), nn.Flatten(), nn.Linear(32 * 2 * 2, 10), DeQuantStub())


def fit(model: nn.Module, data: Split, epochs: int, rate: float) -> None:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.digits)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(data.images[batch]), data.digits[batch]).backward()
            optimizer.step()
    model.eval()


def trained(seed: int = 0) -> tuple[nn.Sequential, float]:
    """The quantized network, and the accuracy the float one had on the test images before quantization joined the training."""
    torch.manual_seed(seed)
    torch.backends.quantized.engine = ENGINE
    train, test = splits()
    with deprecated_quantization():
        model = network()
        fit(model, train, epochs=12, rate=3e-3)
        with torch.inference_mode():
            accuracy = test.accuracy(model(test.images))
        model.train()
        model = fuse_modules_qat(model, [["1", "2", "3"], ["5", "6", "7"]])
        model.qconfig = get_default_qat_qconfig(ENGINE)
        prepare_qat(model, inplace=True)
        fit(model, train, epochs=4, rate=5e-4)
        return convert(model), accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    model, accuracy = trained()
    test = splits()[1]
    torch.save(model, path)
    print(f"right on {len(test.digits)} test images: float {accuracy:.2%}, quantized {test.accuracy(model(test.images)):.2%}")


if __name__ == "__main__":
    main()
