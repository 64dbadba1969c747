"""onert (Circle): uint8 throughout, the type most of its kernels have; per-channel weights with zero point 128."""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from . import rules
from .base import Target, measured

_BARE = Target("onert", "CIR0", ".circle", "onert", DType.UINT8, measured("onert"), max_rank=6)

ONERT = replace(
    _BARE,
    rules=[
        rules.per_channel_linear_as_conv,
        rules.linear_on_a_matrix,
        rules.grouped_conv_as_many,
        rules.mean_then_reshape,
        *rules.move_then_requantize,
        rules.strided_slice_as_gather,
        *map(rules.lookup, rules.FUNCTIONS),
        *rules.island(_BARE.runs, rules.ISLANDS),
        rules.hard_swish_as_products,
    ],
)
