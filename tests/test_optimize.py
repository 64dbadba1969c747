"""Each rewrite where it fires, where it must not, and that it changes no number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from cases import CASES
from conftest import every
from evaluate import evaluate
from torch2circle.errors import Bug
from torch2circle.ir import Constant, DType, Graph, Node, Origin, Quant, Type, Value
from torch2circle.optimize import RULES, Rule, optimize, rewrite, rule, share
from torch2circle.optimize.engine import emit
from torch2circle.targets import TARGETS, rewritten
from torch2circle.targets.rules import angles, islands, moves, normal, pools, reductions, substitutes, tables, weighted

F32, I8, U8, I16, I32, I64, BOOL = DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64, DType.BOOL
# Without a common divisor, so that no result lies half way between two integers.
A, B, UNIT = Quant.per_tensor(0.0311713, 12), Quant.per_tensor(0.0469127, -3), Quant.per_tensor(1 / 256, 0)
POOL = {"padding": "VALID", "filter_height": 1, "filter_width": 3, "stride_h": 1, "stride_w": 2, "fused_activation_function": "NONE"}
CONV = {"padding": "VALID", "stride_h": 1, "stride_w": 1, "fused_activation_function": "NONE"}
LINEAR = {"keep_num_dims": False, "fused_activation_function": "NONE"}
NONE = {"fused_activation_function": "NONE"}
MASKS = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)


# ---- tiny graphs


def given(*shape: int, dtype: DType = F32, quant: Quant | None = None) -> Value:
    """A graph input."""
    return Value(Type(shape, dtype, quant), "x")


def number(data: Any, dtype: DType = I32, quant: Quant | None = None) -> Value:
    """A constant."""
    array = np.asarray(data, dtype.numpy)
    return Value(Type(array.shape, dtype, quant), "constant", data=Constant.of(array))


def noise(*shape: int, dtype: DType = F32, quant: Quant | None = None) -> Value:
    """A constant weight."""
    rng = np.random.default_rng(7)
    lowest = 0 if dtype is U8 else -100
    return number(rng.uniform(-2, 2, shape) if dtype is F32 else rng.integers(lowest, lowest + 200, shape), dtype, quant)


def node(op: str, type_: Type | Value, *inputs: Value, **attrs: Any) -> Value:
    return emit(op, type_.type if isinstance(type_, Value) else type_, *inputs, **attrs)


def graph(*outputs: Value) -> Graph:
    reached = [v for n in Graph((), outputs, (), ()).nodes() for v in n.inputs if v is not None and v.node is None and v.data is None]
    inputs = tuple(dict.fromkeys(reached))
    return Graph(inputs, outputs, tuple(f"x{i}" for i in range(len(inputs))), tuple(f"y{i}" for i in range(len(outputs))))


def transposed(x: Value, *perm: int) -> Value:
    return node("TRANSPOSE", x.type.permute(perm), x, number(perm))


def sliced(x: Value, *begin: int) -> Value:
    sizes = [size - start for size, start in zip(x.type.shape, begin, strict=True)]
    return node("SLICE", x.type.reshape(sizes), x, number(begin), number(sizes))


def reshaped(x: Value, *shape: int) -> Value:
    return node("RESHAPE", x.type.reshape(shape), x, number(shape), new_shape=list(shape))


def dequantized(x: Value) -> Value:
    return node("DEQUANTIZE", Type(x.type.shape, F32), x)


def as_int8(x: Value, quant: Quant) -> Value:
    return node("QUANTIZE", Type(x.type.shape, I8, quant), x)


def conv(x: Value, weight: Value, bias: Value | None = None, out: Quant | None = None, **attrs: Any) -> Value:
    """CONV_2D or, for a weight [1, H, W, C], DEPTHWISE_CONV_2D."""
    depthwise = weight.type.shape[0] == 1
    channels = weight.type.shape[3 if depthwise else 0]
    shape = (x.type.shape[0], x.type.shape[1] - weight.type.shape[1] + 1, x.type.shape[2] - weight.type.shape[2] + 1, channels)
    extra = {"depth_multiplier": 1} if depthwise else {}
    bias = bias or (noise(channels) if x.type.quant is None else number([0] * channels))
    op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    return node(op, Type(shape, x.type.dtype, out), x, weight, bias, **{**CONV, **extra, **attrs})


def linear(x: Value, weight: Value, bias: Value | None = None, out: Quant | None = None, **attrs: Any) -> Value:
    units = weight.type.shape[0]
    bias = bias or (noise(units) if x.type.quant is None else number([0] * units))
    keep = x.type.rank > 2
    rows = x.type.shape[:-1] if keep else (x.type.size // weight.type.shape[1],)
    return node("FULLY_CONNECTED", Type((*rows, units), x.type.dtype, out), x, weight, bias, **{**LINEAR, "keep_num_dims": keep, **attrs})


def per_channel(count: int, axis: int = 0) -> Quant:
    return Quant(np.linspace(0.011, 0.057, count, dtype=np.float32), np.zeros(count, np.int64), axis)


# ---- one example a rule


@dataclass(frozen=True)
class Example:
    """``fires`` in as many ways as a rule matches, ``misses`` nearly match it; ``leaves`` are the operators afterwards."""

    rule: Rule
    fires: Callable[[], Graph]
    misses: Sequence[Callable[[], Graph]]
    leaves: str = ""


def clean(name: str, *chain: str) -> Rule:
    return next(r for r in RULES if r.name == name and r.chain[: len(chain)] == chain)


def padded(x: Value, fill: Any, amounts: Any = ((0, 0), (1, 1), (1, 0), (0, 0))) -> Value:
    """``x`` [N, H, W, C] with a PADV2 around it."""
    shape = tuple(size + sum(pads) for size, pads in zip(x.type.shape, amounts, strict=True))
    return node("PADV2", x.type.reshape(shape), x, number(amounts), number(fill, x.type.dtype, x.type.quant))


def pooled(x: Value, fill: float, amounts: Any = ((0, 0), (1, 1), (0, 0), (0, 0))) -> Graph:
    """The largest of two rows and three columns of ``x`` [N, H, W, C] with a border."""
    x = padded(x, fill, amounts)
    n, h, w, c = x.type.shape
    attrs = {**POOL, "filter_height": 2, "stride_w": 1}
    return graph(node("MAX_POOL_2D", x.type.reshape((n, h - 1, w - 2, c)), x, **attrs))


def times(x: Value, op: str, data: Any, **attrs: Any) -> Value:
    """A float MUL or ADD with a constant."""
    return node(op, x, x, number(data, F32), **{**NONE, **attrs})


def moved(mover: str, x: Value) -> Value:
    """A RESHAPE or SLICE that keeps the last axis of a matrix."""
    if mover == "RESHAPE":
        return reshaped(x, 2, x.type.shape[0] // 2, x.type.shape[1])
    return sliced(x, 1, 0)


def layer_in_front(op: str, x: Value) -> Value:
    """A layer on an image of three channels."""
    if op == "FULLY_CONNECTED":
        return linear(x, noise(7, 3))
    return conv(x, noise(1, 2, 2, 6), depth_multiplier=2) if op == "DEPTHWISE_CONV_2D" else conv(x, noise(5, 2, 2, 3))


def as_float(x: Value) -> Value:
    return node("CAST", Type(x.type.shape, F32), x, in_data_type=x.type.dtype.name, out_data_type="FLOAT32")


def mover_of(op: str, x: Value) -> Value:
    """An operator that moves elements of [2, 4, 5, 3]."""
    if op == "STRIDED_SLICE":
        return node(op, x.type.reshape((2, 4, 3, 3)), x, number([0] * 4), number([2, 4, 5, 3]), number([1, 1, 2, 1]), **MASKS)
    if op == "GATHER":
        return node(op, x.type.reshape((2, 2, 5, 3)), x, number([3, 1]), axis=1, batch_dims=0)
    return {"RESHAPE": reshaped(x, 8, 15), "TRANSPOSE": transposed(x, 0, 3, 1, 2), "SLICE": sliced(x, 0, 1, 2, 0)}[op]


def places(x: Value) -> Value:
    return node("ARG_MAX", Type(x.type.shape[:-1], I64), x, number(-1), output_type="INT64")


def rms_normed(x: Value, axis: int = -1, other: Value | None = None) -> Value:
    """``other`` is what is squared instead of ``x``."""
    squared = node("MUL", x, other or x, other or x, **NONE)
    axis %= x.type.rank
    shape = [1 if d == axis else size for d, size in enumerate(x.type.shape)]
    mean = node("MEAN", x.type.reshape(shape), squared, number([axis]), keep_dims=True)
    return node("MUL", x, x, node("RSQRT", mean, times(mean, "ADD", 0.25)), **NONE)


def gelu_by_tanh(x: Value, slope: float = 0.7978845608, half: float = 0.5, other: Value | None = None) -> Value:
    """``other`` is what is cubed instead of ``x``."""
    y = other or x
    cube = node("MUL", x, node("MUL", x, y, y, **NONE), y, **NONE)
    inner = node("ADD", x, x, times(cube, "MUL", 0.044715), **NONE)
    total = times(node("TANH", x, times(inner, "MUL", slope)), "ADD", 1)
    return node("MUL", x, times(x, "MUL", half), total, **NONE)


def normed(x: Value) -> Value:
    return node("RMS_NORM", x, x, noise(x.type.shape[-1]), epsilon=0.25)


def activated(x: Value) -> Value:
    assert x.node is not None
    return x.node.rebuilt(attrs={**x.node.attrs, "fused_activation_function": "RELU"}).out


def relu(op: str, scale: float, zero_point: int, dtype: DType = U8) -> Callable[[], Graph]:
    x = given(2, 3, dtype=dtype, quant=Quant.per_tensor(scale, zero_point))
    return lambda: graph(node(op, x, x))


def behind(op: str, producer: str, act: str = "NONE", out: Quant = A) -> Callable[[], Graph]:
    """An activation behind an operator on int8."""
    x, y = given(2, 3, dtype=I8, quant=B), given(2, 3, dtype=I8, quant=A)
    made = node(producer, Type((2, 3), I8, A), x, y, fused_activation_function=act)
    return lambda: graph(node(op, Type((2, 3), I8, out), made))


def image(*shape: int) -> Value:
    return given(*(shape or (2, 4, 5, 3)))


def twice(inner: Value, outer: Callable[[Value], Value]) -> Graph:
    """An operand that somebody else reads too."""
    return graph(outer(inner), inner)


def in_float(op: str, producer: Callable[[], Value], other: Any, **attrs: Any) -> Callable[[], Graph]:
    def made() -> Graph:
        x = producer()
        return graph(node(op, x, x, number(other, F32), **{**NONE, **attrs}))

    return made


MOVERS = ("MAX_POOL_2D", "SLICE", "STRIDED_SLICE", "SPLIT", "GATHER", "PAD", "PADV2", "RESHAPE", "TRANSPOSE")


def requantizing(op: str, out: Quant, dtype: DType = U8) -> Graph:
    """An operator that only moves integers, from ``A`` to ``out``."""
    x = given(2, 4, 6, 3, dtype=dtype, quant=A)
    shapes: dict[str, tuple[tuple[int, ...], Sequence[Value], dict[str, Any]]] = {
        "MAX_POOL_2D": ((2, 4, 2, 3), [], POOL),
        "SLICE": ((2, 4, 5, 3), [number([0, 0, 1, 0]), number([2, 4, 5, 3])], {}),
        "STRIDED_SLICE": ((2, 4, 3, 3), [number([0, 0, 1, 0]), number([2, 4, 6, 3]), number([1, 1, 2, 1])], MASKS),
        "GATHER": ((2, 4, 4, 3), [number([3, 0, 5, 5])], {"axis": 2, "batch_dims": 0}),
        "PAD": ((2, 5, 8, 3), [number([[0, 0], [1, 0], [0, 2], [0, 0]])], {}),
        "PADV2": ((2, 5, 8, 3), [number([[0, 0], [1, 0], [0, 2], [0, 0]]), number(77, dtype, A)], {}),
        "RESHAPE": ((8, 18), [number([8, 18])], {"new_shape": [8, 18]}),
        "TRANSPOSE": ((2, 3, 6, 4), [number([0, 3, 2, 1])], {}),
    }
    if op == "SPLIT":
        parts = [Value(Type((2, 4, 3, 3), dtype, out), f"part{i}") for i in range(2)]
        return graph(*Node.make("SPLIT", (number(2), x), parts, {"num_splits": 2}).outputs)
    shape, others, attrs = shapes[op]
    return graph(node(op, Type(shape, dtype, out), x, *others, **attrs))


ATTRS: dict[str, dict[str, Any]] = {"SOFTMAX": {"beta": 1.0}, "LEAKY_RELU": {"alpha": 0.1713}, "GELU": {"approximate": False}}
ALONE = ("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "ELU", "GELU", "HARD_SWISH", "LOGISTIC", "TANH", "SOFTMAX", "MEAN", "STRIDED_SLICE")


def in_int8(op: str) -> Graph:
    """An operator of the islands on int8."""
    x, y = given(2, 4, 6, 3, dtype=I8, quant=A), given(2, 4, 6, 3, dtype=I8, quant=Quant.per_tensor(0.02, -128))
    if op == "STRIDED_SLICE":
        return requantizing(op, A, I8)
    if op == "MEAN":
        return graph(node(op, Type((2, 6), I8, B), x, number([1, 3]), keep_dims=False))
    if op in ALONE:
        return graph(node(op, Type(x.type.shape, I8, B), x, **ATTRS.get(op, {})))
    if op == "PRELU":
        return graph(node(op, Type(x.type.shape, I8, B), x, noise(1, 1, 1, 3, dtype=I8, quant=SYMMETRIC)))
    if op == "BATCH_MATMUL":
        return graph(node(op, Type((2, 4, 6, 6), I8, B), x, y, adjoint_lhs=False, adjoint_rhs=True))
    if op == "SELECT_V2":
        return graph(node(op, Type(x.type.shape, I8, B), given(4, 1, 3, dtype=BOOL), x, y))
    return graph(node(op, Type(x.type.shape, I8, B), x, node("ADD", y, y, number(30, I8, A), **NONE), **NONE))


def flattened(perm: tuple[int, ...], weight: Value | None = None, flat: tuple[int, ...] = (2, 60)) -> Graph:
    x = image(*(np.array([2, 4, 5, 3])[np.argsort(perm)]))
    units = weight or noise(7, flat[1])
    return graph(linear(reshaped(transposed(x, *perm), *flat), units))


def island_of(op: str) -> str:
    if op in (*ALONE, "PRELU"):
        return f"DEQUANTIZE {op} QUANTIZE"
    operands = "DEQUANTIZE DEQUANTIZE" if op in ("SELECT_V2", "BATCH_MATMUL") else "DEQUANTIZE ADD DEQUANTIZE"
    return f"{operands} {op} QUANTIZE"


AFFINE, SYMMETRIC = Quant.per_tensor(0.0171, 9), Quant.per_tensor(0.0171, 0)
IN_F32, IN_I8 = (lambda: image(), lambda: given(2, 4, 5, 3, dtype=I8, quant=A))
ISLANDS = {op: next(r for r in islands.island(lambda node: False, [op])) for op in islands.ISLANDS}
LOOKUPS = {r.chain[0]: r for r in tables.lookups(lambda node: node.op == "TANH")}


def one_byte(op: str, dtype: DType, out: DType | None = None) -> Graph:
    x = given(5, 7, dtype=dtype, quant=None if dtype is F32 else A)
    return graph(node(op, Type((5, 7), out or dtype, None if (out or dtype) is F32 else B), x, **ATTRS.get(op, {})))


def in_a_row(*, spread: bool = False, others: bool = False) -> Graph:
    """``2.5 - relu(x) * x`` in float, of a uint8 tensor and numbers; ``spread``: one of these is a row, ``others``: two tensors."""
    x = given(5, 7, dtype=U8, quant=A)
    real, other = dequantized(x), dequantized(given(5, 7, dtype=U8, quant=B) if others else x)
    product = node("MUL", real, node("RELU", real, real), other, **NONE)
    total = node("SUB", real, number([2.5] * 7 if spread else 2.5, F32), product, **NONE)
    return graph(node("QUANTIZE", Type((5, 7), U8, A), total))


def looked_up_twice(rows: int = 256) -> Graph:
    x = given(5, 7, dtype=U8, quant=A)
    for size in (256, rows):
        index = node("CAST", Type((5, 7), I32), x, in_data_type="UINT8", out_data_type="INT32")
        table = number(np.random.default_rng(size).permutation(size) % 256, U8, A)
        x = node("GATHER", Type((5, 7), U8, A), table, index, axis=0, batch_dims=0)
    return graph(x)


def on_integers(op: str, out: DType = I32, dtype: DType = I32) -> Graph:
    """An operator of two operands that are no bytes."""
    return graph(node(op, Type((5, 7), out), given(5, 7, dtype=dtype), number(range(7), dtype)))


def in_many_dimensions(*shape: int) -> Graph:
    return graph(node("MAXIMUM", image(2, 3, 5, 4, 3), image(2, 3, 5, 4, 3), image(*shape)))


def compared(op: str, quant: Quant) -> Graph:
    x, y = (dequantized(given(5, 7, dtype=I8, quant=q)) for q in (A, quant))
    return graph(node(op, Type((5, 7), BOOL), x, y))


def weighted_in_int8(op: str, quant: Quant) -> Graph:
    if op == "FULLY_CONNECTED":
        return graph(linear(given(5, 4, dtype=I8, quant=A), noise(3, 4, dtype=I8, quant=quant), out=B))
    return graph(conv(IN_I8(), noise(*((1 if op.startswith("DEPTH") else 3), 2, 2, 3), dtype=I8, quant=quant), out=B))


def on_wide(dtype: DType, stored: DType = U8) -> Graph:
    """A convolution of int16 or uint8 with the weights that the target has next to uint8."""
    weight = Quant.per_tensor(0.011, 128 if stored is U8 else 0)
    return graph(conv(given(2, 4, 5, 3, dtype=dtype, quant=UNIT), noise(3, 2, 2, 3, dtype=stored, quant=weight), out=UNIT))


def in_float_alone(op: str) -> Graph:
    """The same operator without integers."""
    (out,) = in_int8(op).outputs
    assert out.node is not None
    bare = [v if v.type.quant is None else given(*v.type.shape) for v in out.node.inputs if v is not None]
    return graph(node(op, Type(out.type.shape, F32), *bare, **out.node.attrs))


EXAMPLES = [
    Example(
        clean("merge_transposes", "TRANSPOSE"),
        lambda: graph(transposed(transposed(image(), 0, 3, 1, 2), 3, 1, 0, 2)),
        [lambda: twice(transposed(image(), 0, 3, 1, 2), lambda x: transposed(x, 3, 1, 0, 2))],
        "TRANSPOSE",
    ),
    Example(
        clean("drop_identity_transpose", "TRANSPOSE"),
        lambda: graph(transposed(image(), 0, 1, 2, 3)),
        [lambda: graph(transposed(image(2, 2), 1, 0))],
    ),
    Example(
        clean("transpose_to_reshape", "TRANSPOSE"),
        lambda: graph(transposed(image(2, 1, 5, 1), 0, 3, 2, 1)),
        [lambda: graph(transposed(image(2, 1, 5, 1), 2, 1, 0, 3)), lambda: graph(transposed(image(2, 1), 0, 1))],
        "RESHAPE",
    ),
    Example(
        clean("merge_reshapes", "RESHAPE"),
        lambda: graph(reshaped(reshaped(image(), 8, 15), 3, 40)),
        [lambda: twice(reshaped(image(), 8, 15), lambda x: reshaped(x, 3, 40))],
        "RESHAPE",
    ),
    *(
        Example(
            clean("cast_before_moving", "CAST", op),
            lambda op=op: graph(as_float(mover_of(op, given(2, 4, 5, 3, dtype=U8)))),
            [
                lambda op=op: graph(as_float(mover_of(op, given(2, 4, 5, 3, dtype=I32)))),
                lambda op=op: twice(mover_of(op, given(2, 4, 5, 3, dtype=U8)), as_float),
            ],
            f"CAST {op}",
        )
        for op in ("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "GATHER")
    ),
    Example(
        clean("drop_concatenation_of_one", "CONCATENATION"),
        lambda: graph(node("CONCATENATION", image(), image(), axis=1, **NONE)),
        [lambda: graph(node("CONCATENATION", given(2, 3, dtype=I8, quant=A), given(2, 3, dtype=I8, quant=B), axis=1, **NONE))],
    ),
    Example(
        clean("drop_identity_reshape", "RESHAPE"),
        lambda: graph(reshaped(image(), 2, 4, 5, 3)),
        [lambda: graph(reshaped(image(), 2, 5, 4, 3))],
    ),
    Example(
        clean("transpose_integers", "TRANSPOSE"),
        lambda: graph(transposed(dequantized(IN_I8()), 0, 3, 1, 2)),
        [
            lambda: twice(dequantized(IN_I8()), lambda x: transposed(x, 0, 3, 1, 2)),
            lambda: graph(dequantized(transposed(IN_I8(), 0, 3, 1, 2))),
        ],
        "TRANSPOSE DEQUANTIZE",
    ),
    Example(
        clean("reshape_integers", "RESHAPE"),
        lambda: graph(reshaped(dequantized(IN_I8()), 8, 15)),
        [lambda: twice(dequantized(IN_I8()), lambda x: reshaped(x, 8, 15)), lambda: graph(dequantized(reshaped(IN_I8(), 8, 15)))],
        "RESHAPE DEQUANTIZE",
    ),
    Example(
        clean("permute_weight_columns", "FULLY_CONNECTED"),
        lambda: flattened((0, 3, 1, 2)),
        [
            lambda: flattened((3, 0, 1, 2), flat=(3, 40)),
            lambda: flattened((0, 3, 1, 2), flat=(4, 30)),
            lambda: flattened((0, 3, 1, 2), weight=given(7, 60)),
        ],
        "RESHAPE FULLY_CONNECTED",
    ),
    Example(clean("drop_activation", "RELU"), relu("RELU", 0.1, 0), [relu("RELU", 0.1, 1), relu("RELU", 0.1, 0, I8)]),
    Example(clean("drop_activation", "RELU6"), relu("RELU6", 6 / 255, 0), [relu("RELU6", 6.1 / 255, 0), relu("RELU6", 6 / 255, 1)]),
    Example(
        clean("fuse_activation", "RELU"),
        behind("RELU", "ADD"),
        [behind("RELU", "ADD", act="RELU6"), behind("RELU", "ADD", out=B), behind("RELU", "MAXIMUM")],
        "ADD",
    ),
    Example(
        clean("fuse_activation", "RELU6"),
        behind("RELU6", "MUL"),
        [behind("RELU6", "MUL", act="RELU"), behind("RELU6", "MUL", out=B), behind("RELU6", "MINIMUM")],
        "MUL",
    ),
    Example(
        clean("fold_factor", "MUL"),
        in_float("MUL", lambda: conv(image(), noise(1, 2, 2, 3)), [[[[0.5, -2, 3]]]], fused_activation_function="RELU"),
        [
            in_float("MUL", lambda: conv(image(2, 4, 4, 3), noise(3, 2, 2, 3)), [[[1], [2], [3]]]),  # along the width, of equal size
            in_float("MUL", lambda: conv(image(), noise(3, 2, 2, 3), fused_activation_function="RELU"), [0.5, -2, 3]),
            lambda: twice(conv(image(), noise(3, 2, 2, 3)), lambda x: node("MUL", x, x, number([1, 2, 3], F32), **NONE)),
            in_float("MUL", lambda: node("ADD", image(), image(), image(), **NONE), [0.5, -2, 3]),
            in_float("MUL", lambda: conv(image(), given(3, 2, 2, 3)), [0.5, -2, 3]),
        ],
        "DEPTHWISE_CONV_2D",
    ),
    Example(
        clean("fold_offset", "ADD"),
        in_float("ADD", lambda: linear(image(5, 4), noise(3, 4)), [0.5, -2, 3], fused_activation_function="RELU6"),
        [
            in_float("ADD", lambda: linear(image(3, 4), noise(3, 4)), [[0.5], [-2], [3]]),  # along the rows, of equal size
            in_float("ADD", lambda: linear(image(5, 4), noise(3, 4), fused_activation_function="RELU"), [0.5, -2, 3]),
            in_float("ADD", lambda: linear(image(5, 4), noise(3, 4), given(3)), [0.5, -2, 3]),
        ],
        "FULLY_CONNECTED",
    ),
    *(
        Example(
            clean("nearer_to_the_layer", op, mover),
            lambda op=op, mover=mover: graph(times(moved(mover, linear(image(6, 4), noise(3, 4))), op, [0.5, -2, 3])),
            [
                lambda op=op, mover=mover: graph(times(moved(mover, image(6, 3)), op, [0.5, -2, 3])),
                lambda op=op, mover=mover: graph(times(moved(mover, activated(linear(image(6, 4), noise(3, 4)))), op, [0.5, -2, 3])),
                lambda op=op: graph(times(reshaped(linear(image(6, 4), noise(8, 4)), 12, 4), op, [1, 2, 3, 4])),
                lambda op=op: graph(times(reshaped(linear(image(6, 4), noise(3, 4)), 2, 3, 3), op, [[1], [2], [3]])),
            ],
            f"FULLY_CONNECTED {op} {mover}",
        )
        for op in ("MUL", "ADD")
        for mover in ("RESHAPE", "SLICE")
    ),
    *(
        Example(
            clean(name, op, kind),
            lambda op=op, kind=kind: graph(layer_in_front(op, times(image(), kind, [0.5, -2, 3]))),
            [
                lambda op=op, kind=kind: twice(times(image(), kind, [0.5, -2, 3]), lambda x: layer_in_front(op, x)),
                lambda op=op, kind=kind: graph(layer_in_front(op, times(image(), kind, [0.5, -2, 3], fused_activation_function="RELU"))),
                lambda op=op, kind=kind: graph(layer_in_front(op, times(image(2, 3, 3, 3), kind, [[[1]], [[2]], [[3]]]))),  # along the rows
            ],
            op,
        )
        for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        for kind, name in (("MUL", "factor_in_front"), ("ADD", "offset_in_front"))
    ),
    Example(
        clean("merge_around_reshape", "TRANSPOSE"),
        lambda: graph(transposed(reshaped(transposed(image(2, 4, 5, 6), 0, 2, 1, 3), 2, 5, 24), 2, 0, 1)),
        [
            lambda: graph(transposed(reshaped(transposed(image(2, 4, 5, 6), 0, 2, 1, 3), 4, 60), 1, 0)),  # none of either stays whole
            lambda: graph(reshaped(transposed(image(2, 4, 5, 6), 0, 2, 1, 3), 10, 24)),
        ],
        "RESHAPE TRANSPOSE RESHAPE",
    ),
    Example(
        clean("drop_identity_quantize", "QUANTIZE"),
        lambda: graph(as_int8(given(2, 3, dtype=I8, quant=A), A)),
        [lambda: graph(as_int8(given(2, 3, dtype=I8, quant=A), B)), lambda: graph(as_int8(given(2, 3, dtype=U8, quant=A), A))],
    ),
    Example(
        clean("drop_round_trip", "QUANTIZE"),
        lambda: graph(as_int8(dequantized(given(2, 3, dtype=I8, quant=A)), A)),
        [
            lambda: graph(as_int8(dequantized(given(2, 3, dtype=I8, quant=A)), B)),
            lambda: graph(as_int8(dequantized(given(2, 3, dtype=U8, quant=A)), A)),
        ],
    ),
    Example(
        clean("pad_with_zero", "PADV2"),
        lambda: graph(padded(given(2, 4, 5, 3, dtype=I8, quant=A), 12)),
        [
            lambda: graph(padded(given(2, 4, 5, 3, dtype=I8, quant=A), -128)),
            lambda: graph(padded(given(2, 4, 5, 3), -1)),
            lambda: graph(padded(given(2, 4, 5, 3, dtype=I8), 0)),  # that runtimes pad with is not known
        ],
        "PAD",
    ),
    Example(
        clean("pool_padded_with_zero", "MAX_POOL_2D"),
        lambda: pooled(node("RELU", Type((2, 4, 5, 3), F32), given(2, 4, 5, 3)), -1e30),
        [
            lambda: pooled(given(2, 4, 5, 3), -1e30),
            lambda: pooled(node("RELU", Type((2, 4, 5, 3), F32), given(2, 4, 5, 3)), 1.5),
            lambda: pooled(node("RELU_N1_TO_1", Type((2, 4, 5, 3), F32), given(2, 4, 5, 3)), -1e30),
            # windows without an element of the operand
            lambda: pooled(node("RELU", Type((2, 4, 5, 3), F32), given(2, 4, 5, 3)), -1e30, ((0, 0), (2, 0), (0, 0), (0, 0))),
        ],
        "RELU PAD MAX_POOL_2D",
    ),
    # -- of the targets
    Example(
        weighted.per_channel_linear_as_conv,
        lambda: graph(linear(given(5, 4, dtype=I8, quant=A), noise(3, 4, dtype=I8, quant=per_channel(3)), out=B)),
        [lambda: graph(linear(given(5, 4, dtype=I8, quant=A), noise(3, 4, dtype=I8, quant=SYMMETRIC), out=B))],
        "RESHAPE CONV_2D RESHAPE",
    ),
    Example(
        weighted.linear_on_a_matrix,
        lambda: graph(linear(image(2, 5, 4), noise(3, 4))),
        [lambda: graph(linear(image(5, 4), noise(3, 4)))],
        "RESHAPE FULLY_CONNECTED RESHAPE",
    ),
    Example(
        reductions.fewer_dimensions[0],
        lambda: graph(node("MEAN", Type((2, 4), F32), image(), number([2, 3]), keep_dims=False)),
        [
            lambda: graph(node("MEAN", Type((2, 3), F32), image(), number([1, 2]), keep_dims=False)),
            lambda: graph(node("MEAN", Type((2, 4, 1, 1), F32), image(), number([2, 3]), keep_dims=True)),
            lambda: graph(node("MEAN", Type((2, 4), F32), image(2, 4, 5), number([2]), keep_dims=False)),
        ],
        "RESHAPE MEAN RESHAPE",
    ),
    Example(
        weighted.grouped_conv_as_many,
        lambda: graph(conv(given(2, 4, 5, 6, dtype=I8, quant=A), noise(9, 2, 2, 2, dtype=I8, quant=per_channel(9)), out=B)),
        [lambda: graph(conv(given(2, 4, 5, 2, dtype=I8, quant=A), noise(9, 2, 2, 2, dtype=I8, quant=per_channel(9)), out=B))],
        "SPLIT CONV_2D CONV_2D CONV_2D CONCATENATION",
    ),
    *(
        Example(
            r,
            lambda r=r: requantizing(r.chain[0], B),
            [lambda r=r: requantizing(r.chain[0], A)],
            f"{r.chain[0]} QUANTIZE{' QUANTIZE' * (r.chain[0] == 'SPLIT')}",
        )
        for r in moves.move_then_requantize
        if r.chain[0] in MOVERS
    ),
    Example(
        moves.requantize_before_joining,
        lambda: graph(node("CONCATENATION", Type((4, 3), I8, B), *(given(2, 3, dtype=I8, quant=q) for q in (A, B)), axis=0, **NONE)),
        [lambda: graph(node("CONCATENATION", Type((4, 3), I8, B), *(given(2, 3, dtype=I8, quant=B) for _ in "ab"), axis=0, **NONE))],
        "QUANTIZE CONCATENATION",
    ),
    Example(
        moves.requantize_through_float,
        lambda: one_byte("QUANTIZE", I8),
        [lambda: one_byte("QUANTIZE", F32, I8), lambda: one_byte("QUANTIZE", U8, I8)],
        "DEQUANTIZE QUANTIZE",
    ),
    Example(
        moves.strided_slice_as_gather,
        lambda: requantizing("STRIDED_SLICE", A),
        [
            lambda: graph(node("STRIDED_SLICE", Type((1, 2), F32), image(2, 4), number([0, 0]), number([1, 4]), number([1, 2]), **MASKS)),
            lambda: graph(
                node(
                    "STRIDED_SLICE",
                    Type((1, 2), U8, A),
                    given(2, 4, dtype=U8, quant=A),
                    number([0, 0]),
                    number([2, 4]),
                    number([2, 2]),
                    **MASKS,
                )
            ),
        ],
        "GATHER",
    ),
    *(
        Example(
            r,
            lambda op=op: one_byte(op, U8),
            [lambda op=op: one_byte(op, I8), lambda op=op: one_byte(op, F32, U8 if op == "QUANTIZE" else F32)],
            "RESHAPE CAST GATHER RESHAPE",
        )
        for op, r in LOOKUPS.items()
        if op in ("QUANTIZE", "RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "ELU", "GELU", "HARD_SWISH", "LOGISTIC", "ABS", "ROUND")
    ),
    Example(
        replace(LOOKUPS["QUANTIZE"], name="by_table_of_floats"),
        in_a_row,
        [lambda: in_a_row(spread=True), lambda: in_a_row(others=True), lambda: one_byte("QUANTIZE", F32, U8)],
        "RESHAPE CAST GATHER RESHAPE",
    ),
    Example(tables.table_of_table, looked_up_twice, [lambda: looked_up_twice(300)], "CAST GATHER"),
    *(
        Example(
            clean("compare_integers", op),
            lambda op=op: compared(op, A),
            [lambda op=op: compared(op, B)],
            op,
        )
        for op in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")
    ),
    Example(
        substitutes.prelu_as_sum,
        lambda: graph(node("PRELU", image(), image(), noise(3))),
        [lambda: in_int8("PRELU")],
        "RELU MINIMUM MUL ADD",
    ),
    Example(substitutes.ceil_as_floor, lambda: graph(node("CEIL", image(), image())), [], "NEG FLOOR NEG"),
    Example(
        substitutes.sign_as_comparisons,
        lambda: graph(node("SIGN", image(), image())),
        [lambda: graph(node("SIGN", Type((5, 7), I32), given(5, 7, dtype=I32)))],
        "GREATER CAST LESS CAST SUB",
    ),
    *(
        Example(
            substitutes.clamp_as_extremes(op, I8, why=""),
            lambda op=op: graph(node(op, IN_I8(), IN_I8())),
            [lambda op=op: graph(node(op, image(), image())), lambda op=op: graph(node(op, given(2, 4, 5, 3, dtype=I8, quant=B), IN_I8()))],
            "MAXIMUM" if op == "RELU" else "MAXIMUM MINIMUM",
        )
        for op in ("RELU", "RELU6", "RELU_N1_TO_1")
    ),
    Example(
        clean("gelu", "MUL"),
        lambda: graph(gelu_by_tanh(image(2, 5))),
        [
            lambda: graph(gelu_by_tanh(image(2, 5), slope=0.79)),
            lambda: graph(gelu_by_tanh(image(2, 5), half=0.4)),
            lambda: graph(gelu_by_tanh(image(2, 5), other=given(2, 5))),
        ],
        "GELU",
    ),
    Example(
        normal.root_mean_square_norm,
        lambda: graph(rms_normed(image(2, 5, 7))),
        [
            lambda: graph(rms_normed(image(2, 7, 7), axis=1)),
            lambda: graph(rms_normed(image(2, 5, 7), other=given(2, 5, 7))),
            lambda: graph(rms_normed(image(5, 7))),
        ],
        "RMS_NORM",
    ),
    Example(
        normal.factor_of_norm,
        lambda: graph(times(normed(image(2, 3, 3)), "MUL", [0.5, -2, 3])),
        [
            lambda: graph(times(normed(image(2, 3, 3)), "MUL", [[0.5], [-2], [3]])),  # a factor for each row
            lambda: twice(normed(image(2, 3, 3)), lambda x: times(x, "MUL", [0.5, -2, 3])),
        ],
        "RMS_NORM",
    ),
    Example(
        substitutes.infinite_from_largest,
        lambda: graph(node("EQUAL", Type((2, 3), BOOL), image(2, 3), number(np.inf, F32))),
        [lambda: graph(node("EQUAL", Type((2, 3), BOOL), image(2, 3), number(7, F32))), lambda: compared("EQUAL", A)],
        "GREATER_EQUAL",
    ),
    Example(
        angles.arc_as_series,
        lambda: graph(node("ATAN2", image(5, 7), image(5, 7), given(5, 7))),
        [],
        f"LESS LESS ABS ABS LESS MINIMUM MAXIMUM MAXIMUM DIV MUL {'MUL ADD ' * 10}MUL SUB SELECT_V2 SUB SELECT_V2 NEG SELECT_V2",
    ),
    Example(
        moves.slice_in_fewer_dimensions,
        lambda: graph(sliced(image(2, 3, 2, 3, 5), 0, 1, 0, 0, 2)),
        [lambda: graph(sliced(image(2, 3, 4, 5), 0, 1, 0, 2)), lambda: graph(sliced(image(2, 3, 2, 3, 5), 1, 1, 1, 1, 1))],
        "RESHAPE SLICE RESHAPE",
    ),
    Example(
        substitutes.places_in_int32,
        lambda: graph(node("FLOOR_DIV", Type((2,), I64), places(image(2, 35)), number(7, I64))),
        [
            lambda: graph(node("FLOOR_DIV", Type((2,), I64), given(2, dtype=I64), number(7, I64))),  # which may be large
            lambda: graph(node("FLOOR_DIV", Type((2,), I64), places(image(2, 35)), number(1 << 40, I64))),
            lambda: graph(node("FLOOR_DIV", Type((2,), I32), given(2, dtype=I32), number(7))),
        ],
        "ARG_MAX FLOOR_DIV CAST",
    ),
    Example(
        substitutes.select_as_sum,
        lambda: graph(node("SELECT_V2", Type((5, 7), I32), given(5, 1, dtype=BOOL), given(7, dtype=I32), given(5, 7, dtype=I32))),
        [lambda: graph(node("SELECT_V2", image(5, 7), given(5, 1, dtype=BOOL), image(7), image(5, 7)))],
        "SUB CAST MUL ADD",
    ),
    *(
        Example(
            substitutes.extreme_as_choice(op, than),
            lambda op=op: on_integers(op),
            [lambda op=op: on_integers(op, F32, F32)],
            f"{than} SELECT_V2",
        )
        for op, than in (("MAXIMUM", "GREATER"), ("MINIMUM", "LESS"))
    ),
    Example(
        substitutes.abs_as_extreme,
        lambda: graph(node("ABS", Type((5, 7), I32), given(5, 7, dtype=I32))),
        [lambda: graph(node("ABS", image(), image()))],
        "NEG MAXIMUM",
    ),
    Example(
        substitutes.remainder_by_division,
        lambda: graph(node("FLOOR_MOD", Type((5, 7), I32), given(5, 7, dtype=I32), number(7))),
        [lambda: graph(node("FLOOR_MOD", image(), image(), number(0.7, F32)))],
        "FLOOR_DIV MUL SUB",
    ),
    Example(
        next(r for r in substitutes.in_fewer_dimensions(lambda node: False, ["MAXIMUM"])),
        lambda: in_many_dimensions(2, 1, 1, 4, 3),
        [lambda: in_many_dimensions(1, 3, 1, 4, 1), lambda: graph(node("MAXIMUM", image(), image(), image()))],
        "RESHAPE RESHAPE MAXIMUM RESHAPE",
    ),
    Example(
        substitutes.hard_swish_as_products,
        lambda: graph(node("HARD_SWISH", image(), image())),
        [lambda: one_byte("HARD_SWISH", U8)],
        "ADD MUL MUL",
    ),
    Example(
        pools.average_pool_as_depthwise,
        lambda: graph(node("AVERAGE_POOL_2D", Type((2, 4, 2, 3), I8, A), IN_I8(), **POOL)),
        [
            lambda: graph(node("AVERAGE_POOL_2D", Type((2, 4, 3, 3), I8, A), IN_I8(), **{**POOL, "padding": "SAME"})),
            lambda: graph(node("AVERAGE_POOL_2D", Type((2, 4, 2, 3), F32), image(), **POOL)),
        ],
        "DEPTHWISE_CONV_2D",
    ),
    Example(
        pools.rescaled_average_as_depthwise,
        lambda: graph(node("AVERAGE_POOL_2D", Type((2, 4, 2, 3), U8, B), given(2, 4, 5, 3, dtype=U8, quant=A), **POOL)),
        [lambda: graph(node("AVERAGE_POOL_2D", Type((2, 4, 2, 3), U8, A), given(2, 4, 5, 3, dtype=U8, quant=A), **POOL))],
        "DEPTHWISE_CONV_2D",
    ),
    Example(
        weighted.weight_in_int16("CONV_2D"),
        lambda: on_wide(I16),
        [lambda: on_wide(U8), lambda: on_wide(I16, I8)],
        "CONV_2D",
    ),
    *(
        Example(
            weighted.affine_weight_in_uint8(op),
            lambda op=op: weighted_in_int8(op, AFFINE),
            [
                lambda op=op: weighted_in_int8(op, SYMMETRIC),
                lambda op=op: weighted_in_int8(op, per_channel(3, 3 if op.startswith("DEPTH") else 0)),
            ],
            f"QUANTIZE {op} QUANTIZE",
        )
        for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ),
    *(Example(r, lambda op=op: in_int8(op), [lambda op=op: in_float_alone(op)], island_of(op)) for op, r in ISLANDS.items()),
]


EACH = pytest.mark.parametrize("example", [pytest.param(e, id=f"{e.rule.name}-{e.rule.chain[0]}") for e in EXAMPLES])


def same(one: Graph, other: Graph) -> None:
    """Floats may differ by the rounding of a constant that was folded; integers by nothing."""
    for before, after in zip(evaluate(one), evaluate(other), strict=True):
        assert before.dtype == after.dtype
        near = 1e-5 if before.dtype == np.float32 else 0
        np.testing.assert_allclose(after, before, rtol=near, atol=near)


@EACH
def test_a_rule_fires_and_changes_no_number(example: Example) -> None:
    before, fired = example.fires(), Counter[str]()
    after = rewrite(before, [example.rule], fired)
    assert fired == {example.rule.name: 1}
    assert " ".join(n.op for n in after.nodes()) == example.leaves
    assert [v.type for v in after.outputs] == [v.type for v in before.outputs]
    same(before, after)


@EACH
def test_a_rule_leaves_alone_what_nearly_matches(example: Example) -> None:
    for miss in example.misses:
        before, fired = miss(), Counter[str]()
        after = rewrite(before, [example.rule], fired)
        assert not fired
        assert str(after) == str(before)


def test_an_island_is_not_made_of_what_the_runtime_runs() -> None:
    for op in islands.ISLANDS:
        fired = Counter[str]()
        rewrite(in_int8(op), islands.island(lambda node: True, [op]), fired)
        assert not fired


def test_every_rule_is_tried() -> None:
    """In an example here, or in a case of ``test_ops``, which runs it in the runtimes."""
    used = {r.name for r in [*RULES, *(r for target in TARGETS.values() for r in (*target.sized_rules, *target.rules, *target.last_rules))]}
    assert used <= {e.rule.name for e in EXAMPLES} | every("rules")


# ---- the engine


@rule("RELU", why="wrong")
def wrong(node: Node) -> Value:
    return emit("RELU", replace(node.out.type, shape=(7,)), *node.inputs)


@rule("RELU", why="there")
def there(node: Node) -> Value:
    return emit("RELU6", node.out.type, *node.inputs)


@rule("RELU6", why="and back")
def back(node: Node) -> Value:
    return emit("RELU", node.out.type, *node.inputs)


def test_a_rule_that_changes_a_type_is_a_bug() -> None:
    with pytest.raises(Bug, match=r"rule wrong changed float32\[2,3\] to float32\[7\]"):
        rewrite(graph(node("RELU", image(2, 3), image(2, 3))), [wrong])


def test_rules_that_undo_each_other_are_a_bug() -> None:
    with pytest.raises(Bug, match="do not settle"):
        rewrite(graph(node("RELU", image(2, 3), image(2, 3))), [there, back])


def test_a_new_result_takes_over_name_and_origin() -> None:
    x = image(2, 3)
    old = Node.make("RELU", (x,), (Value(x.type, "layer", origin=Origin(5, (1, 0))),)).out
    (out,) = rewrite(graph(old), [there]).outputs
    assert (out.node.op if out.node else "", out.name, out.origin) == ("RELU6", "layer", Origin(5, (1, 0)))


def test_an_older_value_keeps_its_name_and_origin() -> None:
    x = image(2, 3)
    first = Node.make("TANH", (x,), (Value(x.type, "first", origin=Origin(5, (0, 1))),)).out
    second = Node.make("TRANSPOSE", (first, number([0, 1])), (Value(x.type, "second", origin=Origin(6, (0, 1))),)).out
    (out,) = optimize(graph(second)).outputs
    assert (out.name, out.origin) == ("first", Origin(5, (0, 1)))


def test_a_producer_read_twice_is_not_replaced() -> None:
    x = image(2, 3)
    made = node("ADD", x, x, x, **NONE)
    g = graph(node("RELU", x, made), node("MUL", x, made, made, **NONE))
    assert str(optimize(g)) == str(g)


def test_graphs_of_targets_are_settled() -> None:
    """Writing a graph twice must not change it: no rule matches what the rules left."""
    for case in CASES[::7]:
        exported = case.exported()
        for name in (target for target in ("onert", "litert") if target not in case.refused):
            fired = Counter[str]()
            rewrite(rewritten(exported.graph, TARGETS[name]), [*RULES, *TARGETS[name].rules], fired)
            assert not fired, f"{case.id} for {name}"


def test_equal_operators_are_computed_once() -> None:
    x = IN_I8()
    halves = [node("MUL", Type(x.type.shape, F32), dequantized(x), number(factor, F32), **NONE) for factor in (0.5, 0.5, 0.25)]
    before = graph(*halves, node("ADD", halves[0], halves[0], halves[1], **NONE))
    after = share(before)
    assert [n.op for n in after.nodes()] == ["DEQUANTIZE", "MUL", "MUL", "ADD"]
    assert after.outputs[0] is after.outputs[1] is not after.outputs[2]
    same(before, after)


def test_equal_operators_stay_apart_if_a_recorded_tensor_would_be_lost() -> None:
    x = image(2, 3)
    recorded = Node.make("TANH", (x,), (Value(x.type, "recorded", origin=Origin(5, (0, 1))),)).out
    bare = node("TANH", x, x)
    assert len(share(graph(bare, recorded)).nodes()) == 2
    (once,) = share(graph(recorded, bare)).nodes()
    assert once.out.origin == Origin(5, (0, 1))


def test_states_stay_apart() -> None:
    x, states = image(2, 3), [Value(Type((2, 3), F32), f"state{i}", variable=True) for i in range(2)]
    assert len(share(graph(*(node("ADD", x, x, state, **NONE) for state in (states[0], states[0])))).nodes()) == 2


def test_optimizing_changes_no_number() -> None:
    """All rules at once, on a network that gives each of the layout rules something to do."""
    x = image(2, 5, 6, 3)
    first = node("RELU", (c := conv(x, noise(3, 2, 2, 3))), c)
    scaled = node("MUL", first, first, number([1, 2, 3], F32), **NONE)
    moved = transposed(transposed(transposed(scaled, 0, 3, 1, 2), 0, 2, 3, 1), 0, 3, 1, 2)
    g = graph(linear(reshaped(moved, 2, 60), noise(7, 60)))
    after = optimize(g)
    assert [n.op for n in after.nodes()] == ["CONV_2D", "MUL", "RESHAPE", "FULLY_CONNECTED"]
    same(g, after)
