"""PyTorch's fused attention operators as what they are made of: the modules' own way where these do not apply."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ir import Finding


class _FastPath:
    """PyTorch's switch is one for all threads: the first one turns it off, and the last one gives it back as it was."""

    lock = threading.Lock()
    without = 0
    before = True


@contextmanager
def without_fast_path() -> Iterator[None]:
    """``nn.MultiheadAttention`` and ``nn.TransformerEncoder`` call no fused operators, and make no nested tensors of padded ones."""
    with _FastPath.lock:
        if not _FastPath.without:
            _FastPath.before = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _FastPath.without += 1
    try:
        yield
    finally:
        with _FastPath.lock:
            _FastPath.without -= 1
            if not _FastPath.without:
                torch.backends.mha.set_fastpath_enabled(_FastPath.before)


def padded_encoders(module: nn.Module) -> Iterator[Finding]:
    """Encoders that would make nested tensors of padded ones."""
    for name, part in module.named_modules():
        if isinstance(part, nn.TransformerEncoder) and getattr(part, "use_nested_tensor", False):
            message = "at padded positions PyTorch's fast path gives zeros, the file what the layers compute there, as in training"
            yield Finding("note", "padded-encoder", name or "<top>", message)


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Tensor, Tensor]:
    """``mask_type``: 0 for a mask of target and source positions, 1 for padded source positions, 2 for both and each head."""
    masked = None if mask is None else mask.to(torch.bool)  # the kernel's own reading, of -inf too
    padding, positions = (masked, None) if mask_type == 1 else (None, masked)
    if positions is not None and positions.dim() == 4:
        positions = positions.flatten(0, 1)
    query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    made, weights = F.multi_head_attention_forward(
        query, key, value, embed_dim, num_head, qkv_weight, qkv_bias, None, None, False, 0.0,
        proj_weight, proj_bias, training=False, key_padding_mask=padding, need_weights=need_weights, attn_mask=positions,
        average_attn_weights=average_attn_weights,
    )  # fmt: skip
    return made.transpose(0, 1), made.new_empty(0) if weights is None else weights


def transformer_encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    def attention(x: Tensor) -> Tensor:
        projections = (qkv_weight, qkv_bias, proj_weight, proj_bias)
        return multi_head_attention(x, x, x, embed_dim, num_heads, *projections, mask, need_weights=False, mask_type=mask_type)[0]

    def feed_forward(x: Tensor) -> Tensor:
        inner = F.linear(x, ffn_weight_1, ffn_bias_1)
        return F.linear(F.gelu(inner) if use_gelu else F.relu(inner), ffn_weight_2, ffn_bias_2)

    norms = ((norm_weight_1, norm_bias_1), (norm_weight_2, norm_bias_2))
    for block, (weight, bias) in zip((attention, feed_forward), norms, strict=True):
        if norm_first:
            src = src + block(F.layer_norm(src, (embed_dim,), weight, bias, eps))
        else:
            src = F.layer_norm(src + block(src), (embed_dim,), weight, bias, eps)
    return src


UNFUSED: Mapping[str, Callable[..., Any]] = {
    "aten::_native_multi_head_attention": multi_head_attention,
    "aten::_transformer_encoder_layer_fwd": transformer_encoder_layer,
}
