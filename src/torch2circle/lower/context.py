"""What a lowering is given: operands in the right order, and ``emit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import UnsupportedUse
from ..ir import Array, Constant, DType, Finding, Node, Origin, Quant, Type, Value, Where
from ..quant import Weights, constant_of, type_of
from ..record import Call, Recording, Ref
from ..spec import MOVES_BYTES, OPS, defaults
from .packs import Packs

Perm = tuple[int, ...]


def plain(rank: int) -> Perm:
    """PyTorch's own order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """N, spatial dimensions, C."""
    return (0, *range(2, rank), 1) if rank > 2 else plain(rank)


@dataclass(frozen=True)
class Placed:
    """A value, and the PyTorch dimension that each of its axes holds. A permute in PyTorch changes only ``order``."""

    value: Value
    order: Perm

    @property
    def shape(self) -> tuple[int, ...]:
        """In PyTorch's dimension order."""
        return tuple(self.value.type.shape[self.order.index(d)] for d in range(len(self.order)))


@dataclass(frozen=True)
class Options:
    """``io_layout``: ``"torch"`` keeps NCHW inputs and outputs, ``"nhwc"`` makes those of rank 4 channels last.
    ``bias_overflow``: ``"raise"`` a channel's weight scale until its bias fits int32, or stop with an ``"error"``.
    ``dynamic``: how layers compute whose activations PyTorch quantizes at run time: in the runtime's ``"hybrid"`` kernels, in float on
    weights behind a DEQUANTIZE (``"dequantize"``), or with PyTorch's own rounding of the activations (``"exact"``).
    ``recurrent``: ``"fused"`` sequence operators where the runtime has them, or every time step ``"unrolled"``.
    ``custom_ops``: PyTorch's operators that are written as custom ones -> what they are called there.
    ``any_size``: images may be of any size, so padding must not follow from the example's.
    """

    io_layout: str = "torch"
    bias_overflow: str = "raise"
    dynamic: str = "hybrid"
    recurrent: str = "fused"
    custom_ops: Mapping[str, str] = field(default_factory=dict)
    any_size: bool = False


CHOICES = {
    "io_layout": ("torch", "nhwc"),
    "bias_overflow": ("raise", "error"),
    "dynamic": ("hybrid", "dequantize", "exact"),
    "recurrent": ("fused", "unrolled"),
}


class Builder:
    """Emits nodes, and moves values between dimension orders with at most one TRANSPOSE a value and order."""

    def __init__(self, recording: Recording, options: Options) -> None:
        self.recording, self.options = recording, options
        self.env: dict[int, Placed] = {}
        self.findings: list[Finding] = []
        self.corrected: dict[int, Array] = {}
        self.steps: dict[int, float] = {}
        self.packs = Packs()
        self.late: list[Callable[[], None]] = []
        self.dequantize: dict[int, Callable[[Context], Value]] = {}
        self.quants: dict[int, Quant] = {}  # of plain integers, which do not know it themselves
        self.grids: dict[int, Any] = {}  # of scales that are chosen at run time
        self.unrounded: dict[int, tuple[Ref, Ref]] = {}  # of tensors rounded at run time: what they were before, and the scale
        self.read = recording.read()
        self._arranged: dict[tuple[Value, Perm], Value] = {}
        self._constants: dict[int, Placed] = {}
        self._counts: dict[str, int] = {}

    def name(self, stem: str) -> str:
        """``stem``, with a number behind it from the second time on."""
        count = self._counts[stem] = self._counts.get(stem, -1) + 1
        return stem if count == 0 else f"{stem}.{count}"

    def place(self, arg: Ref | Tensor, where: Where = Where()) -> Placed:
        """The value of a recorded tensor, or of a constant one, which ``where`` reads."""
        if isinstance(arg, Ref):
            return self.env[arg.index]
        if id(arg) not in self._constants:
            # a number in float64 makes no other operand wider
            tensor = arg.float() if arg.dtype is torch.float64 and arg.dim() == 0 else arg
            name = self.recording.name_of(arg) or "constant"
            type_ = type_of(tensor, where, name)
            value = Value(type_, self.name(name), data=constant_of(lambda: tensor, (id(arg),)))
            self._constants[id(arg)] = Placed(value, plain(type_.rank))
        return self._constants[id(arg)]

    def arrange(self, placed: Placed, order: Perm) -> Value:
        """The value with its axes in ``order``."""
        if placed.order == order:
            return placed.value
        key = placed.value, tuple(placed.order.index(d) for d in order)
        if key not in self._arranged:
            self._arranged[key] = self._transposed(*key, order)
        return self._arranged[key]

    def _transposed(self, value: Value, perm: Perm, order: Perm) -> Value:
        type_ = value.type.permute(perm)
        if value.data is not None:
            return replace(value, type=type_, data=value.data.map(lambda array: array.transpose(perm)))
        origin = value.origin and Origin(value.origin.tensor, tuple(value.origin.order[p] for p in perm))
        out = Value(type_, self.name(f"{value.name}.transposed"), origin=origin)
        return Node.make("TRANSPOSE", (value, self.const(np.array(perm, np.int32), "perm")), (out,)).out

    def const(self, array: Array, stem: str = "constant", quant: Quant | None = None) -> Value:
        return Value(Type(array.shape, DType.of(array), quant), self.name(stem), data=Constant.of(array))


class Context:
    """One call being lowered. ``order`` is the order its operands are in.

    ``hybrid``: float data and integer weights make a hybrid operator, whose kernel quantizes the data too. Unless a lowering says so, the
    weights stand behind a DEQUANTIZE, and the data is what PyTorch computes with.
    """

    hybrid = False

    def __init__(self, builder: Builder, call: Call, order: Perm) -> None:
        self.builder, self.call, self.order, self.where = builder, call, order, call.where
        self.orders: dict[str, Perm] = {}  # of results that are none of the recorded tensors
        self.outs = [builder.recording.tensors[i] for i in call.outs]
        self._types: dict[int, Type] = {}

    # -- facts about the call

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the first result, in PyTorch's order."""
        return tuple(self.outs[0].shape)

    def out_type(self, index: int = 0) -> Type:
        """The type PyTorch's result has, in PyTorch's order; plain integers do not know their scale, but the builder may."""
        if index not in self._types:
            self._types[index] = type_of(self.outs[index], self.where)
        type_, number = self._types[index], self.call.outs[index]
        return replace(type_, quant=self.builder.quants[number]) if number in self.builder.quants else type_

    def recorded(self, argument: str) -> Tensor:
        """What PyTorch was given for an argument that is a tensor."""
        value = self.call.args[argument]
        return self.builder.recording.tensors[value.index] if isinstance(value, Ref) else cast(Tensor, value)

    def is_read(self, index: int) -> bool:
        """Whether an output depends on result ``index``; the lowering may give None for one that is not."""
        return self.call.outs[index] in self.builder.read

    def packed(self, packed: Any) -> Weights:
        """The weight and bias in packed parameters.

        Raises:
            UnsupportedUse: PyTorch cannot unpack them.
        """
        return self.builder.packs.weights(packed, self.where)

    def only(self, condition: bool, argument: str, got: object, accepted: str) -> None:
        """Refuse a use of the operator that is not supported.

        Raises:
            UnsupportedUse: unless ``condition`` holds.
        """
        if not condition:
            raise UnsupportedUse(f"{argument} of {self.call.op}", got, accepted, where=self.where)

    def order_of(self, value: Value) -> Perm:
        """The PyTorch dimensions that the axes of a result hold."""
        return value.origin.order if value.origin else self.orders.get(value.name, self.order)

    def result_order(self, index: int, order: Perm | None) -> Perm:
        """``order``, or that of the operands; PyTorch's own stays that with another number of dimensions."""
        if order is not None:
            return order
        return plain(self.outs[index].dim()) if self.order == plain(len(self.order)) else self.order

    def axis(self, dim: int) -> int:
        """The axis that holds PyTorch's dimension ``dim`` (negative ones count from the end)."""
        return self.order.index(dim % len(self.order))

    # -- making nodes

    def emit(self, op: str, *inputs: Value | None, order: Perm | None = None, **attrs: Any) -> Value:
        """A node whose result is the one PyTorch's call gave, with its axes in ``order`` (the operands' order if not told)."""
        return self.emit_many(op, *inputs, order=order, **attrs)[0]

    def emit_result(self, index: int, op: str, *inputs: Value | None, order: Perm | None = None, **attrs: Any) -> Value:
        """A node of its own for result ``index`` of a call with several."""
        return self._make(op, inputs, [self.result(index, order)], attrs).out

    def as_result(self, value: Value, order: Perm | None = None, index: int = 0) -> Value:
        """The node that made ``value``, its result marked as the one PyTorch gave."""
        assert value.node is not None
        return self.emit_result(index, value.node.op, *value.node.inputs, order=order, **value.node.attrs)

    def emit_many(self, op: str, *inputs: Value | None, order: Perm | None = None, **attrs: Any) -> Sequence[Value]:
        """As ``emit``, for all results of the call."""
        return self._make(op, inputs, [self.result(i, order) for i in range(len(self.outs))], attrs).outputs

    def result(self, index: int, order: Perm | None = None) -> Value:
        """Result ``index`` of PyTorch's call, not yet made by a node."""
        order = self.result_order(index, order)
        return Value(self.out_type(index).permute(order), self._result_name(), origin=Origin(self.call.outs[index], order))

    def emit_as(self, type_: Type, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """A node whose result is none of PyTorch's."""
        return self._make(op, inputs, [Value(type_, self.builder.name(f"{self.stem}.{op.lower()}"))], attrs).out

    def _make(self, op: str, inputs: Sequence[Value | None], outputs: Sequence[Value], attrs: Mapping[str, Any]) -> Node:
        if op not in OPS:
            raise ValueError(f"the file has no operator {op}, or torch2circle does not know it")
        if strangers := [type(value).__name__ for value in inputs if value is not None and not isinstance(value, Value)]:
            raise TypeError(f"an operand of {op} is a {strangers[0]}, no Value; c.const makes one")
        if OPS[op].weighted and not self.hybrid:
            data, weight = inputs[OPS[op].data], inputs[1]
            if data is not None and data.type.dtype is DType.FLOAT32 and weight is not None and weight.type.dtype is not DType.FLOAT32:
                stored = self.emit_as(Type(weight.type.shape, DType.FLOAT32), "DEQUANTIZE", weight)
                inputs = [stored if value is weight else value for value in inputs]
        computes = op not in MOVES_BYTES and (op != "CAST" or outputs[0].type.is_bytes)
        if computes and any(v is not None and v.type.is_bytes for v in (*inputs, *outputs)):
            accepted = "converted from, and computed with in another type: integers of 8 bits have no scale"
            raise UnsupportedUse("dtype", "torch.uint8 or torch.int8", accepted, where=self.where)
        if "fused_activation_function" in defaults(op):
            attrs = {"fused_activation_function": "NONE", **attrs}  # rules ask for it
        stored_options = {key: float(np.float32(v)) if isinstance(v, float) else v for key, v in attrs.items()}  # as the file holds them
        return Node.make(op, inputs, outputs, stored_options, self.where)

    @property
    def stem(self) -> str:
        """What the values of this call are named after: its module, or its operator."""
        return self.where.module or self.call.op.partition("::")[2].partition(".")[0]

    def _result_name(self) -> str:
        return self.builder.name(self.stem)

    def const(self, data: Array | Sequence[int] | float, stem: str = "constant", quant: Quant | None = None) -> Value:
        """A constant; integers become int32, as every operator wants its axes and shapes, and floats float32."""
        array = np.asarray(data)
        narrow = {"i": np.int32, "f": np.float32}.get(array.dtype.kind if array.size else "i") if not isinstance(data, np.ndarray) else None
        return self.builder.const(array.astype(narrow) if narrow else array, stem, quant)

    def at_run_time(self, value: Value, dequantize: Callable[[Context], Value]) -> Value:
        """``value`` for a quantized result whose scale depends on the data; ``dequantize`` emits the float tensor that it stands for."""
        self.builder.dequantize[self.call.outs[0]] = dequantize
        return value

    def later(self, judge: Callable[[], None]) -> None:
        """Put off what only verification and the diagnostics need: ``corrected``, ``steps`` and notes of them. The file does not."""
        self.builder.late.append(judge)

    def tolerate(self, step: float) -> None:
        """How far apart two right results of this call may be, for verification."""
        self.builder.steps[self.call.outs[0]] = step

    def note(self, severity: str, code: str, message: str) -> None:
        """Tell the user something about this call."""
        self.builder.findings.append(Finding(severity, code, self.where.module or "<top>", f"{message} ({self.where})"))


def reshaped(c: Context, value: Value, shape: Sequence[int]) -> Value:
    """``value`` with another shape: a constant is reshaped when written, anything else by a RESHAPE."""
    type_ = value.type.reshape(shape)
    if type_ == value.type:
        return value
    if value.data is not None:
        return replace(value, type=type_, data=value.data.map(lambda array: array.reshape(tuple(shape))))
    return c.emit_as(type_, "RESHAPE", value, c.const(list(shape), "shape"), new_shape=list(shape))
