"""Pads, shuffles, and other orders of the elements."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .making import FLOAT, NCHW, WEIGHTED, Call, Case, Seq, eager, floating, ints, shuffled

Q8 = torch.qint8

CASES = [
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
    Case("pad.negative", lambda: ints(lambda a: F.pad(a, (-1, 2, 0, -2)), (2, 5, 7, 4))),
    Case("pad.only_negative", lambda: ints(lambda a: F.pad(a, (-1, 0, 0, -2)), (2, 5, 7, 4), dtype=Q8)),
    Case("pad.reflect", lambda: ints(nn.ReflectionPad2d((1, 2, 3, 0)), (2, 5, 7, 4))),
    Case("pad.reflect_int8", lambda: ints(nn.ReflectionPad2d(1), (2, 5, 7, 4), dtype=Q8)),
    Case("pad.reflect_by_name", lambda: ints(lambda a: torch.ops.aten.reflection_pad2d(a, [2, 1, 0, 1]), (2, 5, 7, 4))),
    Case("pad.reflect_before_conv", lambda: eager(nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"), NCHW), WEIGHTED),
    Case("float.reflection_pad1d", lambda: floating(lambda a: torch.ops.aten.reflection_pad1d(a, [2, 1]), (5, 7, 4))),
    Case("float.reflection_pad3d", lambda: floating(lambda a: torch.ops.aten.reflection_pad3d(a, [2, 1, 0, 1, 1, 1]), (1, 2, 5, 6, 4))),
    Case("float.replication_pad1d", lambda: floating(lambda a: torch.ops.aten.replication_pad1d(a, [2, 5]), (5, 7, 4))),
    Case("float.replication_pad2d", lambda: floating(lambda a: torch.ops.aten.replication_pad2d(a, [2, 1, 0, 6]), (2, 5, 7, 4))),
    Case("float.replication_pad3d", lambda: floating(lambda a: torch.ops.aten.replication_pad3d(a, [2, 1, 0, 1, 1, 1]), (1, 2, 5, 6, 4))),
    Case("float.pad_replicate", lambda: floating(nn.ReplicationPad2d((1, 2, 3, 0)), (2, 5, 7, 4))),
    Case("float.pad_circular", lambda: floating(nn.CircularPad2d((1, 2, 3, 0)), (2, 5, 7, 4))),
    Case("float.pad_reflect3d", lambda: floating(nn.ReflectionPad3d(1), (1, 2, 5, 6, 4))),
    Case("flip", lambda: ints(lambda a: a.flip(1, -1), (2, 5, 7, 3))),
    Case("flip.int8", lambda: ints(lambda a: a.flip(2), (2, 5, 7, 3), dtype=Q8)),
    Case("flip.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.flip(1, 2))), NCHW), WEIGHTED),
    Case("float.flip", lambda: floating(lambda a: a.fliplr(), (5, 7))),
    Case("float.roll", lambda: floating(lambda a: a.roll((1, -2), (1, 3)), (2, 5, 7, 3))),
    Case("expand", lambda: ints(lambda a: a.expand(2, 5, 7, 3), (5, 1, 3))),
    Case("expand.int8", lambda: ints(lambda a: a.expand(-1, -1, 7, -1), (2, 5, 1, 3), dtype=Q8)),
    Case("float.expand", lambda: floating(lambda a: a.expand(2, 5, 7, 3), (2, 1, 7, 1))),
    Case("float.expand_added", lambda: floating(lambda a, b: a.expand(2, 5, 7, 3) + b, (2, 1, 7, 1), (2, 5, 7, 3))),
    Case("float.expand_as", lambda: floating(lambda a, b: a.expand_as(b) * b, (7, 1), (2, 7, 3))),
    Case("float.meshgrid", lambda: floating(lambda a, b: torch.meshgrid(a, b, indexing="xy"), (5,), (7,))),
    Case("int64.expand", lambda: (Call(lambda a: a.expand(4, 3)).eval(), (torch.arange(3).view(1, 3),))),
    Case("repeat", lambda: ints(lambda a: a.repeat(2, 1, 3, 1), (5, 7, 3))),
    Case("repeat.int8", lambda: ints(lambda a: a.repeat(1, 2, 1, 3), (2, 5, 7, 3), dtype=Q8)),
    Case("float.repeat_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.repeat(1, 2, 1, 3))), NCHW), FLOAT),
    Case("repeat.tile", lambda: ints(lambda a: torch.tile(a, (1, 2)), (5, 7))),
    Case("repeat.interleave", lambda: ints(lambda a: a.repeat_interleave(2, 1), (2, 5, 7))),
    Case("stack", lambda: floating(lambda a, b: torch.stack([a, b], 1), (2, 5, 7), (2, 5, 7))),
    Case("stack.last", lambda: floating(lambda a, b: torch.stack([a, b, a], -1), (2, 5, 7, 3), (2, 5, 7, 3))),
    Case("float.stack_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: torch.stack([a, a + 1], 2))), NCHW), FLOAT),
    Case("unfold", lambda: ints(lambda a: a.unfold(2, 3, 2), (2, 5, 9, 4))),
    Case("unfold.int8", lambda: ints(lambda a: a.unfold(-1, 2, 3), (2, 5, 9), dtype=Q8)),
    Case("float.unfold_behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.unfold(3, 4, 1))), NCHW), FLOAT),
    Case("float.im2col", lambda: floating(nn.Unfold((2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)), NCHW)),
    Case("pixel_shuffle", lambda: ints(nn.PixelShuffle(2), (2, 12, 5, 7))),
    Case("pixel_shuffle.int8", lambda: ints(nn.PixelShuffle(3), (2, 9, 5, 7), dtype=Q8)),
    Case("pixel_shuffle.behind_conv", lambda: eager(Seq(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2)), NCHW), WEIGHTED),
    Case("pixel_unshuffle", lambda: ints(nn.PixelUnshuffle(2), (2, 3, 6, 10))),
    Case("pixel_unshuffle.one_channel", lambda: ints(nn.PixelUnshuffle(3), (2, 1, 6, 9), dtype=Q8)),
    Case("float.pixel_shuffle", lambda: floating(nn.PixelShuffle(2), (2, 12, 5, 7))),
    Case("float.pixel_unshuffle", lambda: floating(nn.PixelUnshuffle(2), (2, 3, 6, 10))),
    Case("views.composite", lambda: ints(lambda a: a.movedim(1, -1).swapaxes(1, 2).ravel(), (2, 5, 7, 3))),
]  # fmt: skip
