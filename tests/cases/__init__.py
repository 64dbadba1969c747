"""Every way of calling an operator, a line each; a module for each family."""

from __future__ import annotations

from . import (
    arithmetic,
    attention,
    cat,
    comparison,
    conv,
    dynamic,
    edges,
    embedding,
    examples,
    indexing,
    inplace,
    linear,
    matmul,
    norm,
    parts,
    pick,
    pool,
    ranking,
    recurrent,
    reduce,
    resize,
    transposed,
    unary,
    views,
)
from .making import Case

FAMILIES = {
    "conv": conv.CASES,
    "transposed": transposed.CASES,
    "linear": linear.CASES,
    "arithmetic": arithmetic.CASES,
    "comparison": comparison.CASES,
    "cat": cat.CASES,
    "unary": unary.CASES,
    "pool": pool.CASES,
    "resize": resize.CASES,
    "ranking": ranking.CASES,
    "reduce": reduce.CASES,
    "recurrent": recurrent.CASES,
    "views": views.CASES,
    "parts": parts.CASES,
    "pick": pick.CASES,
    "norm": norm.CASES,
    "inplace": inplace.CASES,
    "attention": attention.CASES,
    "embedding": embedding.CASES,
    "indexing": indexing.CASES,
    "matmul": matmul.CASES,
    "dynamic": dynamic.CASES,
    "edges": edges.CASES,
    "examples": examples.CASES,
}
CASES: list[Case] = [case for family in FAMILIES.values() for case in family]
