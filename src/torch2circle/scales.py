"""Scales that hint at a calibration gone wrong: every integer would be right, and the model still useless.

Judged are the types and constants of the neutral graph, so that it does not matter which inputs are the example. The limits are those
of the number formats and of the arithmetic itself, not of taste.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .ir import Array, DType, Finding, Graph, Node, Quant, Value
from .spec import OPS

LEAST = float(np.finfo(np.float32).eps)
"""The smallest scale that PyTorch's observers give: what they make of a range of zero."""
WIDEST, NARROWEST = 65504.0, 2.0**-14
"""The largest number of float16, and the smallest with all its digits: a model whose numbers are beyond could not run in half precision."""
INTEGERS = (DType.UINT8, DType.INT8, DType.INT16)
# Operators whose operands are brought to the scale of the result.
RESCALING = ("ADD", "SUB", "CONCATENATION", "PACK", "MAXIMUM", "MINIMUM", "QUANTIZE")


def wild_scales(graph: Graph) -> list[Finding]:
    """Warnings of activations without a range, with a very wide or narrow one, or that vanish in what reads them, and a note of channels
    whose weights are zeros.

    Codes: ``no-range``, ``wide-range``, ``narrow-range``, ``scale-ratio``, ``dead-channels``.
    """
    found = [finding for value in graph.inputs for finding in _of_activation("<top>", value)]
    for node in graph.nodes():
        path = node.where.module or "<top>"
        if node.out.origin is not None:  # else a result on the way to what PyTorch calls one
            found += [finding for value in node.outputs for finding in _of_activation(path, value)]
            found += _of_ratio(path, node)
    return [*dict.fromkeys(found), *_dead_channels(graph)]


def _of_activation(path: str, value: Value) -> Iterator[Finding]:
    quant = _per_tensor(value)
    if quant is None:
        return
    low, high = _range(value, quant)
    widest = max(abs(low), abs(high))
    if quant.scale[0] <= LEAST:
        yield Finding("warning", "no-range", path, f"{value.name}: scale {quant.scale[0]:.3g}, as of a tensor of zeros: was it calibrated?")
    elif widest > WIDEST:
        message = f"{value.name}: {low:.3g} to {high:.3g} in steps of {quant.scale[0]:.3g}: did calibration see an outlier?"
        yield Finding("warning", "wide-range", path, message)
    elif widest < NARROWEST:
        message = f"{value.name}: {low:.3g} to {high:.3g}: are its inputs normalized as in calibration?"
        yield Finding("warning", "narrow-range", path, message)


def _of_ratio(path: str, node: Node) -> Iterator[Finding]:
    """Operands next to which the result's scale is so coarse, or so fine, that it tells nothing of them."""
    out = _per_tensor(node.out)
    if out is None:
        return
    step, span = float(out.scale[0]), _span(node.out, out)
    operands = [v for v in node.inputs if v is not None] if node.op in RESCALING else []
    for value in operands:
        quant = _per_tensor(value)
        if quant is not None and _span(value, quant) < step / 2:
            message = f"{node.op}: all of {value.name}, {_span(value, quant):.3g} wide, is less than half a step of the result, {step:.3g}"
            yield Finding("warning", "scale-ratio", path, message)
        elif quant is not None and quant.scale[0] > span:
            message = f"{node.op}: a step of {value.name}, {quant.scale[0]:.3g}, is more than the whole range of the result, {span:.3g}"
            yield Finding("warning", "scale-ratio", path, message)
    if OPS[node.op].weighted and (steps := _steps_of_products(node)) is not None and steps.min() > span:
        message = f"{node.op}: a step of its products, {steps.min():.3g}, is more than the whole range of the result, {span:.3g}"
        yield Finding("warning", "scale-ratio", path, message)


def _steps_of_products(node: Node) -> Array | None:
    data, weight = node.inputs[OPS[node.op].data], node.inputs[1]
    if data is None or weight is None or (x := _per_tensor(data)) is None or weight.type.quant is None:
        return None
    return np.asarray(x.scale.astype(np.float64) * weight.type.quant.scale)


def _dead_channels(graph: Graph) -> list[Finding]:
    """One note of all layers: trained networks have such channels everywhere, and in most layers only a few."""
    layers: dict[Value, tuple[Node, int, int]] = {}
    for node in graph.nodes():
        weight = node.inputs[1] if OPS[node.op].weighted else None
        if weight is None or weight.data is None or weight.type.quant is None or weight.type.quant.axis is None:
            continue
        if dead := int((weight.type.quant.scale <= LEAST).sum()):
            layers[weight] = node, dead, len(weight.type.quant.scale)
    if not layers:
        return []
    node, dead, channels = max(layers.values(), key=lambda layer: layer[1] / layer[2])
    path, total = node.where.module or "<top>", sum(count for _, count, _ in layers.values())
    message = f"{total} channels in {len(layers)} layer(s) have weights of zero; this one has the largest share, {dead} of {channels}"
    return [Finding("note", "dead-channels", path, message)]


def _per_tensor(value: Value) -> Quant | None:
    quant = value.type.quant
    return quant if value.data is None and value.type.dtype in INTEGERS and quant is not None and quant.axis is None else None


def _range(value: Value, quant: Quant) -> tuple[float, float]:
    info, zero = np.iinfo(value.type.dtype.numpy), int(quant.zero_point[0])
    return (info.min - zero) * float(quant.scale[0]), (info.max - zero) * float(quant.scale[0])


def _span(value: Value, quant: Quant) -> float:
    low, high = _range(value, quant)
    return high - low
