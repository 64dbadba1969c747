"""LiteRT (TFLite): int8 throughout, which XNNPACK executes and requantizes exactly as FBGEMM does."""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from ..optimize.fuse import ACTIVATIONS
from .base import RIGHT, Target, measured
from .rules import hybrid, islands, moves, nibbles, pools, recurrent, resizing, substitutes, weighted

_BARE = Target(
    "litert", "TFL3", ".tflite", "litert", DType.INT8, measured("litert"), opens=measured("litert", "open"), calls_methods=True,
    wide_tables=True,
)  # fmt: skip

LITERT = replace(
    _BARE,
    rules=[
        *hybrid.stored_weights(_BARE.runs),
        *map(weighted.affine_weight_in_uint8, weighted.OPERATORS),
        *map(weighted.affine_channels_in_parts, weighted.OPERATORS),
        *moves.move_then_requantize,
        moves.requantize_before_joining,
        moves.requantize_through_float,
        pools.average_pool_as_depthwise,
        resizing.bilinear_of_integers_in_float,
        recurrent.states_in_variables,
        recurrent.stored_sequence_weights(_BARE.runs),
        *islands.island(_BARE.runs, islands.ISLANDS),
        *islands.faster_in_float("HARD_SWISH", "PRELU", "GELU", "SOFTMAX"),
        substitutes.places_in_int32,
        *map(substitutes.clamp_as_pool, ACTIVATIONS),
        *(substitutes.clamp_as_extremes(op, DType.INT8, why="the kernel of the clamp is slow, and theirs are not") for op in ACTIVATIONS),
    ],
    last_rules=nibbles.in_nibbles(_BARE.verdict, RIGHT),
)
