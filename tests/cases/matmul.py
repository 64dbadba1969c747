"""Products of matrices."""

from __future__ import annotations

import torch
from torch import nn

from .making import FLOAT, NO_BIAS, Case, Near, Q, floating, inputs, ints

FIXED_POINT = Near(1, 0.98, "LiteRT multiplies the sum of products by a factor in fixed point", ("litert",))
INT8, UINT8 = torch.qint8, torch.quint8


def times(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return Q.matmul(a, b, 0.7117131, 120 if a.dtype is UINT8 else -8)


def constant(shape: tuple[int, ...], dtype: torch.dtype = UINT8) -> torch.Tensor:
    return torch.quantize_per_tensor(inputs([shape], seed=5)[0], 0.0317713, 101 if dtype is UINT8 else -27, dtype)


WEIGHT = inputs([(7, 5)], seed=6)[0]

CASES = [
    Case("matmul", lambda: ints(times, (31, 64), (64, 17)), FIXED_POINT),
    Case("matmul.int8", lambda: ints(times, (31, 64), (64, 17), dtype=INT8), FIXED_POINT),
    Case("matmul.qnnpack", lambda: ints(times, (31, 64), (64, 17), engine="qnnpack"), FIXED_POINT),
    Case("matmul.batches", lambda: ints(times, (2, 3, 11, 16), (2, 3, 16, 7)), FIXED_POINT),
    Case("matmul.batches_broadcast", lambda: ints(times, (2, 1, 11, 16), (3, 16, 7), dtype=INT8), FIXED_POINT),
    Case("matmul.rank5", lambda: ints(times, (2, 3, 4, 5, 16), (2, 3, 4, 16, 7)), FIXED_POINT),
    Case("matmul.transposed", lambda: ints(lambda a, b: times(a, b.mT), (2, 11, 16), (2, 7, 16)), FIXED_POINT),
    Case("matmul.vectors", lambda: ints(times, (64,), (64,)), FIXED_POINT),
    Case("matmul.vector_by_matrices", lambda: ints(times, (16,), (3, 16, 7)), FIXED_POINT),
    Case("matmul.constant_right", lambda: ints(lambda a: times(a, constant((64, 17))), (31, 64)), NO_BIAS),
    Case("matmul.constant_right_int8", lambda: ints(lambda a: times(a, constant((64, 17), INT8)), (3, 31, 64), dtype=INT8), NO_BIAS),
    Case("matmul.constant_left", lambda: ints(lambda a: times(constant((31, 64)), a), (64, 17)), FIXED_POINT),
    Case("float.mm", lambda: floating(torch.mm, (3, 7), (7, 5)), FLOAT),
    Case("float.bmm", lambda: floating(torch.bmm, (2, 3, 7), (2, 7, 5)), FLOAT),
    Case("float.mv", lambda: floating(torch.mv, (3, 7), (7,)), FLOAT),
    Case("float.dot", lambda: floating(torch.dot, (7,), (7,)), FLOAT),
    Case("float.matmul_rank4", lambda: floating(torch.matmul, (2, 6, 3, 7), (2, 6, 7, 5)), FLOAT),
    Case("float.matmul_broadcast", lambda: floating(torch.matmul, (2, 1, 3, 7), (6, 7, 5)), FLOAT),
    Case("float.matmul_rank5_broadcast", lambda: floating(torch.matmul, (2, 6, 4, 3, 7), (4, 7, 5)), FLOAT),
    Case("float.matmul_transposed", lambda: floating(lambda a, b: a.mT @ b.mT, (2, 7, 3), (2, 5, 7)), FLOAT),
    Case("float.matmul_by_vector", lambda: floating(torch.matmul, (2, 3, 7), (7,)), FLOAT),
    Case("float.vector_by_matmul", lambda: floating(torch.matmul, (7,), (2, 7, 5)), FLOAT),
    Case("float.matmul_constant_right", lambda: floating(lambda a: a @ WEIGHT, (2, 3, 7)), FLOAT),
    Case("float.vector_by_constant", lambda: floating(lambda a: a @ WEIGHT, (7,)), FLOAT),
    Case("float.matmul_constant_left", lambda: floating(lambda a: WEIGHT @ a, (2, 5, 3)), FLOAT),
    Case("float.matmul_constant_left_transposed", lambda: floating(lambda a: WEIGHT @ a.mT, (3, 5)), FLOAT),
    Case("float.baddbmm", lambda: floating(
        lambda x, a, b: torch.baddbmm(x, a, b, beta=0.5, alpha=2), (1, 3, 5), (2, 3, 7), (2, 7, 5)), FLOAT),
    Case("float.addbmm", lambda: floating(torch.addbmm, (3, 5), (2, 3, 7), (2, 7, 5)), FLOAT),
    Case("float.addmv", lambda: floating(lambda x, a, b: torch.addmv(x, a, b, beta=2), (3,), (3, 7), (7,)), FLOAT),
    Case("float.einsum", lambda: floating(lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b), (2, 6, 3, 7), (2, 6, 5, 7)), FLOAT),
    Case("float.einsum_constant", lambda: floating(lambda a: torch.einsum("bij,jk->bik", a, WEIGHT), (2, 3, 7)), FLOAT),
    Case("float.tensordot", lambda: floating(lambda a, b: torch.tensordot(a, b, dims=([1], [0])), (3, 7, 2), (7, 5)), FLOAT),
    Case("float.bilinear_layer", lambda: floating(nn.Bilinear(4, 6, 5), (2, 3, 4), (2, 3, 6)), FLOAT),
    Case("float.bilinear_layer_no_bias", lambda: floating(nn.Bilinear(4, 6, 5, bias=False), (3, 4), (3, 6)), FLOAT),
]  # fmt: skip
