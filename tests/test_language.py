"""Networks for text, quantized by PyTorch's own workflows, in the real runtimes."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.ao.nn.quantizable as nnqa
import torch.ao.nn.quantized as nnq
from torch import Tensor, nn
from torch.ao.quantization import (
    DeQuantStub,
    QConfig,
    QuantStub,
    convert,
    default_dynamic_qconfig,
    float_qparams_weight_only_qconfig,
    float_qparams_weight_only_qconfig_4bit,
    get_default_qconfig,
    prepare,
    quantize_dynamic,
)

import torch2circle
from cases.attention import PaddedEncoder
from cases.making import inputs, seeded
from torch2circle import runtimes
from torch2circle.errors import UnsupportedUse
from torch2circle.pipeline import ExportedModel
from torch2circle.targets import TARGETS

TOPICS, WORDS, LENGTH = 4, 200, 12
TARGET = pytest.mark.parametrize("target", ["onert", "litert"])


def sentences(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of words, and the topic: a topic prefers words of its own, but half of a sentence is of no topic."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, TOPICS, count)
    words = rng.integers(0, WORDS, (count, LENGTH))
    own = topics[:, None] * (WORDS // TOPICS) + rng.integers(0, WORDS // TOPICS, (count, LENGTH))
    return torch.from_numpy(np.where(rng.random((count, LENGTH)) < 0.5, own, words)), torch.from_numpy(topics)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, 16, mode="sum")
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.layers = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, TOPICS))

    def forward(self, words: Tensor) -> Tensor:
        made: Tensor = self.dequant(self.layers(self.quant(self.words(words))))
        return made


@cache
def trained() -> dict[str, Tensor]:
    """The weights after some seconds of training."""
    torch.manual_seed(0)
    model, (words, topics) = Classifier(), sentences(1500, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(words), topics).backward()
        optimizer.step()
    return model.state_dict()


def quantized(embedding: QConfig, dynamic: bool) -> nn.Module:
    model = Classifier().eval()
    model.load_state_dict(trained())
    if dynamic:
        return quantize_dynamic(model, {nn.EmbeddingBag: embedding, nn.Linear: default_dynamic_qconfig})
    model.qconfig = get_default_qconfig("fbgemm")  # type: ignore[assignment]
    model.words.qconfig = embedding  # type: ignore[assignment]
    prepare(model, inplace=True)
    model(sentences(500, seed=1)[0])
    return convert(model, inplace=True)


@TARGET
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("bits", [8, 4])
def test_a_text_classifier_makes_the_same_predictions(bits: int, dynamic: bool, target: str) -> None:
    model = quantized({8: float_qparams_weight_only_qconfig, 4: float_qparams_weight_only_qconfig_4bit}[bits], dynamic)
    words, topics = sentences(300, seed=2)
    exported = torch2circle.export(model, (words,), dynamic="exact")  # as PyTorch rounds: no sentence is a close call
    want = model(words).argmax(1)
    got = run(exported, target, words).argmax(1)
    assert (want == topics).double().mean() > 0.9  # else the same predictions would mean nothing
    assert (got == want.numpy()).all()
    assert not [finding for finding in exported.findings if finding.code == "uncalibrated"]  # the scale 1 of a table's integers is ours


@TARGET
def test_a_four_bit_table_takes_four_bits(target: str) -> None:
    sizes = {}
    for qconfig in (float_qparams_weight_only_qconfig, float_qparams_weight_only_qconfig_4bit):
        model = nn.Sequential(nn.EmbeddingBag(20_000, 32, mode="sum"))
        model.qconfig = qconfig  # type: ignore[assignment]
        converted = convert(prepare(model.eval()))
        sizes[qconfig] = len(torch2circle.export(converted, (torch.arange(6).view(2, 3),)).to_bytes(target))
    assert sizes[float_qparams_weight_only_qconfig] < 20_000 * (32 + 8) + 5_000
    assert sizes[float_qparams_weight_only_qconfig_4bit] < 20_000 * (16 + 8) + 10_000


class Block(nn.Module):
    """A block of a transformer's encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.sums = nn.ModuleList(torch.ao.nn.quantized.FloatFunctional() for _ in range(2))
        self.feed_forward = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        x = self.norms[0](self.sums[0].add(x, self.attention(x, x, x)[0]))  # type: ignore[operator]
        made: Tensor = self.dequant(self.norms[1](self.sums[1].add(x, self.feed_forward(x))))  # type: ignore[operator]
        return made


def encoder_block(engine: str) -> tuple[nn.Module, Tensor]:
    torch.backends.quantized.engine = engine
    model, x = seeded(Block()), inputs([(3, 9, 16)])[0]
    model.qconfig = get_default_qconfig(engine)  # type: ignore[assignment]
    observed = {"float_to_observed_custom_module_class": {nn.MultiheadAttention: nnqa.MultiheadAttention}}
    prepared = prepare(model, prepare_custom_config_dict=observed)
    prepared(x)
    converted = {"observed_to_quantized_custom_module_class": {nnqa.MultiheadAttention: nnq.MultiheadAttention}}
    return convert(prepared, convert_custom_config_dict=converted), x


def test_a_table_that_convert_gives_to_the_wrong_kernel_is_refused() -> None:
    """nn.Embedding in 4 bits: PyTorch's own converted module computes garbage."""
    model = nn.Sequential(nn.Embedding(20, 32))
    model.qconfig = float_qparams_weight_only_qconfig_4bit  # type: ignore[assignment]
    with pytest.raises(UnsupportedUse, match="a 4-bit table"):
        torch2circle.export(convert(prepare(model.eval())), (torch.arange(3),))


@TARGET
@pytest.mark.filterwarnings("ignore:must run observer:UserWarning")  # of the scaled query, which needs none
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_an_encoder_block_of_quantized_attention(engine: str, target: str) -> None:
    model, x = encoder_block(engine)
    report = torch2circle.export(model, (x,)).verify(target)
    assert report.ok(lsb=1), report.worst
    assert report.lsb <= 3
    assert all(c.share >= 0.95 for c in report.operators), report.worst  # onert: two linear layers in one go


@TARGET
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_a_padded_encoder_agrees_with_the_fast_path_where_nothing_is_padded(target: str) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model, x = seeded(PaddedEncoder(nn.TransformerEncoder(layer, 2))), inputs([(2, 5, 8)])[0]
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    exported = torch2circle.export(model, (x, padding))
    with torch.inference_mode():
        want = model(x, padding).numpy()
    assert np.allclose(run(exported, target, x, padding)[~padding], want[~padding], atol=1e-5)
    assert not want[padding].any()
    assert [finding.code for finding in exported.findings] == ["padded-encoder"]


def run(exported: ExportedModel, target: str, *args: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{TARGETS[target].suffix}"
        exported.save(path, target)
        return runtimes.run(target, path, [[arg.numpy() for arg in args]]).outputs[0][0]
