"""What a pickle would do, found by reading it and doing none of it.

torch.save writes few of pickle's opcodes, and torch's weights-only unpickler reads no others. Here they move names and counts instead of
objects. So it is known beforehand what a file would call, which the unpickler itself decides one call at a time and by value: it would
also call a layer's constructor, or what a file put into an object it has made.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

LARGEST = 1_000_000
"""Elements of a tuple, those of the tuples in it included, each time that they are in it: hashing it visits them all."""
DEEPEST = 100
"""Levels of tuples in tuples: hashing goes down on the processor's stack."""

_NAMES = {op.code.encode("latin-1")[0]: op.name for op in pickletools.opcodes}
_NEWER = {op.code.encode("latin-1")[0] for op in pickletools.opcodes if op.proto >= 4}
_MARK = object()
# What torch.save has files call: what makes tensors, and plain values.
_CALLED = re.compile(
    r"torch\._utils _rebuild_\w+|torch\._tensor _rebuild_from_type_v2|torch\.serialization _get_layout|torch (Size|device)"
    r"|collections (OrderedDict|Counter)|(__builtin__|builtins) (set|complex)|_codecs encode"
)
_REBUILD = re.compile(r"torch\._utils _rebuild_\w+")
_PACKED = re.compile(r"__torch__\.torch\.classes\.(quantized\.\w+PackedParamsBase|rnn\.CellParamsBase)")


@dataclass
class Scan:
    """The classes and functions that pickles refer to, as "module name", and what of their calls no file needs; None if nothing.

    ``storages`` are the tensors' numbers, as (type, name, count). It is None where a pickle has something else outside it, or was not read
    to its end.
    """

    names: set[str] = field(default_factory=set)
    fault: str | None = None
    storages: set[tuple[str, str, int]] | None = field(default_factory=set)


class _Global(str):
    """A class or function."""

    __slots__ = ()


class _Tuple(tuple[Any, ...]):
    """A tuple and what hashing it costs."""

    elements: int
    levels: int


@dataclass
class _Made:
    """An object of this class."""

    name: str
    has_state: bool = False


def scan(data: Any, pickles: int = 1, registered: Collection[str] = ()) -> Scan:
    """Read ``pickles`` consecutive pickles.

    Args:
        data: bytes or a memory map that begins with them.
        pickles: how many.
        registered: names that may be called besides PyTorch's own, as "module name".

    Raises:
        pickle.UnpicklingError: an opcode of protocol 4 or later, whose references cannot be read off; or tuples nested without end.
        ValueError, IndexError, KeyError: not a pickle.
    """
    found = Scan()
    position = 0
    for _ in range(pickles):
        position = _scan(data, position, found, registered)
    return found


def _scan(data: Any, position: int, found: Scan, registered: Collection[str]) -> int:
    """Read one pickle; where the next begins."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    end = len(data)

    def fault(what: str) -> None:
        if found.fault is None:
            found.fault = what

    def marked() -> list[Any]:
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    while position < end:
        code = data[position]
        position += 1
        if (size := _FIXED.get(code)) is not None:  # numbers, and what is put on the stack as it is
            if code == _BINPUT:
                memo[data[position]] = stack[-1]
            elif code == _LONG_BINPUT:
                memo[int.from_bytes(data[position : position + 4], "little")] = stack[-1]
            elif code == _BINGET:
                stack.append(memo[data[position]])
            elif code == _LONG_BINGET:
                stack.append(memo[int.from_bytes(data[position : position + 4], "little")])
            elif code in _INTEGERS:
                stack.append(int.from_bytes(data[position : position + size], "little", signed=code == _BININT))
            elif code != _PROTO:
                stack.append(_MARK if code == _MARK_CODE else None)
            elif data[position] > 3:
                raise pickle.UnpicklingError("pickle protocol 4 or later")
            position += size
        elif code == _BINUNICODE:
            size = int.from_bytes(data[position : position + 4], "little")
            stack.append(str(data[position + 4 : position + 4 + size], "utf-8", "replace") if size < 200 else None)
            position += 4 + size
        elif code in _LENGTH_BYTE:
            size = data[position]
            number = int.from_bytes(data[position + 1 : position + 1 + size], "little", signed=True)
            stack.append(number if code == _LONG1 and size <= 8 else None)
            position += 1 + size
        elif code == _GLOBAL:
            first = data.find(b"\n", position)
            second = data.find(b"\n", first + 1)
            if first < 0 or second < 0:
                raise ValueError("a name has no end")
            name = f"{bytes(data[position:first]).decode()} {bytes(data[first + 1 : second]).decode()}"
            found.names.add(name)
            stack.append(_Global(name))
            position = second + 1
        elif code in _TUPLES:
            count = _TUPLES[code]
            items = marked() if count is None else stack[len(stack) - count :]
            if count:
                del stack[-count:]
            stack.append(_tuple(items))
            if stack[-1].elements > LARGEST or stack[-1].levels > DEEPEST:
                raise pickle.UnpicklingError(f"tuples in tuples, more than {DEEPEST} levels or {LARGEST:,} elements")
        elif code in _INTO_MARKED:
            marked()
            stack[-1]  # a pickle that has none is damaged
        elif code in _INTO_ONE:
            del stack[-_INTO_ONE[code] :]
            stack[-1]
        elif code in (_REDUCE, _NEWOBJ):
            arguments, called = stack.pop(), stack.pop()
            if problem := _call(called, arguments, code == _NEWOBJ, registered):
                fault(problem)
            stack.append(_Made(called) if isinstance(called, _Global) else None)
        elif code == _BUILD:
            state, made = stack.pop(), stack[-1]
            if problem := _state(made, state):
                fault(problem)
        elif code == _BINPERSID:
            _outside(stack[-1], found)
            stack[-1] = None
        elif code == _STOP:
            stack.pop()
            return position
        elif code in _NEWER:
            raise pickle.UnpicklingError("pickle protocol 4 or later")
        else:
            fault(f"opcode {_NAMES.get(code, hex(code))}")
            found.storages = None
            return _names_behind(data, position - 1, found)
    raise ValueError("the pickle has no end")


def _names_behind(data: Any, position: int, found: Scan) -> int:
    """The rest of a pickle that is refused anyhow, for what it refers to; where the next begins."""
    for opcode, argument, at in pickletools.genops(io.BytesIO(data[position:])):
        if opcode.name in ("GLOBAL", "INST"):
            found.names.add(str(argument))
        elif opcode.proto >= 4:
            raise pickle.UnpicklingError("pickle protocol 4 or later")
        position_of_stop = at or 0
    return position + position_of_stop + 1


def _call(called: Any, arguments: Any, new: bool, registered: Collection[str]) -> str | None:
    """What is wrong with a call, or with making an object of a class (``new``)."""
    if not isinstance(called, _Global):
        return "a call of what the file itself has made"
    if called in registered:
        return None
    given = arguments if isinstance(arguments, tuple) else None
    if new:  # layers are made empty and then given their state
        return None if given == () or called == "torch.nn.parameter Parameter" else f"arguments of {_dotted(called)}"
    if not _CALLED.fullmatch(called):
        return f"a call of {_dotted(called)}"
    if called == "_codecs encode":
        return None if given and given[-1] in ("latin1", "latin-1") else "a text encoding"
    if called == "torch._tensor _rebuild_from_type_v2":
        inner = given[0] if given else None
        if not (isinstance(inner, _Global) and (_REBUILD.fullmatch(inner) or inner in registered)):
            return "a tensor that is made by anything else than PyTorch's functions"
    return None


def _state(made: Any, state: Any) -> str | None:
    """What is wrong with the state given to an object."""
    if not isinstance(made, _Made):
        return None  # the unpickler gives state to what it has made only
    if made.has_state:  # the first one may be a __setstate__ of the file's own
        return f"two states of one {_dotted(made.name)}"
    made.has_state = True
    if made.name == "torch ScriptObject":
        name = state[-1] if isinstance(state, tuple) and state else None
        if not (isinstance(name, str) and _PACKED.fullmatch(name)):
            return f"an object of {name}, which holds no quantized weights"
    return None


def _outside(identity: Any, found: Scan) -> None:
    """Note what a pickle refers to that is not in it."""
    if isinstance(identity, _Tuple) and len(identity) == 5 and identity[0] == "storage":
        _, kind, name, _, count = identity
        if isinstance(kind, _Global) and isinstance(name, str) and isinstance(count, int):
            if found.storages is not None:
                found.storages.add((str(kind), name, count))
            return
    found.storages = None


def _tuple(items: list[Any]) -> _Tuple:
    made = _Tuple(items)
    elements, levels = len(items), 0
    for item in items:
        if type(item) is _Tuple:
            elements += item.elements
            levels = max(levels, item.levels)
    made.elements, made.levels = elements, levels + 1
    return made


def _dotted(name: str) -> str:
    return name.replace(" ", ".")


def _code(name: str) -> int:
    value: bytes = getattr(pickle, name)
    return value[0]


_MARK_CODE, _PROTO, _STOP = _code("MARK"), _code("PROTO"), _code("STOP")
_BINPUT, _LONG_BINPUT, _BINGET, _LONG_BINGET = _code("BINPUT"), _code("LONG_BINPUT"), _code("BINGET"), _code("LONG_BINGET")
_GLOBAL, _REDUCE, _NEWOBJ, _BUILD = _code("GLOBAL"), _code("REDUCE"), _code("NEWOBJ"), _code("BUILD")
_BINUNICODE, _BINPERSID = _code("BINUNICODE"), _code("BINPERSID")
_BININT, _LONG1 = _code("BININT"), _code("LONG1")
_LENGTH_BYTE = {_code("SHORT_BINSTRING"), _LONG1}
_INTEGERS = {_code("BININT1"), _code("BININT2"), _BININT}
# Opcodes by the bytes that follow.
_FIXED = {
    _code(name): size
    for size, names in {
        0: "MARK NONE NEWFALSE NEWTRUE EMPTY_LIST EMPTY_DICT EMPTY_SET",
        1: "PROTO BININT1 BINPUT BINGET",
        2: "BININT2",
        4: "BININT LONG_BINPUT LONG_BINGET",
        8: "BINFLOAT",
    }.items()
    for name in names.split()
}
_TUPLES = {_code("TUPLE"): None, _code("EMPTY_TUPLE"): 0, _code("TUPLE1"): 1, _code("TUPLE2"): 2, _code("TUPLE3"): 3}
_INTO_MARKED = {_code("APPENDS"), _code("SETITEMS")}
_INTO_ONE = {_code("APPEND"): 1, _code("SETITEM"): 2}
