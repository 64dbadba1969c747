"""PyTorch's operators as the file's: one short function an operator, in one file a family."""

from importlib import import_module
from pkgutil import iter_modules

from .context import CHOICES, Context, Options, Placed
from .driver import Judged, Lowered, lower
from .registry import LOWERINGS, Order, is_operator, lowers, register
from .rejoin import rejoined

for family in iter_modules(__path__):  # importing one registers its lowerings
    import_module(f".{family.name}", __name__)

__all__ = [
    "CHOICES", "LOWERINGS", "Context", "Judged", "Lowered", "Options", "Order", "Placed", "is_operator", "lower", "lowers", "register",
    "rejoined",
]  # fmt: skip
