"""The other static workflows of torch.ao: FX graph mode and quantization-aware training, converted by PyTorch itself."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization as Q
from torch.ao.quantization import quantize_fx

import torch2circle


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = Q.QuantStub(), Q.DeQuantStub()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(self.quant(x))))
        return self.dequant(self.linear(x.mean((2, 3))))


def graph_mode(x: Tensor) -> nn.Module:
    prepared = quantize_fx.prepare_fx(Net().eval(), Q.get_default_qconfig_mapping("fbgemm"), (x,))
    prepared(x)
    return quantize_fx.convert_fx(prepared)


def aware_training(x: Tensor) -> nn.Module:
    model = Net().train()
    Q.fuse_modules_qat(model, [["conv", "norm", "act"]], inplace=True)
    model.qconfig = Q.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    Q.prepare_qat(model, inplace=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    converted: nn.Module = Q.convert(model.eval())
    return converted


@pytest.mark.parametrize("target", ["onert", "litert"])
@pytest.mark.parametrize("workflow", [graph_mode, aware_training])
def test_every_operator(workflow: object, target: str) -> None:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch says about its own workflows
        torch.manual_seed(0)
        x = torch.randn(2, 3, 12, 14)
        model = workflow(x)  # type: ignore[operator]
    exported = torch2circle.export(model, (x[:1],))
    assert exported.verify(target).ok(lsb=1)
    assert all(node.inputs[1].type.quant for node in exported.graph.nodes() if node.op == "CONV_2D" and node.inputs[1])
