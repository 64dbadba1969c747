"""The operators of the file formats: which options table each has, which version, and when a node is well formed.

``OPS`` is the one home of these facts. ``check(graph)`` runs after every stage, on what was written, and on any file
that is read back. What a runtime can execute is not here but in ``targets/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from .format.facts import ENUMS, TABLES
from .ir import DType, Finding, Graph, Node, Value

SHORT = {
    DType.FLOAT32: "f32", DType.FLOAT16: "f16", DType.INT4: "i4", DType.INT8: "i8", DType.UINT8: "u8",
    DType.INT16: "i16", DType.INT32: "i32", DType.INT64: "i64", DType.BOOL: "bool",
}  # fmt: skip


@dataclass(frozen=True)
class Op:
    """``inputs``: least and most operands, of which ``data`` is the one whose type tells the kernel, and ``index`` holds positions.

    ``moves``: the integers are moved or compared as they are, so all quantization should be equal. ``weighted``: operand 1 is a weight.
    ``fixed``: the scale of an 8-bit result and its zero point, counted from the lowest integer, that the kernels take for granted.
    ``since``: the lowest operator version; ``versions``: scheme -> version, where it is not the rule (one more with int8 operands).
    """

    options: str | None = None
    inputs: tuple[int, int] = (1, 1)
    data: int = 0
    index: int | None = None
    moves: bool = False
    weighted: bool = False
    fixed: tuple[float, int] | None = None
    since: int = 1
    versions: Mapping[str, int] = field(default_factory=dict)


# Operators that may have integers of 8 bits without a scale: they compute nothing. So may a CAST from them.
MOVES_BYTES = ("RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "GATHER")

_BINARY = (2, 2)
_ONE = {"i8": 1}
_CONV = {"i8/i8pc": 3, "i8/i8pt": 3}
_HALF_PIXEL = {f"{x}+half_pixel": 3 for x in ("f32", "i8", "u8")}
_ALIGNED = {f"{x}+aligned": 3 for x in ("f32", "i8", "u8")}

OPS: dict[str, Op] = {
    "CONV_2D": Op("Conv2DOptions", (3, 3), weighted=True, versions={**_CONV, "f32/i8pt": 2, "f32/i8pc": 5}),
    "DEPTHWISE_CONV_2D": Op("DepthwiseConv2DOptions", (3, 3), weighted=True, versions={**_CONV, "f32/i8pt": 4, "f32/i8pc": 6}),
    "TRANSPOSE_CONV": Op("TransposeConvOptions", (4, 4), data=2, weighted=True, since=3, versions=_CONV),
    "CONV_3D": Op("Conv3DOptions", (3, 3), weighted=True),
    "CONV_3D_TRANSPOSE": Op("Conv3DOptions", (4, 4), data=2, weighted=True),
    "FULLY_CONNECTED": Op(
        "FullyConnectedOptions", (3, 3), weighted=True, versions={
            "i8/i8pt": 4, "i8/i8pc": 12, "f32/i8pt": 3, "f32/i8pc": 12, "i8/i4pt": 10, "i8/i4pc": 12, "f32/i4pt": 10, "f32/i4pc": 12,
        },
    ),
    "BATCH_MATMUL": Op("BatchMatMulOptions", _BINARY, weighted=True),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Op(
        "UnidirectionalSequenceLSTMOptions", (20, 24), weighted=True, versions={"f32/i8pt": 2, "f32/i8pc": 2}
    ),
    "EMBEDDING_LOOKUP": Op(inputs=_BINARY, data=1, index=0, versions={"i8->f32": 1}),
    "ADD": Op("AddOptions", _BINARY, versions={"i64": 4}),
    "SUB": Op("SubOptions", _BINARY, versions={"i64": 4}),
    "MUL": Op("MulOptions", _BINARY, versions={"i64": 5}),
    "DIV": Op("DivOptions", _BINARY),
    "FLOOR_DIV": Op("FloorDivOptions", _BINARY, versions={"f32": 2, "i8": 3}),
    "FLOOR_MOD": Op("FloorModOptions", _BINARY),
    "POW": Op("PowOptions", _BINARY),
    "ATAN2": Op("ATan2Options", _BINARY),
    "SQUARED_DIFFERENCE": Op("SquaredDifferenceOptions", _BINARY),
    "MAXIMUM": Op("MaximumMinimumOptions", _BINARY, moves=True),
    "MINIMUM": Op("MaximumMinimumOptions", _BINARY, moves=True),
    "ADD_N": Op("AddNOptions", (2, 10_000)),
    "EQUAL": Op("EqualOptions", _BINARY, moves=True),
    "NOT_EQUAL": Op("NotEqualOptions", _BINARY, moves=True),
    "GREATER": Op("GreaterOptions", _BINARY, moves=True),
    "GREATER_EQUAL": Op("GreaterEqualOptions", _BINARY, moves=True),
    "LESS": Op("LessOptions", _BINARY, moves=True),
    "LESS_EQUAL": Op("LessEqualOptions", _BINARY, moves=True),
    "LOGICAL_AND": Op("LogicalAndOptions", _BINARY),
    "LOGICAL_OR": Op("LogicalOrOptions", _BINARY),
    "LOGICAL_NOT": Op("LogicalNotOptions"),
    "SELECT_V2": Op("SelectV2Options", (3, 3), data=1, moves=True, versions=_ONE),
    "MAX_POOL_2D": Op("Pool2DOptions", moves=True),
    "AVERAGE_POOL_2D": Op("Pool2DOptions", moves=True),
    "MEAN": Op("ReducerOptions", _BINARY),
    "SUM": Op("ReducerOptions", _BINARY),
    "REDUCE_PROD": Op("ReducerOptions", _BINARY),
    "REDUCE_MAX": Op("ReducerOptions", _BINARY, moves=True),
    "REDUCE_MIN": Op("ReducerOptions", _BINARY, moves=True),
    "REDUCE_ANY": Op("ReducerOptions", _BINARY),
    "REDUCE_ALL": Op("ReducerOptions", _BINARY),
    "ARG_MAX": Op("ArgMaxOptions", _BINARY, versions={"bool->i32": 3, "bool->i64": 3}),
    "ARG_MIN": Op("ArgMinOptions", _BINARY, versions={"bool->i32": 3, "bool->i64": 3}),
    "TOPK_V2": Op("TopKV2Options", _BINARY, moves=True),
    "CUMSUM": Op("CumsumOptions", _BINARY),
    "RELU": Op(versions={"u8": 2}),
    "RELU6": Op(),
    "RELU_N1_TO_1": Op(versions=_ONE),
    "RELU_0_TO_1": Op(versions=_ONE),
    "LEAKY_RELU": Op("LeakyReluOptions", versions=_ONE),
    "PRELU": Op(inputs=_BINARY, versions=_ONE),
    "ELU": Op(versions=_ONE),
    "GELU": Op("GeluOptions", versions={"u8": 2}),
    "HARD_SWISH": Op("HardSwishOptions", versions=_ONE),
    "LOGISTIC": Op(fixed=(1 / 256, 0)),
    "TANH": Op(fixed=(1 / 128, 128)),
    "SOFTMAX": Op("SoftmaxOptions", fixed=(1 / 256, 0)),
    "LOG_SOFTMAX": Op("LogSoftmaxOptions", fixed=(1 / 16, 255)),
    "L2_NORMALIZATION": Op("L2NormOptions", fixed=(1 / 128, 128)),
    "RMS_NORM": Op("RmsNormOptions", _BINARY),
    "LOCAL_RESPONSE_NORMALIZATION": Op("LocalResponseNormalizationOptions"),
    "ABS": Op("AbsOptions", versions={"u8": 2, "i32": 5}),
    "NEG": Op("NegOptions", versions=_ONE),
    "SIGN": Op("SignOptions", versions={"i32": 2}),
    "SQRT": Op(versions=_ONE),
    "RSQRT": Op(),
    "SQUARE": Op("SquareOptions", versions=_ONE),
    "EXP": Op("ExpOptions"),
    "LOG": Op(),
    "SIN": Op(versions=_ONE),
    "COS": Op("CosOptions", versions=_ONE),
    "FLOOR": Op(versions=_ONE),
    "CEIL": Op(versions=_ONE),
    "ROUND": Op(versions=_ONE),
    "RESIZE_BILINEAR": Op("ResizeBilinearOptions", _BINARY, moves=True, versions=_HALF_PIXEL),
    "RESIZE_NEAREST_NEIGHBOR": Op("ResizeNearestNeighborOptions", _BINARY, moves=True, versions=_HALF_PIXEL | _ALIGNED),
    "CONCATENATION": Op("ConcatenationOptions", (1, 10_000), moves=True),
    "PACK": Op("PackOptions", (1, 10_000), moves=True),
    "UNPACK": Op("UnpackOptions", moves=True, versions={"u8": 2, "bool": 3}),
    "SPLIT": Op("SplitOptions", _BINARY, data=1, moves=True, versions={"i32": 3}),
    "SPLIT_V": Op("SplitVOptions", (3, 3), moves=True),
    "SLICE": Op("SliceOptions", (3, 3), moves=True),
    "STRIDED_SLICE": Op("StridedSliceOptions", (4, 4), moves=True, versions={"bool": 3}),
    "GATHER": Op("GatherOptions", _BINARY, index=1, moves=True, versions={"bool": 3}),
    "GATHER_ND": Op("GatherNdOptions", _BINARY, index=1, moves=True, versions={"i8": 1, "bool": 5}),
    "SCATTER_ND": Op("ScatterNdOptions", (3, 3), data=1, index=0, moves=True, versions=_ONE),
    "ONE_HOT": Op("OneHotOptions", (4, 4), data=2, index=0, moves=True, versions=_ONE),
    "PAD": Op("PadOptions", _BINARY, moves=True),
    "PADV2": Op("PadV2Options", (3, 3), moves=True),
    "MIRROR_PAD": Op("MirrorPadOptions", _BINARY, moves=True),
    "TILE": Op("TileOptions", _BINARY, moves=True, versions={"i8": 3}),
    "BROADCAST_TO": Op("BroadcastToOptions", _BINARY, moves=True, since=2),
    "RESHAPE": Op("ReshapeOptions", _BINARY, moves=True, versions=_ONE),
    "SQUEEZE": Op("SqueezeOptions", moves=True, versions=_ONE),
    "EXPAND_DIMS": Op("ExpandDimsOptions", _BINARY, moves=True, versions=_ONE),
    "TRANSPOSE": Op("TransposeOptions", _BINARY, moves=True, versions={"bool": 3}),
    "REVERSE_V2": Op("ReverseV2Options", _BINARY, moves=True, versions={"bool": 2, "i8": 3}),
    "DEPTH_TO_SPACE": Op("DepthToSpaceOptions", moves=True),
    "SPACE_TO_DEPTH": Op("SpaceToDepthOptions", moves=True),
    "SPACE_TO_BATCH_ND": Op("SpaceToBatchNDOptions", (3, 3), moves=True),
    "BATCH_TO_SPACE_ND": Op("BatchToSpaceNDOptions", (3, 3), moves=True),
    "QUANTIZE": Op(
        "QuantizeOptions", versions={"f32->i8": 1, "f32->u8": 1, "u8->i8": 2, "i8->u8": 2, "i8->i8": 2, "u8->u8": 2, "f32->i16": 2}
    ),
    "DEQUANTIZE": Op("DequantizeOptions", versions={"i8->f32+pc": 5, "f16->f32": 3, "i16->f32": 3, "i4->f32": 6, "i4->f32+pc": 6}),
    "CAST": Op("CastOptions"),
    "CUSTOM": Op(inputs=(0, 10_000)),
}  # fmt: skip

# The versions that came with int16 activations.
_INT16 = {
    "CONV_2D": 4, "DEPTHWISE_CONV_2D": 5, "TRANSPOSE_CONV": 4, "FULLY_CONNECTED": 7, "BATCH_MATMUL": 3, "ADD": 3, "SUB": 5, "MUL": 4,
    "MAXIMUM": 4, "MINIMUM": 4, "MAX_POOL_2D": 3, "AVERAGE_POOL_2D": 3, "MEAN": 3, "RELU": 3, "RELU6": 3, "LEAKY_RELU": 2,
    "CONCATENATION": 3, "SPLIT": 4, "SLICE": 4, "STRIDED_SLICE": 4, "GATHER": 4, "PAD": 3, "PADV2": 3, "TRANSPOSE": 4,
}  # fmt: skip


def scheme(node: Node) -> str:
    """The key of a node in a target's capability table: ``f32``, ``u8``, ``i8->u8``, ``u8/u8pc``, ``i8+requant``, ``i8/i8pc+grouped``.

    Weighted operators give activation/weight with ``pc`` or ``pt``, or the activation alone if both are float; the others give the
    type of the data, and of the first result if it is another; custom ones are ``any``. What else a runtime may treat differently is
    marked, in this order:

    ``+affine``      a weight whose zero point is not in the middle (uint8 per tensor may have any)
    ``+grouped``     a convolution whose filter sees a part of the channels
    ``+odd``         a weight of 4 bits whose rows end in the middle of a byte
    ``+computed``    a weight that is no constant
    ``+batch``       a convolution of float images with integer weights, more than one image at a time
    ``+variable``    a state that is kept from call to call
    ``+pc``          data with a scale for each channel
    ``+i64``         positions in int64 (int32 else)
    ``+broadcast``   an arctangent of operands of unequal shapes
    ``+axes``        a reversal along several axes at once
    ``+dropped``     a reduction of four dimensions that drops others than the rows and columns of an image
    ``+half_pixel``  ``+aligned``  a resize by ``half_pixel_centers``, by ``align_corners``
    ``+rescaled``    a result that has not the fixed scale
    ``+finer``       a HARD_SWISH whose result has a step of 1/128 of the operand's or less
    ``+requant``     an operator that moves or compares integers, between unequal quantizations
    """
    if node.op == "CUSTOM":
        return "any"
    spec, data = OPS[node.op], _present(node.inputs[OPS[node.op].data])
    x, out = SHORT[data.type.dtype], SHORT[node.out.type.dtype]
    if spec.weighted:
        return _weighted_scheme(node, data, _present(node.inputs[1]))
    marks = {
        "+pc": data.type.quant is not None and data.type.quant.axis is not None,
        "+i64": spec.index is not None and _present(node.inputs[spec.index]).type.dtype is DType.INT64,
        "+broadcast": node.op == "ATAN2" and data.type.shape != _present(node.inputs[1]).type.shape,
        "+axes": node.op == "REVERSE_V2" and _present(node.inputs[1]).type.size > 1,
        "+dropped": spec.options == "ReducerOptions" and _drops(node, data),
        "+half_pixel": node.attrs.get("half_pixel_centers", False),
        "+aligned": node.attrs.get("align_corners", False),
        "+rescaled": _is_rescaled(node),
        "+finer": node.op == "HARD_SWISH" and _is_finer(node.out, data),
        "+requant": spec.moves and _requantizes(node),
    }
    return (x if x == out else f"{x}->{out}") + "".join(mark for mark, holds in marks.items() if holds)


def has_scheme(node: Node) -> bool:
    """Whether ``scheme`` can tell: the operator is in the table, with the operands that it looks at. Files of others may lack them."""
    if node.op not in OPS or node.op == "CUSTOM":
        return node.op == "CUSTOM"
    spec = OPS[node.op]
    asked = {spec.data, *(() if spec.index is None else (spec.index,))}
    if spec.weighted or spec.options == "ReducerOptions" or node.op in ("REVERSE_V2", "ATAN2"):
        asked.add(1)
    return bool(node.outputs) and all(i < len(node.inputs) and node.inputs[i] is not None for i in asked) and _flat(node) is None


def _weighted_scheme(node: Node, data: Value, weight: Value) -> str:
    x, w = SHORT[data.type.dtype], SHORT[weight.type.dtype]
    wide = "pc" if weight.type.quant and weight.type.quant.axis is not None else "pt"
    hybrid = data.type.dtype.is_float and not weight.type.dtype.is_float
    marks = {
        "+affine": _affine(weight),
        "+grouped": node.op == "CONV_2D" and weight.type.shape[3] != data.type.shape[3],
        "+odd": weight.type.dtype is DType.INT4 and weight.type.shape[-1] % 2 == 1,
        "+computed": weight.data is None,
        "+batch": hybrid and "CONV" in node.op and data.type.shape[0] > 1,
        "+variable": any(v is not None and v.variable for v in node.inputs),
    }
    return (x if weight.type.dtype.is_float else f"{x}/{w}{wide}") + "".join(mark for mark, holds in marks.items() if holds)


@cache
def defaults(op: str) -> Mapping[str, Any]:
    """The options of an operator that the schema gives a value if they are left out."""
    options = OPS[op].options if op in OPS else None
    names = {kind: {number: name for name, number in members.items()} for kind, members in ENUMS.items()}
    fields = TABLES[options].items() if options else ()
    return {key: names[f.type][int(f.default)] if f.type in ENUMS else f.default for key, f in fields if f.default is not None}


def version(node: Node) -> int:
    """The lowest operator version that has the node's types."""
    spec, key = OPS[node.op], scheme(node)
    types = key.partition("+")[0]
    has_int8 = types.startswith("i8") or types.endswith("i8")
    if types.partition("/")[0] == "i16":
        return _INT16.get(node.op, spec.since)
    return spec.versions.get(key, spec.versions.get(types, spec.since + has_int8))


def check(graph: Graph) -> list[Finding]:
    """What is wrong with the nodes of ``graph`` by the rules above; an empty list if nothing is."""
    return [finding for node in graph.nodes() for finding in check_node(node)] + [
        Finding("error", "variable", value.name, f"a variable that {count} operands are, each of which an operator may write")
        for value, count in graph.uses().items()
        if value.variable and count > 1
    ]


def check_node(node: Node) -> list[Finding]:
    """What is wrong with one operator, whatever the graph around it."""
    path = f"{node.where.module or '<top>'}/{node.out.name}"
    if node.op not in OPS:
        return [Finding("error", "unknown-op", path, f"not in the operator table: {node.op}")]
    if (fixed := _fixes_a_size(node)) is not None:
        return [Finding("error", "open", path, f"the sizes of a RESHAPE, {fixed}, do not leave one to the runtime for {node.out.type}")]
    low, high = OPS[node.op].inputs
    if not low <= len(node.inputs) <= high:
        return [Finding("error", "arity", path, f"{node.op} has {len(node.inputs)} inputs, takes {low} to {high}")]
    if (flat := _flat(node)) is not None:
        return [Finding("error", "shape", path, f"an operand of {node.op} has too few dimensions: {flat.name} {flat.type}")]
    return [
        Finding("error", "quant", path, f"{value.type.dtype.value} operand of {node.op} has no scale: {value.name}")
        for value in (*node.inputs, *node.outputs)
        if value is not None and value.type.is_bytes and node.op not in ("CAST", *MOVES_BYTES)
    ]


def _fixes_a_size(node: Node) -> list[int] | None:
    """The sizes of a RESHAPE to a tensor of any size, if they are constants and not one of them is open."""
    if node.op != "RESHAPE" or not node.out.type.open or len(node.inputs) < 2:
        return None
    target = _present(node.inputs[1])
    if target.data is None or target.type.dtype.is_float or target.type.size > 99:
        return None
    sizes = [int(size) for size in target.array().flat]
    return sizes if sizes and sizes.count(-1) != 1 else None


def _flat(node: Node) -> Value | None:
    """Data or a weight with fewer dimensions than the operator looks at."""
    least = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4}.get(node.op, 1) if OPS[node.op].weighted else 0
    asked = (node.inputs[OPS[node.op].data], node.inputs[1]) if least else ()
    return next((v for v in asked if v is not None and v.type.rank < least), None)


def _present(value: Value | None) -> Value:
    assert value is not None
    return value


def _affine(weight: Value) -> bool:
    quant = weight.type.quant
    if quant is None or (weight.type.dtype is DType.UINT8 and quant.axis is None):
        return False
    return bool((quant.zero_point != (128 if weight.type.dtype is DType.UINT8 else 0)).any())


def _drops(node: Node, data: Value) -> bool:
    if node.attrs.get("keep_dims") or data.type.rank != 4:
        return False
    axes = _present(node.inputs[1])
    if axes.data is None or axes.type.dtype.is_float or axes.type.size > 99:
        return True
    return {int(axis) % 4 for axis in axes.array().flat} != {1, 2}


def _is_rescaled(node: Node) -> bool:
    fixed, quant = OPS[node.op].fixed, node.out.type.quant
    if fixed is None or quant is None or node.out.type.dtype not in (DType.INT8, DType.UINT8):
        return False
    lowest = np.iinfo(node.out.type.dtype.numpy).min
    return (float(quant.scale[0]), int(quant.zero_point[0]) - lowest) != fixed


def _is_finer(out: Value, data: Value) -> bool:
    if out.type.quant is None or data.type.quant is None:
        return False
    return float(out.type.quant.scale[0]) * 128 <= float(data.type.quant.scale[0])


def _requantizes(node: Node) -> bool:
    scaled = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type.dtype in (DType.INT8, DType.UINT8, DType.INT16)]
    return len({v.type.quant for v in scaled}) > 1
