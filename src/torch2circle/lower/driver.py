"""Recording -> neutral graph: bring each call's operands into the order its lowering wants, and call it."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..errors import Bug, Torch2CircleError, UnsupportedOps, UnsupportedUse, UserError, together
from ..format import misfit
from ..ir import Array, DType, Finding, Graph, Node, Origin, Quant, Type, Value, Where
from ..optimize.fuse import ACTIVATIONS
from ..quant import INSTEAD, type_of
from ..record import CHANNELS, WEIGHTED, Call, Recording, Ref
from ..spec import OPS, check
from ..trees import mapped, parts
from .chosen import DEQUANTIZE, on_unrounded, prepare_hybrid
from .context import Builder, Context, Options, Perm, Placed, channels_last, plain, reshaped
from .custom import write_as_custom
from .registry import LOWERINGS, PARAMETERS, Lowering, Order, nearest
from .vocabulary import reason

COMPLEX = f"complex numbers, for which the files have no type: {INSTEAD[torch.complex64]}"
EMPTY = "at least one element: runtimes crash on tensors without"
# Operators whose weight may be given as it is stored, dequantized by the file; and those where groups of a row have scales.
TAKES_STORED = re.compile(rf"({WEIGHTED.pattern}|torch2circle::linear_by_row\b)")
TAKES_GROUPS = re.compile(r"(aten::linear|torch2circle::linear_by_row)\b")
# Those that may compute on the integers of a constant.
ARITHMETIC = ("aten::add.Tensor", "aten::sub.Tensor", "aten::mul.Tensor")


@dataclass(frozen=True)
class Judged:
    """What PyTorch's kernels made of the example. ``corrected``: for recorded tensors where PyTorch's kernel is known to deviate from what
    it documents, the integers that it documents. ``steps``: for float tensors whose operands PyTorch quantizes at run time, by how much
    two right ways of rounding these may differ.
    """

    findings: tuple[Finding, ...]
    corrected: Mapping[int, Array]
    steps: Mapping[int, float]


@dataclass(frozen=True)
class Lowered:
    """``graph``: Circle's operators with PyTorch's own integers. ``judge`` computes layers again as they are documented, the first time
    that it is called: verification and the user want to know, a file does not.
    """

    graph: Graph
    findings: tuple[Finding, ...]
    judge: Callable[[], Judged]


def lower(recording: Recording, options: Options = Options()) -> Lowered:
    """The neutral graph of a recording.

    Raises:
        UnsupportedOps: naming every operator without a lowering.
        UnsupportedUse, QuantizationError: from the first call that cannot be expressed; those of the others are its ``also``.
    """
    calls = recording.needed()
    builder = Builder(recording, options)
    inputs = []
    for number, name in zip(recording.inputs, recording.input_names, strict=True):
        order = _io_order(recording.tensors[number].dim(), options.io_layout)
        type_ = _type_of_leaf(recording.tensors[number], f"input {name}")
        value = Value(type_.permute(order), builder.name(name), origin=Origin(number, order))
        builder.env[number] = Placed(value, order)
        inputs.append(value)
    with builder.packs.ahead(calls):
        errors = _lower_calls(builder, calls)
    if errors:
        raise together(errors)
    _refuse_run_time_scales(builder, recording.outputs, Where())
    outputs = []
    for out, name in zip(recording.outputs, recording.output_names, strict=True):
        _type_of_leaf(recording.tensors[out.index] if isinstance(out, Ref) else out, f"output {name}")
        placed = builder.place(out)
        outputs.append(builder.arrange(placed, _io_order(len(placed.order), options.io_layout)))
    graph = Graph(tuple(inputs), tuple(outputs), recording.input_names, recording.output_names)
    return Lowered(graph, tuple(builder.findings), _once(partial(_judged, builder, len(builder.findings))))


def _once(make: Callable[[], Judged]) -> Callable[[], Judged]:
    """``make``, which runs once, whatever threads call."""
    lock = Lock()
    made: list[Judged] = []

    def once() -> Judged:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return once


def _judged(builder: Builder, told: int) -> Judged:
    del builder.findings[told:]  # of an attempt that was interrupted
    for judge in builder.late:
        judge()
    _behind_activations(builder)
    return Judged(tuple(builder.findings[told:]), builder.corrected, builder.steps)


def _lower_calls(builder: Builder, calls: Sequence[Call]) -> list[UserError]:
    """Lower the calls in their order, and go on behind one that cannot be: what is wrong with each."""
    missing = _missing(builder.recording, [call for call in calls if call.op not in builder.options.custom_ops])
    errors: list[UserError] = [] if missing is None else [missing]
    for call in calls:
        if call.op not in LOWERINGS and call.op not in builder.options.custom_ops and not _is_empty(builder, call):
            _stand_in(builder, call)
        elif (error := _failure(builder, call)) is not None:
            if isinstance(error, UserError):
                errors.append(error)
            elif not errors:  # else it may be for what stands in for an earlier result
                raise error
            _stand_in(builder, call)
    return errors


def _failure(builder: Builder, call: Call) -> Exception | None:
    """Lower a call; what is raised instead."""
    custom = builder.options.custom_ops
    try:
        if _is_empty(builder, call):
            builder.env[call.outs[0]] = builder.place(builder.recording.tensors[call.outs[0]], call.where)
        elif call.op in custom:
            write_as_custom(builder, call, custom[call.op])
        else:
            _lower_call(builder, call, LOWERINGS[call.op])
    except Exception as error:
        return error
    return None


def _stand_in(builder: Builder, call: Call) -> None:
    """Values of the right types for the results of a call that was not lowered, so that the calls behind it are judged, too."""
    for number in call.outs:
        tensor = builder.recording.tensors[number]
        with suppress(UserError):  # a type that no file has; what reads it is not judged
            value = Value(type_of(tensor), f"{call.op}.{number}", origin=Origin(number, plain(tensor.dim())))
            builder.env[number] = Placed(value, plain(tensor.dim()))


def _type_of_leaf(tensor: Tensor, name: str) -> Type:
    """The type of an input or output."""
    if not tensor.numel():
        raise UnsupportedUse(f"shape of {name}", list(tensor.shape), EMPTY)
    return type_of(tensor, name=name)


def _behind_activations(builder: Builder) -> None:
    """What is known of a float result holds behind an activation, too: the two may become one operator."""
    for number, placed in builder.env.items():
        node = placed.value.node
        source = node.inputs[0].origin if node and node.op in ACTIVATIONS and node.inputs[0] else None
        if node is None or source is None or not node.out.type.dtype.is_float:
            continue
        if source.tensor in builder.steps:
            builder.steps[number] = builder.steps[source.tensor]
        if source.tensor in builder.corrected:
            builder.corrected[number] = np.clip(builder.corrected[source.tensor], *ACTIVATIONS[node.op])


def _io_order(rank: int, io_layout: str) -> Perm:
    return channels_last(rank) if io_layout == "nhwc" and rank == 4 else plain(rank)


def _is_empty(builder: Builder, call: Call) -> bool:
    """Whether the result has no elements: it is a constant whatever the input is, and no runtime meets an empty operand."""
    return len(call.outs) == 1 and not builder.recording.tensors[call.outs[0]].numel()


def _is_complex(recording: Recording, call: Call) -> bool:
    read = [leaf for leaf in pytree.tree_leaves(dict(call.args)) if isinstance(leaf, (Ref, Tensor))]
    return any((recording.tensors[t.index] if isinstance(t, Ref) else t).is_complex() for t in (*read, *map(Ref, call.outs)))


def _missing(recording: Recording, calls: Sequence[Call]) -> UnsupportedOps | None:
    """The operators without a lowering."""
    places: dict[str, list[Where]] = {}
    for call in calls:
        if call.op not in LOWERINGS:
            places.setdefault(call.op, []).append(replace(call.where, op=""))
    if not places:
        return None
    reasons = {op: why for op in places if (why := reason(op))}
    reasons |= {call.op: COMPLEX for call in calls if call.op in places and _is_complex(recording, call)}
    return UnsupportedOps([(op, len(found), found[0], nearest(op)) for op, found in places.items()], reasons, places)


def _lower_call(builder: Builder, rounded: Call, lowering: Lowering) -> None:
    call = on_unrounded(builder, rounded) if TAKES_STORED.match(rounded.op) else rounded
    first = next(iter(call.args))
    args = {("x" if name == first and name not in lowering.params else name): value for name, value in call.args.items()}
    activations = {name: value for name, value in args.items() if name in lowering.params and name not in PARAMETERS}
    tensors = [leaf for leaf in parts(activations) if isinstance(leaf, (Ref, Tensor))]
    placed = [builder.place(leaf, call.where) for leaf in tensors]
    order = _common_order(lowering.order, placed)
    c = Context(builder, call, order)
    if call is not rounded:
        prepare_hybrid(c, rounded)
    if lowering.order is Order.LAST:
        c.only(len(order) == 4, "number of dimensions", len(order), "4: batch, channels, height, width")
    c.only(call.op == "aten::cat" or all(p.value.type.size for p in placed), "operand", "a tensor without elements", EMPTY)
    if call.op not in ("aten::dequantize.self", *DEQUANTIZE):
        _refuse_run_time_scales(builder, tensors, c.where)
    island = lowering.island and any(p.value.type.quant for p in placed)
    if island:
        c = _FloatContext(builder, call, order)

    def operand(leaf: Any) -> Any:
        if not isinstance(leaf, (Ref, Tensor)):
            return leaf
        stored = _integers(c, leaf)
        placed = builder.place(leaf if stored is None else stored)
        if lowering.order is Order.FREE:
            return placed
        value = builder.arrange(placed, plain(len(placed.order))) if lowering.order is Order.PLAIN else _in_order(c, placed, order)
        return value if stored is None and not island else _dequantized(c, value)

    operands = {name: mapped(operand, value) for name, value in activations.items()}
    parameters = {name: _parameter(c, name) for name in lowering.params if name in call.args and name in PARAMETERS}
    constants = {k: v for k, v in lowering.constants.items() if k in lowering.params}
    results = _results(c, lowering, lambda: lowering.body(c, **operands, **parameters, **constants))
    for number, made in zip(call.outs, results, strict=True):
        if number not in builder.read:
            continue
        placed_result = made if isinstance(made, Placed) else Placed(made, c.order_of(made))
        builder.env[number] = _quantized(c, number, placed_result) if island else placed_result
        _check(builder, call, lowering, number)
        c.later(partial(_move_step, builder, number))


def _results(c: Context, lowering: Lowering, body: Callable[[], Any]) -> list[Any]:
    """What a lowering gives, a value or None for each result of the call."""
    call = c.call
    try:
        made = body()
    except Exception as error:
        if lowering.ours or isinstance(error, Torch2CircleError):
            raise
        raise _mistake(call, lowering, f"raised {type(error).__name__}: {error}") from error
    results = list(made) if isinstance(made, (list, tuple)) else [made]
    if len(results) != len(call.outs):
        raise _mistake(call, lowering, f"gave {len(results)} results, PyTorch {len(call.outs)}")
    return results if lowering.ours else _checked(c, lowering, results)


def _checked(c: Context, lowering: Lowering, results: list[Any]) -> list[Any]:
    """What a user's lowering gives, if it is what one of ours would give."""
    for index, made in enumerate(results):
        value = made.value if isinstance(made, Placed) else made
        if not isinstance(value, Value) and (value is not None or c.is_read(index)):
            raise _mistake(c.call, lowering, f"returned {type(value).__name__}, no Value, which is what c.emit gives")
        if value is None:
            continue
        if value.type.rank != c.outs[index].dim():
            raise _mistake(c.call, lowering, f"gave {value.type} for {c.out_type(index)}")
        graph = Graph((), (value,), (), ())
        errors = [finding.message for finding in check(graph) if finding.severity == "error"]
        errors += filter(None, (misfit(node) for node in graph.nodes() if node.where is c.where))
        if errors:
            raise _mistake(c.call, lowering, f"made an operator that cannot be written: {errors[0]}")
    return results


def _mistake(call: Call, lowering: Lowering, what: str) -> Exception:
    """What is wrong with a lowering: a bug, unless it is the user's own."""
    if lowering.ours:
        return Bug(f"the lowering of {call.op} {what}", where=call.where)
    body = inspect.unwrap(lowering.body)
    code = getattr(body, "__code__", None)  # a callable object has none
    place = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""
    message = f"{getattr(body, '__qualname__', repr(body))}{place}, registered for {call.op}, {what}"
    return UserError(message, where=call.where, hint="docs/custom-ops.md says what a lowering gives")


def _move_step(builder: Builder, number: int) -> None:
    if number not in builder.steps and (step := _step_behind(builder, builder.env[number].value)):
        builder.steps[number] = step


def _step_behind(builder: Builder, value: Value) -> float:
    """The tolerance of the float tensors that a value only moves elements of; 0 if none is known."""
    if value.node is None or not OPS[value.node.op].moves or not value.type.dtype.is_float:
        return 0
    inputs = [v for v in value.node.inputs if v is not None]
    return max(builder.steps.get(v.origin.tensor, 0) if v.origin else _step_behind(builder, v) for v in inputs)


def _refuse_run_time_scales(builder: Builder, tensors: Sequence[Any], where: Where) -> None:
    if any(isinstance(tensor, Ref) and tensor.index in builder.dequantize for tensor in tensors):
        accepted = "known beforehand, or dequantized at once"
        raise UnsupportedUse("the scale of a quantized tensor", "computed from the data", accepted, where=where)


def _integers(c: Context, leaf: Ref | Tensor) -> Tensor | None:
    """The integers, of one scale, that a constant operand was dequantized from."""
    stored = c.builder.recording.stored_as(leaf) if c.call.op in ARITHMETIC and isinstance(leaf, Tensor) else None
    return stored if stored is not None and stored.is_quantized and stored.qscheme() is torch.per_tensor_affine else None


def _parameter(c: Context, name: str) -> Tensor | None:
    value = c.call.args[name]
    c.only(not isinstance(value, Ref), name, "a tensor computed from an input", "a parameter of the model")
    if isinstance(value, Tensor) and name == "weight" and TAKES_STORED.match(c.call.op):
        stored = c.builder.recording.stored_as(value)
        if TAKES_GROUPS.match(c.call.op) and (groups := c.builder.recording.groups_of(value)) is not None:
            stored = groups
        fits = stored.dtype in (torch.qint8, torch.quint8, torch.float16) and _scaled_by_outputs(c, stored)
        return stored if fits else value
    return cast("Tensor | None", value)


def _scaled_by_outputs(c: Context, weight: Tensor) -> bool:
    """Whether the scales of a weight, if there are several, are one for each output channel: sums in integers have no others."""
    if not weight.is_quantized or weight.qscheme() not in CHANNELS:
        return True
    transposed = "transpose" in c.call.op or bool(c.call.args.get("transposed"))
    return weight.q_per_channel_axis() == int(transposed) and not (transposed and c.call.args["groups"] != 1)


def _common_order(wanted: Order, placed: Sequence[Placed]) -> Perm:
    """The order in which all operands of the highest rank will be; for ANY the one that most of the data is in already."""
    rank = max((len(p.order) for p in placed), default=0)
    if wanted is Order.LAST:
        return channels_last(rank)
    if wanted in (Order.PLAIN, Order.FREE):
        return plain(rank)
    sizes: Counter[Perm] = Counter()
    for p in placed:
        if len(p.order) == rank and p.value.data is None:
            sizes[p.order] += p.value.type.size
    return sizes.most_common(1)[0][0] if sizes else plain(rank)


def _in_order(c: Context, placed: Placed, order: Perm) -> Value:
    """Operands of lower rank are aligned at the last PyTorch dimension first, as broadcasting does, and only then permuted."""
    rank = len(placed.order)
    if rank == len(order):
        return c.builder.arrange(placed, order)
    if (rank <= 1 and order == plain(len(order))) or rank == 0:
        return placed.value
    shape = (1,) * (len(order) - rank) + placed.shape
    value = c.builder.arrange(placed, plain(rank))
    return c.builder.arrange(Placed(reshaped(c, value, shape), plain(len(order))), order)


# -- float islands: what PyTorch computes by dequantizing, computing in float and quantizing again


class _FloatContext(Context):
    """A context whose quantized results are float, to be quantized behind it."""

    def result(self, index: int, order: Perm | None = None) -> Value:
        type_, order = self.out_type(index), self.result_order(index, order)
        if type_.quant is None:
            return super().result(index, order)
        name = self.builder.name(f"{self.stem}.float")
        self.orders[name] = order
        return Value(Type(type_.permute(order).shape, DType.FLOAT32), name)


def _dequantized(c: Context, value: Value) -> Value:
    if value.type.quant is None:
        return value
    return c.emit_as(Type(value.type.shape, DType.FLOAT32), "DEQUANTIZE", value)


def _quantized(c: Context, number: int, made: Placed) -> Placed:
    """A float result of an island as the quantized one that PyTorch gave."""
    out = Context.result(c, c.call.outs.index(number), made.order)
    if out.type.quant is None or made.value.type.quant is not None:
        return made
    return Placed(Node.make("QUANTIZE", (made.value,), (out,), where=c.where).out, made.order)


def _check(builder: Builder, call: Call, lowering: Lowering, number: int) -> None:
    """The value has the type PyTorch's result has; found here, at the lowering that made it."""
    placed, tensor = builder.env[number], builder.recording.tensors[number]
    if number in builder.dequantize:
        return
    expected = type_of(tensor, call.where)
    expected = replace(expected, quant=builder.quants.get(number, expected.quant))
    if (
        placed.shape != expected.shape
        or placed.value.type.dtype != expected.dtype
        or not _same_quant(placed.value.type.quant, expected.quant)
    ):
        raise _mistake(call, lowering, f"gave {placed.value.type} for {expected}")


def _same_quant(ours: Quant | None, torchs: Quant | None) -> bool:
    """Per-channel axes are compared by Type.permute's own rule, so only per-tensor numbers are held against each other."""
    return ours == torchs or (ours is not None and torchs is not None and ours.axis is not None)
