"""PyTorch kernels that do not compute what they document: the file does, the user is told, and verification knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import torch2circle
from cases.making import RUNTIMES, Q, ints
from torch2circle import runtimes

SHAPE = (2, 5, 7, 3)


def slopes(*values: float) -> Tensor:
    """Slopes whose integers end at the largest of them."""
    return torch.quantize_per_tensor(torch.tensor(values), max(values) / 255, 0, torch.quint8)


DEVIATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "prelu": (lambda a: Q.prelu(a, slopes(0.3), 0.0207111, 50), "shrinks what is above zero and is up to 135 LSB off"),
    "prelu_channels": (lambda a: Q.prelu(a, slopes(0.1, 0.2, 0.3, 0.4, 0.5), 0.0207111, 50), "shrinks what is above zero and is up to 97"),
    "add_scalar_relu.Tensor": (lambda a: Q.add_scalar_relu(a, torch.tensor(1.7)), "forgets the relu and is up to 57 LSB off"),
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_the_file_computes_what_is_documented(name: str) -> None:
    function, said = DEVIATIONS[name]
    exported = torch2circle.export(*ints(function, SHAPE))
    (finding,) = [f for f in exported.findings if f.code == "kernel-deviates"]
    assert said in finding.message
    for runtime in filter(runtimes.available, RUNTIMES):
        report = exported.verify(runtime)
        assert report.ok(1), runtime
        assert max(c.lsb for c in report.outputs) > 1  # PyTorch's own result
