"""Images of another size in the forms that a runtime gets right."""

from __future__ import annotations

import numpy as np

from ...ir import DType, Node
from ...optimize.engine import Replacement, emit, rule
from ...optimize.layout import const, operand, reshape
from .common import EIGHT_BIT, float_type


@rule("RESIZE_NEAREST_NEIGHBOR", why="the runtime has no such operator; its GATHER takes the rows, and then the columns")
def nearest_as_gathers(node: Node) -> Replacement:
    x = operand(node)
    if node.attrs["align_corners"]:
        return None
    for axis in (1, 2):
        size, out = x.type.shape[axis], node.out.type.shape[axis]
        at = (np.arange(out) + node.attrs["half_pixel_centers"] / 2) * (np.float32(size) / np.float32(out))
        places = const(f"{node.out.name}.places", np.minimum(np.floor(at.astype(np.float32)), size - 1))
        shape = (*x.type.shape[:axis], out, *x.type.shape[axis + 1 :])
        x = emit("GATHER", x.type.reshape(shape), x, places, like=node, axis=axis, batch_dims=0)
    return x


@rule("RESIZE_BILINEAR", why="the runtime rounds an interpolated integer down, or half of one away from zero; PyTorch rounds to even")
def bilinear_of_integers_in_float(node: Node) -> Replacement:
    """The integers themselves, without their scale: half way between two of them is then half way in float, too."""
    x, out = operand(node), node.out.type
    if x.type.dtype not in EIGHT_BIT or x.type.quant != out.quant:
        return None
    name, scaleless = x.type.dtype.name, x.type.dtype is DType.UINT8
    # onert takes operand and result of CAST for ones without a scale, which any neighbour but RESHAPE then refuses
    line = reshape(x, (x.type.size, 1), node) if scaleless else x
    numbers = emit("CAST", float_type(line.type), line, like=node, in_data_type=name, out_data_type="FLOAT32")
    resized = emit("RESIZE_BILINEAR", float_type(out), reshape(numbers, x.type.shape, node), node.inputs[1], like=node, **node.attrs)
    whole = reshape(emit("ROUND", float_type(out), resized, like=node), (out.size, 1) if scaleless else out.shape, node)
    stored = emit("CAST", out.reshape(whole.type.shape), whole, like=node, in_data_type="FLOAT32", out_data_type=name)
    return reshape(stored, out.shape, node) if scaleless else stored
