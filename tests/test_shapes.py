"""One file for any size: run in sizes that no recording had, and refused where the file would hold a size of the example."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx
from torch.export import Dim

import torch2circle
from cases.making import Call, conv_relu, eager, floating, linear_relu, seeded
from cases.shapes import Block, Flattened
from torch2circle import cli, runtimes
from torch2circle.errors import RecordError, TargetError, UnsupportedUse, UserError
from torch2circle.format import read, to_bytes
from torch2circle.pipeline import ExportedModel
from torch2circle.shapes import Sizes, example_size

DOCS = Path(__file__).parents[1] / "docs" / "dynamic-shapes.md"
FILES = {"onert": ".circle", "litert": ".tflite"}
Model = Callable[..., Any]


def drawn(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).uniform(-4, 4, shape).astype(np.float32))


def far_off(exported: ExportedModel, model: Model, shapes: Sequence[tuple[int, ...]], folder: Path) -> float:
    """The largest difference from PyTorch in both runtimes, over the largest magnitude; a file runs in all shapes, one after the other."""
    inputs = [drawn(*shape) for shape in shapes]
    with torch.inference_mode():
        wanted = [model(x).numpy() for x in inputs]
    off = []
    for target in filter(runtimes.available, FILES):
        path = folder / f"model{FILES[target]}"
        exported.save(path)
        got = [outputs[0] for outputs in runtimes.run(target, path, [[x.numpy()] for x in inputs]).outputs]
        assert [array.shape for array in got] == [array.shape for array in wanted]
        off += [float(np.abs(array - want).max() / np.abs(want).max()) for array, want in zip(got, wanted, strict=True)]
    return max(off)


def exported_program(model: nn.Module, x: Tensor, shapes: Any) -> torch.export.ExportedProgram:
    return torch.export.export(model, (x,), dynamic_shapes=shapes)


# ---- sizes that were not recorded

FEW_STEPS = 3 / 127  # one step of the int8 results, which span 7 bits or more, is 1/127 of the largest; each of three layers may add one
FLOATS = 1e-5  # sums of some ten float32 products


def test_quantized_networks_run_in_any_batch(tmp_path: Path) -> None:
    for batch in (1, 4):  # from an example of one image, too
        layers = nn.Sequential(conv_relu(3, 5, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), linear_relu(5 * 4 * 5, 8), nn.Linear(8, 6))
        model, args = eager(layers, (batch, 3, 8, 10))
        exported = torch2circle.export(model, args, dynamic_batch=True)
        assert exported.for_target("litert").inputs[0].type.shape == (batch, 3, 8, 10)
        assert far_off(exported, model, [(n, 3, 8, 10) for n in (1, 7, batch, 1)], tmp_path) < FEW_STEPS


@pytest.mark.filterwarnings("ignore")
def test_a_network_quantized_by_fx(tmp_path: Path) -> None:
    net = seeded(nn.Sequential(nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)))
    x = drawn(4, 3, 8, 10)
    prepared = quantize_fx.prepare_fx(net, get_default_qconfig_mapping("fbgemm"), (x,))
    prepared(x)
    model = quantize_fx.convert_fx(prepared)
    exported = torch2circle.export(model, (x,), dynamic_shapes=({0: Dim("batch"), 2: Dim("height"), 3: Dim("width")},))
    assert far_off(exported, model, [(1, 3, 8, 10), (7, 3, 13, 12), (2, 3, 16, 9)], tmp_path) < FEW_STEPS


def test_an_exported_program_keeps_its_own_dimensions(tmp_path: Path) -> None:
    model = seeded(Flattened())
    for dim in (Dim("batch"), Dim.AUTO):
        exported = torch2circle.export(exported_program(model, drawn(4, 3, 10, 12), ({0: dim},)))
        assert far_off(exported, model, [(2, 3, 10, 12), (7, 3, 10, 12)], tmp_path) < FLOATS
    fixed = torch2circle.export(exported_program(model, drawn(4, 3, 10, 12), ({0: Dim("batch")},)), dynamic_shapes={})
    assert fixed.for_target("litert").inputs[0].type.open == ()


def test_a_transformer_runs_in_any_length_or_batch(tmp_path: Path) -> None:
    model, args = floating(Block(), (2, 16, 12))
    exported = torch2circle.export(model, args, dynamic_shapes=({1: "t"},))
    assert far_off(exported, model, [(2, t, 12) for t in (1, 5, 40, 16)], tmp_path) < FLOATS
    assert far_off(torch2circle.export(model, args, dynamic_batch=True), model, [(b, 16, 12) for b in (1, 7, 2)], tmp_path) < FLOATS


def test_windows_of_images_of_any_size(tmp_path: Path) -> None:
    """What is padded behind an image must not follow from the rest of the example's size by a stride."""
    body = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(5, 4, 3, 2, 1))
    for size in (32, 31):
        model, args = floating(body, (1, 3, size, size))
        exported = torch2circle.export(model, args, dynamic_shapes=({2: "height", 3: "width"},))
        shapes = [(1, 3, height, width) for height, width in ((31, 33), (16, 18), (37, 41), (40, 27))]
        assert far_off(exported, model, shapes, tmp_path) < FLOATS


# ---- what cannot be of any size


def of_a_size(x: Tensor) -> Tensor:
    return x + torch.arange(x.shape[0])[:, None]


def branching(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 3 else x + 1


def only_one(x: Tensor) -> Tensor:
    return x.squeeze(0) if x.shape[0] == 1 else x + 1


BATCH = ({0: "batch"},)
REFUSED = [
    pytest.param(lambda x: x.view(4, -1) * 2, (4, 6), BATCH, "with batch = .* instead of 4: .*shape '\\[4, -1\\]' is invalid", id="view"),
    pytest.param(lambda x: x.reshape(len(x), x.shape[1], 2, 2), (4, 6, 4), ({0: "b", 1: "t"},), "a RESHAPE can have one such", id="two"),
    pytest.param(of_a_size, (4, 6), BATCH, "fixed by aten::add.Tensor: a constant", id="arange"),
    pytest.param(lambda x: x / x.shape[0], (4, 6), BATCH, "holds other numbers", id="number"),
    pytest.param(branching, (4, 6), BATCH, "compares a size.*4 > 3", id="branch"),
    pytest.param(only_one, (4, 6), BATCH, "compares a size.*4 == 1", id="one"),
    pytest.param(lambda x: x[: x.shape[0] // 2], (4, 6), BATCH, "4 // 2|position 2 of 4", id="half"),
    pytest.param(lambda x: x * (x.shape[0] // 8), (4, 6), BATCH, "4 // 8", id="share"),
    pytest.param(lambda x: x[:, :10] * 2, (2, 10), ({1: "t"},), "compares a size.*10 >= 10", id="cut"),
    pytest.param(lambda x: x[None, ..., :10, None] * 2, (2, 10), ({1: "t"},), "compares a size.*10 >= 10", id="cut_behind"),
    pytest.param(lambda x: x * 2 if x.shape[0] - 1 else x, (4, 6), BATCH, "compares a size.*3 != 0", id="truth"),
    pytest.param(lambda x: x[:, : min(x.shape[1], 9)] * 2, (2, 8), ({1: "t"},), "compares a size.*8", id="least"),
    pytest.param(lambda x: torch.stack([row * 2 for row in x]), (4, 6), BATCH, "more operators ran for one size", id="loop"),
    pytest.param(nn.MaxPool2d(2, ceil_mode=True), (1, 3, 8, 8), ({2: "h"},), "aten::max_pool2d along an open dimension", id="ceil"),
    pytest.param(nn.AvgPool2d(3, 2, 1), (1, 3, 8, 8), ({2: "h"},), "aten::avg_pool2d along an open dimension", id="average"),
    pytest.param(lambda x: torch.relu(x).permute(1, 0)[:, ::2], (3, 4), BATCH, "STRIDED_SLICE leaves 2 of 3 as of 4", id="chance"),
    pytest.param(lambda x: (x + 1).squeeze() * 2, (4, 1, 6), BATCH, "aten::squeeze of an open dimension", id="squeeze"),
    pytest.param(nn.Upsample(scale_factor=2), (1, 3, 8, 8), ({2: "h"},), "fixed by aten::upsample_nearest2d", id="resize"),
    pytest.param(lambda x: x.cumsum(0).flip(0).roll(1, 0), (4, 6), BATCH, "fixed by aten::", id="places"),
]


@pytest.mark.parametrize(("function", "shape", "shapes", "said"), REFUSED)
def test_refused(function: Any, shape: tuple[int, ...], shapes: Any, said: str) -> None:
    """With the source line, and before anything is written."""
    model, args = floating(function, shape)
    with pytest.raises(UserError, match=said) as raised:
        torch2circle.export(model, args, dynamic_shapes=shapes).for_target("litert")
    where = raised.value.where
    assert where is not None
    assert where.file.endswith("test_shapes.py") or isinstance(function, nn.Module)


def test_a_range_makes_a_comparison_hold() -> None:
    model, args = floating(lambda x: x[:, :10] * 2, (2, 16))
    torch2circle.export(model, args, dynamic_shapes=({1: Dim("time", min=10)},)).for_target("litert")


@pytest.mark.filterwarnings("ignore")
def test_a_slice_in_torchscript_is_not_cut() -> None:
    """Its comparisons are not seen, but what the slice was asked for is."""
    script = torch.jit.trace(Call(lambda x: x[:, :4] + 0).eval(), drawn(2, 3))
    with pytest.raises(UnsupportedUse, match="end of a slice of an open dimension not supported: 4"):
        torch2circle.export(script, (drawn(2, 3),), dynamic_shapes=({1: "time"},))


def test_sizes_that_depend_on_data_are_refused() -> None:
    def chosen(x: Tensor) -> Tensor:
        return x[torch.nonzero(x[:, 0]).squeeze(1)] * 2

    program = exported_program(Call(chosen), drawn(4, 6), (({0: Dim("batch")},),))
    with pytest.raises(RecordError, match="depends on the data"):
        torch2circle.export(program)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"y": {0: "batch"}}, "input y"),
        (({5: "batch"},), r"dimension 5 of a tensor of shape \[4, 6\]"),
        (({0: 3.5},), "3.5"),
        (({0: 3},), "dynamic_shapes of args_0, dimension 0"),
        (({0: "same", 1: "same"},), "size 6 in dimension 1"),
        (({0: Dim("batch", min=8)},), "4, which is the example's"),
        (({0: "batch"}, {0: "batch"}), "dynamic_shapes"),
        ("batch", "batch"),
    ],
)
def test_wrong_descriptions(shapes: Any, said: str) -> None:
    model, args = floating(torch.relu, (4, 6))
    with pytest.raises(UnsupportedUse, match=said):
        torch2circle.export(model, args, dynamic_shapes=shapes)


def test_inputs_of_unequal_batch_are_refused() -> None:
    model, args = floating(lambda x, y: x.sum(0) + y.sum(0), (4, 6), (3, 6))
    with pytest.raises(UnsupportedUse, match="first dimensions are 3, 4"):
        torch2circle.export(model, args, dynamic_batch=True)
    with pytest.raises(ValueError, match="not both"):
        torch2circle.export(model, args, dynamic_batch=True, dynamic_shapes={})


@pytest.mark.parametrize(
    "shapes",
    [
        ([{0: "batch"}, [None, {0: "batch"}]],),
        ({"first": ("batch", None), "rest": [None, {0: Dim("batch")}]},),
        ({"first": {0: Dim.AUTO}, "rest": (None, {0: Dim.DYNAMIC})},),
    ],
    ids=["positions", "names", "hints"],
)
def test_forms(shapes: tuple[Any]) -> None:
    class Nested(nn.Module):
        def forward(self, first: Tensor, rest: list[Tensor]) -> Tensor:
            return first * rest[1] + rest[0]

    exported = torch2circle.export(Nested().eval(), (drawn(4, 6), [drawn(1, 6), drawn(4, 1)]), dynamic_shapes=shapes[0])
    graph = exported.for_target("litert")
    assert [str(v.type) for v in (*graph.inputs, *graph.outputs)] == ["float32[4?,6]", "float32[1,6]", "float32[4?,1]", "float32[4?,6]"]


def test_two_multiples_of_one_symbol() -> None:
    half = Dim("half", min=2, max=50)
    model, args = floating(lambda x: x.reshape(-1, 2, 5).sum(1), (8, 5))
    graph = torch2circle.export(model, args, dynamic_shapes=({0: 2 * half},)).for_target("onert")
    assert [str(v.type) for v in (*graph.inputs, *graph.outputs)] == ["float32[8?,5]", "float32[4?,5]"]


def test_sizes_of_an_example_of_one() -> None:
    batch, height = Sizes(1, 2, 3), Sizes(16, 16, 7)
    assert example_size([batch], 8, 12) == 4  # four for each
    assert example_size([batch], 3, 4) == 2  # one more
    assert example_size([batch, height], 64, 42) == 32  # two for each of both
    assert example_size([height], 64, 28) == 64


# ---- the file


def test_the_file_says_which_sizes_are_open() -> None:
    model, args = floating(torch.relu, (4, 6))
    graph = torch2circle.export(model, args, dynamic_batch=True).for_target("litert")
    back = read(to_bytes(graph, identifier="TFL3")).graph
    assert [str(v.type) for v in back.values()] == [str(v.type) for v in graph.values()] == ["float32[4?,6]"] * 2
    assert graph.inputs[0].type.permute((1, 0)).open == (1,)
    assert graph.inputs[0].type.reshape((24,)).open == ()


@pytest.mark.parametrize("target", FILES)
def test_a_size_that_is_not_open_is_not_taken(target: str, tmp_path: Path) -> None:
    model, args = floating(torch.relu, (4, 6))
    path = tmp_path / f"model{FILES[target]}"
    torch2circle.export(model, args, dynamic_batch=True).save(path)
    with pytest.raises(TargetError, match=re.escape("input 0 is float32[4, 7], the graph takes: float32[-1, 6]")):
        runtimes.run(target, path, [[drawn(4, 7).numpy()]])


def test_a_bundle_is_of_one_size(tmp_path: Path) -> None:
    model, args = eager(nn.Linear(6, 4), (4, 6))
    with pytest.raises(UserError, match="of one size"):
        torch2circle.export(model, args, dynamic_batch=True).save_qparams(tmp_path / "bundle")


def test_verify_finds_a_file_of_another_size(tmp_path: Path) -> None:
    model, args = floating(torch.relu, (4, 6))
    torch2circle.export(model, args).save(tmp_path / "fixed.tflite")
    with pytest.raises(UserError, match=re.escape("float32[4,6] instead of float32[4?,6]")):
        torch2circle.export(model, args, dynamic_batch=True).verify("litert", tmp_path / "fixed.tflite")


# ---- the command line and the documents


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    return int(caught.value.code or 0), *capsys.readouterr()


@pytest.mark.filterwarnings("ignore")
def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.jit.save(torch.jit.trace(seeded(nn.Linear(6, 4)), drawn(4, 6)), "model.pt")
    code, out, _ = run(capsys, "model.pt", "model.tflite", "--input", "4x6", "--dynamic-batch")
    assert (code, "verified" in out) == (0, True)
    assert "float32[4?,6]" in run(capsys, "inspect", "model.tflite")[1]
    assert run(capsys, "model.pt", "other.tflite", "--input", "4x6", "--dynamic-shape", "input=0:batch", "--no-verify")[0] == 0
    assert read("other.tflite").graph.inputs[0].type.open == (0,)
    for options, said in (
        (["--dynamic-shape", "y=0"], "input y"),
        (["--dynamic-shape", "input=7"], "dimension 7"),
        (["--dynamic-shape", "input"], "takes NAME=DIM"),
        (["--dynamic-batch", "--static-shapes"], "give one of"),
    ):
        code, _, err = run(capsys, "model.pt", "none.tflite", "--input", "4x6", *options)
        assert (code, said in err) != (0, False), err
        assert said in err
    assert not Path("none.tflite").exists()
