"""Operators that a runtime lacks, made of those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...arithmetic import quantized
from ...ir import Constant, DType, Node, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.fuse import ACTIVATIONS
from ...optimize.layout import operand, reshape
from .common import float_type, present

NONE = {"fused_activation_function": "NONE"}
INTEGERS = (DType.INT32, DType.INT64)


@rule("HARD_SWISH", why="the runtime has no HARD_SWISH: x * relu6(x + 3) / 6")
def hard_swish_as_products(node: Node) -> Replacement:
    x = operand(node)
    if not x.type.dtype.is_float:
        return None
    gate = float_operator(node, "ADD", x, number(node, 3.0), fused_activation_function="RELU6")
    return float_operator(node, "MUL", float_operator(node, "MUL", x, gate, **NONE), number(node, 1 / 6), **NONE)


@rule("PRELU", why="the runtime has no PRELU: max(x, 0) + slope * min(x, 0)")
def prelu_as_sum(node: Node) -> Replacement:
    x, slope = operand(node), operand(node, 1)
    if not x.type.dtype.is_float:
        return None
    below = float_operator(node, "MUL", float_operator(node, "MINIMUM", x, number(node, 0.0)), slope, **NONE)
    return float_operator(node, "ADD", float_operator(node, "RELU", x), below, **NONE)


@rule("CEIL", why="the runtime has no CEIL, but FLOOR")
def ceil_as_floor(node: Node) -> Replacement:
    return float_operator(node, "NEG", float_operator(node, "FLOOR", float_operator(node, "NEG", operand(node))))


@rule("SIGN", why="the runtime has no SIGN, but comparisons")
def sign_as_comparisons(node: Node) -> Replacement:
    x = operand(node)
    if not x.type.dtype.is_float:
        return None
    above, below = (emit(op, replace(x.type, dtype=DType.BOOL), x, number(node, 0.0), like=node) for op in ("GREATER", "LESS"))
    one, other = (float_operator(node, "CAST", v, in_data_type="BOOL", out_data_type="FLOAT32") for v in (above, below))
    return float_operator(node, "SUB", one, other, **NONE)


@rule("SELECT_V2", why="the runtime chooses among floats only: y + (x - y) * which")
def select_as_sum(node: Node) -> Replacement:
    which, x, y = map(present, node.inputs)
    if x.type.dtype not in INTEGERS:
        return None
    factor = emit("CAST", replace(x.type, shape=which.type.shape), which, like=node, in_data_type="BOOL", out_data_type=x.type.dtype.name)
    apart = emit("SUB", replace(x.type, shape=np.broadcast_shapes(x.type.shape, y.type.shape)), x, y, like=node, **NONE)
    return emit("ADD", node.out.type, y, emit("MUL", node.out.type, apart, factor, like=node, **NONE), like=node, **NONE)


@rule("EQUAL", why="the runtime's sums, products and quotients end at the largest number, where they should be infinite")
def infinite_from_largest(node: Node) -> Replacement:
    bound = operand(node, 1)
    if bound.data is None or bound.type.dtype is not DType.FLOAT32 or bound.type.size != 1 or not np.isinf(bound.array()).all():
        return None
    above = bool(bound.array() > 0)
    largest = float(np.finfo(np.float32).max)
    return emit(
        "GREATER_EQUAL" if above else "LESS_EQUAL", node.out.type, operand(node), number(node, largest if above else -largest), like=node
    )


def extreme_as_choice(op: str, comparison: str) -> Rule:
    """MAXIMUM or MINIMUM of integers."""

    @rule(op, why="the runtime compares integers, but does not give the larger or smaller one")
    def choice(node: Node) -> Replacement:
        x, y = operand(node), operand(node, 1)
        if x.type.dtype not in INTEGERS:
            return None
        which = emit(comparison, replace(node.out.type, dtype=DType.BOOL), x, y, like=node)
        return emit("SELECT_V2", node.out.type, which, x, y, like=node)

    return choice


@rule("ABS", why="the runtime has no ABS of integers")
def abs_as_extreme(node: Node) -> Replacement:
    x = operand(node)
    return emit("MAXIMUM", x.type, x, emit("NEG", x.type, x, like=node), like=node) if x.type.dtype in INTEGERS else None


@rule("FLOOR_MOD", why="the runtime has no FLOOR_MOD of int32, but FLOOR_DIV")
def remainder_by_division(node: Node) -> Replacement:
    x, y = operand(node), operand(node, 1)
    if x.type.dtype is not DType.INT32:
        return None
    whole = emit("MUL", node.out.type, emit("FLOOR_DIV", node.out.type, x, y, like=node), y, like=node, **NONE)
    return emit("SUB", node.out.type, x, whole, like=node, **NONE)


@rule("FLOOR_DIV", why="the runtime has no FLOOR_DIV of int64; places found among elements fit int32")
def places_in_int32(node: Node) -> Replacement:
    if node.out.type.dtype is not DType.INT64:
        return None
    narrow = [_in_int32(node, operand(node, index)) for index in (0, 1)]
    if narrow[0] is None or narrow[1] is None:
        return None
    made = emit("FLOOR_DIV", replace(node.out.type, dtype=DType.INT32), *narrow, like=node)
    return emit("CAST", node.out.type, made, like=node, in_data_type="INT32", out_data_type="INT64")


def _in_int32(node: Node, value: Value) -> Value | None:
    """The same numbers in int32, where they are known to fit."""
    made, type_ = value.node, replace(value.type, dtype=DType.INT32)
    if value.data is not None:
        info, array = np.iinfo(np.int32), value.array()
        fits = bool((array >= info.min).all() and (array <= info.max).all())
        return replace(value, type=type_, data=value.data.map(lambda array: array.astype(np.int32))) if fits else None
    if made is not None and made.op == "CAST" and operand(made).type.dtype is DType.INT32:
        return operand(made)
    if made is not None and made.op in ("ARG_MAX", "ARG_MIN"):
        return emit(made.op, type_, *made.inputs, like=node, output_type="INT32")
    if made is not None and made.op in ("RESHAPE", "SLICE", "TRANSPOSE"):
        source = _in_int32(node, operand(made))
        return None if source is None else emit(made.op, type_, source, *made.inputs[1:], like=node, **made.attrs)
    return None


# Operators on elements whose kernels may count to four dimensions only.
BROADCASTING = (
    "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD", "SQUARED_DIFFERENCE", "EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS",
    "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "SELECT_V2",
)  # fmt: skip


def in_fewer_dimensions(runs: Callable[[Node], bool], ops: Sequence[str]) -> list[Rule]:
    """Neighbouring dimensions that all operands have, or the same ones lack, are one."""

    def merged(node: Node) -> Replacement:
        out = node.out.type
        if runs(node) or out.rank <= 4:
            return None
        inputs = list(map(present, node.inputs))
        shapes = [(*(1,) * (out.rank - v.type.rank), *v.type.shape) for v in inputs]
        groups: list[list[int]] = []
        for axis in (a for a in range(out.rank) if out.shape[a] != 1):
            alike = groups and all((s[axis] == 1) == (s[groups[-1][0]] == 1) for s in shapes)
            if alike:
                groups[-1].append(axis)
            else:
                groups.append([axis])
        if len(groups) > 4:
            return None
        few = [tuple(math.prod(s[axis] for axis in group) for group in groups) for s in shapes]
        narrow = [_reshaped(node, v, shape) for v, shape in zip(inputs, few, strict=True)]
        result = emit(node.op, out.reshape(np.broadcast_shapes(*few)), *narrow, like=node, **node.attrs)
        return reshape(result, out.shape, node)

    return [rule(op, why="the runtime is wrong, or refuses, above four dimensions")(merged) for op in ops]


def _reshaped(node: Node, value: Value, shape: tuple[int, ...]) -> Value:
    if value.data is None:
        return reshape(value, shape, node)
    return replace(value, type=value.type.reshape(shape), data=value.data.map(lambda array: array.reshape(shape)))


def number(node: Node, value: float) -> Value:
    return Value(Type((), DType.FLOAT32), f"{node.out.name}.number", data=Constant.of(np.array(value, np.float32)))


def float_operator(node: Node, op: str, *inputs: Value, **attrs: Any) -> Value:
    """A float operator with a result of the shape of the node's."""
    return emit(op, float_type(node.out.type), *inputs, like=node, **attrs)


def clamp_as_extremes(op: str, *dtypes: DType, why: str) -> Rule:
    """A clamp to constant bounds as MAXIMUM and MINIMUM, for integers of one scale or floats."""

    @rule(op, why=why)
    def extremes(node: Node) -> Replacement:
        x = operand(node)
        if x.type.dtype not in dtypes or x.type != node.out.type:
            return None
        for extreme, bound in zip(("MAXIMUM", "MINIMUM"), ACTIVATIONS[op], strict=True):
            if np.isfinite(bound):
                x = emit(extreme, x.type, x, _bound(node, bound), like=node)
        return x

    return extremes


def clamp_as_pool(op: str) -> Rule:
    """A clamp of images of int8 as the largest element of windows of one, which is clamped."""
    window: dict[str, Any] = {"filter_height": 1, "filter_width": 1, "stride_h": 1, "stride_w": 1, "padding": "VALID"}

    @rule(op, why="XNNPACK runs a pool of integers that clamps what it gives, but no clamp")
    def pool(node: Node) -> Replacement:
        x = operand(node)
        if x.type.dtype is not DType.INT8 or x.type != node.out.type or x.type.rank != 4:
            return None
        return emit("MAX_POOL_2D", x.type, x, like=node, fused_activation_function=op, **window)

    return pool


def _bound(node: Node, bound: float) -> Value:
    type_ = replace(node.out.type, shape=())
    array = np.array(bound, np.float32) if type_.quant is None else quantized(np.array(bound), type_)
    return Value(type_, f"{node.out.name}.bound", data=Constant.of(np.asarray(array)))
