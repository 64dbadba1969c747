"""Transposed convolutions."""

from __future__ import annotations

import torch
from torch import nn

from .conv import packed, stored
from .making import AFFINE, FLOAT, NO_BIAS, SYMMETRIC, WEIGHTED, Case, Q, Seq, Weighted, eager, floating

NCL, NCHW, NCDHW = (2, 3, 11), (2, 3, 5, 8), (2, 3, 3, 4, 5)
LINE, IMAGE = ([2], [1], [0], [1], 1), ([2, 1], [1, 0], [0, 0], [1, 1], 1)

CASES = [
    Case("transposed", lambda: eager(nn.ConvTranspose2d(3, 4, 3, stride=2), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.doubling", lambda: eager(nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.smallest", lambda: eager(nn.ConvTranspose2d(3, 4, 2, stride=2), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.output_padding", lambda: eager(
        nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.output_padding_larger", lambda: eager(
        nn.ConvTranspose2d(3, 4, 2, stride=3, output_padding=(2, 1)), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.no_bias", lambda: eager(nn.ConvTranspose2d(3, 4, 3, stride=2, bias=False), NCHW, weight=SYMMETRIC), NO_BIAS),
    Case("transposed.stride1", lambda: eager(nn.ConvTranspose2d(3, 4, 3, padding=(1, 0)), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.stride1_cut", lambda: eager(nn.ConvTranspose2d(3, 4, (1, 3), padding=(1, 2)), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.asymmetric", lambda: eager(
        nn.ConvTranspose2d(3, 4, (2, 5), stride=(3, 2), padding=(0, 3)), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.rows_only", lambda: eager(
        nn.ConvTranspose2d(3, 4, (4, 1), stride=(2, 1), padding=(1, 0)), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.dilated", lambda: eager(
        nn.ConvTranspose2d(3, 4, 3, stride=2, dilation=(2, 1), padding=1), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.grouped", lambda: eager(nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (2, 6, 5, 8), weight=SYMMETRIC), WEIGHTED),
    Case("transposed.depthwise", lambda: eager(
        nn.ConvTranspose2d(5, 5, 4, stride=2, padding=1, groups=5), (2, 5, 4, 8), weight=SYMMETRIC), WEIGHTED),
    Case("transposed.depthwise_small", lambda: eager(
        nn.ConvTranspose2d(5, 10, (2, 1), stride=(2, 3), groups=5), (2, 5, 4, 8), weight=SYMMETRIC), WEIGHTED),
    Case("transposed.affine", lambda: eager(nn.ConvTranspose2d(3, 4, 3, stride=2), NCHW, weight=AFFINE), WEIGHTED),
    Case("transposed.affine_grouped", lambda: eager(
        nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (2, 6, 5, 8), weight=AFFINE), WEIGHTED),
    # oneDNN, which x86 means on CPUs with VNNI, takes input channels for output channels: right only where there are as many
    Case("transposed.x86", lambda: eager(nn.ConvTranspose2d(3, 3, 3, stride=2), NCHW, engine="x86", weight=SYMMETRIC), WEIGHTED),
    Case("transposed.qnnpack", lambda: eager(nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1), NCHW, engine="qnnpack"), WEIGHTED),
    Case("transposed.onednn", lambda: eager(nn.ConvTranspose2d(3, 3, 3, stride=2), NCHW, engine="onednn", weight=SYMMETRIC), WEIGHTED),
    Case("transposed.relu", lambda: eager(Seq(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.ReLU()), NCHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed.scales", lambda: packed(
        Q.conv_transpose2d, Q.conv_transpose2d_prepack, stored((3, 4, 4, 3), axis=1), 4, NCHW, *IMAGE, engine="qnnpack"), WEIGHTED),
    Case("transposed.affine_channels", lambda: packed(
        Q.conv_transpose2d, Q.conv_transpose2d_prepack, stored((3, 4, 4, 3), axis=1, zero_points=120), 4, NCHW, *IMAGE, engine="qnnpack"
    ), WEIGHTED),
    Case("transposed.internal", lambda: packed(torch.ops._quantized.conv_transpose2d, torch.ops._quantized.conv_transpose2d_prepack,
        stored((3, 4, 4, 3), axis=None), 4, NCHW, *IMAGE), WEIGHTED),
    Case("transposed1d", lambda: eager(nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1), NCL, weight=SYMMETRIC), WEIGHTED),
    Case("transposed1d.grouped", lambda: eager(
        nn.ConvTranspose1d(6, 4, 3, stride=3, groups=2, output_padding=1), (2, 6, 11), weight=SYMMETRIC), WEIGHTED),
    Case("transposed1d.affine", lambda: eager(nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1), NCL, weight=AFFINE), WEIGHTED),
    Case("transposed1d.qnnpack", lambda: eager(nn.ConvTranspose1d(3, 4, 2, stride=2), NCL, engine="qnnpack"), WEIGHTED),
    Case("transposed1d.scales", lambda: packed(
        Q.conv_transpose1d, Q.conv_transpose1d_prepack, stored((3, 4, 4), axis=1), 4, NCL, *LINE, engine="qnnpack"), WEIGHTED),
    Case("transposed1d.internal", lambda: packed(torch.ops._quantized.conv_transpose1d, torch.ops._quantized.conv_transpose1d_prepack,
        stored((3, 4, 4), axis=None), 4, NCL, *LINE), WEIGHTED),
    Case("transposed3d", lambda: eager(
        nn.ConvTranspose3d(3, 4, 3, stride=2, padding=1, output_padding=1), NCDHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed3d.doubling", lambda: eager(nn.ConvTranspose3d(3, 4, 2, stride=2), NCDHW, weight=SYMMETRIC), WEIGHTED),
    Case("transposed3d.flat", lambda: eager(nn.ConvTranspose3d(3, 4, (1, 2, 3), stride=(2, 2, 1)), NCDHW, weight=AFFINE), WEIGHTED),
    Case("transposed3d.grouped", lambda: eager(
        nn.ConvTranspose3d(6, 4, (2, 3, 2), stride=(1, 2, 2), dilation=(2, 1, 1), groups=2), (2, 6, 3, 4, 5), weight=SYMMETRIC), WEIGHTED),
    Case("float.transposed", lambda: floating(nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), NCHW), FLOAT),
    Case("float.transposed_grouped", lambda: floating(nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2, dilation=2), (2, 6, 5, 8)), FLOAT),
    Case("float.transposed_unbatched", lambda: floating(nn.ConvTranspose2d(3, 4, 4, stride=(3, 2)), NCHW[1:]), FLOAT),
    Case("float.transposed1d", lambda: floating(nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1), NCL), FLOAT),
    Case("float.transposed1d_unbatched", lambda: floating(nn.ConvTranspose1d(3, 4, 4, stride=3, bias=False), NCL[1:]), FLOAT),
    Case("float.transposed3d", lambda: floating(nn.ConvTranspose3d(3, 4, (3, 4, 2), stride=(2, 2, 3), padding=(0, 1, 0)), NCDHW), FLOAT),
    Case("float.convolution_transposed", lambda: floating(
        Weighted(torch.convolution, (3, 3, 2, 4), [1, 2], [0, 1], [1, 1], True, [0, 1], 1), NCHW), FLOAT),
    Case("float.convolution_transposed3d", lambda: floating(
        Weighted(torch.convolution, (3, 3, 2, 2, 3), [1, 2, 1], [0, 1, 0], [1, 1, 2], True, [0, 0, 0], 1), NCDHW), FLOAT),
]  # fmt: skip
