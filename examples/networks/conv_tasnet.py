"""Separation of voices as Conv-TasNet does it: an encoder of the waveform, masks by dilated convolutions, a transposed convolution back."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GlobalNorm(nn.Module):
    """Normalization over channels and time."""

    def __init__(self, channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.gain, self.offset, self.eps = nn.Parameter(torch.ones(1, channels, 1)), nn.Parameter(torch.zeros(1, channels, 1)), eps

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2), keepdim=True)
        variance = ((x - mean) ** 2).mean(dim=(1, 2), keepdim=True)
        return self.gain * (x - mean) / torch.sqrt(variance + self.eps) + self.offset


class Block(nn.Module):
    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.grow, self.act_1, self.norm_1 = nn.Conv1d(channels, hidden, 1), nn.PReLU(), GlobalNorm(hidden)
        self.deep = nn.Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation, groups=hidden)
        self.act_2, self.norm_2, self.residual, self.skip = nn.PReLU(), GlobalNorm(hidden), *(nn.Conv1d(hidden, channels, 1) for _ in "rs")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm_2(self.act_2(self.deep(self.norm_1(self.act_1(self.grow(x))))))
        return x + self.residual(y), self.skip(y)


class ConvTasNet(nn.Module):
    """``wave`` [batch, samples] -> [batch, voices, samples]"""

    def __init__(self, filters: int = 32, size: int = 16, channels: int = 16, hidden: int = 24, blocks: int = 3, voices: int = 2) -> None:
        super().__init__()
        self.voices, self.filters = voices, filters
        self.encoder = nn.Conv1d(1, filters, size, stride=size // 2, bias=False)
        self.norm, self.narrow = GlobalNorm(filters), nn.Conv1d(filters, channels, 1)
        self.blocks = nn.ModuleList(Block(channels, hidden, 2**i) for i in range(blocks))
        self.masks = nn.Sequential(nn.PReLU(), nn.Conv1d(channels, voices * filters, 1), nn.Sigmoid())
        self.decoder = nn.ConvTranspose1d(filters, 1, size, stride=size // 2, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        features = torch.relu(self.encoder(wave.unsqueeze(1)))
        x, total = self.narrow(self.norm(features)), torch.zeros(())
        for block in self.blocks:
            x, skip = block(x)
            total = total + skip
        masks = self.masks(total).view(wave.shape[0], self.voices, self.filters, -1)
        masked = (features.unsqueeze(1) * masks).flatten(0, 1)
        return self.decoder(masked).view(wave.shape[0], self.voices, -1)
