"""How a target computes each of PyTorch's operators in a model: what the table of supported operators is made of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils import _pytree as pytree

from .ir import DType, Node
from .lower import LOWERINGS, Order
from .record import Call, Recording, Ref
from .targets import Target, island_nodes, rewritten

if TYPE_CHECKING:
    from .pipeline import ExportedModel
    from .verify import Report

WAYS = ("native", "decomposed", "island", "free", "refused")
"""One operator of the file; several; float operators between DEQUANTIZE and QUANTIZE; none; the target cannot run it."""

# What any operator may have around it, without being computed in another way for that.
MOVES = {"RESHAPE", "TRANSPOSE", "QUANTIZE", "DEQUANTIZE", "PAD", "SLICE"}


@dataclass(frozen=True)
class Use:
    """PyTorch's ``op`` on ``kind`` operands in a target: in which of ``WAYS``, and the largest error.

    ``kind`` is ``8-bit``, ``16-bit``, ``float`` or ``integer``.

    ``lsb`` is in steps of the result's scale, or of ``verify.FLOAT_STEP`` of its largest magnitude; None if it was not measured.
    """

    op: str
    kind: str
    way: str
    lsb: float | None = None


def uses(exported: ExportedModel, target: Target, report: Report | None = None) -> list[Use]:
    """One use for each operator and kind in the model. Those that were fused into others are left out."""
    graph = rewritten(exported.graph, target)
    inside = set(island_nodes(graph))
    calls = Counter((call.op, kind_of(exported.recording, call)) for call in exported.recording.needed())
    found = []
    for (op, kind), count in calls.items():
        made = [node for node in graph.nodes() if node.where.op == op]
        computing = [node for node in made if node.op not in MOVES]
        if not all(map(target.runs, made)):
            way = "refused"
        elif not made:
            way = "free"
        elif inside.intersection(made):
            way = "island"
        else:
            way = "native" if len(computing) <= count else "decomposed"
        apart = [c.lsb for c in report.operators if c.where.op == op] if report else []
        if made or (op in LOWERINGS and LOWERINGS[op].order is Order.FREE):
            found.append(Use(op, "16-bit" if any(map(_is_wide, made)) else kind, way, max(apart, default=None)))
    return found


def _is_wide(node: Node) -> bool:
    """Whether an operator has integers of 16 bits: in the recording, they are numbers in float in between."""
    values = (v for v in (*node.inputs, *node.outputs) if v is not None)
    return any(v.type.dtype is DType.INT16 and v.type.quant is not None for v in values)


def kind_of(recording: Recording, call: Call) -> str:
    """What ``call`` computes on: 8-bit integers if any operand or result is quantized, else its first result's type."""
    leaves = [*call.args.values(), *(Ref(number) for number in call.outs)]
    tensors = [recording.tensors[x.index] if isinstance(x, Ref) else x for x in pytree.tree_leaves(leaves)]
    if any(isinstance(tensor, Tensor) and tensor.is_quantized for tensor in tensors):
        return "8-bit"
    return "float" if recording.tensors[call.outs[0]].is_floating_point() else "integer"


Table = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""op -> kind -> runtime -> {way: largest error}."""


def merged(found: Iterable[tuple[str, Use]]) -> Table:
    """Uses of many models, with the runtimes' names, as one table."""
    table: dict[str, Any] = {}
    for runtime, use in found:
        cell = table.setdefault(use.op, {}).setdefault(use.kind, {}).setdefault(runtime, {})
        cell[use.way] = round(max(cell.get(use.way, 0.0), use.lsb or 0.0), 3)
    return table


def measured() -> Table:
    """The table as ``make support`` measured it."""
    table: Table = json.loads(files(__package__).joinpath("support.json").read_text("utf-8"))
    return table
