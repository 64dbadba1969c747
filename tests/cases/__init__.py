"""Every way of calling an operator, a line each; a module for each family."""

from __future__ import annotations

from . import arithmetic, attention, cat, conv, edges, embedding, indexing, inplace, linear, matmul, norm, parts, pick, reduce, transposed, unary, views
from .making import Case

FAMILIES = {
    "conv": conv.CASES,
    "transposed": transposed.CASES,
    "linear": linear.CASES,
    "arithmetic": arithmetic.CASES,
    "cat": cat.CASES,
    "unary": unary.CASES,
    "reduce": reduce.CASES,
    "views": views.CASES,
    "parts": parts.CASES,
    "pick": pick.CASES,
    "norm": norm.CASES,
    "inplace": inplace.CASES,
    "attention": attention.CASES,
    "embedding": embedding.CASES,
    "indexing": indexing.CASES,
    "matmul": matmul.CASES,
    "edges": edges.CASES,
}
CASES: list[Case] = [case for family in FAMILIES.values() for case in family]
