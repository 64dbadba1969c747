"""Where a kernel of PyTorch computes something else than PyTorch documents, the file follows the documentation, and the export says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torch2circle
from cases.conv import stored
from cases.making import RUNTIMES, Q
from torch2circle import runtimes


class Layer(nn.Module):
    """A quantized operator on all eight bits of its operand, and the float function that it is."""

    def __init__(self, op: Callable[..., Tensor], packed: torch.ScriptObject, formula: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.op, self.packed, self.formula = op, packed, formula

    def forward(self, x: Tensor) -> Tensor:
        return self.op(torch.quantize_per_tensor(x, 1 / 64, 3, torch.quint8), self.packed, 0.31, 74)

    def documented(self, x: Tensor) -> Tensor:
        real = self.formula(torch.quantize_per_tensor(x, 1 / 64, 3, torch.quint8).dequantize().double())
        return torch.quantize_per_tensor(real.float(), 0.31, 74, torch.quint8)


def depthwise() -> Layer:
    weight, where = stored((6, 1, 3, 3)), ([1, 1], [1, 1], [1, 1], 6)
    return Layer(
        Q.conv2d.new, Q.conv2d_prepack(weight, None, *where), lambda x: nn.functional.conv2d(x, weight.dequantize().double(), None, *where)
    )


def transposed(engine: str) -> Layer:
    torch.backends.quantized.engine = engine
    weight = stored((6, 5, 3, 2), axis=None)
    return Layer(
        Q.conv_transpose2d,
        Q.conv_transpose2d_prepack(weight, None, [2, 2], [0, 0], [0, 0], [1, 1], 1),
        lambda x: nn.functional.conv_transpose2d(x, weight.dequantize().double(), None, 2),
    )


def linear() -> Layer:
    weight = stored((5, 8))
    return Layer(Q.linear, Q.linear_prepack(weight, None), lambda x: nn.functional.linear(x, weight.dequantize().double()))


@pytest.mark.parametrize("make", [depthwise, lambda: transposed("onednn"), lambda: transposed("fbgemm"), linear])
def test_the_file_computes_what_is_documented(make: Callable[[], Layer]) -> None:
    model = make().eval()
    # the largest products next to each other: FBGEMM adds two of them in 16 bits, on some machines
    x = torch.from_numpy(np.random.default_rng(0).uniform(2, 3.9, (2, 6, 7, 8)).astype(np.float32))
    with torch.inference_mode():
        off = (model(x).int_repr().int() - model.documented(x).int_repr().int()).abs().max()
    exported = torch2circle.export(model, (x,))
    codes = {finding.code for finding in exported.findings if finding.severity == "warning"}
    assert codes == ({"kernel-overflow"} if off > 1 else set())
    for runtime in filter(runtimes.available, RUNTIMES):
        assert exported.verify(runtime).ok(1)
