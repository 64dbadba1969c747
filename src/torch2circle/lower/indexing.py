"""Elements by their positions, given or computed, and what is written there: GATHER along dimensions made one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..arithmetic import quantized
from ..ir import Array, DType, Type, Value
from .context import Context, Placed, plain, reshaped
from .embedding import gathered
from .formula import cast, part, result, spread
from .matmul import Matrices, product
from .registry import Order, lowers

Indices = Sequence[Value | None]

# 0/1 matrices above this size are refused
LARGEST_MATRIX = 4 << 20


@lowers("aten::index_select", order=Order.FREE)
def index_select(c: Context, x: Placed, dim: int, index: Placed) -> Value:
    axis = x.order.index(dim % len(x.order))
    return c.emit("GATHER", x.value, reshaped(c, index.value, (index.value.type.size,)), axis=axis, batch_dims=0, order=x.order)


@lowers("aten::index.Tensor", order=Order.PLAIN)
def index(c: Context, x: Value, indices: Indices) -> Value:
    """The indexed dimensions become one, at the place of the first if they lie together, else in front, as PyTorch has it."""
    by_dim = _by_dimension(indices)
    first = min(by_dim) if max(by_dim) - min(by_dim) < len(by_dim) else 0
    others = [d for d in range(x.type.rank) if d not in by_dim]
    value = c.builder.arrange(Placed(x, plain(x.type.rank)), (*others[:first], *by_dim, *others[first:]))
    shape, count = value.type.shape, len(by_dim)
    sizes = shape[first : first + count]
    merged = reshaped(c, value, (*shape[:first], math.prod(sizes), *shape[first + count :]))
    return c.emit("GATHER", merged, _position(c, list(by_dim.values()), sizes), axis=first, batch_dims=0)


@lowers("aten::masked_select", order=Order.PLAIN)
def masked_select(c: Context, x: Value, mask: Value) -> Value:
    """By a constant mask: one that is computed makes a shape that depends on the data."""
    shape = np.broadcast_shapes(x.type.shape, mask.type.shape)
    line = reshaped(c, spread(c, x, shape), (math.prod(shape),))
    return c.emit("GATHER", line, c.const(np.flatnonzero(spread(c, mask, shape).array()).astype(np.int32), "index"), axis=0, batch_dims=0)


@lowers("aten::masked_scatter", order=Order.PLAIN)
def masked_scatter(c: Context, x: Value, mask: Value, source: Value) -> Value:
    """The elements of ``source`` in their order: the number of places in front is which one a place gets."""
    size, shape = x.type.size, c.out_shape
    where = cast(c, spread(c, mask, shape), DType.BOOL)
    counted = cast(c, reshaped(c, where, (size,)), DType.INT32)
    counted = c.emit_as(counted.type, "CUMSUM", counted, c.const(0, "axis"), exclusive=False, reverse=False)
    places = part(c, "MAXIMUM", part(c, "SUB", counted, 1), 0)
    found = gathered(c, reshaped(c, cast(c, source, x.type.dtype), (source.type.size,)), places)
    return result(c, "SELECT_V2", where, reshaped(c, found, shape), spread(c, x, shape))


def _by_dimension(indices: Indices) -> dict[int, Value | Array]:
    """The index of each indexed dimension; a constant mask is the positions where it holds, along as many dimensions as it has."""
    found: dict[int, Value | Array] = {}
    dim = 0
    for each in indices:
        arrays: Sequence[Value | Array] = () if each is None else [each]
        if each is not None and each.data is not None:
            array = each.array()
            arrays = np.nonzero(array) if array.dtype == np.bool_ else [array]
        found.update((dim + i, array) for i, array in enumerate(arrays))
        dim += len(arrays) or 1
    return found


def _position(c: Context, indices: Sequence[Value | Array], sizes: Sequence[int]) -> Value:
    """Where the elements lie in the dimensions of ``sizes`` made one. PyTorch counts negative indices from the end."""
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    known, computed = np.zeros((), np.int64), None
    for each, size, stride in zip(indices, sizes, strides, strict=True):
        if not isinstance(each, Value):
            known = known + each % size * stride
            continue
        # int64, of which alone every runtime has the operator
        wrapped = part(c, "FLOOR_MOD", cast(c, each, DType.INT64), size)
        wrapped = wrapped if stride == 1 else part(c, "MUL", wrapped, stride)
        computed = wrapped if computed is None else part(c, "ADD", computed, wrapped)
    if computed is None:
        return c.const(known.astype(np.int32), "index")
    alone = not known.any() and np.broadcast_shapes(known.shape, computed.type.shape) == computed.type.shape
    return computed if alone else part(c, "ADD", computed, c.const(known, "index"))


@lowers("aten::gather", order=Order.PLAIN, ignores=("sparse_grad",))
def gather(c: Context, x: Value, dim: int, index: Value) -> Value:
    """Each element by its place in the flattened tensor."""
    dim %= x.type.rank
    strides = [math.prod(x.type.shape[d + 1 :]) for d in range(x.type.rank)]
    around = sum((n * s for d, (n, s) in enumerate(zip(np.indices(index.type.shape), strides, strict=True)) if d != dim), np.zeros((), int))
    if index.data is not None:
        place = c.const((around + index.array() * strides[dim]).astype(np.int32), "index")
    else:
        place = part(c, "MUL", cast(c, index, DType.INT32), strides[dim]) if strides[dim] > 1 else cast(c, index, DType.INT32)
        place = part(c, "ADD", place, c.const(around.astype(np.int32), "around"))
    return c.emit("GATHER", reshaped(c, x, (x.type.size,)), place, axis=0, batch_dims=0)


@lowers("aten::index_put", order=Order.PLAIN)
def index_put(c: Context, x: Value, indices: Indices, values: Value, accumulate: bool) -> Value:
    """At constant positions, or one number wherever a computed mask holds."""
    rank, shape, values = x.type.rank, x.type.shape, _like(c, values, x.type)
    computed = [each for each in indices if each is not None and each.data is None]
    if len(indices) == len(computed) == values.type.size == 1 and computed[0].type.dtype is DType.BOOL and not accumulate:
        mask = reshaped(c, computed[0], (*computed[0].type.shape, *(1,) * (rank - computed[0].type.rank)))
        return result(c, "SELECT_V2", mask, reshaped(c, values, ()), x)
    if computed:
        return _put_at_computed(c, x, indices, values, accumulate)
    arrays = [slice(None) if each is None else each.array() for each in indices]
    covered = sum(a.ndim if isinstance(a, np.ndarray) and a.dtype == np.bool_ else 1 for a in arrays)
    # whole rows where neither indices nor broadcasting reach the last dimensions
    split = next(n for n in range(covered, rank + 1) if n == rank or values.type.shape[n - rank :] == shape[n:])
    places = np.arange(math.prod(shape[:split])).reshape(shape[:split])[tuple(arrays)]
    return written(c, x, values, split, places, accumulate)


def _put_at_computed(c: Context, x: Value, indices: Indices, values: Value, accumulate: bool) -> Value:
    """Rows of the indexed dimensions made one, which lie in front; of two for one place the last is left, as in PyTorch."""
    by_dim = _by_dimension(indices)
    whole = not any(v is not None and v.type.dtype is DType.BOOL and v.data is None for v in indices)
    together = max(by_dim) - min(by_dim) < len(by_dim)
    c.only(whole and together, "indices", "a computed mask, or apart", "one mask with one value, or positions of neighbouring dimensions")
    first, others = min(by_dim), [d for d in range(x.type.rank) if d not in by_dim]
    order = (*by_dim, *others)
    target = c.builder.arrange(Placed(x, plain(x.type.rank)), order)
    sizes, row = target.type.shape[: len(by_dim)], target.type.shape[len(by_dim) :]
    places = _position(c, list(by_dim.values()), sizes)
    count = places.type.rank  # PyTorch's values have the places where the first indexed dimension was
    wanted = (*row[:first], *places.type.shape, *row[first:])
    source = spread(c, values, wanted)
    moved = (*range(first, first + count), *range(first), *range(first + count, len(wanted)))
    source = c.builder.arrange(Placed(source, plain(len(wanted))), moved)
    own, new, width = math.prod(sizes), places.type.size, math.prod(row)
    rows, named = reshaped(c, target, (own, width)), named_places(c, reshaped(c, cast(c, places, DType.INT32), (1, new)), own)
    source = reshaped(c, source, (new, width))
    if accumulate:
        only_floats(c)
        added = product(c, Matrices(reshaped(c, cast(c, named, DType.FLOAT32), (own, new))), Matrices(source))
        made = part(c, "ADD", rows, reshaped(c, added, (own, width)))
    else:
        joined = c.emit_as(x.type.reshape((own + new, width)), "CONCATENATION", rows, source, axis=0, fused_activation_function="NONE")
        made = gathered(c, joined, reshaped(c, last_named(c, named), (own,)))
    return c.emit("RESHAPE", made, c.const(list(target.type.shape), "shape"), order=order, new_shape=list(target.type.shape))


def named_places(c: Context, places: Value, size: int) -> Value:
    """bool[rows, size, count]: which of the ``places``, int32[rows, count], name each of ``size`` positions of their row."""
    rows, count = places.type.shape
    c.only(rows * size * count <= LARGEST_MATRIX, "number of computed places", f"{rows * count} among {size}", "at most 4 M comparisons")
    positions = np.arange(size, dtype=np.int32)[:, None]
    return part(c, "EQUAL", reshaped(c, places, (rows, 1, count)), c.const(positions, "positions"), dtype=DType.BOOL)


def last_named(c: Context, named: Value) -> Value:
    """int32[rows, size]: where each element comes from in its row of ``size`` old ones and ``count`` new ones behind each other."""
    rows, size, count = named.type.shape
    numbers = part(c, "MUL", cast(c, named, DType.INT32), c.const(np.arange(size, size + count, dtype=np.int32), "numbers"))
    last = c.emit_as(numbers.type.reshape((rows, size)), "REDUCE_MAX", numbers, c.const([2], "axis"), keep_dims=False)
    return part(c, "MAXIMUM", last, c.const(np.arange(size, dtype=np.int32), "own"))


def written(c: Context, x: Value, source: Value, split: int, places: Array, accumulate: bool) -> Value:
    """``x`` with rows of ``source``, which its dimensions from ``split`` on make, at ``places`` among its own rows.

    They are taken from both behind each other; to add them up is a product with a matrix of zeros and ones.
    """
    row = x.type.shape[split:]
    own, new = math.prod(x.type.shape[:split]), source.type.size // math.prod(row)
    numbers = np.broadcast_to(np.arange(new).reshape(source.type.shape[: source.type.rank - len(row)]), places.shape)
    if accumulate:
        only_floats(c)
        c.only(own * new <= LARGEST_MATRIX, "number of rows", f"{new} into {own}", "at most 4 M products")
        matrix = np.zeros((own, new), np.float32)
        np.add.at(matrix, (places, numbers), 1)
        added = product(c, Matrices(c.const(matrix, "places")), Matrices(reshaped(c, source, (new, math.prod(row)))))
        return result(c, "ADD", x, reshaped(c, added, x.type.shape))
    order = np.arange(own)
    order[places] = own + numbers
    both = (reshaped(c, x, (own, *row)), reshaped(c, source, (new, *row)))
    joined = c.emit_as(x.type.reshape((own + new, *row)), "CONCATENATION", *both, axis=0, fused_activation_function="NONE")
    found = gathered(c, joined, c.const(order.astype(np.int32), "index"))
    return c.emit("RESHAPE", found, c.const(list(x.type.shape), "shape"), new_shape=list(x.type.shape))


def _like(c: Context, source: Value, type_: Type) -> Value:
    """Floats as integers, where they are written into a quantized tensor."""
    if type_.quant is None:
        return source
    if source.data is not None:
        return c.const(quantized(source.array(), type_), quant=type_.quant)
    return c.emit_as(type_.reshape(source.type.shape), "QUANTIZE", source)


def only_floats(c: Context) -> None:
    c.only(c.out_type().dtype is DType.FLOAT32, "element type", c.out_type().dtype.value, "float32")
