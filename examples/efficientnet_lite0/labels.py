"""Names of the ImageNet classes."""

from __future__ import annotations

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def names() -> list[str]:
    """torchvision's list, or numbers where torchvision is missing.

    Only the file with the list runs: importing all of torchvision takes a second, and fails where it was built for another torch.
    """
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return [f"class {index}" for index in range(1000)]
    return list(runpy.run_path(str(Path(spec.origin).parent / "models" / "_meta.py"))["_IMAGENET_CATEGORIES"])
