"""What the HTML report takes against verifying in each of its runtimes once."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from torch import Tensor, nn

from . import MIB
from .exporting import seconds


def report(model: nn.Module, x: Tensor, runs: int) -> dict[str, float]:
    """Seconds of a report and of verifying alone, alternating, and the size of the page."""
    import torch2circle

    exported, targets = torch2circle.export(model, (x,)), ("onert", "litert")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"

        def once() -> list[float]:
            return [*(seconds(exported.verify, target) for target in targets), seconds(torch2circle.write_report, exported, path)]

        once()  # imports, and the runtimes' processes
        *verified, reported = map(statistics.median, zip(*(once() for _ in range(runs)), strict=True))
        figures = {f"t_verify_{target}": took for target, took in zip(targets, verified, strict=True)}
        return figures | {"t_report": reported, "ratio_report": reported / sum(verified), "page_mib": path.stat().st_size / MIB}
