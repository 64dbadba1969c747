"""What an export costs, as ratios that hold on any machine: ``python tools/bench.py --model resnet50 --json``.

The yardstick is what no exporter can do without: one recorded forward pass, and writing as many bytes as the file has, as safely.
``ratio_first`` is of first calls in a new process, as a user's are; ``ratio`` of later ones, when PyTorch's forward pass takes a fraction.
``ratio_to_floor`` counts in, too, that PyTorch unpacks the packed weights once. ``extra_mib`` is memory above the loaded model.

``--all`` measures every model and prints one table; each has a process of its own.
``--growth`` shows how the time grows with operators and with bytes, as an exponent: linear is 1.
``--start`` shows how long the command line takes until it says something.
``--report`` shows what the HTML report takes against verifying in each of its runtimes once.

``--peers`` as the first argument compares with other exporters (``--peers --help``), ``--latency`` races files in their runtimes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import exporting, growing, models, reporting, showing, starting

SLOW = ("bert_base", "mlp_100m", "mlp_1b", "operators_2000")
"""Models that are run three times at most."""


def all_models(names: list[str], engines: list[str], runs: int) -> list[dict[str, Any]]:
    """Each in a process of its own: what one leaves in memory must not help the next."""
    results: list[dict[str, Any]] = []
    for name in names:
        for engine in engines if name not in ("bert_base", "operators_2000") else ["qnnpack"]:
            command = [sys.executable, __file__, "--model", name, "--engine", engine, "--json"]
            command += ["--runs", str(min(runs, 3) if name in SLOW else runs)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout))
            print(showing.table(results[-1:]), file=sys.stderr, flush=True)
    return results


def one(options: argparse.Namespace) -> dict[str, Any]:
    return exporting.measured(options.model, options.engine, options.size, options.runs)


def report(options: argparse.Namespace) -> dict[str, Any]:
    made: tuple[nn.Module, torch.Tensor] = models.make(options.model, options.engine, options.size)
    return {"model": options.model, **reporting.report(*made, options.runs)}


def main() -> None:
    for flag, tool in (("--peers", "peers.compare"), ("--latency", "latency")):
        if sys.argv[1:2] == [flag]:  # these have options of their own
            del sys.argv[1]
            import_module(tool).main()
            return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help=f"{', '.join(models.MODELS)}, a name of tests/zoo.py, or efficientnet_lite0")
    parser.add_argument("--engine", default="fbgemm", help="of PyTorch's quantization; with --all several, by commas")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--all", nargs="*", metavar="NAME", help=f"one table of these models, or of all: {', '.join(models.ALL)}")
    parser.add_argument("--growth", action="store_true", help="how the time grows with operators and bytes")
    parser.add_argument("--start", action="store_true", help="how long the command line takes to say something")
    parser.add_argument("--report", action="store_true", help="the HTML report against verifying in its runtimes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # what PyTorch says about its own age is no result
    if options.child:
        what, *paths = options.child
        torch.backends.quantized.engine = options.engine
        print(json.dumps(exporting.first_call(what, *map(Path, paths))))
        return
    found: Any
    text: Callable[[Any], str]
    if options.all is not None:
        found, text = all_models(options.all or list(models.ALL), options.engine.split(","), options.runs), showing.table
    elif options.growth:
        found, text = growing.all_growth(options.runs), showing.growth_table
    elif options.start:
        found, text = starting.starting(options.runs), showing.facts
    else:
        found, text = (report if options.report else one)(options), showing.facts
    print(json.dumps(found, indent=2) if options.json else text(found))


if __name__ == "__main__":
    main()
