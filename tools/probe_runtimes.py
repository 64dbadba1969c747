"""Measure what each runtime does with each operator and element type, and keep it in targets/capabilities.json.

Every probe is a graph of one node. The runtime's outputs are compared with numpy: float64 of the dequantized operands,
requantized by rounding half to even. A cell of the table is (operator, ``spec.scheme``); its verdict is the worst of its probes.

    python tools/probe_runtimes.py [--only ADD]    measure, print the table, and write the file (unless --only)
    python tools/probe_runtimes.py --check         measure and exit with 1 if the file says otherwise
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torch2circle import format as fileformat
from torch2circle import runtimes, spec
from torch2circle.errors import TargetError
from torch2circle.ir import Array, Constant, DType, Graph, Node, Quant, Type, Value

F32, I8, U8, I32, I64, BOOL = DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT32, DType.INT64, DType.BOOL
BYTES, REALS, NUMBERS, ALL = (I8, U8), (F32, I8, U8), (F32, I8, U8, I32, I64), (F32, I8, U8, I32, I64, BOOL)
VERDICTS = ("exact", "1lsb", "wrong", "refused", "crash")  # from best to worst
FILES = {"onert": (".circle", "CIR0"), "litert": (".tflite", "TFL3")}
TABLE = Path(__file__).parents[1] / "src/torch2circle/targets/capabilities.json"
SHAPE = (1, 20, 24, 16)  # 7680 elements: kernels that miss by 1 in a few outputs of a thousand are seen


@dataclass(frozen=True)
class Operand:
    type: Type
    array: Array
    const: bool = False

    @property
    def real(self) -> Array:
        quant = self.type.quant
        if quant is None:
            return self.array.astype(np.float64 if self.type.dtype is F32 else np.int64)
        shape = [1] * self.type.rank
        if quant.axis is not None:
            shape[quant.axis] = -1
        return (self.array - quant.zero_point.reshape(shape)) * quant.scale.astype(np.float64).reshape(shape)


@dataclass(frozen=True)
class Probe:
    graph: Graph
    feed: list[Array]
    want: list[Array]  # one for each result, not yet rounded: the position on the result's own integer grid

    @property
    def node(self) -> Node:
        return self.graph.nodes()[0]


# ---- making probes


def draw(
    seed: str, shape: Sequence[int], dtype: DType, scale: float = 0.037, zero: int = -5, *, positive: bool = False, const: bool = False
) -> Operand:
    """Random elements; ``zero`` is for int8 (128 more for uint8); ``positive`` keeps divisors away from 0."""
    rng = np.random.default_rng(zlib.crc32(f"{seed} {shape} {dtype}".encode()))
    zero += 128 if dtype is U8 else 0
    low = zero + 20 if positive else np.iinfo(dtype.numpy).min if dtype in BYTES else 0
    bounds = {F32: (0.5 if positive else -4, 4), BOOL: (0, 2), U8: (low, 256), I8: (low, 128)}.get(dtype, (1 if positive else -60, 60))
    array = rng.uniform(*bounds, shape) if dtype is F32 else np.floor(rng.uniform(*bounds, shape))
    quant = Quant.per_tensor(scale, zero) if dtype in BYTES else None
    return Operand(Type(tuple(shape), dtype, quant), np.asarray(array, dtype.numpy), const)


def const(values: Any, dtype: DType = I32) -> Operand:
    array = np.array(values, dtype.numpy)
    return Operand(Type(array.shape, dtype), array, const=True)


def fitted(real: Array, dtype: DType) -> Quant | None:
    """The quantization that just holds the values; ``None`` for other types than bytes."""
    if dtype not in BYTES:
        return None
    low, high = min(0.0, real.min()), max(0.0, real.max())
    scale = np.float32((high - low) / 255 or 1)
    return Quant.per_tensor(float(scale), int(np.rint(-low / scale)) - (128 if dtype is I8 else 0))


def position(real: Array, kind: Type) -> Array:
    """Where the values lie on the grid of the stored integers, saturated but not rounded."""
    if kind.quant is None:
        return np.asarray(real).astype(kind.dtype.numpy)
    info = np.iinfo(kind.dtype.numpy)
    return np.clip(real / kind.quant.scale.astype(np.float64) + kind.quant.zero_point, info.min, info.max)


def probe(op: str, operands: Sequence[Operand], reals: Any, dtype: DType, quant: Quant | str | None = "fit", **attrs: Any) -> Probe:
    """A graph of one node with the results ``reals`` (one array, or a list of them); ``quant="fit"`` holds their range."""
    reals = reals if isinstance(reals, list) else [reals]
    types = [Type(np.shape(r), dtype, fitted(r, dtype) if isinstance(quant, str) else quant) for r in reals]
    values = [Value(o.type, f"in{i}", data=Constant.of(o.array) if o.const else None) for i, o in enumerate(operands)]
    node = Node.make(op, values, [Value(kind, f"out{i}") for i, kind in enumerate(types)], attrs)
    inputs = tuple(v for v in values if v.data is None)
    graph = Graph(inputs, node.outputs, tuple(v.name for v in inputs), tuple(v.name for v in node.outputs))
    return Probe(graph, [o.array for o in operands if not o.const], [position(r, t) for r, t in zip(reals, types, strict=True)])


# ---- references


def window(x: Array, size: tuple[int, int], stride: int, dilation: int, same: bool, fill: float) -> Array:
    """[N, OH, OW, C, KH*KW]: what each output position sees of an NHWC array."""
    pads = [(0, 0)] * 4
    for axis in (1, 2):
        reach = (size[axis - 1] - 1) * dilation + 1
        total = max(0, (-(-x.shape[axis] // stride) - 1) * stride + reach - x.shape[axis]) if same else 0
        pads[axis] = (total // 2, total - total // 2)
    x = np.pad(x, pads, constant_values=fill)
    rows, cols = (x.shape[axis] - (size[axis - 1] - 1) * dilation for axis in (1, 2))
    taps = [x[:, i : i + rows : stride, j : j + cols : stride] for i, j in np.array(list(np.ndindex(*size))) * dilation]
    return np.stack(taps, -1)


def convolve(x: Array, w: Array, stride: int, dilation: int, same: bool, groups: int) -> Array:
    """``w`` is [O, KH, KW, I / groups]."""
    seen = window(x, w.shape[1:3], stride, dilation, same, 0)
    parts = zip(np.split(seen, groups, 3), np.split(w.reshape(w.shape[0], -1, w.shape[3]), groups, 0), strict=True)
    return np.concatenate([np.einsum("nhwck,okc->nhwo", s, f, optimize=True) for s, f in parts], -1)


def activate(real: Array, name: str) -> Array:
    return real if name == "NONE" else np.clip(real, 0, 6 if name == "RELU6" else None)


def trunc_div(a: Array, b: Array) -> Array:
    return np.trunc(a / b) if a.dtype == np.int64 else a / b


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


# ---- the probes: one generator for each family of operators

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": trunc_div, "MAXIMUM": np.maximum, "MINIMUM": np.minimum,
}  # fmt: skip


def binary() -> Iterator[Probe]:
    for op, compute in BINARY.items():
        extremum = op.endswith("IMUM")  # no fused activation; integers are compared, so all quantization is equal
        for dtype in NUMBERS:
            for shape in (SHAPE, (1, 1, 1, SHAPE[3]), ()):
                a = draw("a", SHAPE, dtype)
                b = draw("b", shape, dtype, *(() if extremum else (0.021, 9)), positive=op == "DIV", const=shape != SHAPE)
                for act in ("NONE", "RELU", "RELU6") if dtype in REALS and not extremum else ("NONE",):
                    attrs = {} if extremum else {"fused_activation_function": act}
                    yield probe(op, [a, b], activate(compute(a.real, b.real), act), dtype, a.type.quant if extremum else "fit", **attrs)


# scheme -> element types of activation and weight, and whether each output channel has its own scale
WEIGHTS = {
    "f32": (F32, F32, False), "i8/i8pc": (I8, I8, True), "i8/i8pt": (I8, I8, False),
    "u8/u8pc": (U8, U8, True), "u8/u8pt": (U8, U8, False), "u8/i8pc": (U8, I8, True),
}  # fmt: skip


def weight(shape: Sequence[int], dtype: DType, axis: int | None) -> Operand:
    """Symmetric in [-127, 127], uint8 around 128; channel scales a factor of 3 apart."""
    if dtype is F32:
        return draw("w", shape, F32, const=True)
    rng = np.random.default_rng(5)
    count = 1 if axis is None else shape[axis]
    zero = 128 if dtype is U8 else 0
    quant = Quant((0.004 * rng.uniform(0.6, 1.8, count)).astype(np.float32), np.full(count, zero, np.int64), axis)
    return Operand(Type(tuple(shape), dtype, quant), (rng.integers(-127, 128, shape) + zero).astype(dtype.numpy), const=True)


def bias(x: Operand, w: Operand, count: int) -> Operand:
    if x.type.dtype is F32 or x.type.quant is None or w.type.quant is None:
        return draw("bias", (count,), F32, const=True)
    quant = Quant(x.type.quant.scale * w.type.quant.scale, np.zeros_like(w.type.quant.zero_point), None if w.type.quant.axis is None else 0)
    array = np.random.default_rng(6).integers(-20000, 20000, count).astype(np.int32)
    return Operand(Type((count,), I32, quant), array, const=True)


def weighted() -> Iterator[Probe]:
    # filter size, output channels of each input channel (depthwise) or 0, groups, stride, dilation, padding, fused activation
    cases = [
        (1, 0, 1, 1, 1, "VALID", "NONE"), (3, 0, 1, 2, 1, "SAME", "NONE"), (3, 0, 1, 1, 1, "VALID", "RELU"),
        (3, 0, 1, 1, 2, "SAME", "RELU6"), (3, 0, 2, 1, 1, "SAME", "NONE"), (1, 0, 4, 1, 1, "VALID", "NONE"),
        (3, 1, 16, 1, 1, "SAME", "NONE"), (3, 2, 16, 1, 1, "VALID", "RELU"),
        (5, 1, 16, 2, 1, "SAME", "RELU6"), (3, 1, 16, 1, 2, "SAME", "NONE"),
    ]  # fmt: skip
    for x_type, w_type, channels in WEIGHTS.values():
        for size, multiplier, groups, stride, dilation, padding, act in cases:
            x = draw("x", SHAPE, x_type)
            shape = (1, size, size, 16 * multiplier) if multiplier else (24, size, size, 16 // groups)
            w = weight(shape, w_type, None if not channels else 3 if multiplier else 0)
            b = bias(x, w, 16 * multiplier or 24)
            kernel = w.real.transpose(3, 1, 2, 0) if multiplier else w.real
            real = activate(convolve(x.real, kernel, stride, dilation, padding == "SAME", groups) + b.real, act)
            attrs: dict[str, Any] = {"stride_w": stride, "stride_h": stride, "dilation_w_factor": dilation, "dilation_h_factor": dilation}
            attrs |= {"depth_multiplier": multiplier} if multiplier else {}
            op = "DEPTHWISE_CONV_2D" if multiplier else "CONV_2D"
            yield probe(op, [x, w, b], real, x_type, padding=padding, fused_activation_function=act, **attrs)
        for rows, act in ((1, "NONE"), (40, "RELU")):  # two dimensions only: onert flattens others whatever keep_num_dims says
            x = draw("x", (rows, 64), x_type)
            w = weight((200, 64), w_type, 0 if channels else None)
            b = bias(x, w, 200)
            yield probe("FULLY_CONNECTED", [x, w, b], activate(x.real @ w.real.T + b.real, act), x_type, fused_activation_function=act)


def reductions() -> Iterator[Probe]:
    for dtype in REALS:
        x = draw("x", SHAPE, dtype)
        coarse = Quant.per_tensor(0.05, 130 if dtype is U8 else 2)
        for op, reduce, fill in (("MAX_POOL_2D", np.nanmax, -np.inf), ("AVERAGE_POOL_2D", np.nanmean, np.nan)):
            for size, stride, padding in (((2, 2), 2, "VALID"), ((3, 3), 2, "SAME"), ((3, 3), 1, "VALID"), (SHAPE[1:3], 1, "VALID")):
                real = reduce(window(x.real, size, stride, 1, padding == "SAME", fill), -1)
                attrs = {"padding": padding, "stride_w": stride, "stride_h": stride, "filter_height": size[0], "filter_width": size[1]}
                for quant in (x.type.quant, coarse) if dtype in BYTES else (None,):
                    yield probe(op, [x], real, dtype, quant, **attrs, fused_activation_function="NONE")
        for axes, keep in (((1, 2), True), ((1, 2), False), ((3,), True)):
            for chosen in (x.type.quant, "fit"):
                yield probe("MEAN", [x, const(axes)], x.real.mean(axes, keepdims=keep), dtype, chosen, keep_dims=keep)


def unary() -> Iterator[Probe]:
    for dtype in REALS:
        x = draw("x", SHAPE, dtype)
        low = np.iinfo(dtype.numpy).min if dtype in BYTES else 0
        # The kernels fix the output of these three: TFLite's reference refuses another one.
        unit, both = (Quant.per_tensor(1 / 256, low), Quant.per_tensor(1 / 128, low + 128)) if dtype in BYTES else (None, None)
        yield from (probe("RELU", [x], np.maximum(x.real, 0), dtype, quant) for quant in ("fit", x.type.quant))
        yield probe("RELU6", [x], np.clip(x.real, 0, 6), dtype)
        yield probe("HARD_SWISH", [x], x.real * np.clip(x.real + 3, 0, 6) / 6, dtype)
        yield probe("LOGISTIC", [x], 1 / (1 + np.exp(-x.real)), dtype, unit)
        yield probe("TANH", [x], np.tanh(x.real), dtype, both)
        for y in (x, draw("x", (40, 100), dtype)):
            yield probe("SOFTMAX", [y], softmax(y.real), dtype, unit, beta=1.0)


def movers() -> Iterator[Probe]:
    for dtype in ALL:
        x, deep = draw("x", SHAPE, dtype), draw("x", (1, 6, 5, 4, 8), dtype)
        y, other = draw("y", (1, 20, 24, 8), dtype), draw("y", (1, 20, 24, 8), dtype, 0.021, 9)
        value = draw("value", (), dtype, const=True)
        index = np.random.default_rng(0).permutation(16)
        pads = [[0, 0], [1, 2], [3, 0], [0, 1]]
        coarse = Quant.per_tensor(0.05, 130 if dtype is U8 else 2)  # asks the operator to requantize as well
        perms = ((x, (0, 3, 1, 2)), (x, (0, 2, 3, 1)), (deep, (0, 1, 3, 2, 4)))
        for quant in (x.type.quant, coarse) if dtype in BYTES else (None,):
            z = other if quant is coarse else y
            real = np.concatenate([x.real, z.real], 3)
            yield probe("CONCATENATION", [x, z], real, dtype, quant, axis=3, fused_activation_function="NONE")
            yield probe("SPLIT", [const(3), x], np.split(x.real, 2, 3), dtype, quant, num_splits=2)
            yield probe("SLICE", [x, const([0, 1, 2, 3]), const([1, 18, 20, 11])], x.real[:, 1:19, 2:22, 3:14], dtype, quant)
            for step in (1, 2):
                bounds = [const([0, 1, 2, 3]), const([1, 19, 22, 14]), const([1, step, step, step])]
                yield probe("STRIDED_SLICE", [x, *bounds], x.real[:, 1:19:step, 2:22:step, 3:14:step], dtype, quant)
            yield probe("GATHER", [x, const(index)], x.real[..., index], dtype, quant, axis=3, batch_dims=0)
            yield probe("PAD", [x, const(pads)], np.pad(x.real, pads), dtype, quant)
            yield probe("PADV2", [x, const(pads), value], np.pad(x.real, pads, constant_values=value.real), dtype, quant)
            yield probe("RESHAPE", [x, const([480, 16])], x.real.reshape(480, 16), dtype, quant, new_shape=(480, 16))
            for z, perm in perms:
                yield probe("TRANSPOSE", [z, const(perm)], z.real.transpose(perm), dtype, quant)


def conversions() -> Iterator[Probe]:
    for source in (F32, I8, U8):
        x = draw("x", SHAPE, source)
        yield from (probe("QUANTIZE", [x], x.real, target) for target in BYTES)
        if source in BYTES:
            yield probe("DEQUANTIZE", [x], x.real, F32)
    for source in ALL:
        for target in (t for t in ALL if t is not source):
            x = draw("x", SHAPE, source, positive=U8 in (source, target))  # a negative number has no uint8
            raw = Quant.per_tensor(1, 0) if target in BYTES else None
            integers = x.array != 0 if target is BOOL else np.trunc(x.array.astype(np.float64))
            if source is U8 and target is I8:
                x = Operand(x.type, x.array // 2)  # 128 and more have no int8
                integers = x.array.astype(np.int64)
            yield probe("CAST", [x], integers, target, raw, in_data_type=source.name, out_data_type=target.name)


# ---- running them


def verdict(result: runtimes.Result | TargetError, item: Probe) -> str:
    if isinstance(result, TargetError):
        return "crash" if "killed by" in result.message else "refused"
    kinds = [v.type for v in item.node.outputs]
    return max((judge(*each) for each in zip(result.outputs[0], item.want, kinds, strict=True)), key=VERDICTS.index)


def judge(got: Array, want: Array, kind: Type) -> str:
    if got.shape != kind.shape or got.dtype != kind.dtype.numpy:
        return "wrong"
    apart = np.abs(got.astype(np.float64) - (want if kind.quant is None else np.rint(want)))
    if kind.dtype is F32:  # sums of some hundred float32 terms stay 10 times below this; a wrong kernel is far above
        return "exact" if apart.max() <= 1e-4 * np.abs(want).max() else "wrong"
    if kind.quant is None:
        return "wrong" if apart.any() else "exact"
    # Scaling in float32 leaves a position in 0..255 uncertain by 2 ulp: that near the middle both neighbours are right.
    # Nearer than float64 can tell, it is a tie of the numbers themselves, which must go to even.
    middle = np.abs(want - np.floor(want) - 0.5)
    apart[(apart == 1) & (middle > 1e-9) & (middle < 256 * 2**-22)] = 0
    return ("exact", "1lsb", "wrong")[min(2, int(apart.max()))]


def measure(runtime: str, probes: Sequence[Probe]) -> dict[str, dict[str, str]]:
    suffix, identifier = FILES[runtime]
    table: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for number, item in enumerate(probes):
            path = Path(folder) / f"{number}{suffix}"
            path.write_bytes(fileformat.to_bytes(item.graph, identifier=identifier))
            jobs.append((path, [item.feed]))
        for item, result in zip(probes, runtimes.run_many(runtime, jobs), strict=True):
            row, key = table.setdefault(item.node.op, {}), spec.scheme(item.node)
            row[key] = max(row.get(key, "exact"), verdict(result, item), key=VERDICTS.index)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="OP", help="this operator alone; the file is not written")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    options = parser.parse_args()
    families = (weighted, binary, reductions, unary, movers, conversions)
    probes = [p for family in families for p in family() if options.only in (None, p.node.op)]
    found: dict[str, Any] = {r: {"version": v, "ops": measure(r, probes)} for r, v in runtimes.versions().items()}
    known: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    differences = 0
    for op in spec.OPS:
        for key in dict.fromkeys(k for r in found.values() for k in r["ops"].get(op, {})):
            cells = {r: (t["ops"][op][key], known.get(r, {}).get("ops", {}).get(op, {}).get(key)) for r, t in found.items()}
            changed = [f"{r} was {old}" for r, (new, old) in cells.items() if options.check and new != old]
            differences += len(changed)
            print(f"{op:18} {key:16} " + " ".join(f"{r}: {new:8}" for r, (new, _) in cells.items()), *changed)
    print(f"{len(probes)} probes" + (f", {differences} differences" if options.check else ""))
    if not options.check and not options.only:
        TABLE.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
