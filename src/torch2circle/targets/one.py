"""The ONE toolchain's own convention (circle-quantizer's verifier): uint8 activations and weights, int32 bias.

There is no runtime to measure: the table is the contract, every operator in float32 and in uint8. It differs from
onert's in what onert 0.1.0 gets wrong but the toolchain accepts: per-channel FULLY_CONNECTED, activations on their own.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from ..spec import OPS
from . import rules
from .base import Target

_TYPES = ("f32", "u8", "i32", "u8->i32", "u8/u8pc", "u8/u8pt", "f32->u8", "u8->f32", "i8->u8", "u8->i8")
_LACKS = {"HARD_SWISH"}
_TABLE = {op: {} if op in _LACKS else dict.fromkeys(_TYPES, "exact") for op in OPS}
_BARE = Target("one", "CIR0", ".circle", None, DType.UINT8, _TABLE)

ONE = replace(
    _BARE,
    rules=[
        rules.linear_on_a_matrix,
        rules.grouped_conv_as_many,
        *rules.move_then_requantize,
        rules.requantize_before_joining,
        *map(rules.lookup, ("QUANTIZE", "HARD_SWISH")),
        *rules.island(_BARE.runs, rules.ISLANDS),
        rules.hard_swish_as_products,
    ],
)
