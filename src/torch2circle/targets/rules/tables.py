"""Functions of one uint8 as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ...arithmetic import dequantized, quantized
from ...ir import Array, Constant, DType, Node, Type, Value
from ...optimize.engine import Replacement, Rule, emit, rule
from ...optimize.layout import operand, reshape

FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "QUANTIZE": lambda x: x,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def lookup(op: str) -> Rule:
    """A function of one uint8 is a table of 256: CAST to an index and GATHER. Exact, and faster than the float operators."""

    @rule(op, why="the runtime has no such operator on uint8; a table of its 256 results is exact")
    def by_table(node: Node) -> Replacement:
        x, out = operand(node).type, node.out.type
        if x.dtype is not DType.UINT8 or out.dtype is not DType.UINT8 or x.quant is None:
            return None
        results = quantized(FUNCTIONS[op](dequantized(np.arange(256), x.quant)), out)
        table = Value(Type((256,), DType.UINT8, out.quant), f"{node.out.name}.table", data=Constant.of(results))
        # onert takes the operand of CAST for one without a scale, which any producer but RESHAPE then refuses
        line = reshape(operand(node), (x.size,) if x.rank != 1 else (x.size, 1), node)
        index = emit("CAST", Type(line.type.shape, DType.INT32), line, like=node, in_data_type="UINT8", out_data_type="INT32")
        found = emit("GATHER", out.reshape(line.type.shape), table, index, like=node, axis=0, batch_dims=0)
        return reshape(found, out.shape, node)

    return by_table
