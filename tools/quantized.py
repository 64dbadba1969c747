"""Quantized networks in each runtime: how large, how near to PyTorch, how fast.

    python tools/quantized.py [name ...]    those whose name begins so; a small choice without one

``worst`` and ``equal`` are of the operators, each fed with PyTorch's own values: the largest difference in LSB, and the share of their
outputs that are the same integers. ``LSB`` and ``SQNR`` are of the network's outputs. ``ms`` is the least of 10 runs on one thread of
LiteRT, and of onert as it is installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "examples")]

import torch2circle  # noqa: E402
from torch2circle import runtimes  # noqa: E402
from torch2circle.show import columns, counted  # noqa: E402
from torch2circle.verify import recorded  # noqa: E402

Row = tuple[str, ...]
HEADER: Row = ("model", "engine", "target", "bytes", "operators", "worst", "equal", "LSB", "SQNR dB", "ms")
SMALL = ("efficientnet_lite0", "resnet18", "mobilenet_v2", "googlenet", "shufflenet_v2_x1_0")
TARGETS = (("litert", ".tflite"), ("onert", ".circle"))
RUNS = 10


def rows(name: str, engine: str) -> list[Row]:
    """One row a target."""
    zoo: Any = import_module("zoo")
    model, x = zoo.efficientnet_lite0(engine) if name == "efficientnet_lite0" else zoo.quantized(name, engine)
    exported = torch2circle.export(model, (x,))
    return [(name, engine, target, *measured(exported, target, suffix)) for target, suffix in TARGETS]


def measured(exported: torch2circle.ExportedModel, target: str, suffix: str) -> Row:
    report, graph = exported.verify(target), exported.for_target(target)
    assert report.worst is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        size = exported.save(path, target)
        batch = [recorded(exported.recording, value) for value in graph.inputs]
        fastest = min(runtimes.run(target, path, [batch] * RUNS).seconds)
    equal = sum(c.equal for c in report.operators) / sum(c.size for c in report.operators)
    sqnr = min(c.sqnr for c in report.outputs)
    numbers = f"{report.worst.lsb:g}", f"{equal:.3%}", f"{report.lsb:g}", f"{sqnr:.1f}", f"{1000 * fastest:.1f}"
    return f"{size:,}", str(sum(counted(graph).values())), *numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names")
    wanted = tuple(parser.parse_args().names) or SMALL
    warnings.simplefilter("ignore")  # what PyTorch says about its own age is no result
    zoo: Any = import_module("zoo")
    table = [HEADER]
    for name in ("efficientnet_lite0", *zoo.NAMES):
        if name.startswith(wanted):
            for engine in ("fbgemm", "qnnpack"):
                found = rows(name, engine)
                table += found
                print(*("  ".join(each) for each in found), sep="\n", file=sys.stderr, flush=True)
    print(columns(table, None))


if __name__ == "__main__":
    main()
