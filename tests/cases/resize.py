"""Lines, images and volumes of another size."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import EXACT, FLOAT, NCHW, WEIGHTED, Call, Case, Made, Near, Seq, eager, floating, inputs, ints

SHAPE, NCL, NCDHW = (2, 5, 8, 6), (2, 5, 13), (2, 3, 4, 5, 7)
INT8 = torch.qint8
T = torch.ops.aten
REAL = Near(1, 0.98, "interpolated in float from dequantized integers, where half way between two of them is not exactly half way")


def resized(shape: tuple[int, ...] = SHAPE, dtype: torch.dtype | None = None, **how: Any) -> Made:
    return ints(lambda a: F.interpolate(a, **how), shape, dtype=dtype or torch.quint8)


def real(shape: tuple[int, ...] = SHAPE, **how: Any) -> Made:
    return floating(lambda a: F.interpolate(a, **how), shape)


def behind_conv(resize: nn.Module) -> nn.Module:
    return Seq(nn.Conv2d(3, 5, 3), resize, nn.Conv2d(5, 4, 1))


def points(n: int, rows: int, columns: int, extent: float = 1.3) -> Tensor:
    """Positions, some of them outside the image."""
    return inputs([(n, rows, columns, 2)])[0] / 4 * extent


class Sampled(nn.Module):
    """An image at the positions of a constant grid, or of one that is computed."""

    def __init__(self, grid: Tensor | None = None, **how: Any) -> None:
        super().__init__()
        self.how = {"align_corners": False, **how}
        self.register_buffer("grid", grid)

    def forward(self, x: Tensor, grid: Tensor | None = None) -> Tensor:
        return F.grid_sample(x, self.grid if grid is None else grid / 3, **self.how)


class Transformed(nn.Module):
    """A spatial transformer."""

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        grid = F.affine_grid(theta / 4, [*x.shape[:2], 4, 9], align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


GRID = (2, 4, 9, 2)


def sampled(**how: Any) -> Made:
    """With a computed grid."""
    return Sampled(**how).eval(), inputs([SHAPE, GRID])


def sampled_integers() -> Made:
    def model(x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(torch.quantize_per_tensor(x, 0.0311713, 112, torch.quint8), grid / 3, align_corners=False).dequantize()

    return Call(model).eval(), inputs([SHAPE, GRID])


def sampled_by_constant(**how: Any) -> Made:
    return Sampled(points(2, 4, 9), **how).eval(), inputs([SHAPE])


# The forms with one argument a scale: shape, size, and the scales
BY_NAME = {
    "upsample_nearest1d": (NCL, [26], 2.0),
    "upsample_nearest2d": (SHAPE, [16, 10], 2.0, 1.7),
    "upsample_nearest3d": (NCDHW, [8, 5, 10], 2.0, 1.0, 1.5),
    "_upsample_nearest_exact1d": (NCL, [22], 1.7),
    "_upsample_nearest_exact2d": (SHAPE, [16, 18], 2.0, 3.0),
    "_upsample_nearest_exact3d": (NCDHW, [8, 6, 9]),
    "upsample_linear1d": (NCL, [26], False, 2.0),
    "upsample_bilinear2d": (SHAPE, [13, 9], False, 1.7, None),
    "upsample_trilinear3d": (NCDHW, [8, 10, 9], True),
    "upsample_bicubic2d": (SHAPE, [13, 9], False, 1.7, 1.5),
    "_upsample_bilinear2d_aa": (SHAPE, [4, 3], False),
    "_upsample_bicubic2d_aa": (SHAPE, [5, 9], False),
}


def named(name: str) -> Made:
    shape, *arguments = BY_NAME[name]
    return floating(lambda a: getattr(T, name)(a, *arguments), shape)  # type: ignore[arg-type]


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
    Case("bilinear.fraction", lambda: resized(mode="bilinear", scale_factor=1.7), REAL),
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
    Case("float.linear1d", lambda: real(NCL, mode="linear", scale_factor=2), FLOAT),
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
    Case("float.antialiased", lambda: real(mode="bilinear", size=(3, 4), antialias=True), FLOAT),
    Case("float.antialiased_cubic", lambda: real(mode="bicubic", size=(5, 3), antialias=True), FLOAT),
    *(Case(f"float.{name.strip('_')}", partial(named, name), EXACT if "nearest" in name else FLOAT) for name in BY_NAME),
    Case("grid", lambda: ints(Sampled(points(2, 4, 9)), SHAPE), REAL),
    Case("grid.computed", lambda: sampled_integers(), REAL),
    Case("float.grid", lambda: sampled(), FLOAT),
    Case("float.grid_aligned", lambda: sampled(align_corners=True), FLOAT),
    Case("float.grid_border", lambda: sampled(padding_mode="border"), FLOAT),
    Case("float.grid_reflection", lambda: sampled(padding_mode="reflection"), FLOAT),
    Case("float.grid_reflection_aligned", lambda: sampled(padding_mode="reflection", align_corners=True), FLOAT),
    Case("float.grid_nearest", lambda: sampled(mode="nearest"), FLOAT),
    Case("float.grid_nearest_border", lambda: sampled(mode="nearest", padding_mode="border"), FLOAT),
    Case("float.grid_bicubic", lambda: sampled(mode="bicubic"), FLOAT),
    Case("float.grid_bicubic_reflection", lambda: sampled(mode="bicubic", padding_mode="reflection"), FLOAT),
    Case("float.grid_constant", lambda: sampled_by_constant(), FLOAT),
    Case("float.grid_constant_border", lambda: sampled_by_constant(padding_mode="border", align_corners=True), FLOAT),
    Case("float.grid_constant_reflection", lambda: sampled_by_constant(padding_mode="reflection"), FLOAT),
    Case("float.grid_constant_nearest", lambda: sampled_by_constant(mode="nearest"), FLOAT),
    Case("float.grid_constant_bicubic", lambda: sampled_by_constant(mode="bicubic", padding_mode="border"), FLOAT),
    Case("float.grid_of_one_image", lambda: floating(Sampled(points(1, 4, 9)), (1, 5, 8, 6)), FLOAT),
    Case("float.grid_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Sampled(points(2, 4, 13))), NCHW), FLOAT),
    Case("float.affine_grid", lambda: (Transformed().eval(), inputs([SHAPE, (2, 2, 3)])), FLOAT),
]  # fmt: skip
