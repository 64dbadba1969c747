"""What other converters were seen to get wrong, each as a test of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao import quantization as Q
from torch.ao.nn.quantized import FloatFunctional

import torch2circle
from cases.making import NCHW, SYMMETRIC, Call, Joined, Seq, Stubbed, eager, floating, inputs, ints, seeded
from torch2circle import format as fileformat
from torch2circle.arithmetic import quantize_bias
from torch2circle.errors import QuantizationError, RecordError
from torch2circle.ir import Graph, Node

RUNTIMES = ("onert", "litert")


def graphs(made: tuple[nn.Module, tuple[object, ...]]) -> list[Graph]:
    exported = torch2circle.export(*made)
    return [exported.for_target(target) for target in RUNTIMES]


def nodes(graph: Graph, *ops: str) -> list[Node]:
    return [node for node in graph.nodes() if node.op in ops]


def test_an_overflowing_bias_keeps_its_sign() -> None:
    for sign in (1, -1):
        made = quantize_bias(np.array([sign * 1e6]), np.float32(1e-3), np.array([1e-7], np.float32))
        assert np.sign(made.q[0]) == sign
        assert made.q[0] * float(made.quant.scale[0]) == pytest.approx(sign * 1e6, rel=1e-6)


def test_a_bias_beyond_24_bits_is_exact() -> None:
    wanted = 2**25 + 1  # which float32 does not hold
    made = quantize_bias(np.array([wanted * 2.0**-20]), np.float32(2.0**-10), np.array([2.0**-10], np.float32))
    assert made.q[0] == wanted


def test_the_scale_of_a_bias_is_the_product_of_the_other_two() -> None:
    for made in (eager(nn.Conv2d(3, 5, 3), NCHW), eager(nn.Linear(7, 5), (6, 7), weight=SYMMETRIC), eager(nn.Conv1d(3, 5, 3), (2, 3, 9))):
        for graph in graphs(made):
            for node in nodes(graph, "CONV_2D", "FULLY_CONNECTED"):
                x, weight, bias = (v.type.quant for v in node.inputs[:3])  # type: ignore[union-attr]
                np.testing.assert_array_equal(bias.scale, x.scale * weight.scale)
                assert not bias.zero_point.any()


def test_a_transposed_weight_has_its_scales_at_the_output_channels() -> None:
    exported = torch2circle.export(*eager(nn.ConvTranspose2d(3, 5, 3, 2, groups=1), NCHW, weight=SYMMETRIC))
    for target in RUNTIMES:
        assert exported.verify(target).ok()


@pytest.mark.parametrize("move", [lambda a: a[:, 1:3], lambda a: a.reshape(2, -1), lambda a: F.pad(a, (1, 2)), lambda a: a.transpose(1, 2)])
def test_what_moves_integers_changes_no_scale(move: object) -> None:
    for graph in graphs(ints(move, (2, 5, 7, 3))):
        assert len({v.type.quant for v in graph.values() if v.type.quant}) == 1


def test_a_pad_of_integers_pads_with_the_zero_point() -> None:
    model, args = ints(lambda a: F.pad(a, (1, 1)), (2, 5, 7, 3))
    graph = torch2circle.export(model, args).for_target("litert")
    assert not nodes(graph, "PADV2")  # PAD is with real zero
    model, args = ints(lambda a: F.pad(a, (1, 1), value=1.5), (2, 5, 7, 3))
    (node,) = nodes(torch2circle.export(model, args).for_target("litert"), "PADV2")
    value = node.inputs[2]
    assert value is not None and value.type.quant == node.inputs[0].type.quant  # type: ignore[union-attr]
    assert value.array() == round(1.5 / value.type.quant.scale[0]) + value.type.quant.zero_point[0]  # type: ignore[union-attr]


def test_a_max_pool_never_pads_with_zero() -> None:
    """All numbers are negative: a padding of real zero would win."""
    model, (x,) = ints(lambda a: F.max_pool2d(a, 3, 2, 1), (2, 5, 8, 11))
    exported = torch2circle.export(model, (-x.abs() - 0.5,))
    for target in RUNTIMES:
        assert exported.verify(target).lsb == 0


def test_softmax_keeps_the_scale_that_pytorch_gave_it() -> None:
    for scale in (1 / 256, 1 / 255):
        for graph in graphs(ints(lambda a, scale=scale: torch.ops.quantized.softmax(a, -1, scale, 0), (6, 7))):
            kept = [v.type.quant.scale[0] for v in graph.values() if v.type.quant is not None]
            assert np.float32(scale) in kept


class Shared(nn.Module):
    """One layer called on tensors of two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.first, self.second = nn.Linear(7, 7), nn.Linear(7, 7), FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.second.add(self.layer(self.first(y)), y)


def test_a_bias_shared_by_two_calls_has_the_scale_of_each() -> None:
    exported = torch2circle.export(*eager(Shared(), (6, 7), weight=SYMMETRIC))
    linear = nodes(exported.graph, "FULLY_CONNECTED")
    biases = {node.where.module: [] for node in linear}  # type: ignore[var-annotated]
    for node in linear:
        biases[node.where.module].append(node.inputs[2].type.quant.scale[0])  # type: ignore[union-attr]
    assert any(len(set(scales)) == 2 for scales in biases.values())
    for target in RUNTIMES:
        assert exported.verify(target).ok()


def test_a_channel_without_range_stays_usable() -> None:
    """Its scale is an eps: the bias would not fit int32 at it."""
    conv = nn.Conv2d(3, 5, 3)
    model, args = Seq(conv), NCHW

    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    model, made = Stubbed(Dead(), 1), inputs([args])
    seeded(model)
    with torch.no_grad():
        conv.weight[2].zero_()
        conv.bias[2] = 3.0  # type: ignore[index]
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    Q.prepare(model, inplace=True)
    model(*made)
    exported = torch2circle.export(Q.convert(model), made)
    assert [f.code for f in exported.findings if f.code == "bias-overflow"] or conv.bias[2] / 1e-7 < 2**31  # type: ignore[index]
    for target in RUNTIMES:
        assert exported.verify(target).ok()


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_scale_that_is_no_positive_number_is_refused(scale: float) -> None:
    def broken(x: Tensor) -> Tensor:
        made = torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)
        return torch.ops.quantized.add(made, made, scale, 0).dequantize()

    with pytest.raises((QuantizationError, RecordError)):
        torch2circle.export(Call(broken).eval(), inputs([(2, 3)]))


def test_a_huge_scale_is_kept() -> None:
    def huge(x: Tensor) -> Tensor:
        return torch.quantize_per_tensor(x * 1e32, 1.09e32, 3, torch.quint8).dequantize() * 1e-32

    for graph in graphs((Call(huge).eval(), inputs([(2, 3)]))):
        assert np.float32(1.09e32) in [v.type.quant.scale[0] for v in graph.values() if v.type.quant]


def test_several_inputs_and_outputs_of_any_shape() -> None:
    def run(pair: tuple[Tensor, Tensor], table: dict[str, Tensor]) -> dict[str, object]:
        return {"sum": pair[0] + pair[1], "rest": [table["a"] * 2, (table["a"], pair[0])]}

    a, b, c = inputs([(2, 3), (2, 3), (5,)])
    exported = torch2circle.export(Call(run).eval(), ((a, b), {"a": c}))
    assert len(exported.graph.inputs) == 3
    assert len(exported.graph.outputs) == 4
    assert len(set(exported.graph.output_names)) == 4


def test_no_bias_is_a_bias_of_zeros() -> None:
    for graph in graphs(eager(nn.Conv2d(3, 5, 3, bias=False), NCHW)):
        (node,) = nodes(graph, "CONV_2D")
        assert node.inputs[2] is not None and not node.inputs[2].array().any()


class Twins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.left) * self.right


def test_two_tensors_of_equal_content_keep_their_names() -> None:
    model, args = Twins().eval(), inputs([(2, 3)])
    exported = torch2circle.export(model, args)
    names = [v.name for v in fileformat.read(exported.to_bytes("litert")).graph.values()]
    assert {"left", "right"} <= set(names)
    assert len(names) == len(set(names))


def test_an_unknown_option_is_an_error() -> None:
    model, args = floating(nn.ReLU(), (2, 3))
    with pytest.raises(TypeError):
        torch2circle.export(model, args, bias_overflw="raise")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="must be one of"):
        torch2circle.export(model, args, dynamic="hybird")


def test_a_linear_layer_on_three_dimensions_is_one_operator() -> None:
    for graph in graphs(eager(nn.Linear(7, 9), (5, 6, 7), weight=SYMMETRIC)):
        assert len(nodes(graph, "FULLY_CONNECTED")) == 1
        assert not nodes(graph, "SLICE", "PACK", "CONCATENATION")


def test_a_model_that_still_observes_or_trains_is_refused() -> None:
    model = Stubbed(nn.Linear(7, 5), 1)
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    with pytest.raises(RecordError, match="not converted"):
        torch2circle.export(Q.prepare(model.eval()), inputs([(6, 7)]))
    with pytest.raises(RecordError, match="train mode"):
        torch2circle.export(Stubbed(nn.BatchNorm2d(3), 1).train(), inputs([NCHW]))


def test_a_number_of_python_s_is_an_operand() -> None:
    for graph in graphs(floating(lambda a: 2 * a + 1 - a / 4, (2, 3))):
        assert {"MUL", "ADD", "SUB"} <= {node.op for node in graph.nodes()}


def test_operands_of_two_inputs_are_not_mixed_up() -> None:
    exported = torch2circle.export(*eager(Joined(), (2, 3, 9, 11), (2, 3, 7, 9)))
    for target in RUNTIMES:
        assert exported.verify(target).ok()
