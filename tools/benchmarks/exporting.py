"""One export against what no exporter can do without: one recorded forward pass, and writing as many bytes as safely.

``ratio`` is export() and save() against the two; ``ratio_to_floor`` counts in that PyTorch unpacks the packed weights once, since nothing
else gives them. Minima of alternating runs: whatever else the machine does only adds.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from . import MIB
from .models import make, zoo

BENCH = Path(__file__).parents[1] / "bench.py"


class DoNothing(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """The least that a recorder is."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def forward(model: nn.Module, *args: Tensor) -> None:
    with torch.inference_mode(), DoNothing():  # type: ignore[no-untyped-call]
        model(*args)


def write(path: Path, content: bytes) -> None:
    """As safely as an export is: under another name first, and on the disk before it gets its own."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def unpack(model: nn.Module) -> None:
    """PyTorch's own unpacking of all packed weights."""
    for module in model.modules():
        packed = getattr(module, "_packed_params", None)
        if isinstance(packed, torch.ScriptObject):
            packed.unpack()  # type: ignore[attr-defined]


def export(model: nn.Module, x: Tensor, path: Path) -> None:
    import torch2circle

    torch2circle.export(model, (x,)).save(path)


def seconds(call: Callable[..., object], *args: Any) -> float:
    start = time.perf_counter()
    call(*args)
    return time.perf_counter() - start


def stages(model: nn.Module, x: Tensor, path: Path) -> dict[str, float]:
    """Seconds of the stages of one export, and of judging PyTorch's kernels, which is not part of it."""
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
    begin("judge")
    exported.diagnostics()
    ends = [*begun.values(), time.perf_counter()][1:]
    return {stage: end - start for (stage, start), end in zip(begun.items(), ends, strict=True)}


def times(model: nn.Module, x: Tensor, path: Path, runs: int) -> dict[str, Any]:
    export(model, x, path)  # imports, and PyTorch's first call
    content = path.read_bytes()
    rows: list[dict[str, float]] = []
    parts: list[dict[str, float]] = []
    for _ in range(runs):
        calls: dict[str, tuple[Callable[..., object], tuple[Any, ...]]] = {
            "t_forward": (forward, (model, x)),
            "t_write": (write, (path.with_suffix(".raw"), content)),
            "t_unpack": (unpack, (model,)),
            "t_export_save": (export, (model, x, path)),
        }
        rows.append({name: seconds(call, *args) for name, (call, args) in calls.items()})
        parts.append(stages(model, x, path))
    least = {name: min(row[name] for row in rows) for name in rows[0]}
    return ratios(least) | {
        "stages": {name: min(part[name] for part in parts) for name in parts[0]},
        "file_mib": len(content) / MIB,
        "largest_mib": largest(model, x, path) / MIB,
    }


def ratios(least: dict[str, float]) -> dict[str, float]:
    """The seconds, and how often the export's are those that nobody can do without."""
    bare = least["t_forward"] + least["t_write"]
    took = least["t_export_save"]
    return {**least, "ratio": took / bare, "ratio_to_floor": took / (bare + least["t_unpack"])}


def largest(model: nn.Module, x: Tensor, path: Path) -> int:
    """Bytes of the largest constant of the file."""
    import torch2circle
    from torch2circle.targets import target_for

    graph = torch2circle.export(model, (x,)).for_target(target_for(path, None))
    return max(value.type.nbytes for value in graph.values() if value.data is not None)


def status(key: str) -> float:
    """A memory figure of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def first_call(what: str, saved: Path, example: Path, path: Path) -> dict[str, float]:
    """Highest resident memory during ``what`` less what the process with the loaded model already had, in MiB; and its seconds.

    It is the first call of the process, as it is for a user: PyTorch prepares its kernels then. Imports are not counted.
    """
    import torch2circle.pipeline
    from torch2circle.loading import load

    assert torch2circle.pipeline
    zoo().torchvision()  # the pickle names its classes
    begun = time.perf_counter()
    model = load(saved, trust_pickle=True)
    loaded = time.perf_counter() - begun
    x, content = torch.load(example), path.read_bytes()
    assert isinstance(model, nn.Module)

    def floor(path: Path) -> None:
        forward(model, x)
        write(path, content)

    ctypes.CDLL(None).malloc_trim(0)  # memory that loading freed must not hide what the export takes
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = status("VmRSS")
    took = seconds(floor, path.with_suffix(".raw")) if what == "floor" else seconds(export, model, x, path.with_suffix(".first.circle"))
    return {"load": loaded, "mib": status("VmHWM") - before, "took": took}


def first(model: nn.Module, x: Tensor, folder: Path, path: Path, runs: int) -> dict[str, float]:
    """In children, because a process that quantized the model has memory to spare and its kernels prepared."""
    saved, example = folder / "model.pt", folder / "example.pt"
    torch.save(model, saved)
    torch.save(x, example)

    def child(what: str) -> dict[str, float]:
        names = [what, str(saved), str(example), str(path)]
        command = [sys.executable, str(BENCH), "--engine", torch.backends.quantized.engine, "--child", *names]
        found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        return found

    exports, floors = ([child(what) for _ in range(runs)] for what in ("export", "floor"))
    took, floor = (min(row["took"] for row in rows) for rows in (exports, floors))
    return {
        "t_load": min(row["load"] for row in exports),
        "extra_mib": min(row["mib"] for row in exports),
        "extra_mib_forward": min(row["mib"] for row in floors),
        "t_first_export": took,
        "t_first_floor": floor,
        "ratio_first": took / floor,
    }


def measured(name: str, engine: str, size: int, runs: int) -> dict[str, Any]:
    """All that is known of one model's export."""
    model, x = make(name, engine, size)
    engine = torch.backends.quantized.engine
    result: dict[str, Any] = {"model": name, "engine": engine, "input": list(x.shape), "runs": runs, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = folder / "model.circle"
        result |= times(model, x, path, runs)
        result |= first(model, x, folder, path, min(runs, 3))
    return result
