"""onert (Circle): uint8 throughout, the type most of its kernels have; per-channel weights with zero point 128."""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from .base import Target, measured
from .rules import islands, moves, pools, products, recurrent, repeats, scans, tables, weighted

_BARE = Target("onert", "CIR0", ".circle", "onert", DType.UINT8, measured("onert"), max_rank=6, frees_outputs=True)

ONERT = replace(
    _BARE,
    rules=[
        recurrent.stored_sequence_weights(_BARE.runs),
        weighted.per_channel_linear_as_conv,
        weighted.linear_on_a_matrix,
        weighted.grouped_conv_as_many,
        weighted.transposed_conv_as_conv,
        pools.mean_then_reshape,
        *moves.move_then_requantize,
        moves.strided_slice_as_gather,
        *repeats.repeat_as_gather(_BARE.runs),
        *map(tables.lookup, tables.FUNCTIONS),
        *islands.island(_BARE.runs, islands.ISLANDS),
        islands.hard_swish_as_products,
        products.constant_on_the_right,
        scans.cumsum_by_doubling,
    ],
)
