"""The probes of ``probe_runtimes.py``: models of one operator with the results that are right, one generator for each family."""

from . import conversions, elementwise, moves, reductions, weighted, wide
from .making import Probe

_MODULES = (weighted, elementwise, reductions, moves, conversions, wide)
FAMILIES = tuple(family for module in _MODULES for family in module.FAMILIES)

__all__ = ["FAMILIES", "Probe"]
