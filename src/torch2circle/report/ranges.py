"""How the activations that PyTorch recorded use the range that their integers can show."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import Array, Quant, Value
from ..pipeline import ExportedModel
from ..quant import array_of
from ..spec import OPS

# What an activation function leaves of the real numbers.
CLAMPS = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}


def ranges(exported: ExportedModel) -> list[dict[str, Any]]:
    """For each quantized tensor that an operator makes, in the order they are made:

    ``low`` and ``high``, what its integers can show, and ``least`` and ``most``, what was recorded, in real numbers; ``used``, the share
    of the integers between the recorded ends; ``saturated``, the share of elements at an end of the range where values may have been
    cut off; ``at_low`` and ``at_high``, of elements at each end.
    """
    found, seen = [], set[int]()
    for node in exported.graph.nodes():
        for value in node.outputs:
            if value.origin is None or value.type.quant is None or value.origin.tensor in seen:
                continue
            seen.add(value.origin.tensor)
            if value.type.quant.axis is None and value.type.size:
                found.append(_range(value, value.type.quant, array_of(exported.recording.tensors[value.origin.tensor])))
    return found


def _range(value: Value, quant: Quant, q: Array) -> dict[str, Any]:
    info, scale, zero = np.iinfo(q.dtype), float(quant.scale[0]), int(quant.zero_point[0])
    least, most = int(q.min()), int(q.max())
    at_low, at_high = (float(np.count_nonzero(q == end)) / q.size for end in (info.min, info.max))
    floor, ceiling = clamp_of(value)
    # Elements at the end of the range were not cut off where the activation function leaves nothing beyond it.
    cut_low = at_low if (info.min - zero) * scale > floor else 0.0
    cut_high = at_high if (info.max - zero) * scale < ceiling - scale / 2 else 0.0
    assert value.origin is not None
    assert value.node is not None
    return {
        "name": value.name,
        "tensor": value.origin.tensor,
        "module": value.node.where.module,
        "op": value.node.op,
        "dtype": value.type.dtype.value,
        "scale": scale,
        "zero_point": zero,
        "low": (info.min - zero) * scale,
        "high": (info.max - zero) * scale,
        "least": (least - zero) * scale,
        "most": (most - zero) * scale,
        "used": (most - least) / (info.max - info.min),
        "at_low": at_low,
        "at_high": at_high,
        "saturated": cut_low + cut_high,
    }


def clamp_of(value: Value) -> tuple[float, float]:
    """The real numbers that the operator of ``value``, or the one whose integers it moves, can give."""
    while value.node is not None:
        node = value.node
        act = node.attrs.get("fused_activation_function", "NONE")
        name = node.op if node.op in CLAMPS else act
        if name in CLAMPS:
            return CLAMPS[name]
        source = node.inputs[OPS[node.op].data] if node.op in OPS and OPS[node.op].moves and node.inputs else None
        if source is None or source.type.quant != value.type.quant:
            break
        value = source
    return -np.inf, np.inf
