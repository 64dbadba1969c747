"""A decoder as Llama's: rotary positions, RMS norm, gated feed-forward, groups of heads that share a key, and a cache of keys and values.

One call decodes ``length`` tokens behind ``past`` cached ones: the caches are inputs, and come back with the new tokens behind them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class Norm(nn.Module):
    """RMS norm in single operators."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, keys: int) -> None:
        super().__init__()
        self.heads, self.keys, self.head_width = heads, keys, width // heads
        self.q, self.k, self.v = (nn.Linear(width, n * self.head_width, bias=False) for n in (heads, keys, keys))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, self.heads, self.head_width).transpose(1, 2)
        k = self.k(x).view(batch, length, self.keys, self.head_width).transpose(1, 2)
        v = self.v(x).view(batch, length, self.keys, self.head_width).transpose(1, 2)
        q, k = rotated(q, cos, sin), rotated(k, cos, sin)
        k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        made = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return self.out(made.transpose(1, 2).reshape(batch, length, -1)), torch.stack((k, v))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, keys: int) -> None:
        super().__init__()
        self.attention, self.norm_1, self.norm_2 = Attention(width, heads, keys), Norm(width), Norm(width)
        self.gate, self.up, self.down = (nn.Linear(*sizes, bias=False) for sizes in ((width, 3 * width),) * 2 + ((3 * width, width),))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        attended, kept = self.attention(self.norm_1(x), cos, sin, mask, past)
        x = x + attended
        y = self.norm_2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y)), kept


class Gpt(nn.Module):
    """``tokens`` int64 [batch, length]; ``caches`` [layers, 2, batch, keys, past, width / heads]. Gives logits and longer caches."""

    def __init__(self, vocabulary: int = 100, width: int = 48, heads: int = 4, keys: int = 2, layers: int = 2) -> None:
        super().__init__()
        self.tokens, self.norm = nn.Embedding(vocabulary, width), Norm(width)
        self.blocks, self.head = nn.ModuleList(Block(width, heads, keys) for _ in range(layers)), nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("frequencies", 10000.0 ** (-torch.arange(0, width // heads, 2) / (width // heads)))
        self.frequencies: Tensor

    def forward(self, tokens: Tensor, caches: Tensor) -> tuple[Tensor, Tensor]:
        length, past = tokens.shape[1], caches.shape[4]
        angles = torch.outer(torch.arange(past, past + length), self.frequencies).repeat(1, 2)
        mask = torch.ones(length, past + length, dtype=torch.bool).tril(past)
        x, kept = self.tokens(tokens), []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, longer = block(x, angles.cos(), angles.sin(), mask, cache)
            kept.append(longer)
        return self.head(self.norm(x)), torch.stack(kept)


def example(batch: int = 1, length: int = 5, past: int = 7) -> tuple[Tensor, Tensor]:
    """Inputs for the default sizes."""
    generator = torch.Generator().manual_seed(0)
    return torch.arange(batch * length).view(batch, length) * 13 % 100, torch.randn(2, 2, batch, 2, past, 12, generator=generator)
