"""The contract of the ONE toolchain's circle-quantizer (its QuantizedModelVerifier), operator by operator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..format.survey import Operator, Subgraph, Survey
from ..implant.fit import BIAS_SCALE, BIASES, CHANNELS, WIDTHS
from ..ir import DType, Finding, Node, Type, Value
from ..spec import OPS, has_scheme
from .places import nodes, place
from .quantization import Said

FAMILIES = (DType.UINT8, DType.INT16)
# (scale, zero point) of a result; the verifier compares for equality.
FIXED = {
    ("LOGISTIC", DType.UINT8): (1 / 256, 0), ("TANH", DType.UINT8): (2 / 256, 128), ("SOFTMAX", DType.UINT8): (1 / 255, 0),
    ("LOGISTIC", DType.INT16): (1 / 32768, 0), ("TANH", DType.INT16): (1 / 32768, 0), ("SOFTMAX", DType.INT16): (1 / 32767, 0),
}  # fmt: skip
WHOLE_SCALE = ("FLOOR", "FLOOR_DIV", "FLOOR_MOD", "CEIL")
AS_INPUT = ("GATHER", "RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "SPLIT", "SPLIT_V", "UNPACK")
AS_INPUTS = ("CONCATENATION", "PACK", "ONE_HOT", "PADV2")
# Operands that give indices or sizes: the operator -> which, from the front.
INDICES = {
    "GATHER": (1,), "SLICE": (1, 2), "STRIDED_SLICE": (1, 2, 3), "TRANSPOSE": (1,), "PAD": (1,), "RESHAPE": (1,), "MEAN": (1,), "SUM": (1,)
}  # fmt: skip
COMPARISONS = ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
SMALLEST = {DType.UINT8: 1e-5, DType.INT16: 1e-8}
"""The least scale of activations that the quantizer gives."""


def contract(whole: Survey) -> Iterator[Finding]:
    """Where a file is not as circle-quantizer writes files."""
    for subgraph, operator, node in nodes(whole):
        if not has_scheme(node):
            continue
        at = place(whole, subgraph, operator)
        for severity, rule, message in _node(subgraph, operator, node):
            yield Finding(severity, f"target-one-{rule}", at, message)


def _node(subgraph: Subgraph, operator: Operator, node: Node) -> Said:
    quantized = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.quant is not None and v.type.dtype in WIDTHS]
    if not quantized:
        return
    yield from _types(node, quantized)
    yield from _channels(node)
    if node.op in CHANNELS:
        yield from _layer(node)
    yield from _result(node)
    yield from _alike(node)
    yield from _indices(node)


def _types(node: Node, quantized: list[Value]) -> Said:
    others = sorted({v.type.dtype.value for v in quantized if v.type.dtype not in FAMILIES})
    if others and node.op != "QUANTIZE":
        yield "error", "type", f"integers are uint8 or int16: {', '.join(others)}"
    for value in node.outputs:
        least = SMALLEST.get(value.type.dtype)
        if least is not None and value.type.quant is not None and float(value.type.quant.scale.min()) < least:
            yield "warning", "small-scale", f"the quantizer gives no scale below {least:g}: {value.type.quant.scale.min():.6g}"


def _channels(node: Node) -> Said:
    """Scales for each index of a dimension are for weights, and of one dimension."""
    for i, value in enumerate(node.inputs):
        if value is None or value.type.quant is None or value.type.quant.axis is None:
            continue
        axis = CHANNELS[node.op].axis if node.op in CHANNELS and i == 1 else None
        if node.op == "PRELU" and i == 1:
            axis = value.type.rank - 1
        if node.op in CHANNELS and i == CHANNELS[node.op].bias:
            axis = 0
        if axis is None:
            yield "error", "channels", f"operand {i} has one scale, not {len(value.type.quant.scale)}"
        elif value.type.quant.axis != axis:
            yield "error", "channels", f"operand {i} has scales for dimension {axis}: {value.type.quant.axis}"


def _layer(node: Node) -> Said:
    bias_at = CHANNELS[node.op].bias
    x, weight = node.inputs[OPS[node.op].data], node.inputs[1]
    bias = node.inputs[bias_at] if len(node.inputs) > bias_at else None
    if x is None or weight is None or x.type.quant is None or weight.type.quant is None or x.type.dtype not in FAMILIES:
        return
    if bias is None:
        if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            yield "error", "bias", f"{node.op} needs a bias"
        return
    wanted = BIASES[WIDTHS[x.type.dtype]]
    if bias.type.dtype is not wanted or bias.type.quant is None:
        yield "error", "bias", f"a bias is {wanted.value} with a scale: {bias.type}"
        return
    if bias.data is None and node.op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        yield "error", "bias", f"the bias of {node.op} is a constant"
    if bias.type.rank != 1 or bias.type.quant.zero_point.any():
        yield "error", "bias", f"a bias has one dimension and the zero point 0: {bias.type}"
    product = x.type.quant.scale[0] * weight.type.quant.scale
    if len(product) != len(bias.type.quant.scale) or not np.allclose(bias.type.quant.scale, product, BIAS_SCALE, 0):
        yield "error", "bias", "the scale of a bias is input * weight"


def _result(node: Node) -> Said:
    out = node.out.type
    if node.op in COMPARISONS and out.dtype is not DType.BOOL:
        yield "error", "type", f"a comparison gives bool: {out.dtype.value}"
    if out.quant is None:
        return
    got = float(out.quant.scale[0]), int(out.quant.zero_point[0])
    fixed = FIXED.get((node.op, out.dtype))
    if fixed is not None and (np.float32(got[0]), got[1]) != (np.float32(fixed[0]), fixed[1]):
        runtime = OPS[node.op].fixed
        ours = runtime is not None and out.dtype is DType.UINT8 and got == runtime
        said = f"{node.op} gives the scale {fixed[0]:.8g} and the zero point {fixed[1]}: {got[0]:.8g}, {got[1]}"
        yield "warning" if ours else "error", "fixed-scale", said + ("; onert's own kernel gives this one" if ours else "")
    if node.op in WHOLE_SCALE and (got[0] < 1 or got[0] != round(got[0])):
        yield "error", "whole-scale", f"the scale of {node.op} is a whole number: {got[0]:.6g}"


def _alike(node: Node) -> Said:
    def same(a: Type, b: Type) -> bool:
        return a.quant is None or b.quant is None or a.quant == b.quant

    data = node.inputs[OPS[node.op].data]
    if node.op in AS_INPUT and data is not None and any(not same(data.type, out.type) for out in node.outputs):
        yield "error", "same-quant", f"{node.op} keeps scale and zero point"
    if node.op in AS_INPUTS and any(v is not None and not same(v.type, node.out.type) for v in node.inputs):
        yield "error", "same-quant", f"all operands of {node.op} have the scale and zero point of its result"


def _indices(node: Node) -> Said:
    for i in INDICES.get(node.op, ()):
        value = node.inputs[i] if i < len(node.inputs) else None
        allowed = (DType.INT32, DType.INT64) if node.op == "SLICE" else (DType.INT32,)
        if value is not None and value.data is not None and value.type.dtype not in allowed:
            yield "error", "index-type", f"constant operand {i} of {node.op} is int32: {value.type.dtype.value}"
