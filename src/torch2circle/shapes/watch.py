"""What may change between the sizes that are recorded, or beyond them: comparisons of sizes, and the ends of slices and windows."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import RecordError, UnsupportedUse
from ..ir import Where
from ..provenance import Provenance
from ..record import Call, Recording, Ref
from .dims import LARGEST, Dims
from .sizes import Sizes

TORCH = Path(torch.__file__).parent
# What is compared there changes nothing: how operators are recorded, and how PyTorch takes one apart, which means the same for any size.
OURS = (str(Path(__file__).parents[1]), *(str(TORCH / part) for part in ("_decomp", "_refs", "_prims", "_meta_registrations")))
SIZES = (torch.Tensor.size, torch.Tensor.numel, torch.Tensor.__len__)
ARITHMETIC = ("add", "radd", "sub", "rsub", "mul", "rmul", "rfloordiv", "rmod", "neg", "pos", "abs")
DIVISIONS: Mapping[str, Callable[[Any, Any], Any]] = {"floordiv": operator.floordiv, "mod": operator.mod}
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}


@dataclass(frozen=True)
class Compared:
    """A size and what the model compared it with, or divided it by."""

    how: str
    left: int
    right: int
    where: Where


class Size(int):
    """A size that tells what it is compared with; what is computed from it does so, too."""

    log: list[Compared]

    @staticmethod
    def of(value: int, log: list[Compared]) -> Size:
        made = Size(value)
        made.log = log
        return made

    __hash__ = int.__hash__

    def __bool__(self) -> bool:
        self.tell("ne", 0)
        return int(self) != 0

    def tell(self, how: str, other: int) -> None:
        """Note that the code which called the caller did this with it, unless that code is ours."""
        if not sys._getframe(2).f_code.co_filename.startswith(OURS):
            self.log.append(Compared(how, int(self), int(other), Provenance(None).here("", {})))


def _computing(name: str) -> Callable[..., Any]:
    def compute(self: Size, *others: Any) -> Any:
        made = getattr(int, name)(self, *others)
        return Size.of(made, self.log) if type(made) is int else made

    return compute


def _comparing(name: str) -> Callable[[Size, Any], Any]:
    def compare(self: Size, other: Any) -> Any:
        result = getattr(int, f"__{name}__")(self, other)
        if result is not NotImplemented:
            self.tell(name, other)
        return result

    return compare


def _dividing(name: str) -> Callable[[Size, Any], Any]:
    def divide(self: Size, other: Any) -> Any:
        made = getattr(int, f"__{name}__")(self, other)
        if type(made) is not int:
            return made
        self.tell(name, other)
        return Size.of(made, self.log)

    return divide


for _name in DIVISIONS:
    setattr(Size, f"__{_name}__", _dividing(_name))
for _name in ARITHMETIC:
    setattr(Size, f"__{_name}__", _computing(f"__{_name}__"))
for _name in COMPARISONS:
    setattr(Size, f"__{_name}__", _comparing(_name))


class Watch(TorchFunctionMode):
    """While it is active, the sizes that a model in Python asks its tensors for are of class ``Size``."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Compared] = []

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.log = list(self.log)  # the sizes live on in what is recorded, and tell the old one

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is torch.Tensor.__getitem__:
            self.slices(*args)
        result = func(*args, **(kwargs or {}))
        asked = func in SIZES or getattr(func, "__self__", None) is torch.Tensor.shape
        if not asked or sys._getframe(1).f_code.co_filename.startswith(OURS):
            return result
        return torch.Size(Size.of(n, self.log) for n in result) if isinstance(result, torch.Size) else Size.of(result, self.log)

    def slices(self, x: Tensor, index: Any) -> None:
        """Python cuts a slice to the length of its dimension, which is a comparison."""
        index = index if isinstance(index, tuple) else (index,)
        for place, part in enumerate(index):
            before, behind = index[:place], index[place:]
            if not isinstance(part, slice) or any(isinstance(item, (Tensor, bool)) for item in before):
                continue
            counted_from_end = any(item is Ellipsis for item in before)
            dim = -sum(item is not None for item in behind) if counted_from_end else sum(item is not None for item in before)
            for end in (part.start, part.stop):
                if isinstance(end, int) and -x.dim() <= dim < x.dim():
                    self.log.append(Compared("ge", x.shape[dim], abs(int(end)), Provenance(None).here("", {})))


def refuse_ends(first: Recording, second: Recording) -> None:
    """What happens at the end of an open dimension may depend on its size although the two recordings agree.

    Raises:
        UnsupportedUse: a slice that Python cuts to the length of its tensor (``x[:, :10]`` of 10 elements or less), or a window with a
            stride whose last place depends on more than the file's operators know.
    """
    for a, b in zip(first.needed(), second.needed(), strict=False):
        if a.op == b.op == "aten::slice.Tensor":
            _refuse_clamped(a, b, [_operand(first, a).shape[a.args["dim"]], _operand(second, b).shape[a.args["dim"]]])
        elif a.op == b.op and a.op.startswith("aten::squeeze"):
            _refuse_squeezed(a, _operand(first, a).shape, _operand(second, b).shape)
        elif a.op == b.op and "ceil_mode" in a.args:
            dims = int(a.op.partition("pool")[2][0])
            shapes = [_operand(recording, call).shape[-dims:] for recording, call in ((first, a), (second, b))]
            _refuse_last_window(a, [one != other for one, other in zip(*shapes, strict=True)])


def _refuse_clamped(a: Call, b: Call, lengths: Sequence[int]) -> None:
    for end in ("start", "end"):
        position, same = a.args[end], a.args[end] == b.args[end]
        if position is not None and same and lengths[0] != lengths[1] and min(lengths) < abs(position) < LARGEST:
            accepted = f"up to {min(lengths)}, or one that is computed from the size; or a least size: Dim(..., min={abs(position)})"
            raise UnsupportedUse(f"{end} of a slice of an open dimension", position, accepted, where=a.where)


def _refuse_squeezed(call: Call, one: Sequence[int], other: Sequence[int]) -> None:
    dim = call.args.get("dim")
    dims = range(len(one)) if dim is None else [d % len(one) for d in ([dim] if isinstance(dim, int) else dim)]
    if any(one[d] != other[d] for d in dims):
        raise UnsupportedUse(f"{call.op} of an open dimension", list(one), "other dimensions: of size 1 it would go", where=call.where)


def _refuse_last_window(call: Call, opened: Sequence[bool]) -> None:
    """Maxima may be padded: see ``Options.any_size``."""
    stride = call.args["stride"] or call.args["kernel_size"]
    dilated = any(d > 1 for d in call.args.get("dilation", ()))
    if call.args["ceil_mode"] or dilated or (any(call.args["padding"]) and "max_pool" not in call.op):
        for axis, is_open in enumerate(opened):
            if is_open and (dilated or stride[axis % len(stride)] > 1):
                accepted = "stride 1, or windows that are neither dilated nor padded, without ceil_mode"
                raise UnsupportedUse(f"{call.op} along an open dimension", f"stride {stride}", accepted, where=call.where)


def _operand(recording: Recording, call: Call) -> Tensor:
    x = next(iter(call.args.values()))
    return recording.tensors[x.index] if isinstance(x, Ref) else cast(Tensor, x)


# -- comparisons


def refuse_compared(first: Watch, second: Watch, sizes: Mapping[str, Sizes], dims: Sequence[Dims]) -> None:
    """A comparison of sizes that comes out the same in both recordings, but not for every size.

    Args:
        first, second: what watched the two recordings.

    Raises:
        RecordError: naming the line and a size for which it comes out differently.
    """
    bounds = {each.symbol: (each.low, each.high) for opened in dims for each in opened.values()}
    for a, b in zip(first.log, second.log, strict=False):
        if a.how != b.how or a.where != b.where:
            return  # the two went different ways: the graphs will tell
        if (number := _turns(a, b, sizes, bounds)) is not None:
            message = f"the model compares a size, which comes out differently for other sizes: {a.left} {SIGNS[a.how]} {a.right}"
            hint = f"if it is never {number} or the like, tell so by the range: Dim(..., min=, max=); else compute without the comparison"
            raise RecordError(message, where=a.where, hint=hint)


SIGNS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "floordiv": "//", "mod": "%"}


def _turns(a: Compared, b: Compared, sizes: Mapping[str, Sizes], bounds: Mapping[str, tuple[int, int]]) -> int | None:
    """A number for which the comparison has another result; both sides grow evenly with a symbol."""
    if a.how in DIVISIONS:
        return next((n for name in _symbols(a, b, sizes) if (n := _other_rest(a, b, sizes[name], bounds[name])) is not None), None)
    apart = a.left - a.right, b.left - b.right
    if apart[0] == apart[1]:
        return None
    came = COMPARISONS[a.how](apart[0], 0)
    for name in _symbols(a, b, sizes):
        s, (low, high) = sizes[name], bounds[name]
        slope = Fraction(apart[1] - apart[0], s.second - s.first)
        zero = s.first - apart[0] / slope
        near = {int(zero) + i for i in (-1, 0, 1, 2)}
        for number in sorted({low, high, *(n for n in near if low <= n <= high)}):
            if COMPARISONS[a.how](apart[0] + slope * (number - s.first), 0) != came:
                return number
    return None


def _other_rest(a: Compared, b: Compared, s: Sizes, bounds: tuple[int, int]) -> int | None:
    """A number for which a division, that gives the same in both recordings, gives something else."""
    divide, slope = DIVISIONS[a.how], Fraction(b.left - a.left, s.second - s.first)
    came = divide(a.left, a.right)
    if a.right != b.right or came != divide(b.left, b.right):
        return None  # where the result is used, the graphs will tell
    reach = 2 * abs(a.right)
    near = range(max(bounds[0], s.first - reach), min(bounds[1], s.first + reach) + 1)
    return next((n for n in near if divide(a.left + slope * (n - s.first), a.right) != came), None)


def _symbols(a: Compared, b: Compared, sizes: Mapping[str, Sizes]) -> Iterator[str]:
    """Those that the two sides may follow: a multiple of the number, or growing with it."""
    pairs = [(x, y) for x, y in ((a.left, b.left), (a.right, b.right)) if x != y]
    multiples = [name for name, s in sizes.items() if any(x * s.second == y * s.first for x, y in pairs)]
    yield from multiples or sizes
