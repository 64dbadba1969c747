"""``prefer="speed"``: one weight scale a layer for onert, what it computes, and what is said about the loss."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization as Q

import torch2circle
import zoo
from cases.making import Seq, floating
from torch2circle import cli, one_scale, runtimes
from torch2circle.errors import TargetError
from torch2circle.pipeline import ExportedModel

pytestmark = pytest.mark.usefixtures("fresh_random_and_quiet")


def eager(body: nn.Module, *shape: int, engine: str = "fbgemm") -> tuple[nn.Module, tuple[Tensor]]:
    """``body`` quantized with a scale for each channel of its weights, of quite different size."""
    torch.backends.quantized.engine = engine
    x = torch.rand(shape) - 0.3
    for part in body.modules():
        if isinstance(getattr(part, "weight", None), nn.Parameter):
            size = part.weight.shape[0]
            part.weight.data *= torch.linspace(0.2, 2, size).reshape(size, *[1] * (part.weight.dim() - 1))
    model = Q.QuantWrapper(body).eval()
    weight = Q.PerChannelMinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    model.qconfig = Q.QConfig(activation=Q.MinMaxObserver.with_args(reduce_range=True), weight=weight)
    Q.prepare(model, inplace=True)(x)
    return Q.convert(model, inplace=True), (x,)


def fast(made: Any) -> ExportedModel:
    return torch2circle.export(*made, prefer="speed")


def weights_by_channel(exported: ExportedModel) -> list[str]:
    """The operators that have weights with a scale for each channel."""
    graph = exported.for_target("onert")
    found = [(n.op, v.type.quant) for n in graph.nodes() for v in n.inputs[:2] if v is not None and v.data is not None]
    return [op for op, quant in found if quant is not None and quant.axis is not None]


LAYERS: dict[str, Callable[[], Any]] = {
    "conv2d": lambda: eager(Seq(nn.Conv2d(3, 5, 3, padding=1)), 1, 3, 8, 7),
    "conv2d x86": lambda: eager(Seq(nn.Conv2d(3, 5, 3, padding=1)), 1, 3, 8, 7, engine="x86"),
    "conv2d qnnpack": lambda: eager(Seq(nn.Conv2d(3, 5, 3, padding=1)), 1, 3, 8, 7, engine="qnnpack"),
    "grouped": lambda: eager(Seq(nn.Conv2d(6, 4, 3, groups=2)), 1, 6, 8, 7),
    "conv1d": lambda: eager(Seq(nn.Conv1d(3, 5, 3, stride=2)), 1, 3, 11),
    "conv3d": lambda: eager(Seq(nn.Conv3d(3, 5, 2)), 1, 3, 4, 5, 6),
    "linear": lambda: eager(Seq(nn.Linear(9, 5)), 4, 9),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_kind_of_layer_gets_one_scale_and_is_verified(name: str) -> None:
    made = LAYERS[name]()
    assert weights_by_channel(torch2circle.export(*made))
    exported = fast(made)
    assert not weights_by_channel(exported)
    layer, whole = (finding for finding in exported.diagnostics() if finding.code == "requantized")
    assert (layer.severity, layer.path) == ("note", "module.0")
    assert re.match(r"one weight scale instead of \d: weights \d+\.\d dB \(SQNR\), result \d+\.\d dB, up to \d+ LSB \(", layer.message)
    assert whole.message.startswith("1 layers with a weight scale for each channel have one for all: on this example the outputs are ")
    if runtimes.available("onert"):
        assert exported.verify("onert").ok(lsb=1)


def test_what_is_compared_is_pytorch_on_the_requantized_weights() -> None:
    model, (x,) = eager(Seq(nn.Conv2d(3, 5, 3), nn.ReLU()), 1, 3, 8, 7)
    before = model(x)
    exported = fast((model, (x,)))
    assert torch.equal(model(x), before)
    layer = model.module[0]
    weight = one_scale.per_tensor(layer.weight())
    assert weight.int_repr().abs().max() == 127
    layer.set_weight_bias(weight, layer.bias())
    assert torch.equal(exported.recording.value_of(exported.recording.outputs[0]), model(x))
    assert not torch.equal(model(x), before)


def test_depthwise_convolutions_keep_their_scales() -> None:
    made = eager(Seq(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1)), 1, 4, 8, 7)
    exported = fast(made)
    assert weights_by_channel(exported) == ["DEPTHWISE_CONV_2D"]
    assert [f.path for f in exported.diagnostics() if f.code == "requantized"] == ["module.1", "<top>"]


def test_a_graph_of_torch_export_is_requantized_as_well() -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    model, args = floating(Seq(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1)), (1, 3, 8, 7))
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = pt2e.prepare_pt2e(torch.export.export(model, args).module(), quantizer)
    prepared(*args)
    made = pt2e.convert_pt2e(prepared), args
    assert len(weights_by_channel(torch2circle.export(*made))) == 2
    exported = fast(made)
    assert not weights_by_channel(exported)
    if runtimes.available("onert"):
        assert exported.verify("onert").ok(lsb=1)


def test_a_model_with_nothing_to_requantize_is_the_same_file_and_warned_of() -> None:
    made = zoo.quantized("resnet18", "qnnpack", 64)
    made = made[0], (made[1],)
    exported = fast(made)
    assert [(f.severity, f.code) for f in exported.diagnostics() if f.code == "requantized"] == [("warning", "requantized")]
    assert exported.to_bytes("onert") == torch2circle.export(*made).to_bytes("onert")


def test_a_float_model_stays_as_it_is() -> None:
    model, args = floating(Seq(nn.Conv2d(3, 5, 3)), (1, 3, 8, 7))
    assert torch2circle.export(model, args, prefer="speed").to_bytes("onert") == torch2circle.export(model, args).to_bytes("onert")


@pytest.mark.parametrize("target", ["litert", "one"])
def test_it_is_for_onert_alone(target: str) -> None:
    exported = fast(LAYERS["conv2d"]())
    with pytest.raises(TargetError, match=r"--prefer speed\) is for target onert, not "):
        exported.for_target(target)


def test_other_choices_are_refused() -> None:
    model, args = floating(Seq(nn.Conv2d(3, 5, 3)), (1, 3, 8, 7))
    with pytest.raises(ValueError, match="prefer must be one of"):
        torch2circle.export(model, args, prefer="size")
    with pytest.raises(torch2circle.UserError, match="give one of them"):
        torch2circle.export(model, args, prefer="speed", weights="float16")


def test_more_samples_are_requantized_as_well() -> None:
    if not runtimes.available("onert"):
        pytest.skip("onert is not installed")
    assert fast(LAYERS["conv2d"]()).verify("onert", random=2).ok(lsb=1)


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(LAYERS["conv2d"]()[0], "model.pt")
    with pytest.raises(SystemExit) as done:
        cli.main(["model.pt", "model.circle", "--input", "1x3x8x7", "--prefer", "speed", "--no-verify", "--json"])
    assert done.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert [finding["code"] for finding in told["diagnostics"]].count("requantized") == 2
