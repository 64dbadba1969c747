"""Circle and TFLite files: ``save``, ``write`` and ``to_bytes`` for a graph, ``read`` and ``survey`` for a file."""

from .reader import Contents, read
from .same import is_as_written
from .survey import Survey, survey
from .whole import archive, destination, must_be_free, unfinished, whole_file, whole_folder
from .writer import misfit, save, size_of, to_bytes, unique_names, write

__all__ = [
    "Contents", "Survey", "archive", "destination", "is_as_written", "misfit", "must_be_free", "read", "save", "size_of", "survey",
    "to_bytes", "unfinished", "unique_names", "whole_file", "whole_folder", "write",
]  # fmt: skip
