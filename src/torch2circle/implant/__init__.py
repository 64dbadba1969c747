"""Interchange with q-implant, ONE's importer of quantization: a model as a float file and a bundle of integers, and the way back.

``separate`` takes a graph apart, ``Bundle.save`` writes the parts, ``implant_qparams`` puts such parts together, whoever made them.
"""

from .bundle import Bundle, Entry, read_bundle
from .graft import Implanted, implant_qparams
from .separate import separate

__all__ = ["Bundle", "Entry", "Implanted", "implant_qparams", "read_bundle", "separate"]
