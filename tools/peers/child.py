"""One model through one exporter, in that exporter's environment: ``python child.py PEER 'FILE.py:CALL' OUT``.

The last line of stdout is a JSON object. Imports and the making of the model are not counted; ``extra_mib`` is the most resident memory
while it converts and writes, less what there was before. A peer that refuses the model gives the first line of its error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from latency import made  # noqa: E402

Export = Callable[[Any, Any, Path], None]


def ours(model: Any, x: Any, path: Path) -> None:
    import torch2circle

    torch2circle.export(model, (x,)).save(path)


def tico(model: Any, x: Any, path: Path) -> None:
    import_module("tico").convert(model, (x,)).save(str(path))


def litert_torch(model: Any, x: Any, path: Path) -> None:
    options = {"quant_config": model.quant_config} if hasattr(model, "quant_config") else {}
    import_module("litert_torch").convert(model, (x,), **options).export(str(path))


def tinynn(model: Any, x: Any, path: Path) -> None:
    converter = import_module("tinynn.converter").TFLiteConverter
    integers = any(type(part).__module__.startswith("torch.ao.nn.quantized") for part in model.modules())
    options = {"quantize_target_type": "int8"} if integers else {}
    converter(model, (x,), str(path), **options).convert()


PEERS: dict[str, Export] = {"ours": ours, "tico": tico, "litert-torch": litert_torch, "tinynn": tinynn}
IMPORTS = {"ours": "torch2circle.pipeline", "tico": "tico", "litert-torch": "litert_torch", "tinynn": "tinynn.converter"}


def status(key: str) -> float:
    """A memory figure of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def measured(peer: str, model: Any, x: Any, path: Path) -> dict[str, Any]:
    ctypes.CDLL(None).malloc_trim(0)  # memory that making the model freed must not hide what the export takes
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, wall, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
    try:
        PEERS[peer](model, x, path)
    except BaseException as error:  # some leave by sys.exit
        lines = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {lines[0] if lines else ''}"}
    took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return {**took, "extra_mib": status("VmHWM") - before, "bytes": path.stat().st_size}


def main() -> None:
    peer, spec, out = sys.argv[1:4]
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        import_module(IMPORTS[peer])
        model, x = made(spec)
        result = measured(peer, model, x, Path(out))
        if "error" not in result and hasattr(model, "quant_config"):
            import torch

            torch.export.save(torch.export.export(model, (x,)), Path(out).with_suffix(".pt2"))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
