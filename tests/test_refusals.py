"""What cannot be exported is refused in the user's words: never a crash, a bug report or wrong numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torch2circle
from cases import dynamic
from cases.embedding import LINE, MATRIX, OFFSETS, bag, byte
from cases.indexing import PLACES, given
from cases.making import NCHW, PAIR, SYMMETRIC, Call, Made, Q, assigned, eager, floating, inputs, ints
from torch2circle.errors import RecordError, TargetError, UnsupportedOps, UnsupportedUse, UserError


@dataclass(frozen=True)
class Refusal:
    """``says`` is part of the message; with a ``target`` the export succeeds, and writing for that target is refused."""

    id: str
    make: Callable[[], Made]
    error: type[UserError]
    says: str
    target: str = ""


def typed(function: Callable[..., Tensor], *dtypes: torch.dtype) -> Made:
    return Call(function).eval(), tuple(torch.ones(2, 3, dtype=dtype) for dtype in dtypes)


def by_channel(x: Tensor) -> Tensor:
    scales, zeros = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0, 1, 2])
    return torch.quantize_per_channel(x, scales, zeros, 1, torch.quint8).dequantize()


def scattered(x: Tensor, index: Tensor, source: Tensor) -> Tensor:
    return x.scatter(1, index, source)


def scattered_many(rows: int, size: int, count: int) -> Made:
    return Call(scattered).eval(), (torch.zeros(rows, size), torch.zeros(rows, count, dtype=torch.int64), torch.zeros(rows, count))


def written_apart(x: Tensor, index: Tensor) -> Tensor:
    x = x.clone()
    x[index, :, index] = 0.5
    return x


def added(x: Tensor, index: Tensor, source: Tensor) -> Tensor:
    return source.scatter_add(1, index, source)


def by_mean(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda a, b: function(a, b.dequantize().mean())


def integers_of(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8).int_repr() + 1


REFUSALS = [
    # -- operators without a lowering
    Refusal("two_at_once", lambda: floating(lambda a: torch.linalg.inv(a).erfinv(), (3, 3)), UnsupportedOps, "without a lowering"),
    Refusal("integers_as_they_are", lambda: floating(lambda a: integers_of(a), (2, 3)), UnsupportedOps, "dequantize instead"),
    Refusal("erfinv", lambda: floating(torch.erfinv, (2, 3)), UnsupportedOps, "(nearest: aten::erf"),
    Refusal("quantized_by_channel", lambda: floating(by_channel, (2, 3)), UnsupportedOps, "aten::quantize_per_channel x1"),
    # -- arguments
    Refusal(
        "linear_dynamic.another_depth",
        lambda: dynamic.linear(dynamic.stored((5, 17)), (9, 15), engine="qnnpack"),  # whose kernel reads on, without a word
        UnsupportedUse,
        "input of quantized::linear_dynamic not supported: 15 channels",
    ),
    Refusal(
        "conv_transpose.packed_wrongly",
        lambda: eager(nn.ConvTranspose2d(8, 16, 2, 2), (2, 8, 5, 7), weight=SYMMETRIC),
        UnsupportedUse,
        "which FBGEMM packs wrongly",
    ),
    Refusal("conv.weight_from_input", lambda: floating(F.conv2d, NCHW, (5, 3, 3, 3)), UnsupportedUse, "a tensor computed from an input"),
    Refusal("linear.weight_from_input", lambda: floating(F.linear, (2, 3), (5, 3)), UnsupportedUse, "weight of aten::linear"),
    Refusal("transposed.weight_from_input", lambda: floating(F.conv_transpose2d, NCHW, (3, 5, 3, 3)), UnsupportedUse, "an input"),
    Refusal("conv3d.qnnpack", lambda: eager(nn.Conv3d(3, 5, 1), (2, 3, 4, 5, 6), engine="qnnpack"), UnsupportedUse, "packed weights not"),
    Refusal("bitwise.integers", lambda: typed(lambda a: a & 3, torch.int32), UnsupportedUse, "element type of aten::bitwise_and.Scalar"),
    Refusal("add.number_computed", lambda: ints(by_mean(Q.add_scalar), *PAIR), UnsupportedUse, "b of quantized::add_scalar.Tensor"),
    Refusal("adaptive.huge", lambda: floating(nn.AdaptiveAvgPool2d((50, 51)), (1, 3, 64, 64)), UnsupportedUse, "64x64 pixels to 50x51"),
    # -- embeddings and positions
    Refusal(
        "bag.mode", lambda: byte(lambda t, i: Q.embedding_bag_byte(t, i, mode=1), MATRIX), UnsupportedUse, "mode of quantized::embedding"
    ),
    Refusal(
        "bag.offsets", lambda: byte(lambda t, i: Q.embedding_bag_byte(t, i, OFFSETS + 1), LINE), UnsupportedUse, "offsets of quantized::"
    ),
    Refusal("bag.max_unequal", lambda: bag("max", LINE, OFFSETS), UnsupportedUse, "mode of aten::embedding_bag.padding_idx"),
    Refusal("bag.max_padded", lambda: bag("max", MATRIX, padding_idx=3), UnsupportedUse, "padding_idx of aten::embedding_bag"),
    Refusal("scatter.many", lambda: scattered_many(4, 3000, 1000), UnsupportedUse, "4000 among 3000"),
    Refusal("scatter.integers", lambda: given(added, PLACES % 3, PLACES), UnsupportedUse, "element type of aten::scatter_add"),
    Refusal("write.apart", lambda: given(written_apart, PLACES[0, 0] % 3), UnsupportedUse, "indices of aten::index_put"),
    Refusal("matmul.integers", lambda: typed(lambda a, b: a @ b.mT, torch.int64, torch.int64), TargetError, "BATCH_MATMUL (i64", "litert"),
    # -- element types
    Refusal("float64", lambda: typed(lambda a: a * 2, torch.float64), UnsupportedUse, "dtype not supported: torch.float64"),
    Refusal("bfloat16", lambda: typed(torch.relu, torch.bfloat16), UnsupportedUse, "dtype not supported: torch.bfloat16"),
    Refusal("uint8_without_scale", lambda: typed(torch.relu, torch.uint8), UnsupportedUse, "dtype not supported: torch.uint8"),
    Refusal("mean_in_float64", lambda: floating(lambda a: a.mean(1, dtype=torch.float64), (2, 3)), UnsupportedUse, "torch.float64"),
    # -- behaviour
    Refusal("train_mode", lambda: (nn.BatchNorm2d(3).train(), inputs([NCHW])), RecordError, "train mode"),
    Refusal("random", lambda: floating(lambda a: a + torch.rand(3), (2, 3)), RecordError, "draws random numbers: aten::rand"),
    Refusal("branch", lambda: floating(lambda a: a if a.sum() > 0 else -a, (2, 3)), RecordError, "its path may differ for other inputs"),
    Refusal("shape_from_data", lambda: floating(lambda a: a[a > 0], (2, 3)), RecordError, "depends on the data: aten::index.Tensor"),
    Refusal("assign_integers", lambda: ints(assigned, (2, 5, 7, 3), (2, 2, 7, 3)), RecordError, "a part of a quantized tensor"),
    Refusal("cannot_run", lambda: ints(torch.sub, *PAIR), RecordError, "the model cannot run on these inputs: NotImplementedError"),
    # -- targets
    Refusal("float16.onert", lambda: typed(torch.relu, torch.float16), TargetError, "RELU (f16: unknown)", "onert"),
    Refusal("float16.litert", lambda: typed(torch.relu, torch.float16), TargetError, "RELU (f16: unknown)", "litert"),
    Refusal("int64.onert", lambda: typed(lambda a: a[:, 1:], torch.int64), TargetError, "SLICE (i64: refused)", "onert"),
    Refusal(
        "int32_activation",
        lambda: floating(lambda a: torch.quantize_per_tensor(a, 0.1, 0, torch.qint32).dequantize(), (2, 3)),
        TargetError,
        "QUANTIZE (f32->i32: unknown)",
        "litert",
    ),
    Refusal("rank7", lambda: floating(lambda a: a.reshape(1, 2, 1, 3, 2, 2, 1) + 2, (2, 12)), TargetError, "than 6 dimensions", "onert"),
]


@pytest.mark.parametrize("refusal", [pytest.param(r, id=r.id) for r in REFUSALS])
def test_what_cannot_be_exported_is_refused(refusal: Refusal) -> None:
    model, args = refusal.make()
    if refusal.target:
        exported = torch2circle.export(model, args)
        with pytest.raises(refusal.error) as raised:
            exported.for_target(refusal.target)
    else:
        with pytest.raises(refusal.error) as raised:
            torch2circle.export(model, args)
    assert type(raised.value) is refusal.error
    assert refusal.says in raised.value.message
    assert "\n" not in str(raised.value.hint or "")


def test_ids_are_unique() -> None:
    ids = [refusal.id for refusal in REFUSALS]
    assert len(ids) == len(set(ids))


def test_missing_operators_are_named_with_their_place() -> None:
    model, args = floating(lambda a: torch.erfinv(a), (2, 3))
    with pytest.raises(UnsupportedOps) as raised:
        torch2circle.export(model, args)
    ((op, count, where, near),) = raised.value.missing
    assert (op, count) == ("aten::erfinv", 1)
    assert where.file.endswith("test_refusals.py")
    assert "aten::erf" in near
