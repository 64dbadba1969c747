"""Reference models: what FX graph mode quantizes, written with dequantize, float operators and quantize; and stored weights alone."""

from __future__ import annotations

from typing import Any

import torch
import torch.ao.nn.quantized.reference as nnqr
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization import QConfig, default_dynamic_qconfig, float16_dynamic_qconfig, get_default_qconfig_mapping
from torch.ao.quantization.observer import ObserverBase
from torch.ao.quantization.qconfig_mapping import QConfigMapping
from torch.ao.quantization.quantize_fx import convert_to_reference_fx, prepare_fx

from .making import AVERAGE, EXACT, FLOAT, NCHW, SWISH, Call, Case, Made, Near, Seq, Shape, inputs, seeded

SUM = Near(1, 0.98, "PyTorch adds up floats and rounds them, the file integers with the bias in int32: some lie in the middle of two steps")
POOLED = Near(1, 0.85, f"{SUM.reason}; {AVERAGE.reason}")
TIE = Near(1, 0.97, "a float result may lie in the middle of two steps; onert multiplies by a factor in fixed point")


def reference(body: nn.Module, *shapes: Shape, engine: str = "fbgemm", qconfig: QConfig | None = None) -> Made:
    torch.backends.quantized.engine = engine
    mapping = get_default_qconfig_mapping(engine) if qconfig is None else QConfigMapping().set_global(qconfig)
    args = inputs(shapes)
    model = prepare_fx(seeded(body), mapping, args)
    with torch.no_grad():
        model(*args)
    for part in model.modules():
        if isinstance(part, ObserverBase) and hasattr(part, "min_val"):  # so that the last bit of a float kernel does not matter
            part.min_val, part.max_val = (torch.round(end * 16) / 16 if end.dim() == 0 else end for end in (part.min_val, part.max_val))
    return convert_to_reference_fx(model), args


class Block(nn.Module):
    """An inverted residual of MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.grow = Seq(nn.Conv2d(5, 7, 1, bias=False), nn.BatchNorm2d(7), nn.Hardswish())
        self.look = Seq(nn.Conv2d(7, 7, 3, padding=1, groups=7, bias=False), nn.BatchNorm2d(7), nn.ReLU())
        self.gate = Seq(nn.AdaptiveAvgPool2d(1), nn.Conv2d(7, 2, 1), nn.ReLU(), nn.Conv2d(2, 7, 1), nn.Hardsigmoid())
        self.shrink = Seq(nn.Conv2d(7, 5, 1, bias=False), nn.BatchNorm2d(5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.look(self.grow(x))
        return x + self.shrink(y * self.gate(y))


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = Seq(nn.Conv2d(3, 5, 3, stride=2, bias=False), nn.BatchNorm2d(5), nn.ReLU6()), Block()
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.block(self.stem(x)), 1), 1))  # type: ignore[no-any-return]


class Branches(nn.Module):
    """One activation, read by several operators."""

    def __init__(self, join: Any) -> None:
        super().__init__()
        self.left, self.right, self.join = nn.Conv2d(3, 5, 3, padding=1), Seq(nn.Conv2d(3, 5, 1), nn.ReLU()), join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.left(x), self.right(x), x)  # type: ignore[no-any-return]


def behind_conv(part: nn.Module) -> Made:
    return reference(Seq(nn.Conv2d(3, 5, 3), part), NCHW)


KINDS = {kind: getattr(nnqr, kind.__name__) for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)}


def weight_only(layer: nn.Module, shape: Shape, dtype: torch.dtype = torch.qint8, axis: int | None = 0, zero_point: int = 0) -> Made:
    """A layer whose weight is quantized, and its activation not."""
    layer = seeded(layer)
    weight = layer.weight.detach()
    assert isinstance(weight, Tensor)
    stored = {"dtype": dtype, "qscheme": torch.per_tensor_affine, "scale": 0.00713, "zero_point": zero_point}
    if axis is not None:
        largest = weight.abs().amax([d for d in range(weight.dim()) if d != axis])
        zeros = torch.full(largest.shape, zero_point)
        stored |= {"qscheme": torch.per_channel_affine, "scale": largest / 127, "zero_point": zeros, "axis": axis}
    return KINDS[type(layer)].from_float(layer, stored).eval(), inputs([shape])



class Half(nn.Module):
    """A weight that is rounded to float16 where it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(5, 17))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.half().dequantize())


def pooled_and_flat(x: Tensor) -> Tensor:
    return torch.flatten(F.max_pool2d(x, 3, 2, 1), 1)


CASES = [
    Case("reference.linear", lambda: reference(nn.Linear(17, 5), (9, 17)), SUM),
    Case("reference.linear_relu_qnnpack", lambda: reference(Seq(nn.Linear(17, 5), nn.ReLU()), (9, 17), engine="qnnpack"), SUM),
    Case("reference.linear_rank3", lambda: reference(nn.Linear(17, 5, bias=False), (2, 9, 17)), SUM),
    Case("reference.conv", lambda: reference(Seq(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()), NCHW), SUM),
    Case("reference.conv_qnnpack", lambda: reference(Seq(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU6()), NCHW, engine="qnnpack"), SUM),
    Case("reference.conv_grouped", lambda: reference(nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 11)), SUM),
    Case("reference.conv1d", lambda: reference(Seq(nn.Conv1d(3, 5, 3), nn.ReLU()), (2, 3, 17)), SUM),
    Case("reference.conv3d", lambda: reference(Seq(nn.Conv3d(3, 5, (2, 3, 1)), nn.ReLU()), (2, 3, 5, 7, 9)), SUM),
    Case("reference.transposed", lambda: reference(Seq(nn.ConvTranspose2d(3, 5, 3, stride=2)), NCHW, engine="qnnpack"), SUM),
    Case("reference.classifier", lambda: reference(Classifier(), (2, 3, 13, 11)), TIE),
    Case("reference.add", lambda: reference(Branches(lambda a, b, x: a + b), NCHW), SUM),
    Case("reference.mul_add", lambda: reference(Branches(lambda a, b, x: F.relu(a * b + b)), NCHW), TIE),
    Case("reference.cat", lambda: reference(Branches(lambda a, b, x: torch.cat([a, x, b], 1)), NCHW), SUM),
    Case("reference.cat_pool", lambda: reference(Branches(lambda a, b, x: F.avg_pool2d(torch.cat([a, x, b], 1), 2)), NCHW), POOLED),
    Case("reference.matmul", lambda: reference(Branches(lambda a, b, x: torch.matmul(a, b.transpose(2, 3))), NCHW), SUM),
    Case("reference.relu_relu6", lambda: reference(Seq(nn.ReLU(), nn.ReLU6()), (2, 5, 7)), SUM),
    Case("reference.max_pool", lambda: reference(Seq(nn.Conv2d(3, 5, 3), nn.MaxPool2d(3, 2, 1, ceil_mode=True)), (2, 3, 10, 12)), SUM),
    Case("reference.pool_flatten", lambda: behind_conv(Call(pooled_and_flat)), SUM),
    Case("reference.permute", lambda: behind_conv(Call(lambda x: x.permute(0, 2, 3, 1).reshape(2, 7, 45).chunk(3, 2)[1])), SUM),
    Case("reference.mean", lambda: behind_conv(Call(lambda x: x.mean([2, 3]))), SUM),
    *(Case(f"reference.{name}", lambda part=part: reference(Seq(part()), (2, 5, 7, 9)), near) for name, part, near in (
        ("hardswish", nn.Hardswish, SWISH), ("hardsigmoid", nn.Hardsigmoid, FLOAT), ("sigmoid", nn.Sigmoid, EXACT),
        ("tanh", nn.Tanh, EXACT), ("elu", nn.ELU, EXACT), ("leaky_relu", nn.LeakyReLU, EXACT), ("softmax", lambda: nn.Softmax(-1), EXACT),
        ("hardtanh", nn.Hardtanh, EXACT), ("prelu", nn.PReLU, EXACT), ("layer_norm", lambda: nn.LayerNorm(9), FLOAT),
        ("instance_norm", lambda: nn.InstanceNorm2d(5), EXACT),
    )),
    Case("reference.dynamic", lambda: reference(
        Seq(nn.Linear(17, 7), nn.ReLU(), nn.Linear(7, 5)), (9, 17), qconfig=default_dynamic_qconfig), FLOAT),
    Case("reference.float16", lambda: reference(nn.Linear(17, 5), (9, 17), qconfig=float16_dynamic_qconfig), FLOAT),
    Case("weight_only.linear", lambda: weight_only(nn.Linear(17, 5), (9, 17)), FLOAT),
    Case("weight_only.linear_per_tensor", lambda: weight_only(nn.Linear(17, 5), (9, 17), axis=None), FLOAT),
    Case("weight_only.linear_uint8", lambda: weight_only(nn.Linear(17, 5), (9, 17), torch.quint8, None, 100), FLOAT),
    Case("weight_only.linear_affine", lambda: weight_only(nn.Linear(17, 5, bias=False), (2, 9, 17), zero_point=-3), FLOAT),
    Case("weight_only.linear_half", lambda: (seeded(Half()), inputs([(9, 17)])), FLOAT),
    Case("weight_only.conv1d", lambda: weight_only(nn.Conv1d(3, 5, 3), (2, 3, 17)), FLOAT),
    Case("weight_only.conv2d", lambda: weight_only(nn.Conv2d(3, 5, 3, padding=1), NCHW), FLOAT),
    Case("weight_only.conv3d", lambda: weight_only(nn.Conv3d(3, 5, (2, 3, 1)), (2, 3, 5, 7, 9)), FLOAT),
    Case("weight_only.conv2d_depthwise", lambda: weight_only(nn.Conv2d(3, 6, 3, groups=3), NCHW), FLOAT),
    Case("weight_only.conv2d_grouped", lambda: weight_only(nn.Conv2d(4, 6, 3, groups=2), (2, 4, 9, 11)), FLOAT),
    Case("weight_only.transposed2d", lambda: weight_only(nn.ConvTranspose2d(3, 5, 3, stride=2), NCHW, axis=1), FLOAT),
]  # fmt: skip
