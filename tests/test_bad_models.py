"""Models that no file can hold, as users have them: what is said, where, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch2circle
from cases.making import Call
from torch2circle.errors import RecordError, UnsupportedOps, UnsupportedUse, UserError

IMAGE = torch.linspace(-1, 1, 3 * 64).reshape(1, 3, 8, 8)


class Trained(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), *parts)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made


class Holding(nn.Module):
    """A function of an image and a buffer."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], held: Tensor) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("held", held)
        self.held: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.held)


def counted(x: Tensor, held: Tensor) -> Tensor:
    held.add_(1)
    return x * held


def spectrogram(x: Tensor) -> Tensor:
    return torch.stft(x[0, 0].flatten(), 16, window=torch.ones(16), return_complex=True).abs()


def program(model: nn.Module) -> Any:
    return torch.export.export(model, (IMAGE,))


def of(function: Callable[..., Any]) -> nn.Module:
    return Call(function).eval()


WITH_GRADIENT = "call model.eval(), before torch.export.export"
IN_FLOAT32 = "convert model and inputs with .float()"
IN_PARTS = "compute with the real and the imaginary part in a tensor each; a Fourier transform is a product with cosines and sines"

# What is exported -> error, part of the message, part of the hint (or of the message, behind the operator), where it is.
CASES: dict[str, tuple[Callable[[], Any], type[UserError], str, str, str]] = {
    "dropout in train mode": (
        lambda: program(Trained(nn.Dropout()).train()), RecordError, "draws random numbers: aten::dropout", WITH_GRADIENT, "layers.1",
    ),
    "dropout, decomposed": (
        lambda: program(Trained(nn.Dropout()).train()).run_decompositions(), RecordError, "native_dropout", WITH_GRADIENT, "layers.1",
    ),
    "functional dropout": (lambda: of(lambda x: F.dropout(x)), RecordError, "random", "training=self.training to F.dropout", ""),
    "statistics in train mode": (
        lambda: program(Trained(nn.BatchNorm2d(4)).train()), RecordError, "state while it runs: layers.1.num_batches", WITH_GRADIENT,
        "layers.1",
    ),
    "a written buffer": (lambda: Holding(counted, torch.zeros(1)).eval(), RecordError, "writes its own state while it runs: held",
                         "take it as an argument and return it", ""),
    "a written buffer, exported": (
        lambda: program(Holding(counted, torch.zeros(1))), RecordError, "writes its own state while it runs: held", "take it as an arg", "",
    ),
    "complex buffer": (
        lambda: Holding(lambda x, h: (x * h).real, torch.ones(8, dtype=torch.complex64)).eval(), UnsupportedOps, "aten::view_as_real",
        IN_PARTS, "",
    ),
    "a spectrum": (lambda: of(lambda x: torch.fft.rfft(x).abs()), UnsupportedOps, "aten::_fft_r2c", IN_PARTS, ""),
    "a spectrogram": (lambda: of(spectrogram), UnsupportedOps, "aten::stft", IN_PARTS, ""),
    "float64 in between": (lambda: of(lambda x: (x.double() * 2).float()), UnsupportedUse, "torch.float64", IN_FLOAT32, ""),
    "float64 buffer": (
        lambda: Holding(torch.mul, torch.ones(8, dtype=torch.float64)).eval(), UnsupportedUse, "torch.float64 (held)", IN_FLOAT32, "",
    ),
    "bfloat16 in between": (lambda: of(lambda x: x.bfloat16() + 1), UnsupportedUse, "dtype not supported: torch.bfloat16", IN_FLOAT32, ""),
    "a view that cannot be undone": (
        lambda: of(lambda x: ((y := x + 1).as_strided((4,), (1,)).mul_(2), y)[1]), RecordError, "be undone: aten::as_strided", "", "",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")  # run_decompositions calls what torch itself deprecates
@pytest.mark.parametrize("case", CASES)
def test_what_is_said(case: str) -> None:
    make, error, message, hint, module = CASES[case]
    model = make()
    with pytest.raises(error) as raised:
        torch2circle.export(model, (IMAGE,))
    assert message in raised.value.message
    assert hint in str(raised.value)
    where = raised.value.missing[0][2] if isinstance(raised.value, UnsupportedOps) else raised.value.where
    assert where
    assert (where.module, where.file.endswith("test_bad_models.py"), where.line > 0) == (module, True, True)


@pytest.mark.parametrize(
    ("dtype", "hint"), [(torch.float64, IN_FLOAT32), (torch.bfloat16, IN_FLOAT32), (torch.complex64, IN_PARTS)], ids=str
)
def test_an_input_of_a_type_that_files_do_not_have(dtype: torch.dtype, hint: str) -> None:
    with pytest.raises(UnsupportedUse) as raised:
        torch2circle.export(of(lambda x: x + 1), (IMAGE.to(dtype),))
    assert f"dtype not supported: {dtype} (input args_0)" in raised.value.message
    assert hint in str(raised.value)
    assert "no source line" not in str(raised.value)


def test_a_number_in_float64_is_no_tensor_of_it() -> None:
    """Python's floats, and tensors without dimensions, make no result float64."""
    exported = torch2circle.export(of(lambda x: x * torch.tensor(0.5).item() + 1e-3), (IMAGE,))
    assert exported.graph.outputs[0].type.dtype.value == "float32"


def test_an_input_that_is_written_is_named() -> None:
    def stepped(x: Tensor, keys: Tensor) -> Tensor:
        keys[:, :1] = x
        return keys * 2

    def returned(x: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        return stepped(x, keys), keys

    args = (torch.ones(2, 1), torch.zeros(2, 3))
    for model in (of(stepped), torch.export.export(of(stepped), args)):
        (finding,) = torch2circle.export(model, args).diagnostics()
        assert (finding.severity, finding.code, finding.path) == ("warning", "input-written", "args_1")
    assert not torch2circle.export(of(returned), args).diagnostics()
    assert not args[1].any()
