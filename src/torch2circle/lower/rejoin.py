"""Linear layers that arrive taken apart, as one call again.

The weights of torchao's ``quantize_`` are tensors with arithmetic of their own. What PyTorch's dispatcher sees of a layer is a product
with integers, products with scales and a sum, and in front of them an activation rounded with a scale for each row. Here every recorded
tensor that is such a layer's result, with as much of it as was computed so far, becomes a call of the whole; what then is read by nothing
is gone, so that only the last one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..record import Call, Recording, Ref

SMALLEST = float(torch.finfo(torch.float32).smallest_normal)
LAYER, LAYER_BY_ROW = "aten::linear", "torch2circle::linear_by_row"
_ARGUMENTS = "Tensor input, Tensor weight, Tensor? bias, bool symmetric, int low, int high, float least, bool rows"
torch.library.define(LAYER_BY_ROW, f"({_ARGUMENTS}) -> Tensor")  # a name and a schema for the call; it is never run


@dataclass(frozen=True)
class Rounding:
    """How an activation is rounded at run time: to integers from ``low`` to ``high``, with a scale for each row or one for all."""

    symmetric: bool
    low: int
    high: int
    least: float
    rows: bool


@dataclass(frozen=True)
class Rows:
    """``x``, the input of a layer, with leading dimensions perhaps folded."""

    x: Ref


@dataclass(frozen=True)
class Part(Rows):
    """Something of the rounded ``x``: its ``"scale"``, its ``"zero_point"``, their product ``"shift"``, or ``"real"``, its numbers."""

    kind: str
    rounding: Rounding


@dataclass(frozen=True)
class Integers(Rows):
    """The rounded ``x``, as integers that are ``above`` their own."""

    rounding: Rounding
    above: int = 0


@dataclass(frozen=True)
class Correction(Rows):
    """What the zero point of ``x`` adds to a product with weights whose rows add up to ``sums``."""

    rounding: Rounding
    sums: Tensor


@dataclass(frozen=True)
class Product(Rows):
    """``x`` times ``weight`` [units, depth], which is int8 or float, times ``scales`` [units] or [1], plus ``bias``.

    If ``rounding`` tells how ``x`` is rounded: the integers of ``x`` were ``above`` their own, the product is not yet multiplied by the
    scale of ``x`` (``unscaled``), and its zero point is still in it (``shifted``).
    """

    weight: Tensor
    rounding: Rounding | None = None
    scales: Tensor | None = None
    bias: Tensor | None = None
    above: int = 0
    unscaled: bool = False
    shifted: bool = False

    @property
    def has_scales(self) -> bool:
        return self.scales is not None or self.weight.is_floating_point()

    @property
    def is_layer(self) -> bool:
        return self.has_scales and not (self.above or self.unscaled or self.shifted)

    def call(self, call: Call) -> Call:
        """The layer in place of the operator that gave its result; that operator itself where this is no layer yet."""
        if not self.is_layer:
            return call
        weight = self.weight if self.scales is None else quantized(self.weight, self.scales)
        args = {"input": self.x, "weight": weight, "bias": self.bias}
        return layer(call, args, self.rounding)


def layer(call: Call, args: Mapping[str, Any], rounding: Rounding | None) -> Call:
    op, facts = (LAYER, {}) if rounding is None else (LAYER_BY_ROW, vars(rounding))
    return replace(call, op=op, args={**args, **facts}, where=replace(call.where, op=op))


def quantized(integers: Tensor, scales: Tensor) -> Tensor:
    """As a tensor that knows its scale, or that of each row, in the same memory."""
    integers, scales = integers.contiguous(), scales.detach().flatten()
    if scales.numel() == 1:
        made = torch._empty_affine_quantized(integers.shape, scale=float(scales), zero_point=0, dtype=torch.qint8)
    else:
        facts: Any = {"scales": scales, "zero_points": torch.zeros(len(scales), dtype=torch.int64), "axis": 0}
        made = torch._empty_per_channel_affine_quantized(integers.shape, **facts, dtype=torch.qint8)
    made.set_(integers.untyped_storage(), integers.storage_offset(), integers.shape, integers.stride())
    return made


def rejoined(recording: Recording) -> Recording:
    """The recording with a call for each linear layer that was taken apart."""
    reader = _Reader(recording)
    made = replace(recording, calls=tuple(map(reader.whole, recording.calls)))
    needed = {id(call) for call in made.needed()}
    return replace(made, calls=tuple(_in_float(call) if id(call) in needed else call for call in made.calls))


def _in_float(call: Call) -> Call:
    """A product with integers that is no layer, as PyTorch computes it. While recording, they were kept as they are."""
    columns = call.args.get("mat2")
    if call.op != "aten::mm" or not isinstance(columns, Tensor) or columns.dtype is not torch.int8:
        return call
    return replace(call, args={**call.args, "mat2": columns.float()})


class _Reader:
    """Finds out call by call what the recorded tensors are."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.known: dict[int, Rows] = {}
        self.unfolded: dict[int, Ref] = {}  # a tensor with leading dimensions folded -> as it was
        self.readers: Mapping[str, Callable[[Call], Sequence[Rows] | Rows | None]] = {
            "torchao::choose_qparams_affine": self.chosen,
            "torchao::quantize_affine": self.integers,
            "torchao::dequantize_affine": self.real,
            **dict.fromkeys(("aten::reshape", "aten::view", "aten::_unsafe_view", "aten::contiguous", "aten::unsqueeze"), self.view),
            **dict.fromkeys(("aten::to.dtype", "aten::_to_copy"), self.converted),
            "aten::mm": self.product,
            "aten::_int_mm": self.product,
            "aten::mul.Tensor": self.scaled,
            "aten::sub.Tensor": self.less,
            "aten::add.Tensor": self.more,
        }

    def whole(self, call: Call) -> Call:
        if call.op == LAYER and isinstance(rounded := self.of(call.args["input"]), Part) and rounded.kind == "real":
            return layer(call, {**call.args, "input": rounded.x}, rounded.rounding)
        found = self.readers[call.op](call) if call.op in self.readers else None
        if found is None:
            return call
        self.known.update(zip(call.outs, [found] if isinstance(found, Rows) else found, strict=True))
        return found.call(call) if isinstance(found, Product) else call

    def of(self, arg: Any) -> Rows | None:
        return self.known.get(arg.index) if isinstance(arg, Ref) else None

    def shape(self, arg: Ref) -> tuple[int, ...]:
        return tuple(self.recording.tensors[arg.index].shape)

    # -- the activation

    def chosen(self, call: Call) -> Sequence[Rows] | None:
        x, block, least = call.args["input"], list(call.args["block_size"]), call.args["eps"]
        shape = list(self.shape(x))
        by_rows = block == [*[1] * (len(shape) - 1), shape[-1]]
        if call.args["mapping_type"] not in ("SYMMETRIC", "ASYMMETRIC") or not (by_rows or block == shape):
            return None
        low, high = call.args["quant_min"], call.args["quant_max"]
        rounding = Rounding(call.args["mapping_type"] == "SYMMETRIC", low, high, SMALLEST if least is None else least, by_rows)
        return Part(x, "scale", rounding), Part(x, "zero_point", rounding)

    def integers(self, call: Call) -> Rows | None:
        scale = self.of(call.args["scale"])
        ends = call.args["quant_min"], call.args["quant_max"]
        if not isinstance(scale, Part) or scale.x != call.args["input"] or ends != (scale.rounding.low, scale.rounding.high):
            return None
        return Integers(scale.x, scale.rounding)

    def real(self, call: Call) -> Rows | None:
        given, scale = self.of(call.args["input"]), self.of(call.args["scale"])
        if not isinstance(given, Integers) or not isinstance(scale, Part) or (scale.x, scale.rounding) != (given.x, given.rounding):
            return None
        return Part(given.x, "real", given.rounding)

    def view(self, call: Call) -> Rows | None:
        given, out = call.args["self"], self.recording.tensors[call.outs[0]]
        if not isinstance(given, Ref) or (not isinstance(self.of(given), Part) and self.shape(given)[-1:] != tuple(out.shape[-1:])):
            return None
        self.unfolded[call.outs[0]] = self.unfolded.get(given.index, given)
        return self.of(given) or Rows(given)

    def converted(self, call: Call) -> Rows | None:
        given = self.of(call.args["self"])
        return given if call.args["dtype"] in (torch.float32, torch.int32, torch.uint8) and type(given) is not Rows else None

    # -- the product

    def product(self, call: Call) -> Rows | None:
        given, columns = call.args["self"], call.args["mat2"]
        if not isinstance(given, Ref) or not isinstance(columns, Tensor):
            return None
        known = self.of(given) or Rows(given)
        if isinstance(known, Product) and known.is_layer:  # of which this is the next
            known = Rows(self.unfolded.get(given.index, given))
        if (weight := self.recording.turned.get(id(columns))) is None:
            weight = eight_bit(columns)
        if weight is None:
            return None
        if isinstance(known, Integers):
            return Product(known.x, weight, known.rounding, above=known.above, unscaled=True, shifted=not known.rounding.symmetric)
        return Product(known.x, weight) if type(known) is Rows else None

    def scaled(self, call: Call) -> Rows | None:
        given, other = self.of(call.args["self"]), call.args["other"]
        factor = self.of(other)
        if isinstance(given, Part) and isinstance(factor, Part) and {given.kind, factor.kind} == {"scale", "zero_point"}:
            return replace(given, kind="shift")
        if isinstance(given, Part) and given.kind == "shift" and isinstance(other, Tensor):
            return Correction(given.x, given.rounding, other)
        if isinstance(given, Product) and given.bias is None and isinstance(factor, Part) and factor.kind == "scale":
            return replace(given, unscaled=False) if given.unscaled and (factor.x, factor.rounding) == (given.x, given.rounding) else None
        if isinstance(given, Product) and given.bias is None and isinstance(other, Tensor) and other.numel() in (1, len(given.weight)):
            return None if given.has_scales or not positive(other) else replace(given, scales=other)
        return None

    def less(self, call: Call) -> Rows | None:
        given, other = self.of(call.args["self"]), call.args["other"]
        taken = self.of(other)
        if not isinstance(given, Product) or given.rounding is None or call.args["alpha"] != 1:
            return None
        sums = given.weight.sum(1, dtype=torch.int32)
        if isinstance(other, Tensor):
            return replace(given, above=0) if torch.equal(other.flatten(), sums * given.above) else None
        if not isinstance(taken, Correction) or (taken.x, taken.rounding) != (given.x, given.rounding) or given.unscaled:
            return None
        return replace(given, shifted=False) if torch.equal(taken.sums.flatten(), sums.float()) else None

    def more(self, call: Call) -> Rows | None:
        given, other = self.of(call.args["self"]), call.args["other"]
        if call.args["alpha"] != 1:
            return None
        if isinstance(given, Integers) and isinstance(other, int):
            return replace(given, above=given.above + other)
        if not isinstance(given, Product) or given.bias is not None or not given.has_scales or not isinstance(other, Tensor):
            return None
        return replace(given, bias=other) if other.shape == (len(given.weight),) else None


def eight_bit(columns: Tensor) -> Tensor | None:
    """The transpose of a matrix whose elements are integers of 8 bits, as int8."""
    if columns.dtype is torch.int8:
        return columns.t()
    integers = columns.t().to(torch.int8) if columns.dtype is torch.float32 else None
    return integers if integers is not None and torch.equal(integers.float(), columns.t()) else None


def positive(scales: Tensor) -> bool:
    return scales.dtype is torch.float32 and bool((scales > 0).all() and scales.isfinite().all())
