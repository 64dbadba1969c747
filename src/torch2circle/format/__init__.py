"""Circle and TFLite files: ``save``, ``write`` and ``to_bytes`` for a graph, ``read`` for a file."""

from .reader import Contents, read
from .writer import misfit, save, to_bytes, write

__all__ = ["Contents", "misfit", "read", "save", "to_bytes", "write"]
