"""The table of lowerings: PyTorch operator -> plain function, filled by ``@lowers`` and checked at import."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeVar

import torch


class Order(Enum):
    """The dimension order a lowering wants its operands in; the driver brings them there.

    ``LAST``: channels last, as convolutions and pools demand. ``ANY``: one common order, whichever is cheapest; the lowering
    translates dimensions with ``c.axis``. ``PLAIN``: PyTorch's own order, and each operand with its own number of dimensions.
    ``FREE``: the lowering gets ``Placed`` values and moves only their order.
    """

    LAST = "last"
    ANY = "any"
    PLAIN = "plain"
    FREE = "free"


@dataclass(frozen=True)
class Lowering:
    """``island``: on quantized operands compute in float32 between DEQUANTIZE and QUANTIZE, as PyTorch itself does.
    ``ours``: not a user's, so that a mistake in it is a bug.
    """

    body: Callable[..., Any]
    order: Order
    params: tuple[str, ...]
    constants: Mapping[str, Any]
    island: bool
    ours: bool = True


LOWERINGS: dict[str, Lowering] = {}

# Arguments that say nothing about the result beyond what the recorded tensor's type says, or only how it lies in memory.
TOLD_BY_RESULT = {
    "output_scale", "output_zero_point", "out_scale", "out_zero_point", "scale", "zero_point", "dtype", "layout", "device", "pin_memory",
    "non_blocking", "copy", "memory_format", "cudnn_enabled", "implicit", "inplace",
}  # fmt: skip

# Arguments that a lowering gets as PyTorch's own tensors: they are written in the layout the operator wants, never transposed at run time.
PARAMETERS = {"weight", "bias", "running_mean", "running_var", "mean", "var", "packed_weight", "W", "B", "w"}

F = TypeVar("F", bound=Callable[..., Any])


def lowers(*ops: str, order: Order = Order.ANY, ignores: tuple[str, ...] = (), island: bool = False, **constants: Any) -> Callable[[F], F]:
    """Register a function as the lowering of ``ops`` (full names with overload: ``aten::mean.dim``).

    The function takes the context ``c``, then ``x``, the operator's first argument whatever its schema calls it (unless it is one of
    ``PARAMETERS``, taken by its name), then by name any of the other schema arguments and of ``constants``. An argument of the schema
    that it does not take must be in ``ignores`` or ``TOLD_BY_RESULT``, so that none is dropped unseen.

    Raises:
        ValueError: at import, if the operator does not exist, is registered already, or a name is not in its schema.
    """

    def add(body: F) -> F:
        for op in ops:
            if op in LOWERINGS:
                raise ValueError(f"{op} has a lowering already")
            LOWERINGS[op] = _lowering(op, body, order, (*ignores, *TOLD_BY_RESULT), island, constants)
        return body

    return add


def register(
    *ops: str, order: Order = Order.PLAIN, ignores: tuple[str, ...] = (), island: bool = False, **constants: Any
) -> Callable[[F], F]:
    """Make a function of the user's the lowering of operators, PyTorch's own ones or of ``torch.library``.

    >>> @torch2circle.register("mylib::scaled_relu")                                  # doctest: +SKIP
    ... def scaled_relu(c, x, factor):
    ...     return c.emit("RELU", c.emit_as(x.type, "MUL", x, c.const(factor)))

    The function takes the ``Context`` of the call, then ``x``, the operator's first argument whatever its schema calls it, then the others
    by their names in the schema: ``Value`` for a tensor, Python's own objects for the rest. An argument called ``weight``, ``bias`` or
    another of ``PARAMETERS`` comes as PyTorch's tensor. It returns the ``Value`` of the operator's result, or a list of them for several.
    Unlike a lowering of torch2circle's own it may replace one, drops no argument that is not in ``ignores``, and gets its operands in
    PyTorch's order of dimensions unless ``order`` is another.

    Args:
        ops: full names, with the overload if it has one: ``mylib::op``, ``aten::mean.dim``.
        order: of the dimensions of the operands; see ``Order``.
        ignores: arguments that do not change the result.
        island: on quantized operands compute in float32 between DEQUANTIZE and QUANTIZE.
        constants: given to the function by name, so that one can lower several operators.

    Raises:
        ValueError: the operator does not exist, or a name is not in its schema.
    """

    def add(body: F) -> F:
        for op in ops:
            LOWERINGS[op] = replace(_lowering(op, body, order, ignores, island, constants), ours=False)
        return body

    return add


def _lowering(
    op: str, body: Callable[..., Any], order: Order, ignores: tuple[str, ...], island: bool, constants: Mapping[str, Any]
) -> Lowering:
    params, known = tuple(inspect.signature(body).parameters)[1:], schema_names(op)
    known = known if known[0] in PARAMETERS.intersection(params) else ["x", *known[1:]]
    if extra := set(params) - set(known) - set(constants):
        raise ValueError(f"lowering of {op} wants {sorted(extra)}, but the schema has {known}")
    if dropped := set(known) - set(params) - set(ignores):
        raise ValueError(f"lowering of {op} drops {sorted(dropped)}: take them or list them in `ignores`")
    return Lowering(body, order, params, constants, island)


def nearest(op: str) -> list[str]:
    """Supported operators with a similar name."""
    return difflib.get_close_matches(op, LOWERINGS, n=2, cutoff=0.75)


def schema_names(op: str) -> list[str]:
    """Argument names of a registered operator."""
    return [argument.name for argument in operator(op)._schema.arguments]


def is_operator(op: str) -> bool:
    """Whether PyTorch has an operator of this full name."""
    try:
        return operator(op) is not None
    except ValueError:
        return False


def operator(op: str) -> Any:
    """PyTorch's operator of a full name.

    Raises:
        ValueError: there is none.
    """
    name, _, overload = op.partition(".")
    namespace, _, base = name.partition("::")
    packet = getattr(getattr(torch.ops, namespace), base, None)
    if packet is None or (overload or "default") not in packet.overloads():
        raise ValueError(f"no such operator in PyTorch {torch.__version__}: {op}")
    return getattr(packet, overload or "default")
