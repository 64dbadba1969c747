"""Models that torchao quantized: what the cases of ``test_ops`` do not show."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torch2circle
from cases.conv import stored
from cases.dynamic import linear
from cases.making import RUNTIMES, Call, Made, Seq, inputs
from cases.torchao import BITS, FOUR, FOUR_ROUNDED, ROUNDED, STORED, affine, group, layer, of, quantized, row
from torch2circle import format as fileformat
from torch2circle import runtimes
from torch2circle.errors import RecordError, UnsupportedOps
from torch2circle.ir import Array, Constant, DType, Graph, Node, Quant, Type, Value
from torch2circle.lower.by_row import RowSteps
from torch2circle.show import weight_bytes

pytestmark = pytest.mark.usefixtures("fresh_random_and_quiet")

CONFIGS = {
    "stored": of(STORED), "rounded": of(ROUNDED), "affine": of(ROUNDED, act_mapping_type=affine),
    "four": of(FOUR, granularity=row, **BITS), "groups": of(FOUR_ROUNDED, weight_granularity=group, **BITS),
}  # fmt: skip


def graph(model: Any, args: Any = None) -> str:
    return str(torch2circle.export(model, args, dynamic="exact").graph)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_an_exported_program_gives_the_same_file(config: Callable[[Any], Any], tmp_path: Path) -> None:
    model, args = quantized(Seq(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8, bias=False)), (2, 3, 24), config)
    wanted = graph(model, args)
    torch.export.save(torch.export.export(model, args), tmp_path / "model.pt2")
    assert graph(torch2circle.load(tmp_path / "model.pt2")).replace("%args_0", "%input") == wanted


def test_a_state_of_its_tensors_is_read(tmp_path: Path) -> None:
    made = "torchao_model"
    (tmp_path / f"{made}.py").write_text(
        "import torch\nfrom torchao.quantization import Int8WeightOnlyConfig, quantize_\n"
        "def make():\n    model = torch.nn.Sequential(torch.nn.Linear(16, 8)).eval()\n"
        "    quantize_(model, Int8WeightOnlyConfig())\n    return model\n"
    )
    model, args = layer(of(STORED), (2, 16), 8)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    loaded = torch2circle.load(f"{tmp_path / made}.py:make", state=tmp_path / "state.pt")
    with torch.no_grad():
        assert torch.equal(loaded(*args), model(*args))  # type: ignore[operator]


def test_every_machine_gives_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchao multiplies uint8 where the processor has instructions for it, and takes 128 times the weights away again."""
    graphs = set()
    for unsigned in (False, True):
        model, args = layer(of(ROUNDED))
        intmm = pytest.importorskip("torchao.kernel.intmm")
        monkeypatch.setattr(intmm, "_cpu_is_amx_tile_supported", lambda unsigned=unsigned: not unsigned)
        monkeypatch.setattr(intmm, "_cpu_is_vnni_supported", lambda unsigned=unsigned: unsigned)
        graphs.add(graph(model, args))
    assert len(graphs) == 1


ROWS = {"both signs": [-3.1, 0.2, 5.7], "positive": [0.3, 4.0], "negative": [-2.0, -0.1], "zeros": [0.0, 0.0], "small": [-1e-9, 3e-9]}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("x", ROWS.values(), ids=ROWS)
def test_steps_are_those_that_torchao_chooses(x: list[float], symmetric: bool) -> None:
    given = torch.tensor([x, x[::-1]]) * torch.tensor([[1.0], [1.7]])
    least = torch.finfo(torch.float32).eps
    pytest.importorskip("torchao.quantization")
    ops, block = torch.ops.torchao, [1, len(x)]
    kind = "SYMMETRIC" if symmetric else "ASYMMETRIC"
    scale, zero_point = ops.choose_qparams_affine(given, kind, block, torch.int8, -128, 127, least, None, torch.int8, True)
    integers = ops.quantize_affine(given, block, scale, zero_point, torch.int8, -128, 127)
    steps = RowSteps.of(given, symmetric, -128, 127, least, rows=True)
    assert torch.equal(steps.scale, scale) and torch.equal(steps.zero_point, zero_point.float())
    assert torch.equal(steps.rounded(given), (integers.float() - zero_point) * scale)


def encoder(config: Callable[[Any], Any]) -> Made:
    return quantized(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), (2, 5, 32), config)


@pytest.mark.parametrize(("config", "dynamic", "least"), [
    (STORED, "hybrid", 90), (ROUNDED, "exact", 90), (ROUNDED, "hybrid", 35), (ROUNDED, "dequantize", 35)])  # fmt: skip
def test_an_encoder_layer_is_near_pytorch(config: str, dynamic: str, least: float) -> None:
    """``least`` is in dB: 90 are float32's own, and an activation of 8 bits in each of two right ways leaves some 40."""
    exported = torch2circle.export(*encoder(of(config)), dynamic=dynamic)
    for runtime in filter(runtimes.available, RUNTIMES):
        report = exported.verify(runtime)
        assert report.ok() and report.outputs[0].sqnr > least


@pytest.mark.parametrize("target", RUNTIMES)
def test_weights_are_a_quarter_of_the_float_models(target: str) -> None:
    plain, args = Seq(nn.Linear(256, 256)).eval(), inputs([(2, 256)])
    wanted = len(torch2circle.export(plain, args).to_bytes(target))
    for config in (of(STORED), of(ROUNDED)):
        assert len(torch2circle.export(*layer(config, (2, 256), 256)).to_bytes(target)) < 0.27 * wanted
    grouped = layer(of(STORED, granularity=lambda ao: ao.PerGroup(64)), (2, 256), 256)
    # a scale of four bytes for each 64 weights
    assert len(torch2circle.export(*grouped).to_bytes(target)) < 0.29 * wanted


def test_weights_that_stay_float_are_told() -> None:
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis, quantize_

    model = Seq(nn.Conv2d(4, 5, 3)).eval()
    quantize_(model, IntxWeightOnlyConfig(torch.int4, granularity=PerAxis(0)), lambda part, _: isinstance(part, nn.Conv2d))
    found = torch2circle.export(model, inputs([(2, 4, 9, 11)])).diagnostics()
    assert [(f.code, f.path) for f in found] == [("float-weights", "0")] and "1x4x1x1" in found[0].message


@pytest.mark.parametrize("shape", [(3, 16), (6, 8), (12, 4), (24, 2), (4, 12)])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_a_weight_may_be_another_shape_than_it_is_stored_in(shape: tuple[int, int], axis: int | None) -> None:
    """Rows that are parts of a row keep their scales; where a row is a part of the weight's, it is a float constant."""
    weight = stored((12, 4), axis=axis)
    model = Call(lambda x: nn.functional.linear(x, weight.dequantize().reshape(shape))).eval()
    exported = torch2circle.export(model, inputs([(5, shape[1])]))
    sizes = {target: weight_bytes(exported.for_target(target)) for target in RUNTIMES}
    whole = axis == 0 and shape[1] % 4 == 0
    assert ("int8" in sizes["litert"] and "uint8" in sizes["onert"]) == (whole or (axis is None and shape == (12, 4)))
    for runtime in filter(runtimes.available, RUNTIMES):
        assert exported.verify(runtime).ok(lsb=0.1)  # float32's own order of sums


def test_a_table_of_groups_is_told_to_be_float() -> None:
    from torchao.quantization import IntxWeightOnlyConfig, PerAxis, PerGroup, quantize_

    for granularity, codes in ((PerAxis(0), set()), (PerGroup(8), {"float-weights"})):
        model = Seq(nn.Embedding(50, 16)).eval()
        quantize_(model, IntxWeightOnlyConfig(torch.int4, granularity=granularity), lambda part, _: isinstance(part, nn.Embedding))
        exported = torch2circle.export(model, (torch.tensor([[3, 1, 49], [0, 7, 7]]),))
        assert {f.code for f in exported.diagnostics()} == codes
        for runtime in filter(runtimes.available, RUNTIMES):
            assert exported.verify(runtime).ok(lsb=0.1)  # float32's own


@pytest.mark.parametrize("shape", [(3, 5), (4, 6), (0, 3), (7,)])
def test_integers_of_4_bits_come_back_from_the_file(shape: tuple[int, ...]) -> None:
    q = np.random.default_rng(0).integers(-8, 8, shape).astype(np.int8)
    weight = Value(Type(shape, DType.INT4, Quant.per_tensor(0.1, 0)), "w", data=Constant.of(q))
    out = Node.make("DEQUANTIZE", (weight,), (Value(Type(shape, DType.FLOAT32), "y"),)).out
    content = fileformat.to_bytes(Graph((), (out,), (), ("y",)), identifier="TFL3")
    read = fileformat.read(content).graph.nodes()[0].inputs[0]
    assert read is not None and read.type == weight.type and np.array_equal(read.array(), q)
    assert weight.type.nbytes == (q.size + 1) // 2
    in_file = bytes((int(low) & 15) | ((int(high) & 15) << 4) for low, high in zip(*pairs(q.ravel()), strict=True))
    assert in_file in content


def pairs(q: Array) -> tuple[Array, Array]:
    return q[::2], np.append(q[1::2], [0] * (len(q) % 2))


def test_what_needs_more_than_4_bits_keeps_its_byte() -> None:
    """On LiteRT half a byte holds a weight, if every integer of it is from -8 to 7."""
    for largest, bytes_each in ((7, 0.5), (8, 1)):
        integers = torch.full((64, 64), -8, dtype=torch.int8)
        integers[5, 7] = largest
        model, args = linear(torch._make_per_tensor_quantized_tensor(integers, 0.01, 0), (2, 64), biased=False)
        exported = torch2circle.export(model, args)
        assert weight_bytes(exported.for_target("litert"))["int4" if bytes_each < 1 else "int8"] == 64 * 64 * bytes_each
        assert "int4" not in weight_bytes(exported.for_target("onert"))


def test_other_tensors_are_refused_by_name() -> None:
    model, args = layer(of("Float8WeightOnlyConfig"))
    with pytest.raises(RecordError, match=r"no file holds: 0\.weight \(Float8Tensor\)") as raised:
        torch2circle.export(model, args)
    assert "Int8WeightOnlyConfig" in str(raised.value)


def test_rounded_by_rows_is_for_linear_layers() -> None:
    pytest.importorskip("torchao.quantization")

    def rounded(x: Tensor) -> Tensor:
        ops, block = torch.ops.torchao, [1, 5]
        scale, zero_point = ops.choose_qparams_affine(x, "SYMMETRIC", block, torch.int8, -128, 127, None, None, torch.int8, True)
        integers = ops.quantize_affine(x, block, scale, zero_point, torch.int8, -128, 127)
        return torch.relu(ops.dequantize_affine(integers, block, scale, zero_point, torch.int8, -128, 127))

    with pytest.raises(UnsupportedOps, match="not a linear layer by rows"):
        torch2circle.export(Call(rounded).eval(), inputs([(3, 5)]))


def test_the_page_about_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not runtimes.available("litert"):
        pytest.skip("the page verifies in LiteRT")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "torchao.md").read_text(encoding="utf-8")
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), "torchao.md", "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"model.tflite", "model.pt2", "model.circle"}
    assert capsys.readouterr().out.splitlines()[-1] == "True"


@pytest.mark.parametrize("shape", [(2, 24), (2, 3, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_one_behind_the_other_keep_their_integers(shape: tuple[int, ...], bias: bool) -> None:
    layers = Seq(nn.Linear(24, 16, bias=bias), nn.Linear(16, 8, bias=bias), nn.Linear(8, 8, bias=bias))
    model, args = quantized(layers, shape, of(STORED))
    exported = torch2circle.export(model, args)
    assert weight_bytes(exported.for_target("litert"))["int8"] == 24 * 16 + 16 * 8 + 8 * 8
    assert [node.op for node in exported.for_target("litert").nodes()].count("FULLY_CONNECTED") == 3
    if runtimes.available("litert"):
        assert exported.verify("litert").ok


class Bare(nn.Module):
    """A product with stored integers that nothing scales: no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("integers", torch.arange(-60, 60, dtype=torch.int8).reshape(8, 15))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, self.integers.t().to(torch.float32)) - 3.0


def test_a_product_with_integers_that_is_no_layer_is_one_in_float() -> None:
    model, x = Bare().eval(), torch.linspace(-1, 1, 30).reshape(2, 15)
    exported = torch2circle.export(model, (x,))
    assert weight_bytes(exported.graph)["float32"] >= 8 * 15 * 4
    if runtimes.available("litert"):
        assert exported.verify("litert").ok


MEMORY = """
import sys, threading, time, warnings
warnings.simplefilter("ignore")
import torch
from torch import nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_
import torch2circle

def own():
    return int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1]) << 10

def made(layers, width):
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers))).eval()
    quantize_(model, getattr(sys.modules["__main__"], sys.argv[1])())
    return model

def export(model, width):
    torch2circle.export(model, (torch.ones(1, width),)).save("out.tflite")

export(made(1, 64), 64)     # what is imported and started once
model = made(10, 3072)
before, peak, done = own(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, own())
        time.sleep(0.002)

thread = threading.Thread(target=watch)
thread.start()
export(model, 3072)
done = True
thread.join()
print(peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_integer_weights_stay_integers_in_memory(config: str, tmp_path: Path) -> None:
    """90 MB of them in ten layers, which PyTorch's products want in float (36 MB) or transposed, one layer after the other."""
    done = subprocess.run([sys.executable, "-c", MEMORY, config], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 160 << 20  # four layers in float, with what allocators keep; in float all have 360 MB
