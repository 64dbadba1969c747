"""Rewrites that hold for every target."""

from collections import Counter

from ..ir import Graph
from . import affine, fold, fuse, gelu, layout, sums
from .engine import Rule, rewrite, rule
from .share import share
from .unify import unified

RULES: list[Rule] = [*layout.RULES, *fuse.RULES, *affine.RULES, *gelu.RULES]


def optimize(graph: Graph, fired: Counter[str] | None = None) -> Graph:
    """The same numbers with fewer operators."""
    return rewrite(graph, [*RULES, *fold.RULES, *sums.RULES], fired)


__all__ = ["RULES", "Rule", "optimize", "rewrite", "rule", "share", "unified"]
