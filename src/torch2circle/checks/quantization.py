"""Whether scales and zero points are such as kernels take them for granted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..format.survey import Survey, Tensor
from ..implant.fit import BIAS_SCALE, BIASES, CHANNELS, WIDTHS
from ..ir import DType, Finding, Node, Type
from ..spec import OPS, has_scheme, scheme
from ..targets import TARGETS, Target
from ..targets.base import RIGHT
from .places import nodes, place

RANGES = {"INT4": (-8, 7), "INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-(2**15), 2**15 - 1)}
# TFLite refuses a convolution whose bias has a scale that is off by more than this share of the result's scale (kernel_util.cc,
# GetQuantizedConvolutionMultipler): from there on a bias of 1 is off by more than a fiftieth of a step.
BIAS_BOUND = 0.02
# What a runtime takes for granted, by the mark that a scheme has where it does not hold.
_GRANTED = {
    "+requant": ("same-quant", "moves or compares integers as they are, but its operands do not all have one scale and zero point"),
    "+rescaled": ("fixed-scale", "has a result without the scale that its kernels give it"),
    "+affine": ("weight-zero-point", "has a weight whose zero point is not in the middle of its type"),
}


def quantization(whole: Survey) -> Iterator[Finding]:
    """Everything that is wrong with scales, zero points and their axes."""
    for subgraph in whole.subgraphs:
        for tensor in subgraph.tensors:
            for severity, code, message in _tensor(tensor):
                yield Finding(severity, code, place(whole, subgraph, tensor=tensor.index), message)
    runtime = TARGETS["onert" if whole.identifier == "CIR0" else "litert"]
    for subgraph, operator, node in nodes(whole):
        at = place(whole, subgraph, operator)
        for severity, code, message in (*_granted(node, runtime), *_weighted(node)):
            yield Finding(severity, code, at, message)


Said = Iterator[tuple[str, str, str]]


def _tensor(tensor: Tensor) -> Said:
    if tensor.details:
        yield "note", "unknown-type", f"not checked: a quantization that is not affine, {tensor.details}"
        return
    if tensor.scale is None:
        if tensor.zero_point is not None and tensor.zero_point.any():
            yield "warning", "zero-point", "it has zero points without a scale"
        return
    if tensor.zero_point is None or len(tensor.zero_point) != len(tensor.scale):
        count = 0 if tensor.zero_point is None else len(tensor.zero_point)
        yield "error", "zero-point", f"it has {len(tensor.scale)} scales, and {count} zero points"
        return
    wrong = ~(np.isfinite(tensor.scale) & (tensor.scale > 0))
    if wrong.any():
        at = f" at {int(np.argmax(wrong))}" if len(wrong) > 1 else ""
        yield "error", "scale", f"a scale must be a finite number above 0: {tensor.scale[wrong][0]}{at}"
    low, high = RANGES.get(tensor.kind, (0, 0))
    outside = (tensor.zero_point < low) | (tensor.zero_point > high)
    if outside.any():
        severity = "error" if tensor.kind in RANGES else "warning"
        yield severity, "zero-point", f"a zero point of {tensor.kind.lower()} is within {low} and {high}: {tensor.zero_point[outside][0]}"
    if not 0 <= tensor.axis < max(1, len(tensor.shape)):
        yield "error", "axis", f"there is no dimension {tensor.axis} in {list(tensor.shape)} that could have scales"
    elif len(tensor.scale) > 1 and (not tensor.shape or tensor.shape[tensor.axis] != len(tensor.scale)):
        yield "error", "axis", f"dimension {tensor.axis} of {list(tensor.shape)} has {len(tensor.scale)} scales"
    if tensor.kind in ("FLOAT32", "FLOAT16", "BOOL", "STRING"):
        yield "note", "float-scale", f"{tensor.kind.lower()} needs no scale: {tensor.scale[0]:.6g}"


def _granted(node: Node, runtime: Target) -> Said:
    """Where the runtime of the file's format was not measured to do without what kernels take for granted."""
    if not has_scheme(node) or runtime.verdict(node) in RIGHT:
        return
    marks = scheme(node)
    for mark, (code, message) in _GRANTED.items():
        if mark in marks:
            yield "warning", code, f"it {message}: {runtime.verdict(node)} in {runtime.name} ({marks})"


def _weighted(node: Node) -> Said:
    channels = CHANNELS.get(node.op)
    if channels is None or not has_scheme(node) or len(node.inputs) <= channels.bias:
        return
    x, weight, bias = node.inputs[OPS[node.op].data], node.inputs[1], node.inputs[channels.bias]
    assert x is not None
    if weight is None:
        return
    if weight.type.quant is not None and weight.type.quant.axis not in (None, channels.axis):
        yield "error", "axis", f"its weight has scales for dimension {weight.type.quant.axis}, kernels want dimension {channels.axis}"
        return
    if x.type.dtype not in WIDTHS or x.type.quant is None or weight.type.quant is None or bias is None:
        return
    wanted = BIASES[WIDTHS[x.type.dtype]]
    if bias.type.dtype not in (wanted, DType.INT32):  # LiteRT takes int32 next to int16, too
        yield "error", "bias-type", f"its bias must be {wanted.value} next to {x.type.dtype.value}: {bias.type.dtype.value}"
    elif bias.type.quant is None:
        yield "warning", "bias-scale", "its bias has no scale; kernels take it for input * weight"
    else:
        yield from _bias(node, x.type, weight.type, bias.type)


def _bias(node: Node, x: Type, weight: Type, bias: Type) -> Said:
    assert x.quant is not None and weight.quant is not None and bias.quant is not None
    if bias.quant.zero_point.any():
        yield "error", "bias-zero-point", f"the zero point of a bias is 0: {bias.quant.zero_point[bias.quant.zero_point != 0][0]}"
    product = x.quant.scale[0] * weight.quant.scale
    if len(bias.quant.scale) != len(product):
        yield "warning", "bias-scale", f"its bias has {len(bias.quant.scale)} scales, its weight {len(product)}"
        return
    off = ~np.isclose(bias.quant.scale, product, BIAS_SCALE, 0)
    if off.any() and node.out.type.quant is not None:
        refused = (np.abs(bias.quant.scale.astype(np.float64) - product) / node.out.type.quant.scale[0]).max() > BIAS_BOUND
        channel = int(np.argmax(off))
        message = f"the scale of its bias is not input * weight, {product[channel]:.7g}: {bias.quant.scale[channel]:.7g}"
        yield "error" if refused else "warning", "bias-scale", message + (", which TFLite refuses" if refused else "")
