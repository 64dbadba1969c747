"""Places in the model's source, as the page shows them."""

from __future__ import annotations

import linecache
import os

from ..ir import Where


def source_of(where: Where) -> str:
    """``file:line``, below the working directory from there on; nothing if Python did not run it."""
    if not where.file:
        return ""
    here = os.path.join(os.getcwd(), "")
    return f"{where.file.removeprefix(here)}:{where.line}"


def text_of(where: Where) -> str:
    """The line of the model's source itself, if its file is there."""
    return linecache.getline(where.file, where.line).strip() if where.file else ""
