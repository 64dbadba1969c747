"""Whether a bundle fits a model, and the model itself: each function yields (tensor, what is wrong with it)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..ir import DType, Graph, Node, Type, Value
from ..spec import OPS
from ..text import LONGEST
from .bundle import SHOWN, Entry

Mistakes = Iterator[tuple[str, str]]


class Channels(NamedTuple):
    """Which operand of a weighted operator is its bias, and which dimension of its weight may have a scale for each index."""

    bias: int
    axis: int


CHANNELS = {
    "CONV_2D": Channels(2, 0), "DEPTHWISE_CONV_2D": Channels(2, 3), "FULLY_CONNECTED": Channels(2, 0), "TRANSPOSE_CONV": Channels(3, 0)
}  # fmt: skip
WIDTHS = {DType.UINT8: 8, DType.INT8: 8, DType.INT16: 16}
BIASES = {8: DType.INT32, 16: DType.INT64}
# Kernels scale the sum, bias included, by input * weight; float32 may round that product twice.
BIAS_SCALE = 1e-6


def misshapen(graph: Graph) -> Mistakes:
    """Weighted operators whose operands do not belong together; rewrites rely on that they do."""
    for node in graph.nodes():
        if node.op not in CHANNELS:
            continue
        bias_at, axis = CHANNELS[node.op]
        x, weight, bias = (node.inputs[i] for i in (OPS[node.op].data, 1, bias_at))
        rank, channels = 2 if node.op == "FULLY_CONNECTED" else 4, node.out.type.shape[-1:]
        if x is None or weight is None or bias is None or not x.type.rank:
            yield node.out.name, f"{node.op} lacks an operand"
        elif weight.type.rank != rank or (rank == 4 and x.type.rank != 4) or not _reads(node.op, weight.type, x.type):
            yield node.out.name, f"{node.op} has operands of the shapes {list(x.type.shape)} and {list(weight.type.shape)}"
        elif not weight.type.shape[axis : axis + 1] == bias.type.shape == channels:
            shapes = f"{list(weight.type.shape)}, a bias {list(bias.type.shape)} and a result {list(node.out.type.shape)}"
            yield node.out.name, f"{node.op} has a weight {shapes}"


def _reads(op: str, weight: Type, x: Type) -> bool:
    """Whether the weight takes as many channels as the operand has; a filter of groups takes a part, a linear layer any rows."""
    if not weight.size or not x.size:
        return False
    if op == "DEPTHWISE_CONV_2D":
        return weight.shape[-1] % x.shape[-1] == 0
    return (x.size if op == "FULLY_CONNECTED" else x.shape[-1]) % weight.shape[-1] == 0


def strangers(graph: Graph, entries: Mapping[str, Entry]) -> Mistakes:
    """Entries that belong to no float tensor of the model, or not to this one."""
    named: dict[str, list[Value]] = {}
    strange = 0  # finding the nearest of many names takes time, and no more are shown
    for value in graph.values():
        named.setdefault(value.name, []).append(value)
    for name, entry in entries.items():
        values = named.get(name, [])
        if len(values) != 1:
            strange += not values
            hint = "" if values or strange > SHOWN else _nearest(name, named)
            yield name, f"the model has {len(values)} tensors of this name" if values else f"the model has no such tensor{hint}"
        elif values[0].type.dtype is not DType.FLOAT32:
            yield name, f"the tensor must be float32: it is {values[0].type.dtype.value}"
        else:
            yield from ((name, text) for text in entry.misfits(values[0].type.shape))
            if entry.data is not None and values[0].data is None:
                yield name, "has a value, but the tensor is no constant"
            if entry.data is None and values[0].data is not None and not np.isfinite(values[0].array()).all():
                yield name, "needs a value: the float constant is not finite"


def _nearest(name: str, names: Iterable[str]) -> str:
    found = difflib.get_close_matches(name[:LONGEST], [other for other in names if len(other) <= LONGEST], 1)
    return f"; nearest: {found[0]}" if found else ""


def gaps(graph: Graph, types: Mapping[Value, Type]) -> Mistakes:
    """Float tensors of a weighted operator that is otherwise to compute in integers: no layer stays float unseen."""
    for node in graph.nodes():
        floats = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.dtype.is_float]
        named = [v for v in floats if v in types]
        if not OPS[node.op].weighted or all(v.data is None for v in named):
            continue
        if any(v.data is None for v in named):
            yield from ((v.name, f"needs an entry: {node.op} {node.out.name} is to compute in integers") for v in floats if v not in types)
        elif node.op in CHANNELS and (bias := node.inputs[CHANNELS[node.op].bias]) in named:
            assert bias is not None
            yield bias.name, f"must have no entry: the activations of {node.op} {node.out.name} have none"


def contradictions(graph: Graph) -> Mistakes:
    """Quantizations that the kernels would read otherwise than they are meant."""
    for node in graph.nodes():
        integers = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.quant is not None]
        channels = CHANNELS.get(node.op)
        x, bias = node.inputs[OPS[node.op].data], node.inputs[channels.bias] if channels else None
        others = [v for v in integers if v is not bias]
        yield from ((v.name, f"only a bias can be {v.type.dtype.value}") for v in others if v.type.dtype not in WIDTHS)
        if node.op != "QUANTIZE" and len(widths := {WIDTHS.get(v.type.dtype, 0) for v in others}) > 1:
            yield node.out.name, f"{node.op} has operands of {' and '.join(map(str, sorted(widths)))} bits"
        if OPS[node.op].moves and 16 in widths and len({v.type.quant for v in others}) > 1:
            yield node.out.name, f"{node.op} of int16 has operands of several scales"
        for v in others:
            axis = v.type.quant.axis if v.type.quant else None
            if v.type.quant and axis is not None and not _may_have_axis(node, v, axis):
                other = f", or one for each index of dimension {channels.axis}" if channels and v is node.inputs[1] else ""
                yield v.name, f"{node.op} takes one scale for all of it{other}: it has {len(v.type.quant.scale)} for dimension {axis}"
        if bias is not None and bias.type.quant is not None and x is not None and x.type.quant is not None:
            yield from _bias(node, x, bias)


def _may_have_axis(node: Node, value: Value, axis: int) -> bool:
    """Whether kernels take a scale for each index of ``axis``; sequence operators have more weights than one."""
    if node.op in CHANNELS:
        return value is node.inputs[1] and axis == CHANNELS[node.op].axis
    return OPS[node.op].weighted and value.data is not None and axis == 0


def _bias(node: Node, x: Value, bias: Value) -> Mistakes:
    weight, found, width = node.inputs[1], bias.type.quant, WIDTHS.get(x.type.dtype, 8)
    assert weight is not None and weight.type.quant is not None and x.type.quant is not None and found is not None
    if bias.type.dtype is not BIASES[width]:
        yield bias.name, f"the bias of {node.op} in {width} bits must be {BIASES[width].value}: {bias.type.dtype.value}"
    if found.zero_point.any():
        yield bias.name, f"the zero point of a bias must be 0: {found.zero_point[found.zero_point != 0][0]}"
    product = x.type.quant.scale[0] * weight.type.quant.scale
    if len(product) != len(found.scale):
        yield bias.name, f"the bias has {len(found.scale)} scales, the weight {weight.name} {len(product)}"
    elif (off := ~np.isclose(found.scale, product, BIAS_SCALE, 0)).any():
        yield bias.name, f"the scale of a bias must be input * weight, {product[off][0]:.7g}: {found.scale[off][0]:.7g}"
