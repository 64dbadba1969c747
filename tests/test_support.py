"""The table of supported operators is whole, and says what is measured."""

from __future__ import annotations

from torch2circle import support
from torch2circle.lower import LOWERINGS
from torch2circle.lower.vocabulary import (
    NOT_COMPUTING,
    NOT_IN_A_FILE,
    REFUSED,
    core_operators,
    quantized_operators,
    reason,
    recorded_as_others,
)
from torch2circle.show import core_rows


def test_every_operator_on_quantized_tensors_is_lowered_or_refused_for_a_reason() -> None:
    assert not [op for op in quantized_operators() if op not in LOWERINGS and reason(op) is None]


def test_every_operator_of_the_core_is_lowered_or_has_a_reason() -> None:
    ops = core_operators()
    assert len(ops) > 180
    assert not [op for op in ops if op not in LOWERINGS and not recorded_as_others(op) and reason(op) is None]


def test_no_reason_of_the_core_is_left_over() -> None:
    """And none is of an operator that computes: PyTorch's training, randomness, complex numbers, host reads and shapes apart."""
    said = {reason(op) for op in core_operators() if op not in LOWERINGS}
    assert set(NOT_IN_A_FILE.values()) <= said
    assert {op: what for op, what in core_rows() if what == "not supported"} == {}


def test_no_reason_is_left_over() -> None:
    ops = quantized_operators()
    assert not [op for op in REFUSED if op in LOWERINGS or op not in ops]
    assert set(NOT_COMPUTING.values()) <= {reason(op) for op in ops}


def test_the_table_has_a_row_for_every_lowering() -> None:
    ours = {op for op, lowering in LOWERINGS.items() if lowering.body.__module__.startswith("torch2circle.")}
    from test_ops import UNCALLED

    assert ours - UNCALLED.keys() == set(support.measured())


def test_a_use_is_counted_by_how_it_is_computed() -> None:
    found = [("onert", support.Use("a", "8-bit", "native", 1.0)), ("onert", support.Use("a", "8-bit", "native", 0.5))]
    found += [("onert", support.Use("a", "8-bit", "island")), ("litert", support.Use("a", "float", "free", 0.0))]
    assert support.merged(found) == {"a": {"8-bit": {"onert": {"native": 1.0, "island": 0.0}}, "float": {"litert": {"free": 0.0}}}}
