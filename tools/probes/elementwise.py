"""One result for each element: arithmetic, comparisons, choices, functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import erf

import numpy as np

from torch2circle.ir import Array, DType, Quant

from .making import ALL, BOOL, BY_RANK, BYTES, F32, I32, I64, NUMBERS, REALS, SHAPE, Attrs, Operand, Probe, draw, fixed, probe
from .weighted import activate


def trunc_div(a: Array, b: Array) -> Array:
    return np.trunc(a / b) if a.dtype == np.int64 else a / b


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": trunc_div, "FLOOR_DIV": lambda a, b: np.floor(a / b),
    "FLOOR_MOD": np.mod, "POW": lambda a, b: np.power(a.astype(np.float64), b), "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
    "ATAN2": np.arctan2, "MAXIMUM": np.maximum, "MINIMUM": np.minimum,
}  # fmt: skip
COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "EQUAL": np.equal, "NOT_EQUAL": np.not_equal, "GREATER": np.greater, "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less, "LESS_EQUAL": np.less_equal,
}  # fmt: skip
FUSED = ("ADD", "SUB", "MUL", "DIV")
PAIRS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    (SHAPE, SHAPE), (SHAPE, (1, 1, 1, SHAPE[3])), (SHAPE, ()), *((shape, shape) for shape in BY_RANK.values()),
    ((20, 24, 16), SHAPE), ((2, 1, 12, 8), (1, 10, 1, 8)), (BY_RANK[3], (16,)), (BY_RANK[5], (1, 3, 1, 5, 1)), (BY_RANK[5], ()),
    (BY_RANK[6], (1, 3, 1, 5, 1, 3)), (BY_RANK[6], ()), ((), SHAPE),
]  # fmt: skip


def operands(op: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: DType, *, alike: bool) -> tuple[Operand, Operand]:
    """Two operands, the smaller one a constant; ``alike`` is of the quantization."""
    divides, powers = op in ("DIV", "FLOOR_DIV", "FLOOR_MOD"), op == "POW"
    sizes = [int(np.prod(shape)) for shape in shapes]
    a = draw("a", shapes[0], dtype, positive=powers and dtype is F32, const=sizes[0] < sizes[1])
    b = draw("b", shapes[1], dtype, *(() if alike else (0.021, 9)), positive=divides or powers, const=sizes[1] < sizes[0])
    if powers and dtype is not F32:
        a, b = Operand(a.type, a.array // 20, a.const), Operand(b.type, b.array // 20, b.const)
    return a, b


def binary() -> Iterator[Probe]:
    for op, compute in BINARY.items():
        moves = op in ("MAXIMUM", "MINIMUM")
        for dtype in (F32, I32, I64) if op in ("POW", "ATAN2") else NUMBERS:
            for shapes in PAIRS:
                for alike in (True, False) if moves and dtype in BYTES else (moves,):
                    a, b = operands(op, shapes, dtype, alike=alike)
                    quant = a.type.quant if alike and moves else "fit"
                    for act in ("NONE", "RELU", "RELU6") if dtype in REALS and op in FUSED else ("NONE",):
                        attrs: Attrs = {"fused_activation_function": act} if op in FUSED else {}
                        yield probe(op, [a, b], activate(compute(a.real, b.real), act), dtype, quant, **attrs)
    for dtype in NUMBERS:
        for count in (2, 3):
            terms = [draw(f"term{i}", SHAPE, dtype) for i in range(count)]
            yield probe("ADD_N", terms, sum(t.real for t in terms), dtype)


def logic() -> Iterator[Probe]:
    for shapes in PAIRS:
        for op, compare in COMPARISONS.items():
            for dtype in ALL:
                for alike in (True, False) if dtype in BYTES else (True,):
                    a, b = operands(op, shapes, dtype, alike=alike)
                    if shapes[0] == shapes[1]:  # some equal ones, also of floats
                        b = Operand(b.type, np.where(np.arange(a.array.size).reshape(shapes[0]) % 3 == 0, a.array, b.array))
                    yield probe(op, [a, b], compare(a.real, b.real), BOOL)
        p, q = operands("LOGICAL_AND", shapes, BOOL, alike=True)
        yield probe("LOGICAL_AND", [p, q], (p.array & q.array), BOOL)
        yield probe("LOGICAL_OR", [p, q], (p.array | q.array), BOOL)
    for shape in BY_RANK.values():
        p = draw("p", shape, BOOL)
        yield probe("LOGICAL_NOT", [p], ~p.array, BOOL)


def choices() -> Iterator[Probe]:
    shapes: list[tuple[tuple[int, ...], ...]] = [
        *((shape, shape, shape) for shape in (SHAPE, *BY_RANK.values())),
        ((1, 20, 24, 1), SHAPE, SHAPE), (SHAPE, SHAPE, ()), (SHAPE, (), SHAPE), (SHAPE, (), ()), ((16,), SHAPE, (1, 1, 1, 1)),
        ((12, 20, 16), (), (16,)),        (BY_RANK[5], BY_RANK[5], ()),
        (BY_RANK[6], BY_RANK[6], ()), ((12, 1, 16), (12, 20, 16), ()), ((96,), (40, 96), ()),
    ]  # fmt: skip
    for dtype in ALL:
        for which, left, right in shapes:
            for alike in (True, False) if dtype in BYTES else (True,):
                p, x = draw("p", which, BOOL), draw("x", left, dtype, const=left == ())
                y = draw("y", right, dtype, *(() if alike else (0.021, 9)), const=right == ())
                yield probe("SELECT_V2", [p, x, y], np.where(p.array, x.real, y.real), dtype, x.type.quant)


def gelu(x: Array) -> Array:
    return np.asarray(x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2)


def gelu_tanh(x: Array) -> Array:
    return np.asarray(x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2)


# operator, what it computes, options
FUNCTIONS: list[tuple[str, Callable[[Array], Array], Attrs]] = [
    ("RELU", lambda x: np.maximum(x, 0), {}), ("RELU6", lambda x: np.clip(x, 0, 6), {}),
    ("RELU_N1_TO_1", lambda x: np.clip(x, -1, 1), {}), ("RELU_0_TO_1", lambda x: np.clip(x, 0, 1), {}),
    ("LEAKY_RELU", lambda x: np.where(x < 0, x * 0.01, x), {"alpha": 0.01}),
    ("LEAKY_RELU", lambda x: np.where(x < 0, x * 0.3, x), {"alpha": 0.3}),
    ("ELU", lambda x: np.where(x < 0, np.expm1(x), x), {}),
    ("GELU", gelu, {"approximate": False}), ("GELU", gelu_tanh, {"approximate": True}),
    ("HARD_SWISH", lambda x: x * np.clip(x + 3, 0, 6) / 6, {}),
    ("LOGISTIC", lambda x: 1 / (1 + np.exp(-x)), {}), ("TANH", np.tanh, {}),
    ("ABS", np.abs, {}), ("NEG", np.negative, {}), ("SIGN", np.sign, {}), ("SQUARE", np.square, {}),
    ("EXP", np.exp, {}), ("SIN", np.sin, {}), ("COS", np.cos, {}),
    ("FLOOR", np.floor, {}), ("CEIL", np.ceil, {}), ("ROUND", np.rint, {}),
    ("SQRT", np.sqrt, {}), ("RSQRT", lambda x: 1 / np.sqrt(x), {}), ("LOG", np.log, {}),
]  # fmt: skip


def functions() -> Iterator[Probe]:
    for op, compute, attrs in FUNCTIONS:
        for dtype in NUMBERS if op in ("ABS", "NEG", "SIGN", "SQUARE") else REALS:
            for shape in (SHAPE, *BY_RANK.values()):
                x = draw("x", shape, dtype, positive=op in ("SQRT", "RSQRT", "LOG"))
                if dtype is F32 and op in ("FLOOR", "CEIL", "ROUND", "SIGN"):  # halves and zeros too
                    x = Operand(x.type, np.rint(x.array * 4) / 4)
                real = compute(x.real)
                if op in ("LOGISTIC", "TANH"):  # TFLite's reference refuses another quantization
                    yield probe(op, [x], real, dtype, fixed(op, dtype), **attrs)
                elif op.startswith("RELU"):
                    yield from (probe(op, [x], real, dtype, quant, **attrs) for quant in ("fit", x.type.quant))
                else:
                    yield probe(op, [x], real, dtype, **attrs)
                if op == "HARD_SWISH" and x.type.quant:
                    yield probe(op, [x], real, dtype, Quant.per_tensor(float(x.type.quant.scale[0]) / 150, 0), **attrs)
    slopes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        (SHAPE, (16,)), (SHAPE, (1, 1, 16)), (SHAPE, (20, 24, 16)), (BY_RANK[2], (96,)), (BY_RANK[3], (1, 16)),
        (BY_RANK[4], (1, 1, 8)), (BY_RANK[5], (1, 1, 1, 8)),
    ]  # fmt: skip
    for dtype in REALS:
        for shape, alpha in slopes:
            x, slope = draw("x", shape, dtype), draw("slope", alpha, dtype, 0.01, 3, const=True)
            yield probe("PRELU", [x, slope], np.where(x.real < 0, x.real * slope.real, x.real), dtype)


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def normalizations() -> Iterator[Probe]:
    for dtype in REALS:
        for shape in (SHAPE, (40, 100), *BY_RANK.values()):
            x = draw("x", shape, dtype)
            yield probe("SOFTMAX", [x], softmax(x.real), dtype, fixed("SOFTMAX", dtype), beta=1.0)
            yield probe("LOG_SOFTMAX", [x], np.log(softmax(x.real)), dtype, fixed("LOG_SOFTMAX", dtype))
            norm = np.sqrt((x.real**2).sum(-1, keepdims=True))
            yield probe("L2_NORMALIZATION", [x], x.real / norm, dtype, fixed("L2_NORMALIZATION", dtype), fused_activation_function="NONE")
        x = draw("x", SHAPE, dtype)
        for radius, bias, alpha, beta in ((2, 1.0, 0.0002, 0.75), (3, 2.0, 0.1, 0.5)):
            squares = np.pad(x.real**2, [(0, 0)] * 3 + [(radius, radius)])
            sums = sum(squares[..., i : i + 16] for i in range(2 * radius + 1))
            attrs: Attrs = {"radius": radius, "bias": bias, "alpha": alpha, "beta": beta}
            yield probe("LOCAL_RESPONSE_NORMALIZATION", [x], x.real / (bias + alpha * sums) ** beta, dtype, **attrs)


def root_mean_squares() -> Iterator[Probe]:
    for shape in (SHAPE, BY_RANK[3], BY_RANK[4]):  # what else is refused, and not made
        x, factor = draw("x", shape, F32), draw("factor", shape[-1:], F32, const=True)
        for eps in (1e-6, 0.3):
            mean = (x.real**2).mean(-1, keepdims=True)
            yield probe("RMS_NORM", [x, factor], x.real / np.sqrt(mean + eps) * factor.real, F32, epsilon=float(np.float32(eps)))


FAMILIES = (binary, logic, choices, functions, normalizations, root_mean_squares)
