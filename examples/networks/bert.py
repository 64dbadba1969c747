"""An encoder as BERT's: embeddings of words, positions and segments; attention with a mask of padded words; post-norm; a pooled head."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Attention in single operators, as it was written before PyTorch had one for it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, self.head_width).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_width)
        weights = F.softmax(scores + hidden, dim=-1)
        merged = (weights @ v).permute(0, 2, 1, 3).contiguous().view(x.shape)
        return self.out(merged)


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.norm_1, self.norm_2 = SelfAttention(width, heads), nn.LayerNorm(width, 1e-12), nn.LayerNorm(width, 1e-12)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        x = self.norm_1(x + self.attention(x, hidden))
        return self.norm_2(x + self.shrink(F.gelu(self.grow(x))))


class Bert(nn.Module):
    """``words`` and ``segments`` are int64 [batch, length], ``mask`` is 1 for words and 0 for padding.

    Gives the words' features [batch, length, width] and the pooled ones [batch, width].
    """

    def __init__(self, vocabulary: int = 200, width: int = 48, heads: int = 4, layers: int = 2, longest: int = 64) -> None:
        super().__init__()
        self.words, self.positions, self.segments = (nn.Embedding(n, width) for n in (vocabulary, longest, 2))
        self.norm, self.layers = nn.LayerNorm(width, 1e-12), nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.pool = nn.Linear(width, width)

    def forward(self, words: Tensor, segments: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        positions = torch.arange(words.shape[1], device=words.device)
        x = self.norm(self.words(words) + self.segments(segments) + self.positions(positions))
        hidden = (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layers:
            x = layer(x, hidden)
        return x, torch.tanh(self.pool(x[:, 0]))


def example(batch: int = 2, length: int = 12, vocabulary: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs; the second example is padded."""
    words = torch.arange(batch * length).view(batch, length) * 37 % vocabulary
    segments = (torch.arange(length) >= length // 2).long().expand(batch, length).contiguous()
    lengths = length - torch.arange(batch)[:, None] * 3
    return words, segments, (torch.arange(length)[None] < lengths).long()
