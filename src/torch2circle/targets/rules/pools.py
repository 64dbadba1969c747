"""Pools in the forms that a runtime gets right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir import Constant, DType, Node, Quant, Type, Value
from ...optimize.engine import Replacement, emit, rule
from ...optimize.layout import operand
from ...spec import scheme
from .common import EIGHT_BIT


def _as_depthwise(node: Node) -> Replacement:
    x = operand(node)
    if x.type.dtype not in EIGHT_BIT or x.type.quant is None or node.attrs["padding"] != "VALID":
        return None
    kh, kw, channels = node.attrs["filter_height"], node.attrs["filter_width"], x.type.shape[3]
    # the largest weight, not 1: kernels that round the multiplier to fixed point lose least with a large accumulator
    scale, middle = np.float32(1 / (127 * kh * kw)), 128 if x.type.dtype is DType.UINT8 else 0
    type_ = Type((), x.type.dtype, Quant.per_tensor(float(scale), middle))
    weight = _filled((1, kh, kw, channels), type_, middle + 127, f"{node.out.name}.weight")
    bias = _filled(
        (channels,), Type((), DType.INT32, Quant.per_tensor(float(x.type.quant.scale[0] * scale), 0)), 0, f"{node.out.name}.bias"
    )
    attrs = {"padding": "VALID", "stride_h": node.attrs["stride_h"], "stride_w": node.attrs["stride_w"], "depth_multiplier": 1}
    return emit("DEPTHWISE_CONV_2D", node.out.type, x, weight, bias, like=node, fused_activation_function="NONE", **attrs)


average_pool_as_depthwise = rule(
    "AVERAGE_POOL_2D",
    why="the runtime rounds ties away from zero; a depthwise convolution with equal weights rounds to even, and XNNPACK runs it",
)(_as_depthwise)


@rule("AVERAGE_POOL_2D", why="the runtime ignores the scale of the result; a depthwise convolution with equal weights does not")
def rescaled_average_as_depthwise(node: Node) -> Replacement:
    return _as_depthwise(node) if scheme(node).endswith("+requant") else None


def _filled(shape: tuple[int, ...], like: Type, number: int, name: str) -> Value:
    type_ = replace(like, shape=shape)
    return Value(type_, name, data=Constant(lambda: np.full(shape, number, type_.dtype.numpy)))
