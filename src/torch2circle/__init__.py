"""Export quantized PyTorch models to Circle and TFLite files that compute the same integers.

>>> exported = torch2circle.export(model, (example,))      # doctest: +SKIP
>>> exported.save("model.circle")                          # doctest: +SKIP
>>> exported.save("model.tflite")                          # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from .checks import check as check
    from .conversion import Converted as Converted
    from .conversion import convert as convert
    from .difference import Difference as Difference
    from .difference import diff as diff
    from .implant import implant_qparams as implant_qparams
    from .ir import DType as DType
    from .ir import Type as Type
    from .ir import Value as Value
    from .loading import load as load
    from .lower import Context as Context
    from .lower import Order as Order
    from .lower import register as register
    from .methods import ExportedMethods as ExportedMethods
    from .methods import export_many as export_many
    from .pipeline import ExportedModel as ExportedModel
    from .pipeline import export as export
    from .report import write_report as write_report
    from .verify import FilesReport as FilesReport
    from .verify import Limits as Limits
    from .verify import compare_files as compare_files

from .errors import (
    Bug,
    FormatError,
    LoadError,
    MissingRuntime,
    QuantizationError,
    RecordError,
    TargetError,
    Torch2CircleError,
    UnsupportedOps,
    UnsupportedUse,
    UserError,
    VerifyFailed,
    WriteError,
)

# torch takes seconds to import: only those who export pay for it, not `torch2circle inspect` or --help
_LAZY = {
    "export": "pipeline", "ExportedModel": "pipeline", "export_many": "methods", "ExportedMethods": "methods", "load": "loading",
    "check": "checks", "convert": "conversion", "Converted": "conversion", "diff": "difference", "Difference": "difference",
    "implant_qparams": "implant", "register": "lower", "Context": "lower", "Order": "lower", "Value": "ir", "Type": "ir", "DType": "ir",
    "write_report": "report",
    "compare_files": "verify", "FilesReport": "verify", "Limits": "verify",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)


def _version() -> str:
    try:
        return importlib.metadata.version("torch2circle")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


__all__ = [
    "Bug", "Context", "Converted", "DType", "Difference", "ExportedMethods", "ExportedModel", "FilesReport", "FormatError", "Limits",
    "LoadError", "MissingRuntime", "Order", "QuantizationError", "RecordError", "TargetError", "Torch2CircleError", "Type",
    "UnsupportedOps", "UnsupportedUse", "UserError", "Value", "VerifyFailed", "WriteError", "check", "compare_files", "convert", "diff",
    "export", "export_many", "implant_qparams", "load", "register", "write_report",
]  # fmt: skip
