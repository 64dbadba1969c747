"""Embeddings: the rows of a table that indices name, and sums of them (bags). The table may be quantized row by row.

An index that the table has no row for is an error in PyTorch; what the runtimes then read is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..ir import Array, DType, Quant, Type, Value
from ..quant import array_of, constant_of
from .context import Context, reshaped
from .formula import cast, part
from .matmul import Matrices, product
from .registry import Order, lowers

SUM, MEAN, MAX = range(3)
STORED = (torch.quint8, torch.qint8, torch.quint4x2)
PLAIN_INTEGERS = Quant.per_tensor(1, 0)
TRAINING = ("scale_grad_by_freq", "sparse")  # arguments that say how gradients come about


@lowers("aten::embedding", order=Order.PLAIN, ignores=("padding_idx", *TRAINING))
def embedding(c: Context, x: Value, indices: Value) -> Value:
    weight = c.call.args["weight"]
    stored = c.builder.recording.stored_as(weight) if isinstance(weight, Tensor) else None
    if isinstance(weight, Tensor) and c.builder.recording.groups_of(weight) is not None:
        c.note("warning", "float-weights", "a table with a scale for each group of a row becomes a float32 one")
    if stored is None or stored is weight or stored.dtype not in STORED:
        return c.emit("GATHER", x, indices, axis=0, batch_dims=0)
    if stored.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return c.emit("DEQUANTIZE", gathered(c, c.builder.place(stored).value, indices))
    c.only(stored.q_per_channel_axis() == 0, "axis of the quantized weight", stored.q_per_channel_axis(), "0: a scale for each row")
    return c.emit("ADD", *Table.of(lambda: stored).rows(c, indices), fused_activation_function="NONE")


@lowers("quantized::embedding_byte", order=Order.PLAIN, bits=8)
@lowers("quantized::embedding_4bit", order=Order.PLAIN, bits=4)
def quantized_embedding(c: Context, weight: Any, indices: Value, pruned_weights: bool, bits: int) -> Value:
    c.only(not pruned_weights, "pruned_weights", pruned_weights, "False")
    return c.emit("ADD", *Table.packed(c, weight, bits).rows(c, indices), fused_activation_function="NONE")


@lowers("quantized::embedding_bag_byte", order=Order.PLAIN, ignores=TRAINING, bits=8)
@lowers("quantized::embedding_bag_4bit", order=Order.PLAIN, ignores=TRAINING, bits=4)
@lowers("quantized::embedding_bag_byte_rowwise_offsets", order=Order.PLAIN, ignores=TRAINING, bits=8)
@lowers("quantized::embedding_bag_4bit_rowwise_offsets", order=Order.PLAIN, ignores=TRAINING, bits=4)
@lowers("quantized::embedding_bag_2bit_rowwise_offsets", order=Order.PLAIN, ignores=TRAINING, bits=2)
def quantized_bag(
    c: Context,
    weight: Any,
    indices: Value,
    offsets: Value | None,
    mode: int,
    pruned_weights: bool,
    per_sample_weights: Value | None,
    compressed_indices_mapping: Value | None,
    include_last_offset: bool,
    bits: int,
) -> Value:
    c.only(mode == SUM, "mode", mode, "0: PyTorch adds the rows up whatever it says")
    c.only(not pruned_weights and compressed_indices_mapping is None, "pruned_weights", pruned_weights, "False")
    table = Table.rowwise(weight, bits) if isinstance(weight, Tensor) else Table.packed(c, weight, bits)
    bags = Bags.of(c, indices, offsets, include_last_offset, per_sample_weights)
    return bags.reduced(c, part(c, "ADD", *table.rows(c, bags.indices)), mode)


@lowers("aten::embedding_bag", order=Order.PLAIN, ignores=TRAINING, padding_idx=-1)
@lowers("aten::embedding_bag.padding_idx", order=Order.PLAIN, ignores=TRAINING)
@lowers("aten::_embedding_bag", "aten::_embedding_bag_forward_only", order=Order.PLAIN, ignores=TRAINING)
def embedding_bag(
    c: Context,
    x: Value,
    indices: Value,
    offsets: Value,
    mode: int,
    per_sample_weights: Value | None,
    include_last_offset: bool,
    padding_idx: int | None,
) -> Sequence[Value | None]:
    c.only(not any(c.is_read(i) for i in (1, 2, 3)), "results", "more than the first", "the first")
    counted = per_sample_weights
    if padding_idx is not None and (padding_idx >= 0 or c.call.op.endswith("padding_idx")):
        c.only(mode != MAX, "padding_idx", padding_idx, "None for the maximum of a bag")
        real = cast(c, part(c, "NOT_EQUAL", indices, padding_idx % x.type.shape[0], dtype=DType.BOOL), DType.FLOAT32)
        counted = real if counted is None else part(c, "MUL", counted, real)
    bags = Bags.of(c, indices, offsets, include_last_offset, counted)
    return [bags.reduced(c, gathered(c, x, bags.indices), mode), None, None, None]


def gathered(c: Context, table: Value, indices: Value) -> Value:
    """The rows of ``table`` at ``indices``, on the way to the result."""
    return c.emit_as(table.type.reshape((*indices.type.shape, *table.type.shape[1:])), "GATHER", table, indices, axis=0, batch_dims=0)


@dataclass(frozen=True)
class Table:
    """Rows of integers with ``bits`` bits, from the lowest bits of a byte on; an element is ``scale * q + offset`` of its row.

    ``load`` gives the bytes, uint8[rows, width * bits / 8]; ``scale`` and ``offset`` are float32[rows, 1].
    """

    bits: int
    width: int
    load: Callable[[], Tensor]
    scale: Array
    offset: Array

    @staticmethod
    def of(load: Callable[[], Tensor], kernel: torch.dtype = torch.float32) -> Table:
        """A quantized matrix with a scale for each row; ``kernel``: in what PyTorch's keeps scales and offsets."""
        table = load()
        bits, shift = 4 if table.dtype is torch.quint4x2 else 8, 128 if table.dtype is torch.qint8 else 0
        scale = table.q_per_channel_scales().float()
        offset = -scale * (table.q_per_channel_zero_points().float() + shift)
        columns = [_column(numbers.to(kernel).float()) for numbers in (scale, offset)]
        return Table(bits, table.shape[1], lambda: (load().int_repr().short() + shift).byte().view(len(scale), -1), *columns)

    @staticmethod
    def packed(c: Context, packed: Any, bits: int) -> Table:
        """The table of a quantized.Embedding."""

        def unpack() -> Tensor:
            made: Tensor = torch.ops.quantized.embedding_bag_unpack(packed)
            return made

        table = Table.of(unpack, torch.float16 if bits == 4 else torch.float32)
        # Embedding.from_float forgets the dtype, and PyTorch's result is garbage then
        accepted = f"a {bits}-bit one: set the module's dtype, which convert() left as it was"
        c.only(table.bits == bits, "weight", f"a {table.bits}-bit table", accepted)
        return table

    @staticmethod
    def rowwise(weight: Tensor, bits: int) -> Table:
        """A table whose rows end with their scale and offset: two float32 behind bytes, two float16 behind fewer bits."""
        stored = torch.float32 if bits == 8 else torch.float16
        tail = 2 * stored.itemsize
        scale, offset = weight[:, -tail:].contiguous().view(stored).float().unbind(1)
        width = (weight.shape[1] - tail) * 8 // bits
        return Table(bits, width, lambda: weight[:, :-tail].contiguous(), _column(scale), _column(offset))

    def rows(self, c: Context, indices: Value) -> tuple[Value, Value]:
        """``scale * q`` and ``offset`` of the rows at ``indices``, whose sum is left to the caller."""
        type_ = Type((len(self.scale), self.width * self.bits // 8), DType.UINT8, PLAIN_INTEGERS)
        stored = gathered(c, Value(type_, c.builder.name(f"{c.stem}.table"), data=constant_of(self.load)), indices)
        q = part(c, "DEQUANTIZE", stored, dtype=DType.FLOAT32)
        if self.bits < 8:
            q = reshaped(c, _digits(c, q, self.bits), (*indices.type.shape, self.width))
        scale, offset = (
            gathered(c, c.const(column, f"{c.stem}.{name}"), indices) for name, column in (("scales", self.scale), ("offsets", self.offset))
        )
        return part(c, "MUL", q, scale), offset


def _column(numbers: Tensor) -> Array:
    return array_of(numbers.contiguous())[:, None]


def _digits(c: Context, q: Value, bits: int) -> Value:
    """The numbers of ``bits`` bits in each byte, in a new last dimension: its row in a table for all 256 bytes."""
    digits = np.arange(256)[:, None] >> np.arange(0, 8, bits) & (1 << bits) - 1
    return gathered(c, c.const(digits.astype(np.float32), "digits"), cast(c, q, DType.INT32))


@dataclass(frozen=True)
class Bags:
    """``indices`` are a matrix with a row for each bag, or a vector with ``members``: float32[bags, indices], 1 where one belongs to a bag.

    ``counted`` has the shape of ``indices``: a factor for each row of the table, whose sum divides a mean.
    """

    indices: Value
    counted: Value | None
    members: Value | None = None

    @staticmethod
    def of(c: Context, indices: Value, offsets: Value | None, include_last_offset: bool, counted: Value | None) -> Bags:
        """Bags of one length become rows of a matrix."""
        if offsets is None:
            return Bags(indices, counted)
        if offsets.data is None:
            return Bags(indices, counted, _members(c, offsets, indices.type.size, include_last_offset))
        bounds = offsets.array() if include_last_offset else np.append(offsets.array(), indices.type.size)
        lengths = np.diff(bounds)
        c.only(bounds[0] == 0 and bool((lengths >= 0).all()), "offsets", offsets.array().tolist(), "numbers that ascend from 0")
        if len(lengths) * lengths[0] == indices.type.size and (lengths == lengths[0]).all():
            shape = (len(lengths), int(lengths[0]))
            return Bags(reshaped(c, indices, shape), counted and reshaped(c, counted, shape))
        position = np.arange(indices.type.size)
        members = (bounds[:-1, None] <= position) & (position < bounds[1:, None])
        return Bags(indices, counted, c.const(members.astype(np.float32), "members"))

    def reduced(self, c: Context, rows: Value, mode: int) -> Value:
        """The sum, mean or maximum of the rows of each bag, as the call's first result; 0 for the mean of an empty bag."""
        if self.counted is not None:
            rows = part(c, "MUL", rows, reshaped(c, self.counted, (*self.indices.type.shape, 1)))
        if self.members is None and (mode == MAX or self.counted is None):
            return c.as_result(self._along(c, rows, ("SUM", "MEAN", "REDUCE_MAX")[mode]))
        c.only(mode != MAX, "mode", "max", "sum or mean, for bags of unequal lengths")
        total = self._summed(c, rows)
        return c.as_result(total if mode == SUM else part(c, "DIV", total, self._counts(c)))

    def _counts(self, c: Context) -> Value:
        """What divides the mean of each bag: float32[bags, 1], at least 1."""
        if self.counted is None and self.members is not None and self.members.data is not None:
            return c.const(np.maximum(self.members.array().sum(1, keepdims=True), 1), "counts")
        shape = (*self.indices.type.shape, 1)
        ones = c.const(np.ones(shape, np.float32), "ones") if self.counted is None else reshaped(c, self.counted, shape)
        return part(c, "MAXIMUM", self._summed(c, ones), 1.0)

    def _summed(self, c: Context, rows: Value) -> Value:
        return self._along(c, rows, "SUM") if self.members is None else product(c, Matrices(self.members), Matrices(rows))

    def _along(self, c: Context, rows: Value, op: str) -> Value:
        return c.emit_as(rows.type.reshape((rows.type.shape[0], rows.type.shape[2])), op, rows, c.const([1], "axis"), keep_dims=False)


def _members(c: Context, offsets: Value, size: int, include_last_offset: bool) -> Value:
    """1 from a bag's offset on, less the same of the next bag."""
    count = offsets.type.size
    position = c.const(np.arange(size, dtype=offsets.type.dtype.numpy), "position")
    begun = cast(c, part(c, "LESS_EQUAL", reshaped(c, offsets, (count, 1)), position, dtype=DType.BOOL), DType.FLOAT32)
    following = _bags(c, begun, 1, count)
    if include_last_offset:
        return part(c, "SUB", _bags(c, begun, 0, count - 1), following)
    return part(c, "SUB", begun, c.emit_as(begun.type, "PAD", following, c.const(np.array([[0, 1], [0, 0]], np.int32), "pads")))


def _bags(c: Context, members: Value, first: int, last: int) -> Value:
    shape = (last - first, members.type.shape[1])
    return c.emit_as(members.type.reshape(shape), "SLICE", members, c.const([first, 0], "begin"), c.const(list(shape), "size"))
