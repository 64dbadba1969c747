"""Silence for what PyTorch says at every use of its eager quantization, and for nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deprecated_quantization() -> Iterator[None]:
    """The whole API announces its successor, so does each quantized tensor it makes, and torch's own defaults use ``reduce_range``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.ao.quantization is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor, torch.quantize_per_channel", UserWarning)
        warnings.filterwarnings("ignore", "Please use quant_min and quant_max", UserWarning)
        yield
