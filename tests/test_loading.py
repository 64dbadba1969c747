"""Loading: one test for each way in, each error, and each way a file could try to run code."""

from __future__ import annotations

import contextlib
import json
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao import quantization as Q
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from forged import EVIL, MARK, PYTHON, forge, saved
from torch2circle.errors import LoadError
from torch2circle.loading import infer_inputs, load, load_inputs, parse_input, program
from torch2circle.loading.healing import heal

SAMPLE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """A user's own class, with functional modules."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = Q.QuantStub(), Q.DeQuantStub()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.add = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.quant(image)
        out: torch.Tensor = self.dequant(self.add.add(x, self.conv(x)))
        return out


def quantized(model: nn.Module, sample: torch.Tensor = SAMPLE, fuse: list[list[str]] | None = None) -> nn.Module:
    model.eval()
    if fuse:
        model = Q.fuse_modules(model, fuse)
    model.qconfig = Q.default_per_channel_qconfig  # type: ignore[assignment]
    prepared = Q.prepare(model)
    prepared(sample)
    return Q.convert(prepared)  # type: ignore[no-any-return]


def stubbed(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(Q.QuantStub(), *layers, Q.DeQuantStub())


def convolutions() -> nn.Module:
    return quantized(stubbed(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(144, 5)), fuse=[["1", "2"]])


def functional_fx() -> nn.Module:
    class Add(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):  # type: ignore[no-untyped-def]  # FX cannot save annotations that are strings
            return torch.relu(x + self.conv(x))

    prepared = prepare_fx(Add().eval(), Q.get_default_qconfig_mapping("x86"), (SAMPLE,))
    prepared(SAMPLE)
    return convert_fx(prepared)  # type: ignore[no-any-return]


def dynamic(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    return Q.quantize_dynamic(model.eval(), {kind}, dtype=torch.qint8)  # type: ignore[no-any-return]


def fails(path: str | Path, *words: str, **options: Any) -> LoadError:
    """Loading ``path`` raises a LoadError that says all of ``words`` and keeps to the form of our messages."""
    with pytest.raises(LoadError) as caught:
        load(path, **options)
    for word in words:
        assert word in str(caught.value)
    assert not caught.value.message.endswith(".")
    return caught.value


# What torch.save and torch.load break, and loading mends

SAVED: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "conv, fused conv-relu, linear": (convolutions, SAMPLE),
    "conv1d": (lambda: quantized(stubbed(nn.Conv1d(3, 4, 3)), SAMPLE[..., 0]), SAMPLE[..., 0]),
    "conv3d": (
        lambda: quantized(stubbed(nn.Conv3d(3, 4, 3)), SAMPLE[..., None].expand(1, 3, 8, 8, 8)),
        SAMPLE[..., None].expand(1, 3, 8, 8, 8),
    ),
    "linear-relu": (lambda: quantized(stubbed(nn.Linear(8, 4), nn.ReLU()), fuse=[["1", "2"]]), SAMPLE),
    "batch norm": (lambda: quantized(stubbed(nn.BatchNorm2d(3), nn.Hardswish())), SAMPLE),
    "dynamic linear": (lambda: dynamic(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), nn.Linear), SAMPLE),
    "dynamic LSTM": (lambda: dynamic(nn.Sequential(nn.LSTM(8, 5, num_layers=2, bidirectional=True)), nn.LSTM), SAMPLE[0]),
    "dynamic GRU": (lambda: dynamic(nn.Sequential(nn.GRU(8, 5, batch_first=True)), nn.GRU), SAMPLE[0]),
    "float": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.TransformerEncoderLayer(6, 2, activation="gelu")).eval()[:1], SAMPLE),
}


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_module_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    make, sample = SAVED[name]
    model = make()
    torch.save(model, tmp_path / "model.pt")
    loaded = load(tmp_path / "model.pt")
    with torch.inference_mode():
        assert same(loaded(sample), model(sample))
    assert all(hasattr(module, "_backward_hooks") for module in loaded.modules())


@pytest.mark.parametrize("make", [lambda: quantized(Residual()), functional_fx])
def test_a_trusted_file_brings_its_own_classes_and_graph_modules(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = make()
    torch.save(model, tmp_path / "model.pt")
    fails(tmp_path / "model.pt", "--trust-pickle", "package.module:factory")
    loaded = load(tmp_path / "model.pt", trust_pickle=True)
    assert torch.equal(loaded(SAMPLE), model(SAMPLE))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # of torch.load itself, once in a process
def test_what_torch_load_gives_is_mended_by_program(tmp_path: Path) -> None:
    model = convolutions()
    torch.save(model, tmp_path / "model.pt")
    broken = torch.load(tmp_path / "model.pt", weights_only=False)
    with pytest.raises(AttributeError):
        broken(SAMPLE)
    assert torch.equal(program(broken, args=(SAMPLE,)).module(SAMPLE), model(SAMPLE))


def test_healing_leaves_a_whole_module_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.append(model[0])
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    heal(model)
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_the_mode_is_kept(tmp_path: Path) -> None:
    for training in (True, False):
        torch.save(nn.Linear(2, 2).train(training), tmp_path / "model.pt")
        model = load(tmp_path / "model.pt")
        assert model.training is training
        assert program(model).module.training is training


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torchscript_and_its_parameter_names(tmp_path: Path) -> None:
    model = convolutions()
    torch.jit.save(torch.jit.trace(model, SAMPLE), tmp_path / "model.pt")
    ready = program(load(tmp_path / "model.pt"), args=(SAMPLE,))
    assert (ready.kind, ready.names) == ("torchscript", ("input",))
    assert torch.equal(ready.module(SAMPLE), model(SAMPLE))


def exported(path: Path, dynamic_shape: bool = False) -> torch.export.ExportedProgram:
    shapes = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=4, max=99)},) if dynamic_shape else None
    sample = SAMPLE.repeat(2, 1, 1, 1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten()).eval()
    result = torch.export.export(module, (sample,), dynamic_shapes=shapes)
    torch.export.save(result, path)
    return result


@pytest.mark.parametrize("dynamic_shape", [False, True])
def test_an_exported_program_brings_inputs_and_names(dynamic_shape: bool, tmp_path: Path) -> None:
    saved = exported(tmp_path / "model.pt2", dynamic_shape)
    ready = program(load(tmp_path / "model.pt2"))
    assert (ready.kind, ready.names, ready.kwargs) == ("exported", ("input",), {})
    assert torch.equal(ready.module(*ready.args), saved.module()(*ready.args))


def test_a_file_saved_on_cuda_loads_on_the_cpu(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "cpu.pt")
    with zipfile.ZipFile(tmp_path / "cpu.pt") as old, zipfile.ZipFile(tmp_path / "cuda.pt", "w") as new:
        for member in old.namelist():
            data = old.read(member)
            new.writestr(member, data.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0") if member.endswith(".pkl") else data)
        assert b"cuda:0" in new.read("cpu/data.pkl")
    assert load(tmp_path / "cuda.pt").weight.device.type == "cpu"


def test_the_old_format_is_read_where_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(nn.Linear(3, 2).state_dict(), path, _use_new_zipfile_serialization=False)
    fails(path, "holds weights", "--state")
    torch.save(nn.Linear(3, 2), path, _use_new_zipfile_serialization=False)
    fails(path, "old zip-less format", "--trust-pickle")
    assert isinstance(load(path, trust_pickle=True), nn.Linear)
    # torch.load packs the weights before it has read them, and says nothing.
    torch.save(dynamic(nn.Sequential(nn.Linear(3, 2)), nn.Linear), path, _use_new_zipfile_serialization=False)
    fails(path, "PyTorch itself reads wrongly", trust_pickle=True)


def test_a_newer_pickle_protocol_needs_trust(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "new.pt", pickle_protocol=4)
    fails(tmp_path / "new.pt", "pickle protocol 4", "--trust-pickle")
    assert isinstance(load(tmp_path / "new.pt", trust_pickle=True), nn.Linear)
    torch.save(nn.Linear(3, 2), tmp_path / "old.pt", pickle_protocol=4, _use_new_zipfile_serialization=False)
    fails(tmp_path / "old.pt", "pickle protocol 4", "save it again with torch.save's defaults", trust_pickle=True)


# Factories

SOURCE = """
import torch
from torch import nn

ready = nn.Linear(4, 2)
number = 3

def make():
    return nn.Linear(4, 2)

def list_of_models():
    return [make()]

def broken():
    x = 1
    return x / 0

def leaves():
    raise SystemExit("bye")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the package ``zoo_for_test`` in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_for_test").mkdir()
    (tmp_path / "zoo_for_test" / "__init__.py").touch()
    (tmp_path / "zoo_for_test" / "net.py").write_text(SOURCE)
    (tmp_path / "zoo_for_test" / "bad.py").write_text("def f(:\n")
    (tmp_path / "zoo_for_test" / "needy.py").write_text("import no_such_package_at_all\n")
    for name in ("zoo_for_test", "zoo_for_test.net"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    "spec", ["zoo_for_test.net:make", "zoo_for_test.net:ready", "zoo_for_test/net.py:make", "./zoo_for_test/net.py:ready"]
)
def test_a_factory_by_module_or_file(spec: str, here: Path) -> None:
    path = list(sys.path)
    assert isinstance(load(spec), nn.Linear)
    assert sys.path == path


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_a_factory_with_its_state(wrap: Callable[[Any], Any], here: Path) -> None:
    weights = nn.Linear(4, 2).state_dict()
    torch.save(wrap(weights), "state.pt")
    loaded = load("zoo_for_test.net:make", state=Path("state.pt"))
    assert torch.equal(loaded.weight, weights["weight"])


def test_a_quantized_factory_with_its_state(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, fresh = convolutions(), convolutions()
    torch.save(saved.state_dict(), "state.pt")
    module = ModuleType("quantized_for_test")
    module.make = lambda: fresh  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "quantized_for_test", module)
    assert torch.equal(load("quantized_for_test:make", state=Path("state.pt"))(SAMPLE), saved(SAMPLE))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("zoo_for_test.nothing:make", ("no such Python module: zoo_for_test.nothing", "current directory")),
        ("nothing_for_test:make", ("no such Python module: nothing_for_test",)),
        ("zoo_for_test/nothing.py:make", ("no such file: zoo_for_test/nothing.py",)),
        ("not a module:make", ("neither a file nor a Python module: not a module",)),
        ("zoo_for_test.net:none", ("no such name in zoo_for_test.net: none", "make")),
        ("zoo_for_test.net:number", ("gives no nn.Module: int",)),
        ("zoo_for_test.net:list_of_models", ("gives no nn.Module: list",)),
        ("zoo_for_test.net:broken", ("ZeroDivisionError: division by zero", "net.py:16")),
        ("zoo_for_test/net.py:broken", ("ZeroDivisionError: division by zero", "net.py:16")),
        ("zoo_for_test.net:leaves", ("SystemExit: bye", "net.py:19")),
        ("zoo_for_test.bad:f", ("SyntaxError", "bad.py:1")),
        ("zoo_for_test.needy:f", ("No module named 'no_such_package_at_all'", "needy.py:1")),
    ],
)
def test_a_factory_that_fails(spec: str, words: tuple[str, ...], here: Path) -> None:
    fails(spec, *words)


def test_state_that_does_not_fit(here: Path) -> None:
    state, spec = Path("state.pt"), "zoo_for_test.net:make"
    torch.save({"weight": torch.zeros(2, 4), "scale": torch.ones(1)}, state)
    fails(spec, "missing: bias; unexpected: scale", state=state)
    torch.save(nn.Linear(5, 2).state_dict(), state)
    fails(spec, "size mismatch for weight", state=state)
    torch.save([1, 2], state)
    fails(spec, "not a state_dict: state.pt: list", state=state)
    fails(spec, "no such file: nowhere.pt", state=Path("nowhere.pt"))
    torch.save(nn.Linear(4, 2), "model.pt")
    fails(Path("model.pt"), "--state needs a factory", state=state)


# What is no model


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("empty.pt", b"", ("the file is empty",)),
        ("notes.pt", b"some text\n", ("a text file, not a PyTorch model",)),
        ("net.py", b"def f(): ...\n", ("without the name of a factory", "net.py:factory")),
        ("m.tflite", b"\x1c\0\0\0TFL3" + bytes(40), ("a TFLite file",)),
        ("m.circle", b"\x1c\0\0\0CIR0" + bytes(40), ("a Circle file",)),
        ("m.pte", b"\x1c\0\0\0ET12" + bytes(40), ("an ExecuTorch program",)),
        ("m.onnx", b"\x08\x07\x12\x07pytorch", ("an ONNX file",)),
        ("m.safetensors", struct.pack("<Q", 2) + b"{}", ("a safetensors file",)),
        ("m.h5", b"\x89HDF\r\n\x1a\n", ("an HDF5 (Keras) file",)),
        ("m.bin", b"\xff\xfe\0\1", ("an unknown file format",)),
        ("cut.pt", b"PK\3\4" + bytes(100), ("damaged or cut short",)),
        ("pickle.pt", pickle.dumps([1, 2], 2), ("a plain Python pickle",)),
        ("cut_old.pt", pickle.dumps(0x1950A86A20F9469CFC6C, 2), ("damaged or not a PyTorch file",)),
    ],
)
def test_files_that_hold_no_model(name: str, data: bytes, words: tuple[str, ...], tmp_path: Path) -> None:
    fails(write(tmp_path / name, data), name, *words)


def test_other_things_that_are_no_model(tmp_path: Path) -> None:
    fails(tmp_path / "nothing.pt", "no such file")
    fails(tmp_path, "a directory")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    fails(tmp_path / "other.zip", "a zip archive, but no PyTorch model")
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "state.pt")
    fails(tmp_path / "state.pt", "holds weights", "package.module:factory", "--state state.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    fails(tmp_path / "list.pt", "the file holds no model", "list")
    torch.save(nn.Linear(30, 20), tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    fails(write(tmp_path / "half.pt", whole[: len(whole) // 2]), "damaged or cut short")
    with pytest.raises(LoadError, match="not a PyTorch model: str"):
        program("model.pt")  # type: ignore[arg-type]


def test_a_class_that_is_not_importable(tmp_path: Path) -> None:
    """Written under a name that no longer exists, as after renaming a package."""
    forge(tmp_path / "model.pt", b"\x80\x02cold_package_for_test.nets\nNet\n)\x81.")
    fails(tmp_path / "model.pt", "old_package_for_test.nets.Net", "not importable here", "package.module:factory")
    fails(tmp_path / "model.pt", "not importable here", "old_package_for_test", "package.module:factory", trust_pickle=True)
    forge(tmp_path / "main.pt", b"\x80\x02c__main__\nNet\n)\x81.")
    fails(tmp_path / "main.pt", "not importable here: __main__.Net")


# Exported programs that are not what torch.export.save writes; files that try to run code are in test_exploits.py


def edited(path: Path, edit: Callable[[dict[str, bytes]], None]) -> Path:
    """The exported program in ``path`` with its members changed; they are addressed without the leading folder."""
    exported(path, dynamic_shape=True)
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    edit(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{path.stem}/{name}", data)
    return path


def replaced(old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def edit(members: dict[str, bytes]) -> None:
        text = members["models/model.json"].decode()
        assert old in text
        members["models/model.json"] = text.replace(old, new).encode()

    return edit


def pickled_inputs(members: dict[str, bytes]) -> None:
    members["data/sample_inputs/model.pt"] = saved(EVIL)


def pickled_weight(members: dict[str, bytes]) -> None:
    config = json.loads(members["data/weights/model_weights_config.json"])
    config["config"]["0.bias"]["use_pickle"] = True
    members["data/weights/model_weights_config.json"] = json.dumps(config).encode()
    members["data/weights/weight_1"] = saved(EVIL)


def pickled_constant(members: dict[str, bytes]) -> None:
    members["data/constants/opaque_obj_0"] = pickle.dumps(EVIL)


@pytest.mark.parametrize(
    "edit",
    [
        pickled_inputs,
        pickled_weight,
        pickled_constant,
        lambda members: members.update({"data/aotinductor/model/evil.so": b"\x7fELF"}),
        lambda members: members.update({"models/model.json": b"{"}),
        lambda members: members.update({"models/other.json": b"[" * 100000}),
        lambda members: members.update({"data/weights/model_weights_config.json": b'{"config": {"0.bias": 1}}'}),
        replaced("Integer(-2)", f"eval({PYTHON})".replace("'", "\\u0027")),
        replaced("Integer(-2)", "Integer.__class__"),
        replaced("Integer(-2)", "exit(1)"),
        replaced("torch.ops.aten.flatten.using_ints", "torch.os.system"),
        replaced("torch.ops.aten.flatten.using_ints", "torch.ops.load_library"),
        replaced("torch.ops.aten.flatten.using_ints", "torch.ops.aten.from_file.default"),
        replaced("torch.ops.aten.flatten.using_ints", "torch.ops.aten.__init__.__globals__"),
        replaced("torch.ops.aten.flatten.using_ints", "_operator.methodcaller"),
        replaced('"name": "input"', f'"name": "input={PYTHON}"'),
        replaced('"guards_code": []', f'"guards_code": ["{PYTHON}"]'),
        replaced('\\"context\\": \\"[]\\"', '\\"context\\": {\\"__enum__\\": true, \\"fqn\\": \\"antigravity:x\\"}'),
    ],
)
def test_an_exported_program_cannot_run_code(edit: Callable[[dict[str, bytes]], None], here: Path) -> None:
    fails(edited(here / "model.pt2", edit), "not plain data", "--trust-pickle")
    assert not Path(MARK).exists()


def test_what_the_edited_programs_would_do(here: Path) -> None:
    """The edits above leave readable archives, and torch.export.load does run what is in them."""
    assert program(load(edited(here / "model.pt2", lambda members: None))).kind == "exported"
    for edit in (pickled_inputs, pickled_weight, replaced("Integer(-2)", PYTHON)):
        Path(MARK).unlink(missing_ok=True)
        with contextlib.suppress(LoadError):
            load(edited(here / "model.pt2", edit), trust_pickle=True)
        assert Path(MARK).exists()


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("name", ["model/models/model.json", "model/models/MODEL.json"])
def test_an_archive_says_each_thing_once(name: str, here: Path) -> None:
    exported(here / "model.pt2")
    with zipfile.ZipFile(here / "model.pt2", "a") as archive:
        archive.writestr(name, "{}")
    fails("model.pt2", "members of the same name", "model/models/model.json")


# Inputs


def test_an_input_from_text() -> None:
    state = torch.get_rng_state()
    name, image = parse_input("1x3x4x4:uint8")
    assert (name, tuple(image.shape), image.dtype) == (None, (1, 3, 4, 4), torch.uint8)
    name, x = parse_input("image=2x5")
    assert (name, tuple(x.shape), x.dtype) == ("image", (2, 5), torch.float32)
    assert torch.equal(x, parse_input("2x5")[1])
    assert not torch.equal(x, parse_input("2x5", seed=1)[1])
    assert parse_input("scalar:int64")[1].shape == ()
    assert parse_input("100:int8")[1].min() >= 0
    assert parse_input("100:int64")[1].max() < 10
    assert parse_input("7:bool")[1].dtype == torch.bool
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("text", ["", "1,3,4", "1x-3", "Nx3", "1x3:", "=1x3", "1x3:float99", "1x3:quint8"])
def test_a_text_that_is_no_input(text: str) -> None:
    with pytest.raises(LoadError, match=r"not an input|unknown dtype"):
        parse_input(text)


def test_inputs_from_files(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tensor = torch.from_numpy(array)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "many.npz", *[array] * 11)
    np.savez(tmp_path / "named.npz", image=array)
    for name, thing in {"one": tensor, "pair": (tensor, tensor), "dict": {"image": tensor}, "text": "no tensor"}.items():
        torch.save(thing, tmp_path / f"{name}.pt")
    counts = {name: load_inputs(tmp_path / name) for name in ("x.npy", "many.npz", "named.npz", "one.pt", "pair.pt", "dict.pt")}
    assert {name: (len(args), list(kwargs)) for name, (args, kwargs) in counts.items()} == {
        "x.npy": (1, []),
        "many.npz": (11, []),
        "named.npz": (0, ["image"]),
        "one.pt": (1, []),
        "pair.pt": (2, []),
        "dict.pt": (0, ["image"]),
    }
    assert torch.equal(counts["x.npy"][0][0], tensor)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, word in {"none.npz": "no such file", "text.pt": "no tensors", "objects.npy": "cannot be read"}.items():
        with pytest.raises(LoadError, match=word):
            load_inputs(tmp_path / name)
    with pytest.raises(LoadError, match="not an input file"):
        load_inputs(write(tmp_path / "x.jpg", b"JFIF"))


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(8, 2), lambda: dynamic(nn.Sequential(nn.Linear(8, 2)), nn.Linear), lambda: torch.jit.script(nn.Linear(8, 2))]
)
def test_a_linear_fixes_its_input(make: Callable[[], nn.Module]) -> None:
    ready = program(make())
    assert [tuple(x.shape) for x in ready.args] == [(1, 8)]
    assert ready.names == ("input",)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (convolutions, "begins with ConvReLU2d (1)\n\nhint: pass it: --input 1x3xHxW, for example --input 1x3x224x224"),
        (lambda: nn.Conv1d(2, 4, 3), "--input 1x2x64"),
        (lambda: nn.Conv3d(2, 4, 3), "--input 1x2x16x112x112"),
        (lambda: nn.Sequential(nn.BatchNorm2d(5), nn.Linear(2, 2)), "--input 1x5x224x224"),
        (lambda: nn.LSTM(6, 4), "--input 16x1x6"),
        (lambda: dynamic(nn.Sequential(nn.GRU(6, 4, batch_first=True)), nn.GRU), "--input 1x16x6"),
        (lambda: nn.Embedding(10, 4), "--input 1x16:int64"),
        (lambda: nn.ReLU(), "--input 1x3x224x224"),
    ],
)
def test_what_to_pass_where_the_model_leaves_it_open(make: Callable[[], nn.Module], words: str) -> None:
    with pytest.raises(LoadError) as caught:
        infer_inputs(make())
    assert words in str(caught.value)


def test_names_of_inputs() -> None:
    class Net(nn.Module):
        def forward(self, image: torch.Tensor, *rest: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return image

    x = torch.ones(1)
    assert program(Net(), args=(x, x, x), kwargs={"mask": x}).names == ("image", "rest_0", "rest_1", "mask")
    assert program(Residual(), kwargs={"image": x}).names == ("image",)
