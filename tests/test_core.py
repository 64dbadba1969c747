"""What float models do that a file cannot hold is refused in plain words; what PyTorch leaves open is not guessed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import torch2circle
from cases.making import Call
from torch2circle.errors import UserError
from torch2circle.ir import DType, Type, Value
from torch2circle.verify import compare

X = torch.linspace(-2, 3, 24).view(2, 3, 4)


def copied_onto_itself(x: Tensor) -> Tensor:
    x = x + 1
    x[:, 1:] = x[:, :-1]
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: torch.fft.rfft(x).abs(), "complex numbers"),
        (lambda x: torch.stft(x.flatten(), 8, window=torch.ones(8), return_complex=True).abs(), "complex numbers"),
        (lambda x: torch.view_as_real(torch.polar(x, x)), "complex numbers"),
        (lambda x: x * torch.complex(x, x).abs(), "complex numbers"),
        (copied_onto_itself, "copied onto a part of itself"),
        (lambda x: torch.bernoulli(x.sigmoid()), "random numbers"),
        (lambda x: (x + 1).exponential_(), "random numbers"),
        (lambda x: x[x > 0], "depends on the data"),
        (lambda x: x.nonzero(), "depends on the data"),
        (lambda x: x * x.max().item(), "reads a value that depends on its input"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(function: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        torch2circle.export(Call(function).eval(), (X,))
    assert "test_core.py" in str(raised.value)


def test_a_copy_of_itself_is_no_copy_onto_itself() -> None:
    def function(x: Tensor) -> Tensor:
        x = x + 1
        x[:, 1:] = x[:, :-1].clone()
        x.copy_(x)
        return x

    recording = torch2circle.export(Call(function).eval(), (X,)).recording
    assert "slice_scatter" in str(recording)


def test_not_a_number_is_what_it_is() -> None:
    value, want = Value(Type((3,), DType.FLOAT32), "x"), np.array([np.nan, np.inf, 1], np.float32)
    assert compare(value, want.copy(), want).equal == 3
    assert compare(value, np.array([0, np.inf, 1], np.float32), want).equal == 2
    assert compare(value, np.array([np.nan, np.nan, 1], np.float32), want).equal == 2
