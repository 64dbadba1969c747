"""Functions of one uint8 as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...arithmetic import dequantized, quantized
from ...ir import Array, Constant, DType, Node, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.fuse import ACTIVATIONS
from ...optimize.layout import operand, reshape

UNBOUND = (-np.inf, np.inf)


def _gelu(attrs: Mapping[str, Any], x: Array) -> Array:
    inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) if attrs["approximate"] else np.vectorize(math.erf)(x / math.sqrt(2))
    return np.asarray(x * (1 + inner) / 2)


def _chosen(which: Array, x: Array, y: Array) -> Array:
    return np.where(which, x, y)


FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "QUANTIZE": lambda attrs, x: x,
    "DEQUANTIZE": lambda attrs, x: x,
    "CAST": lambda attrs, x: x,
    "ADD": lambda attrs, x, y: x + y,
    "SUB": lambda attrs, x, y: x - y,
    "MUL": lambda attrs, x, y: x * y,
    "DIV": lambda attrs, x, y: x / y,
    "POW": lambda attrs, x, y: x**y,
    "FLOOR_MOD": lambda attrs, x, y: x % y,
    "MAXIMUM": lambda attrs, x, y: np.maximum(x, y),
    "MINIMUM": lambda attrs, x, y: np.minimum(x, y),
    "EQUAL": lambda attrs, x, y: x == y,
    "NOT_EQUAL": lambda attrs, x, y: x != y,
    "GREATER": lambda attrs, x, y: x > y,
    "GREATER_EQUAL": lambda attrs, x, y: x >= y,
    "LESS": lambda attrs, x, y: x < y,
    "LESS_EQUAL": lambda attrs, x, y: x <= y,
    "SELECT_V2": lambda attrs, which, x, y: _chosen(which, x, y),
    "RELU": lambda attrs, x: np.maximum(x, 0),
    "RELU6": lambda attrs, x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda attrs, x: np.clip(x, -1, 1),
    "LEAKY_RELU": lambda attrs, x: _chosen(x > 0, x, x * np.float32(attrs["alpha"])),
    "PRELU": lambda attrs, x, slope: _chosen(x > 0, x, x * slope),
    "ELU": lambda attrs, x: _chosen(x > 0, x, np.expm1(x)),
    "GELU": _gelu,
    "HARD_SWISH": lambda attrs, x: x * np.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": lambda attrs, x: 1 / (1 + np.exp(-x)),
    "TANH": lambda attrs, x: np.tanh(x),
    "ABS": lambda attrs, x: np.abs(x),
    "NEG": lambda attrs, x: -x,
    "SIGN": lambda attrs, x: np.sign(x),
    "SQRT": lambda attrs, x: np.sqrt(x),
    "RSQRT": lambda attrs, x: 1 / np.sqrt(x),
    "EXP": lambda attrs, x: np.exp(x),
    "LOG": lambda attrs, x: np.log(x),
    "SIN": lambda attrs, x: np.sin(x),
    "COS": lambda attrs, x: np.cos(x),
    "FLOOR": lambda attrs, x: np.floor(x),
    "CEIL": lambda attrs, x: np.ceil(x),
    "ROUND": lambda attrs, x: np.rint(x),
}


def lookups(runs: Callable[[Node], bool]) -> list[Rule]:
    """A function of one uint8 is a table of 256: CAST to an index and GATHER. Exact, and faster than other operators on
    integers or floats are, but for those of a single operand that the runtime has."""

    def by_table(node: Node) -> Replacement:
        out = node.out.type
        if out.dtype is not DType.UINT8 or (node.op != "QUANTIZE" and len(node.inputs) == 1 and runs(node)):
            return None
        known: dict[Value, Array | None] = {}
        results = _computed(node, known)
        sources = [value for value in known if value.data is None and value.type.dtype is DType.UINT8]
        if results is None or len(sources) != 1 or not np.isfinite(results).all():
            return None
        table = Value(Type((256,), DType.UINT8, out.quant), f"{node.out.name}.table", data=Constant.of(quantized(results, out)))
        x, size = sources[0], sources[0].type.size
        # onert takes the operand of CAST for one without a scale, which any producer but RESHAPE then refuses
        line = reshape(x, (size,) if x.type.rank != 1 else (size, 1), node)
        index = emit("CAST", Type(line.type.shape, DType.INT32), line, like=node, in_data_type="UINT8", out_data_type="INT32")
        return reshape(_gathered(node, table, index), out.shape, node)

    return [rule(op, why="a table of the 256 results is exact, and fast")(by_table) for op in FUNCTIONS]


def _gathered(node: Node, table: Value, index: Value) -> Value:
    return emit("GATHER", table.type.reshape(index.type.shape), table, index, like=node, axis=0, batch_dims=0)


def _numbers(value: Value, known: dict[Value, Array | None]) -> Array | None:
    """What ``value`` is for each of the 256 integers behind it; None if it is no function of one element."""
    if value not in known:
        quant = value.type.quant
        if value.data is not None:
            one = value.type.size == 1
            known[value] = None if not one else (value.array() if quant is None else dequantized(value.array(), quant)).reshape(())
        elif value.type.dtype is DType.UINT8 and quant is not None and quant.axis is None:
            known[value] = dequantized(np.arange(256), quant)
        else:
            known[value] = None if value.node is None else _computed(value.node, known)
    return known[value]


def _computed(node: Node, known: dict[Value, Array | None]) -> Array | None:
    """The results of an operator, each rounded to its type as the runtime would; float32 before it is quantized."""
    operands = [None if value is None else _numbers(value, known) for value in node.inputs]
    if node.op not in FUNCTIONS or any(numbers is None for numbers in operands):
        return None
    exact = [numbers.astype(np.float64) if numbers.dtype == np.float32 else numbers for numbers in operands if numbers is not None]
    with np.errstate(all="ignore"):  # in branches that are not taken
        bounds = ACTIVATIONS.get(node.attrs.get("fused_activation_function", "NONE"), UNBOUND)
        results = np.clip(FUNCTIONS[node.op](node.attrs, *exact), *bounds)
        return results.astype(np.float32 if node.out.type.quant is not None else node.out.type.dtype.numpy)


@rule("GATHER", "CAST", "GATHER", why="a table of a table is a table")
def table_of_table(node: Node, cast: Node, inner: Node) -> Replacement:
    outer, first = operand(node), operand(inner)
    if outer.data is None or first.data is None or not outer.type.shape == first.type.shape == (256,) or first.type.quant is None:
        return None
    return _gathered(node, Value(outer.type, outer.name, data=Constant.of(outer.array()[first.array()])), operand(inner, 1))
