"""Files in other people's viewers: Netron's own code opens them, and ``view`` serves them."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cases import FAMILIES
from test_cli import Run, run  # noqa: F401  # a fixture
from test_format import convolution, quantized_convolution
from torch2circle.errors import TargetError
from torch2circle.format import save, survey, to_bytes

NODE = shutil.which("node")
NETRON = importlib.util.find_spec("netron")
SCRIPT = Path(__file__).with_name("netron.mjs")
FORMATS = {"CIR0": ("Circle", ".circle"), "TFL3": ("TensorFlow Lite", ".tflite")}
INSTALLED = pytest.mark.skipif(NETRON is None, reason="Netron is not installed")

Opened = Callable[[Sequence[Path]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """What Netron sees of files."""
    if NODE is None:
        pytest.skip("node, which runs Netron's code, is not installed")
    if NETRON is None or NETRON.origin is None:
        pytest.skip("Netron is not installed")
    folder = tmp_path_factory.mktemp("netron")
    for path in Path(NETRON.origin).parent.iterdir():
        if path.suffix == ".js" or path.name in ("circle-metadata.json", "tflite-metadata.json"):
            shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}')  # the package is made for browsers, which need not be told

    def call(files: Sequence[Path]) -> list[dict[str, Any]]:
        done = subprocess.run([NODE, str(SCRIPT), str(folder), *map(str, files)], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return call


def exported(folder: Path) -> Iterator[Path]:
    """Every eighth case of each family, for each target."""
    for family, cases in FAMILIES.items():
        for case in cases[::8]:
            made = case.exported()
            for target, suffix in (("onert", ".circle"), ("litert", ".tflite")):
                try:
                    data = made.to_bytes(target)
                except TargetError:
                    continue
                path = folder / f"{family}.{case.id}{suffix}"
                path.write_bytes(data)
                yield path


def agree(path: Path, seen: dict[str, Any]) -> None:
    """Netron's nodes, names, shapes, scales and constants are the file's."""
    whole = survey(path)
    assert "error" not in seen, f"{path.name}: {seen['error']}"
    assert seen["format"].startswith(FORMATS[whole.identifier][0])
    assert len(seen["graphs"]) == len(whole.subgraphs)
    for subgraph, graph in zip(whole.subgraphs, seen["graphs"], strict=True):
        if not subgraph.operators:
            continue  # Netron lists the tensors then
        assert len(graph["nodes"]) == len(subgraph.operators)
        values = [*graph["inputs"], *graph["outputs"]]
        for operator, node in zip(subgraph.operators, graph["nodes"], strict=True):
            wanted = operator.custom if operator.op == "CUSTOM" else operator.op
            assert node["type"].replace("_", "").upper() == wanted.replace("_", "").upper()
            values += [*node["inputs"], *node["outputs"]]
        for value in filter(None, values):
            name, _, number = value["name"].rpartition("\n")
            tensor = subgraph.tensors[int(number)]
            assert (name, value["shape"]) == (tensor.name, list(tensor.signature or tensor.shape)), path.name
            if tensor.scale is not None and tensor.zero_point is not None:
                np.testing.assert_array_equal(np.float32(value["quantization"]["scale"]), tensor.scale)
                assert value["quantization"]["offset"] in (tensor.zero_point.tolist(), [])
            data = subgraph.data(tensor)
            assert value["bytes"] == (0 if data is None else len(data)), f"{path.name}: {name}"


def test_netron_opens_what_is_exported(opened: Opened, tmp_path: Path) -> None:
    files = list(exported(tmp_path))
    assert len(files) > 200
    for path, seen in zip(files, opened(files), strict=True):
        agree(path, seen)


def test_netron_opens_several_methods_and_metadata(opened: Opened, tmp_path: Path) -> None:
    files = []
    for identifier, (_, suffix) in FORMATS.items():
        files.append(tmp_path / f"two{suffix}")
        graphs = {"a": convolution(), "b": quantized_convolution()}
        save(graphs, files[-1], identifier=identifier, metadata={"about": b"{}", "bytes": bytes(range(256))})
    for path, seen in zip(files, opened(files), strict=True):
        agree(path, seen)


def test_the_script_tells_when_netron_cannot_open_a_file(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "cut.circle").write_bytes(to_bytes(convolution(), identifier="CIR0")[:200])
    assert "error" in opened([tmp_path / "cut.circle"])[0]


# -- the command


@INSTALLED
def test_view_serves_the_file_until_it_is_interrupted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    import netron

    path = tmp_path / "model.circle"
    save(convolution(), path, identifier="CIR0")
    addresses, served = [], []
    start = netron.start

    def started(*args: Any, **kwargs: Any) -> Any:
        assert kwargs["browse"] is False
        addresses.append(start(*args, **kwargs))
        return addresses[-1]

    def interrupted() -> None:
        host, port = addresses[0]
        with urllib.request.urlopen(f"http://{host}:{port}/data/{path.name}") as answer:
            served.append(answer.read())
        raise KeyboardInterrupt

    monkeypatch.setattr(netron, "start", started)
    monkeypatch.setattr(netron, "wait", interrupted)
    code, _, err = run("view", str(path), "--no-browser")
    netron.stop()
    assert code == 130
    assert served == [path.read_bytes()]
    assert f"http://{addresses[0][0]}:{addresses[0][1]} shows {path}" in err


def test_view_without_netron(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    save(convolution(), tmp_path / "model.circle", identifier="CIR0")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = run("view", str(tmp_path / "model.circle"))
    assert code == 11
    assert 'pip install "torch2circle[view]"' in err


def test_view_opens_model_files_only(run: Run, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "model.circle").write_text("nothing")
    code, _, err = run("view", str(tmp_path / "model.circle"))
    assert code == 12
    assert "neither a Circle nor a TFLite model" in err
