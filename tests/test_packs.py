"""Packed weights are unpacked ahead, and once where memory allows; the file is the same whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch2circle
from torch2circle.errors import UnsupportedUse
from torch2circle.ir import Where
from torch2circle.lower import packs
from torch2circle.record import Call

WIDTH, LAYERS = 96, 6


def layers(engine: str = "fbgemm") -> nn.Module:
    torch.backends.quantized.engine = engine
    torch.manual_seed(0)
    body = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    quantization: Any = torch.ao.quantization
    return quantization.quantize_dynamic(body, {nn.Linear}, dtype=torch.qint8)


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often each packed object was unpacked, in the order of time."""
    seen: list[int] = []
    plain = packs._unpack

    def counting(packed: Any) -> tuple[Tensor, Tensor | None]:
        seen.append(id(packed))
        return plain(packed)

    monkeypatch.setattr(packs, "_unpack", counting)
    return seen


@pytest.mark.parametrize("worth", [0.0, 1e9])
def test_each_weight_is_unpacked_once_for_all_files(worth: float, unpacked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "WORTH", worth)  # in threads, and without
    exported = torch2circle.export(layers(), (torch.rand(2, WIDTH),))
    for target in ("onert", "litert", "onert"):
        exported.to_bytes(target)
    assert len(unpacked) == len(set(unpacked)) == LAYERS


def test_what_is_too_large_to_be_kept_is_unpacked_again_for_the_file(unpacked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "KEPT", 2 * WIDTH * WIDTH)
    torch2circle.export(layers(), (torch.rand(2, WIDTH),)).to_bytes("onert")
    assert len(set(unpacked)) == LAYERS
    assert len(unpacked) == 2 * LAYERS - 2


def test_neither_threads_nor_memory_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    files = set()
    for worth, kept, bound, threads in ((1e9, 0, 0, 1), (0.0, packs.KEPT, packs.AHEAD, 4), (0.0, 0, 0, 2)):
        for name, value in {"WORTH": worth, "KEPT": kept, "AHEAD": bound, "THREADS": threads}.items():
            monkeypatch.setattr(packs, name, value)
        files.add(torch2circle.export(layers(), (torch.rand(2, WIDTH),)).to_bytes("litert"))
    assert len(files) == 1


class Given:
    """Stands for packed parameters."""

    def __init__(self, size: int = 4) -> None:
        self.size, self.times = size, 0

    def unpack(self) -> tuple[Tensor, None]:
        self.times += 1
        return torch.quantize_per_tensor(torch.zeros(self.size, 1), 1.0, 0, torch.qint8), None


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Given]:
    monkeypatch.setattr(packs, "_is_packed", lambda arg: isinstance(arg, Given))
    monkeypatch.setattr(packs, "WORTH", -1.0)
    return [Given() for _ in range(9)]


def calls(given: list[Any]) -> list[Call]:
    return [Call("quantized::linear", {"X": None, "W_prepack": p}, (i,), Where()) for i, p in enumerate(given)]


@pytest.mark.parametrize(("bound", "begun"), [(0, 2), (4, 2), (12, 4), (1000, 9)])
def test_no_more_is_unpacked_ahead_than_the_bound(bound: int, begun: int, given: list[Given], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "AHEAD", bound)
    ahead = packs.Packs()
    with ahead.ahead(calls(given)):
        ahead.weights(given[0], Where())
        for future in list(ahead._futures.values()):
            future.result()
        assert sum(p.times for p in given) == begun
        for p in given[1:]:
            ahead.weights(p, Where())
    assert {p.times for p in given} == {1}


def test_what_cannot_be_unpacked_is_refused_with_its_place_also_in_a_thread(given: list[Given]) -> None:
    class Broken(Given):
        def unpack(self) -> tuple[Tensor, None]:
            raise RuntimeError("no way to unpack\nwith a second line")

    given[1] = Broken()
    ahead, where = packs.Packs(), Where("quantized::linear", "body.1")
    with ahead.ahead(calls(given)):
        ahead.weights(given[0], Where())
        with pytest.raises(UnsupportedUse, match="no way to unpack") as refused:
            ahead.weights(given[1], where)
    assert refused.value.where == where


def test_weights_in_half_precision_are_not_unpacked_ahead(given: list[Given]) -> None:
    ahead = packs.Packs()
    with ahead.ahead([Call("quantized::linear_dynamic_fp16", {"W_prepack": p}, (0,), Where()) for p in given]):
        assert not ahead._pending


def test_a_check_of_kernels_waits_until_somebody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch2circle.lower import dynamic

    bounds: list[float] = []
    plain = dynamic.Example.bound

    def counting(self: Any, steps: Any) -> float:
        bounds.append(plain(self, steps))
        return bounds[-1]

    monkeypatch.setattr(dynamic.Example, "bound", counting)
    exported = torch2circle.export(layers(), (torch.rand(2, WIDTH),))
    exported.save(tmp_path / "model.tflite")
    assert not bounds
    assert sorted(exported.steps.values()) == sorted(bounds) and len(bounds) == LAYERS
    assert exported.diagnostics() and len(bounds) == LAYERS  # once


def test_a_layer_that_is_called_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer: Any = layers()[0]  # type: ignore[index]

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.layer(self.layer(x))
            return result

    monkeypatch.setattr(packs, "WORTH", -1.0)
    exported = torch2circle.export(Twice().eval(), (torch.rand(2, WIDTH),))
    assert len(exported.recording.calls) == 2
    assert len(exported.to_bytes("onert")) < 2 * WIDTH * WIDTH  # the file has the weight once
