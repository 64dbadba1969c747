"""Circle and TFLite files: ``save``, ``write`` and ``to_bytes`` for a graph, ``read`` for a file."""

from .reader import Contents, read
from .writer import misfit, replacing, save, to_bytes, write

__all__ = ["Contents", "misfit", "read", "replacing", "save", "to_bytes", "write"]
