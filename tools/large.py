"""A model of many gigabytes from mapped weights to a file that LiteRT runs: ``python tools/large.py --gib 8 --folder FOLDER``.

A chain of linear layers with float32 weights in safetensors files (or ``--format torch``), made on the meta device by a factory. Each
step is a process of its own, and ``memory`` is the most it had of its own (RssAnon): pages of mapped files are none, the system takes
them back when it likes. ``ratio`` is the time against copying as many bytes with a plain loop. FOLDER needs three times the size for a
while.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]
WIDTH = 8192
LAYER = WIDTH * WIDTH * 4
"""Bytes: 256 MiB."""


def own_memory() -> int:
    """Bytes of this process that are no file's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    raise RuntimeError("this system does not tell RssAnon")


@contextmanager
def watched(facts: dict[str, Any], name: str) -> Iterator[None]:
    """Puts the seconds of the block and the most memory it took of its own into ``facts``."""
    before, peak, done = own_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, own_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        done.set()
        thread.join()
        facts[name] = {"seconds": round(seconds, 2), "memory": max(0, peak - before)}


# The steps


def weights(folder: Path, layers: int, kind: str) -> None:
    """The model's state in a file for each layer, and their index."""
    import torch
    from safetensors.torch import save_file

    files = {}
    for i in range(layers):
        weight = np.random.default_rng(i).standard_normal((WIDTH, WIDTH), np.float32)
        weight *= np.float32((2 / WIDTH) ** 0.5)  # keeps the size of what passes a ReLU
        name, file = f"layers.{i}.weight", f"model-{i:05}.{'bin' if kind == 'torch' else 'safetensors'}"
        tensor = {name: torch.from_numpy(weight)}
        if kind == "torch":
            torch.save(tensor, folder / file)
        else:
            save_file(tensor, folder / file)
        files[name] = file
    (folder / "model.index.json").write_text(json.dumps({"weight_map": files}))


def build() -> Any:
    """The factory; the number of layers is that of the index in the current directory."""
    import torch
    from torch import nn

    class Chain(nn.Module):
        def __init__(self, layers: int) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers))

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x).relu()
            return x

    with torch.device("meta"):
        return Chain(len(json.loads(Path("model.index.json").read_text())["weight_map"])).eval()


def export(folder: Path) -> dict[str, Any]:
    """Seconds and memory of loading, exporting and writing."""
    import torch
    from torch import nn

    import torch2circle

    warm = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).eval()
    torch2circle.export(warm, (torch.ones(1, 8),)).save(folder / "model.tflite")  # what is imported and started once
    facts: dict[str, Any] = {}
    x = torch.linspace(-1, 1, WIDTH)[None]
    with watched(facts, "all"):
        with watched(facts, "load"):
            model = torch2circle.load(f"{__file__}:build", state=folder / "model.index.json")
        with watched(facts, "export"):
            exported = torch2circle.export(model, (x,))  # type: ignore[arg-type]
        with watched(facts, "save"):
            facts["bytes"] = exported.save(folder / "model.tflite")
    recording = exported.recording
    np.save(folder / "expected.npy", recording.value_of(recording.outputs[0]).numpy())
    try:
        with watched(facts, "circle"):
            exported.save(folder / "model.circle")
    except torch2circle.errors.WriteError as error:
        facts["circle"] = str(error).splitlines()[0]
    return facts


def look(folder: Path) -> dict[str, Any]:
    """What ``inspect`` reads."""
    from torch2circle.format import survey
    from torch2circle.overview import overview

    facts: dict[str, Any] = {}
    with watched(facts, "inspect"):
        overview(survey(folder / "model.tflite"))
    return facts


def run(folder: Path, delegate: bool) -> dict[str, Any]:
    """One inference in LiteRT, and how far it is from PyTorch's, as a share of its largest output."""
    from ai_edge_litert import interpreter as api

    facts: dict[str, Any] = {}
    kind = api.OpResolverType.AUTO if delegate else api.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    with watched(facts, "run"):
        interpreter = api.Interpreter(str(folder / "model.tflite"), num_threads=2, experimental_op_resolver_type=kind)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.linspace(-1, 1, WIDTH, dtype=np.float32)[None])
        interpreter.invoke()
        got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = np.load(folder / "expected.npy")
    facts["off"] = float(np.abs(got - expected).max() / np.abs(expected).max())
    facts["nonzero"] = float((expected != 0).mean())
    return facts


def copy(folder: Path) -> dict[str, Any]:
    """The yardstick: the state's files one behind the other into a new one."""
    start, target = time.perf_counter(), folder / "copy"
    with target.open("wb") as sink:
        for path in sorted(folder.glob("model-*")):
            with path.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)
        sink.flush()
        os.fsync(sink.fileno())
    seconds = time.perf_counter() - start
    target.unlink()
    return {"copy": {"seconds": round(seconds, 2)}}


STEPS: dict[str, Callable[..., dict[str, Any]]] = {"copy": copy, "export": export, "look": look, "run": run}


def in_a_process(step: str, folder: Path, *more: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, "--step", step, "--folder", str(folder), *more], cwd=folder, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{step}: exit code {done.returncode}")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=8, help="size of the weights, in quarters (default: 8)")
    parser.add_argument("--format", choices=("safetensors", "torch"), default="safetensors")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is space on a disk")
    parser.add_argument("--delegate", action="store_true", help="with XNNPACK, which packs a copy of all weights into memory")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        facts = STEPS[args.step](args.folder, args.delegate) if args.step == "run" else STEPS[args.step](args.folder)
        print(json.dumps(facts))
        return
    with tempfile.TemporaryDirectory(prefix="torch2circle-large-", dir=args.folder) as name:
        folder, layers = Path(name), max(1, round(args.gib * (1 << 30) / LAYER))
        weights(folder, layers, args.format)
        facts = {"weights": layers * LAYER, "format": args.format}
        for step in ("copy", "export", "look", "run"):
            facts |= in_a_process(step, folder, *["--delegate"] * (args.delegate and step == "run"))
        facts["ratio"] = round(facts["all"]["seconds"] / facts["copy"]["seconds"], 2)
        print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
