"""Writes in place."""

from __future__ import annotations

import torch

from .making import PAIR, Case, Q, assigned, floating, halves_written, ints, row_assigned, transpose_written, view_written, zeroed

CASES = [
    Case("inplace.relu", lambda: ints(lambda a: torch.relu_(Q.add(a, a, 0.0603137, 120)), (2, 5, 7, 3))),
    Case("inplace.float_relu", lambda: floating(lambda a: (a + 1).relu_(), (2, 5, 7, 3))),
    Case("inplace.add", lambda: floating(lambda a, b: (a * 2).add_(b), *PAIR)),
    Case("inplace.input", lambda: floating(lambda a: a.add_(1), (2, 5, 7, 3))),
    Case("inplace.slice", lambda: floating(assigned, (2, 5, 7, 3), (2, 2, 7, 3))),
    Case("inplace.row", lambda: floating(row_assigned, (2, 5, 7, 3), (2, 7, 3))),
    Case("inplace.zeros", lambda: floating(zeroed, (2, 5, 7, 3))),
    Case("inplace.view", lambda: floating(view_written, (2, 5, 7, 3))),
    Case("inplace.transpose", lambda: floating(transpose_written, (2, 5, 7, 3))),
    Case("inplace.seen_by_a_view", lambda: floating(halves_written, (2, 5, 7, 3))),
]  # fmt: skip
