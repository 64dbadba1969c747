"""Every way an export can fail, each with its own exit code.

Two roots: a ``UserError`` is mended by changing the model or the call, a ``Bug`` by changing torch2circle.
A message has no full stop and puts the value after a colon; a hint follows after a blank line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ir import Where


class Torch2CircleError(Exception):
    """Root of all errors: ``message``, the place in the user's code (``where``) and what to do (``hint``).

    ``also``: what else is wrong with the same model and was found together with it.
    """

    exit_code = 1
    also: Sequence[Torch2CircleError] = ()

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None) -> None:
        self.message, self.where, self.hint = message, where, hint
        super().__init__(message)

    def __str__(self) -> str:
        place = f"\n  at {self.where}" if self.where else ""
        hint = f"\n\nhint: {self.hint}" if self.hint else ""
        return f"{self.message}{place}{hint}"


class UserError(Torch2CircleError):
    """The model, the call or the machine must change."""

    exit_code = 2


class Bug(Torch2CircleError):
    """torch2circle itself is at fault."""

    exit_code = 70

    def __init__(self, message: str, *, where: Where | None = None) -> None:
        hint = "this is a bug in torch2circle: please report it with the model, or with the folder --explain writes"
        super().__init__(message, where=where, hint=hint)


class LoadError(UserError):
    """The model file cannot be read, or not safely."""

    exit_code = 3


class RecordError(UserError):
    """The model cannot be run or recorded: train mode, a branch on data, a wrong input, state that is written."""

    exit_code = 4


class UnsupportedOps(UserError):
    """PyTorch operators without a lowering: all of them at once, as ``missing`` = (operator, count, first place, nearest).

    ``nearest`` are operators with a similar name, ``reasons`` says why an operator has no lowering, ``places`` where all its calls are.
    """

    exit_code = 5

    def __init__(
        self,
        missing: Sequence[tuple[str, int, Where, Sequence[str]]],
        reasons: Mapping[str, str] = {},
        places: Mapping[str, Sequence[Where]] = {},
    ) -> None:
        self.missing, self.reasons, self.places = list(missing), dict(reasons), dict(places)
        lines = [f"{len(missing)} operator(s) without a lowering:"]
        for op, count, where, nearest in missing:
            near = f" ({reasons[op]})" if op in reasons else f" (nearest: {', '.join(nearest)})" if nearest else ""
            lines.append(f"  {op} x{count}, first at {where}{near}")
        hint = (
            '`torch2circle ops` lists what is supported; lower one yourself with @torch2circle.register("ns::op"), '
            'or write it as a custom operator with custom_ops=["ns::op"] (--custom-op ns::op)'
        )
        super().__init__("\n".join(lines), hint=hint)


class UnsupportedUse(UserError):
    """A supported operator with an argument that is not."""

    exit_code = 6

    def __init__(self, argument: str, got: object, accepted: str, *, where: Where | None = None) -> None:
        self.argument, self.got, self.accepted = argument, got, accepted
        super().__init__(f"{argument} not supported: {got}", where=where, hint=f"accepted: {accepted}")


class QuantizationError(UserError):
    """A scale, zero point or bias that no integer kernel can use: zero or NaN scale, overflowing bias."""

    exit_code = 7


class TargetError(UserError):
    """The target runtime cannot execute the graph; another one may.

    ``refused``: operators that it cannot run, as (operator, scheme, what was measured, place); empty if it is for something else.
    """

    exit_code = 8

    def __init__(
        self,
        message: str,
        *,
        where: Where | None = None,
        hint: str | None = None,
        refused: Sequence[tuple[str, str, str, Where]] = (),
    ) -> None:
        self.refused = list(refused)
        super().__init__(message, where=where, hint=hint)


class WriteError(UserError):
    """The output cannot be written: missing folder, full disk, a file over the format's size.

    ``layers``: where the bytes of a file over that size come from, as (place in the model, bytes), the largest first.
    """

    exit_code = 9

    def __init__(
        self, message: str, *, where: Where | None = None, hint: str | None = None, layers: Sequence[tuple[str, int]] = ()
    ) -> None:
        self.layers = list(layers)
        super().__init__(message, where=where, hint=hint)


class VerifyFailed(UserError):
    """The file runs, but does not compute what PyTorch computed."""

    exit_code = 10


class MissingRuntime(UserError):
    """A runtime that was asked for is not installed."""

    exit_code = 11


class FormatError(UserError):
    """A .circle or .tflite file, or a q-implant bundle, that is damaged, is not one at all, or does not fit the other."""

    exit_code = 12


def together(errors: Sequence[Torch2CircleError]) -> Torch2CircleError:
    """The first of them, which knows the others as ``also``."""
    first, *others = errors
    first.also = tuple(others)
    return first
