"""Weights of a factory's module from files: which are mapped, which are refused."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torch2circle
from torch2circle.errors import LoadError, MissingRuntime
from torch2circle.loading import load
from torch2circle.loading.mapping import can_be_mapped

safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")


class Net(nn.Module):
    """Two layers, one of them under two names, and a buffer."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6, bias=False)
        self.head = nn.Linear(4, 6, bias=False)
        self.register_buffer("shift", torch.arange(6.0))
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x) + self.head(x) * self.shift


def on_meta(make: Callable[[], nn.Module] = Net) -> nn.Module:
    with torch.device("meta"):
        return make().eval()


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], str]:
    """Gives the name of a factory by which it can be loaded."""

    def named(make: Callable[[], Any]) -> str:
        module = ModuleType("states_for_test")
        module.make = make  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "states_for_test", module)
        return "states_for_test:make"

    return named


Factory = Callable[[Callable[[], Any]], str]


def weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {name: torch.randn_like(tensor) for name, tensor in Net().state_dict().items()}


def to_safetensors(state: Mapping[str, Tensor], folder: Path) -> Path:
    safetensors.save_file(dict(state), folder / "model.safetensors")
    return folder / "model.safetensors"


def to_pt(state: Mapping[str, Tensor], folder: Path) -> Path:
    torch.save(dict(state), folder / "state.pt")
    return folder / "state.pt"


def sharded(state: Mapping[str, Tensor], folder: Path, write: Callable[[Any, Path], None], suffix: str) -> Path:
    files = {}
    for i, (name, tensor) in enumerate(state.items()):
        files[name] = f"model-{i}.{suffix}"
        write({name: tensor}, folder / files[name])
    index = folder / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
    return index


WAYS: dict[str, Callable[[Mapping[str, Tensor], Path], Path]] = {
    "safetensors": to_safetensors,
    "torch.save": to_pt,
    "safetensors in parts": lambda state, folder: sharded(state, folder, safetensors.save_file, "safetensors"),
    "torch.save in parts": lambda state, folder: sharded(state, folder, torch.save, "bin"),
}


@pytest.mark.parametrize("make", [Net, on_meta], ids=["in memory", "on meta"])
@pytest.mark.parametrize("way", WAYS)
def test_a_state_gives_the_same_model(way: str, make: Callable[[], nn.Module], factory: Factory, tmp_path: Path) -> None:
    loaded = load(factory(make), state=WAYS[way](weights(), tmp_path))
    assert isinstance(loaded, Net)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, weights()[name])
    assert not any(tensor.is_meta for tensor in loaded.state_dict().values())
    torch2circle.export(loaded.eval(), (torch.ones(1, 4),)).to_bytes("litert")


@pytest.mark.parametrize("way", WAYS)
def test_a_tensor_without_memory_becomes_the_files_own(way: str, factory: Factory, tmp_path: Path) -> None:
    """Its memory is a mapping of the file."""
    path = WAYS[way](weights(), tmp_path)
    loaded = load(factory(on_meta), state=path)
    places = {tensor.data_ptr() for tensor in loaded.state_dict().values()}  # type: ignore[union-attr]
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(tuple(str(file) for file in tmp_path.iterdir())):
            start, end = (int(text, 16) for text in line.split()[0].split("-"))
            mapped += [place for place in places if start <= place < end]
    assert sorted(mapped) == sorted(places)


@pytest.mark.parametrize("make", [Net, on_meta], ids=["in memory", "on meta"])
def test_other_types_are_converted_to_the_modules(make: Callable[[], nn.Module], factory: Factory, tmp_path: Path) -> None:
    path = to_safetensors({name: tensor.bfloat16() for name, tensor in weights().items()}, tmp_path)
    loaded = load(factory(make), state=path)
    for name, tensor in loaded.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(tensor, weights()[name].bfloat16().float()), name


@pytest.mark.parametrize("make", [lambda: Net(tied=True), lambda: on_meta(lambda: Net(tied=True))], ids=["in memory", "on meta"])
def test_what_has_two_names_may_be_saved_under_one(make: Callable[[], nn.Module], factory: Factory, tmp_path: Path) -> None:
    """As safetensors' own save_model does."""
    state = weights()
    del state["head.weight"]
    loaded: Any = load(factory(make), state=to_safetensors(state, tmp_path))
    assert torch.equal(loaded.embed.weight, state["embed.weight"])
    assert torch.equal(loaded.head.weight, state["embed.weight"])


def test_layers_learn_of_which_version_a_state_is(factory: Factory, tmp_path: Path) -> None:
    """Packed weights of today are told from those of old PyTorch by it."""
    made = torch.ao.nn.quantized.Linear(4, 3)
    torch.save(made.state_dict(), tmp_path / "state.pt")
    loaded: Any = load(factory(lambda: torch.ao.nn.quantized.Linear(4, 3)), state=tmp_path / "state.pt")
    assert torch.equal(loaded.weight().int_repr(), made.weight().int_repr())


# Without numbers


class Rotary(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.arange(3.0), persistent=False)
        self.table = torch.arange(4.0)


def test_what_the_weights_do_not_have_is_named(factory: Factory, tmp_path: Path) -> None:
    path = to_safetensors(weights(), tmp_path)
    with pytest.raises(LoadError, match=r"do not have what .* on the meta device: states_for_test:make: frequencies, table") as caught:
        load(factory(lambda: on_meta(Rotary)), state=path)
    assert "persistent=True" in str(caught.value)


def test_a_module_without_memory_needs_a_state(factory: Factory) -> None:
    with pytest.raises(LoadError, match=r"on the meta device, without numbers: .*: shift, embed.weight, head.weight") as caught:
        load(factory(on_meta))
    assert "--state" in str(caught.value)


@pytest.mark.parametrize("make", [Net, on_meta], ids=["in memory", "on meta"])
def test_weights_that_do_not_fit(make: Callable[[], nn.Module], factory: Factory, tmp_path: Path) -> None:
    state = weights()
    path = to_safetensors({"embed.weight": state["embed.weight"], "scale": torch.ones(1)}, tmp_path)
    with pytest.raises(LoadError, match=r"missing: head.weight, shift; unexpected: scale"):
        load(factory(make), state=path)
    path = to_safetensors(state | {"shift": torch.ones(7)}, tmp_path)
    with pytest.raises(LoadError, match="size mismatch for shift"):
        load(factory(make), state=path)


# Files that are not what they seem


def header(document: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HOSTILE = {
    "nothing": b"",
    "cut within the length": b"\x10\x00",
    "a header longer than the file": header({"a": F32}, bytes(8), 2**40),
    "a header of 2^64 - 1 bytes": header({"a": F32}, bytes(8), 2**64 - 1),
    "data beyond the file": header({"a": F32 | {"data_offsets": [0, 2**40]}}, bytes(8)),
    "offsets that go back": header({"a": F32 | {"data_offsets": [8, 0]}}, bytes(8)),
    "negative offsets": header({"a": F32 | {"data_offsets": [-8, 0]}}, bytes(8)),
    "a shape that overflows": header({"a": F32 | {"shape": [2**63, 2**63, 2]}}, bytes(8)),
    "a shape of other bytes": header({"a": F32 | {"shape": [2**40]}}, bytes(8)),
    "an unknown type": header({"a": F32 | {"dtype": "F999"}}, bytes(8)),
    "no object": header(b"[" * 9, bytes(8)),
    "nested too deeply": header(b'{"a":' + b"[" * 200_000, bytes(8)),
    "no text": header(b'{"\xff\xfe"', bytes(8)),
    "data left over": header({"a": F32}, bytes(99)),
    "a hole": header({"a": F32, "b": F32 | {"data_offsets": [64, 72]}}, bytes(72)),
    "bytes of two tensors": header({"a": F32, "b": F32}, bytes(8)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_safetensors_file_is_refused(name: str, factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(LoadError, match=r"the safetensors file cannot be read: .*model\.safetensors: \w"):
        load(factory(Net), state=tmp_path / "model.safetensors")


def test_a_safetensors_file_by_another_name(factory: Factory, tmp_path: Path) -> None:
    to_safetensors(weights(), tmp_path).rename(tmp_path / "weights.bin")
    assert load(factory(Net), state=tmp_path / "weights.bin")


def test_without_the_package(factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = to_safetensors(weights(), tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingRuntime, match="safetensors is not installed") as caught:
        load(factory(Net), state=path)
    assert "torch2circle[safetensors]" in str(caught.value)


INDICES = {
    "no JSON": (b"{", "cannot be read"),
    "no text": (b"\xff\xff", "cannot be read"),
    "nested too deeply": (b"[" * 200_000, "cannot be read"),
    "a list": (b"[]", "not an index"),
    "no map": (b"{}", "not an index"),
    "an empty map": (b'{"weight_map": {}}', "not an index"),
    "no names": (b'{"weight_map": {"a": 3}}', "not an index"),
    "a path upwards": (b'{"weight_map": {"a": "../model.safetensors"}}', "not beside it"),
    "an absolute path": (b'{"weight_map": {"a": "/etc/passwd"}}', "not beside it"),
    "a path of Windows": (b'{"weight_map": {"a": "c:\\\\model.safetensors"}}', "not beside it"),
    "the folder": (b'{"weight_map": {"a": ".."}}', "not beside it"),
    "a zero byte": (b'{"weight_map": {"a": "a\\u0000b"}}', "not beside it"),
    "a part that is not there": (b'{"weight_map": {"a": "model-9.safetensors"}}', r"no such file, which .* names"),
}


@pytest.mark.parametrize("name", INDICES)
def test_an_index_that_is_none_is_refused(name: str, factory: Factory, tmp_path: Path) -> None:
    content, words = INDICES[name]
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(LoadError, match=words):
        load(factory(Net), state=tmp_path / "model.safetensors.index.json")


def test_an_index_is_not_read_however_large(factory: Factory, tmp_path: Path) -> None:
    with open(tmp_path / "a.index.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LoadError, match="too large for an index"):
        load(factory(Net), state=tmp_path / "a.index.json")


def test_an_index_that_names_what_is_not_there(factory: Factory, tmp_path: Path) -> None:
    index = sharded(weights(), tmp_path, safetensors.save_file, "safetensors")
    safetensors.save_file({"other": torch.ones(1)}, tmp_path / "model-1.safetensors")
    with pytest.raises(LoadError, match=r"model-1\.safetensors has not what model\.safetensors\.index\.json says: embed\.weight"):
        load(factory(Net), state=index)


class Code:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_a_part_runs_no_code(factory: Factory, tmp_path: Path) -> None:
    index = sharded(weights(), tmp_path, torch.save, "bin")
    torch.save({"embed.weight": Code(tmp_path / "made")}, tmp_path / "model-0.bin")
    with pytest.raises(LoadError, match="not plain PyTorch layers"):
        load(factory(Net), state=index)
    assert not (tmp_path / "made").exists()


# Mapped modules


def recompressed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("trust", [False, True])
def test_a_saved_module_is_mapped_if_asked_for(trust: bool, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(300, 40)).eval()
    torch.save(model, tmp_path / "model.pt")
    for mmap in (False, True):
        loaded: Any = load(tmp_path / "model.pt", mmap=mmap, trust_pickle=trust)
        assert torch.equal(loaded[0].weight, model[0].weight)
        lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
        assert bool(lines) == mmap
        del loaded


def test_what_is_compressed_is_read(factory: Factory, tmp_path: Path) -> None:
    """torch.load would map its compressed bytes for numbers."""
    path = to_pt(weights(), tmp_path)
    recompressed(path)
    loaded: Any = load(factory(on_meta), state=path)
    assert torch.equal(loaded.embed.weight, weights()["embed.weight"])


def changed(path: Path, of: bytes, to: bytes) -> None:
    """The same archive with every ``of`` in its pickle replaced."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(of, to) if name.endswith("data.pkl") else data)


@pytest.mark.parametrize("elements", [200, 10**9])
def test_a_tensor_larger_than_its_record_is_refused(elements: int, factory: Factory, tmp_path: Path) -> None:
    """Mapped, torch.load would go on with the bytes behind it."""
    path = to_pt({"shift": torch.arange(77.0)}, tmp_path)
    changed(path, b"K\x4d", b"J" + struct.pack("<i", elements))
    raw = torch.load(path, mmap=True)["shift"] if elements == 200 else None
    assert raw is None or raw.shape == (200,)
    assert not can_be_mapped(path)
    with pytest.raises(LoadError, match=r"record size .* does not match expected size"):
        load(factory(Net), state=path)


STATES: dict[str, Callable[[], Any]] = {
    "types": lambda: {str(t): torch.ones(5, dtype=t) for t in (torch.int8, torch.bool, torch.bfloat16, torch.float64, torch.complex64)},
    "quantized": lambda: {"q": torch.quantize_per_channel(torch.ones(3, 4), torch.ones(3), torch.zeros(3), 0, torch.qint8)},
    "views": lambda: {"whole": (whole := torch.arange(9.0)), "part": whole[2:5], "turned": whole.reshape(3, 3).t()},
    "nested": lambda: {"model": {"w": torch.ones(2), "e": torch.ones(0)}, "rest": [None, True, 2.5, (1, 2, 3, 4), -70000, 2**40, (), []]},
    "packed": lambda: torch.ao.nn.quantized.Linear(4, 3).state_dict(),
    "modules": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.LSTM(3, 4), nn.Embedding(4, 3), nn.TransformerEncoderLayer(8, 2)),
    "many": lambda: {f"w{i}": torch.full((i,), 1.0 * i) for i in range(700)},
}


@pytest.mark.parametrize("name", STATES)
def test_what_torch_save_writes_can_be_mapped(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of quantized tensors, that they are deprecated
        torch.save(STATES[name](), tmp_path / "state.pt")
    assert can_be_mapped(tmp_path / "state.pt")


def test_what_else_there_is_cannot(tmp_path: Path) -> None:
    path = to_pt(weights(), tmp_path)
    recompressed(path)
    assert not can_be_mapped(path)
    torch.save(weights(), path, pickle_protocol=4)
    assert not can_be_mapped(path)
    torch.save(weights(), path, _use_new_zipfile_serialization=False)
    assert not can_be_mapped(path)
    path.write_bytes(b"PK")
    assert not can_be_mapped(path)


def test_a_state_of_the_old_format_is_read(factory: Factory, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "state.pt", _use_new_zipfile_serialization=False)
    loaded: Any = load(factory(on_meta), state=tmp_path / "state.pt")
    assert torch.equal(loaded.embed.weight, weights()["embed.weight"])


# Memory

SCRIPT = """
import sys, threading, time
import torch, torch2circle
from torch import nn

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2048, 2048, bias=False) for _ in range(16))
    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x

def build():
    with torch.device("meta"):
        return Wide().eval()

def own():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) << 10

def main():
    small = nn.Sequential(nn.Linear(64, 64), nn.ReLU()).eval()
    torch2circle.export(small, (torch.ones(1, 64),)).save(sys.argv[2])      # what is imported and started once
    before, peak, done = own(), 0, False
    def watch():
        nonlocal peak
        while not done:
            peak = max(peak, own())
            time.sleep(0.002)
    thread = threading.Thread(target=watch)
    thread.start()
    model = torch2circle.load("wide:build", state=sys.argv[1])
    size = torch2circle.export(model, (torch.ones(1, 2048),)).save(sys.argv[2])
    done = True
    thread.join()
    print(size, peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
@pytest.mark.parametrize("way", WAYS)
def test_weights_are_never_copied_into_memory(way: str, tmp_path: Path) -> None:
    """256 MB of them; a layer has 16 MB."""
    (tmp_path / "wide.py").write_text(SCRIPT)
    state = {f"layers.{i}.weight": torch.full((2048, 2048), i / 1e5) for i in range(16)}
    path, out = WAYS[way](state, tmp_path), tmp_path / "wide.tflite"
    done = subprocess.run(
        [sys.executable, "-c", "import wide; wide.main()", str(path), str(out)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    size, memory = map(int, done.stdout.split())
    assert size > 256 << 20
    assert memory < 64 << 20  # a layer, and what threads and allocators keep
    assert out.stat().st_size == size
