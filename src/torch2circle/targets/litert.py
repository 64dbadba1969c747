"""LiteRT (TFLite): int8 throughout, which XNNPACK executes and requantizes exactly as FBGEMM does."""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from .base import Target, measured
from .rules import islands, moves, pools, recurrent, weighted

_BARE = Target("litert", "TFL3", ".tflite", "litert", DType.INT8, measured("litert"))

LITERT = replace(
    _BARE,
    rules=[
        *(weighted.affine_weight_in_uint8(op) for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")),
        *moves.move_then_requantize,
        moves.requantize_before_joining,
        moves.requantize_through_float,
        pools.average_pool_as_depthwise,
        recurrent.states_in_variables,
        recurrent.stored_sequence_weights(_BARE.runs),
        *islands.island(_BARE.runs, islands.ISLANDS),
    ],
)
