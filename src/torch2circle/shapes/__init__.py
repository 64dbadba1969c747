"""Dimensions of any size: which they are, two sizes to record, and what may change between them."""

from .dims import Dims, of_batch, of_program, of_spec
from .sizes import Sizes, example_size, resized, sizes
from .watch import Watch, refuse_compared, refuse_ends

__all__ = [
    "Dims", "Sizes", "Watch", "example_size", "of_batch", "of_program", "of_spec", "refuse_compared", "refuse_ends", "resized", "sizes",
]  # fmt: skip
