"""Which operator of a file is which of the model's, and what it has otherwise.

Names tell first: a file of ours calls each tensor as a fresh export does. What no name tells is told by its place between those that are
told: operators of the same kind and shape in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np

from ..format.facts import ENUMS, TABLES
from ..ir import Array, DType, Graph, Node, Quant, Type, Value
from ..spec import OPS

EIGHT_BIT = (DType.INT8, DType.UINT8)
SYMMETRIC = ("ADD", "MUL", "MAXIMUM", "MINIMUM", "ADD_N", "EQUAL", "NOT_EQUAL", "LOGICAL_AND", "LOGICAL_OR", "SQUARED_DIFFERENCE")
"""Operators whose operands may be exchanged."""
SHOWN = 8
"""Constants of as many elements or less are said as a whole."""


@dataclass(frozen=True)
class Pair:
    """An operator of the model and the file's: one of them None where the other side has no such operator.

    ``differs``: what the file's has otherwise. ``fed``: what makes its result another one though the operator itself is the model's:
    the type of an operand that another operator makes.
    """

    ours: Node | None
    theirs: Node | None
    differs: tuple[str, ...] = ()
    fed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Aligned:
    """``graph``: the file's, whose tensors have the origins, and whose operators the places, of the model's.

    ``pairs`` are in the order they run. ``share``: of the model's recorded tensors, how many the file has.
    """

    graph: Graph
    pairs: Sequence[Pair]
    share: float


def as_read(graph: Graph, read: Graph) -> Graph:
    """A graph that was read from the file ``graph`` was written to, with the origins and places that no file holds."""
    new = {old: replace(old, origin=value.origin) for value, old in zip(graph.inputs, read.inputs, strict=True)}
    for ours, node in zip(graph.nodes(), read.nodes(), strict=True):
        outputs = [replace(out, origin=value.origin) for value, out in zip(ours.outputs, node.outputs, strict=True)]
        made = node.rebuilt(inputs=[v and new.get(v, v) for v in node.inputs], outputs=outputs, where=ours.where)
        new.update(zip(node.outputs, made.outputs, strict=True))
    return replace(read, inputs=tuple(new[v] for v in read.inputs), outputs=tuple(new.get(v, v) for v in read.outputs))


def align(ours: Graph, theirs: Graph) -> Aligned:
    """The file's graph ``theirs`` next to ``ours``, which was written and ``as_read``."""
    partner = dict(_partners(ours.nodes(), theirs.nodes()))
    model_value: dict[Value, Value] = {}  # of a tensor of the file
    new: dict[Value, Value] = {}
    for own_input, old in zip(ours.inputs, theirs.inputs, strict=False):
        new[old] = _placed(old, own_input)
        model_value[new[old]] = own_input
    pairs, waiting = list[Pair](), [node for node in ours.nodes() if node not in set(partner.values())]
    position = {node: i for i, node in enumerate(ours.nodes())}
    for node in theirs.nodes():
        own = partner.get(node)
        outputs = list(node.outputs)
        if own is not None:
            outputs = [_placed(out, value) for out, value in zip(node.outputs, own.outputs, strict=False)]
            outputs += node.outputs[len(outputs) :]
            while waiting and position[waiting[0]] < position[own]:
                pairs.append(Pair(waiting.pop(0), None))
        made = node.rebuilt(inputs=[v and new.get(v, v) for v in node.inputs], outputs=outputs, where=own.where if own else node.where)
        new.update(zip(node.outputs, made.outputs, strict=True))
        if own is not None:
            model_value.update(zip(made.outputs, own.outputs, strict=False))
        declared = [out.type for out in node.outputs]
        pairs.append(Pair(own, made) if own is None else _compared(own, made, declared, model_value))
    pairs += [Pair(node, None) for node in waiting]
    graph = replace(theirs, inputs=tuple(new[v] for v in theirs.inputs), outputs=tuple(new.get(v, v) for v in theirs.outputs))
    have = [value for node in ours.nodes() for value in node.outputs if value.origin is not None]
    found = set(model_value.values())
    share = sum(value in found for value in have) / len(have) if have else 1.0
    return Aligned(graph, pairs, share)


def _placed(theirs: Value, ours: Value) -> Value:
    """A tensor of the file that must equal what ``ours`` must, in the model's shape: what the file declares is compared apart."""
    alike = theirs.type.dtype is ours.type.dtype or (theirs.type.dtype in EIGHT_BIT and ours.type.dtype in EIGHT_BIT)
    type_ = replace(theirs.type, shape=ours.type.shape, open=ours.type.open)
    return replace(theirs, type=type_, origin=ours.origin if alike else None)


def _partners(ours: Sequence[Node], theirs: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    """The model's operator for each of the file's that has one."""
    named = {node.out.name: node for node in ours if node.outputs}
    told: dict[Node, Node] = {}
    for node in theirs:
        own = named.get(node.out.name) if node.outputs else None
        if own is not None and (own.op == node.op or own.out.type.shape == node.out.type.shape):
            told[node] = own
    taken = set(told.values())
    rest, others = [n for n in ours if n not in taken], [n for n in theirs if n not in told]
    for block in SequenceMatcher(None, [*map(_kind, rest)], [*map(_kind, others)], autojunk=False).get_matching_blocks():
        for i in range(block.size):
            told[others[block.b + i]] = rest[block.a + i]
    yield from told.items()


def _kind(node: Node) -> tuple[Any, ...]:
    return node.op, tuple((out.type.shape, out.type.dtype) for out in node.outputs)


# ---- what an operator has otherwise


def _compared(ours: Node, theirs: Node, declared: Sequence[Type], model_value: Mapping[Value, Value]) -> Pair:
    differs: list[str] = [] if ours.op == theirs.op else [f"it is {theirs.op}, the model's is {ours.op}"]
    fed: list[str] = []
    if len(ours.inputs) != len(theirs.inputs):
        differs.append(f"it has {len(theirs.inputs)} operands, the model's has {len(ours.inputs)}")
    rewired = [
        (own, other, model_value.get(other))
        for own, other in _operands(ours, theirs)
        if own is not None and other is not None and own.data is None and other.data is None and model_value.get(other) is not own
    ]
    known = set(model_value.values())
    if rewired and {own for own, _, _ in rewired} == {found for _, _, found in rewired}:
        (fed if ours.op in SYMMETRIC else differs).append(f"its operands are exchanged: {', '.join(f'`{o.name}`' for _, o, _ in rewired)}")
    else:
        for wanted, read, _ in rewired:  # if the model's operand is not in the file at all, the numbers tell whether that matters
            (differs if wanted in known else fed).append(f"it reads `{read.name}`, the model's reads `{wanted.name}`")
    for own, other in _operands(ours, theirs):
        if (own is None) != (other is None) or (own is not None and other is not None and (own.data is None) != (other.data is None)):
            differs.append(f"it reads {_what(other)}, the model's reads {_what(own)}")
        elif own is not None and other is not None and own.data is not None:
            differs += _constant(own, other)
        elif own is not None and other is not None and model_value.get(other) is own:
            at_edge = other.node is None  # no operator is to blame for the type of an input
            (differs if at_edge else fed).extend(_type(own.name, own.type, other.type))
    for value, out, type_ in zip(ours.outputs, theirs.outputs, declared, strict=False):
        differs += _type(out.name, value.type, type_)
    differs += _options(ours, theirs)
    return Pair(ours, theirs, tuple(differs), tuple(fed))


def _operands(ours: Node, theirs: Node) -> list[tuple[Value | None, Value | None]]:
    return list(zip(ours.inputs, theirs.inputs, strict=False))


def _what(value: Value | None) -> str:
    return "nothing" if value is None else f"the constant `{value.name}`" if value.data is not None else f"`{value.name}`"


def _constant(own: Value, other: Value) -> list[str]:
    said = _type(own.name, own.type, other.type)
    if own.type.shape != other.type.shape or own.type.dtype is not other.type.dtype:
        return said
    wanted, found = own.array(), other.array()
    unlike = wanted != found
    if wanted.dtype.kind == "f":
        unlike &= ~(np.isnan(wanted) & np.isnan(found))
    if not unlike.any():
        return said
    if wanted.size <= SHOWN:
        return [*said, f"`{own.name}` is {found.tolist()}, the model's is {wanted.tolist()}"]
    off = np.abs(found[unlike].astype(np.float64) - wanted[unlike].astype(np.float64)).max()
    first = ", ".join(map(str, np.argwhere(unlike)[0]))
    return [*said, f"`{own.name}` differs in {unlike.sum():,} of {wanted.size:,} elements by up to {off:g}, first at [{first}]"]


def _type(name: str, own: Type, other: Type) -> list[str]:
    said = []
    if own.shape != other.shape:
        said.append(f"`{name}` has the shape {list(other.shape)}, the model's {list(own.shape)}")
    if own.dtype is not other.dtype:
        said.append(f"`{name}` is {other.dtype.value}, the model's {own.dtype.value}")
    return said + _quant(name, own.quant, other.quant)


def _quant(name: str, own: Quant | None, other: Quant | None) -> list[str]:
    if own == other:
        return []
    if own is None or other is None or len(own.scale) != len(other.scale) or own.axis != other.axis:
        return [f"`{name}` has the quantization {other}, the model's {own}"]
    scales = _numbers("scale", name, own.scale, other.scale)
    return scales + _numbers("zero point", name, own.zero_point, other.zero_point)


def _numbers(kind: str, name: str, own: Array, other: Array) -> list[str]:
    unlike = np.flatnonzero(own != other)
    if not len(unlike):
        return []
    first = int(unlike[0])
    if len(own) == 1:
        return [f"the {kind} of `{name}` is {other[0]:.8g}, the model's is {own[0]:.8g}"]
    where = f"{len(unlike)} of {len(own)} channels, first in {first}: {other[first]:.8g}, the model's is {own[first]:.8g}"
    return [f"the {kind} of `{name}` differs in {where}"]


def _options(ours: Node, theirs: Node) -> list[str]:
    if ours.op != theirs.op:
        return []
    said = []
    for key in sorted({*ours.attrs, *theirs.attrs}):
        own, other = (node.attrs.get(key, _default(node.op, key)) for node in (ours, theirs))
        if own != other:
            said.append(f"{key} is {_brief(other)}, the model's is {_brief(own)}")
    return said


def _default(op: str, key: str) -> Any:
    options = OPS[op].options if op in OPS else None
    fact = TABLES.get(options or "", {}).get(key)
    if fact is None:
        return None
    names = {number: name for name, number in ENUMS.get(fact.type, {}).items()}
    return names.get(fact.default, fact.default) if isinstance(fact.default, int) else fact.default


def _brief(option: Any) -> str:
    return f"<{len(option)} bytes>" if isinstance(option, bytes) else str(option)
