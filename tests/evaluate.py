"""The operators' meaning in real numbers: what a graph computes when nothing is rounded but what it stores.

An oracle for rewrites. It knows no kernels and no targets, and takes only the options that the tests use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from torch2circle.arithmetic import quantized
from torch2circle.ir import Array, DType, Graph, Node, Quant, Type, Value

CLAMPS = {"RELU": (0, np.inf), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}


def random(type_: Type, seed: int = 0) -> Array:
    """Elements for an input: all integers of a quantized type, -8 to 8 of a float."""
    rng = np.random.default_rng(seed)
    if type_.dtype.is_float:
        return rng.uniform(-8, 8, type_.shape).astype(type_.dtype.numpy)
    if type_.dtype is DType.BOOL:
        return rng.random(type_.shape) < 0.5
    info = np.iinfo(type_.dtype.numpy)
    return rng.integers(info.min, info.max, type_.shape, endpoint=True).astype(type_.dtype.numpy)


def evaluate(graph: Graph) -> list[Array]:
    """The outputs, in the types of the graph, for inputs that depend on their position and type alone."""
    arrays: dict[Value, Array] = {value: random(value.type, seed) for seed, value in enumerate(graph.inputs)}

    def real(value: Value | None) -> Array:
        assert value is not None
        array = value.array() if value.data is not None else arrays[value]
        assert array.shape == value.type.shape, value
        assert array.dtype == value.type.dtype.numpy, value
        return array if value.type.quant is None else _real(array, value.type.quant)

    for node in graph.nodes():
        results = _compute(node, [real(v) for v in node.inputs])
        for value, result in zip(node.outputs, results, strict=True):
            act = node.attrs.get("fused_activation_function", "NONE")
            arrays[value] = _stored(result if act == "NONE" else np.clip(result, *CLAMPS[act]), value.type)
            assert arrays[value].shape == value.type.shape, f"{node.op} gave {arrays[value].shape} for {value.type}"
    return [arrays[v] if v.data is None else v.array() for v in graph.outputs]


def _real(array: Array, quant: Quant) -> Array:
    shape = [1] * array.ndim
    if quant.axis is not None:
        shape[quant.axis] = -1
    result: Array = (array.astype(np.float64) - quant.zero_point.reshape(shape)) * quant.scale.astype(np.float64).reshape(shape)
    return result


def _stored(result: Array, type_: Type) -> Array:
    return quantized(result, type_) if type_.quant is not None else result.astype(type_.dtype.numpy)


def _compute(node: Node, x: Sequence[Array]) -> Sequence[Array]:
    if node.op == "SPLIT":
        return np.split(x[1], node.attrs["num_splits"], int(x[0]))
    if node.op == "CAST":  # of the integers themselves
        quant = node.inputs[0].type.quant if node.inputs[0] else None
        return [x[0] if quant is None else np.rint(x[0] / quant.scale[0]) + quant.zero_point[0]]
    return [_OPS[node.op](node.attrs, *x)]


def _convolution(attrs: Any, x: Array, weight: Array, bias: Array, depthwise: bool = False) -> Array:
    assert attrs["padding"] == "VALID"
    kernel = torch.from_numpy(np.ascontiguousarray(weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)), np.float64))
    image = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float64))
    groups = image.shape[1] // kernel.shape[1]
    strides, dilations = (attrs["stride_h"], attrs["stride_w"]), (attrs.get("dilation_h_factor", 1), attrs.get("dilation_w_factor", 1))
    made = F.conv2d(image, kernel, torch.from_numpy(bias.astype(np.float64)), strides, 0, dilations, groups)
    return made.numpy().transpose(0, 2, 3, 1)


def _pool(pool: Callable[..., torch.Tensor]) -> Callable[[Any, Array], Array]:
    def pooled(attrs: Any, x: Array) -> Array:
        image = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float64))
        made = pool(image, (attrs["filter_height"], attrs["filter_width"]), (attrs["stride_h"], attrs["stride_w"]))
        return made.numpy().transpose(0, 2, 3, 1)

    return pooled


def _sliced(attrs: Any, x: Array, begin: Array, end: Array, steps: Array) -> Array:
    return x[tuple(slice(*facts) for facts in zip(begin.tolist(), end.tolist(), steps.tolist(), strict=True))]


_OPS: dict[str, Callable[..., Array]] = {
    "ADD": lambda attrs, x, y: x + y,
    "SUB": lambda attrs, x, y: x - y,
    "MUL": lambda attrs, x, y: x * y,
    "ARG_MAX": lambda attrs, x, axis: x.argmax(int(axis)),
    "RSQRT": lambda attrs, x: 1 / np.sqrt(x),
    "RMS_NORM": lambda attrs, x, factor: x / np.sqrt(np.square(x).mean(-1, keepdims=True) + attrs["epsilon"]) * factor,
    "ATAN2": lambda attrs, y, x: np.arctan2(y, x),
    "DIV": lambda attrs, x, y: x / y,
    "BATCH_MATMUL": lambda attrs, x, y: x @ (y.swapaxes(-1, -2) if attrs["adjoint_rhs"] else y),
    "MAXIMUM": lambda attrs, x, y: np.maximum(x, y),
    "MINIMUM": lambda attrs, x, y: np.minimum(x, y),
    "RELU": lambda attrs, x: np.maximum(x, 0),
    "RELU6": lambda attrs, x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda attrs, x: np.clip(x, -1, 1),
    "LEAKY_RELU": lambda attrs, x: np.where(x > 0, x, attrs["alpha"] * x),
    "PRELU": lambda attrs, x, slope: np.where(x > 0, x, slope * x),
    "ELU": lambda attrs, x: F.elu(torch.from_numpy(x)).numpy(),
    "GELU": lambda attrs, x: F.gelu(torch.from_numpy(x), approximate="tanh" if attrs["approximate"] else "none").numpy(),
    "ABS": lambda attrs, x: np.abs(x),
    "NEG": lambda attrs, x: -x,
    "SIGN": lambda attrs, x: np.sign(x),
    "FLOOR": lambda attrs, x: np.floor(x),
    "CEIL": lambda attrs, x: np.ceil(x),
    "ROUND": lambda attrs, x: np.rint(x),
    "FLOOR_DIV": lambda attrs, x, y: np.floor_divide(x, y),
    "FLOOR_MOD": lambda attrs, x, y: np.mod(x, y),
    "EQUAL": lambda attrs, x, y: x == y,
    "NOT_EQUAL": lambda attrs, x, y: x != y,
    "GREATER": lambda attrs, x, y: x > y,
    "GREATER_EQUAL": lambda attrs, x, y: x >= y,
    "LESS": lambda attrs, x, y: x < y,
    "LESS_EQUAL": lambda attrs, x, y: x <= y,
    "SELECT_V2": lambda attrs, which, x, y: np.where(which, x, y),
    "HARD_SWISH": lambda attrs, x: x * np.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": lambda attrs, x: 1 / (1 + np.exp(-x)),
    "TANH": lambda attrs, x: np.tanh(x),
    "SOFTMAX": lambda attrs, x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "QUANTIZE": lambda attrs, x: x,
    "DEQUANTIZE": lambda attrs, x: x,
    "TRANSPOSE": lambda attrs, x, perm: x.transpose(perm),
    "RESHAPE": lambda attrs, x, shape: x.reshape(shape),
    "CONCATENATION": lambda attrs, *x: np.concatenate(x, attrs["axis"]),
    "GATHER": lambda attrs, x, index: np.take(x, index, attrs["axis"]),
    "MEAN": lambda attrs, x, axes: x.mean(tuple(axes), keepdims=attrs["keep_dims"]),
    "SLICE": lambda attrs, x, begin, size: _sliced(attrs, x, begin, begin + size, np.ones_like(begin)),
    "STRIDED_SLICE": _sliced,
    "PAD": lambda attrs, x, amounts: np.pad(x, amounts),
    "PADV2": lambda attrs, x, amounts, value: np.pad(x, amounts, constant_values=value),
    "MAX_POOL_2D": _pool(F.max_pool2d),
    "AVERAGE_POOL_2D": _pool(F.avg_pool2d),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": lambda attrs, *x: _convolution(attrs, *x, depthwise=True),
    "FULLY_CONNECTED": lambda attrs, x, weight, bias: (x if attrs["keep_num_dims"] else x.reshape(-1, weight.shape[1])) @ weight.T + bias,
}
