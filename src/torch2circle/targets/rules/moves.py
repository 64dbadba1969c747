"""Movers of integers, and requantization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...ir import Node, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import const, operand, reshape
from ...spec import OPS, scheme
from .common import EIGHT_BIT, float_type, present


@rule("QUANTIZE", why="the runtime's own QUANTIZE between 8-bit types is off by one in some 4 % of values; through float none is")
def requantize_through_float(node: Node) -> Replacement:
    x = operand(node)
    if x.type.dtype not in EIGHT_BIT or x.type.dtype != node.out.type.dtype:  # between int16 it is exact
        return None
    return emit("QUANTIZE", node.out.type, emit("DEQUANTIZE", float_type(x.type), x, like=node), like=node)


def _move_then_requantize(node: Node) -> Replacement:
    """An operator that only moves integers keeps their scale, and a QUANTIZE behind it changes the scale."""
    quant = operand(node, OPS[node.op].data).type.quant
    if not scheme(node).endswith("+requant") or any(v.type.quant not in (None, quant) for v in node.inputs if v is not None):
        return None
    outs = [Value(replace(o.type, quant=quant), f"{o.name}.moved") if o.type.quant else o for o in node.outputs]
    moved = node.rebuilt(outputs=outs).outputs
    return [emit("QUANTIZE", o.type, m, name=o.name, like=node) if o.type.quant else m for o, m in zip(node.outputs, moved, strict=True)]


move_then_requantize: list[Rule] = [
    rule(op, why="the runtime copies the integers and ignores the scales")(_move_then_requantize)
    for op, spec in OPS.items()
    if spec.moves and op not in ("CONCATENATION", "AVERAGE_POOL_2D")
]


@rule("CONCATENATION", why="the runtime joins integers of one scale only")
def requantize_before_joining(node: Node) -> Replacement:
    if not scheme(node).endswith("+requant"):
        return None
    target = node.out.type
    parts = [
        v if v.type.quant == target.quant else emit("QUANTIZE", replace(v.type, quant=target.quant), v, like=node)
        for v in map(present, node.inputs)
    ]
    return node.rebuilt(inputs=parts, outputs=(replace(node.out, origin=None),)).out


@rule("STRIDED_SLICE", why="the runtime has no 8-bit STRIDED_SLICE; its GATHER takes any step")
def strided_slice_as_gather(node: Node) -> Replacement:
    x = operand(node)
    begins, ends, steps = (operand(node, i).array() for i in (1, 2, 3))
    strided = [axis for axis in range(x.type.rank) if steps[axis] != 1]
    if x.type.dtype not in EIGHT_BIT or len(strided) != 1:
        return None
    axis = strided[0]
    index = const(f"{node.out.name}.index", np.arange(begins[axis], ends[axis], steps[axis]))
    return emit("GATHER", node.out.type, x, index, like=node, axis=axis, batch_dims=0)


@rule("PAD", why="the runtime pads at most four dimensions; neighbours that are not padded are one")
def pad_in_fewer_dimensions(node: Node) -> Replacement:
    x, amounts = operand(node), operand(node, 1).array().tolist()
    few = _merged(x.type.shape, [tuple(ends) == (0, 0) for ends in amounts])
    if few is None:
        return None
    around = [[0, 0] if axis is None else amounts[axis] for _, axis in few]
    shape = [size + front + behind for (size, _), (front, behind) in zip(few, around, strict=True)]
    paddings = const(f"{node.out.name}.paddings", around)
    padded = emit("PAD", node.out.type.reshape(shape), reshape(x, tuple(size for size, _ in few), node), paddings, like=node)
    return reshape(padded, node.out.type.shape, node)


@rule("SLICE", why="the runtime is wrong above four dimensions; neighbours of which nothing is cut off are one")
def slice_in_fewer_dimensions(node: Node) -> Replacement:
    x, out, begins = operand(node), node.out.type, operand(node, 1).array().tolist()
    few = _merged(x.type.shape, [kept == size for kept, size in zip(out.shape, x.type.shape, strict=True)])
    if few is None:
        return None
    ends = [(0, size) if axis is None else (begins[axis], out.shape[axis]) for size, axis in few]
    sizes = [size for _, size in ends]
    begin, size = const(f"{node.out.name}.begin", [start for start, _ in ends]), const(f"{node.out.name}.size", sizes)
    cut = emit("SLICE", out.reshape(sizes), reshape(x, tuple(size for size, _ in few), node), begin, size, like=node)
    return reshape(cut, out.shape, node)


def _merged(shape: Sequence[int], untouched: Sequence[bool]) -> list[tuple[int, int | None]] | None:
    """(size, axis) of each dimension, with neighbouring untouched ones as one without an axis; None unless that makes four of more."""
    few: list[tuple[int, int | None]] = []
    for axis, (size, alone) in enumerate(zip(shape, untouched, strict=True)):
        if alone and few and few[-1][1] is None:
            few[-1] = (few[-1][0] * size, None)
        else:
            few.append((size, None if alone else axis))
    return few if len(shape) > 4 and len(few) <= 4 else None
