"""The ONE toolchain's own convention (circle-quantizer's verifier): uint8 activations and weights, int32 bias.

There is no runtime to measure: the table is the contract, every operator in float32 and in uint8. It differs from
onert's in what onert 0.1.0 gets wrong but the toolchain accepts: per-channel FULLY_CONNECTED, activations on their own.
Its other family is activations and weights of int16 with int64 biases: weights of 8 bits next to int16 are the same numbers in int16.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from ..spec import OPS
from .base import Target
from .rules import hybrid, islands, moves, recurrent, substitutes, tables, weighted

_FORMS = ("f32", "u8", "u8/u8pc", "u8/u8pt", "f32+computed", "u8/u8pt+computed", "i32", "bool")
_CHANGES = ("f32->u8", "u8->f32", "i8->u8", "u8->i8", "u8->i32", "f32->i32", "u8->bool", "f32->bool", "i32->bool")
_MODES = tuple(x + mark for x in ("f32", "u8") for mark in ("+half_pixel", "+aligned", "+axes", "+dropped"))
_TYPES = (*_FORMS, *_CHANGES, *_MODES)
_INT16 = ("i16", "i16/i16pc", "i16/i16pt", "f32->i16", "i16->f32", "u8->i16", "i16->u8")
_LACKS = {"HARD_SWISH", "SIGN", "ATAN2", "CUMSUM", "CONV_3D", "CONV_3D_TRANSPOSE", "EMBEDDING_LOOKUP", "RELU_0_TO_1", "REDUCE_ALL"}
_TABLE = {op: {} if op in _LACKS else dict.fromkeys(_TYPES if spec.fixed else (*_TYPES, *_INT16), "exact") for op, spec in OPS.items()}
_BARE = Target("one", "CIR0", ".circle", None, DType.UINT8, _TABLE)

ONE = replace(
    _BARE,
    rules=[
        *hybrid.stored_weights(_BARE.runs),
        recurrent.stored_sequence_weights(_BARE.runs),
        *map(weighted.weight_in_int16, weighted.OPERATORS),
        weighted.linear_on_a_matrix,
        weighted.grouped_conv_as_many,
        *map(weighted.affine_channels_in_parts, weighted.OPERATORS),
        *moves.move_then_requantize,
        moves.requantize_before_joining,
        *tables.lookups(_BARE.runs),
        tables.table_of_table,
        *islands.island(_BARE.runs, islands.ISLANDS),
        substitutes.hard_swish_as_products,
    ],
)
