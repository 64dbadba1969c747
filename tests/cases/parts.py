"""Parts, pads and shuffles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .making import NCHW, WEIGHTED, Call, Case, Seq, eager, floating, ints, shuffled

CASES = [
    Case("slice", lambda: ints(lambda a: a[:, 1:4], (2, 5, 7, 3))),
    Case("slice.step", lambda: ints(lambda a: a[:, :, 1::2], (2, 5, 7, 3))),
    Case("slice.step_two_axes", lambda: ints(lambda a: a[:, :, ::2, 1::3], (2, 5, 7, 11))),
    Case("slice.negative", lambda: ints(lambda a: a[:, -3:-1], (2, 5, 7, 3))),
    Case("slice.empty", lambda: floating(lambda a: a[:, 2:2], (2, 5))),
    Case("slice.int8", lambda: ints(lambda a: a[:, :, 1::2], (2, 5, 7, 3), dtype=torch.qint8)),
    Case("slice.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a[:, 1:4, ::2])), NCHW), WEIGHTED),
    Case("select", lambda: ints(lambda a: a[:, 2], (2, 5, 7, 3))),
    Case("select.negative", lambda: ints(lambda a: a[..., -1], (2, 5, 7, 3))),
    Case("chunk", lambda: ints(lambda a: a.chunk(3, 1), (2, 6, 7, 3))),
    Case("chunk.uneven", lambda: ints(lambda a: a.chunk(2, 1), (2, 5, 7, 3))),
    Case("chunk.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 6, 3), Call(lambda a: a.chunk(2, 1)[1])), NCHW), WEIGHTED),
    Case("split", lambda: ints(lambda a: a.split(2, -2), (2, 5, 6, 3))),
    Case("split.uneven", lambda: ints(lambda a: a.split(3, 2), (2, 5, 7, 3))),
    Case("split.sizes", lambda: ints(lambda a: a.split([1, 4, 2], 2), (2, 5, 7, 3))),
    Case("split.with_sizes", lambda: floating(lambda a: torch.ops.aten.split_with_sizes(a, [1, 4, 2], 2), (2, 5, 7, 3))),
    Case("split.by_name", lambda: floating(lambda a: torch.ops.aten.split.sizes(a, [1, 4, 2], 2), (2, 5, 7, 3))),
    Case("float.slice_step", lambda: floating(lambda a: a[:, 1::2, :, -2:], (2, 5, 7, 3))),
    Case("float.split", lambda: floating(lambda a: a.split(2, 1), (2, 6, 7, 3))),
    Case("float.select", lambda: floating(lambda a: a.select(3, 1), (2, 5, 7, 3))),
    Case("pad", lambda: ints(lambda a: F.pad(a, (1, 2, 3, 0)), (2, 5, 7, 3))),
    Case("pad.value", lambda: ints(lambda a: F.pad(a, (1, 2, 0, 1), value=1.5), (2, 5, 7, 3))),
    Case("pad.channels", lambda: ints(lambda a: F.pad(a, (0, 0, 0, 0, 2, 1)), (2, 5, 7, 3))),
    Case("pad.int8", lambda: ints(lambda a: F.pad(a, (1, 2, 3, 0)), (2, 5, 7, 3), dtype=torch.qint8)),
    Case("pad.before_conv", lambda: eager(Seq(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 5, 3, 2)), (2, 3, 8, 10)), WEIGHTED),
    Case("float.pad", lambda: floating(lambda a: F.pad(a, (1, 2, 3, 0)), (2, 5, 7, 3))),
    Case("float.pad_value", lambda: floating(lambda a: F.pad(a, (1, 2, 3, 0), value=-2.5), (2, 5, 7, 3))),
    Case("float.constant_pad_nd", lambda: floating(lambda a: torch.constant_pad_nd(a, [1, 2], 0.5), (5, 7, 3))),
    Case("shuffle.views", lambda: ints(shuffled, (2, 6, 7, 3))),
    Case("shuffle.views_behind_conv", lambda: eager(Seq(nn.Conv2d(3, 6, 3), Call(shuffled), nn.Conv2d(6, 5, 1)), NCHW), WEIGHTED),
    Case("shuffle.module", lambda: ints(nn.ChannelShuffle(3), (2, 6, 7, 5))),
    Case("shuffle.aten", lambda: ints(lambda a: torch.ops.aten.channel_shuffle(a, 2), (2, 6, 7, 5))),
    Case("shuffle.native", lambda: floating(lambda a: torch.native_channel_shuffle(a, 3), (2, 6, 7, 5))),
]  # fmt: skip
