"""Attention: softmax(q k' * scale + mask) v."""

from __future__ import annotations

import math

import numpy as np

from ..ir import DType, Value
from .context import Context, Placed, plain, reshaped
from .formula import cast, part, scaled
from .matmul import Matrices, adjoints, product
from .registry import Order, lowers

LOWEST = float(np.finfo(np.float32).min)


@lowers("aten::scaled_dot_product_attention", order=Order.FREE, ignores=("dropout_p",))
def scaled_dot_product_attention(
    c: Context,
    x: Placed,
    key: Placed,
    value: Placed,
    attn_mask: Placed | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Value:
    query, keys, values = c.builder.arrange(x, plain(len(x.order))), Matrices.of(c, key), Matrices.of(c, value)
    query = scaled(c, query, 1 / math.sqrt(query.type.shape[-1]) if scale is None else scale)
    *batch, heads, rows, width = (1, *query.type.shape)[-max(3, query.type.rank) :]
    if enable_gqa and heads != keys.batch[-1]:  # the heads of a group have one key: they are more rows of its product
        query = reshaped(c, query, (*batch, keys.batch[-1], heads // keys.batch[-1] * rows, width))
    scores = product(c, Matrices(query), keys.transposed)
    mask = None if attn_mask is None else c.builder.arrange(attn_mask, plain(len(attn_mask.order)))
    if is_causal:
        mask = c.const(np.tri(rows, keys.rows, dtype=np.bool_), "causal")
    weights = _softmax(c, reshaped(c, scores, (*c.out_shape[:-1], keys.rows)), mask)
    left = Matrices(reshaped(c, weights, scores.type.shape))
    if len(c.out_shape) <= 4 and left.value is weights:
        return c.emit("BATCH_MATMUL", weights, values.value, **adjoints(left, values))
    return c.emit("RESHAPE", product(c, left, values), c.const(list(c.out_shape), "shape"), new_shape=list(c.out_shape))


def _softmax(c: Context, scores: Value, mask: Value | None) -> Value:
    """Over the positions that the mask lets through. A constant or boolean mask that lets none through makes all weights 0, as PyTorch
    says; one that is computed in float must not.
    """
    if mask is None:
        return part(c, "SOFTMAX", scores, beta=1.0)
    if mask.data is not None:
        array = mask.array()
        passing = array if array.dtype == np.bool_ else ~np.isneginf(array)
        added = np.where(passing, 0 if array.dtype == np.bool_ else array, LOWEST).astype(np.float32)
        weights = part(c, "SOFTMAX", part(c, "ADD", scores, c.const(added, "mask")), beta=1.0)
        return weights if passing.any(-1).all() else part(c, "MUL", weights, c.const(passing.astype(np.float32), "passing"))
    if mask.type.dtype is not DType.BOOL:
        return part(c, "SOFTMAX", part(c, "ADD", scores, mask), beta=1.0)
    weights = part(c, "SOFTMAX", part(c, "SELECT_V2", mask, scores, LOWEST), beta=1.0)
    return part(c, "MUL", weights, cast(c, mask, DType.FLOAT32))
