"""Integer inputs and outputs where the model quantizes and dequantizes them itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .errors import UnsupportedUse
from .ir import DType, Graph, Node, Value
from .optimize.engine import emit

ACCEPTED = {"uint8": DType.UINT8, "int8": DType.INT8}


def with_integer_io(graph: Graph, dtypes: Mapping[str, str]) -> Graph:
    """``graph`` with the named inputs and outputs as 8-bit integers: their QUANTIZE or DEQUANTIZE is left to the caller.

    Args:
        dtypes: name of an input or output -> ``"uint8"`` or ``"int8"``; scale and zero point are PyTorch's own, the zero point moved
            by 128 where the type is not PyTorch's.

    Raises:
        UnsupportedUse: an unknown name or type, an input that is read by anything but one QUANTIZE, an output that no DEQUANTIZE makes.
    """
    names = (*graph.input_names, *graph.output_names)
    for name, dtype in dtypes.items():
        if name not in names or dtype not in ACCEPTED:
            raise UnsupportedUse("io_dtypes", f"{name}={dtype}", f"{' or '.join(ACCEPTED)} for one of {', '.join(names)}")
    for index, name in enumerate(graph.input_names):
        if name in dtypes:
            graph = _integer_input(graph, index, ACCEPTED[dtypes[name]])
    outs = (_integer_output(value, name, dtypes) for value, name in zip(graph.outputs, graph.output_names, strict=True))
    return replace(graph, outputs=tuple(outs))


def _integer_input(graph: Graph, index: int, dtype: DType) -> Graph:
    value = graph.inputs[index]
    readers = [node for node in graph.nodes() if value in node.inputs]
    if len(readers) != 1 or readers[0].op != "QUANTIZE" or value in graph.outputs:
        ops = ", ".join(node.op for node in readers) or "nothing"
        raise UnsupportedUse("io_dtypes", f"input {graph.input_names[index]}, read by {ops}", "an input that one QUANTIZE reads")
    quantized = readers[0].out
    fed = replace(quantized, type=quantized.type.as_eight_bit(dtype), name=value.name, node=None)
    stands = fed if fed.type == quantized.type else emit("QUANTIZE", quantized.type, fed, name=quantized.name, like=readers[0])
    return replace(_substituted(graph, quantized, stands), inputs=(*graph.inputs[:index], fed, *graph.inputs[index + 1 :]))


def _integer_output(value: Value, name: str, dtypes: Mapping[str, str]) -> Value:
    if name not in dtypes:
        return value
    source = value.node.inputs[0] if value.node is not None and value.node.op == "DEQUANTIZE" else None
    if source is None:
        made_by = value.node.op if value.node is not None else "nothing"
        raise UnsupportedUse("io_dtypes", f"output {name}, made by {made_by}", "an output that a DEQUANTIZE makes")
    type_ = source.type.as_eight_bit(ACCEPTED[dtypes[name]])
    if type_ == source.type:
        return source
    return Node.make("QUANTIZE", (source,), (Value(type_, value.name, origin=source.origin),)).out


def _substituted(graph: Graph, old: Value, new: Value) -> Graph:
    """The graph with ``new`` in the place of ``old``."""
    places = {old: new}
    for node in graph.nodes():
        if any(v in places for v in node.inputs):
            made = node.rebuilt(inputs=tuple(v if v is None else places.get(v, v) for v in node.inputs))
            places.update(zip(node.outputs, made.outputs, strict=True))
    return replace(graph, outputs=tuple(places.get(v, v) for v in graph.outputs))
