"""An integer graph taken apart: the same graph in float, and for each of its tensors the integers it was.

QUANTIZE and DEQUANTIZE do nothing to real numbers, so they vanish, and the tensors on their two sides become one. Where two are
needed, since a tensor changes its scale or is read in float, too, adding zero keeps them apart; ``graft`` makes QUANTIZE of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arithmetic import dequantized, quantized
from ..errors import TargetError, UserError
from ..format.writer import unique_names
from ..ir import Constant, DType, Finding, Graph, Node, Type, Value
from ..optimize import Rule
from ..optimize.engine import Replacement, emit
from ..spec import scheme
from ..targets import TARGETS, rewritten
from .bundle import Bundle, Entry, shortened

ONE = TARGETS["one"]


def separate(graph: Graph) -> Bundle:
    """What q-implant makes ``graph`` of, in ONE's convention: activations and weights of uint8, biases of int32.

    Raises:
        UserError: nothing in ``graph`` is quantized.
        TargetError: an operator works on integers as such, which float tensors do not have.
    """
    graph = rewritten(graph, replace(ONE, rules=[*map(_on_real_numbers, ONE.rules)]))
    separation = _Separation(graph)
    floats = separation.floats()
    named = dict(zip(floats.values(), unique_names(floats.values()), strict=True))
    entries = {name: _entry(separation.integers[v]) for v, name in named.items() if v in separation.integers}
    if not entries:
        raise UserError("there is nothing to implant: the model has no quantized tensor")
    left = [name for v, name in named.items() if v.type.dtype.is_float and name not in entries]
    return Bundle(floats, entries, (*_lacking(graph), *_left(left)))


def _on_real_numbers(rule: Rule) -> Rule:
    """``rule`` where it needs no integers, as a table does that they index, and no way through float."""

    def apply(node: Node, *producers: Node) -> Replacement:
        made = rule.apply(node, *producers)
        done = {v.node for part in (node, *producers) for v in part.inputs if v is not None}
        stack = [v.node for v in ([made] if isinstance(made, Value) else made or [])]
        while stack:
            new = stack.pop()
            if new is not None and new not in done:
                if new.op in ("CAST", "DEQUANTIZE"):
                    return None
                done.add(new)
                stack += [v.node for v in new.inputs if v is not None]
        return made

    return replace(rule, apply=apply)


class _Separation:
    """``new``: value of the graph -> its float one; ``integers``: float value -> the quantized one that it stands for."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.merged = graph, _merged(graph)
        self.new: dict[Value, Value] = {}
        self.integers: dict[Value, Value] = {}

    def floats(self) -> Graph:
        inputs = tuple(self.value(value) for value in self.graph.inputs)
        for node in self.graph.nodes():
            self.node(node)
        return replace(self.graph, inputs=inputs, outputs=tuple(map(self.value, self.graph.outputs)))

    def value(self, value: Value) -> Value:
        """The float value for ``value``, here made of a constant or an input."""
        if value not in self.new:
            quant = value.type.quant
            data = value.data if value.data is None or quant is None else value.data.map(lambda q: dequantized(q, quant))
            self.stand_for(replace(value, type=_float(value.type), data=data), value)
        return self.new[value]

    def stand_for(self, new: Value, value: Value) -> None:
        self.new[value] = new
        integers = self.merged.get(value, value)
        if integers.type.quant is not None:
            self.integers[new] = replace(integers, type=_in_uint8(integers.type))

    def node(self, node: Node) -> None:
        if node.op == "CAST" and any(v is not None and v.type.quant is not None for v in (*node.inputs, *node.outputs)):
            raise TargetError(f"q-implant starts from float tensors, and {node.op} reads integers as they are, at {node.where}")
        if node.op not in ("QUANTIZE", "DEQUANTIZE"):
            outputs = [Value(_float(out.type), self.merged.get(out, out).name) for out in node.outputs]
            made = node.rebuilt(inputs=[v if v is None else self.value(v) for v in node.inputs], outputs=outputs)
            for new, value in zip(made.outputs, node.outputs, strict=True):
                self.stand_for(new, value)
            return
        source = node.inputs[0]
        assert source is not None
        x = self.value(source)
        if node.op == "DEQUANTIZE" and source.data is not None:
            self.new[node.out] = replace(x, name=node.out.name)  # weights of a layer in float: an entry would say that it is in integers
        elif node.op == "DEQUANTIZE" or (x in self.integers and self.integers[x].type == _in_uint8(node.out.type)):
            self.new[node.out] = x
        else:
            self.stand_for(self.plus_zero(x, node), node.out)

    def plus_zero(self, x: Value, node: Node) -> Value:
        shape = (1,) * min(x.type.rank, 1)
        zero = Value(Type(shape, DType.FLOAT32), f"{node.out.name}.zero", data=Constant.of(np.zeros(shape, np.float32)))
        if x in self.integers:
            type_ = self.integers[x].type.reshape(shape)
            self.integers[zero] = replace(zero, type=type_, data=Constant.of(quantized(zero.array(), type_)))
        return emit("ADD", x.type, x, zero, name=node.out.name, like=node, fused_activation_function="NONE")


def _merged(graph: Graph) -> dict[Value, Value]:
    """Float values that nothing reads but a QUANTIZE, or several to the same type, and what it makes of them."""
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes():
        for value in node.inputs:
            if value is not None and value.type.dtype.is_float:
                readers.setdefault(value, []).append(node)
    for value in graph.outputs:
        readers.pop(value, None)
    made = {value: nodes[0] for value, nodes in readers.items() if len({(node.op, node.out.type) for node in nodes}) == 1}
    dequantized_again = {node.out for node in graph.nodes() if node.op == "DEQUANTIZE"}
    return {value: node.out for value, node in made.items() if node.op == "QUANTIZE" and value not in dequantized_again}


def _float(type_: Type) -> Type:
    return type_ if type_.quant is None else Type(type_.shape, DType.FLOAT32)


def _in_uint8(type_: Type) -> Type:
    return type_.as_eight_bit(DType.UINT8) if type_.dtype is DType.INT8 else type_


def _entry(value: Value) -> Entry:
    quant = value.type.quant
    assert quant is not None
    return Entry(value.type.dtype, quant.scale, quant.zero_point, quant.axis or 0, value.data)


def _lacking(graph: Graph) -> list[Finding]:
    """Operators that ONE's own tools have no integer form of."""
    lacking: dict[str, list[Node]] = {}
    for node in graph.nodes():
        if not ONE.runs(node):
            lacking.setdefault(f"{node.op} ({scheme(node)})", []).append(node)
    message = "{} x{} is none of ONE's quantized operators; `torch2circle implant` makes others of it"
    return [
        Finding("warning", "one-lacks", nodes[0].where.module or "<top>", message.format(op, len(nodes))) for op, nodes in lacking.items()
    ]


def _left(names: list[str]) -> list[Finding]:
    message = f"{len(names)} tensor(s) stay float, which ONE's own q-implant refuses: {shortened(names)}"
    return [Finding("warning", "left-float", "<top>", message)] if names else []
