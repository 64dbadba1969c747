"""onert (Circle): uint8 throughout, the type most of its kernels have; per-channel weights with zero point 128."""

from __future__ import annotations

from dataclasses import replace

from ..ir import DType
from .base import Target, measured
from .rules import (
    angles,
    hybrid,
    islands,
    moves,
    normal,
    pools,
    products,
    recurrent,
    reductions,
    repeats,
    resizing,
    scans,
    substitutes,
    tables,
    weighted,
)

_BARE = Target(
    "onert", "CIR0", ".circle", "onert", DType.UINT8, measured("onert"), max_rank=6, opens=measured("onert", "open"), frees_outputs=True,
    needs_elements=True, slow_channels=True,
)  # fmt: skip

ONERT = replace(
    _BARE,
    sized_rules=[normal.root_mean_square_norm, normal.factor_of_norm],
    rules=[
        *hybrid.stored_weights(_BARE.runs, slow=("CONV_2D", "DEPTHWISE_CONV_2D")),
        recurrent.stored_sequence_weights(_BARE.runs),
        weighted.per_channel_linear_as_conv,
        weighted.linear_on_a_matrix,
        weighted.grouped_conv_as_many,
        weighted.transposed_conv_as_conv,
        *map(weighted.affine_channels_in_parts, weighted.OPERATORS),
        *reductions.fewer_dimensions,
        pools.rescaled_average_as_depthwise,
        resizing.nearest_as_gathers,
        resizing.bilinear_of_integers_in_float,
        *moves.move_then_requantize,
        moves.strided_slice_as_gather,
        moves.pad_in_fewer_dimensions,
        moves.slice_in_fewer_dimensions,
        *repeats.repeat_as_gather(_BARE.runs),
        *tables.lookups(_BARE.runs),
        tables.table_of_table,
        *islands.island(_BARE.runs, (*islands.ISLANDS, "REDUCE_MAX", "REDUCE_MIN")),
        reductions.minimum_as_maximum,
        reductions.topk_by_counting,
        substitutes.hard_swish_as_products,
        substitutes.infinite_from_largest,
        substitutes.places_in_int32,
        angles.arc_as_series,
        products.constant_on_the_right,
        scans.cumsum_by_doubling,
        substitutes.prelu_as_sum,
        substitutes.ceil_as_floor,
        substitutes.sign_as_comparisons,
        substitutes.clamp_as_extremes("RELU_N1_TO_1", DType.FLOAT32, why="the runtime has this clamp only fused into other operators"),
        substitutes.select_as_sum,
        substitutes.extreme_as_choice("MAXIMUM", "GREATER"),
        substitutes.extreme_as_choice("MINIMUM", "LESS"),
        substitutes.abs_as_extreme,
        substitutes.remainder_by_division,
        *substitutes.in_fewer_dimensions(_BARE.runs, substitutes.BROADCASTING),
    ],
)
