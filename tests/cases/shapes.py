"""Files for any size of some dimensions: verified for the two sizes that are recorded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from .making import AVERAGE, FLOAT, WEIGHTED, Case, Residual, Seq, conv_relu, eager, floating, linear_relu

BATCH: dict[str, Any] = {"dynamic_batch": True}
TIME: dict[str, Any] = {"dynamic_shapes": ({1: "time"},)}
BOTH: dict[str, Any] = {"dynamic_shapes": ({0: "batch", 1: "time"},)}
UNROLLED = {**BATCH, "recurrent": "unrolled"}


class Flattened(nn.Module):
    """A float CNN with the two ways of flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 5, 3, stride=2), nn.Linear(5 * 4 * 5, 7), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(x))
        x = self.first(x.view(x.size(0), -1))
        return self.second(torch.flatten(x.reshape(-1, 7, 1), 1))


class Block(nn.Module):
    """A transformer block that asks its input for sizes."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 20), nn.GELU(), nn.Linear(20, width))

    def forward(self, x: Tensor) -> Tensor:
        b, t, width = x.shape
        q, k, v = (part.reshape(b, t, self.heads, width // self.heads).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        made = torch.softmax(q @ k.transpose(-2, -1) / 2, -1) @ v
        x = x + self.out(made.transpose(1, 2).reshape(b, t, width))
        return x + self.mlp(x)


class Tokens(nn.Module):
    """A vision transformer's beginning: one token in front of each row, and an embedding of the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.places = nn.Parameter(torch.empty(1, 1, 5)), nn.Parameter(torch.empty(1, 7, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places


class Last(nn.Module):
    """What a recurrent layer gave last."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def parts(x: Tensor) -> Tensor:
    return torch.cat([torch.softmax(x, -1)[:, 1:4], x[:, ::2].mean(1, keepdim=True)], 1)


def heads_masked(x: Tensor) -> Tensor:
    """A mask of each row, for all heads and queries."""
    mask = (x[:, None, None, :] > 0).expand(-1, 3, 4, -1)
    return torch.where(mask, x[:, None, None, :], -1.0)


def ids_beside(x: Tensor) -> Tensor:
    """Integers that a model makes for each row."""
    return torch.cat([torch.full((x.shape[0], 1), 7), x.long()], 1)


def cnn() -> nn.Module:
    return Seq(Residual("add"), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 40))


SHAPE = (4, 5, 7)
IMAGE = (4, 3, 10, 12)
STATE = "UNIDIRECTIONAL_SEQUENCE_LSTM (f32+variable: wrong where the size of a state changes)"

CASES: list[Case] = [
    Case("open.cnn", lambda: eager(cnn(), IMAGE), WEIGHTED, BATCH),
    Case("open.pools", lambda: eager(Seq(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten()), IMAGE, engine="qnnpack"), AVERAGE, BATCH),
    Case("open.image_size", lambda: eager(Seq(conv_relu(3, 5, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3)), (1, 3, 16, 18)),
         WEIGHTED, {"dynamic_shapes": ({2: Dim("height", min=8), 3: Dim("width", min=8)},)}),
    Case("open.ceil", lambda: floating(nn.MaxPool2d(3, 2, 1, ceil_mode=True), (4, 3, 8, 10)), options=BATCH),
    Case("open.not_counted", lambda: floating(nn.AvgPool2d(3, 2, 1, count_include_pad=False), (4, 3, 9, 11)), FLOAT, BATCH),
    Case("open.mlp", lambda: eager(Seq(linear_relu(9, 7), nn.Linear(7, 4)), (4, 9)), WEIGHTED, BATCH),
    Case("open.mlp_one_row", lambda: eager(Seq(linear_relu(9, 70), nn.Linear(70, 40)), (1, 9)), WEIGHTED, BATCH),
    Case("open.flatten", lambda: floating(Flattened(), IMAGE), FLOAT, BATCH),
    Case("open.block", lambda: floating(Block(), (4, 5, 12)), FLOAT, BATCH),
    Case("open.block_time", lambda: floating(Block(), (2, 16, 12)), FLOAT, TIME),
    Case("open.tokens", lambda: floating(Tokens(), (4, 6, 5)), options=BATCH),
    Case("open.lstm", lambda: floating(Last(), (4, 6, 3)), FLOAT, BATCH, {"litert": STATE}),
    Case("open.lstm_unrolled", lambda: floating(Last(), (4, 6, 3)), FLOAT, UNROLLED),
    Case("open.lstm_time", lambda: floating(Last(), (2, 16, 3)), FLOAT, TIME),
    Case("open.parts", lambda: floating(parts, SHAPE), FLOAT, BATCH),
    Case("open.two", lambda: floating(lambda x: torch.tanh(x).mean(1) * 2 + x[:, -1], SHAPE), FLOAT, BOTH),
    Case("open.ends", lambda: floating(lambda x: x[:, 1:-1] + x[:, 2:] - x[:, -1:], (2, 16, 7)),
         options={"dynamic_shapes": ({1: Dim("time", min=4)},)}),
    Case("open.mask", lambda: floating(heads_masked, (4, 6)), options=BATCH, refused={"onert": "CONCATENATION (bool: refused)"}),
    Case("open.expand", lambda: floating(lambda x, y: x.expand(y.shape[0], -1, 7) * y, (1, 5, 1), SHAPE),
         options={"dynamic_shapes": (None, {0: "batch"})}),
    Case("open.ones_like", lambda: floating(lambda x: torch.ones_like(x) - x, SHAPE), options=BATCH),
    Case("open.integers", lambda: floating(ids_beside, (4, 5)), options=BATCH),
    Case("open.pixel_shuffle", lambda: floating(nn.PixelShuffle(2), (4, 8, 3, 5)), options=BATCH,
         refused={"onert": "DEPTH_TO_SPACE (f32: refused)"}),
]  # fmt: skip
