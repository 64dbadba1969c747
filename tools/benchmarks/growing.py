"""How the time of an export grows with operators and with bytes.

The exponent is the slope of a straight line through the logarithms: 1 is linear. What is counted is processor time of all threads on one
thread of PyTorch, less the forward pass, which is the model's own.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .exporting import forward
from .models import Made, deep, long, mlp

Row = dict[str, float]


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Least squares of log(value) over log(size)."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, values, strict=True)]
    means = [sum(each) / len(points) for each in zip(*points, strict=True)]
    slope: float = sum((x - means[0]) * (y - means[1]) for x, y in points) / sum((x - means[0]) ** 2 for x, _ in points)
    return slope


def processor_time(call: Callable[[], object], runs: int) -> float:
    """The least of several runs, of all threads."""

    def once() -> float:
        begun = time.process_time()
        call()
        return time.process_time() - begun

    return min(once() for _ in range(runs))


def growth(make: Callable[[int], Made], sizes: Sequence[int], runs: int, **options: Any) -> list[Row]:
    """A row a size: operators and bytes of the file, and what ``export`` and ``save`` take of the processor beside the forward pass."""
    import torch2circle

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            model, x = make(size)
            path = Path(folder) / "model.circle"

            def once(model: nn.Module = model, x: Tensor = x, path: Path = path) -> None:
                torch2circle.export(model, (x,), **options).save(path)

            once()
            passed = processor_time(lambda model=model, x=x: forward(model, x), runs)  # type: ignore[misc]
            took = processor_time(once, runs) - passed
            operators = len(torch2circle.export(model, (x,), **options).for_target("onert").nodes())
            rows.append({"size": size, "operators": operators, "bytes": path.stat().st_size, "cpu_forward": passed, "cpu_ours": took})
    return rows


def all_growth(runs: int) -> dict[str, Any]:
    """Each kind of growth: its rows, over what the exponent is, and the exponent."""
    torch.set_num_threads(1)  # threads that wait for each other take the processor, too
    torch.backends.quantized.engine = "qnnpack"
    kinds: dict[str, tuple[str, list[Row]]] = {
        "layers": ("operators", growth(deep, (50, 100, 200, 400, 800, 1600), runs)),
        "lstm_steps": ("operators", growth(long, (25, 50, 100, 200), runs, recurrent="unrolled")),
        "weights": ("bytes", growth(lambda width: mlp(8, width), (1024, 1448, 2048, 2896, 4096), runs)),
    }
    return {
        name: {"over": over, "exponent": exponent([row[over] for row in rows], [row["cpu_ours"] for row in rows]), "rows": rows}
        for name, (over, rows) in kinds.items()
    }
