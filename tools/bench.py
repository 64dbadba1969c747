"""What an export costs, as ratios that hold on any machine: ``python tools/bench.py --model resnet50 --json``.

The yardstick is what no exporter can do without: one recorded forward pass, and writing as many bytes as the file has.
``ratio_first`` is of first calls in a new process, as a user's are; ``ratio`` of later ones, when PyTorch's forward pass takes a fraction.
``ratio_to_floor`` counts in, too, that PyTorch unpacks the packed weights once.

``--growth`` shows how the time grows with the model: for a quantized network of more and more layers, and an LSTM of more and more unrolled
time steps, seconds an operator against those of the smallest. Linear is 1.

``--report`` shows what the HTML report takes against verifying in each of its runtimes once.

``--peers`` as the first argument compares with other exporters (``--peers --help``), ``--latency`` races files in their runtimes.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "examples")]
MIB = 2**20


def zoo() -> ModuleType:
    """The tests' networks."""
    return import_module("zoo")


class DoNothing(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """The least that a recorder is."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def forward(model: nn.Module, *args: Tensor) -> None:
    with torch.inference_mode(), DoNothing():  # type: ignore[no-untyped-call]
        model(*args)


def write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def export(model: nn.Module, x: Tensor, path: Path) -> None:
    import torch2circle

    torch2circle.export(model, (x,)).save(path)


def seconds(call: Callable[..., object], *args: Any) -> float:
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def stages(model: nn.Module, x: Tensor, path: Path) -> dict[str, float]:
    """Seconds of the stages of one export."""
    import torch2circle
    from torch2circle.targets import target_for

    begun: dict[str, float] = {}

    def begin(stage: str) -> None:
        begun[stage] = time.perf_counter()

    exported = torch2circle.export(model, (x,), progress=begin)
    begin("legalize")
    exported.for_target(target_for(path, None))
    begin("write")
    exported.save(path)
    ends = [*begun.values(), time.perf_counter()][1:]
    return {stage: end - start for (stage, start), end in zip(begun.items(), ends, strict=True)}


def unpack(model: nn.Module) -> None:
    """PyTorch's own unpacking of all packed weights: nothing else gives them."""
    for module in model.modules():
        packed = getattr(module, "_packed_params", None)
        if isinstance(packed, torch.ScriptObject):
            packed.unpack()  # type: ignore[attr-defined]


def times(model: nn.Module, x: Tensor, path: Path, runs: int) -> dict[str, Any]:
    """Alternating, so that whatever else the machine does falls on all alike."""
    export(model, x, path)  # imports, and PyTorch's first call
    content = path.read_bytes()
    rows, parts = [], []
    for _ in range(runs):
        floor = seconds(forward, model, x), seconds(write, path.with_suffix(".raw"), content), seconds(unpack, model)
        rows.append((*floor, seconds(export, model, x, path)))
        parts.append(stages(model, x, path))
    t_forward, t_write, t_unpack, t_export = (statistics.median(column) for column in zip(*rows, strict=True))
    each = [exported / (forwarded + written) for forwarded, written, _, exported in rows]
    return {
        "t_forward": t_forward,
        "t_write": t_write,
        "t_unpack": t_unpack,
        "t_export_save": t_export,
        "ratio": t_export / (t_forward + t_write),
        "ratio_min": min(each),
        "ratio_max": max(each),
        "ratio_to_floor": t_export / (t_forward + t_write + t_unpack),
        "stages": {name: statistics.median(part[name] for part in parts) for name in parts[0]},
        "file_mib": len(content) / MIB,
    }


def status(key: str) -> float:
    """A memory figure of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def first_call(what: str, saved: Path, example: Path, path: Path) -> tuple[float, float]:
    """Highest resident memory during ``what`` less what the process with the loaded model already had, in MiB; and its seconds.

    It is the first call of the process, as it is for a user: PyTorch prepares its kernels then. Imports are not counted.
    """
    import torch2circle.pipeline
    from torch2circle.loading import load

    assert torch2circle.pipeline
    zoo().torchvision()  # the pickle names its classes
    model, x, content = load(saved, trust_pickle=True), torch.load(example), path.read_bytes()
    assert isinstance(model, nn.Module)

    def floor(path: Path) -> None:
        forward(model, x)
        write(path, content)

    ctypes.CDLL(None).malloc_trim(0)  # memory that loading freed must not hide what the export takes
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = status("VmRSS")
    took = seconds(floor, path.with_suffix(".raw")) if what == "floor" else seconds(export, model, x, path.with_suffix(".first.circle"))
    return status("VmHWM") - before, took


def first(model: nn.Module, x: Tensor, folder: Path, path: Path, runs: int = 3) -> dict[str, float]:
    """In children, because a process that quantized the model has memory to spare and its kernels prepared."""
    saved, example = folder / "model.pt", folder / "example.pt"
    torch.save(model, saved)
    torch.save(x, example)

    def child(what: str) -> tuple[float, float]:
        names = [what, str(saved), str(example), str(path)]
        command = [sys.executable, __file__, "--engine", torch.backends.quantized.engine, "--child", *names]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        mib, took = done.stdout.split()[-2:]
        return float(mib), float(took)

    rows = [(*child("export"), *child("floor")) for _ in range(runs)]
    extra, took, extra_floor, floor = (statistics.median(column) for column in zip(*rows, strict=True))
    figures = {"extra_mib": extra, "extra_mib_forward": extra_floor, "t_first_export": took, "t_first_floor": floor}
    return figures | {"ratio_first": took / floor}


def is_lowers(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(function, "id", getattr(function, "attr", None)) == "lowers"


def lowering_lines() -> list[int]:
    """Lines of each lowering, decorators included."""
    lines = []
    for file in sorted((ROOT / "src" / "torch2circle" / "lower").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and any(map(is_lowers, node.decorator_list)):
                assert node.end_lineno is not None
                lines.append(node.end_lineno - node.decorator_list[0].lineno + 1)
    return lines


def network(name: str, engine: str, size: int) -> tuple[nn.Module, Tensor]:
    networks = zoo()
    made: tuple[nn.Module, Tensor]
    made = networks.efficientnet_lite0(engine) if name == "efficientnet_lite0" else networks.quantized(name, engine, size)
    return made


def bench(name: str, engine: str, size: int, runs: int) -> dict[str, Any]:
    model, x = network(name, engine, size)
    lines = lowering_lines()
    result: dict[str, Any] = {"model": name, "engine": engine, "input": list(x.shape), "runs": runs}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "model.circle"
        result |= times(model, x, path, runs) | first(model, x, folder, path)
    return result | {"lowerings": len(lines), "median_lowering_lines": statistics.median(lines) if lines else None}


def deep(layers: int) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """A quantized network of that many convolutions, each with its own weights."""
    torch.backends.quantized.engine = "qnnpack"  # its forward pass takes least, and hides least of ours
    body = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(layers)))
    quantization: Any = torch.ao.quantization  # its functions have no annotations
    model, x = quantization.QuantWrapper(body).eval(), torch.rand(1, 8, 16, 16)
    model.qconfig = quantization.get_default_qconfig("qnnpack")
    quantization.prepare(model, inplace=True)(x)
    return quantization.convert(model, inplace=True), x, {}


def long(steps: int) -> tuple[nn.Module, Tensor, dict[str, Any]]:
    """An LSTM, unrolled."""
    return nn.LSTM(64, 128).eval(), torch.rand(steps, 1, 64), {"recurrent": "unrolled"}


def growth(make: Callable[[int], tuple[nn.Module, Tensor, dict[str, Any]]], sizes: Sequence[int], runs: int) -> list[dict[str, float]]:
    """What ``export`` and ``save`` take of the processor for each size, and for each operator of the file compared with the smallest."""
    import torch2circle

    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            model, x, options = make(size)
            path = Path(folder) / f"{size}.circle"

            def once(model: nn.Module = model, x: Tensor = x, options: dict[str, Any] = options, path: Path = path) -> None:
                torch2circle.export(model, (x,), **options).save(path)

            once()
            begun = time.process_time()  # of all threads, and without what else the machine does
            for _ in range(runs):
                once()
            took = (time.process_time() - begun) / runs
            operators = len(torch2circle.export(model, (x,), **options).for_target("onert").nodes())
            rows.append({"size": size, "operators": operators, "cpu_export_save": took, "us_each": took / operators * 1e6})
            rows[-1]["each_to_first"] = rows[-1]["us_each"] / rows[0]["us_each"]
    return rows


GROWTH: dict[str, tuple[Callable[[int], tuple[nn.Module, Tensor, dict[str, Any]]], Sequence[int]]] = {
    "layers": (deep, (25, 50, 100, 200, 400)),
    "lstm_steps": (long, (25, 50, 100, 200)),
}


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


def show_growth(found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    for name, rows in found.items():
        print(f"{name:<12}" + "".join(f"{key:>16}" for key in list(rows[0])[1:]))
        for row in rows:
            print(f"{row['size']:<12}" + "".join(f"{value:>16.4g}" for value in list(row.values())[1:]))


def show(result: dict[str, Any]) -> None:
    for key, value in result.items():
        if isinstance(value, dict):
            for stage, took in value.items():
                print(f"  {stage:<22} {took:.4f}")
        else:
            print(f"{key:<24} {value:.4f}" if isinstance(value, float) else f"{key:<24} {value}")


def main() -> None:
    for flag, tool in (("--peers", "peers.compare"), ("--latency", "latency")):
        if sys.argv[1:2] == [flag]:  # these have options of their own
            del sys.argv[1]
            import_module(tool).main()
            return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet50", help="a name of tests/zoo.py, or efficientnet_lite0")
    parser.add_argument("--engine", default="fbgemm")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--growth", action="store_true", help="how the time grows with layers and with unrolled time steps")
    parser.add_argument("--report", action="store_true", help="the HTML report against verifying in its runtimes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # what PyTorch says about its own age is no result
    if options.child:
        what, *paths = options.child
        torch.backends.quantized.engine = options.engine
        print(*first_call(what, *map(Path, paths)))
        return
    if options.growth:
        torch.set_num_threads(1)  # threads that wait for each other take the processor, too
        found = {name: growth(make, sizes, options.runs) for name, (make, sizes) in GROWTH.items()}
        print(json.dumps(found, indent=2)) if options.json else show_growth(found)
        return
    if options.report:
        torch.backends.quantized.engine = options.engine
        result: dict[str, Any] = {"model": options.model, **report(*network(options.model, options.engine, options.size), options.runs)}
    else:
        result = bench(options.model, options.engine, options.size, options.runs)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
