"""Float networks in each runtime: how near to PyTorch, of how many operators, how long an export takes.

    python tools/models.py [name ...]    those whose name begins so; all of them without one

``SQNR`` and ``worst`` (in steps of 2^-16 of a tensor's largest magnitude) are end to end and of the worst operator fed with PyTorch's own
values. ``moves`` are TRANSPOSE and RESHAPE. ``ratio`` is the export and its file against one recorded forward pass.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples"), str(ROOT / "tools")]

import torch2circle  # noqa: E402
from benchmarks.exporting import forward, seconds  # noqa: E402
from torch2circle.errors import Torch2CircleError  # noqa: E402
from torch2circle.pipeline import ExportedModel  # noqa: E402
from torch2circle.show import columns, counted  # noqa: E402

Row = tuple[str, ...]
Made = tuple[nn.Module, tuple[Tensor, ...]]
HEADER: Row = ("model", "target", "SQNR dB", "worst", "operator", "operators", "transpose", "reshape", "forward s", "export s", "ratio")


def rows(name: str, made: Made) -> list[Row]:
    """One row a target."""
    model, args = made
    try:
        exported = torch2circle.export(model, args)
    except Torch2CircleError as error:
        return [refused(name, "any", error)]
    passed = statistics.median(seconds(forward, model, *args) for _ in range(3))
    return [row(name, target, suffix, made, exported, passed) for target, suffix in (("litert", ".tflite"), ("onert", ".circle"))]


def row(name: str, target: str, suffix: str, made: Made, exported: ExportedModel, passed: float) -> Row:
    try:
        return name, target, *quality(exported, target), *cost(made, target, suffix, passed)
    except Torch2CircleError as error:
        return refused(name, target, error)


def refused(name: str, target: str, error: Torch2CircleError) -> Row:
    print(f"{name}: {error}\n", file=sys.stderr)
    return name, target, "refused", *[""] * (len(HEADER) - 3)


def quality(exported: ExportedModel, target: str) -> Row:
    report, counts = exported.verify(target), counted(exported.for_target(target))
    worst = report.worst
    assert worst is not None
    sqnr = min(c.sqnr for c in report.outputs)
    moves = (str(counts.get(op, 0)) for op in ("TRANSPOSE", "RESHAPE"))
    return f"{sqnr:.1f}", f"{worst.lsb:.3f}", worst.op, str(sum(counts.values())), *moves


def cost(made: Made, target: str, suffix: str, passed: float) -> Row:
    model, args = made
    with tempfile.TemporaryDirectory() as folder:
        spent = seconds(lambda: torch2circle.export(model, args).save(Path(folder) / f"model{suffix}", target))
    return f"{passed:.3f}", f"{spent:.3f}", f"{spent / passed:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names")
    wanted = tuple(parser.parse_args().names)
    warnings.simplefilter("ignore")
    zoo: Any = import_module("float_zoo")
    networks = {**zoo.NETWORKS, **zoo.LARGE} if wanted else zoo.NETWORKS
    table = [HEADER]
    for name, make in networks.items():
        if not wanted or name.startswith(wanted):
            found = rows(name, make())
            table += found
            print(*("  ".join(each) for each in found), sep="\n", file=sys.stderr, flush=True)
    print(columns(table, None))


if __name__ == "__main__":
    main()
