"""Circle and TFLite files: ``save``, ``write`` and ``to_bytes`` for a graph."""

from .writer import save, to_bytes, write

__all__ = ["save", "to_bytes", "write"]
