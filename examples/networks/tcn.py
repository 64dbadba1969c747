"""A temporal convolutional network: dilated causal convolutions with weight normalization and residual connections."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class Causal(nn.Module):
    """A convolution that sees only the past."""

    def __init__(self, channels: int, out: int, size: int, dilation: int) -> None:
        super().__init__()
        self.conv, self.front = weight_norm(nn.Conv1d(channels, out, size, dilation=dilation)), (size - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(F.pad(x, (self.front, 0))))


class Level(nn.Module):
    def __init__(self, channels: int, out: int, size: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Causal(channels, out, size, dilation), nn.Dropout(0.1), Causal(out, out, size, dilation), nn.Dropout(0.1))
        self.shortcut = nn.Conv1d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class Tcn(nn.Module):
    """``x`` [batch, channels, time] -> logits [batch, classes] of the last step"""

    def __init__(self, channels: int = 6, width: int = 16, levels: int = 4, size: int = 3, classes: int = 5) -> None:
        super().__init__()
        widths = [channels, *[width] * levels]
        self.levels = nn.Sequential(*(Level(a, b, size, 2**i) for i, (a, b) in enumerate(pairwise(widths))))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.levels(x)[:, :, -1])
        return out
