"""The operators of the file formats: which options table each has, which version, and when a node is well formed.

``OPS`` is the one home of these facts. ``check(graph)`` runs after every stage, on what was written, and on any file
that is read back. What a runtime can execute is not here but in ``targets/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .ir import DType, Finding, Graph, Node, Value

SHORT = {
    DType.FLOAT32: "f32", DType.FLOAT16: "f16", DType.INT8: "i8", DType.UINT8: "u8",
    DType.INT16: "i16", DType.INT32: "i32", DType.INT64: "i64", DType.BOOL: "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Op:
    """``inputs``: least and most operands. ``moves``: the integers pass through, so all quantization should be equal.

    ``fixed``: the scale of an 8-bit result and its zero point, counted from the lowest integer, that the kernels take for granted.
    ``versions``: scheme -> operator version, where it is not the rule (2 with int8 operands, else 1).
    """

    options: str | None = None
    inputs: tuple[int, int] = (1, 1)
    moves: bool = False
    weighted: bool = False
    fixed: tuple[float, int] | None = None
    versions: Mapping[str, int] | None = None


_BINARY = (2, 2)
_CONV = {"i8/i8pc": 3, "i8/i8pt": 3, "i8/i8pc+grouped": 3, "i8/i8pt+grouped": 3}
_ONE = {"i8": 1}

OPS: dict[str, Op] = {
    "CONV_2D": Op("Conv2DOptions", (3, 3), weighted=True, versions=_CONV),
    "DEPTHWISE_CONV_2D": Op("DepthwiseConv2DOptions", (3, 3), weighted=True, versions=_CONV),
    "FULLY_CONNECTED": Op("FullyConnectedOptions", (3, 3), weighted=True, versions={"i8/i8pt": 4, "i8/i8pc": 12}),
    "ADD": Op("AddOptions", _BINARY),
    "SUB": Op("SubOptions", _BINARY),
    "MUL": Op("MulOptions", _BINARY),
    "DIV": Op("DivOptions", _BINARY),
    "MAXIMUM": Op("MaximumMinimumOptions", _BINARY),
    "MINIMUM": Op("MaximumMinimumOptions", _BINARY),
    "MAX_POOL_2D": Op("Pool2DOptions", moves=True),
    "AVERAGE_POOL_2D": Op("Pool2DOptions", moves=True),
    "MEAN": Op("ReducerOptions", (2, 2)),
    "RELU": Op(),
    "RELU6": Op(),
    "HARD_SWISH": Op("HardSwishOptions", versions=_ONE),
    "LOGISTIC": Op(fixed=(1 / 256, 0)),
    "TANH": Op(fixed=(1 / 128, 128)),
    "SOFTMAX": Op("SoftmaxOptions", fixed=(1 / 256, 0)),
    "CONCATENATION": Op("ConcatenationOptions", (1, 10_000), moves=True),
    "SPLIT": Op("SplitOptions", (2, 2), moves=True),
    "SLICE": Op("SliceOptions", (3, 3), moves=True),
    "STRIDED_SLICE": Op("StridedSliceOptions", (4, 4), moves=True),
    "GATHER": Op("GatherOptions", (2, 2), moves=True),
    "PAD": Op("PadOptions", (2, 2), moves=True),
    "PADV2": Op("PadV2Options", (3, 3), moves=True),
    "RESHAPE": Op("ReshapeOptions", (2, 2), moves=True, versions=_ONE),
    "TRANSPOSE": Op("TransposeOptions", (2, 2), moves=True),
    "QUANTIZE": Op("QuantizeOptions", versions={"f32->i8": 1, "f32->u8": 1, "u8->i8": 2, "i8->u8": 2, "i8->i8": 2, "u8->u8": 2}),
    "DEQUANTIZE": Op("DequantizeOptions"),
    "CAST": Op("CastOptions"),
}


def scheme(node: Node) -> str:
    """The key of a node in a target's capability table: ``f32``, ``u8``, ``i8->u8``, ``u8/u8pc``, ``i8+requant``, ``i8/i8pc+grouped``.

    Weighted operators give activation/weight with ``pc`` or ``pt``; ``+requant`` marks an operator that moves
    integers between unequal quantizations; ``+grouped`` a convolution whose filter sees a part of the channels; ``+affine`` a
    weight whose zero point is not in the middle (uint8 per tensor may have any); ``+rescaled`` a result that has not the fixed scale.
    """
    first = _data_input(node)
    x, out = SHORT[first.type.dtype], SHORT[node.out.type.dtype]
    if OPS[node.op].weighted:
        weight = node.inputs[1]
        assert weight is not None
        wide = "pc" if weight.type.quant and weight.type.quant.axis is not None else "pt"
        key = x if weight.type.dtype.is_float else f"{x}/{SHORT[weight.type.dtype]}{wide}"
        key += "+affine" if _affine(weight) else ""
        return key + ("+grouped" if node.op == "CONV_2D" and weight.type.shape[3] != first.type.shape[3] else "")
    key = x if x == out else f"{x}->{out}"
    key += "+rescaled" if _is_rescaled(node) else ""
    return key + ("+requant" if OPS[node.op].moves and _requantizes(node, first) else "")


def version(node: Node) -> int:
    """The lowest operator version that has the node's types."""
    key = scheme(node)
    special = OPS[node.op].versions or {}
    return special.get(key, 2 if key.startswith("i8") or key.endswith("i8") else 1)


def check(graph: Graph) -> list[Finding]:
    """What is wrong with the nodes of ``graph`` by the rules above; an empty list if nothing is."""
    return [finding for node in graph.nodes() for finding in _check_node(node)]


def _check_node(node: Node) -> list[Finding]:
    path = f"{node.where.module or '<top>'}/{node.out.name}"
    if node.op not in OPS:
        return [Finding("error", "unknown-op", path, f"not in the operator table: {node.op}")]
    low, high = OPS[node.op].inputs
    if not low <= len(node.inputs) <= high:
        return [Finding("error", "arity", path, f"{node.op} has {len(node.inputs)} inputs, takes {low} to {high}")]
    return [
        Finding("error", "quant", path, f"{value.type.dtype.value} operand of {node.op} has no scale: {value.name}")
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.type.dtype in (DType.INT8, DType.UINT8) and value.type.quant is None
    ]


def _data_input(node: Node) -> Value:
    value = node.inputs[1 if node.op == "SPLIT" else 0]  # SPLIT takes the axis first
    assert value is not None
    return value


def _affine(weight: Value) -> bool:
    quant = weight.type.quant
    if quant is None or (weight.type.dtype is DType.UINT8 and quant.axis is None):
        return False
    return bool((quant.zero_point != (128 if weight.type.dtype is DType.UINT8 else 0)).any())


def _is_rescaled(node: Node) -> bool:
    fixed, quant = OPS[node.op].fixed, node.out.type.quant
    if fixed is None or quant is None or node.out.type.dtype not in (DType.INT8, DType.UINT8):
        return False
    lowest = np.iinfo(node.out.type.dtype.numpy).min
    return (float(quant.scale[0]), int(quant.zero_point[0]) - lowest) != fixed


def _requantizes(node: Node, first: Value) -> bool:
    movers = node.inputs if node.op == "CONCATENATION" else (first,)
    return any(v is not None and v.type.quant != out.type.quant for v in movers for out in node.outputs)
