"""Circle and TFLite files: ``save``, ``write`` and ``to_bytes`` for a graph, ``read`` and ``survey`` for a file."""

from .reader import Contents, read
from .survey import Survey, survey
from .writer import misfit, save, to_bytes, write

__all__ = ["Contents", "Survey", "misfit", "read", "save", "survey", "to_bytes", "write"]
