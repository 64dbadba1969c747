"""What the weights and biases of the layers look like, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arithmetic import INT32_MAX
from ..ir import Array, DType, Finding, Graph, Node, Value
from ..spec import OPS

CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0, "CONV_3D": 4, "CONV_3D_TRANSPOSE": 3}
"""The dimension of a weight that counts the outputs."""

TINY = float(np.finfo(np.float32).eps)
"""PyTorch's observers give no scale below this: a channel that has it holds (almost) nothing."""

COARSE = 16
"""A channel whose integers stay within +-15 of the 127 has less than 5 bits."""

BINS = 64
"""Of the histogram of a float weight; integers are counted one by one."""

BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3, "CONV_3D": 2, "CONV_3D_TRANSPOSE": 3}
"""The operand that is added to the sums."""


def layers(graph: Graph, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Each weight of the neutral graph once, with the histogram of its integers, its scales, and what is doubtful about it.

    Args:
        graph: with PyTorch's own integers, before any target's rules.
        findings: of the export; those of a layer's module are told with it.
    """
    found, seen = [], set[Value]()
    for node in graph.nodes():
        weight = weight_of(node)
        if weight is None or weight in seen:
            continue
        seen.add(weight)
        own = [finding for finding in findings if finding.path == node.where.module and str(node.where) in finding.message]
        found.append(_layer(node, weight, own))
    return found


def weight_of(node: Node) -> Value | None:
    """The constant that the operator has as its weight, be it behind a DEQUANTIZE."""
    if node.op not in OPS or not OPS[node.op].weighted:
        return None
    value = node.inputs[1]
    while value is not None and value.node is not None and value.node.op in ("DEQUANTIZE", "RESHAPE", "TRANSPOSE"):
        value = value.node.inputs[0]
    return value if value is not None and value.data is not None else None


def _layer(node: Node, weight: Value, findings: Sequence[Finding]) -> dict[str, Any]:
    q, type_ = weight.array(), weight.type
    facts: dict[str, Any] = {
        "name": weight.name,
        "op": node.op,
        "module": node.where.module,
        "where": str(node.where),
        "type": type_.dtype.value,
        "shape": list(type_.shape),
        "bytes": type_.nbytes,
        "scales": [] if type_.quant is None else [short(scale) for scale in type_.quant.scale.tolist()],
        "findings": [{"severity": f.severity, "code": f.code, "message": f.message} for f in findings],
        "histogram": histogram(q, type_.dtype),
    }
    distances = _distances(node, weight, q)
    facts.update(_channels(weight, distances))
    facts["bias"] = _bias(node, distances) if weight.type.quant is not None else None
    facts["doubts"] = _doubts(facts)
    return facts


def short(number: float) -> float:
    """Six digits, which is as many as a float32 has for sure."""
    return float(f"{number:.6g}")


def histogram(q: Array, dtype: DType) -> dict[str, Any]:
    """``counts`` of elements in bins of ``width``, the first of which begins at ``start``; each integer of 8 bits has a bin of its own."""
    if q.size == 0:
        return {"start": 0.0, "width": 1.0, "counts": []}
    if dtype in (DType.INT4, DType.INT8, DType.UINT8):
        low = int(np.iinfo(q.dtype).min)
        # An int8 read as a byte, with its top bit flipped, counts up from the lowest integer.
        flat = q.reshape(-1).view(np.uint8) ^ np.uint8(0x80 if low else 0)
        counts = np.bincount(flat, minlength=256)
        used = np.flatnonzero(counts)
        return {"start": float(low + used[0]) - 0.5, "width": 1.0, "counts": counts[used[0] : used[-1] + 1].tolist()}
    real = q[np.isfinite(q)] if dtype.is_float else q
    counts, edges = np.histogram(real.astype(np.float64), BINS)
    return {"start": short(float(edges[0])), "width": short(float(edges[1] - edges[0])), "counts": counts.tolist()}


def _distances(node: Node, weight: Value, q: Array) -> Array:
    """The weights of each output channel, a row each, less the zero point; one row if the operator has no such dimension."""
    quant = weight.type.quant
    axis = CHANNELS.get(node.op) if quant is None or quant.axis is None else quant.axis
    rows = np.moveaxis(q, axis, 0).reshape(q.shape[axis], -1) if axis is not None and q.size else q.reshape(1, -1)
    if quant is None:
        return np.abs(rows)
    zero = quant.zero_point if len(quant.zero_point) == len(rows) else np.repeat(quant.zero_point, len(rows))
    wide = np.int16 if q.dtype.itemsize == 1 else np.int64  # which holds the distance of any two
    result: Array = np.abs(rows.astype(wide) - zero[:, None].astype(wide))
    return result


def _channels(weight: Value, distances: Array) -> dict[str, Any]:
    peaks, quant = distances.max(1, initial=0), weight.type.quant
    facts = {"channels": len(peaks), "dead": int((peaks == 0).sum())}
    if quant is None:
        return facts | {"peaks": [], "coarse": 0, "tiny": 0, "zero_points": []}
    eight, middle = weight.type.dtype in (DType.INT8, DType.UINT8), 128 if weight.type.dtype is DType.UINT8 else 0
    return facts | {
        "peaks": peaks.tolist(),
        "coarse": int(((peaks > 0) & (peaks < COARSE)).sum()) if eight else 0,
        "tiny": int((quant.scale <= TINY).sum()),
        "zero_points": sorted(set((quant.zero_point - middle).tolist())),
    }


def _bias(node: Node, distances: Array) -> dict[str, Any] | None:
    """The largest bias, and the largest sum that it and products with any input give, as parts of what int32 holds; None without one.

    ``overflows``: whether that sum does not fit.
    """
    place = BIAS.get(node.op)
    bias = node.inputs[place] if place is not None and place < len(node.inputs) else None
    data = node.inputs[OPS[node.op].data]
    if bias is None or bias.data is None or bias.type.dtype is not DType.INT32:
        return None
    if data is None or data.type.quant is None or data.type.dtype not in (DType.INT8, DType.UINT8):
        return None
    own = np.abs(bias.array().astype(np.int64)).reshape(-1)
    info, zero = np.iinfo(data.type.dtype.numpy), int(data.type.quant.zero_point[0])
    sums = distances.sum(1, dtype=np.int64) * max(zero - info.min, info.max - zero) + (own if len(own) == len(distances) else own.max())
    largest, most = int(own.max()), int(sums.max())
    return {"largest": short(largest / INT32_MAX), "sum": short(most / INT32_MAX), "overflows": most > INT32_MAX}


def _doubts(facts: dict[str, Any]) -> list[str]:
    """In words what the figures of a layer say; the findings of the export have their own."""
    said = []
    if facts["dead"]:
        said.append(f"channels without a weight but zero: {facts['dead']} of {facts['channels']}")
    if facts["tiny"]:
        said.append(f"scales that are the least that PyTorch's observers give: {facts['tiny']}")
    if facts["coarse"]:
        said.append(f"channels that use less than 5 of 8 bits: {facts['coarse']} of {facts['channels']}")
    if any(facts["zero_points"]):
        said.append("a zero point that is not in the middle")
    if facts["bias"] is not None and facts["bias"]["overflows"]:
        said.append("the sums could overflow int32 on other inputs")
    return said
