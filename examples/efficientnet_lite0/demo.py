"""Quantizes EfficientNet-Lite0, exports it by the command line, and compares both runtimes with PyTorch on real photos."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from torch2circle import runtimes

from .labels import names
from .network import trained
from .photos import for_test
from .quantize import quantized

BUILD = Path("build/demo")
LOGITS = -2  # the layer whose scale the quantized logits have
Scores = npt.NDArray[np.float32]

console = Console()


@dataclass(frozen=True)
class Column:
    """One way to run the network: the file, the logits of each photo, and how long each took."""

    title: str
    path: Path
    scores: list[Scores] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def in_pytorch(title: str, path: Path, network: nn.Module, photos: list[Tensor]) -> Column:
    column = Column(title, path)
    with torch.inference_mode():
        network(photos[0])  # the first call allocates
        for photo in photos:
            start = time.perf_counter()
            column.scores.append(network(photo).numpy()[0])
            column.seconds.append(time.perf_counter() - start)
    return column


def in_runtime(title: str, runtime: runtimes.Runtime, path: Path, photos: list[Tensor]) -> Column:
    batches = [[photo.numpy()] for photo in (photos[0], *photos)]
    result = runtimes.run(runtime, path, batches, threads=torch.get_num_threads())
    return Column(title, path, [outputs[0][0] for outputs in result.outputs[1:]], result.seconds[1:])


def export(source: Path, target: Path) -> None:
    options = ["--trust-pickle", "--input", "1x3x224x224"]  # the pickle names a class of ours, so it has to be trusted
    console.print(f"[bold]$ torch2circle {source} {target} {' '.join(options)}", highlight=False, soft_wrap=True)
    subprocess.run([sys.executable, "-m", "torch2circle", str(source), str(target), *options], check=True)


def margin(scores: Scores, lsb: float) -> int:
    """How many steps the top class leads by; with two or fewer, rounding alone may give the lead to the second."""
    second, first = np.sort(scores)[-2:]
    return round(float(first - second) / lsb)


def wrong(photos: list[str], reference: Column, other: Column, lsb: float) -> str:
    """The photos with another top class, unless rounding excuses it."""
    rows = zip(photos, reference.scores, other.scores, strict=True)
    return ", ".join(photo for photo, a, b in rows if a.argmax() != b.argmax() and margin(a, lsb) > 2)


def cell(scores: Scores) -> str:
    odds = np.exp(scores - scores.max())
    return f"{names()[scores.argmax()]} {odds.max() / odds.sum():.0%}"


def classes(photos: list[str], columns: list[Column], lsb: float) -> Table:
    titles = [column.title for column in columns]
    table = Table("photo", *titles[:2], "leads by", *titles[2:], title="Top class, its probability (largest difference of a logit)")
    for photo, first, reference, *others in zip(photos, *(column.scores for column in columns), strict=True):
        differences = [f"{cell(scores)} ({np.abs(scores - reference).max() / lsb:.0f} LSB)" for scores in others]
        table.add_row(photo, cell(first), cell(reference), f"{margin(reference, lsb)} LSB", *differences)
    return table


def costs(columns: list[Column]) -> Table:
    table = Table("", *(column.title for column in columns))
    table.add_row("file", *(column.path.name for column in columns))
    table.add_row("MiB", *(f"{column.path.stat().st_size / 2**20:.2f}" for column in columns))
    table.add_row("ms per photo", *(f"{1e3 * float(np.median(column.seconds)):.0f}" for column in columns))
    return table


def main() -> int:
    BUILD.mkdir(parents=True, exist_ok=True)
    floats, pickle, circle, tflite = (BUILD / f"efficientnet_lite0{suffix}" for suffix in (".float.pt", ".pt", ".circle", ".tflite"))
    tests = for_test()
    photos = list(tests.values())

    float_network, network = trained(), quantized()
    torch.save(float_network.state_dict(), floats)
    torch.save(network, pickle)
    for target in (circle, tflite):
        export(pickle, target)

    columns = [
        in_pytorch("float PyTorch", floats, float_network, photos),
        in_pytorch("quantized PyTorch", pickle, network, photos),
        in_runtime("onert", "onert", circle, photos),
        in_runtime("LiteRT", "litert", tflite, photos),
    ]
    last = network[LOGITS]
    assert isinstance(last.scale, float)
    console.print(classes(list(tests), columns, last.scale), costs(columns))

    failures = [f"{bad} in {column.title}" for column in columns[2:] if (bad := wrong(list(tests), columns[1], column, last.scale))]
    if failures:
        console.print(f"[red]another class than in quantized PyTorch: {'; '.join(failures)}")
    else:
        console.print("[green]each top class is that of quantized PyTorch wherever that leads by more than 2 LSB")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
