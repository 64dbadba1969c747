"""From one element type to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from torch2circle.ir import DType, Quant, Type

from .making import ALL, BOOL, BY_RANK, BYTES, F32, I4, I8, I32, I64, SHAPE, U8, Operand, Probe, draw, probe
from .weighted import weight


def quantization() -> Iterator[Probe]:
    for shape in (SHAPE, *BY_RANK.values()):
        for source in (F32, I8, U8):
            x = draw("x", shape, source)
            yield from (probe("QUANTIZE", [x], x.real, target) for target in BYTES)
            if source in BYTES:
                yield probe("DEQUANTIZE", [x], x.real, F32)
                for axis in (0, len(shape) - 1, None):  # of a constant, which an addition reads
                    stored, other = weight(shape, source, axis), draw("x", shape, F32)
                    real = Operand(Type(shape, F32), stored.real.astype(np.float32), stored=stored)
                    yield probe("ADD", [other, real], other.real + stored.real, F32, which=0, fused_activation_function="NONE")


def nibbles() -> Iterator[Probe]:
    """Constants of 4 bits, an odd number of them, too; with zero points other than 0."""
    for shape in ((3, 5), (5, 3, 7), SHAPE, *BY_RANK.values()):
        for axis in (0, len(shape) - 1, None):
            stored, other = weight(shape, I4, axis), draw("x", shape, F32)
            assert stored.type.quant is not None
            for zeros in (stored.type.quant.zero_point, np.arange(len(stored.type.quant.scale)) % 16 - 8):
                quant = replace(stored.type.quant, zero_point=zeros.astype(np.int64))
                moved = replace(stored, type=replace(stored.type, quant=quant))
                real = Operand(Type(shape, F32), moved.real.astype(np.float32), stored=moved)
                yield probe("ADD", [other, real], other.real + moved.real, F32, which=0, fused_activation_function="NONE")


def halves() -> Iterator[Probe]:
    """float16 constants."""
    for shape in (SHAPE, *BY_RANK.values()):
        stored = Operand(Type(shape, DType.FLOAT16), draw("w", shape, F32).array.astype(np.float16), const=True)
        real, other = Operand(Type(shape, F32), stored.array.astype(np.float32), stored=stored), draw("x", shape, F32)
        yield probe("ADD", [other, real], other.real + real.real, F32, which=0, fused_activation_function="NONE")


def casts() -> Iterator[Probe]:
    for source in ALL:
        for target in (t for t in ALL if t is not source):
            for shape in (SHAPE, *BY_RANK.values()):
                x = draw("x", shape, source, positive=U8 in (source, target))  # a negative number has no uint8
                raw = Quant.per_tensor(1, 0) if target in BYTES else None
                if source in (I32, I64) and target is I8:
                    x = Operand(x.type, x.array % 128 - 64)
                integers = x.array != 0 if target is BOOL else np.trunc(x.array.astype(np.float64))
                if source is U8 and target is I8:
                    x = Operand(x.type, x.array // 2)  # 128 and more have no int8
                    integers = x.array.astype(np.int64)
                yield probe("CAST", [x], integers, target, raw, in_data_type=source.name, out_data_type=target.name)


FAMILIES = (quantization, nibbles, halves, casts)
