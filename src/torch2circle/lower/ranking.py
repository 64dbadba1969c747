"""Elements in the order of their size, and where they stood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..ir import DType, Node, Type, Value
from ..quant import array_of
from .context import Context, Placed, plain, reshaped
from .formula import cast, number, part, promoted
from .registry import Order, lowers

UNFUSED = {"fused_activation_function": "NONE"}

# elements of the comparisons that are counted
LARGEST_COMPARISON = 4 << 20


@lowers("aten::sort", order=Order.FREE)
@lowers("aten::sort.stable", order=Order.FREE, ignores=("stable",))
def sort(c: Context, x: Placed, dim: int, descending: bool) -> tuple[Value, Value]:
    """Equal elements stay in their order, also where PyTorch does not promise it."""
    _as_stable_sort(c, x.shape[dim], dim, descending)
    return _first(c, x, x.shape[dim], dim, descending)


@lowers("aten::topk", order=Order.FREE, ignores=("sorted",))
def topk(c: Context, x: Placed, k: int, dim: int, largest: bool) -> tuple[Value, Value]:
    """Always sorted: PyTorch leaves open what comes first of equal elements, or of those it need not sort."""
    _as_stable_sort(c, k, dim, largest)
    return _first(c, x, k, dim, largest)


def _as_stable_sort(c: Context, k: int, dim: int, descending: bool) -> None:
    """Verification is held against the one order that the file has, of those that PyTorch allows."""
    ordered = torch.sort(c.recorded("self"), dim=dim, descending=descending, stable=True)
    for out, tensor in zip(c.call.outs, ordered, strict=True):
        c.builder.corrected[out] = array_of(tensor.narrow(dim, 0, k))


def _first(c: Context, x: Placed, k: int, dim: int, largest: bool) -> tuple[Value, Value]:
    """TOPK_V2 gives the largest; the smallest are the largest with the other sign."""
    dim %= len(x.order)
    order = (*(d for d in x.order if d != dim), dim)
    value = c.builder.arrange(x, order)
    if not largest:
        value = c.emit_as(_negative(value.type), "SUB", number(c, 0, value.type), value, **UNFUSED)
    shape = (*value.type.shape[:-1], k)
    made = c.result(0, order) if largest else Value(value.type.reshape(shape), c.builder.name(f"{c.stem}.negative"))
    places = Value(Type(shape, DType.INT32), c.builder.name(f"{c.stem}.places"))
    values, places = Node.make("TOPK_V2", (value, c.const(k, "k")), (made, places), where=c.where).outputs
    if not largest:
        values = c.emit_result(0, "SUB", number(c, 0, values.type), values, order=order, **UNFUSED)
    places = c.builder.arrange(Placed(places, order), plain(len(order)))  # in int32, which all runtimes move
    return values, c.emit_result(1, "CAST", places, order=plain(len(order)), in_data_type="INT32", out_data_type="INT64")


def _negative(type_: Type) -> Type:
    """Of integers with a scale, the lowest becomes the highest and so on, the zero point among them."""
    if type_.quant is None:
        return type_
    info = np.iinfo(type_.dtype.numpy)
    return replace(type_, quant=replace(type_.quant, zero_point=info.min + info.max - type_.quant.zero_point))


@lowers("aten::bucketize.Tensor", order=Order.PLAIN, ignores=("out_int32",))
def bucketize(c: Context, x: Value, boundaries: Value, right: bool) -> Value:
    """How many boundaries lie below each element, or below and at it."""
    count, size = boundaries.type.size, x.type.size
    c.only(size * count <= LARGEST_COMPARISON, "number of boundaries", f"{count} for {size} elements", "at most 4 M comparisons")
    each = reshaped(c, x, (*x.type.shape, 1))
    below = part(c, "GREATER_EQUAL" if right else "GREATER", *promoted(c, each, boundaries), dtype=DType.BOOL)
    number = cast(c, below, DType.INT32)
    total = c.emit_as(number.type.reshape(x.type.shape), "SUM", number, c.const([x.type.rank], "axis"), keep_dims=False)
    return c.as_result(cast(c, total, c.out_type().dtype))


@lowers("aten::searchsorted.Tensor", order=Order.PLAIN, ignores=("out_int32",))
def searchsorted(c: Context, x: Value, self: Value, right: bool, side: str | None, sorter: Value | None) -> Value:
    c.only(x.type.rank == 1 and sorter is None, "sorted_sequence", f"{x.type.rank} dimensions, or with a sorter", "one sorted row")
    return bucketize(c, self, x, right or side == "right")
