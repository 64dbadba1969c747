"""Exports at once give what they give one after the other, and so does any process on any machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch
from torch import nn
from torch.ao import quantization as Q
from torch.ao.nn.quantized.modules import conv

import torch2circle
from torch2circle import runtimes
from torch2circle.loading import load, load_inputs
from torch2circle.unfused import without_fast_path

THREADS = 8
IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WORDS = torch.rand(2, 5, 16, generator=torch.Generator().manual_seed(1))


def quantized(channels: int) -> nn.Module:
    deep = nn.Conv2d(channels, channels, 3, groups=channels)
    layers = (nn.Conv2d(3, channels, 3), nn.ReLU(), deep, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model: nn.Module = nn.Sequential(Q.QuantStub(), *layers, nn.Linear(channels, 10), Q.DeQuantStub()).eval()
    model = Q.fuse_modules(model, [["1", "2"]])
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    Q.prepare(model, inplace=True)(IMAGE)
    return Q.convert(model)  # type: ignore[no-any-return]


def encoder(layers: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


FACTORY = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(16, NUMBER)

    def forward(self, x):
        return torch.tanh(self.linear(x))

def make():
    torch.manual_seed(NUMBER)
    return Net().eval()
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, torch.Tensor]]:
    """What ``load`` takes, with an input: of every kind, some twice."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.save(quantized(8), folder / "q8.pt")
        torch.save(quantized(12), folder / "q12.pt")
        torch.save(encoder(1), folder / "encoder1.pt")
        torch.save(encoder(2), folder / "encoder2.pt")
        torch.jit.save(torch.jit.trace(quantized(4), IMAGE), folder / "script.pt")
        torch.export.save(torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU()).eval(), (IMAGE,)), folder / "program.pt2")
    for number in (3, 4):
        (folder / f"{number}").mkdir()
        (folder / f"{number}/net.py").write_text(FACTORY.replace("NUMBER", str(number)))  # two files of one name
    files = ["q8.pt", "encoder1.pt", "q12.pt", "encoder2.pt", "script.pt", "program.pt2"]
    images = {"q8.pt", "q12.pt", "script.pt", "program.pt2"}
    named = [(str(folder / file), IMAGE if file in images else WORDS) for file in files]
    return [*named, *((f"{folder}/{number}/net.py:make", WORDS) for number in (3, 4))]


def made(model: str, x: torch.Tensor, folder: Path) -> tuple[bytes, bytes]:
    """A model loaded, exported and saved, for both runtimes."""
    exported = torch2circle.export(load(model), (x,))
    paths = folder / "m.circle", folder / "m.tflite"
    for path in paths:
        exported.save(path)
    return paths[0].read_bytes(), paths[1].read_bytes()


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Threads take turns a thousand times as often: a race that there is has its chance."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def at_once(calls: list[Callable[[], object]]) -> list[object]:
    start = Barrier(len(calls))

    def call(each: Callable[[], object]) -> object:
        start.wait()
        return each()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call, each) for each in calls]]


@pytest.mark.usefixtures("eager_switches")
def test_exports_at_once_are_exports_in_turn(models: list[tuple[str, torch.Tensor]], tmp_path: Path) -> None:
    assert len(models) == THREADS
    folders = [tmp_path / str(number) for number in range(THREADS)]
    for folder in folders:
        folder.mkdir()
    serial = [made(model, x, folder) for (model, x), folder in zip(models, folders, strict=True)]
    assert len(set(serial)) == THREADS
    before = state()  # now that all is imported
    for _ in range(2):
        calls = [lambda args=(*pair, folder): made(*args) for pair, folder in zip(models, folders, strict=True)]  # type: ignore[misc]
        assert at_once(calls) == serial
    assert state() == before


def state() -> tuple[object, ...]:
    """What is one for all threads, and nobody's to keep."""
    fast = torch.backends.mha.get_fastpath_enabled()
    return list(sys.path), list(warnings.filters), set(torch.serialization.get_safe_globals()), conv._ConvNd.__setstate__, fast


@pytest.mark.usefixtures("eager_switches")
def test_one_recording_serves_many_threads(models: list[tuple[str, torch.Tensor]]) -> None:
    model, x = models[0]
    exported = torch2circle.export(load(model), (x,))
    expected = {target: torch2circle.export(load(model), (x,)).to_bytes(target) for target in ("onert", "litert", "one")}
    targets = [*expected] * 3
    assert at_once([lambda target=target: exported.to_bytes(target) for target in targets[:THREADS]]) == [  # type: ignore[misc]
        expected[target] for target in targets[:THREADS]
    ]


@pytest.mark.parametrize("runtime", ["onert", "litert"])
def test_verifications_at_once(runtime: str, models: list[tuple[str, torch.Tensor]]) -> None:
    if not runtimes.available(runtime):
        pytest.skip(f"{runtime} is not installed")
    exports = [torch2circle.export(load(model), (x,)) for model, x in models[:4]]

    def compared(exported: torch2circle.ExportedModel) -> str:
        report = exported.verify(runtime)
        return f"{report.outputs} {report.operators} {report.tensors}"

    serial = [compared(exported) for exported in exports]
    assert at_once([lambda each=each: compared(each) for each in exports * 2]) == serial * 2  # type: ignore[misc]


def test_the_fast_path_comes_back_when_the_last_thread_leaves() -> None:
    assert torch.backends.mha.get_fastpath_enabled()
    first, second = without_fast_path(), without_fast_path()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not torch.backends.mha.get_fastpath_enabled()
    second.__exit__(None, None, None)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.usefixtures("eager_switches")
def test_files_are_read_at_once(models: list[tuple[str, torch.Tensor]], tmp_path: Path) -> None:
    """Safe files and unsafe ones: what one may make, another one may not."""
    torch.save({"x": IMAGE}, tmp_path / "inputs.pt")
    torch.save([Q.QuantStub()], tmp_path / "list.pt")
    model = models[0][0]

    def refused() -> str:
        with pytest.raises(torch2circle.LoadError) as caught:
            load(tmp_path / "list.pt")
        return caught.value.message

    def inputs() -> bool:
        return torch.equal(load_inputs(tmp_path / "inputs.pt")[1]["x"], IMAGE)

    def whole() -> bool:
        return isinstance(load(model), nn.Module)

    assert refused() and inputs() and whole()
    before = state()  # now that all is imported
    found = at_once([refused, inputs, whole, whole] * 4)
    assert found == [f"the file holds no model: {tmp_path / 'list.pt'}: list", True, True, True] * 4
    assert state() == before


# In other processes

SCRIPT = """
import hashlib, os, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
threads = int(sys.argv[1])
os.umask(int(sys.argv[2], 8))
import torch
torch.set_num_threads(threads)
torch.manual_seed(threads)
import torch2circle
from torch2circle.loading import load_inputs
torch.empty(1000, 1000).fill_(float("nan"))  # memory that is used again is not zero
for model in sys.argv[3:]:
    for _ in range(2):
        x = load_inputs(Path(model + ".npy"))[0]
        exported = torch2circle.export(torch2circle.load(model), x)
        print(os.path.basename(model), [hashlib.sha256(exported.to_bytes(target)).hexdigest() for target in ("onert", "litert")])
"""


@pytest.fixture(scope="module")
def files(models: list[tuple[str, torch.Tensor]]) -> list[str]:
    import numpy as np

    found = [(model, x) for model, x in models if not model.endswith(":make")]
    for model, x in found:
        with open(f"{model}.npy", "wb") as sink:
            np.save(sink, x.numpy())
    return [model for model, _ in found]


MACHINES = {
    "one thread": (1, "022", {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "TZ": "UTC", "LC_ALL": "C"}),
    "two threads": (2, "077", {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2", "TZ": "Asia/Seoul", "LC_ALL": "C.UTF-8"}),
    "eight threads": (8, "000", {"PYTHONHASHSEED": "random", "OMP_NUM_THREADS": "8", "TZ": "America/New_York", "LANG": "de_DE.UTF-8"}),
}


def test_the_bytes_are_the_same_in_every_process(files: list[str], tmp_path: Path) -> None:
    """Hash seeds, threads, time zones, locales, folders, masks, seeds of torch's generator, the second export in a process."""
    here = []
    for model in files:
        exported = torch2circle.export(load(model), load_inputs(Path(f"{model}.npy"))[0])
        digests = [hashlib.sha256(exported.to_bytes(target)).hexdigest() for target in ("onert", "litert")]
        here += [f"{Path(model).name} {digests}"] * 2
    for number, (threads, mask, variables) in enumerate(MACHINES.values()):
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | variables
        call = [sys.executable, "-c", SCRIPT, str(threads), mask, *files]
        done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.stdout.splitlines() == here, done.stderr
