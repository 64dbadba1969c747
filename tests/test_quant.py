"""The arithmetic of integers with a scale, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch2circle.arithmetic import INT32_MAX, dequantized, quantize_bias, quantized, rescaled
from torch2circle.errors import QuantizationError, UnsupportedUse
from torch2circle.ir import DType, Quant, Type
from torch2circle.quant import array_of, type_of

# Products of two such scales are normal float32 numbers; PyTorch's observers stop at 2**-23.
SCALES = st.floats(2.0**-40, 2.0**10, width=32)
BIASES = st.floats(-(2.0**40), 2.0**40, width=32)


@given(st.lists(BIASES, min_size=1, max_size=5), SCALES, st.data())
def test_a_bias_is_the_nearest_integer(biases: list[float], input_scale: float, data: st.DataObject) -> None:
    count = data.draw(st.sampled_from([1, len(biases)]))
    given_scale = np.array(data.draw(st.lists(SCALES, min_size=count, max_size=count)), np.float32)
    made = quantize_bias(np.array(biases, np.float32), np.float32(input_scale), given_scale)
    np.testing.assert_array_equal(made.quant.scale, np.float32(input_scale) * made.weight_scale)  # as the file states it
    for channel, bias in enumerate(biases):
        scale = made.quant.scale[min(channel, count - 1)]
        exact = Fraction(bias) / Fraction(float(scale))
        # float64 has 53 bits, of which 31 are in front of the point: a tie may be missed by 2**-20 of a step
        assert abs(int(made.q[channel]) - exact) <= Fraction(1, 2) + Fraction(1, 2**20)
        assert int(made.q[channel]) * bias >= 0
        assert abs(int(made.q[channel])) <= INT32_MAX


@given(st.lists(BIASES, min_size=1, max_size=5), SCALES, SCALES, st.booleans(), st.integers(0, 2**30))
def test_a_scale_is_raised_only_where_a_bias_needs_it_and_just_enough(
    biases: list[float], input_scale: float, weight_scale: float, per_channel: bool, accumulated: int
) -> None:
    before = np.full(len(biases) if per_channel else 1, weight_scale, np.float32)
    made = quantize_bias(np.array(biases, np.float32), np.float32(input_scale), before, accumulated)
    limit = INT32_MAX - accumulated
    step = Fraction(float(np.float32(input_scale) * np.float32(weight_scale)))
    too_large = [abs(Fraction(bias)) / step > limit for bias in biases]
    expected = [i for i, large in enumerate(too_large) if large] if len(before) == len(biases) else [0] * any(too_large)
    # at the limit itself, float64 may decide either way
    close = [abs(abs(Fraction(bias)) / step - limit) < 1 for bias in biases]
    if not any(close):
        assert made.raised.tolist() == expected
    assert np.abs(made.q.astype(np.int64)).max() <= limit
    for i, (old, new) in enumerate(zip(before, made.weight_scale, strict=True)):
        if i not in made.raised:
            assert old == new
            continue
        needed = max(abs(Fraction(b)) for b in (biases if len(before) < len(biases) else [biases[i]])) / limit / Fraction(input_scale)
        assert old < new <= float(needed) * 1.001


@pytest.mark.parametrize("bias", [3e9, -3e9, 2.0**31, -(2.0**31), 2.0**31 - 128, 1e30])
def test_a_bias_beyond_int32_keeps_its_sign(bias: float) -> None:
    """Clamped in float32 it would not: that rounds 2**31 - 1 up to 2**31, which is the lowest int32."""
    made = quantize_bias(np.array([bias, 1], np.float32), np.float32(1), np.array([1, 1], np.float32))
    assert np.sign(made.q[0]) == np.sign(bias)
    np.testing.assert_allclose(made.q[0] * made.quant.scale[0].astype(np.float64), bias, rtol=1e-6)
    assert made.q[1] == 1


@pytest.mark.parametrize("q", [2**24 + 2, 2**30 + 128, -(2**31) + 128, 16777219 * 3])
def test_large_biases_are_exact(q: int) -> None:
    """float32 has 24 bits: the quotient of a large bias would be rounded twice."""
    scale = np.float32(0.1)
    bias = np.array([np.float64(q) * np.float64(scale)])
    assert quantize_bias(bias, np.float32(1), np.array([scale])).q[0] == q


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bias_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(QuantizationError, match=r"a bias must be a finite number: .* in channel 1"):
        quantize_bias(np.array([0, bad], np.float32), np.float32(1), np.array([1], np.float32))


@given(st.lists(st.integers(-128, 127), min_size=2, max_size=2), st.floats(0.001, 1))
def test_weights_under_a_larger_scale_keep_their_values(weights: list[int], factor: float) -> None:
    after = rescaled(np.array([weights, weights], np.int8), np.array([1.0, factor]), 0)
    assert after[0].tolist() == weights
    for old, new in zip(weights, after[1].tolist(), strict=True):
        assert abs(new - old * factor) <= 0.5


@given(st.sampled_from([DType.INT8, DType.UINT8]), st.floats(2.0**-23, 100, width=32), st.integers(0, 255))
def test_integers_survive_real_numbers(dtype: DType, scale: float, position: int) -> None:
    info = np.iinfo(dtype.numpy)
    type_ = Type((256,), dtype, Quant.per_tensor(scale, info.min + position))
    q = np.arange(info.min, info.max + 1).astype(dtype.numpy)
    assert type_.quant is not None
    np.testing.assert_array_equal(quantized(dequantized(q, type_.quant), type_), q)


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=9),
    st.floats(2.0**-10, 4, width=32),
    st.integers(0, 127).map(lambda z: 2 * z),
)
def test_quantized_is_what_pytorch_documents(values: list[float], scale: float, zero_point: int) -> None:
    """An even zero point, so that adding it before the rounding or behind is one; float32 may decide a near tie otherwise."""
    real = np.array(values, np.float32)
    ours = quantized(real, Type(real.shape, DType.UINT8, Quant.per_tensor(scale, zero_point))).astype(int)
    theirs = torch.quantize_per_tensor(torch.from_numpy(real), scale, zero_point, torch.quint8).int_repr().numpy().astype(int)
    fraction = np.abs(real.astype(np.float64) / scale % 1 - 0.5)
    decided = fraction > np.abs(real.astype(np.float64) / scale) * 2.0**-22
    np.testing.assert_array_equal(ours[decided], theirs[decided])
    assert np.abs(ours - theirs).max() <= 1


# ---- PyTorch's tensors


def test_types_of_tensors() -> None:
    per_tensor = torch.quantize_per_tensor(torch.zeros(2, 3), 0.5, 7, torch.quint8)
    assert type_of(per_tensor) == Type((2, 3), DType.UINT8, Quant.per_tensor(0.5, 7))
    scales, zeros = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.tensor([0, 1, 2])
    quant = type_of(torch.quantize_per_channel(torch.zeros(2, 3), scales, zeros, 1, torch.qint8)).quant
    assert quant == Quant(np.array([0.1, 0.2, 0.3], np.float32), np.array([0, 1, 2]), 1)
    assert type_of(torch.zeros((), dtype=torch.int64)) == Type((), DType.INT64)
    with pytest.raises(UnsupportedUse, match=r"dtype not supported: torch.complex64"):
        type_of(torch.zeros(1, dtype=torch.complex64))


@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan"), float("inf")])
def test_a_scale_that_no_kernel_can_use_is_refused(scale: float) -> None:
    broken = torch._make_per_tensor_quantized_tensor(torch.zeros(3, dtype=torch.uint8), scale, 0)
    with pytest.raises(QuantizationError, match="a scale must be a positive number"):
        type_of(broken)


def test_arrays_are_the_integers_themselves() -> None:
    tensor = torch.quantize_per_tensor(torch.tensor([0.0, 1.0, -1.0]), 0.5, 7, torch.quint8)
    np.testing.assert_array_equal(array_of(tensor), np.array([7, 9, 5], np.uint8))
    negative = torch.tensor([1 + 2j]).conj().imag
    assert negative.is_neg()
    np.testing.assert_array_equal(array_of(negative), np.array([-2], np.float32))
