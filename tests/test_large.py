"""Files over 2 GiB, and how little memory large ones take."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torch2circle import runtimes
from torch2circle.checks import check
from torch2circle.conversion import convert
from torch2circle.difference import diff
from torch2circle.errors import FormatError, TargetError, WriteError
from torch2circle.format import is_as_written, limits, read, size_of, survey, to_bytes, write
from torch2circle.format.packer import Packer
from torch2circle.ir import Array, Constant, DType, Graph, Node, Quant, Type, Value, Where
from torch2circle.targets import TARGETS, must_run

F32, I8, I32 = DType.FLOAT32, DType.INT8, DType.INT32
GIB = 1 << 30


def constant(array: Array, name: str) -> Value:
    return Value(Type(array.shape, DType.of(array)), name, data=Constant.of(array))


def unmade(name: str, *shape: int) -> Value:
    """A constant that nothing may read."""
    return Value(Type(shape, F32), name, data=Constant(lambda: pytest.fail("made")))


def table_lookup(tables: Callable[[int], Value]) -> Graph:
    """Rows of two large tables and of a small one, added up: what is behind the large ones is over 2 GiB into the file."""
    index = Value(Type((3,), I32), "index")
    small = constant(np.arange(3 * 256, dtype=np.float32).reshape(3, 256), "small")
    found = []
    for i, table in enumerate([tables(0), tables(1), small]):
        out = Value(Type((3, 256), F32), f"rows{i}")
        found.append(Node.make("GATHER", [table, index], [out], {"axis": 0}, Where("aten::embedding", f"embed{i}", "net.py", 10 + i)).out)
    both = Node.make("ADD", found[:2], [Value(found[0].type, "both")]).out
    total = Node.make("ADD", [both, found[2]], [Value(both.type, "total")]).out
    return Graph((index,), (total,), ("index",), ("total",))


def zeros(rows: int) -> Callable[[int], Value]:
    """Tables of zeros but for row 2: the system gives memory for what is written to only."""

    def table(i: int) -> Value:
        array = np.zeros((rows + i, 256), np.float32)
        array[2] = i + 1
        return constant(array, f"table{i}")

    return table


class Sparse(io.FileIO):
    """A file in which zeros are holes, so that it takes no space on the disk."""

    def write(self, data: Any) -> int:
        view, at = memoryview(data).cast("B"), self.tell()
        for start in range(0, len(view), GIB // 1024):
            part = view[start : start + GIB // 1024]
            if np.frombuffer(part, np.uint8).any():
                self.seek(at + start)
                super().write(part)
        self.seek(at + len(view))
        if at + len(view) > os.fstat(self.fileno()).st_size:
            self.truncate(at + len(view))
        return len(view)


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of 2.2 GiB."""
    path = tmp_path_factory.mktemp("large") / "huge.tflite"
    with Sparse(path, "w+") as sink:
        write(table_lookup(zeros(1_150_000)), sink, identifier="TFL3", metadata={"about": b"{}"})
    yield path
    path.unlink()


# The layout


@pytest.mark.parametrize("identifier", ["CIR0", "TFL3"])
def test_up_to_the_limit_buffers_are_references(identifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = table_lookup(zeros(9))
    data = to_bytes(graph, identifier=identifier, metadata={"about": b"{}"})
    monkeypatch.setattr(limits, "SIZE_LIMIT", len(data))
    assert to_bytes(graph, identifier=identifier, metadata={"about": b"{}"}) == data
    assert not any(blob.by_offset for blob in survey(data).blobs)


def far(monkeypatch: pytest.MonkeyPatch, graph: Graph, metadata: dict[str, bytes]) -> bytes:
    """The file, written as one over 2 GiB would be."""
    monkeypatch.setattr(limits, "SIZE_LIMIT", size_of(graph, identifier="TFL3", metadata=metadata) - 1)
    return to_bytes(graph, identifier="TFL3", metadata=metadata)


def test_beyond_it_they_are_offsets_and_metadata_is_in_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    near = to_bytes(table_lookup(zeros(9)), identifier="TFL3", metadata={"about": b"{}"})
    data = far(monkeypatch, table_lookup(zeros(9)), {"about": b"{}"})
    whole = survey(data)
    assert [blob.by_offset for blob in whole.blobs] == [False, True, True, True, False]
    assert all(blob.position % 16 == 0 for blob in whole.blobs if blob.by_offset)
    assert read(data).metadata == {"about": b"{}"}
    assert check(data) == []
    assert str(read(data).graph) == str(read(near).graph)
    assert not diff(near, data)


def test_the_official_bindings_find_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    tflite = pytest.importorskip("tflite", reason="the official bindings are not installed")
    data = far(monkeypatch, table_lookup(zeros(9)), {"about": b"{}"})
    model = tflite.Model.GetRootAs(data)
    small = model.Buffers(3)
    assert (small.DataIsNone(), small.Size()) == (True, 3 * 256 * 4)
    assert np.frombuffer(data, np.float32, 3 * 256, small.Offset()).tolist() == [*range(3 * 256)]
    assert model.Buffers(model.Metadata(0).Buffer()).DataAsNumpy().tobytes() == b"{}"


def odd_constants() -> Graph:
    """A single byte, no byte at all, the same elements twice, and 4-bit ones."""
    x = Value(Type((512, 4), F32), "x")
    last = Node.make("CONCATENATION", [x, constant(np.zeros((0, 4), np.float32), "none")], [Value(x.type, "joined")], {"axis": 0}).out
    half = Value(Type((4,), DType.INT4, Quant.per_tensor(0.5, 0)), "nibbles", data=Constant.of(np.array([1, -8, 7, 3], np.int8)))
    real = Node.make("DEQUANTIZE", [half], [Value(Type((4,), F32), "real")]).out
    one = Value(Type((1,), I8, Quant.per_tensor(0.25, 0)), "byte", data=Constant.of(np.array([6], np.int8)))
    byte = Node.make("DEQUANTIZE", [one], [Value(Type((1,), F32), "of_byte")]).out
    twice = [constant(np.arange(2048, dtype=np.float32).reshape(512, 4), name) for name in ("a", "b")]
    for value in (real, byte, *twice):
        last = Node.make("ADD", [last, value], [Value(x.type, f"with_{value.name}")]).out
    return Graph((x,), (last,), ("x",), ("y",))


@pytest.mark.skipif(not runtimes.available("litert"), reason="LiteRT is not installed")
@pytest.mark.parametrize("delegate", [True, False])
def test_litert_computes_the_same_from_both_layouts(delegate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(2048, dtype=np.float32).reshape(512, 4) / 4
    near, apart = tmp_path / "near.tflite", tmp_path / "far.tflite"
    metadata = {"min_runtime_version": b"1.5.0" + bytes(11)}
    near.write_bytes(to_bytes(odd_constants(), identifier="TFL3", metadata=metadata))
    apart.write_bytes(far(monkeypatch, odd_constants(), metadata))
    assert sum(blob.by_offset for blob in survey(apart).blobs) == 5
    expected = x + np.array([0.5, -4, 3.5, 1.5], np.float32) + 1.5 + 2 * (4 * x)
    for path in (near, apart):
        np.testing.assert_array_equal(runtimes.run("litert", path, [[x]], delegate=delegate).outputs[0][0], expected)


def test_equal_constants_are_written_once_in_both_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = far(monkeypatch, odd_constants(), {})
    assert data.count(np.arange(2048, dtype=np.float32).tobytes()) == 1
    places = [blob.position for blob in survey(data).blobs if blob.by_offset]
    assert len(places) == len(set(places)) + 1
    assert size_of(odd_constants(), identifier="TFL3") == len(data)


def test_what_is_known_to_be_equal_counts_once_for_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def graph(same: bool) -> Graph:
        ones = np.ones((512, 4), np.float32)
        x = last = Value(Type((512, 4), F32), "x")
        for i in range(3):
            value = Value(x.type, f"c{i}", data=Constant(lambda: ones, ("ones",) if same else None))
            last = Node.make("ADD", [last, value], [Value(x.type, f"sum{i}")]).out
        return Graph((x,), (last,), ("x",), ("y",))

    monkeypatch.setattr(limits, "SIZE_LIMIT", size_of(graph(True), identifier="CIR0") + 64)
    assert to_bytes(graph(True), identifier="CIR0")
    with pytest.raises(WriteError, match="over 2 GiB"):
        to_bytes(graph(False), identifier="CIR0")


def test_scales_and_names_alone_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIZE_LIMIT", 500)
    with pytest.raises(WriteError, match=r"the file's description would be over 2 GiB.* without the constants"):
        to_bytes(table_lookup(zeros(9)), identifier="TFL3")


# Copies under an identifier


def test_a_copy_of_the_tables_takes_the_layout_of_its_own_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = far(monkeypatch, table_lookup(zeros(9)), {"about": b"{}"})
    (tmp_path / "far.tflite").write_bytes(data)
    convert(tmp_path / "far.tflite", tmp_path / "again.tflite", keep=True)
    assert [blob.by_offset for blob in survey(tmp_path / "again.tflite").blobs] == [blob.by_offset for blob in survey(data).blobs]
    assert not diff(data, tmp_path / "again.tflite")
    with pytest.raises(WriteError, match="over 2 GiB, the most that Circle holds") as caught:
        convert(tmp_path / "far.tflite", tmp_path / "far.circle", keep=True)
    assert caught.value.layers == [("table1 (buffer 2)", 10 * 1024), ("table0 (buffer 1)", 9 * 1024), ("small (buffer 3)", 3 * 1024)]
    assert not (tmp_path / "far.circle").exists()
    monkeypatch.undo()
    convert(tmp_path / "far.tflite", tmp_path / "near.circle", keep=True)
    assert not any(blob.by_offset for blob in survey(tmp_path / "near.circle").blobs)
    assert read(tmp_path / "near.circle").metadata == {"about": b"{}"}
    assert not diff(data, tmp_path / "near.circle")


# Circle


def test_circle_is_refused_before_a_constant_is_made_with_the_bytes_of_each_layer() -> None:
    graph, sink = table_lookup(lambda i: unmade(f"embed{i}.weight", 1_200_000, 256)), io.BytesIO()
    with pytest.raises(WriteError, match="over 2 GiB, the most that Circle holds"):
        size_of(graph, identifier="CIR0")
    with pytest.raises(WriteError, match="over 2 GiB, the most that Circle holds") as caught:
        write(graph, sink, identifier="CIR0")
    assert not sink.getvalue()
    table = 1_200_000 * 256 * 4
    assert caught.value.layers == [("embed0 (net.py:10)", table), ("embed1 (net.py:11)", table), ("small (net.py:12)", 3 * 256 * 4)]
    first, *rows = caught.value.message.splitlines()
    assert rows == [
        "  1,228,800,000 bytes  embed0 (net.py:10)",
        "  1,228,800,000 bytes  embed1 (net.py:11)",
        "          3,072 bytes  small (net.py:12)",
    ]
    total = int(first.split("holds: ")[1].split(" bytes")[0].replace(",", ""))
    assert 0 < total - 2 * table - 3_072 < 3_000
    assert f"{total - 2**31 + 1:,} too many" in first
    assert "write a .tflite file" in str(caught.value)


def test_many_layers_are_summed_up_in_the_message() -> None:
    error = limits.too_large(3 * GIB, {f"layer{i}": 10 * i for i in range(30)})
    assert len(error.layers) == 30
    assert error.message.splitlines()[-1] == "  450 bytes  in 10 more"


def test_constants_go_by_their_module_and_the_line_that_reads_them() -> None:
    """Not by the reader's module, which may be that of a fused activation."""
    x = last = Value(Type((4,), F32), "x")
    relu = Where("aten::relu", "", "net.py", 3)
    for name, where in {"layers.0.weight": relu, "layers.0.bias": relu, "layers.1.weight": relu, "scale": relu, "": Where()}.items():
        last = Node.make("MUL", [last, constant(np.ones(4, np.float32), name)], [Value(x.type, f"y{name}")], {}, where).out
    layers = {"layers.0 (net.py:3)": 32, "layers.1 (net.py:3)": 16, "scale (net.py:3)": 16, "<no name>": 16}
    assert limits.by_layer([Graph((x,), (last,), ("x",), ("y",))]) == layers


def test_onert_and_one_are_told_of_what_they_cannot_read() -> None:
    blob = bytes(Packer().finish({"version": 0, "subgraphs": [{}], "buffers": [{}, {"offset": 16, "size": 8}]}, "CIR0"))
    for target in ("onert", "one"):
        codes = {finding.code for finding in check(blob, target)}
        assert "target-buffer" in codes
        assert "target-size" not in codes


# More elements than 32 bits count


def lookup_of(rows: int, depth: int, axis: int = 0) -> Graph:
    index = Value(Type((3,), I32), "index")
    out = Type((3, depth) if axis == 0 else (rows, 3), F32)
    node = Node.make("GATHER", [unmade("table", rows, depth), index], [Value(out, "rows")], {"axis": axis})
    return Graph((index,), node.outputs, ("index",), ("rows",))


def test_a_wide_table_is_for_litert_alone() -> None:
    must_run(lookup_of(3_000_000, 1024), TARGETS["litert"])
    for graph, target in [
        (lookup_of(3_000_000, 1024), "onert"),
        (lookup_of(3_000_000, 1024, axis=1), "litert"),
        (lookup_of(2**31, 1), "litert"),
    ]:
        with pytest.raises(TargetError, match=r"GATHER .*: more than 2\^31 - 1 elements"):
            must_run(graph, TARGETS[target])


@pytest.mark.parametrize("target", ["litert", "onert"])
def test_other_operators_on_more_elements_are_refused(target: str) -> None:
    """LiteRT's own kernels die of them."""
    x = Value(Type((1, 2048), F32), "x")
    node = Node.make("FULLY_CONNECTED", [x, unmade("weight", 2**20 + 1, 2048), None], [Value(Type((1, 2**20 + 1), F32), "y")])
    with pytest.raises(TargetError, match=r"FULLY_CONNECTED .*: more than 2\^31 - 1 elements"):
        must_run(Graph((x,), node.outputs, ("x",), ("y",)), TARGETS[target])


# A file over 2 GiB


def test_it_is_over_2_gib_and_takes_no_space(huge: Path) -> None:
    status = huge.stat()
    assert status.st_size > 2**31 + 100_000_000
    assert status.st_blocks * 512 < 16 << 20
    assert max(blob.position for blob in survey(huge).blobs) > 2**31


@pytest.mark.skipif(not runtimes.available("litert"), reason="LiteRT is not installed")
def test_litert_runs_it(huge: Path) -> None:
    """From behind 2 GiB, too."""
    (total,) = runtimes.run("litert", huge, [[np.array([2, 0, 1], np.int32)]]).outputs[0]
    np.testing.assert_array_equal(total, np.arange(768).reshape(3, 256)[[2, 0, 1]] + np.array([[3], [0], [0]]))


def in_little_memory(*command: str) -> subprocess.CompletedProcess[str]:
    """torch2circle with less memory of its own than one of the tables; what is mapped to be read does not count."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (900 << 20, 900 << 20))"
    code = f"{limit}; import sys; from torch2circle.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_its_size_is_not_needed_in_memory(huge: Path, tmp_path: Path) -> None:
    shown = in_little_memory("inspect", str(huge))
    assert shown.returncode == 0, shown.stderr
    assert "float32 2,355,204,096 bytes" in shown.stdout
    assert "nothing wrong was found" in shown.stdout
    alike = in_little_memory("diff", str(huge), str(huge))
    assert (alike.returncode, alike.stdout.splitlines()[-1]) == (0, "no difference"), alike.stderr
    for keep in ([], ["--keep"]):
        refused = in_little_memory("convert", str(huge), str(tmp_path / "huge.circle"), *keep)
        assert refused.returncode == WriteError.exit_code, refused.stderr
        assert "over 2 GiB, the most that Circle holds" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_limited_process_does_fail(tmp_path: Path) -> None:
    """What the test above relies on."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (900 << 20, 900 << 20)); b = bytearray(1_100_000 * 1024)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode != 0


def test_what_is_cut_off_is_refused(huge: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tflite"
    with open(huge, "rb") as file, open(cut, "wb") as sink:
        sink.write(file.read(4096))
        sink.truncate(huge.stat().st_size - 1)
    for look in (read, survey, check):
        with pytest.raises(FormatError, match=r"damaged or cut off, 3072 bytes at .* are outside of the file"):
            look(cut)


@pytest.mark.parametrize("place", [{"offset": 2**64 - 1, "size": 8}, {"offset": 2**63, "size": 2**63}, {"offset": 8, "size": 2**64 - 1}])
def test_offsets_beyond_the_file_are_refused(place: dict[str, int]) -> None:
    tensors = [{"shape": [2], "type": "FLOAT32", "name": "x", "buffer": 1}]
    subgraph = {"tensors": tensors, "inputs": [], "outputs": [0], "operators": []}
    data = bytes(Packer().finish({"version": 3, "subgraphs": [subgraph], "buffers": [{}, place]}, "TFL3"))
    for look in (read, survey):
        with pytest.raises(FormatError, match="are outside of the file"):
            look(data)


def test_an_offset_of_0_or_1_is_none() -> None:
    """As LiteRT has it; TensorFlow's exporter writes 1 until it knows."""
    for offset, size in itertools.product((0, 1), (0, 1, 8)):
        data = bytes(Packer().finish({"version": 3, "subgraphs": [{}], "buffers": [{}, {"offset": offset, "size": size}]}, "TFL3"))
        assert survey(data).blobs[1].data is None


# Whether a file is what would be written


@pytest.mark.parametrize("layout", ["references", "offsets"])
def test_a_file_is_told_from_any_other(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {"about": b"{}"}
    if layout == "offsets":
        data = far(monkeypatch, odd_constants(), metadata)
    else:
        data = to_bytes(odd_constants(), identifier="TFL3", metadata=metadata)
    path = tmp_path / "model.tflite"

    def same(content: bytes) -> bool:
        path.write_bytes(content)
        return is_as_written(path, odd_constants(), identifier="TFL3", metadata=metadata)

    assert same(data)
    assert path.read_bytes() == data
    for other in (data[:-1], data + b"\0", b"", data[:-1] + b"\1", bytes([data[0] ^ 1]) + data[1:], data[:1000] + b"\xff" + data[1001:]):
        assert other != data
        assert not same(other)
    with pytest.raises(FormatError, match=r"cannot read .*absent\.tflite: No such file"):
        is_as_written(tmp_path / "absent.tflite", odd_constants(), identifier="TFL3")
