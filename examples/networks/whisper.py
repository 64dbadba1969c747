"""An audio encoder as Whisper's: two convolutions over the mel bands, fixed sinusoids as positions, pre-norm attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoids(length: int, width: int) -> Tensor:
    steps = math.log(10000) / (width // 2 - 1)
    angles = torch.arange(length)[:, None] * torch.exp(-steps * torch.arange(width // 2))[None]
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm_2(x))


class AudioEncoder(nn.Module):
    """``mel`` [batch, bands, frames] -> [batch, frames / 2, width]"""

    def __init__(self, bands: int = 20, frames: int = 60, width: int = 48, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = nn.Conv1d(bands, width, 3, padding=1), nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positions", sinusoids(frames // 2, width))
        self.positions: Tensor
        self.blocks, self.norm = nn.ModuleList(Block(width, heads) for _ in range(layers)), nn.LayerNorm(width)

    def forward(self, mel: Tensor) -> Tensor:
        x = F.gelu(self.conv_2(F.gelu(self.conv_1(mel)))).permute(0, 2, 1) + self.positions
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out
