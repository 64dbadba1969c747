"""Trains, exports by the Python interface, and counts right digits in both runtimes: ``python -m digits_qat.demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import torch2circle
from torch2circle import runtimes

from .train import splits, trained

BUILD = Path("build/demo")
LOGITS = -2  # the layer whose scale the quantized logits have


def logits(runtime: runtimes.Runtime, path: Path, images: Tensor) -> Tensor:
    result = runtimes.run(runtime, path, [[image[None].numpy()] for image in images])
    return torch.tensor([outputs[0][0].tolist() for outputs in result.outputs])


def main() -> int:
    BUILD.mkdir(parents=True, exist_ok=True)
    circle, tflite = BUILD / "digits.circle", BUILD / "digits.tflite"
    model, float_accuracy = trained()
    torch.save(model, BUILD / "digits.pt")
    test = splits()[1]

    export = torch2circle.export(model, (test.images[:1],))
    export.save(circle)
    export.save(tflite)

    with torch.inference_mode():
        reference = model(test.images)
    files: list[tuple[runtimes.Runtime, Path]] = [("onert", circle), ("litert", tflite)]
    results = {"quantized PyTorch": reference} | {runtime: logits(runtime, path, test.images) for runtime, path in files}

    lsb = model[LOGITS].scale
    table = Table("", "right", "logits equal to PyTorch's", "largest difference", title=f"{len(test.digits)} test images")
    table.add_row("float PyTorch", f"{float_accuracy:.2%}")
    for name, result in results.items():
        difference = (result - reference).abs()
        table.add_row(name, f"{test.accuracy(result):.2%}", f"{(difference == 0).float().mean():.2%}", f"{difference.max() / lsb:.0f} LSB")
    Console().print(table)
    return int(any(test.accuracy(result) != test.accuracy(reference) for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
