"""One graph for any size, of two graphs of the same model for different sizes.

The two are walked side by side. Operators, options, scales and constants must be the same; an axis whose size differs is open. A constant
that differs holds a size, and stays only in a form that is right for any. Everything else would be the size of one example, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import RecordError
from ..ir import Constant, DType, Graph, Node, Type, Value, Where
from ..spec import OPS
from .engine import emit
from .layout import NO_MASKS, const, operand

HINT = "leave the dimension at the example's size, or rewrite the line so that it holds for any"
# Those that repeat an operand of size 1 by themselves.
BROADCASTS = (
    "ADD", "SUB", "MUL", "DIV", "POW", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD", "SQUARED_DIFFERENCE", "SELECT_V2",
    "EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_OR",
)  # fmt: skip

# For each element type an operator with a number that changes nothing; of quantized ones it is the lowest.
NEUTRAL = {
    DType.FLOAT32: ("MAXIMUM", -np.inf), DType.INT8: ("MAXIMUM", 0), DType.UINT8: ("MAXIMUM", 0), DType.BOOL: ("LOGICAL_OR", 0),
    DType.INT32: ("ADD", 0), DType.INT64: ("ADD", 0),
}  # fmt: skip


def unified(first: Graph, second: Graph, size: Callable[[int, int], int]) -> Graph:
    """``first`` with the axes open that have another size in ``second``; ``size(first, second)`` is what the file has as the example's.

    Raises:
        RecordError: the two differ in something else, at the place in the model where they do first.
    """
    return _Unifier(first, second, size).graph()


def _apart(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)


def _fixed(where: Where, how: str) -> RecordError:
    by = f" by {where.op}" if where.op else ""
    return RecordError(f"the size of an open dimension is fixed{by}: {how}", where=where if where.op else None, hint=HINT)


@dataclass
class _Unifier:
    first: Graph
    second: Graph
    size: Callable[[int, int], int]
    partner: dict[Value, Value] = field(default_factory=dict)  # a value of the first graph -> that of the second
    new: dict[Value, Value] = field(default_factory=dict)
    lines: dict[tuple[int, int], Value] = field(default_factory=dict)

    def graph(self) -> Graph:
        for x, y in zip(self.first.inputs, self.second.inputs, strict=True):
            self.take(x, y, self.opened(x, y, Where()))
        ours, theirs = self.first.nodes(), self.second.nodes()
        for a, b in zip(ours, theirs, strict=False):
            self.node(a, b)
        if len(ours) != len(theirs):
            extra = max(ours, theirs, key=len)[min(len(ours), len(theirs))]
            raise _fixed(extra.where, f"{extra.op} runs for one size, and not for another")
        outputs = [self.read(x, y, Where()) for x, y in zip(self.first.outputs, self.second.outputs, strict=True)]
        return replace(self.first, inputs=tuple(self.new[x] for x in self.first.inputs), outputs=tuple(outputs))

    def take(self, x: Value, y: Value, made: Value) -> None:
        self.partner[x], self.new[x] = y, made

    def opened(self, x: Value, y: Value, where: Where) -> Value:
        if (x.origin and x.origin.tensor) != (y.origin and y.origin.tensor):
            raise _fixed(where, "more operators ran for one size than for another")
        if replace(x.type, shape=()) != replace(y.type, shape=()) or x.type.rank != y.type.rank or x.origin != y.origin:
            raise _fixed(where, f"a result is {x.type} for one size, {y.type} for another")
        shape = tuple(map(self.size, x.type.shape, y.type.shape))
        return replace(x, type=replace(x.type, shape=shape, open=_apart(x.type.shape, y.type.shape)))

    def node(self, a: Node, b: Node) -> None:
        if a.op != b.op or [len(part) for part in (a.inputs, a.outputs)] != [len(part) for part in (b.inputs, b.outputs)]:
            other = f"is {b.op} for another" if a.op != b.op else "has another number of operands or results for another"
            raise _fixed(a.where, f"{a.op} for one size {other}")
        outputs = [self.opened(x, y, a.where) for x, y in zip(a.outputs, b.outputs, strict=True)]
        if a.op == "BROADCAST_TO" and _numbers(a, 1) != _numbers(b, 1):
            self.take(a.out, b.out, self.broadcast(a, b, outputs[0]))
            return
        _must_stay_open(a, b)
        form = FORMS[a.op](a, b) if a.op in FORMS else None
        if form is None and a.attrs != b.attrs:
            raise _fixed(a.where, f"options of {a.op} follow it")
        known = form.constants if form else {}
        inputs = [
            known.get(i, x) if i in known or x is None else self.read(x, y, a.where, a)
            for i, (x, y) in enumerate(zip(a.inputs, b.inputs, strict=True))
        ]
        inputs += [known[i] for i in sorted(known) if i >= len(inputs)]  # a SLICE that becomes a STRIDED_SLICE
        made = a.rebuilt(inputs=inputs, outputs=outputs, **({"op": form.op, "attrs": form.attrs} if form else {}))
        for x, y, out in zip(a.outputs, b.outputs, made.outputs, strict=True):
            self.take(x, y, out)

    def read(self, x: Value, y: Value | None, where: Where, reader: Node | None = None) -> Value:
        """An operand, or an output of the graph."""
        if x in self.partner or y is None or y.data is None:
            if y is not None and x.variable and x not in self.partner:
                self.take(x, y, self.opened(x, y, where))
            if x.data is not None or self.partner.get(x) is not y:
                raise _fixed(where, "other operands are read for another size")
            return self.new[x]
        if x.data is None or replace(x.type, shape=()) != replace(y.type, shape=()) or x.type.rank != y.type.rank:
            raise _fixed(where, f"a constant is {x.type} for one size, {y.type} for another")
        if x.type.shape != y.type.shape:
            return self.repeated(x, y, where, reader)
        known = x.data.source is not None and x.data.source == y.data.source
        if not known and not np.array_equal(x.array(), y.array()):
            raise _fixed(where, f"a constant of type {x.type} holds other numbers for another size")
        return x

    def broadcast(self, a: Node, b: Node, out: Value) -> Value:
        """An operator that repeats by itself, on a constant that changes nothing, as large as the result but where the operand is that."""
        x, y = operand(a), operand(b)
        own = (1,) * (out.type.rank - x.type.rank) + x.type.shape
        shapes = [[1 if n == 1 or small == n else n for small, n in zip(own, v.type.shape, strict=True)] for v in (a.out,)]
        theirs = [n if wide != 1 else 1 for wide, n in zip(shapes[0], b.out.type.shape, strict=True)]
        op, number = NEUTRAL[x.type.dtype]
        pair = [Value(x.type.reshape(shape), f"{x.name}.neutral", data=_filled(x.type, shape, number)) for shape in (shapes[0], theirs)]
        data = self.read(x, y, a.where)
        neutral = pair[0] if pair[0].type == pair[1].type else self.repeated(pair[0], pair[1], a.where, None)
        attrs = {"fused_activation_function": "NONE"} if op == "ADD" else {}
        return a.rebuilt(op=op, inputs=(data, neutral), outputs=(out,), attrs=attrs).out

    # -- constants of any size: one row, repeated as often as an input is long

    def repeated(self, x: Value, y: Value, where: Where, reader: Node | None) -> Value:
        axes = _apart(x.type.shape, y.type.shape)
        row, other = (v.array()[tuple(slice(0, 1) if i in axes else slice(None) for i in range(x.type.rank))] for v in (x, y))
        alike = [np.array_equal(v.array(), np.broadcast_to(row, v.type.shape)) for v in (x, y)]
        if not all(alike) or not np.array_equal(row, other):
            raise _fixed(where, f"a constant is {x.type} for one size, {y.type} for another")
        small = replace(x, type=x.type.reshape(row.shape), data=Constant.of(row))
        if reader is not None and reader.op in BROADCASTS and self.is_broadcast(x, small, reader):
            return small
        real = small.array().astype(np.float32)
        if (quant := x.type.quant) is not None and quant.axis is None:
            real = (real - quant.zero_point.astype(np.float32)) * quant.scale
        elif quant is not None or (not x.type.dtype.is_float and np.abs(real).max(initial=0) > 2**24) or not x.type.size:
            raise _fixed(where, f"a constant is {x.type} for one size, {y.type} for another")
        made = replace(small, type=Type(row.shape, DType.FLOAT32), data=Constant.of(real))
        for axis in axes:
            line = self.line(x.type.shape[axis], y.type.shape[axis], where)
            column = _shaped(line, tuple(-1 if i == axis else 1 for i in range(x.type.rank)), line.type.shape[0], where)
            shape = tuple(column.type.shape[axis] if i == axis else size for i, size in enumerate(made.type.shape))
            type_ = Type(shape, DType.FLOAT32, open=tuple(sorted({*made.type.open, axis})))
            made = emit("MAXIMUM", type_, column, made, name=f"{x.name}.repeated", like=_at(where))
        type_ = replace(x.type, shape=made.type.shape, open=made.type.open)
        if type_ == made.type:
            return made
        if quant is not None:
            return emit("QUANTIZE", type_, made, name=x.name, like=_at(where))
        return emit("CAST", type_, made, name=x.name, like=_at(where), in_data_type="FLOAT32", out_data_type=x.type.dtype.name)

    def is_broadcast(self, x: Value, small: Value, reader: Node) -> bool:
        shapes = [small.type.shape if v is x else v.type.shape for v in reader.inputs if v is not None]
        return np.broadcast_shapes(*shapes) == reader.out.type.shape

    def line(self, size: int, other: int, where: Where) -> Value:
        """A float vector as long as the dimension of an input that has these two sizes, with nothing but the lowest number."""
        if (size, other) not in self.lines:
            self.lines[size, other] = self.lowest(*next(self.inputs_of(size, other, where)), where)
        return self.lines[size, other]

    def inputs_of(self, size: int, other: int, where: Where) -> Iterator[tuple[Value, int]]:
        for x, y in zip(self.first.inputs, self.second.inputs, strict=True):
            for axis, pair in enumerate(zip(x.type.shape, y.type.shape, strict=True)):
                if pair == (size, other):
                    yield self.new[x], axis
        raise _fixed(where, f"a constant has it, of size {size} and {other}, and no dimension of an input is as long")

    def lowest(self, x: Value, axis: int, where: Where) -> Value:
        shape = tuple(size if i == axis else 1 for i, size in enumerate(x.type.shape))
        sizes = [-1 if i == axis else 1 for i in range(x.type.rank)]
        cut = const(f"{x.name}.begin", [0] * x.type.rank), const(f"{x.name}.size", sizes)
        part = emit("SLICE", replace(x.type, shape=shape, open=(axis,)), x, *cut, name=f"{x.name}.line", like=_at(where))
        if x.type.quant is not None:
            part = emit("DEQUANTIZE", Type(shape, DType.FLOAT32, open=(axis,)), part, like=_at(where))
        elif x.type.dtype is not DType.FLOAT32:
            names = {"in_data_type": x.type.dtype.name, "out_data_type": "FLOAT32"}
            part = emit("CAST", Type(shape, DType.FLOAT32, open=(axis,)), part, like=_at(where), **names)
        line = _shaped(part, (-1,), x.type.shape[axis], where)
        lowest = Value(Type((), DType.FLOAT32), f"{x.name}.lowest", data=Constant.of(np.array(-np.inf, np.float32)))
        return emit("MINIMUM", line.type, line, lowest, name=f"{x.name}.line", like=_at(where))


def _at(where: Where) -> Node:
    """What ``emit`` takes the place of."""
    return Node("", (), where=where, outputs=(Value(Type((), DType.FLOAT32), "line"),))


def _shaped(x: Value, sizes: tuple[int, ...], size: int, where: Where) -> Value:
    axis = sizes.index(-1)
    type_ = replace(x.type, shape=tuple(size if i == axis else 1 for i in range(len(sizes))), open=(axis,))
    shape = const(f"{x.name}.shape", sizes)
    return emit("RESHAPE", type_, x, shape, name=f"{x.name}.shaped", like=_at(where), new_shape=list(sizes))


def _filled(type_: Type, shape: Sequence[int], number: float) -> Constant:
    dtype = type_.dtype.numpy
    return Constant(lambda: np.full(shape, np.iinfo(dtype).min if type_.quant is not None else number, dtype))


# -- operators with a size in an operand


def _must_stay_open(a: Node, b: Node) -> None:
    """Where a window or a slice takes every n-th place, two sizes may leave the same number by chance."""
    steps = {"STRIDED_SLICE": lambda: _numbers(a, 3)}.get(a.op, lambda: [1, 2, 2, 1] if "stride_h" in a.attrs else [])()
    x, y = operand(a, OPS[a.op].data), operand(b, OPS[b.op].data)
    for axis in _apart(x.type.shape, y.type.shape):
        if axis < len(steps) and abs(steps[axis]) > 1 and a.out.type.shape[axis] == b.out.type.shape[axis]:
            sizes = f"{x.type.shape[axis]} as of {y.type.shape[axis]}"
            raise _fixed(a.where, f"{a.op} leaves {a.out.type.shape[axis]} of {sizes}: take a larger example")


@dataclass(frozen=True)
class _Form:
    """An operator that is right for any size; ``constants`` are the operands that make it so."""

    op: str
    attrs: Mapping[str, Any]
    constants: Mapping[int, Value]


def _numbers(node: Node, index: int) -> list[int]:
    return [int(n) for n in operand(node, index).array()]


def _reshape(a: Node, b: Node) -> _Form:
    """The runtime computes one size of the result from all others."""
    target, other = a.out.type.shape, b.out.type.shape
    apart = _apart(target, other)
    if len(apart) > 1:
        raise _fixed(a.where, f"{len(apart)} sizes of its result follow it ({list(target)} and {list(other)}), a RESHAPE can have one such")
    sizes = [-1 if i in apart else size for i, size in enumerate(target)]
    return _Form(a.op, {"new_shape": sizes}, {1: const(operand(a, 1).name, sizes)})


def _slice(a: Node, b: Node) -> _Form | None:
    """Up to the end, or else with positions that count from the end."""
    if any(operand(node, i).data is None for node in (a, b) for i in (1, 2)):
        return None
    first, second = (
        [(begin, begin + size, 1, n) for begin, size, n in zip(_numbers(v, 1), _numbers(v, 2), operand(v).type.shape, strict=True)]
        for v in (a, b)
    )
    if all(x == y or (x[0] == y[0] and x[1] == x[3] and y[1] == y[3]) for x, y in zip(first, second, strict=True)):
        sizes = [-1 if x != y else x[1] - x[0] for x, y in zip(first, second, strict=True)]
        return _Form(a.op, {}, {1: operand(a, 1), 2: const(operand(a, 2).name, sizes)})
    return _strided(a, first, second)


def _strided_slice(a: Node, b: Node) -> _Form | None:
    if any(operand(node, i).data is None for node in (a, b) for i in (1, 2, 3)) or dict(a.attrs) != NO_MASKS:
        return None
    first, second = (list(zip(*(_numbers(v, i) for i in (1, 2, 3)), operand(v).type.shape, strict=True)) for v in (a, b))
    return _strided(a, first, second) if _numbers(a, 3) == _numbers(b, 3) else None


Range = tuple[int, int, int, int]
"""Begin, end, step, and the size of the axis."""


def _strided(a: Node, first: Sequence[Range], second: Sequence[Range]) -> _Form:
    begins, ends, mask = [], [], 0
    for axis, (x, y) in enumerate(zip(first, second, strict=True)):
        begins.append(_position(a, x[0], x[3], y[0], y[3]))
        whole = x[2] > 0 and all(len(range(begin, end, step)) == len(range(begin, n, step)) for begin, end, step, n in (x, y))
        if whole and x[3] != y[3]:
            mask |= 1 << axis
            ends.append(0)
        else:
            ends.append(_position(a, x[1], x[3], y[1], y[3]))
    name, steps = a.out.name, [x[2] for x in first]
    constants = [const(f"{name}.{what}", data) for what, data in (("begin", begins), ("end", ends), ("strides", steps))]
    return _Form("STRIDED_SLICE", NO_MASKS | {"end_mask": mask}, dict(enumerate(constants, start=1)))


def _position(a: Node, x: int, size: int, y: int, other: int) -> int:
    """The same in both, counted from the begin or else from the end."""
    if x == y:
        return x
    if x - size == y - other and x < size:
        return x - size
    raise _fixed(a.where, f"position {x} of {size} is {y} of {other}")


FORMS: dict[str, Callable[[Node, Node], _Form | None]] = {"RESHAPE": _reshape, "SLICE": _slice, "STRIDED_SLICE": _strided_slice}
