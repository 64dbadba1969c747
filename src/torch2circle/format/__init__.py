"""Circle and TFLite files: ``save``, ``write`` and ``to_bytes`` for a graph, ``read`` for a file."""

from .reader import Contents, read
from .writer import save, to_bytes, write

__all__ = ["Contents", "read", "save", "to_bytes", "write"]
