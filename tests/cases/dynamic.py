"""Layers whose activations PyTorch quantizes at run time, in each of the three ways of exporting them, and weights in float16."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.ao.quantization import QConfigMapping, default_dynamic_qconfig, per_channel_dynamic_qconfig, quantize_dynamic
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from .conv import stored
from .making import FLOAT, Call, Case, Made, Near, Q, Seq, Shape, inputs, seeded

HYBRID = Near(1, 0.99, "PyTorch and the runtimes round activations, each in its way; a step is what two right ways may be apart", sqnr=30)
FLOATS = replace(FLOAT, sqnr=90)
ON_GRID = Near(1, 0.99, "a sum of floats, where PyTorch adds up integers, may be on the other side of the middle of two steps", sqnr=50)
INTERNAL, SPARSE, ONEDNN = torch.ops._quantized, torch.ops.sparse, torch.ops.onednn


MODES = ("hybrid", "dequantize", "exact")


def each(name: str, make: Callable[[], Made], exact: Near = FLOATS, modes: tuple[str, ...] = MODES) -> list[Case]:
    """A case for each choice of ``dynamic``; ``exact`` is for that one."""
    return [Case(f"{name}.{mode}", make, exact if mode == "exact" else HYBRID, {"dynamic": mode}) for mode in modes]


def bias(units: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(8).uniform(-1, 1, units).astype(np.float32))


def dense(units: int, depth: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(7).uniform(-1, 1, (units, depth)).astype(np.float32))


def linear(
    weight: Tensor, x: Shape = (9, 17), *, op: Callable[..., Tensor] = Q.linear_dynamic, prepack: Callable[..., Any] = Q.linear_prepack,
    engine: str = "fbgemm", biased: bool = True, last: tuple[Any, ...] = (True,), blocks: tuple[int, ...] = (),
) -> Made:  # fmt: skip
    torch.backends.quantized.engine = engine
    p = prepack(weight, bias(len(weight)) if biased else None, *blocks)
    return Call(lambda x: op(x, p, *last)).eval(), inputs([x])


def conv(name: str, weight: Shape, x: Shape, *arguments: Any, axis: int | None = 0, engine: str = "fbgemm", units: int = 0) -> Made:
    torch.backends.quantized.engine = engine
    p = getattr(Q, f"{name}_prepack")(stored(weight, axis=axis), bias(units or weight[0]), *arguments)
    op = getattr(Q, f"{name}_dynamic")
    return Call(lambda x: op(x, p, True)).eval(), inputs([x])


def zeros(made: Made) -> Made:
    return made[0], tuple(torch.zeros_like(x) for x in made[1])


def rounded(op: Callable[..., Tensor], weight: Tensor) -> Made:
    """The activation is quantized with a scale that is known before; 7 bits of it, so that FBGEMM's sums do not saturate."""
    torch.backends.quantized.engine = "fbgemm"
    p = Q.linear_prepack(weight, bias(len(weight)))
    return Call(lambda x: op(x, 0.0671317, 64, p)).eval(), inputs([(9, 17)])


def half(op: Callable[..., Tensor], prepack: Callable[[Tensor], Any], *last: Any) -> Made:
    torch.backends.quantized.engine = "fbgemm"
    p = prepack(dense(5, 17))
    return Call(lambda x: op(x, p, *last)).eval(), inputs([(9, 17)])


def int8_weight(op: Callable[..., Tensor]) -> Made:
    integers, offsets, scale, zero_point = torch.fbgemm_linear_quantize_weight(dense(5, 17) / 4 + 0.1)
    p = torch.fbgemm_pack_quantized_matrix(integers)
    return Call(lambda x: op(x, integers, p, offsets, scale, zero_point, bias(5))).eval(), inputs([(9, 17)])


def eager(body: nn.Module, x: Shape, qconfig: Any = default_dynamic_qconfig) -> Made:
    torch.backends.quantized.engine = "fbgemm"
    kinds = dict.fromkeys((nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d), qconfig)
    return quantize_dynamic(seeded(body), kinds), inputs([x])


def graph_mode(body: nn.Module, x: Shape) -> Made:
    torch.backends.quantized.engine = "fbgemm"
    args = inputs([x])
    mapping = QConfigMapping().set_global(per_channel_dynamic_qconfig)
    return convert_fx(prepare_fx(seeded(body), mapping, args)), args


def at_once(dtype: torch.dtype, reduce_range: bool, x: Shape) -> Made:
    torch.backends.quantized.engine = "fbgemm"
    return Call(lambda x: torch.quantize_per_tensor_dynamic(x, dtype, reduce_range).dequantize()).eval(), inputs([x])


SLIDING = [1, 1], [1, 0], [1, 1], 1
SPREAD = [2, 1], [1, 0], [1, 0], [1, 1], 1
IMAGE, LINE, VOLUME = (2, 4, 9, 11), (2, 4, 13), (2, 4, 5, 7, 6)

CASES = [
    *each("dynamic.linear", lambda: linear(stored((5, 17)))),
    *each("dynamic.linear_per_tensor", lambda: linear(stored((5, 17), axis=None))),
    *each("dynamic.linear_affine", lambda: linear(stored((5, 17), axis=None, zero_points=-13))),
    *each("dynamic.linear_affine_channels", lambda: linear(stored((5, 17), zero_points=9))),
    *each("dynamic.linear_one_row", lambda: linear(stored((5, 17)), (1, 17))),
    *each("dynamic.linear_rank3", lambda: linear(stored((5, 17)), (2, 9, 17))),
    *each("dynamic.linear_rank4", lambda: linear(stored((5, 17), axis=None), (2, 3, 4, 17))),
    *each("dynamic.linear_no_bias", lambda: linear(stored((5, 17)), biased=False)),
    *each("dynamic.linear_relu", lambda: linear(stored((5, 17)), op=Q.linear_relu_dynamic)),
    *each("dynamic.linear_full_range", lambda: linear(stored((5, 17)), last=(False,))),  # the kernel saturates
    *each("dynamic.linear_qnnpack", lambda: linear(stored((5, 17), axis=None), engine="qnnpack")),
    *each("dynamic.linear_qnnpack_channels", lambda: linear(stored((5, 17)), engine="qnnpack")),
    *each("dynamic.linear_onednn", lambda: linear(stored((5, 17)), engine="onednn")),
    *each("dynamic.linear_internal", lambda: linear(stored((5, 17)), op=INTERNAL.linear_dynamic), modes=("hybrid", "exact")),
    *each("dynamic.linear_sparse", lambda: linear(
        stored((8, 12)), (9, 12), op=SPARSE.qlinear_dynamic, prepack=SPARSE.qlinear_prepack, engine="qnnpack", last=(), blocks=(1, 4))),
    *each("dynamic.linear_int8_weight", lambda: int8_weight(torch.fbgemm_linear_int8_weight_fp32_activation)),
    *each("dynamic.linear_int8_weight_old", lambda: int8_weight(torch.fbgemm_linear_int8_weight), modes=("hybrid",)),
    *each("dynamic.conv1d", lambda: conv("conv1d", (5, 4, 3), LINE, [2], [1], [1], 1), ON_GRID),
    *each("dynamic.conv2d", lambda: conv("conv2d", (5, 4, 3, 2), IMAGE, *SLIDING), ON_GRID),
    *each("dynamic.conv3d", lambda: conv("conv3d", (5, 4, 3, 2, 2), VOLUME, [1, 2, 1], [1, 0, 1], [1, 1, 1], 1), ON_GRID),
    *each("dynamic.conv2d_one_image", lambda: conv("conv2d", (5, 4, 3, 2), (1, 4, 9, 11), *SLIDING), ON_GRID),
    *each("dynamic.conv2d_per_tensor", lambda: conv("conv2d", (5, 4, 3, 2), IMAGE, *SLIDING, axis=None), ON_GRID),
    *each("dynamic.conv2d_zeros", lambda: zeros(conv("conv2d", (5, 4, 3, 2), IMAGE, *SLIDING)), ON_GRID),
    *each("dynamic.conv2d_qnnpack", lambda: conv("conv2d", (5, 4, 3, 2), IMAGE, *SLIDING, axis=None, engine="qnnpack"), ON_GRID),
    *each("dynamic.conv2d_grouped", lambda: conv("conv2d", (6, 2, 3, 2), IMAGE, [1, 1], [1, 0], [1, 1], 2), ON_GRID),
    *each("dynamic.conv2d_depthwise", lambda: conv("conv2d", (4, 1, 3, 2), IMAGE, [1, 2], [1, 0], [1, 1], 4), ON_GRID),
    *each("dynamic.conv2d_depthwise_per_tensor", lambda: conv(
        "conv2d", (4, 1, 3, 2), IMAGE, [1, 1], [1, 0], [1, 1], 4, axis=None), ON_GRID),
    *each("dynamic.transposed1d", lambda: conv("conv_transpose1d", (4, 5, 3), LINE, [2], [1], [1], [1], 1, axis=None, units=5), ON_GRID),
    *each("dynamic.transposed2d", lambda: conv("conv_transpose2d", (4, 5, 3, 2), IMAGE, *SPREAD, axis=None, units=5), ON_GRID),
    *each("dynamic.transposed3d", lambda: conv(
        "conv_transpose3d", (4, 5, 3, 2, 2), VOLUME, [1, 2, 1], [1, 0, 1], [0, 0, 0], [1, 1, 1], 1, axis=None, units=5), ON_GRID),
    *each("dynamic.transposed2d_qnnpack", lambda: conv(
        "conv_transpose2d", (4, 5, 3, 2), IMAGE, *SPREAD, axis=1, engine="qnnpack", units=5), ON_GRID),
    *each("dynamic.eager", lambda: eager(Seq(nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, 5)), (9, 17))),
    *each("dynamic.graph_mode", lambda: graph_mode(Seq(nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, 5)), (9, 17))),
    *each("dynamic.conv_relu_linear", lambda: eager(
        Seq(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)), IMAGE), ON_GRID),
    Case("dynamic.quint8", lambda: at_once(torch.quint8, False, (9, 17, 4))),
    Case("dynamic.quint8_reduced", lambda: at_once(torch.quint8, True, (9, 17))),
    Case("dynamic.qint8", lambda: at_once(torch.qint8, False, (3, 5, 7, 4))),
    Case("dynamic.qint8_reduced_rank5", lambda: at_once(torch.qint8, True, (3, 5, 7, 4, 2))),
    Case("dynamic.float16", lambda: at_once(torch.float16, False, (9, 17))),
    Case("rounded.linear", lambda: rounded(Q.linear_with_input_q_dq_qweight_dq_output_fp32, stored((5, 17))), FLOATS),
    Case("rounded.linear_relu", lambda: rounded(
        Q.linear_with_input_q_dq_qweight_dq_relu_output_fp32, stored((5, 17), axis=None, zero_points=5)), FLOATS),
    Case("half.linear", lambda: half(Q.linear_dynamic_fp16, lambda w: Q.linear_prepack_fp16(w, bias(5))), FLOATS),
    Case("half.linear_relu", lambda: half(Q.linear_relu_dynamic_fp16, lambda w: Q.linear_prepack_fp16(w, None)), FLOATS),
    Case("half.linear_large", lambda: half(Q.linear_dynamic_fp16, lambda w: Q.linear_prepack_fp16(w * 1e5, None)), FLOATS),
    Case("half.linear_unpacked", lambda: half(Q.linear_dynamic_fp16_unpacked_weight, lambda w: w, bias(5)), FLOATS),
    Case("half.linear_wrapped", lambda: half(
        INTERNAL.wrapped_fbgemm_linear_fp16_weight, INTERNAL.wrapped_fbgemm_pack_gemm_matrix_fp16, bias(5), 5), FLOATS),
    Case("half.linear_aten", lambda: half(torch.fbgemm_linear_fp16_weight, torch.fbgemm_pack_gemm_matrix_fp16, bias(5)), FLOATS),
    Case("half.linear_aten_no_bias", lambda: half(
        torch.fbgemm_linear_fp16_weight_fp32_activation, torch.fbgemm_pack_gemm_matrix_fp16, None), FLOATS),
    Case("half.linear_onednn", lambda: half(
        ONEDNN.linear_dynamic_fp16, lambda w: ONEDNN.linear_prepack_fp16(w, None), bias(5)), FLOATS),
    Case("half.linear_onednn_relu", lambda: half(
        ONEDNN.linear_relu_dynamic_fp16, lambda w: ONEDNN.linear_prepack_fp16(w, None), None), FLOATS),
]  # fmt: skip
