"""Float operators with stored weights: constants of 8 bits or float16, read by the runtime's own kernel or behind a DEQUANTIZE.

A kernel that reads integer weights next to float data is a hybrid one: it rounds the data to 8 bits, too. So an operator that has its
weights behind a DEQUANTIZE never becomes a hybrid one, but a hybrid one may get a DEQUANTIZE.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...arithmetic import dequantized, moved_by_128
from ...ir import Array, Constant, DType, Node, Quant, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import operand
from ...spec import OPS
from .common import EIGHT_BIT, float_type

OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Form:
    """A way to read the weights. The result is multiplied by ``scales``, one for each channel, if they are not in ``weight`` any more."""

    weight: Value
    scales: Array | None = None


def stored_weights(runs: Callable[[Node], bool], slow: Container[str] = ()) -> list[Rule]:
    """Each operator with stored weights in the first form that the runtime executes rightly.

    Args:
        slow: operators whose hybrid kernel is slower than the float one.
    """

    def right(node: Node) -> bool:
        source = operand(node, 1).node
        return runs(node) and (source is None or runs(source))

    def fitting(node: Node) -> Replacement:
        weight, stored = operand(node, 1), stored_weight(node)
        hybrid = weight is stored
        if stored is None or (right(node) and not (hybrid and node.op in slow)):
            return None
        forms = [*(hybrid_forms(node, stored) if hybrid and node.op not in slow else ()), *float_forms(node, stored)]
        chosen = next((form for form in forms if right(_read(node, form))), None)
        if chosen is not None:
            return _finished(node, chosen)
        return None if hybrid else _finished(node, Form(stored))  # what rewrites weights wants a constant, and comes next

    return [rule(op, why="the runtime does not execute, or only slowly, weights stored like this")(fitting) for op in OPERATORS]


def stored_weight(node: Node) -> Value | None:
    """The constant in 8 bits or float16 that the weight of a float operator is, or is the DEQUANTIZE of."""
    data, weight = operand(node, OPS[node.op].data), operand(node, 1)
    if weight.node is not None and weight.node.op == "DEQUANTIZE":
        weight = operand(weight.node)
    narrow = weight.data is not None and weight.type.dtype in (*EIGHT_BIT, DType.FLOAT16)
    return weight if narrow and data.type.dtype is DType.FLOAT32 else None


def hybrid_forms(node: Node, stored: Value) -> Iterator[Form]:
    """Integers in int8, with the scales they have, with one for each channel, or with none."""
    assert stored.data is not None
    if stored.type.dtype is DType.UINT8:
        data = stored.data.map(lambda q: moved_by_128(q, DType.INT8))
        stored = replace(stored, type=stored.type.as_eight_bit(DType.INT8), data=data)
    yield Form(stored)
    quant = stored.type.quant
    if quant is not None and quant.axis is None:
        channels, axis = node.out.type.shape[-1], 3 if node.op == "DEPTHWISE_CONV_2D" else 0
        each = Quant(quant.scale.repeat(channels), quant.zero_point.repeat(channels), axis)
        yield Form(replace(stored, type=replace(stored.type, quant=each)))
    yield from _unscaled(stored)


def float_forms(node: Node, stored: Value) -> Iterator[Form]:
    """Behind a DEQUANTIZE, also without the scales, or as a float constant."""

    def computed(value: Value) -> Value:
        return emit("DEQUANTIZE", float_type(value.type), value, name=f"{value.name}.float", like=node)

    yield Form(computed(stored))
    yield from (Form(computed(form.weight), form.scales) for form in _unscaled(stored))
    assert stored.data is not None
    quant = stored.type.quant
    data = stored.data.map(lambda w: w.astype(np.float32) if quant is None else dequantized(w, quant))
    yield Form(replace(stored, type=float_type(stored.type), data=data))


def _unscaled(stored: Value) -> Iterator[Form]:
    """Scales of channels taken out of the weight, which is exact in float; zero points must be the same for all."""
    quant = stored.type.quant
    if quant is not None and quant.axis is not None and len(set(quant.zero_point.tolist())) == 1:
        plain = Quant.per_tensor(1, int(quant.zero_point[0]))
        yield Form(replace(stored, type=replace(stored.type, quant=plain)), quant.scale)


def _read(node: Node, form: Form) -> Node:
    """The operator with its weight in another form, without bias and activation if they come behind the scales."""
    first, _, *rest = node.inputs
    if form.scales is None:
        return node.rebuilt(inputs=(first, form.weight, *rest), outputs=(replace(node.out, origin=None),))
    zero = _constant(node, "zero", np.zeros_like(form.scales))
    attrs = {**node.attrs, "fused_activation_function": "NONE"}
    out = Value(node.out.type, f"{node.out.name}.unscaled")
    return node.rebuilt(inputs=(first, form.weight, *rest[:-1], zero), attrs=attrs, outputs=(out,))


def _finished(node: Node, form: Form) -> Value:
    made, bias = _read(node, form).out, node.inputs[-1]
    if form.scales is None:
        return made
    scaled = emit("MUL", made.type, made, _constant(node, "scales", form.scales), like=node, fused_activation_function="NONE")
    shift = bias or _constant(node, "zero", np.zeros(1, np.float32))
    return emit("ADD", made.type, scaled, shift, like=node, fused_activation_function=node.attrs["fused_activation_function"])


def _constant(node: Node, name: str, array: Array) -> Value:
    return Value(Type(array.shape, DType.FLOAT32), f"{node.out.name}.{name}", data=Constant.of(array))
