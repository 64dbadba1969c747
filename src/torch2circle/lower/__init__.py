"""PyTorch's operators as the file's: one short function an operator, in one file a family."""

from . import (
    activation,
    attention,
    comparison,
    conv,
    dynamic,
    elementwise,
    embedding,
    indexing,
    linear,
    matmul,
    norm,
    parts,
    pick,
    pool,
    quantize,
    ranking,
    recurrent,
    reduce,
    resize,
    sample,
    shape,
    transposed,
)
from .context import CHOICES, Context, Options, Placed
from .driver import Lowered, lower
from .registry import LOWERINGS, Order, lowers

# Importing a family registers its lowerings.
FAMILIES = (
    activation,
    attention,
    comparison,
    conv,
    dynamic,
    elementwise,
    embedding,
    indexing,
    linear,
    matmul,
    norm,
    parts,
    pick,
    pool,
    quantize,
    ranking,
    recurrent,
    reduce,
    resize,
    sample,
    shape,
    transposed,
)

__all__ = ["CHOICES", "FAMILIES", "LOWERINGS", "Context", "Lowered", "Options", "Order", "Placed", "lower", "lowers"]
