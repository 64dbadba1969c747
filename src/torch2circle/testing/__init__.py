"""Tests for those who export models: golden files, compared by what they mean. ``plugin`` makes a pytest fixture of it.

Importing this, or the plugin, imports no torch: pytest loads the plugin of every package that is installed.
"""

from .canonical import VOLATILE, canonical_text
from .golden import GoldenFailure, GoldenFile, difference, same

__all__ = ["VOLATILE", "GoldenFailure", "GoldenFile", "canonical_text", "difference", "same"]
