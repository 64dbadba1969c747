"""The sequence operator: where its states live, and how it reads stored weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...ir import Array, Constant, DType, Node, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import operand
from .hybrid import float_forms

WEIGHTS, STATES = (*range(1, 9), 16), (18, 19)


@rule("UNIDIRECTIONAL_SEQUENCE_LSTM", why="the runtime wants its states in variables, which keep their values: so each call writes them")
def states_in_variables(node: Node) -> Replacement:
    if operand(node, STATES[0]).variable:
        return None
    zero = _constant(node, "zero", np.zeros((), np.float32))

    def written(state: Value) -> Value:
        variable = Value(state.type, f"{node.out.name}.state", variable=True)
        return Node.make("ADD", (state, zero), (variable,), {"fused_activation_function": "NONE"}, node.where).out

    inputs = [written(operand(node, i)) if i in STATES else v for i, v in enumerate(node.inputs)]
    return node.rebuilt(inputs=inputs, outputs=(replace(node.out, origin=None),)).out


def stored_sequence_weights(runs: Callable[[Node], bool]) -> Rule:
    """The weights as they are stored if the runtime's kernel reads them rightly, in float otherwise; behind ``states_in_variables``."""

    def in_float(node: Node, weight: Value | None) -> Value | None:
        if weight is None or (weight.node and runs(weight.node)):
            return weight
        stored = operand(weight.node) if weight.node else weight
        if stored.type.dtype is DType.FLOAT32:
            return weight
        form = next(form for form in float_forms(node, stored) if form.weight.node is None or runs(form.weight.node))
        if form.scales is None:
            return form.weight
        scales = _constant(node, "scales", form.scales.reshape(-1, 1))
        return emit("MUL", form.weight.type, form.weight, scales, like=node, fused_activation_function="NONE")

    @rule("UNIDIRECTIONAL_SEQUENCE_LSTM", why="the runtime does not read weights stored like this")
    def stored_sequence_weights(node: Node) -> Replacement:
        if operand(node, 1).node is None and runs(node) and not _has_lowest(node):
            return None
        inputs = [in_float(node, v) if i in WEIGHTS else v for i, v in enumerate(node.inputs)]
        if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
            return None
        return node.rebuilt(inputs=inputs, outputs=(replace(node.out, origin=None),)).out

    return stored_sequence_weights


def _has_lowest(node: Node) -> bool:
    """Whether a weight is -128, which LiteRT's hybrid kernel turns into another number; PyTorch's symmetric scale has it often."""
    weights = (node.inputs[i] for i in WEIGHTS)
    return any(w.array().min() == np.iinfo(np.int8).min for w in weights if w is not None and w.type.dtype is DType.INT8)


def _constant(node: Node, name: str, array: Array) -> Value:
    return Value(Type(array.shape, DType.FLOAT32), f"{node.out.name}.{name}", data=Constant.of(array))
