"""Does the file compute what PyTorch computed? The real runtime decides, end to end and operator by operator."""

from .files import FilesReport, compare_files
from .isolate import expected, isolated, outputs_of, recorded
from .report import FLOAT_STEP, Comparison, Limits, Report, compare
from .run import verify, verify_methods

__all__ = [
    "FLOAT_STEP", "Comparison", "FilesReport", "Limits", "Report", "compare", "compare_files", "expected", "isolated", "outputs_of",
    "recorded", "verify", "verify_methods",
]  # fmt: skip
