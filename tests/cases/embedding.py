"""Embeddings and bags of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.ao.nn.quantized as nnq
import torch.nn.functional as F
from torch import Tensor, nn

from .making import FLOAT, Call, Case, Made, Near, Q, inputs, seeded

EMBEDDED = Near(0.05, 1, "PyTorch's kernel rounds scale * q + offset once, the file twice; a step is 2**-16 of the largest magnitude")

WORDS = np.random.default_rng(2).integers(0, 11, (3, 5))  # a matrix of indices into 11 rows
MATRIX, LINE = torch.from_numpy(WORDS), torch.from_numpy(WORDS.flatten())
OFFSETS, ENDS = torch.tensor([0, 2, 2, 9]), torch.tensor([0, 2, 2, 9, 15])
FACTORS = inputs([(3, 5)], seed=3)[0]


class Looking(nn.Module):
    """A function of a table and of what the model is given."""

    def __init__(self, function: Callable[..., Tensor], table: Any) -> None:
        super().__init__()
        self.function, self.table = function, table

    def forward(self, *args: Tensor) -> Tensor:
        return self.function(self.table, *args)


def rows(width: int = 6) -> Tensor:
    """Each of another magnitude."""
    return inputs([(11, width)], seed=4)[0] * torch.arange(1, 12)[:, None] / 4


def packed(dtype: torch.dtype) -> Any:
    table, levels = rows(), 255 if dtype is torch.quint8 else 15
    low, high = table.amin(1).clamp(max=0), table.amax(1).clamp(min=0)
    scale = (high - low) / levels
    return Q.embedding_bag_prepack(torch.quantize_per_channel(table, scale, -low / scale, 0, dtype))


def looked_up(function: Callable[..., Tensor], table: Any, *args: Tensor) -> Made:
    return Looking(function, table).eval(), args


def byte(function: Callable[..., Tensor], *args: Tensor) -> Made:
    return looked_up(function, packed(torch.quint8), *args)


def four_bit(function: Callable[..., Tensor], *args: Tensor) -> Made:
    return looked_up(function, packed(torch.quint4x2), *args)


def bag(mode: str, *args: Tensor, **options: Any) -> Made:
    return seeded(nn.EmbeddingBag(11, 6, mode=mode, **options)), args


def reference(dtype: torch.dtype, scheme: torch.qscheme = torch.per_channel_affine) -> Made:
    """What convert_to_reference makes of an embedding: a quantized weight that is dequantized for a float operator."""
    rows = torch.arange(1, 12) if scheme is torch.per_channel_affine else torch.tensor(5)
    qparams = {"qscheme": scheme, "dtype": dtype, "axis": 0, "scale": rows / 64, "zero_point": rows - 1}
    return nnq.reference.Embedding.from_float(seeded(nn.Embedding(11, 6)), qparams).eval(), (MATRIX,)


def tables(dtype: torch.dtype) -> Tensor:
    return torch.quantize_per_tensor(rows(), 0.0911713, 112 if dtype is torch.quint8 else -16, dtype)


CASES = [
    Case("embedding.byte", lambda: byte(Q.embedding_byte, MATRIX), EMBEDDED),
    Case("embedding.byte_int32", lambda: byte(Q.embedding_byte, MATRIX.int()), EMBEDDED),
    Case("embedding.byte_vector", lambda: byte(Q.embedding_byte, LINE), EMBEDDED),
    Case("embedding.4bit", lambda: four_bit(Q.embedding_4bit, MATRIX)),
    Case("embedding.4bit_int32", lambda: four_bit(Q.embedding_4bit, LINE.int())),
    Case("embedding.reference", lambda: reference(torch.quint8), EMBEDDED),
    Case("embedding.reference_int8", lambda: reference(torch.qint8), EMBEDDED),
    Case("embedding.reference_per_tensor", lambda: reference(torch.qint8, torch.per_tensor_affine)),
    Case("embedding.uint8", lambda: looked_up(lambda t, i: F.embedding(i, t).dequantize(), tables(torch.quint8), MATRIX)),
    Case("embedding.int8", lambda: looked_up(lambda t, i: F.embedding(i, t).dequantize(), tables(torch.qint8), MATRIX)),
    Case("bag.byte", lambda: byte(Q.embedding_bag_byte, MATRIX), EMBEDDED),
    Case("bag.byte_offsets", lambda: byte(Q.embedding_bag_byte, LINE, OFFSETS), EMBEDDED),
    Case("bag.byte_offsets_int32", lambda: byte(Q.embedding_bag_byte, LINE.int(), OFFSETS.int()), EMBEDDED),
    Case("bag.byte_last_offset", lambda: byte(
        lambda t, i, o: Q.embedding_bag_byte(t, i, o, include_last_offset=True), LINE, ENDS), EMBEDDED),
    Case("bag.byte_fixed_offsets", lambda: byte(lambda t, i: Q.embedding_bag_byte(t, i, OFFSETS), LINE), EMBEDDED),
    Case("bag.byte_even_offsets", lambda: byte(lambda t, i: Q.embedding_bag_byte(t, i, torch.arange(0, 15, 3)), LINE), EMBEDDED),
    Case("bag.byte_factors", lambda: byte(lambda t, i, w: Q.embedding_bag_byte(t, i, per_sample_weights=w), MATRIX, FACTORS), EMBEDDED),
    Case("bag.4bit", lambda: four_bit(Q.embedding_bag_4bit, MATRIX.int()), EMBEDDED),
    Case("bag.4bit_offsets_factors", lambda: four_bit(
        lambda t, i, o, w: Q.embedding_bag_4bit(t, i, o, per_sample_weights=w), LINE, OFFSETS, FACTORS.flatten()), EMBEDDED),
    Case("bag.byte_rowwise", lambda: looked_up(
        Q.embedding_bag_byte_rowwise_offsets, Q.embedding_bag_byte_prepack(rows(7)), MATRIX), EMBEDDED),
    Case("bag.4bit_rowwise", lambda: looked_up(
        Q.embedding_bag_4bit_rowwise_offsets, Q.embedding_bag_4bit_prepack(rows(8)), LINE, OFFSETS), EMBEDDED),
    Case("bag.2bit_rowwise", lambda: looked_up(
        Q.embedding_bag_2bit_rowwise_offsets, Q.embedding_bag_2bit_prepack(rows(8)), MATRIX), EMBEDDED),
    Case("float.embedding", lambda: (seeded(nn.Embedding(11, 6, padding_idx=2)), (MATRIX,))),
    Case("float.embedding_computed_table", lambda: (Call(F.embedding).eval(), (MATRIX, rows()))),
    Case("float.bag_sum", lambda: bag("sum", MATRIX), FLOAT),
    Case("float.bag_mean", lambda: bag("mean", MATRIX), FLOAT),
    Case("float.bag_max", lambda: bag("max", MATRIX)),
    Case("float.bag_sum_offsets", lambda: bag("sum", LINE, OFFSETS), FLOAT),
    Case("float.bag_mean_offsets", lambda: bag("mean", LINE, ENDS, include_last_offset=True), FLOAT),
    Case("float.bag_mean_fixed_offsets", lambda: looked_up(lambda t, i: F.embedding_bag(i, t, OFFSETS, mode="mean"), rows(), LINE), FLOAT),
    Case("float.bag_sum_padded", lambda: bag("sum", MATRIX, padding_idx=7), FLOAT),
    Case("float.bag_mean_padded", lambda: bag("mean", LINE, OFFSETS, padding_idx=7), FLOAT),
    Case("float.bag_factors_padded", lambda: looked_up(
        lambda t, i, w: F.embedding_bag(i, t, per_sample_weights=w, mode="sum", padding_idx=-4), rows(), MATRIX, FACTORS), FLOAT),
    Case("float.bag_by_name", lambda: looked_up(lambda t, i, o: torch.ops.aten.embedding_bag(t, i, o)[0], rows(), LINE, OFFSETS), FLOAT),
    Case("float.bag_in_training", lambda: looked_up(
        lambda t, i, o: torch.ops.aten._embedding_bag(t, i, o, padding_idx=7)[0], rows(), LINE, OFFSETS), FLOAT),
    Case("float.bag_forward_only", lambda: looked_up(
        lambda t, i, o: torch.ops.aten._embedding_bag_forward_only(t, i, o, False, 1)[0], rows(), LINE, OFFSETS), FLOAT),
]  # fmt: skip
