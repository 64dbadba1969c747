"""Concatenation."""

from __future__ import annotations

import torch

from .making import NCHW, WEIGHTED, Case, Q, Residual, eager, floating, ints

CASES = [
    Case("cat", lambda: ints(lambda a, b: Q.cat([a, b], 1, 0.0513371, 116), (2, 5, 7, 3), (2, 4, 7, 3))),
    Case("cat.axis2", lambda: ints(lambda a, b: Q.cat([a, b], 2, 0.0513371, 116), (2, 5, 7, 3), (2, 5, 4, 3))),
    Case("cat.last_axis", lambda: ints(lambda a, b: Q.cat([a, b], -1, 0.0513371, 116), (2, 5, 7, 3), (2, 5, 7, 4))),
    Case("cat.axis0_rank2", lambda: ints(lambda a, b: Q.cat([a, b], 0, 0.0513371, 116), (13, 7), (12, 7))),
    Case("cat.relu", lambda: ints(lambda a, b: Q.cat_relu([a, b], 1, 0.0273113, 20), (2, 5, 7, 3), (2, 4, 7, 3))),
    Case("cat.equal_scales", lambda: ints(lambda a: Q.cat([a, torch.relu(a)], 1, 0.0311713, 112), (2, 5, 7, 3))),
    Case("cat.int8", lambda: ints(lambda a, b: Q.cat([a, b], 1, 0.0513371, -12), (2, 5, 7, 3), (2, 4, 7, 3), dtype=torch.qint8)),
    Case("cat.aten", lambda: ints(lambda a: torch.cat([a, torch.relu(a[:, 1:])], 1), (2, 5, 7, 3))),
    Case("cat.three", lambda: ints(lambda a, b, c: Q.cat([a, b, c], 1, 0.0513371, 116), (2, 5, 7, 3), (2, 4, 7, 3), (2, 1, 7, 3))),
    Case("cat.residual", lambda: eager(Residual("cat"), NCHW), WEIGHTED),
    Case("float.cat", lambda: floating(lambda a, b: torch.cat([a, b], 1), (2, 5, 7, 3), (2, 4, 7, 3))),
    Case("float.cat_last_axis", lambda: floating(lambda a, b: torch.cat([a, b], -1), (2, 5, 7, 3), (2, 5, 7, 4))),
]  # fmt: skip
