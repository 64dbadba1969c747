"""Reductions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import AVERAGE, FLOAT, NCHW, Call, Case, Seq, floating, inputs, ints

INT8 = torch.qint8
T = torch.ops.aten
SHAPE, RANK5 = (2, 5, 7, 3), (2, 5, 3, 4, 7)


def behind_conv(function: object) -> nn.Module:
    return Seq(nn.Conv2d(3, 5, 3), Call(function))  # type: ignore[arg-type]


def counted(dtype: torch.dtype = torch.int64) -> Tensor:
    return (inputs([SHAPE])[0] * 9).to(dtype)


CASES = [
    Case("mean", lambda: ints(lambda a: a.mean([2, 3]), (3, 37, 7, 9))),
    Case("mean.keepdim", lambda: ints(lambda a: a.mean([2, 3], keepdim=True), (3, 37, 7, 9))),
    Case("mean.int8", lambda: ints(lambda a: a.mean([2, 3]), (3, 37, 7, 9), dtype=INT8)),
    Case("mean.qnnpack", lambda: ints(lambda a: a.mean([2, 3]), (3, 37, 7, 9), engine="qnnpack")),
    Case("mean.last", lambda: ints(lambda a: a.mean(-1), (13, 17, 9))),
    Case("mean.whole", lambda: ints(lambda a: a.mean(), SHAPE)),
    Case("mean.rank5", lambda: ints(lambda a: a.mean([1, 3]), RANK5), AVERAGE),
    Case("max", lambda: ints(lambda a: a.max(1), SHAPE)),
    Case("max.values", lambda: ints(lambda a: a.max(-1, keepdim=True)[0], SHAPE)),
    Case("max.places", lambda: ints(lambda a: a.max(2, keepdim=True)[1], SHAPE, dtype=INT8)),
    Case("max.whole", lambda: ints(lambda a: a.max(), SHAPE)),
    Case("min", lambda: ints(lambda a: a.min(-2), SHAPE)),
    Case("min.int8", lambda: ints(lambda a: a.min(1), SHAPE, dtype=INT8)),
    Case("min.whole", lambda: ints(lambda a: a.min(), SHAPE, dtype=INT8)),
    Case("std", lambda: ints(lambda a: a.std(1), SHAPE)),
    Case("std.inner", lambda: ints(lambda a: a.std([2, 3], keepdim=True), SHAPE)),
    Case("std.whole", lambda: ints(lambda a: a.std(), SHAPE, dtype=INT8)),
    Case("std.biased", lambda: ints(lambda a: torch.std(a, (1, 3), unbiased=False), SHAPE)),
    Case("float.mean", lambda: floating(lambda a: a.mean((1, 3)), SHAPE), FLOAT),
    Case("float.mean_keepdim", lambda: floating(lambda a: a.mean((-1, 1), keepdim=True), SHAPE), FLOAT),
    Case("float.mean_all", lambda: floating(lambda a: T.mean.dim(a, None, False), (2, 5, 3)), FLOAT),
    Case("float.mean_whole", lambda: floating(lambda a: a.mean(), SHAPE), FLOAT),
    Case("float.mean_rank5", lambda: floating(lambda a: a.mean((0, 2, 4)), RANK5), FLOAT),
    Case("float.mean_spatial_behind_conv", lambda: floating(behind_conv(lambda a: a.mean((2, 3))), NCHW), FLOAT),
    Case("float.mean_width_behind_conv", lambda: floating(behind_conv(lambda a: a.mean(3)), NCHW), FLOAT),
    Case("float.sum", lambda: floating(lambda a: a.sum((0, -1)), SHAPE), FLOAT),
    Case("float.sum_whole", lambda: floating(lambda a: a.sum(), SHAPE), FLOAT),
    Case("float.sum_rank5", lambda: floating(lambda a: a.sum((1, 2), keepdim=True), RANK5), FLOAT),
    Case("float.amax", lambda: floating(lambda a: a.amax((1, 2)), SHAPE)),
    Case("float.amin", lambda: floating(lambda a: a.amin(-1, keepdim=True), SHAPE)),
    Case("float.amin_rank5", lambda: floating(lambda a: a.amin((1, 3)), RANK5)),
    Case("float.aminmax", lambda: floating(lambda a: torch.aminmax(a, dim=1), SHAPE)),
    Case("float.max", lambda: floating(lambda a: a.max(1), SHAPE)),
    Case("float.max_keepdim", lambda: floating(lambda a: a.max(1, keepdim=True), SHAPE)),
    Case("float.max_behind_conv", lambda: floating(behind_conv(lambda a: a.max(1)[1]), NCHW), FLOAT),
    Case("float.max_whole", lambda: floating(lambda a: a.max(), SHAPE)),
    Case("float.min", lambda: floating(lambda a: a.min(-2), SHAPE)),
    Case("float.min_whole", lambda: floating(lambda a: a.min(), SHAPE)),
    Case("float.argmax", lambda: floating(lambda a: a.argmax(1), SHAPE)),
    Case("float.argmax_keepdim", lambda: floating(lambda a: a.argmax(-1, keepdim=True), SHAPE)),
    Case("float.argmax_whole", lambda: floating(lambda a: a.argmax(), SHAPE)),
    Case("float.argmax_whole_keepdim", lambda: floating(lambda a: a.argmax(keepdim=True), SHAPE)),
    Case("float.argmax_whole_behind_conv", lambda: floating(behind_conv(lambda a: a.argmax()), NCHW), FLOAT),
    Case("float.argmax_of_equal_ones", lambda: floating(lambda a: torch.relu(a).argmax(1), SHAPE)),
    Case("float.argmin", lambda: floating(lambda a: a.argmin(2), SHAPE)),
    Case("float.prod", lambda: floating(lambda a: a.prod(1), SHAPE), FLOAT),
    Case("float.prod_whole", lambda: floating(lambda a: (a / 4 + 1).prod(), (5, 7)), FLOAT),
    Case("float.std", lambda: floating(lambda a: a.std(1), SHAPE), FLOAT),
    Case("float.std_whole", lambda: floating(lambda a: a.std(), SHAPE), FLOAT),
    Case("float.var", lambda: floating(lambda a: a.var((2, 3), keepdim=True), SHAPE), FLOAT),
    Case("float.var_biased", lambda: floating(lambda a: torch.var(a, 1, correction=0), SHAPE), FLOAT),
    Case("float.var_mean", lambda: floating(lambda a: torch.var_mean(a, (1, 3)), SHAPE), FLOAT),
    Case("float.std_mean", lambda: floating(lambda a: torch.std_mean(a, -1, keepdim=True), SHAPE), FLOAT),
    Case("float.var_rank5", lambda: floating(lambda a: torch.var(a, (1, 3)), RANK5), FLOAT),
    Case("float.norm", lambda: floating(lambda a: a.norm(dim=1), SHAPE), FLOAT),
    Case("float.norm_whole", lambda: floating(lambda a: a.norm(), SHAPE), FLOAT),
    Case("float.norm_1", lambda: floating(lambda a: a.norm(1, dim=(1, 2)), SHAPE), FLOAT),
    Case("float.norm_3", lambda: floating(lambda a: a.norm(3, dim=-1, keepdim=True), SHAPE), FLOAT),
    Case("float.norm_0", lambda: floating(lambda a: torch.relu(a).norm(0, dim=2), SHAPE), FLOAT),
    Case("float.norm_inf", lambda: floating(lambda a: torch.linalg.vector_norm(a, torch.inf, 1), SHAPE), FLOAT),
    Case("float.norm_minus_inf", lambda: floating(lambda a: torch.linalg.vector_norm(a, -torch.inf, 1), SHAPE), FLOAT),
    Case("float.linalg_norm", lambda: floating(lambda a: torch.linalg.norm(a, dim=1), SHAPE), FLOAT),
    Case("float.normalize", lambda: floating(lambda a: F.normalize(a, dim=1), SHAPE), FLOAT),
    Case("float.logsumexp", lambda: floating(lambda a: (a * 40).logsumexp(1), SHAPE), FLOAT),
    Case("float.logsumexp_keepdim", lambda: floating(lambda a: a.logsumexp((1, -1), keepdim=True), SHAPE), FLOAT),
    Case("float.dist", lambda: floating(torch.dist, SHAPE, SHAPE), FLOAT),
    Case("float.cdist", lambda: floating(torch.cdist, (2, 5, 7), (2, 3, 7)), FLOAT),
    Case("float.cdist_many", lambda: floating(
        lambda a, b: torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist"), (31, 7), (29, 7)), FLOAT),
    Case("float.cdist_1", lambda: floating(lambda a, b: torch.cdist(a, b, 1), (2, 3, 5, 7), (3, 4, 7)), FLOAT),
    Case("float.cdist_by_name", lambda: floating(lambda a, b: T._cdist_forward(a, b, 2.0, None), (2, 5, 7), (2, 3, 7)), FLOAT),
    Case("float.pairwise_distance", lambda: floating(nn.PairwiseDistance(), (5, 7), (5, 7)), FLOAT),
    Case("float.cosine_similarity", lambda: floating(nn.CosineSimilarity(1), SHAPE, SHAPE), FLOAT),
    Case("all", lambda: floating(lambda a: (a > -3.5).all(1), SHAPE)),
    Case("all.two", lambda: floating(lambda a: torch.all(a > -3.5, dim=(0, 2)), SHAPE)),
    Case("all.whole", lambda: floating(lambda a: (a > -3.5).all(), SHAPE)),
    Case("any", lambda: floating(lambda a: (a > 3.5).any((1, 2), keepdim=True), SHAPE)),
    Case("any.whole", lambda: floating(lambda a: (a > 3.5).any(), SHAPE)),
    Case("any.of_numbers", lambda: floating(lambda a: torch.relu(a - 3).any(1), SHAPE)),
    Case("count_nonzero", lambda: floating(lambda a: torch.relu(a).count_nonzero(1), SHAPE)),
    Case("count_nonzero.whole", lambda: floating(lambda a: torch.relu(a).count_nonzero(), SHAPE)),
    Case("sum.of_truths", lambda: floating(lambda a: (a > 0).sum(-1), SHAPE)),
    Case("int64.sum", lambda: (Call(lambda a: a.sum(1)).eval(), (counted(),)), refused={"onert": "SUM (i64: refused)"}),
    Case("int32.sum", lambda: (Call(lambda a: a.sum(1, dtype=torch.int32)).eval(), (counted(torch.int32),))),
    Case("int32.amax", lambda: (Call(lambda a: a.amax(2)).eval(), (counted(torch.int32),))),
    Case("int64.mean", lambda: (Call(lambda a: a.mean(1, dtype=torch.float32)).eval(), (counted(),)), FLOAT),
]  # fmt: skip
