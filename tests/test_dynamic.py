"""Quantization at run time, stored weights, and reference models: what the cases of ``test_ops`` do not show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_to_reference_fx, prepare_fx

import torch2circle
import zoo
from cases.conv import stored
from cases.dynamic import bias, conv, eager, linear
from cases.making import Call, Made, Q, Seq, inputs
from cases.reference import reference
from torch2circle import runtimes
from torch2circle.errors import UnsupportedUse
from torch2circle.ir import DType, Graph, Node, Quant, Type, Value, Where
from torch2circle.lower.dynamic import Example, Steps
from torch2circle.optimize import optimize
from torch2circle.quant import Weights

TARGETS = ("onert", "litert")
MODES = ("hybrid", "dequantize", "exact")


def float_operators(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes() if node.out.type.dtype is DType.FLOAT32)


# -- the steps


ACTIVATIONS = {
    "both signs": [-3.1, 0.2, 5.7], "positive": [0.3, 4.0], "negative": [-2.0, -0.1], "symmetric": [-0.7, 0.7], "zeros": [0.0, 0.0],
    "small": [-1e-6, 3e-6], "smaller than float32 divides": [1e-40], "large": [-3e38, 1e38],
}  # fmt: skip


@pytest.mark.parametrize("count", [127, 255])
@pytest.mark.parametrize("x", ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_steps_are_those_that_pytorch_chooses(x: list[float], count: int) -> None:
    steps = Steps.of(torch.tensor(x), count)
    assert (steps.scale, steps.zero_point) == torch._choose_qparams_per_tensor(torch.tensor(x), count == 127)


@pytest.mark.parametrize("seed", range(8))
def test_two_right_ways_of_rounding_are_within_the_bound(seed: int) -> None:
    """The other way: rows with steps of their own around zero, as hybrid kernels have."""
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, 40))  # few products come nearest to the bound
    x = torch.from_numpy(rng.normal(rng.normal(), 1, (50, depth)).astype(np.float32))
    weight = stored((3, depth))
    torchs = Q.linear_dynamic(x, Q.linear_prepack(weight, bias(3)), True)
    step = x.abs().amax(1, keepdim=True) / 127
    other = nn.functional.linear((x / step).round() * step, weight.dequantize(), bias(3))
    bound = Example(x, Weights.of(weight, bias(3)), nn.functional.linear).bound(Steps.of(x, 127))
    assert (torchs - other).abs().max() <= bound


def test_a_scale_that_depends_on_the_data_is_for_dequantize_alone() -> None:
    for read in (lambda x: x, lambda x: torch.relu(x).dequantize()):
        model = Call(lambda x, read=read: read(torch.quantize_per_tensor_dynamic(x, torch.quint8, False)))
        with pytest.raises(UnsupportedUse, match="computed from the data"):
            torch2circle.export(model.eval(), inputs([(3, 5)]))


# -- the file


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("axis", [0, None])
def test_weights_stay_in_a_byte_each(axis: int | None, mode: str, target: str) -> None:
    kernel = conv("conv2d", (64, 32, 3, 3), (2, 32, 5, 7), [1, 1], [0, 0], [1, 1], 1, axis=axis)
    for (model, args), weights in ((linear(stored((64, 256), axis=axis), (2, 256)), 64 * 256), (kernel, 64 * 32 * 9)):
        assert len(torch2circle.export(model, args, dynamic=mode).to_bytes(target)) < 1.7 * weights


@pytest.mark.parametrize("mode", MODES)
def test_diagnostics_tell_what_is_computed(mode: str) -> None:
    model, args = eager(Seq(nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, 5)), (9, 17))
    notes = [f for f in torch2circle.export(model, args, dynamic=mode).diagnostics() if f.code == "dynamic"]
    assert [f.path for f in notes] == ["0", "2"]
    said = {"hybrid": "in its own way", "dequantize": "not rounded", "exact": "as PyTorch"}[mode]
    assert all(said in f.message for f in notes)


def test_hybrid_kernels_get_no_weight_with_a_zero_point() -> None:
    exported = torch2circle.export(*linear(stored((5, 17), axis=None, zero_points=3)), dynamic="hybrid")
    assert "not rounded" in exported.diagnostics()[0].message
    assert float_operators(exported.graph) == {"DEQUANTIZE": 1, "FULLY_CONNECTED": 1}


def test_clipping_of_a_result_to_its_input_is_told() -> None:
    made = conv("conv2d", (5, 4, 3, 2), (2, 4, 9, 11), [1, 1], [1, 0], [1, 1], 1)
    assert "dynamic-range" in {f.code for f in torch2circle.export(*made).diagnostics()}
    assert "dynamic-range" not in {f.code for f in torch2circle.export(*made, dynamic="exact").diagnostics()}


def test_weights_that_pytorch_cannot_unpack_are_refused() -> None:
    made = conv("conv3d", (5, 4, 3, 2, 2), (2, 4, 5, 7, 6), [1, 1, 1], [0, 0, 0], [1, 1, 1], 1, engine="qnnpack")
    with pytest.raises(UnsupportedUse, match="packed weights not supported: QNNPACK"):
        torch2circle.export(*made)


# -- reference models


def test_a_network_in_reference_form_computes_in_integers() -> None:
    torch.manual_seed(0)
    model, x = zoo.torchvision().models.mobilenet_v2().eval(), torch.randn(1, 3, 64, 64)
    prepared = prepare_fx(model, get_default_qconfig_mapping("fbgemm"), (x,))
    with torch.no_grad():
        prepared(x)
    exported = torch2circle.export(convert_to_reference_fx(prepared), (x,))
    for target in TARGETS:
        assert float_operators(exported.for_target(target)) == {"DEQUANTIZE": 1}
        if runtimes.available(target):
            report = exported.verify(target)
            assert report.ok() and all(c.share > 0.99 for c in report.operators)


def with_bias(value: float) -> Made:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(17, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)  # type: ignore[no-any-return]

    model, args = reference(Layer(), (9, 17))
    with torch.no_grad():
        model.layer.bias[2] = value  # type: ignore[index, union-attr]
    return model, args


def test_a_bias_that_does_not_fit_leaves_its_layer_in_float() -> None:
    small, large = (torch2circle.export(*with_bias(value)) for value in (1.0, 1e7))
    assert float_operators(small.graph) == {"DEQUANTIZE": 1}
    assert float_operators(large.graph) == {"DEQUANTIZE": 3, "FULLY_CONNECTED": 1}
    assert [f.code for f in large.diagnostics("litert") if f.path == "layer"] == ["island"]


A, B = Quant.per_tensor(0.03, 5), Quant.per_tensor(0.05, -7)
X = Value(Type((2, 4, 4, 3), DType.INT8, A), "x")


def node(op: str, type_: Type, *inputs: Value, by: str = "", **attrs: object) -> Value:
    return Node.make(op, inputs, [Value(type_, op.lower())], attrs, Where(op=by)).out


def folded(op: str, *, quantized_by: str = "aten::quantize_per_tensor", out: Quant = B) -> list[str]:
    """The operators that DEQUANTIZE, ``op``, QUANTIZE become; somebody else reads the floats, too."""
    x = node("DEQUANTIZE", Type(X.type.shape, DType.FLOAT32), X)
    y = node(op, x.type, x)
    z = node("QUANTIZE", replace(X.type, quant=out), y, by=quantized_by)
    graph = optimize(Graph((X,), (z, x), ("x",), ("z", "y")))
    return [n.op for n in graph.nodes()]


def test_only_what_the_model_itself_quantizes_is_folded() -> None:
    assert folded("TANH") == ["TANH", "DEQUANTIZE"]
    assert folded("TANH", quantized_by="quantized::tanh") == ["DEQUANTIZE", "TANH", "QUANTIZE"]
    assert folded("EXP") == ["DEQUANTIZE", "EXP", "QUANTIZE"]


def test_what_moves_integers_needs_no_quantize_behind() -> None:
    x = node("DEQUANTIZE", Type(X.type.shape, DType.FLOAT32), X)
    joined = node("CONCATENATION", Type((2, 4, 4, 6), DType.FLOAT32), x, x, axis=3, fused_activation_function="NONE")
    graph = optimize(Graph((X,), (joined, x), ("x",), ("joined", "x")))
    assert [n.op for n in graph.nodes()] == ["CONCATENATION", "DEQUANTIZE", "DEQUANTIZE"]
    other = node("DEQUANTIZE", x.type, Value(replace(X.type, quant=B), "other"))
    joined = node("CONCATENATION", joined.type, x, other, axis=3, fused_activation_function="NONE")
    graph = optimize(Graph((X,), (joined,), ("x",), ("joined",)))
    assert [n.op for n in graph.nodes()] == ["DEQUANTIZE", "DEQUANTIZE", "CONCATENATION"]
