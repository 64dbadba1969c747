"""Measure what each runtime does with each operator and element type, and keep it in targets/capabilities.json.

Every probe (``tools/probes``) is a graph of one operator. The runtime's outputs are compared with numpy: float64 of the dequantized
operands, requantized by rounding half to even. A cell of the table is (operator, ``spec.scheme``); its verdict is the worst of its
probes. If it is right up to 4 dimensions only, 5 and 6 are cells of their own: the scheme with ``+rank5``, ``+rank6``.

    python tools/probe_runtimes.py                        measure, print the table, and write the file
    python tools/probe_runtimes.py --only ADD --update    this operator alone; the file keeps what is known of the others
    python tools/probe_runtimes.py --scheme i16 --update  only schemes that begin so, likewise
    python tools/probe_runtimes.py --check                measure and exit with 1 if the file says otherwise
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probes import FAMILIES, Probe
from torch2circle import format as fileformat
from torch2circle import runtimes, spec
from torch2circle.errors import TargetError
from torch2circle.format.facts import CIRCLE_ONLY
from torch2circle.ir import Array, DType, Type
from torch2circle.targets.base import RIGHT

VERDICTS = ("exact", "1lsb", "hybrid", "wrong", "refused", "crash")  # from best to worst
FILES = {"onert": (".circle", "CIR0"), "litert": (".tflite", "TFL3")}
TABLE = Path(__file__).parents[1] / "src/torch2circle/targets/capabilities.json"


def worst(verdicts: Sequence[str]) -> str:
    return max(verdicts, key=VERDICTS.index)


def verdict(result: runtimes.Result | TargetError, item: Probe) -> str:
    if isinstance(result, TargetError):
        return "crash" if "killed by" in result.message else "refused"
    kinds = [v.type for v in item.graph.outputs]
    return worst([judge(got, want, kind, item.bound) for got, want, kind in zip(result.outputs[0], item.want, kinds, strict=True)])


def judge(got: Array, want: Array, kind: Type, bound: Array | None) -> str:
    if got.shape != kind.shape or got.dtype != kind.dtype.numpy:
        return "wrong"
    if kind.quant is None and kind.dtype is not DType.FLOAT32:
        return "exact" if (got == want).all() else "wrong"
    apart = np.abs(got.astype(np.float64) - (want if kind.quant is None else np.rint(want)))
    if kind.dtype is DType.FLOAT32:  # sums of some hundred float32 terms stay 10 times below this; a wrong kernel is far above
        noise = 1e-4 * np.abs(want).max()
        if bound is not None:
            return "hybrid" if (apart <= bound + noise).all() else "wrong"
        return "exact" if apart.max() <= noise else "wrong"
    # Scaling in float32 leaves a position in 0..255 uncertain by 2 ulp: that near the middle both neighbours are right.
    # Nearer than float64 can tell, it is a tie of the numbers themselves, which must go to even.
    middle = np.abs(want - np.floor(want) - 0.5)
    apart[(apart == 1) & (middle > 1e-9) & (middle < 256 * 2**-22)] = 0
    return ("exact", "1lsb", "wrong")[min(2, int(apart.max()))]


def measure(runtime: str, probes: Sequence[Probe]) -> dict[str, dict[str, str]]:
    suffix, identifier = FILES[runtime]
    probes = [p for p in probes if identifier == "CIR0" or f"BuiltinOperator.{p.node.op}" not in CIRCLE_ONLY]
    found: dict[tuple[str, str], dict[int, list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for number, item in enumerate(probes):
            path = Path(folder) / f"{number}{suffix}"
            path.write_bytes(fileformat.to_bytes(item.graph, identifier=identifier))
            jobs.append((path, [item.feed]))
        for item, result in zip(probes, runtimes.run_many(runtime, jobs), strict=True):
            by_rank = found.setdefault((item.node.op, spec.scheme(item.node)), {})
            by_rank.setdefault(max(4, item.rank), []).append(verdict(result, item))
    table: dict[str, dict[str, str]] = {}
    for (op, key), by_rank in found.items():
        few, *many = sorted((rank, worst(verdicts)) for rank, verdicts in by_rank.items())
        fails = {f"{key}+rank{rank}": each for rank, each in many if few[1] in RIGHT and each not in RIGHT}
        right = [each for _, each in (few, *many) if each in RIGHT]
        table.setdefault(op, {}).update({key: worst(right) if few[1] in RIGHT else few[1], **fails})
    return table


def _added(known: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    ops = known.get("ops", {})
    return {"version": new["version"], "ops": ops | {op: ops.get(op, {}) | cells for op, cells in new["ops"].items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="OP", help="this operator alone; the file is not written")
    parser.add_argument("--scheme", default="", help="element types with this beginning alone; the file is not written")
    parser.add_argument("--update", action="store_true", help="with --only or --scheme: write the cells that were measured")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    options = parser.parse_args()
    probes = [p for family in FAMILIES for p in family() if options.only in (None, p.node.op)]
    probes = [p for p in probes if spec.scheme(p.node).startswith(options.scheme)]
    found: dict[str, Any] = {r: {"version": v, "ops": measure(r, probes)} for r, v in runtimes.versions().items()}
    known: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    differences = 0
    for op in spec.OPS:
        rows = {r: (t["ops"].get(op, {}), known.get(r, {}).get("ops", {}).get(op, {})) for r, t in found.items()}
        for key in dict.fromkeys(k for new, old in rows.values() for k in (*new, *(old if new and options.check else ()))):
            changed = [f"{r} was {old.get(key)}" for r, (new, old) in rows.items() if options.check and new.get(key) != old.get(key)]
            differences += len(changed)
            print(f"{op:18} {key:16} " + " ".join(f"{r}: {new.get(key, ''):8}" for r, (new, _) in rows.items()), *changed)
    print(f"{len(probes)} probes" + (f", {differences} differences" if options.check else ""))
    partial = options.only or options.scheme
    if not options.check and (options.update or not partial):
        TABLE.write_text(json.dumps({r: _added(known.get(r, {}), new) if partial else new for r, new in found.items()}, indent=1) + "\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
