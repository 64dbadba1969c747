"""Rewrites as a table: a rule is a chain of operators, a pure function and the reason it is right.

The graph is immutable: a pass rebuilds it from the inputs, replacing what rules match, until none does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import Bug
from ..ir import Graph, Node, Value, Where

log = logging.getLogger(__name__)

Replacement = Value | Sequence[Value] | None
MAX_PASSES = 20


@dataclass(frozen=True)
class Rule:
    """``chain``: the operator to replace, then that of its first data operand, and so on; each of these is read by nothing else.

    ``apply(node, producer, ...)`` gives the new result (or results), of exactly the old types, or None where the rule does not hold.
    """

    name: str
    chain: tuple[str, ...]
    apply: Callable[..., Replacement]
    why: str


def rule(*chain: str, why: str) -> Callable[[Callable[..., Replacement]], Rule]:
    """Make a rule of a function; ``"*"`` in ``chain`` matches any operator."""
    return lambda apply: Rule(apply.__name__.strip("_"), chain, apply, why)


def rewrite(graph: Graph, rules: Iterable[Rule], fired: Counter[str] | None = None) -> Graph:
    """Apply rules until none matches; ``fired`` counts how often each did.

    Raises:
        Bug: a rule changed the type of what it replaced, or the rules never settle.
    """
    table: dict[str, list[Rule]] = {}
    for each in rules:
        table.setdefault(each.chain[0], []).append(each)
    for _ in range(MAX_PASSES):
        count = Counter[str]()
        graph = _one_pass(graph, table, count)
        if fired is not None:
            fired.update(count)
        if not count:
            return graph
    raise Bug(f"rewrite rules do not settle: {dict(count)}")


def _one_pass(graph: Graph, table: Mapping[str, Sequence[Rule]], count: Counter[str]) -> Graph:
    new: dict[Value, Value] = {}
    uses = graph.uses()

    def mapped(value: Value | None) -> Value | None:
        return None if value is None else new.get(value, value)

    def read(value: Value) -> int:
        return uses.get(value, 1)

    for node in graph.nodes():
        inputs = tuple(mapped(v) for v in node.inputs)
        current = node if inputs == node.inputs else node.rebuilt(inputs=inputs)
        outs = _replace(current, table, read, count)
        for old, out in zip(node.outputs, outs, strict=True):
            new[old] = out
            uses[out] = max(uses[out], uses[old]) if out in uses else uses[old]
    return replace(graph, outputs=tuple(new.get(v, v) for v in graph.outputs))


def _replace(node: Node, table: Mapping[str, Sequence[Rule]], read: Callable[[Value], int], count: Counter[str]) -> Sequence[Value]:
    for each in (*table.get(node.op, ()), *table.get("*", ())):
        producers = _producers(node, each.chain, read)
        result = None if producers is None else each.apply(node, *producers)
        if result is None:
            continue
        outs = [result] if isinstance(result, Value) else list(result)
        for old, out in zip(node.outputs, outs, strict=True):
            if old.type != out.type:
                raise Bug(f"rule {each.name} changed {old.type} to {out.type}", where=node.where)
        count[each.name] += 1
        log.debug("%s at %s: %s", each.name, node.out.name, each.why)
        return _named_as(node, outs)
    return node.outputs


def _producers(node: Node, chain: Sequence[str], read: Callable[[Value], int]) -> list[Node] | None:
    producers = []
    for op in chain[1:]:
        source = data_input(node)
        if source is None or source.node is None or op not in ("*", source.node.op) or read(source) != 1 or len(source.node.outputs) != 1:
            return None
        node = source.node
        producers.append(node)
    return producers


def data_input(node: Node) -> Value | None:
    """The first operand that is no constant."""
    return next((v for v in node.inputs if v is not None and v.data is None), None)


def _named_as(old: Node, outs: Sequence[Value]) -> Sequence[Value]:
    """A freshly made result takes over the old one's name and origin; an older value keeps its own."""
    node = outs[0].node
    fresh = node is not None and tuple(outs) == node.outputs and all(out.origin is None for out in outs)
    if not fresh or node is None:
        return outs
    taken = [replace(out, name=was.name, origin=was.origin) for out, was in zip(outs, old.outputs, strict=True)]
    return node.rebuilt(outputs=taken, where=old.where).outputs


def emit(op: str, type_: Any, *inputs: Value | None, name: str = "", like: Node | None = None, **attrs: Any) -> Value:
    """A node for use in rules: one result of ``type_``, at the place of ``like``."""
    where = like.where if like is not None else Where()
    stem = name or (f"{like.out.name}.{op.lower()}" if like is not None else op.lower())
    return Node.make(op, inputs, (Value(type_, stem),), attrs, where).out
