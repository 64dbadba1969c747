"""Transposed convolutions: TRANSPOSE_CONV, or a convolution over the operand with zeros between its elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..ir import Array, Value
from ..quant import Weights
from .context import Context, Placed, reshaped
from .conv import Triple, Window, as_result, conv, extents, images, in_channels, one_image, slid, triple
from .registry import Order, lowers
from .weighted import Documented, Layout, result_type, weight_and_bias
from .window import Pair, is_same, pad


@lowers("quantized::conv_transpose1d", "quantized::conv_transpose2d", "quantized::conv_transpose3d", order=Order.FREE)
@lowers("_quantized::conv_transpose1d", "_quantized::conv_transpose2d", order=Order.FREE)
def quantized_transposed(c: Context, x: Placed, packed_weight: Any) -> Value:
    p, dims = packed_weight, len(x.order) - 2
    weights = c.packed(p)
    lost = torch.backends.quantized.engine in ("fbgemm", "x86") and _packed_wrongly(p, weights.type.shape)
    got = f"{list(weights.type.shape)}, which FBGEMM packs wrongly: it is lost"
    c.only(not lost, "weight", got, "engine qnnpack, or a kernel of 3 rows")
    return conv_transposed(c, x, dims, weights, p.stride(), p.padding(), p.output_padding(), p.dilation(), p.groups())


def _packed_wrongly(p: Any, shape: Sequence[int]) -> bool:
    """FBGEMM has a kernel of its own for these, which gives other numbers in each run, and neither does unpacking give the weight back."""
    inputs, outputs, *size = shape
    plain = p.groups() == 1 and not any(p.padding()) and set(p.dilation()) == {1} and max(p.stride()) <= 2
    return plain and len(size) == 2 and size[0] == 2 and inputs % 8 == outputs % 8 == 0


@lowers("aten::conv_transpose1d", "aten::conv_transpose2d.input", "aten::conv_transpose3d.input", order=Order.FREE)
def float_transposed(
    c: Context, x: Placed, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
    output_padding: Sequence[int], dilation: Sequence[int], groups: int,
) -> Value:  # fmt: skip
    return conv_transposed(c, x, weight.dim() - 2, Weights.of(weight, bias), stride, padding, output_padding, dilation, groups)


@lowers("aten::convolution", order=Order.FREE)
@lowers("aten::_convolution", order=Order.FREE, ignores=("benchmark", "deterministic", "allow_tf32"))
@lowers("aten::_convolution.deprecated", order=Order.FREE, ignores=("benchmark", "deterministic"))
def convolution(
    c: Context, x: Placed, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, output_padding: Sequence[int], groups: int,
) -> Value:  # fmt: skip
    """Of either kind."""
    if transposed:
        return float_transposed(c, x, weight, bias, stride, padding, output_padding, dilation, groups)
    return conv(c, x, weight.dim() - 2, Weights.of(weight, bias), stride, padding, dilation, groups)


def conv_transposed(
    c: Context,
    x: Placed,
    dims: int,
    weights: Weights,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Value:
    """The call's result: the transpose of a convolution over ``dims`` spatial dimensions, in the element types of ``conv``."""
    size = weights.type.shape[2:]
    steps = triple(stride, len(size), 1)
    spacing = triple(dilation, len(size), 1)
    taps = triple(size, len(size), 1)
    front = triple(padding, len(size), 0)

    def documented(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        image = image.reshape(*image.shape[:-1], *[1] * (weight.dim() - image.dim()), image.shape[-1])
        return torch.convolution(image, weight, bias, stride, padding, dilation, True, output_padding, groups)

    def kernel(w: Array) -> Array:
        """[I, O / groups, spatial dimensions...] -> [O, depth, rows, columns, I / groups], the depth backwards."""
        inputs = len(w) // groups
        outputs: Array = w.reshape(groups, inputs, -1, *taps).transpose(0, 2, 3, 4, 5, 1).reshape(-1, *taps, inputs)
        return outputs[:, ::-1]

    def backwards(w: Array) -> Array:
        return kernel(w)[:, :, ::-1, ::-1]

    # seen from a result, the kernel slides backwards over the operand with zeros between its elements
    reach = tuple((k - 1) * d - p for k, d, p in zip(taps, spacing, front, strict=True))
    window = Window(taps, (1, 1, 1), (reach[0], reach[1], reach[2]), spacing)
    image, formula = images(c, x, dims), Documented(documented, 1 if groups == 1 else None, suspect=True)
    if groups == 1 and spacing[1:] == (1, 1) and max(steps[1:]) > 1:
        made = _spread(c, stuffed(c, image, (steps[0], 1, 1)), weights, kernel, window, steps[1:], front[1:], formula)
    else:
        made = slid(c, stuffed(c, image, steps), weights, backwards, window, groups, "NONE", formula)
    return as_result(c, made, dims)


def stuffed(c: Context, x: Value, stride: Triple) -> Value:
    """``x`` [N, spatial dimensions..., C] with ``stride - 1`` zeros behind each element: each dimension is padded while it is one wide."""
    n, (depth, rows, columns), channels = extents(x)
    wide = (depth * stride[0], rows * stride[1], columns * stride[2])
    dims, deep = x.type.rank - 2, wide[1] * wide[2] * channels
    if max(stride[1:]) > 1:
        between = [(0, 0), (0, stride[1] - 1), (0, 0), (0, (stride[2] - 1) * channels)]
        x = pad(c, reshaped(c, x, (n * depth * rows, 1, columns, channels)), between)
    if stride[0] > 1:
        x = pad(c, reshaped(c, x, (n * depth, 1, 1, deep)), [(0, 0), (0, stride[0] - 1), (0, 0), (0, 0)])
    return reshaped(c, x, (n, *wide[3 - dims :], channels))


def _spread(
    c: Context, x: Value, weights: Weights, kernel: Layout, window: Window, stride: Pair, front: Pair, documented: Documented
) -> Value:
    """TRANSPOSE_CONV in each depth of ``x``, of which ``front`` rows and columns are left out.

    The runtimes compute all that the kernel reaches, or with SAME ``stride`` times the operand; a SLICE cuts off the rest.
    """
    dims = x.type.rank - 2
    depth, *outs = triple(c.out_shape[-dims:], dims, 1)
    image = one_image(c, x, window, depth)
    weight, bias = weight_and_bias(c, image, weights, lambda w: in_channels(kernel(w)), documented)
    n, *sizes, _ = image.type.shape
    facts = list(zip(outs, sizes, stride, window.size[1:], front, strict=True))
    # XNNPACK takes no SAME with a kernel smaller than the stride
    same = any(front) and all(is_same(out, size, s, k, p) and k >= s for out, size, s, k, p in facts)
    full = outs if same else [max((size - 1) * s + k, p + out) for out, size, s, k, p in facts]
    shape = (n, *full, c.out_shape[-dims - 1])
    attrs: dict[str, Any] = {"stride_h": stride[0], "stride_w": stride[1], "fused_activation_function": "NONE"}
    extent = c.const(list(shape), "output_shape")
    made = c.emit_as(result_type(c, x, shape), "TRANSPOSE_CONV", extent, weight, image, bias, padding="SAME" if same else "VALID", **attrs)
    if same:
        return made
    cuts = [(-p, p + out - extent) for out, extent, p in zip(outs, full, front, strict=True)]
    return pad(c, made, [(0, 0), *cuts, (0, 0)])
