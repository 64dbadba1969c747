"""Measure what each runtime does with each operator and element type, and keep it in targets/capabilities.json.

Every probe (``tools/probes``) is a graph of one operator. The runtime's outputs are compared with numpy: float64 of the dequantized
operands, requantized by rounding half to even. A cell of the table is (operator, ``spec.scheme``); its verdict is the worst of its
probes. If it is right up to 4 dimensions only, 5 and 6 are cells of their own: the scheme with ``+rank5``, ``+rank6``.

The second table, "open", has those that are right on operands of which the file leaves a size open.

    python tools/probe_runtimes.py                        measure, print the tables, and write the file
    python tools/probe_runtimes.py --only ADD --update    this operator alone; the file keeps what is known of the others
    python tools/probe_runtimes.py --scheme i16 --update  only schemes that begin so, likewise
    python tools/probe_runtimes.py --open                 measure the second table alone, and write it into the file
    python tools/probe_runtimes.py --check                measure and exit with 1 if the file says otherwise
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from probes import FAMILIES, Probe
from torch2circle import format as fileformat
from torch2circle import runtimes, spec
from torch2circle.errors import TargetError
from torch2circle.format.facts import CIRCLE_ONLY
from torch2circle.ir import Array, Constant, DType, Graph, Node, Type, Value
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
    return worst([judge(got, want, kind, item.bound) for got, want, kind in zip(result.outputs[0], item.want, kinds, strict=False)])


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


def opened(graph: Graph) -> Graph | None:
    """``graph`` as a file for any size of one dimension of its operands; None if they have none that may vary.

    Nothing is told of the sizes of the results: the runtime has to find them. Where all is uint8, onert's Python interface sets no sizes:
    hence one more output, in float.
    """
    fed = max(graph.inputs, key=lambda v: (v.type.rank, v.type.size), default=None)
    axis = None if fed is None else next((i for i, size in enumerate(fed.type.shape) if size > 1), None)
    if fed is None or axis is None:
        return None
    like = {v for v in graph.inputs if v.type.rank == fed.type.rank and v.type.shape[axis] == fed.type.shape[axis]}
    new = {v: replace(v, type=replace(v.type, open=(axis,))) if v in like else v for v in graph.inputs}
    for node in graph.nodes():
        reads = any(v in new for v in node.inputs)
        inputs = [v and new.get(v, v) for v in node.inputs]
        attrs = node.attrs
        if node.op == "RESHAPE":
            sizes = [-1, *node.out.type.shape[1:]]
            inputs[1] = Value(Type((len(sizes),), DType.INT32), "sizes", data=Constant.of(np.array(sizes, np.int32)))
            attrs = {"new_shape": sizes}
        made = node.rebuilt(inputs=inputs, outputs=[_any_size(v) if reads else v for v in node.outputs], attrs=attrs)
        new.update(zip(node.outputs, made.outputs, strict=True))
    results, names = tuple(new[v] for v in graph.outputs), graph.output_names
    if all(v.type.dtype is DType.UINT8 for v in (*graph.inputs, *results)):
        real = replace(results[0].type, dtype=DType.FLOAT32, quant=None)
        results, names = (*results, Node.make("DEQUANTIZE", results[:1], [Value(real, "real")]).out), (*names, "real")
    return replace(graph, inputs=tuple(new[v] for v in graph.inputs), outputs=results, output_names=names)


def _any_size(value: Value) -> Value:
    return replace(value, type=replace(value.type, open=tuple(range(value.type.rank))))


def measure(runtime: str, probes: Sequence[Probe], *, sizes_open: bool = False) -> dict[str, dict[str, str]]:
    """The table of a runtime; with ``sizes_open`` the second one."""
    suffix, identifier = FILES[runtime]
    probes = [p for p in probes if identifier == "CIR0" or f"BuiltinOperator.{p.node.op}" not in CIRCLE_ONLY]
    found: dict[tuple[str, str], dict[int, list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for number, item in enumerate(probes):
            path = Path(folder) / f"{number}{suffix}"
            graph = (opened(item.graph) or item.graph) if sizes_open else item.graph
            path.write_bytes(fileformat.to_bytes(graph, identifier=identifier))
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
    """The tables of one runtime with the cells that were measured anew."""
    tables = {kind: {op: known.get(kind, {}).get(op, {}) | new[kind].get(op, {}) for op in spec.OPS} for kind in ("ops", "open")}
    return {"version": new["version"], **{kind: {op: cells for op, cells in t.items() if cells} for kind, t in tables.items()}}


def runs(table: Mapping[str, Mapping[str, str]], item: Probe) -> bool:
    return table.get(item.node.op, {}).get(spec.scheme(item.node), "") in RIGHT


def few(probes: Sequence[Probe]) -> list[Probe]:
    """Two of each operator, types and number of dimensions that have a size to vary: finding sizes depends on nothing else."""
    kinds: dict[tuple[str, str, int], list[Probe]] = {}
    for item in probes:
        kinds.setdefault((item.node.op, spec.scheme(item.node), item.rank), []).append(item)
    return [item for items in kinds.values() for item in [i for i in items if opened(i.graph)][:: max(1, len(items) - 1)][:2]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="OP", help="this operator alone; the file is not written")
    parser.add_argument("--scheme", default="", help="element types with this beginning alone; the file is not written")
    parser.add_argument("--update", action="store_true", help="with --only or --scheme: write the cells that were measured")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    parser.add_argument("--open", action="store_true", help="measure the second table alone, of operands with open sizes")
    options = parser.parse_args()
    probes = [p for family in FAMILIES for p in family() if options.only in (None, p.node.op)]
    probes = [p for p in probes if spec.scheme(p.node).startswith(options.scheme)]
    known: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    versions = runtimes.versions()
    found: dict[str, Any] = {
        r: {"version": v, "ops": known[r]["ops"] if options.open else measure(r, probes)} for r, v in versions.items()
    }
    for runtime, table in found.items():
        table["open"] = measure(runtime, [p for p in few(probes) if runs(table["ops"], p)], sizes_open=True)
    differences = 0
    for kind, op in product(("open",) if options.open else ("ops", "open"), spec.OPS):
        rows = {r: (t[kind].get(op, {}), known.get(r, {}).get(kind, {}).get(op, {})) for r, t in found.items()}
        for key in dict.fromkeys(k for new, old in rows.values() for k in (*new, *(old if new and options.check else ()))):
            changed = [f"{r} was {old.get(key)}" for r, (new, old) in rows.items() if options.check and new.get(key) != old.get(key)]
            differences += len(changed)
            name = f"{key} open" if kind == "open" else key
            print(f"{op:18} {name:16} " + " ".join(f"{r}: {new.get(key, ''):8}" for r, (new, _) in rows.items()), *changed)
    print(f"{len(probes)} probes" + (f", {differences} differences" if options.check else ""))
    partial = options.only or options.scheme
    if not options.check and (options.update or not partial):
        TABLE.write_text(json.dumps({r: _added(known.get(r, {}), new) if partial else new for r, new in found.items()}, indent=1) + "\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
