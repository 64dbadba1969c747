"""The models that README's commands name, small ones, in the current folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from test_errors import quantized

MYNET = """
import torch
from test_errors import quantized


@torch.library.custom_op("mylib::op", mutates_args=())
def op(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Custom(torch.nn.Module):
    def forward(self, x):
        return torch.ops.mylib.op(x) + 1


class Coder(torch.nn.Module):
    def encode(self, x):
        return x * 2

    def decode(self, x):
        return x / 2


def build():
    return quantized(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())


def own():
    return Custom().eval()


def methods():
    coder, x = Coder().eval(), torch.rand(1, 4)
    return {"encode": (coder.encode, (x,)), "decode": (coder.decode, (x,))}
"""


def write_models() -> None:
    """``model.pt``, its ``weights.pt``, a float ``model.pt2``, ``mynet.py``, ``photos.npz`` and ``nets.toml``."""
    model = quantized(nn.Conv2d(3, 4, 3), nn.ReLU())
    torch.save(model, "model.pt")
    torch.save(model.state_dict(), "weights.pt")
    torch.export.save(torch.export.export(nn.Conv2d(3, 4, 3).eval(), (torch.rand(1, 3, 32, 32),)), "model.pt2")
    np.savez("photos.npz", input=np.zeros((1, 3, 224, 224), np.float32))
    Path("mynet.py").write_text(MYNET, encoding="utf-8")
    Path("nets.toml").write_text('[[job]]\nmodel = "model.pt"\ninput = "1x3x32x32"\noutput = "out/{stem}.circle"\n', encoding="utf-8")
