"""Whole networks, quantized by PyTorch's own eager workflow, in the real runtimes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import torch2circle
import zoo
from efficientnet_lite0 import photos
from torch2circle import runtimes
from torch2circle.format import save
from torch2circle.ir import Array, Node, Value
from torch2circle.pipeline import ExportedModel
from torch2circle.quant import array_of
from torch2circle.targets import TARGETS
from torch2circle.verify import Comparison, isolated, recorded

# Small pictures keep the naive 8-bit kernels of onert to seconds; inception_v3 cannot take smaller ones than 75.
SIZE = 96
CASES = [
    *((name, "fbgemm") for name in zoo.NAMES),
    ("resnet18", "x86"),
    ("resnet18", "qnnpack"),
    ("mobilenet_v2", "qnnpack"),
    ("mobilenet_v3_large", "x86"),
]


def exported(name: str, engine: str) -> ExportedModel:
    model, x = zoo.efficientnet_lite0(engine) if name == "efficientnet_lite0" else zoo.quantized(name, engine, SIZE)
    return torch2circle.export(model, (x,))


@pytest.mark.parametrize("target", ["onert", "litert"])
@pytest.mark.parametrize(("name", "engine"), [*CASES, ("efficientnet_lite0", "fbgemm"), ("efficientnet_lite0", "qnnpack")])
def test_every_operator(name: str, engine: str, target: str) -> None:
    """Each operator, fed with PyTorch's own values, is at most one step off, and almost all of its outputs are bit-equal."""
    report = exported(name, engine).verify(target)
    assert report.ok(lsb=1), report.worst
    shares = {op: _share([c for c in report.operators if c.op == op]) for op in {c.op for c in report.operators}}
    # FBGEMM keeps the bias in float, and onert rounds twice; both show most where few products are summed, as in a depthwise
    # convolution with one scale for all channels. The two tests below show that this explains every difference.
    least = {"DEPTHWISE_CONV_2D": 0.98} if (engine, target) == ("qnnpack", "onert") else {}
    assert all(share >= least.get(op, 0.99) for op, share in shares.items()), shares


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_no_avoidable_moves(name: str, engine: str) -> None:
    """One TRANSPOSE for the NCHW input, one QUANTIZE; channel shuffles are PyTorch's own transposes."""
    ops = [node.op for node in exported(name, engine).for_target("litert").nodes()]
    shuffles = 16 if name.startswith("shufflenet") else 0
    assert ops.count("TRANSPOSE") == 1 + shuffles
    assert ops.count("RESHAPE") <= 1 + 2 * shuffles
    # a QUANTIZE more only behind the DEQUANTIZE of a hardsigmoid or of a tensor that is joined at another scale
    assert ops.count("QUANTIZE") == ops.count("DEQUANTIZE")


@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"])
@pytest.mark.parametrize("target", ["onert", "litert"])
def test_same_top_class_on_photos(engine: str, target: str) -> None:
    """EfficientNet-Lite0 with trained weights: the same class as quantized PyTorch wherever its two best scores are clearly apart.

    What 60 layers of roundings leave are 1 LSB (root mean square) and up to 5 in one of 1,000 scores, so that the two best ones come closer
    to each other by 6 in none of the photos. How far apart they are depends on the calibration, which PyTorch computes otherwise on other
    CPUs and with other numbers of threads.
    """
    model, _ = zoo.efficientnet_lite0(engine)
    decided = 0
    for name, x in photos.for_test().items():
        export = torch2circle.export(model, (x,))
        want = export.recording.tensors[export.recording.outputs[0].index]  # type: ignore[union-attr]
        got = _run(export, target, x)
        step = _output_scale(export)
        first, second = torch.topk(want[0], 2).values.tolist()
        assert np.abs(got.reshape(-1) - want[0].numpy()).max() < 8.5 * step, name
        if round((first - second) / step) > 6:
            decided += 1
            assert int(got.argmax()) == int(want.argmax()), name
    assert decided >= 5  # of eight photos; an unsure network would make the rule empty


def test_bias_rounding_explains_every_difference() -> None:
    """FBGEMM adds the bias in float, the file holds it in int32: with the bias rounded, PyTorch's formula gives LiteRT's integers.

    The formula is ``rint((sum of products + bias) * multiplier) + zero_point`` (FBGEMM's requantization, in float32).
    """

    def once(sums: Array, multiplier: Array) -> Array:
        return np.rint(sums.astype(np.float32) * multiplier).astype(np.int64)

    _explain("efficientnet_lite0", "fbgemm", "litert", once)


@pytest.mark.parametrize(("name", "engine"), [("efficientnet_lite0", "fbgemm"), ("mobilenet_v2", "qnnpack")])
def test_double_rounding_explains_every_difference(name: str, engine: str) -> None:
    """onert multiplies by a 31-bit fixed-point number, rounds, shifts and rounds again (gemmlowp's formula)."""

    def twice(sums: Array, multiplier: Array) -> Array:
        fraction, exponent = np.frexp(multiplier.astype(np.float64))
        high = np.floor((sums.astype(np.int64) * np.rint(fraction * 2**31).astype(np.int64) + 2**30) / 2**31).astype(np.int64)
        shift = -exponent.astype(np.int64)
        rest, threshold = high & ((1 << shift) - 1), (1 << shift) >> 1
        return (high >> shift) + (rest > threshold - (high >= 0) * (shift > 0))

    _explain(name, engine, "onert", twice)


def _explain(name: str, engine: str, target: str, requantize: Callable[[Array, Array], Array]) -> None:
    """Every element in which the runtime differs from PyTorch is what ``requantize`` gives for the exact sums with the rounded bias."""
    export = exported(name, engine)
    checked = differing = unexplained = 0
    for out, got in _operators(export, target):
        if out.node is None or out.node.op not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            continue
        sums, multiplier = _sums(export, out.node)
        info = np.iinfo(got.dtype)
        low = _zero_point(out) if out.node.attrs["fused_activation_function"] == "RELU" else info.min
        computed = np.clip(requantize(sums, multiplier) + _zero_point(out), low, info.max)
        checked += got.size
        differing += int((got != recorded(export.recording, out)).sum())
        unexplained += int((got != computed).sum())
    assert differing > 0.0005 * checked, (differing, checked)  # there is something to explain
    # Where a sum lies on a half up to float32's precision, numpy and the kernel, which multiply in another order, may differ.
    assert unexplained <= 0.00002 * checked, (unexplained, differing, checked)


def _operators(export: ExportedModel, target: str) -> list[tuple[Value, Array]]:
    """Each operator's result in the runtime, computed from PyTorch's own inputs."""
    parts, chosen = isolated(export.for_target(target)), TARGETS[target]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"parts{chosen.suffix}"
        save(parts, path, identifier=chosen.identifier)
        outs = runtimes.run(target, path, [[recorded(export.recording, v) for v in parts.inputs]]).outputs[0]
    return list(zip(parts.outputs, outs, strict=True))


def _sums(export: ExportedModel, node: Node) -> tuple[Array, Array]:
    """The exact integer sums of a convolution [N, H, W, C], and the multiplier for each channel."""
    x, weight, bias = node.inputs
    assert x is not None and weight is not None and bias is not None
    depthwise = node.op == "DEPTHWISE_CONV_2D"
    image = _padded(_source(export, x) - _zero_point(x), node, weight.type.shape[1:3])
    kernel = (weight.array().astype(np.float64) - _zero_point(weight)).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    stride = (node.attrs["stride_h"], node.attrs["stride_w"])
    tensors = [torch.from_numpy(np.ascontiguousarray(a, np.float64)) for a in (image.transpose(0, 3, 1, 2), kernel, bias.array())]
    sums = torch.nn.functional.conv2d(*tensors, stride=stride, groups=x.type.shape[3] if depthwise else 1)
    assert x.type.quant and weight.type.quant and node.out.type.quant
    multiplier = x.type.quant.scale[0] * weight.type.quant.scale / node.out.type.quant.scale[0]
    return sums.numpy().transpose(0, 2, 3, 1), multiplier


def _source(export: ExportedModel, x: Value) -> Array:
    """The recorded input of a convolution; behind a PAD, what is padded, with the zero point around it."""
    if x.origin is not None:
        return recorded(export.recording, x).astype(np.float64)
    assert x.node is not None and x.node.op == "PAD", x.node
    source, amounts = x.node.inputs
    assert source is not None and amounts is not None
    return np.pad(_source(export, source), amounts.array(), constant_values=_zero_point(x))


def _padded(image: Array, node: Node, kernel: tuple[int, ...]) -> Array:
    if node.attrs["padding"] == "VALID":
        return image
    totals = [k - 1 for k in kernel]  # every SAME of these networks has stride 1
    assert (node.attrs["stride_h"], node.attrs["stride_w"]) == (1, 1)
    return np.pad(image, [(0, 0), *((t // 2, t - t // 2) for t in totals), (0, 0)])


def _zero_point(value: Value) -> int:
    assert value.type.quant is not None
    return int(value.type.quant.zero_point[0])


def _share(comparisons: list[Comparison]) -> float:
    return sum(c.equal for c in comparisons) / sum(c.size for c in comparisons)


def _run(export: ExportedModel, target: str, x: torch.Tensor) -> Array:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{TARGETS[target].suffix}"
        export.save(path, target)
        return runtimes.run(target, path, [[array_of(x)]]).outputs[0][0]


def _output_scale(export: ExportedModel) -> float:
    node = export.graph.outputs[0].node
    assert node is not None and node.op == "DEQUANTIZE" and node.inputs[0] is not None and node.inputs[0].type.quant is not None
    return float(node.inputs[0].type.quant.scale[0])
