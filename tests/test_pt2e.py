"""Models quantized by torchao's PT2E: its quantizers, files, islands, and what is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch2circle
from cases.making import seeded
from cases.pt2e import conv, pair
from evaluate import evaluate
from torch2circle import cli
from torch2circle.errors import QuantizationError, RecordError, TargetError, Torch2CircleError
from torch2circle.ir import DType, Graph, Node, Quant, Type, Value
from torch2circle.lower import LOWERINGS, lower
from torch2circle.optimize import optimize, rewrite, sums
from torch2circle.pipeline import ExportedModel
from torch2circle.record import record

pytest.importorskip("torchao", reason="PT2E is torchao's")

import torchao.quantization.pt2e as pt2e
import torchao.quantization.pt2e._affine_quantization as affine
import torchao.quantization.pt2e.quantizer.arm_inductor_quantizer as arm
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

pytestmark = pytest.mark.usefixtures("fresh_random_and_quiet")
TARGETS = ("onert", "litert")
DOCUMENT = Path(__file__).parents[1] / "docs/pt2e.md"
OURS = "tests/test_pt2e.py"


class Net(nn.Module):
    """A residual block, an inverted one, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.left = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.right = nn.Sequential(nn.Conv2d(6, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.grow, self.mix = (nn.Sequential(c, nn.ReLU6()) for c in (nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16)))
        self.shrink, self.drop, self.head = nn.Conv2d(16, 8, 1), nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        y = self.left(x)
        y += self.right(x)
        y = F.relu(y)
        y = y + self.shrink(self.mix(self.grow(y)))
        pooled: Tensor = self.head(self.drop(F.adaptive_avg_pool2d(y, 1).flatten(1)))
        return pooled


class Tail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.head = nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.drop(F.relu(self.first(x))))
        return result


def xnnpack(**config: Any) -> Quantizer:
    return XNNPACKQuantizer().set_global(get_symmetric_quantization_config(**config))


def x86_inductor(**config: Any) -> Quantizer:
    return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(**config))


def arm_inductor(**config: Any) -> Quantizer:
    return arm.ArmInductorQuantizer().set_global(arm.get_default_arm_inductor_quantization_config(**config))


class Mine(Quantizer):
    """Layers and what is next to them, with ``activation`` and ``weight``."""

    OPS = re.compile(r"aten\.(conv2d|linear|relu|add|hardtanh|max_pool2d|adaptive_avg_pool2d)")

    def __init__(self, activation: QuantizationSpec, weight: QuantizationSpec) -> None:
        super().__init__()
        self.activation, self.weight = activation, weight

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        for node in model.graph.nodes:
            if node.op == "call_function" and self.OPS.match(str(node.target)):
                data = {arg: self.activation for arg in node.args[:2] if isinstance(arg, torch.fx.Node)}
                if node.target in (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default):
                    data[node.args[1]] = self.weight
                node.meta["quantization_annotation"] = QuantizationAnnotation(data, self.activation, _annotated=True)
        return model

    def validate(self, model: torch.fx.GraphModule) -> None:
        pass


def int16(low: int = -32768) -> Quantizer:
    observer = pt2e.MinMaxObserver.with_args(eps=2.0**-20)
    return Mine(QuantizationSpec(torch.int16, observer, low, 32767, torch.per_tensor_symmetric), int8_weight())


def int8_weight(ends: tuple[int, int] = (-127, 127)) -> QuantizationSpec:
    return QuantizationSpec(torch.int8, pt2e.PerChannelMinMaxObserver, *ends, torch.per_channel_symmetric, ch_axis=0)


def blocks(granularity: Any) -> Quantizer:
    """torchao's own pair of operators."""

    def spec(dtype: torch.dtype, ends: tuple[int, int], mapping: Any, each: Any) -> QuantizationSpec:
        facts = {"target_dtype": dtype, "quant_min": ends[0], "quant_max": ends[1], "mapping_type": mapping, "granularity": each}
        types = {"eps": 2.0**-20, "scale_dtype": torch.float32, "zero_point_dtype": torch.int32}
        return QuantizationSpec(dtype, affine.AffineQuantizedMinMaxObserver.with_args(**facts, **types), *ends)

    activation = spec(torch.uint8, (0, 255), pt2e.MappingType.ASYMMETRIC, pt2e.PerTensor())
    return Mine(activation, spec(torch.int8, (-127, 127), pt2e.MappingType.SYMMETRIC, granularity))


IMAGE = (2, 3, 24, 24)


@cache
def example(shape: Sequence[int] = IMAGE) -> tuple[Tensor]:
    return (torch.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32)),)


def prepared(quantizer: Quantizer, model: nn.Module | None = None, shape: Sequence[int] = IMAGE, *, qat: bool = False) -> Any:
    model = model or seeded(Net())
    graph = torch.export.export(model.train(qat), example(shape)).module()
    made = (prepare_qat_pt2e if qat else prepare_pt2e)(graph, quantizer)
    with torch.no_grad():
        made(*example(shape))
    return made


def quantized(quantizer: Quantizer, model: nn.Module | None = None, shape: Sequence[int] = IMAGE, *, qat: bool = False) -> Any:
    made = prepared(quantizer, model, shape, qat=qat)
    if qat:
        pt2e.move_exported_model_to_eval(made)
    return convert_pt2e(made)


def exported(quantizer: Quantizer, model: nn.Module | None = None, shape: Sequence[int] = IMAGE, **options: Any) -> ExportedModel:
    return torch2circle.export(quantized(quantizer, model, shape), example(shape), **options)


def in_float(graph: Graph) -> set[str]:
    """Operators on floats, but for those at the edges."""
    return {n.op for n in graph.nodes() if n.op not in ("QUANTIZE", "DEQUANTIZE") and n.out.type.dtype is DType.FLOAT32}


def said(model: ExportedModel, target: str) -> list[str]:
    return [finding.message for finding in model.diagnostics(target) if finding.code == "island"]


# ---- quantizers


@pytest.mark.parametrize("config", [{"is_per_channel": True}, {}], ids=["per_channel", "per_tensor"])
def test_xnnpack_is_integer_throughout(config: dict[str, Any]) -> None:
    model = exported(xnnpack(**config))
    for target in TARGETS:
        graph = model.for_target(target)
        assert not in_float(graph)
        assert not said(model, target)
        count = Counter(node.op for node in graph.nodes())
        assert (count["TRANSPOSE"], count["ADD"], count["DEPTHWISE_CONV_2D"]) == (1, 2, 1)
        assert count["RELU"] == count["RELU6"] == 0
        assert model.verify(target).ok()


@pytest.mark.parametrize("quantizer", [x86_inductor, lambda: x86_inductor(reduce_range=True)], ids=["full", "reduced"])
def test_x86_leaves_its_last_layer_in_float_and_no_other(quantizer: Callable[[], Quantizer]) -> None:
    model = exported(quantizer())
    for target in TARGETS:
        assert in_float(model.for_target(target)) <= {"FULLY_CONNECTED", "MUL", "ADD"}  # onert multiplies by the scales behind the sums
        (island,) = said(model, target)
        assert re.search(rf"FULLY_CONNECTED computes in float: the model does not quantize its result \({OURS}:\d+ in head ", island)
        assert model.verify(target).ok()


def test_trained_with_its_quantization() -> None:
    """Without batch norm: torchao takes most of a minute to look for it. What it makes of that has the same operators."""
    model = torch2circle.export(quantized(xnnpack(is_per_channel=True, is_qat=True), Tail(), (3, 8), qat=True), example((3, 8)))
    for target in TARGETS:
        assert not in_float(model.for_target(target))
        assert model.verify(target).ok()


def test_trained_with_batch_norm() -> None:
    """The norm, which PyTorch's training folds into the weights it rounds, is a part of the convolution's integers."""
    body = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    model = torch2circle.export(quantized(xnnpack(is_per_channel=True, is_qat=True), body, qat=True), example())
    for target in TARGETS:
        ops = [node.op for node in model.for_target(target).nodes()]
        assert [op for op in ops if op not in ("TRANSPOSE", "QUANTIZE", "DEQUANTIZE")] == ["CONV_2D"]
        assert model.verify(target).ok()


def test_arm_leaves_what_it_does_not_quantize_in_float() -> None:
    """Its last sum and average; the pool in front is quantized behind, which is as good as before."""
    model = exported(arm_inductor())
    for target in TARGETS:
        floats = [n for n in model.for_target(target).nodes() if n.out.type.dtype is DType.FLOAT32 and n.op != "DEQUANTIZE"]
        assert {n.where.module for n in floats} <= {"shrink", "head", ""}
        assert any(re.search(rf"CONV_2D computes in float \({OURS}:\d+ in shrink ", each) for each in said(model, target))
        assert model.verify(target).ok()


def test_int16_is_for_litert_and_one() -> None:
    model = exported(int16())
    assert not in_float(model.for_target("litert"))
    assert model.verify("litert").ok()
    for target, weight in (("litert", DType.INT8), ("one", DType.INT16)):
        layers = [node for node in model.for_target(target).nodes() if "CONV" in node.op or node.op == "FULLY_CONNECTED"]
        kinds = {tuple(v.type.dtype for v in (*node.inputs, node.out) if v is not None) for node in layers}
        assert kinds == {(DType.INT16, weight, DType.INT64, DType.INT16)}
    with pytest.raises(TargetError) as raised:
        model.for_target("onert")
    assert raised.value.hint == "--target litert and one may run them"


def test_int16_with_a_zero_point_is_refused() -> None:
    asymmetric = QuantizationSpec(torch.int16, pt2e.MinMaxObserver, -32768, 32767, torch.per_tensor_affine)
    with pytest.raises(Torch2CircleError, match="zero_point of int16 of quantized_decomposed::quantize_per_tensor not supported"):
        exported(Mine(asymmetric, int8_weight()), nn.Linear(8, 4).eval(), (3, 8))


@pytest.mark.parametrize("weight", [int8_weight((-8, 7)), None], ids=["int8_storage", "int4"])
def test_weights_of_four_bits_are_right_as_int8(weight: QuantizationSpec | None) -> None:
    activation = QuantizationSpec(torch.uint8, pt2e.MinMaxObserver, 0, 255, torch.per_tensor_affine)
    quantizer = xnnpack(is_per_channel=True, weight_qmin=-8, weight_qmax=7) if weight is None else Mine(activation, weight)
    model = exported(quantizer, nn.Linear(8, 4).eval(), (3, 8))
    weights = [v for n in model.for_target("litert").nodes() if n.op == "FULLY_CONNECTED" for v in n.inputs[1:2] if v]
    assert np.abs(weights[0].array()).max() <= 8
    assert all(model.verify(target).ok() for target in TARGETS)


@pytest.mark.parametrize("quantizer", [lambda: xnnpack(is_per_channel=True, is_dynamic=True), lambda: x86_inductor(is_dynamic=True)])
@pytest.mark.parametrize("mode", ["hybrid", "exact"])
def test_scales_of_run_time(quantizer: Callable[[], Quantizer], mode: str) -> None:
    model = exported(quantizer(), nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval(), (3, 16), dynamic=mode)
    for target in TARGETS:
        operators = {node.op for node in model.for_target(target).nodes()}
        assert ("ROUND" in operators) is (mode == "exact")
        assert model.verify(target).ok()


def test_torchaos_own_pair() -> None:
    layers = lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()  # noqa: E731
    grouped = {"MUL", "RESHAPE", "FULLY_CONNECTED"}  # scales of groups multiply the integers of the weight
    for granularity, floats in ((pt2e.PerTensor(), set()), (pt2e.PerAxis(0), set()), (pt2e.PerGroup(4), grouped)):
        model = exported(blocks(granularity), layers(), (3, 8))
        for target in TARGETS:
            assert in_float(model.for_target(target)) == floats
            assert bool(said(model, target)) is bool(floats)
            assert model.verify(target).ok()


# ---- files


def test_a_saved_program_is_opened_by_the_loader_and_the_command_line(tmp_path: Path) -> None:
    path, made = tmp_path / "model.pt2", quantized(xnnpack(is_per_channel=True))
    torch.export.save(torch.export.export(made, example()), path)
    alone = "import sys, torch2circle; torch2circle.load(sys.argv[1])"  # where nothing else has made the operators
    subprocess.run([sys.executable, "-c", alone, str(path)], check=True, capture_output=True)
    graphs = [str(torch2circle.export(model, example()).for_target("litert")) for model in (made, torch2circle.load(path))]
    operators = [re.findall(r"= ([A-Z_0-9]+)\(", graph) for graph in graphs]
    assert operators[0] == operators[1]
    with pytest.raises(SystemExit) as left:
        cli.main([str(path), str(tmp_path / "model.circle")])
    assert not left.value.code


def test_the_examples_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|sh)\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, str(DOCUMENT), "exec"), names)
            continue
        for line in text.splitlines():
            with pytest.raises(SystemExit) as left:
                cli.main(line.split()[1:])
            assert not left.value.code
    assert {"model.circle", "model.tflite", "model.pt2"} <= {path.name for path in tmp_path.iterdir()}


# ---- what is refused


def fails(model: Any, error: type[Torch2CircleError], message: str, place: str, hint: str, shape: Sequence[int] = IMAGE) -> None:
    with pytest.raises(error, match=message) as raised:
        torch2circle.export(model, example(shape))
    assert re.search(place, str(raised.value.where)), raised.value.where
    assert hint in (raised.value.hint or "")


def test_graphs_that_observe_or_train_are_refused_with_module_and_line() -> None:
    static = prepared(xnnpack(is_per_channel=True))
    fails(static, RecordError, "it still holds an observer: activation_post_process_1 ", rf"{OURS}:\d+ in stem.0", "convert_pt2e")
    training, shape = prepared(xnnpack(is_qat=True), Tail(), (3, 8), qat=True), (3, 8)
    fails(training, RecordError, "it still holds an observer: activation_post_process_", rf"{OURS}:\d+ in ", "convert_pt2e", shape)
    fails(convert_pt2e(training), RecordError, "random numbers: aten::dropout", rf"{OURS}:\d+ in drop", "move_exported_model", shape)
    graph = torch.export.export(seeded(Net()).train(), example()).module()
    fails(graph, RecordError, "writes its own state .*num_batches_tracked", rf"{OURS}:\d+ in stem.1", "move_exported_model")
    alone = nn.BatchNorm2d(3).train()
    alone.num_batches_tracked = None
    graph = torch.export.export(alone, example()).module()
    fails(graph, RecordError, "exported in train mode, its batch norm", "batch_norm", "move_exported_model_to_eval")


def test_observers_that_saw_nothing_are_found() -> None:
    graph = torch.export.export(seeded(Net()), example()).module()
    empty = convert_pt2e(prepare_pt2e(graph, xnnpack(is_per_channel=True)))
    fails(empty, QuantizationError, "1 scale\\(s\\) for 6 channels", rf"{OURS}:\d+ in stem.0", "calibrate")
    graph = torch.export.export(seeded(Net()), example()).module()
    model = torch2circle.export(convert_pt2e(prepare_pt2e(graph, xnnpack())), example())
    assert any(finding.code == "uncalibrated" and OURS in finding.message for finding in model.findings)


class Cut(nn.Module):
    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        size = count.item()
        torch._check(size >= 0)
        torch._check(size <= 2)
        return x[:, :size] * 2


def test_a_size_that_depends_on_data_is_refused_with_its_line() -> None:
    program = torch.export.export(Cut(), (*example(), torch.tensor(1)))
    with pytest.raises(RecordError, match="reads a value that depends on its input") as raised:
        torch2circle.export(program)
    assert raised.value.where is not None and raised.value.where.file == OURS


# ---- sums


def summed(out: Quant, other: Quant, act: str, scale: float) -> Graph:
    """A layer in float on integers, and something in integers that is added to it."""
    rng, shape = np.random.default_rng(5), (1, 6, 7, 4)
    x, y = (Value(Type(shape, DType.INT8, quant), name) for quant, name in ((Quant.per_tensor(0.031, 3), "x"), (other, "y")))
    kernel, added = rng.integers(-127, 128, (4, 1, 1, 4)).astype(np.int8), rng.normal(size=4).astype(np.float32)
    stored = Value(Type(kernel.shape, DType.INT8, Quant.per_tensor(scale, 0)), "w", data=torch2circle.ir.Constant.of(kernel))
    bias = Value(Type((4,), DType.FLOAT32), "b", data=torch2circle.ir.Constant.of(added))
    floats = [Node.make("DEQUANTIZE", (v,), (Value(Type(v.type.shape, DType.FLOAT32), f"{v.name}.float"),)).out for v in (x, stored, y)]
    place = torch2circle.ir.Where("aten::quantize_per_tensor")
    attrs = {"padding": "VALID", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
    layer = Node.make("CONV_2D", (*floats[:2], bias), (Value(floats[0].type, "c"),), {**attrs, "fused_activation_function": "NONE"}).out
    total = Node.make("ADD", (floats[2], layer), (Value(layer.type, "s"),), {"fused_activation_function": act}).out
    made = Node.make("QUANTIZE", (total,), (Value(Type(shape, DType.INT8, out), "q"),), where=place).out
    return Graph((x, y), (made,), ("x", "y"), ("q",))


@pytest.mark.parametrize("ratio", [0.1, 0.6, 1.0, 1.01, 1.5, 2.0])
@pytest.mark.parametrize("act", ["NONE", "RELU"])
def test_a_sum_is_off_by_one_step_at_most(ratio: float, act: str) -> None:
    """Whatever the layer's own range: small, as wide as the result's, or far beyond it."""
    for zero_point, spread in ((-128, 0.0004), (7, 0.004), (100, 0.04)):
        out = Quant.per_tensor(0.0371, zero_point)
        graph = summed(out, Quant.per_tensor(float(np.float32(0.0371 * ratio)), -11), act, spread)
        fired = Counter[str]()
        after = rewrite(graph, sums.RULES, fired)
        assert fired == {"fold_sum": 1}
        assert not in_float(after)
        (before,), (now,) = evaluate(graph), evaluate(after)
        assert np.abs(before.astype(int) - now).max() <= 1
        assert len(set(before.flat)) > 2  # not the ends alone


@pytest.mark.parametrize("other", [Quant.per_tensor(0.0371 * 2.1, 0), Quant.per_tensor(1e36, 0)], ids=["too_coarse", "a_mask"])
def test_a_sum_that_would_be_further_off_stays_in_float(other: Quant) -> None:
    graph = summed(Quant.per_tensor(0.0371, 0), other, "NONE", 0.004)
    fired = Counter[str]()
    assert str(rewrite(graph, sums.RULES, fired)) == str(graph)
    assert not fired


def test_eight_and_sixteen_bits_do_not_meet_in_an_operator() -> None:
    """Kernels look at the first operand alone, and would take the other for the same."""

    def model(x: Tensor, y: Tensor) -> Tensor:
        return pair(pair(x, 0.0317, 0, torch.int8) + pair(y, 0.000317, 0, torch.int16), 0.0417, 0, torch.int8)

    recording = record(model, (torch.randn(3, 4), torch.randn(3, 4)), whole=LOWERINGS)
    assert in_float(optimize(lower(recording).graph)) == {"ADD"}

    def joined(x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([pair(x, 0.0317, 0, torch.int8), pair(y, 0.0317, 0, torch.int16)])

    recording = record(joined, (torch.randn(3, 4), torch.randn(3, 4)), whole=LOWERINGS)
    assert in_float(optimize(lower(recording).graph)) == {"CONCATENATION"}


def test_scales_of_input_channels_are_computed_in_float() -> None:
    """No sum in integers has them; XNNPACKQuantizer gives them to transposed convolutions."""
    model = exported(xnnpack(is_per_channel=True), nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2), nn.ReLU()).eval(), (2, 3, 5, 6))
    for target in TARGETS:
        assert said(model, target)
        assert model.verify(target).ok()


def test_a_layer_in_float_behind_integers_is_told() -> None:
    model = torch2circle.export(nn.Module.eval(Functional(lambda x: conv(pair(x)))), example((1, 3, 5, 7)))
    assert all("CONV_2D computes in float: the model does not quantize its result" in said(model, target)[0] for target in TARGETS)


class Functional(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
