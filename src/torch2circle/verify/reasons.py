"""Why an operator's result differs from PyTorch's, where that can be shown.

The elements that differ are computed again from the operator's own operands, in the arithmetic of the runtime and in real numbers. A
reason is given where the runtime's arithmetic gives the runtime's integers, and PyTorch's integers are a right rounding of the real
numbers: then the file holds what the model says, and both computed it rightly. What is left is ``unexplained``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir import Array, Graph, Node, Value
from ..spec import OPS
from .isolate import graph_of, recorded
from .points import WEIGHTED, NotModelled, Points, Rounding
from .report import Comparison, step_of

if TYPE_CHECKING:
    from ..pipeline import ExportedModel

MODES: Mapping[str, tuple[Rounding, ...]] = {"onert": ("twice", "nearest"), "litert": ("nearest", "twice", "single", "sixteen")}
"""How a runtime's kernels round, the one that most of them do first."""
SAID = {
    "twice": "rounding: fixed point, rounded twice",
    "single": "rounding: fixed point, rounded once",
    "sixteen": "rounding: 16-bit multiplier",
    "nearest": "rounding: in float32",
}
MOST = 20_000
"""Elements that are computed again, evenly spaced, where more differ."""
AT_ONCE = 1 << 21
"""Products computed at a time, which bounds the memory."""
TIE = 2.0**-8
"""How near to the middle of two integers float32 cannot tell the side: products up to 2**16 steps large have 24 bits."""


@dataclass(frozen=True)
class Piece:
    """One result of an ``isolated`` graph: what fed it, what the runtime gave and what PyTorch has."""

    out: Value
    feeds: Mapping[Value, Array]
    got: Array
    want: Array
    compared: Comparison
    model: ExportedModel
    runtime: str


def reason(piece: Piece) -> str:
    """The reasons in words, the most frequent first, with how many elements each explains if there are several; "" if all are equal."""
    with np.errstate(all="ignore"):  # infinities and NaN may be among the elements: no comparison holds for them
        return _reason(piece)


def _reason(piece: Piece) -> str:
    c, model = piece.compared, piece.model
    tensor = piece.out.origin.tensor if piece.out.origin else -1
    if c.equal == c.size:
        return _of_corrected(piece) if tensor in model.corrected else ""
    if piece.got.shape != piece.want.shape:
        return f"unexplained: the shape is {list(piece.got.shape)}, PyTorch's {list(piece.want.shape)}"
    if piece.got.shape != piece.out.type.shape:
        return "not examined: of another size than the file's own"
    if tensor in model.steps:  # a step is what two right ways of rounding the activations make at most
        return "hybrid: activations are quantized at run time" if c.lsb <= 1 else "unexplained"
    step = 1.0 if not piece.out.type.dtype.is_float else step_of(piece.out, piece.want)
    difference = np.abs(piece.got.astype(np.float64) - piece.want.astype(np.float64)) / step
    places = np.flatnonzero(~(difference < 0.5))
    total = len(places)
    if total > MOST:
        places = places[np.linspace(0, total - 1, MOST).astype(np.int64)]
    nodes = _graph(piece.out).nodes()
    try:
        found = _explained(piece, nodes, places, step)
    except NotModelled as what:
        return f"unexplained: no model of {what}"
    except (ValueError, IndexError):  # a file's options may contradict its shapes
        return "unexplained: its options and shapes do not fit"
    return _in_words(found, len(places), total)


def _of_corrected(piece: Piece) -> str:
    """What is equal to what PyTorch documents may be far from what its kernel gave."""
    gave = recorded(piece.model.recording, piece.out).astype(np.float64)
    off = np.abs(gave - piece.want.astype(np.float64))
    wrong = int((off > 1).sum()) if not piece.out.type.dtype.is_float else 0
    if not wrong:
        return ""
    module = piece.out.node.where.module if piece.out.node else ""
    overflows = any(f.code == "kernel-overflow" and f.path == (module or "<top>") for f in piece.model.findings)
    what = "kernel saturates" if overflows else "kernel deviates"
    return f"{what}: PyTorch's own result is off in {wrong} elements, by up to {off.max():g} LSB; compared with what it documents"


def _in_words(found: Counter[str], examined: int, total: int) -> str:
    of = f" (of {examined:,} examined of {total:,})" if examined < total else ""
    left = found.pop("", 0)
    explained = [f"{name} {count:,}" if len(found) > 1 or left else name for name, count in found.most_common()]
    if left:
        return f"unexplained: {left:,} of {examined:,}" + (f"; {', '.join(explained)}" if explained else "") + of
    return ", ".join(explained) + of


def _explained(piece: Piece, nodes: list[Node], places: Array, step: float) -> Counter[str]:
    got, want = (array.reshape(-1)[places].astype(np.float64) / step for array in (piece.got, piece.want))
    real = _computed(piece, places, "none", nodes) / step
    if not any(v.type.quant is not None for node in nodes for v in node.outputs):
        right = (np.abs(got - real) <= 1) & (np.abs(want - real) <= 1)
        return Counter({name: count for name, count in (("float order of sums", int(right.sum())), ("", int((~right).sum()))) if count})
    simulated: dict[Rounding, Array] = {}
    for mode in MODES[piece.runtime]:  # the first that gives all of the runtime's integers is it
        simulated[mode] = _computed(piece, places, mode, nodes) / step
        if _same(simulated[mode], got).all():
            break
    best = max(simulated, key=lambda mode: int(_same(simulated[mode], got).sum()))
    nearest = simulated["nearest"] if "nearest" in simulated else _computed(piece, places, "nearest", nodes) / step
    as_runtime = _same(simulated[best], got)
    near = np.abs(want - real) <= 0.5 + _slack(nodes) + TIE
    shown = as_runtime & near
    names = np.full(len(places), "", dtype=object)
    island = any(v.type.dtype.is_float for node in nodes for v in node.outputs if v is not piece.out)
    averages = any(node.op in ("AVERAGE_POOL_2D", "MEAN") for node in nodes)
    weighted = any(node.op in WEIGHTED for node in nodes)
    names[shown & _same(nearest, want)] = "average rounding: halves away from zero" if averages and not weighted else SAID[best]
    left = shown & (names == "")
    names[left] = _in_between(nodes, piece.out) or ("bias rounding" if weighted else "rounding: halves")
    # the runtime is as right as PyTorch: both are a rounding of the real number
    close = (names == "") & (np.abs(got - real) <= 0.5 + TIE) & (np.abs(want - real) <= 1 + TIE)
    names[close] = "island: computed in float" if island else "rounding: PyTorch's"
    within = (names == "") & (np.abs(got - real) <= 1 + TIE) & near & (not weighted)
    names[within] = "rounding: the kernel's own, within 1 LSB"
    return Counter(names.tolist())


def _same(a: Array, b: Array) -> Array:
    result: Array = np.abs(a - b) < 0.01  # of a step: integers, or floats dequantized from them
    return result


def _slack(nodes: list[Node]) -> float:
    """How far, in steps of the result, the int32 bias may be from PyTorch's: half of a sum's unit, for each sum that adds one."""
    slack = 0.0
    for node in nodes:
        if node.op not in WEIGHTED or node.out.type.quant is None:
            continue
        x, weight = (node.inputs[slot] for slot in ((2, 1) if node.op == "TRANSPOSE_CONV" else (0, 1)))
        if x is not None and weight is not None and x.type.quant is not None and weight.type.quant is not None:
            slack += 0.5 * float((x.type.quant.scale[0] * weight.type.quant.scale / node.out.type.quant.scale[0]).max())
    return slack


def _in_between(nodes: list[Node], out: Value) -> str:
    """Whether the file rounds a tensor that PyTorch does not have, on the way to the result."""
    inner = [node for node in nodes if node.out is not out and node.out.type.quant is not None and not OPS[node.op].moves]
    inner = [node for node in inner if node.op not in ("RESHAPE", "TRANSPOSE", "QUANTIZE", "DEPTH_TO_SPACE") or _changes(node)]
    if any(OPS[node.op].fixed for node in inner):
        return "fixed output scale: the function's result is rounded, and then rescaled"
    computed = [node for node in nodes if node.op not in ("RESHAPE", "TRANSPOSE", "DEPTH_TO_SPACE") and not OPS[node.op].moves]
    return "rounding: in between, of a tensor that PyTorch does not have" if inner and len(computed) > 1 else ""


def _changes(node: Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.type.quant != node.out.type.quant


def _computed(piece: Piece, places: Array, mode: Rounding, nodes: list[Node]) -> Array:
    points = Points(piece.feeds, mode)
    need = max((_needs(node) for node in nodes), default=1)
    return np.concatenate([points.at(piece.out, part) for part in _parts(places, max(AT_ONCE // need, 1))]) if len(places) else np.empty(0)


def _parts(places: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def _needs(node: Node) -> int:
    """Elements that one element of the result is made of."""
    weight: Any = node.inputs[1] if node.op in WEIGHTED else None
    return weight.type.size // max(weight.type.shape[0], 1) if weight is not None and weight.type.rank else 1


def _graph(out: Value) -> Graph:
    return graph_of((), (out,))
