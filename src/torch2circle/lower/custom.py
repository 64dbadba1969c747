"""A PyTorch operator as a custom operator of the file, for which the application brings the kernel."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import UnsupportedUse
from ..format.flex import encode
from ..ir import Value
from ..record import Call
from .context import Builder, Context, Placed, plain
from .registry import operator


def write_as_custom(builder: Builder, call: Call, code: str) -> None:
    """Tensors, in the order of the schema, become inputs in PyTorch's order of dimensions, and all other arguments a FlexBuffer map.

    Raises:
        UnsupportedUse: an argument that is neither a tensor nor a number, a string, None or a list of these.
    """
    c, inputs, arguments = Context(builder, call, ()), list[Value | None](), dict[str, Any]()

    def value(leaf: Any) -> Value | None:
        if leaf is None:
            return None
        placed = builder.place(leaf, call.where)
        return builder.arrange(placed, plain(len(placed.order)))

    for argument in operator(call.op)._schema.arguments:
        given = call.args[argument.name]
        if "Tensor" in str(argument.type):
            inputs += map(value, given if isinstance(given, (list, tuple)) else [given])
        else:
            arguments[argument.name] = _plain(given)
    try:
        options = encode(arguments)
    except TypeError as error:
        raise UnsupportedUse(f"an argument of {call.op}", str(error), "numbers, strings, None and lists of these", where=c.where) from None
    for number, out in zip(call.outs, c.emit_many("CUSTOM", *inputs, custom_code=code, custom_options=options), strict=True):
        builder.env[number] = Placed(out, c.order_of(out))
    c.note("note", "custom-operator", f"{code} needs a kernel of the application; no runtime here can verify it")


def _plain(given: Any) -> Any:
    """PyTorch's own constants by their names: ``float32``, ``channels_last``, ``cpu``."""
    names = isinstance(given, (torch.dtype, torch.memory_format, torch.layout, torch.device))
    return str(given).removeprefix("torch.") if names else given


