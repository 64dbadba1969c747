"""Attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .making import FLOAT, Call, Case, Made, floating, inputs, seeded

QKV = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
HIDDEN = torch.ones(5, 7, dtype=torch.bool).tril(1)
HIDDEN[2] = False  # a whole row
ADDED = inputs([(5, 7)], seed=7)[0].masked_fill(~HIDDEN, -torch.inf)
PADDING = torch.arange(5)[None] >= torch.tensor([[5], [3]])
CAUSAL = torch.ones(5, 5, dtype=torch.bool).triu(1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask)


def masked(mask: Tensor) -> Made:
    return Call(attend).eval(), (*inputs(QKV), mask)


class Attending(nn.Module):
    """A multi-head attention of 2 heads on 8 features; on itself, or on another sequence."""

    def __init__(self, need_weights: bool = False, mask: Tensor | None = None) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.need_weights, self.mask = need_weights, mask

    def forward(self, x: Tensor, other: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y = x if other is None else other
        return self.attention(x, y, y, need_weights=self.need_weights, attn_mask=self.mask)  # type: ignore[no-any-return]


class Padded(nn.Module):
    """With a mask of padded positions as an input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        made: Tensor = self.attention(x, x, x, key_padding_mask=padding)[0]
        return made


def scripted(module: nn.Module, *more: Tensor) -> Made:
    """TorchScript calls the fused operator whatever the flags say."""
    return torch.jit.script(seeded(module)), (*inputs([(2, 5, 8)]), *more)


def encoder(**options: bool | str) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, **options)  # type: ignore[arg-type]


class PaddedEncoder(nn.Module):
    def __init__(self, encoder: nn.TransformerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        made: Tensor = self.encoder(x, src_key_padding_mask=padding)
        return made


CASES = [
    Case("float.attention", lambda: floating(attend, *QKV), FLOAT),
    Case("float.attention_causal", lambda: floating(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), *QKV), FLOAT),
    Case("float.attention_scale", lambda: floating(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3), *QKV), FLOAT),
    Case("float.attention_hidden", lambda: floating(lambda q, k, v: attend(q, k, v, HIDDEN), *QKV), FLOAT),
    Case("float.attention_hidden_input", lambda: masked(HIDDEN), FLOAT),
    Case("float.attention_padding_input", lambda: masked(~torch.eye(7, dtype=torch.bool)[:2, None, None]), FLOAT),
    Case("float.attention_added", lambda: floating(lambda q, k, v: attend(q, k, v, ADDED), *QKV), FLOAT),
    Case("float.attention_added_input", lambda: floating(attend, *QKV, (2, 1, 5, 7)), FLOAT),
    Case("float.attention_groups", lambda: floating(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        (2, 6, 5, 4), (2, 3, 7, 4), (2, 3, 7, 8)), FLOAT),
    Case("float.attention_rank2", lambda: floating(attend, (5, 4), (7, 4), (7, 6)), FLOAT),
    Case("float.attention_rank3", lambda: floating(attend, (3, 5, 4), (3, 7, 4), (3, 7, 6)), FLOAT),
    Case("float.attention_rank5", lambda: floating(attend, (2, 3, 2, 5, 4), (2, 3, 2, 7, 4), (2, 3, 2, 7, 6)), FLOAT),
    Case("float.attention_transposed", lambda: floating(
        lambda q, k, v: attend(q, k.mT, v.mT), (2, 3, 5, 4), (2, 3, 4, 7), (2, 3, 6, 7)), FLOAT),
    Case("float.multihead", lambda: floating(Attending(), (2, 5, 8)), FLOAT),
    Case("float.multihead_weights", lambda: floating(Attending(need_weights=True), (2, 5, 8)), FLOAT),
    Case("float.multihead_causal", lambda: floating(Attending(mask=CAUSAL), (2, 5, 8)), FLOAT),
    Case("float.multihead_cross", lambda: floating(Attending(need_weights=True), (2, 5, 8), (2, 3, 8)), FLOAT),
    Case("float.multihead_padding", lambda: (seeded(Padded()), (*inputs([(2, 5, 8)]), PADDING)), FLOAT),
    Case("float.multihead_scripted", lambda: scripted(Padded(), PADDING), FLOAT),
    Case("float.encoder_layer", lambda: floating(encoder(), (2, 5, 8)), FLOAT),
    Case("float.encoder_layer_scripted", lambda: scripted(encoder()), FLOAT),
    Case("float.encoder_layer_scripted_gelu", lambda: scripted(encoder(norm_first=True, activation="gelu")), FLOAT),
    Case("float.encoder_padding", lambda: (
        seeded(PaddedEncoder(nn.TransformerEncoder(encoder(), 2, enable_nested_tensor=False))), (*inputs([(2, 5, 8)]), PADDING)), FLOAT),
    Case("float.decoder_layer", lambda: floating(nn.TransformerDecoderLayer(8, 2, 12, batch_first=True), (2, 5, 8), (2, 3, 8)), FLOAT),
]  # fmt: skip
