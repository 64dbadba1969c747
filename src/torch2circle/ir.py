"""The graph between PyTorch and the file: immutable, and free of torch and flatbuffers.

Values and nodes are compared by identity. A rewrite builds new nodes; what the outputs no longer reach is gone,
so there is no dead-code pass and no list of uses to keep true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .text import one_line

Array = npt.NDArray[Any]


class DType(Enum):
    """Element types, named as in the file schema (``TensorType``). INT4 is int8 here, and two elements a byte in the file."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT4 = "int4"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of its arrays."""
        return np.dtype("int8" if self is DType.INT4 else self.value)

    @property
    def is_float(self) -> bool:
        """Whether it is FLOAT32 or FLOAT16."""
        return self in (DType.FLOAT32, DType.FLOAT16)

    @staticmethod
    def of(array: Array) -> DType:
        """That of an array; ``ValueError`` if no file has such."""
        return DType(array.dtype.name)


@dataclass(frozen=True, eq=False)
class Quant:
    """Affine quantization, ``real = scale * (q - zero_point)``; one entry per index of ``axis``, or one in all if it is None.

    ``scale`` is float32[n] and ``zero_point`` int64[n], as the file stores them. Equality is of the numbers.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None

    @staticmethod
    def per_tensor(scale: float, zero_point: int) -> Quant:
        return Quant(np.array([scale], np.float32), np.array([zero_point], np.int64))

    def shifted(self, by: int) -> Quant:
        """The same real values for integers that are ``by`` larger."""
        return replace(self, zero_point=self.zero_point + by)

    def _key(self) -> tuple[bytes, bytes, int | None]:
        return self.scale.tobytes(), self.zero_point.tobytes(), self.axis

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quant) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        if self.axis is None:
            return f"q({self.scale[0]:.6g}, {self.zero_point[0]})"
        zeros = sorted(set(self.zero_point.tolist()))
        return f"q(axis={self.axis} n={len(self.scale)} {self.scale.min():.4g}..{self.scale.max():.4g}, {', '.join(map(str, zeros))})"


@dataclass(frozen=True)
class Type:
    """Shape as stored in the file, element type, quantization.

    ``open`` are the axes of which the file takes any size; ``shape`` has the example's there.
    """

    shape: tuple[int, ...]
    dtype: DType
    quant: Quant | None = None
    open: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """In the file."""
        return (self.size + 1) // 2 if self.dtype is DType.INT4 else self.size * self.dtype.numpy.itemsize

    @property
    def is_bytes(self) -> bool:
        """Integers of 8 bits or less without a scale, as of an image: they are moved and converted, and no operator computes with them."""
        return self.quant is None and self.dtype in (DType.INT4, DType.INT8, DType.UINT8)

    def permute(self, perm: Sequence[int]) -> Type:
        """Dimension ``perm[i]`` becomes dimension ``i``; the per-channel axis moves along. The only way to move dimensions."""
        quant = self.quant
        if quant is not None and quant.axis is not None:
            quant = replace(quant, axis=list(perm).index(quant.axis))
        opened = tuple(i for i, p in enumerate(perm) if p in self.open)
        return replace(self, shape=tuple(self.shape[p] for p in perm), quant=quant, open=opened)

    def as_eight_bit(self, dtype: DType) -> Type:
        """The same real values in the other 8-bit type: integers and zero point 128 larger in uint8 than in int8."""
        if self.dtype is dtype:
            return self
        assert self.quant is not None, self
        return replace(self, dtype=dtype, quant=self.quant.shifted(128 if dtype is DType.UINT8 else -128))

    def reshape(self, shape: Sequence[int]) -> Type:
        """The same elements in another shape; only for per-tensor quantization."""
        return replace(self, shape=tuple(shape), open=())

    def __str__(self) -> str:
        sizes = (f"{size}?" if axis in self.open else f"{size}" for axis, size in enumerate(self.shape))
        return f"{self.dtype.value}[{','.join(sizes)}]" + (f" {self.quant}" if self.quant else "")


class Constant:
    """A constant array that is made when it is asked for, so that a graph holds no copy of the weights.

    ``load()`` gives an array of exactly the shape and dtype of the value it belongs to. ``source`` tells what it is made of: two constants
    of one source and one type, changed as often, are equal. None is not known.
    """

    __slots__ = ("load", "source")

    def __init__(self, load: Callable[[], Array], source: tuple[Any, ...] | None = None) -> None:
        self.load, self.source = load, source

    @staticmethod
    def of(array: Array) -> Constant:
        return Constant(lambda: array)

    def map(self, change: Callable[[Array], Array]) -> Constant:
        return Constant(lambda: change(self.load()), self.source and (*self.source, "changed"))


@dataclass(frozen=True)
class Where:
    """A place in the user's model: PyTorch operator, module path, and source line if Python ran it."""

    op: str = ""
    module: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file else "<no source line>"
        return f"{place} in {self.module or '<top>'}" + (f" ({self.op})" if self.op else "")


@dataclass(frozen=True)
class Origin:
    """The recorded tensor a value must equal: its index, and the tensor's dimension that each axis holds."""

    tensor: int
    order: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph: the result ``index`` of ``node``, a constant (``data``), or a graph input.

    A ``variable`` is none of these: memory that an operator keeps from one call of the file to the next, zero at first.
    """

    type: Type
    name: str = ""
    node: Node | None = None
    index: int = 0
    data: Constant | None = None
    origin: Origin | None = None
    variable: bool = False

    def array(self) -> Array:
        """The constant's elements; the caller has checked that it is one."""
        assert self.data is not None, self.name
        return self.data.load()

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(frozen=True, eq=False, repr=False)  # a repr would tell of all nodes before it, each as often as there are ways to it
class Node:
    """One operator: schema name, inputs (None for an optional one left out), options, results."""

    op: str
    inputs: tuple[Value | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    where: Where = Where()
    outputs: tuple[Value, ...] = ()

    @staticmethod
    def make(
        op: str, inputs: Sequence[Value | None], outputs: Sequence[Value], attrs: Mapping[str, Any] | None = None, where: Where = Where()
    ) -> Node:
        """A node that owns fresh copies of ``outputs`` (their type, name and origin are taken)."""
        node = Node(op, tuple(inputs), dict(attrs or {}), where)
        made = (Value(out.type, out.name, node, i, None, out.origin, out.variable) for i, out in enumerate(outputs))
        object.__setattr__(node, "outputs", tuple(made))
        return node

    def rebuilt(self, **changes: Any) -> Node:
        """The same node with other ``op``, ``inputs``, ``attrs`` or ``outputs``."""
        old: dict[str, Any] = {"op": self.op, "inputs": self.inputs, "outputs": self.outputs, "attrs": self.attrs, "where": self.where}
        return Node.make(**(old | changes))

    @property
    def out(self) -> Value:
        return self.outputs[0]


@dataclass(frozen=True, eq=False)
class Graph:
    """``inputs`` and ``outputs`` with the names the model's own signature gives them."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def nodes(self) -> list[Node]:
        """What the outputs reach, producers first, in an order that depends on the graph alone."""
        return list(self._order)

    @cached_property
    def _order(self) -> list[Node]:
        done: set[Node] = set()
        order: list[Node] = []
        stack: list[tuple[Node, bool]] = [(v.node, False) for v in reversed(self.outputs) if v.node]
        while stack:
            node, ready = stack.pop()
            if node in done:
                continue
            if ready:
                done.add(node)
                order.append(node)
                continue
            stack.append((node, True))
            stack.extend((v.node, False) for v in reversed(node.inputs) if v is not None and v.node and v.node not in done)
        return order

    def values(self) -> Iterator[Value]:
        """Each value once: graph inputs, then node by node its constants and results, then outputs that no node made."""
        seen: set[Value] = set()

        def fresh(values: Iterable[Value | None]) -> Iterator[Value]:
            for value in values:
                if value is not None and value not in seen:
                    seen.add(value)
                    yield value

        yield from fresh(self.inputs)
        for node in self.nodes():
            yield from fresh(node.inputs)
            yield from fresh(node.outputs)
        yield from fresh(self.outputs)

    def uses(self) -> Counter[Value]:
        """How often each value is read, a graph output counting as a reading."""
        counts: Counter[Value] = Counter(self.outputs)
        for node in self.nodes():
            counts.update(v for v in node.inputs if v is not None)
        return counts

    def __str__(self) -> str:
        lines = [f"input  {name} = {v}: {v.type}" for name, v in zip(self.input_names, self.inputs, strict=True)]
        for node in self.nodes():
            results = ", ".join(f"{v}: {v.type}" for v in node.outputs)
            operands = ", ".join("-" if v is None else f"{v}: {v.type}" if v.data else str(v) for v in node.inputs)
            attrs = "".join(f" {key}={f'<{len(val)} bytes>' if isinstance(val, bytes) else val}" for key, val in sorted(node.attrs.items()))
            lines.append(f"{results} = {node.op}({operands}){attrs}")
        lines += [f"output {name} = {v}: {v.type}" for name, v in zip(self.output_names, self.outputs, strict=True)]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Finding:
    """One observation about a graph or an export: severity ``error``, ``warning`` or ``note``; a stable code; a path."""

    severity: str
    code: str
    path: str
    message: str

    def __str__(self) -> str:
        return one_line(f"{self.severity}[{self.code}] {self.path}: {self.message}")
