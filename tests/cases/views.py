"""Views: the same elements in another shape."""

from __future__ import annotations

import torch
from torch import nn

from .making import FLOAT, NCHW, WEIGHTED, Call, Case, Seq, eager, floating, ints

CASES = [
    Case("flatten", lambda: ints(lambda a: a.flatten(1), (2, 5, 7, 3))),
    Case("flatten.middle", lambda: ints(lambda a: a.flatten(1, 2), (2, 5, 7, 3))),
    Case("view", lambda: ints(lambda a: a.view(2, 35, 3), (2, 5, 7, 3))),
    Case("reshape", lambda: ints(lambda a: a.reshape(6, 35), (2, 3, 5, 7))),
    Case("unflatten", lambda: ints(lambda a: a.unflatten(1, (3, 5)), (2, 15, 7))),
    Case("unsqueeze", lambda: ints(lambda a: a.unsqueeze(1), (5, 7, 3))),
    Case("squeeze", lambda: ints(lambda a: a.squeeze(1).squeeze(-1), (5, 1, 7, 1))),
    Case("squeeze.all", lambda: ints(lambda a: a.squeeze(), (5, 1, 7, 1))),
    Case("permute", lambda: ints(lambda a: a.permute(0, 2, 3, 1), (2, 5, 7, 3))),
    Case("transpose", lambda: ints(lambda a: a.transpose(1, -1), (2, 5, 7, 3))),
    Case("transpose.behind_conv", lambda: floating(Seq(nn.Conv2d(3, 5, 3), Call(lambda a: a.transpose(1, 2))), NCHW), FLOAT),
    Case("t", lambda: floating(lambda a: a.t(), (5, 7))),
    Case("tokens.behind_conv", lambda: floating(
        Seq(nn.Conv2d(3, 5, 3, 2), Call(lambda a: a.flatten(2).transpose(1, 2)), nn.Linear(5, 6)), NCHW), FLOAT),
    Case("squeeze.dims", lambda: floating(lambda a: torch.ops.aten.squeeze.dims(a, [1, 3]), (5, 1, 7, 1))),
    Case("reshape_alias", lambda: ints(lambda a: torch.ops.aten._reshape_alias(a, [10, 21], [21, 1]), (2, 5, 7, 3))),
    Case("unsafe_view", lambda: floating(lambda a: torch.ops.aten._unsafe_view(a, [10, 21]), (2, 5, 7, 3))),
    Case("alias", lambda: floating(lambda a: torch.ops.aten.alias(torch.relu(a)), (2, 5))),
    Case("detach", lambda: floating(lambda a: torch.relu(a).detach() * 2, (2, 5))),
    Case("clone", lambda: ints(lambda a: torch.relu(a).clone(), (2, 5))),
    Case("contiguous", lambda: floating(lambda a: a.transpose(0, 1).contiguous(), (2, 5))),
    Case("identity", lambda: eager(Seq(nn.Conv2d(3, 5, 3), nn.Identity(), nn.Dropout()), NCHW), WEIGHTED),
    Case("float.dropout", lambda: floating(Seq(nn.Conv2d(3, 5, 3), nn.Dropout(), nn.Dropout2d(), nn.ReLU()), NCHW), FLOAT),
]  # fmt: skip
