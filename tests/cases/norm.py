"""Normalization."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import FLOAT, NCHW, WEIGHTED, Call, Case, Q, Seq, eager, floating, ints

INT8 = torch.qint8
T = torch.ops.aten
SHAPE = (2, 6, 7, 3)


def numbers(count: int, low: float, high: float) -> Tensor:
    return torch.from_numpy(np.random.default_rng(count).uniform(low, high, count).astype(np.float32))


def statistics(channels: int) -> list[Tensor]:
    """Weight, bias, mean and variance; a factor that is negative, and one that is 0."""
    weight = numbers(channels, 0.5, 1.5)
    weight[0], weight[1] = -1, 0
    return [weight, numbers(channels + 1, -0.4, 0.6)[1:], numbers(channels + 2, -0.4, 0.6)[2:], numbers(channels + 3, 0.5, 1.5)[3:]]


def batch_norm(op: str, rank: int, *, dtype: torch.dtype = torch.quint8) -> object:
    zero = 110 if dtype is torch.quint8 else -18
    function = getattr(Q, op)
    return ints(lambda a: function(a, *statistics(6), 1e-5, 0.0413371, zero), (2, 6, 5, 7, 3)[:rank], dtype=dtype)


def affine(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    size = int(np.prod(shape))
    return numbers(size, 0.5, 1.5).reshape(shape), numbers(size + 1, -0.4, 0.6)[1:].reshape(shape)


OUT, OUT8 = (0.0233117, 110), (0.0233117, -18)

CASES = [
    Case("batch_norm", lambda: batch_norm("batch_norm2d", 4), WEIGHTED),
    Case("batch_norm.relu", lambda: batch_norm("batch_norm2d_relu", 4), WEIGHTED),
    Case("batch_norm.int8", lambda: batch_norm("batch_norm2d", 4, dtype=INT8), WEIGHTED),
    Case("batch_norm.1d", lambda: batch_norm("batch_norm1d", 3), WEIGHTED),
    Case("batch_norm.1d_relu", lambda: batch_norm("batch_norm1d_relu", 3, dtype=INT8), WEIGHTED),
    Case("batch_norm.rank2", lambda: batch_norm("batch_norm1d", 2), WEIGHTED),
    Case("batch_norm.3d", lambda: batch_norm("batch_norm3d", 5), WEIGHTED),
    Case("batch_norm.3d_relu", lambda: batch_norm("batch_norm3d_relu", 5), WEIGHTED),
    Case("batch_norm.any", lambda: batch_norm("batch_norm", 4), WEIGHTED),
    Case("batch_norm.any_relu", lambda: batch_norm("batch_norm_relu", 4), WEIGHTED),
    Case("batch_norm.aten", lambda: ints(lambda a: T.quantized_batch_norm(a, *statistics(6), 1e-5, 0.0413371, 110), SHAPE), WEIGHTED),
    Case("batch_norm.module", lambda: eager(Seq(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.BatchNorm2d(6)), NCHW), WEIGHTED),
    Case("batch_norm.module_qnnpack", lambda: eager(nn.BatchNorm2d(3), NCHW, engine="qnnpack"), WEIGHTED),
    Case("layer_norm", lambda: ints(lambda a: Q.layer_norm(a, [3], *affine((3,)), 1e-5, *OUT), SHAPE)),
    Case("layer_norm.two", lambda: ints(lambda a: Q.layer_norm(a, [7, 3], *affine((7, 3)), 1e-5, *OUT), SHAPE)),
    Case("layer_norm.plain", lambda: ints(lambda a: Q.layer_norm(a, [17], None, None, 1e-5, *OUT8), (5, 17), dtype=INT8)),
    Case("layer_norm.module", lambda: eager(nn.LayerNorm((7, 3)), SHAPE)),
    Case("group_norm", lambda: ints(lambda a: Q.group_norm(a, 2, *affine((6,)), 1e-5, *OUT), SHAPE)),
    Case("group_norm.int8", lambda: ints(lambda a: Q.group_norm(a, 3, *affine((6,)), 1e-5, *OUT8), (2, 6, 5), dtype=INT8)),
    Case("group_norm.module", lambda: eager(Seq(nn.Conv2d(3, 6, 3), nn.GroupNorm(3, 6)), NCHW), WEIGHTED),
    Case("instance_norm", lambda: ints(lambda a: Q.instance_norm(a, *affine((6,)), 1e-5, *OUT), SHAPE)),
    Case("instance_norm.plain", lambda: ints(lambda a: Q.instance_norm(a, None, None, 1e-5, *OUT8), SHAPE, dtype=INT8)),
    Case("instance_norm.1d", lambda: eager(nn.InstanceNorm1d(6), (2, 6, 13))),
    Case("instance_norm.2d", lambda: eager(nn.InstanceNorm2d(6, affine=True), SHAPE)),
    Case("instance_norm.3d", lambda: eager(nn.InstanceNorm3d(3), (2, 3, 5, 4, 7))),
    Case("float.batch_norm", lambda: floating(nn.BatchNorm2d(5), (2, 5, 7, 3)), FLOAT),
    Case("float.batch_norm_plain", lambda: floating(nn.BatchNorm2d(5, affine=False), (2, 5, 7, 3)), FLOAT),
    Case("float.batch_norm_rank2", lambda: floating(nn.BatchNorm1d(5), (13, 5)), FLOAT),
    Case("float.batch_norm_rank3", lambda: floating(nn.BatchNorm1d(5), (2, 5, 13)), FLOAT),
    Case("float.batch_norm_rank5", lambda: floating(nn.BatchNorm3d(5), (2, 5, 7, 3, 4)), FLOAT),
    Case("float.batch_norm_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU()), NCHW), FLOAT),
    Case("float.batch_norm_depthwise", lambda: floating(Seq(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU6()), NCHW), FLOAT),
    Case("float.batch_norm_linear", lambda: floating(Seq(nn.Linear(17, 9), nn.BatchNorm1d(9)), (31, 17)), FLOAT),
    Case("float.batch_norm_native", lambda: floating(
        lambda a: T.native_batch_norm(a, *statistics(6), False, 0.1, 1e-5)[0], SHAPE), FLOAT),
    Case("float.batch_norm_core", lambda: floating(
        lambda a: T._native_batch_norm_legit_no_training(a, *statistics(6), 0.1, 1e-5)[0], SHAPE), FLOAT),
    Case("float.layer_norm", lambda: floating(nn.LayerNorm(3), SHAPE), FLOAT),
    Case("float.layer_norm_two", lambda: floating(nn.LayerNorm((7, 3)), SHAPE), FLOAT),
    Case("float.layer_norm_plain", lambda: floating(nn.LayerNorm(17, elementwise_affine=False), (5, 17)), FLOAT),
    Case("float.layer_norm_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.LayerNorm((5, 7, 9))), NCHW), FLOAT),
    Case("float.layer_norm_channels", lambda: floating(
        Seq(nn.Conv2d(3, 5, 3), Call(lambda a: F.layer_norm(a.permute(0, 2, 3, 1), [5])), nn.Linear(5, 4)), NCHW), FLOAT),
    Case("float.group_norm", lambda: floating(nn.GroupNorm(2, 6), SHAPE), FLOAT),
    Case("float.group_norm_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 6, 3), nn.GroupNorm(3, 6)), NCHW), FLOAT),
    Case("float.group_norm_rank2", lambda: floating(nn.GroupNorm(2, 6), (5, 6)), FLOAT),
    Case("float.instance_norm", lambda: floating(nn.InstanceNorm2d(6, affine=True), SHAPE), FLOAT),
    Case("float.instance_norm_1d", lambda: floating(nn.InstanceNorm1d(6), (2, 6, 13)), FLOAT),
    Case("float.instance_norm_3d", lambda: floating(nn.InstanceNorm3d(3), (2, 3, 5, 4, 7)), FLOAT),
    Case("float.instance_norm_running", lambda: floating(nn.InstanceNorm2d(6, affine=True, track_running_stats=True), SHAPE), FLOAT),
    Case("float.instance_norm_unbatched", lambda: floating(nn.InstanceNorm2d(6), (6, 7, 3)), FLOAT),
    Case("float.rms_norm", lambda: floating(nn.RMSNorm(3), SHAPE), FLOAT),
    Case("float.local_response_norm", lambda: floating(nn.LocalResponseNorm(3), SHAPE), FLOAT),
    Case("float.local_response_norm_rank3", lambda: floating(nn.LocalResponseNorm(2), (2, 6, 13)), FLOAT),
    Case("float.weight_norm", lambda: floating(nn.utils.parametrizations.weight_norm(nn.Linear(17, 9)), (31, 17)), FLOAT),
]  # fmt: skip
