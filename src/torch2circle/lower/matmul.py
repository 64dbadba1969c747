"""Products of matrices that are both computed, or of any rank: BATCH_MATMUL. A constant matrix on the right is a linear layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..ir import DType, Type, Value
from ..quant import Weights
from .context import Context, Perm, Placed, plain, reshaped
from .formula import part, result, scaled
from .linear import connected, fully_connected
from .registry import Order, lowers

FLOAT = Type((), DType.FLOAT32)


@dataclass(frozen=True)
class Matrices:
    """The last two axes of ``value`` are rows and columns, or columns and rows if it is ``turned``."""

    value: Value
    turned: bool = False

    @staticmethod
    def of(c: Context, x: Placed) -> Matrices:
        """Without a TRANSPOSE if only rows and columns are exchanged."""
        rank = len(x.order)
        if x.order == (*range(rank - 2), rank - 1, rank - 2):
            return Matrices(x.value, turned=True)
        return Matrices(c.builder.arrange(x, plain(rank)))

    @property
    def transposed(self) -> Matrices:
        return Matrices(self.value, not self.turned)

    @property
    def batch(self) -> Perm:
        return self.value.type.shape[:-2]

    @property
    def rows(self) -> int:
        return self.value.type.shape[-1 if self.turned else -2]

    @property
    def columns(self) -> int:
        return self.value.type.shape[-2 if self.turned else -1]


@lowers("aten::matmul", order=Order.FREE)
def matmul(c: Context, x: Placed, other: Placed) -> Value:
    right = next(value for name, value in c.call.args.items() if name not in ("self", "qa"))
    if isinstance(right, Tensor) and right.dim() > 1 and right.shape[:-2].numel() == 1 and len(c.out_shape) <= max(1, len(x.order)):
        return fully_connected(c, c.builder.arrange(x, plain(len(x.order))), Weights.of(right.flatten(0, -2).t(), None), "NONE")
    left, rights = _as_matrices(c, x, (1, -1)), _as_matrices(c, other, (-1, 1))
    shape = (*np.broadcast_shapes(left.batch, rights.batch), left.rows, rights.columns)
    if shape == c.out_shape and len(shape) <= 4:
        return c.emit("BATCH_MATMUL", left.value, rights.value, **adjoints(left, rights))
    made = product(c, left, rights, c.out_type())
    return c.emit("RESHAPE", made, c.const(list(c.out_shape), "shape"), new_shape=list(c.out_shape))


@lowers("quantized::matmul", order=Order.FREE)
def quantized_matmul(c: Context, x: Placed, qb: Placed) -> Value:
    return matmul(c, x, qb)


@lowers("aten::mm", "aten::bmm", order=Order.FREE)
def mm(c: Context, x: Placed, mat2: Placed) -> Value:
    return matmul(c, x, mat2)


@lowers("aten::addmm", order=Order.FREE)
def addmm(c: Context, x: Placed, mat1: Placed, mat2: Placed, beta: float, alpha: float) -> Value:
    """``beta * x + alpha * mat1 @ mat2``: a linear layer where ``mat2`` and the row ``x`` are constants."""
    columns, rows = c.call.args["mat2"], c.call.args["self"]
    if not isinstance(columns, Tensor):
        return _added(c, x, product(c, Matrices.of(c, mat1), Matrices.of(c, mat2)), beta, alpha)
    left = c.builder.arrange(mat1, plain(2))
    if isinstance(rows, Tensor) and rows.numel() == rows.shape[-1] == columns.shape[1]:
        return fully_connected(c, left, Weights.of(columns.t() * alpha, rows.reshape(-1) * beta), "NONE")
    return _added(c, x, connected(c, left, Weights.of(columns.t() * alpha, None)), beta, 1)


@lowers("aten::mv", order=Order.FREE)
def mv(c: Context, x: Placed, vec: Placed) -> Value:
    return matmul(c, x, vec)


@lowers("aten::dot", order=Order.FREE)
def dot(c: Context, x: Placed, tensor: Placed) -> Value:
    return matmul(c, x, tensor)


@lowers("aten::baddbmm", order=Order.FREE)
def baddbmm(c: Context, x: Placed, batch1: Placed, batch2: Placed, beta: float, alpha: float) -> Value:
    return _added(c, x, product(c, Matrices.of(c, batch1), Matrices.of(c, batch2)), beta, alpha)


@lowers("aten::addbmm", order=Order.FREE)
def addbmm(c: Context, x: Placed, batch1: Placed, batch2: Placed, beta: float, alpha: float) -> Value:
    products = product(c, Matrices.of(c, batch1), Matrices.of(c, batch2))
    return _added(c, x, c.emit_as(c.out_type(), "SUM", products, c.const([0], "axis"), keep_dims=False), beta, alpha)


@lowers("aten::addmv", order=Order.FREE)
def addmv(c: Context, x: Placed, mat: Placed, vec: Placed, beta: float, alpha: float) -> Value:
    column = product(c, Matrices.of(c, mat), _as_matrices(c, vec, (-1, 1)))
    return _added(c, x, reshaped(c, column, c.out_shape), beta, alpha)


@lowers("aten::bilinear", order=Order.PLAIN)
def bilinear(c: Context, x: Value, input2: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """A linear layer on all products of an element of ``x`` with one of ``input2``."""
    *batch, n = x.type.shape
    m = input2.type.shape[-1]
    products = part(c, "MUL", reshaped(c, x, (*batch, n, 1)), reshaped(c, input2, (*batch, 1, m)))
    return fully_connected(c, reshaped(c, products, (*batch, n * m)), Weights.of(weight.flatten(1), bias), "NONE")


def product(c: Context, left: Matrices, right: Matrices, like: Type = FLOAT) -> Value:
    """``left @ right`` on the way to the result, of the element type of ``like``; more than four dimensions are made three."""
    batch = np.broadcast_shapes(left.batch, right.batch)
    shape = (*batch, left.rows, right.columns)
    if len(batch) <= 2:
        return c.emit_as(like.reshape(shape), "BATCH_MATMUL", left.value, right.value, **adjoints(left, right))
    left, right = (Matrices(_one_batch(c, each.value, batch), each.turned) for each in (left, right))
    return reshaped(c, product(c, left, right, like), shape)


def adjoints(left: Matrices, right: Matrices) -> dict[str, Any]:
    return {"adjoint_lhs": left.turned, "adjoint_rhs": right.turned, "asymmetric_quantize_inputs": False}


def _one_batch(c: Context, value: Value, batch: Sequence[int]) -> Value:
    shape = (*batch, *value.type.shape[-2:])
    if value.type.shape != shape:
        value = c.emit_as(value.type.reshape(shape), "BROADCAST_TO", value, c.const(list(shape), "shape"))
    return reshaped(c, value, (math.prod(batch), *shape[-2:]))


def _as_matrices(c: Context, x: Placed, as_vector: Perm) -> Matrices:
    """A vector is a row on the left of a product, a column on its right."""
    if len(x.order) > 1:
        return Matrices.of(c, x)
    return Matrices(reshaped(c, x.value, tuple(x.value.type.size if n < 0 else n for n in as_vector)))


def _added(c: Context, x: Placed, made: Value, beta: float, alpha: float) -> Value:
    """beta * x + alpha * made"""
    return result(c, "ADD", scaled(c, c.builder.arrange(x, plain(len(x.order))), beta), scaled(c, made, alpha))
