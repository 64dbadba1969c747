"""LiteRT (TFLite): int8 throughout, which XNNPACK executes and requantizes exactly as FBGEMM does."""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from . import rules
from .base import Target, measured

_BARE = Target("litert", "TFL3", ".tflite", "litert", DType.INT8, measured("litert"))

LITERT = replace(
    _BARE,
    rules=[
        *(rules.affine_weight_in_uint8(op) for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")),
        *rules.move_then_requantize,
        rules.requantize_before_joining,
        rules.requantize_through_float,
        rules.average_pool_as_depthwise,
        *rules.island(_BARE.runs, rules.ISLANDS),
    ],
)
