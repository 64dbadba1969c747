"""PyTorch's operators as the file's: one short function an operator, in one file a family."""

from . import activation, conv, elementwise, linear, norm, quantize, reduce, shape
from .context import Context, Options, Placed
from .driver import Lowered, lower
from .registry import LOWERINGS, Order, lowers

__all__ = [
    "LOWERINGS", "Context", "Lowered", "Options", "Order", "Placed", "activation", "conv", "elementwise", "linear", "lower", "lowers",
    "norm", "quantize", "reduce", "shape",
]  # fmt: skip
