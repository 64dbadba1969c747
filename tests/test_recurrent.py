"""Recurrent networks: whole models, calls that follow one another, and how near each way of computing comes to PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import MinMaxObserver, QConfig, convert, default_dynamic_qconfig, get_default_qconfig, prepare, quantize_dynamic

import torch2circle
from cases.making import Stubbed
from cases.recurrent import Layer, Learned, hidden, output
from torch2circle import runtimes
from torch2circle.errors import RecordError, UnsupportedUse
from torch2circle.ir import Array
from torch2circle.pipeline import ExportedModel
from torch2circle.targets import TARGETS
from torch2circle.verify import Report

TARGET = pytest.mark.parametrize("target", ["onert", "litert"])
RECURRENT = {nn.LSTM, nn.GRU, nn.Linear}


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def made(model: Callable[[], nn.Module]) -> nn.Module:
    """With PyTorch's own first weights."""
    torch.manual_seed(0)
    return model().eval()


def operators(report: Report) -> float:
    """The worst signal-to-noise ratio of an operator, in dB."""
    return min(c.sqnr for c in report.operators)


def called(exported: ExportedModel, target: str, feeds: Sequence[Sequence[Tensor]], folder: Path) -> list[list[Array]]:
    """The outputs of one file for each of several calls that follow one another."""
    path = folder / f"model{TARGETS[target].suffix}"
    exported.save(path, target)
    runtime = TARGETS[target].runtime
    assert runtime is not None
    return runtimes.run(runtime, path, [[np.ascontiguousarray(x.numpy()) for x in feed] for feed in feeds]).outputs


# -- no call sees another one


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Layer(nn.LSTM(8, 16, num_layers=2, bidirectional=True), hidden),
    "lstm_first_state_learned": Learned,
    "gru": lambda: Layer(nn.GRU(8, 16, bidirectional=True), hidden),
}


@TARGET
@pytest.mark.parametrize("dynamic", [False, True], ids=["float", "dynamic"])
@pytest.mark.parametrize("name", MODELS)
def test_no_state_lasts_longer_than_a_call(name: str, dynamic: bool, target: str, tmp_path: Path) -> None:
    """Each call gives bit for bit what it gives as the first one, even after one that was given numbers that are none."""
    model = made(MODELS[name])
    if name == "lstm_first_state_learned":
        with torch.no_grad():
            model.first.copy_(features(2, 1, 2, 4))
    shape = (5, 2, 5 if name == "lstm_first_state_learned" else 8)
    model = quantize_dynamic(model, RECURRENT) if dynamic else model
    exported = torch2circle.export(model, (features(*shape),))
    feeds = [[features(*shape, seed=seed)] for seed in range(3)]
    nothing = [torch.full(shape, float("nan"))]
    first = [called(exported, target, [feed], tmp_path)[0] for feed in feeds]
    later = called(exported, target, [feeds[2], nothing, *feeds], tmp_path)[2:]
    for alone, after in zip(first, later, strict=True):
        for one, other in zip(alone, after, strict=True):
            np.testing.assert_array_equal(one, other)


@TARGET
def test_a_state_goes_from_call_to_call_through_the_caller(target: str, tmp_path: Path) -> None:
    """A model that gives its state and takes it again: a long sequence in pieces is the sequence."""
    model = made(lambda: Layer(nn.LSTM(8, 16)))
    pieces = features(12, 2, 8).split(4)
    state = (torch.zeros(1, 2, 16), torch.zeros(1, 2, 16))
    exported = torch2circle.export(model, (pieces[0], *state))
    got = []
    for piece in pieces:
        part, *last = called(exported, target, [[piece, *state]], tmp_path)[0]
        state = tuple(torch.from_numpy(each) for each in last)
        got.append(part)
    with torch.no_grad():
        want = model(torch.cat(pieces))[0].numpy()
    np.testing.assert_allclose(np.concatenate(got), want, atol=1e-6)


# -- each way of computing


@TARGET
@pytest.mark.parametrize("recurrent", ["fused", "unrolled"])
def test_a_hundred_steps_in_float(recurrent: str, target: str) -> None:
    """Errors of float32 sums do not grow along a sequence."""
    exported = torch2circle.export(made(lambda: Layer(nn.LSTM(16, 32), output)), (features(100, 1, 16),), recurrent=recurrent)
    count = len(exported.for_target(target).nodes())
    assert count < 5 if recurrent == "fused" else 1200 < count < 1210
    assert operators(exported.verify(target)) > 110


@TARGET
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("options", "least"), [
    ({}, 30), ({"recurrent": "unrolled"}, 30), ({"dynamic": "dequantize"}, 30), ({"dynamic": "exact"}, 60)
])  # fmt: skip
def test_a_hundred_steps_of_what_is_quantized_at_run_time(layer: Any, options: dict[str, str], least: float, target: str) -> None:
    """PyTorch rounds to 7 bits, which costs it 35 dB or so: another way of rounding cannot be much nearer to it. Rounding the same way is.

    Then only a number in the middle of two steps may be rounded otherwise, since float32 sums differ in their last bits.
    """
    model = quantize_dynamic(made(lambda: Layer(layer(16, 32), output)), RECURRENT)
    exported = torch2circle.export(model, (features(100, 1, 16),), **options)
    report = exported.verify(target)
    assert report.ok(lsb=1), report.worst
    assert operators(report) > least
    codes = [finding.code for finding in exported.findings]
    assert codes == ["dynamic"]


@TARGET
def test_float16_weights_are_as_good_as_float(target: str) -> None:
    model = quantize_dynamic(made(lambda: Layer(nn.LSTM(16, 32, bidirectional=True), hidden)), {nn.LSTM}, dtype=torch.float16)
    assert operators(torch2circle.export(model, (features(20, 3, 16),)).verify(target)) > 110


def test_the_lowest_integer_is_no_weight_of_a_hybrid_lstm() -> None:
    """LiteRT's kernel takes -128 for another number where it multiplies 16 at once. PyTorch's symmetric scale uses it."""
    layer = nn.LSTM(32, 64)
    for low, hybrid in ((-1.01, False), (-0.99, True)):
        with torch.no_grad():
            for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
                weight.copy_(features(*weight.shape).clamp(-0.9, 0.9) / 8)
                weight[:, 0], weight[1, 1] = low / 8, 1 / 8
        exported = torch2circle.export(quantize_dynamic(Layer(layer, output).eval(), {nn.LSTM}), (features(20, 1, 32),))
        ops = {node.op for node in exported.for_target("litert").nodes()}
        assert ("DEQUANTIZE" not in ops) == hybrid
        assert exported.verify("litert").ok(lsb=1)


@TARGET
def test_weights_with_a_zero_point_are_computed_in_float(target: str) -> None:
    """Hybrid kernels know no zero point."""
    affine = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_affine)
    qconfig = QConfig(activation=default_dynamic_qconfig.activation, weight=affine)
    model = quantize_dynamic(made(lambda: Layer(nn.LSTM(8, 16), output)), {nn.LSTM: qconfig})
    exported = torch2circle.export(model, (features(5, 2, 8),))
    assert "computes in float" in exported.findings[0].message
    assert "DEQUANTIZE" in {node.op for node in exported.for_target(target).nodes()}
    assert exported.verify(target).ok(lsb=1)


@TARGET
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_gives_the_same_operators(target: str) -> None:
    model, x = quantize_dynamic(made(lambda: Layer(nn.LSTM(8, 16), output)), {nn.LSTM}), features(5, 2, 8)
    ops = [
        [(node.op, [v.type for v in node.outputs]) for node in torch2circle.export(m, (x,)).for_target(target).nodes()]
        for m in (model, torch.jit.trace(model, x))
    ]
    assert ops[0] == ops[1]


def test_the_one_toolchain_gets_float_weights() -> None:
    model = quantize_dynamic(made(lambda: Layer(nn.LSTM(8, 16), output)), {nn.LSTM})
    ops = [node.op for node in torch2circle.export(model, (features(5, 2, 8),)).for_target("one").nodes()]
    assert ops == 8 * ["DEQUANTIZE"] + ["UNIDIRECTIONAL_SEQUENCE_LSTM"]


@TARGET
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
def test_a_statically_quantized_lstm(engine: str, target: str) -> None:
    """Each of some hundred operators is at most one step off."""
    torch.backends.quantized.engine = engine
    model = made(lambda: Stubbed(Layer(nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True), output), 1))
    model.qconfig = get_default_qconfig(engine)  # type: ignore[assignment]
    prepare(model, inplace=True)
    for seed in range(4):
        model(features(2, 6, 8, seed=seed))
    report = torch2circle.export(convert(model), (features(2, 6, 8),)).verify(target)
    assert len(report.operators) > 200
    assert report.ok(lsb=1), report.worst
    size = sum(c.size for c in report.operators)
    assert sum(c.size - c.equal for c in report.operators) < 0.005 * size


# -- whole models


class Tagger(nn.Module):
    """A tag for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.tags = nn.Embedding(50, 24), nn.Linear(64, 7)
        self.context = nn.LSTM(24, 32, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, sentence: Tensor) -> Tensor:
        return self.tags(self.context(self.words(sentence))[0])


@TARGET
@pytest.mark.parametrize("dynamic", [False, True], ids=["float", "dynamic"])
def test_a_tagger(dynamic: bool, target: str, tmp_path: Path) -> None:
    model = made(Tagger)
    model = quantize_dynamic(model, RECURRENT) if dynamic else model
    sentences = torch.from_numpy(np.random.default_rng(0).integers(0, 50, (20, 1, 12)))
    exported = torch2circle.export(model, (sentences[0],))
    got = np.stack([outputs[0] for outputs in called(exported, target, [[s] for s in sentences], tmp_path)])
    with torch.no_grad():
        want = torch.stack([model(s) for s in sentences]).numpy()
    noise = np.abs(got - want).max()
    assert noise < (0.02 if dynamic else 1e-6)
    best = np.sort(want)[..., -1] - np.sort(want)[..., -2]
    assert (got.argmax(-1) == want.argmax(-1))[best > 2 * noise].all()
    assert (best > 2 * noise).mean() > 0.5
    assert exported.verify(target).ok(lsb=1)


KINDS, RATE, FRAME, BANDS = 4, 4000, 160, 12


def sound(kind: int, seed: int) -> Array:
    """Half a second: a low or high tone, or one that rises or falls, in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(RATE // 2) / RATE
    low, high = rng.uniform(150, 350), rng.uniform(1200, 1700)
    first, end = [(low, low), (high, high), (low, high), (high, low)][kind]
    phase = 2 * np.pi * (first * time + (end - first) * time**2 / (2 * time[-1]))
    return np.asarray(rng.uniform(0.3, 1) * np.sin(phase + rng.uniform(0, 6)) + rng.normal(0, 0.3, len(time)))


def heard(wave: Array) -> Array:
    """[frames, bands]: logarithms of the energy in bands of equal width."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME) * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)[:, 1:])[:, : FRAME // 2 // BANDS * BANDS] ** 2
    return np.log(power.reshape(len(frames), BANDS, -1).sum(2) + 1).astype(np.float32)


class Spotter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.kind = nn.GRU(BANDS, 32, batch_first=True), nn.Linear(32, KINDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.kind(self.layer(x)[1][0])


@pytest.fixture(scope="module")
def spotter() -> tuple[nn.Module, Tensor, Tensor]:
    """A spotter that has been trained, and sounds it does not know, with their kinds."""

    def some(first: int, count: int) -> tuple[Tensor, Tensor]:
        kinds = np.arange(count) % KINDS
        sounds = np.stack([heard(sound(kind, first + i)) for i, kind in enumerate(kinds)])
        return torch.from_numpy(sounds), torch.from_numpy(kinds)

    x, kinds = some(0, 200)
    torch.manual_seed(0)
    model = Spotter()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), kinds).backward()
        optimizer.step()
    return quantize_dynamic(model.eval(), RECURRENT), *some(1000, 80)


@TARGET
@pytest.mark.parametrize("options", [{}, {"dynamic": "dequantize"}, {"dynamic": "exact"}], ids=["hybrid", "dequantize", "exact"])
def test_a_keyword_spotter(
    spotter: tuple[nn.Module, Tensor, Tensor], options: dict[str, str], target: str, tmp_path: Path
) -> None:
    """The same kind for every sound as quantized PyTorch, which is nearly always the right one."""
    model, sounds, kinds = spotter
    exported = torch2circle.export(model, (sounds[:1],), **options)
    got = np.concatenate([outputs[0] for outputs in called(exported, target, [[one[None]] for one in sounds], tmp_path)])
    with torch.no_grad():
        want = torch.cat([model(one[None]) for one in sounds]).numpy()
    assert (want.argmax(1) == kinds.numpy()).mean() > 0.9
    np.testing.assert_array_equal(got.argmax(1), want.argmax(1))
    assert exported.verify(target).ok(lsb=1)


# -- what is refused


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(8, 4)

    def forward(self, x: Tensor) -> Any:
        return nn.utils.rnn.pad_packed_sequence(self.layer(nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3])))[0])[0]


@pytest.mark.parametrize("specialize", [False, True])
def test_packed_sequences_are_refused(specialize: bool) -> None:
    with pytest.raises(RecordError, match="packed sequence gives each sample a length of its own") as raised:
        torch2circle.export(nn.Sequential(Packed()).eval(), (features(5, 2, 8),), specialize=specialize)
    assert raised.value.where is not None
    assert raised.value.where.module == "0"
    assert "padded tensor" in (raised.value.hint or "")


def test_weights_that_depend_on_an_input_are_refused() -> None:
    class Hyper(nn.Module):
        def forward(self, x: Tensor, weight: Tensor) -> Tensor:
            return torch.gru_cell(x, x[:, :4], weight, weight[:, :4])

    with pytest.raises(UnsupportedUse, match="parameters of aten::gru_cell not supported: tensors computed from an input"):
        torch2circle.export(Hyper().eval(), (features(2, 5), features(12, 5)))
