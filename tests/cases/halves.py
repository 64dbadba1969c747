"""Float layers whose weights the export rounds to float16."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .dynamic import FLOATS
from .making import Case, Made, Seq, floating

ONERT = {"onert": "reads no float16"}


class Tied(nn.Module):
    """One weight, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(17, 17)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x).relu())  # type: ignore[no-any-return]


def halves(name: str, make: Callable[[], Made]) -> Case:
    return Case(f"halves.{name}", make, FLOATS, {"weights": "float16"}, ONERT)


CASES = [
    halves("linear", lambda: floating(Seq(nn.Linear(17, 13), nn.ReLU(), nn.Linear(13, 5, bias=False)), (9, 17))),
    halves("tied", lambda: floating(Tied(), (9, 17))),
    halves("conv1d", lambda: floating(nn.Conv1d(4, 5, 3), (2, 4, 13))),
    halves("conv2d", lambda: floating(Seq(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, (3, 2), groups=6)), (2, 4, 9, 11))),
    halves("transposed2d", lambda: floating(nn.ConvTranspose2d(4, 5, 3, stride=2), (2, 4, 5, 7))),
]
