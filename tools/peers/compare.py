"""torch2circle and other exporters on the same models: time, memory, operators, and how fast the files are.

    python tools/peers/compare.py --tinynn PATH [--models resnet18 ...] [--only tico litert-torch tinynn] [--latency] [--out build/peers]

Each export is a process of its own in the peer's environment below ``--out``, which is made from PyPI when it is first needed;
TinyNeuralNetwork is not there, and ``--tinynn`` names a checkout. Rounds alternate, and the least seconds count; ratios are to ours.
``moves`` are TRANSPOSE, RESHAPE, QUANTIZE, DEQUANTIZE, PAD and PADV2. ``--latency`` then races the files in their runtimes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

from latency import race, ratios  # noqa: E402
from peers.environments import PACKAGES, python_of  # noqa: E402
from torch2circle.format import survey  # noqa: E402
from torch2circle.show import columns  # noqa: E402

ZOO, NETWORKS = "tests/zoo.py", "tools/peers/networks.py"
CNNS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "googlenet", "inception_v3", "shufflenet_v2_x1_0")
MODELS: Mapping[str, str] = {
    **{f"{name}/{engine}": f'{ZOO}:quantized("{name}", "{engine}")' for name in CNNS for engine in ("qnnpack", "fbgemm")},
    **{f"{name}/float": f'{NETWORKS}:floating("{name}")' for name in ("resnet18", "resnet50", "mobilenet_v2")},
    "encoder/float": f"{NETWORKS}:encoder()",
    **{f"{name}/pt2e": f'{NETWORKS}:pt2e("{name}")' for name in ("resnet18", "mobilenet_v2")},
    **{f"{name}/litert-pt2e": f'{NETWORKS}:litert_pt2e("{name}")' for name in ("resnet18", "mobilenet_v2")},
}
"""A name, and what makes the model and its input."""
MOVES = ("TRANSPOSE", "RESHAPE", "QUANTIZE", "DEQUANTIZE", "PAD", "PADV2")
SUFFIX = {"tico": ".circle"}
HEADER = ("model", "exporter", "seconds", "ratio", "cpu s", "extra MiB", "bytes", "operators", *(op.lower() for op in MOVES))


def operators(path: Path) -> dict[str, int]:
    """The operators of the first graph of a file, by kind."""
    found: dict[str, int] = {}
    for operator in survey(path).subgraphs[0].operators:
        found[operator.op] = found.get(operator.op, 0) + 1
    return found


def export(peer: str, spec: str, out: Path, folder: Path, tinynn: Path | None) -> dict[str, Any]:
    """What the child says of one export, and the operators of the file; or its ``error``."""
    try:
        python = python_of(peer, folder, tinynn)
    except LookupError as error:
        return {"error": str(error)}
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [str(python), str(Path(__file__).parent / "child.py"), peer, spec, str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    out.with_suffix(".log").write_text(done.stderr)
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = done.stderr.strip().splitlines() or ["no message"]
        return {"error": f"ended with {done.returncode}: {said[-1]}"}
    return result if "error" in result else {**result, "operators": operators(out)}


def compared(name: str, peers: Sequence[str], folder: Path, tinynn: Path | None, rounds: int) -> dict[str, dict[str, Any]]:
    """By exporter, the round with the least processor time."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for peer, spec, out in jobs(name, peers, folder):
            if "error" in best.get(peer, {}):
                continue
            found = export(peer.split(":")[0], spec, out, folder, tinynn)
            if peer not in best or "error" in found or found["cpu_seconds"] < best[peer]["cpu_seconds"]:
                best[peer] = {**found, "file": str(out)}
    return best


def jobs(name: str, peers: Sequence[str], folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Exporter, model, and where the file goes. Ours also writes a Circle file, for onert."""
    stem = folder / "files" / name.replace("/", "-")
    spec = MODELS[name]
    if name.endswith("/litert-pt2e"):  # made in that environment alone; it leaves the program for ours
        yield "litert-torch", spec, stem.with_name(f"{stem.name}.litert-torch.tflite")
        program = stem.with_name(f"{stem.name}.litert-torch.pt2")
        yield "ours", f'{NETWORKS}:program("{program}")', stem.with_name(f"{stem.name}.ours.tflite")
        return
    yield "ours", spec, stem.with_name(f"{stem.name}.ours.tflite")
    for peer in peers:
        yield peer, spec, stem.with_name(f"{stem.name}.{peer}{SUFFIX.get(peer, '.tflite')}")
    if "tico" in peers:
        yield "ours:circle", spec, stem.with_name(f"{stem.name}.ours.circle")


def rows(name: str, found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    ours = found["ours"].get("seconds")
    table = []
    for peer, facts in found.items():
        if "error" in facts:
            table.append((name, peer, facts["error"][:100], *[""] * (len(HEADER) - 3)))
            continue
        ops = facts["operators"]
        ratio = f"{facts['seconds'] / ours:.1f}" if ours else ""
        numbers = f"{facts['seconds']:.2f}", ratio, f"{facts['cpu_seconds']:.2f}", f"{facts['extra_mib']:.0f}", f"{facts['bytes']}"
        table.append((name, peer, *numbers, str(sum(ops.values())), *(str(ops.get(op, 0)) for op in MOVES)))
    return table


def raced(found: Mapping[str, Mapping[str, Any]], spec: str, threads: int, turns: int) -> dict[str, dict[str, Any]]:
    """The files that there are in their runtimes, and in PyTorch the model that ``spec`` makes, if any; ours first."""
    files = {peer: facts["file"] for peer, facts in found.items() if "error" not in facts}
    contenders = {peer: files[peer] for peer in sorted(files, key=lambda peer: peer != "ours")}
    if spec and "litert_pt2e" not in spec:
        contenders["pytorch"] = spec
    return ratios(race(contenders, threads, turns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", help="beginnings of names; all without it")
    parser.add_argument("--only", nargs="+", default=[peer for peer in PACKAGES if peer != "ours"], choices=list(PACKAGES))
    parser.add_argument("--out", type=Path, default=Path("build/peers"))
    parser.add_argument("--tinynn", type=Path, help="a checkout of TinyNeuralNetwork")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--latency", action="store_true", help="race the files")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pytorch", action="store_true", help="race PyTorch itself, too")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    compare(options)


def compare(options: argparse.Namespace) -> None:
    """Print the tables, and all that was measured as JSON if that is asked for."""
    names = [name for name in MODELS if not options.models or name.startswith(tuple(options.models))]
    table: list[tuple[str, ...]] = [HEADER]
    speeds: list[tuple[str, ...]] = [("model", "threads", "contender", "least ms", "median ms", "ratio", "ratio of medians")]
    everything: dict[str, Any] = {}
    for name in names:
        found = compared(name, options.only, options.out, options.tinynn, options.rounds)
        everything[name] = {"export": found}
        table += rows(name, found)
        print(*("  ".join(row) for row in rows(name, found)), sep="\n", file=sys.stderr, flush=True)
        for threads in options.threads if options.latency else ():
            race_ = raced(found, MODELS[name] if options.pytorch else "", threads, options.turns)
            everything[name][f"latency_{threads}"] = race_
            for who, row in race_.items():
                keys = ("least_ms", "median_ms", "ratio_least", "ratio_median")
                numbers = [row["error"][:80], "", "", ""] if "error" in row else [f"{row[key]:.3f}" if key in row else "" for key in keys]
                speeds.append((name, str(threads), who, *numbers))
                print("  ".join(speeds[-1]), file=sys.stderr, flush=True)
    if options.json:
        print(json.dumps(everything, indent=2))
        return
    print(columns(table, None))
    if options.latency:
        print()
        print(columns(speeds, None))


if __name__ == "__main__":
    main()
