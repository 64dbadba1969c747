"""Lines, images and volumes of another size."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .making import FLOAT, NCHW, WEIGHTED, Case, Made, Seq, eager, floating, ints

SHAPE, NCL, NCDHW = (2, 5, 8, 6), (2, 5, 13), (2, 3, 4, 5, 7)
INT8 = torch.qint8
T = torch.ops.aten


def resized(shape: tuple[int, ...] = SHAPE, dtype: torch.dtype | None = None, **how: Any) -> Made:
    return ints(lambda a: F.interpolate(a, **how), shape, dtype=dtype or torch.quint8)


def real(shape: tuple[int, ...] = SHAPE, **how: Any) -> Made:
    return floating(lambda a: F.interpolate(a, **how), shape)


def behind_conv(resize: nn.Module) -> nn.Module:
    return Seq(nn.Conv2d(3, 5, 3), resize, nn.Conv2d(5, 4, 1))


CASES = [
    Case("nearest", lambda: resized(scale_factor=2)),
    Case("nearest.int8", lambda: resized(dtype=INT8, scale_factor=(2, 3))),
    Case("nearest.size", lambda: resized(size=(11, 5))),
    Case("nearest.fraction", lambda: resized(scale_factor=1.7)),
    Case("nearest.fraction_of_sizes", lambda: resized(scale_factor=1.7, recompute_scale_factor=True)),
    Case("nearest.same", lambda: resized(size=(8, 6))),
    Case("nearest.behind_conv", lambda: eager(behind_conv(nn.Upsample(scale_factor=2)), NCHW), WEIGHTED),
    Case("nearest.size_behind_conv", lambda: eager(behind_conv(nn.Upsample(size=(13, 4))), NCHW), WEIGHTED),
    Case("nearest.fraction_behind_conv", lambda: eager(behind_conv(nn.Upsample(scale_factor=1.3)), NCHW), WEIGHTED),
    Case("nearest.3d", lambda: resized(NCDHW, scale_factor=2)),
    Case("nearest_exact", lambda: resized(mode="nearest-exact", size=(11, 5))),
    Case("nearest_exact.behind_conv", lambda: eager(behind_conv(nn.Upsample(size=(13, 4), mode="nearest-exact")), NCHW), WEIGHTED),
    Case("nearest_exact.fraction", lambda: resized(dtype=INT8, mode="nearest-exact", scale_factor=(0.6, 1.7))),
    Case("nearest_exact.3d", lambda: resized(NCDHW, mode="nearest-exact", size=(6, 3, 9))),
    Case("bilinear", lambda: resized(mode="bilinear", scale_factor=2)),
    Case("bilinear.int8", lambda: resized(dtype=INT8, mode="bilinear", scale_factor=2)),
    Case("bilinear.aligned", lambda: resized(mode="bilinear", size=(15, 11), align_corners=True)),
    Case("bilinear.size", lambda: resized(mode="bilinear", size=(19, 4))),
    Case("bilinear.fraction", lambda: resized(mode="bilinear", scale_factor=1.7)),
    Case("bilinear.smaller", lambda: resized(mode="bilinear", scale_factor=0.5)),
    Case("bilinear.qnnpack", lambda: ints(lambda a: F.interpolate(a, scale_factor=2, mode="bilinear"), SHAPE, engine="qnnpack")),
    Case("bilinear.behind_conv", lambda: eager(
        behind_conv(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)), NCHW), WEIGHTED),
    Case("float.nearest", lambda: real(scale_factor=2)),
    Case("float.nearest_behind_conv", lambda: floating(behind_conv(nn.UpsamplingNearest2d(scale_factor=3)), NCHW), FLOAT),
    Case("float.nearest1d", lambda: real(NCL, scale_factor=2)),
    Case("float.nearest3d", lambda: real(NCDHW, size=(6, 3, 9))),
    Case("float.nearest_exact1d", lambda: real(NCL, mode="nearest-exact", size=8)),
    Case("float.nearest_exact3d", lambda: real(NCDHW, mode="nearest-exact", scale_factor=2)),
    Case("float.nearest_by_name", lambda: floating(lambda a: T.upsample_nearest2d.vec(a, None, [2.0, 3.0]), SHAPE)),
    Case("float.linear", lambda: real(NCL, mode="linear", scale_factor=2), FLOAT),
    Case("float.linear_aligned", lambda: real(NCL, mode="linear", size=31, align_corners=True), FLOAT),
    Case("float.linear_fraction", lambda: real(NCL, mode="linear", scale_factor=1.7), FLOAT),
    Case("float.bilinear", lambda: real(mode="bilinear", scale_factor=2), FLOAT),
    Case("float.bilinear_aligned", lambda: real(mode="bilinear", size=(15, 4), align_corners=True), FLOAT),
    Case("float.bilinear_to_one", lambda: real(mode="bilinear", size=(1, 1), align_corners=True), FLOAT),
    Case("float.bilinear_fraction", lambda: real(mode="bilinear", scale_factor=(1.7, 0.6)), FLOAT),
    Case("float.bilinear_fraction_behind_conv", lambda: floating(behind_conv(nn.Upsample(scale_factor=1.3, mode="bilinear")), NCHW), FLOAT),
    Case("float.trilinear", lambda: real(NCDHW, mode="trilinear", scale_factor=2), FLOAT),
    Case("float.trilinear_aligned", lambda: real(NCDHW, mode="trilinear", size=(6, 3, 9), align_corners=True), FLOAT),
    Case("float.trilinear_fraction", lambda: real(NCDHW, mode="trilinear", scale_factor=1.3), FLOAT),
    Case("float.bicubic", lambda: real(mode="bicubic", scale_factor=2), FLOAT),
    Case("float.bicubic_aligned", lambda: real(mode="bicubic", size=(15, 4), align_corners=True), FLOAT),
    Case("float.bicubic_behind_conv", lambda: floating(behind_conv(nn.Upsample(scale_factor=1.7, mode="bicubic")), NCHW), FLOAT),
]  # fmt: skip
