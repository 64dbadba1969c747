"""The probes of ``probe_runtimes.py``: models of one operator with the results that are right, one generator for each family."""

from . import conversions, elementwise, moves, reductions, weighted
from .making import Probe

FAMILIES = (*weighted.FAMILIES, *elementwise.FAMILIES, *reductions.FAMILIES, *moves.FAMILIES, *conversions.FAMILIES)

__all__ = ["FAMILIES", "Probe"]
