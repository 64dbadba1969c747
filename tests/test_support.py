"""The table of supported operators is whole, and says what is measured."""

from __future__ import annotations

from torch2circle import support
from torch2circle.lower import LOWERINGS
from torch2circle.lower.vocabulary import NOT_COMPUTING, REFUSED, quantized_operators, reason


def test_every_operator_on_quantized_tensors_is_lowered_or_refused_for_a_reason() -> None:
    assert not [op for op in quantized_operators() if op not in LOWERINGS and reason(op) is None]


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
