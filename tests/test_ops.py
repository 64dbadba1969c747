"""Every operator in every way of ``cases``: run in the real runtimes, compared with PyTorch, and held against the expected graph."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import torch
from torch.utils import _pytree as pytree

import torch2circle
from cases import CASES, EXACT, RUNTIMES, Case
from conftest import GOLDEN
from torch2circle import format as fileformat
from torch2circle import runtimes
from torch2circle.lower import LOWERINGS
from torch2circle.pipeline import ExportedModel
from torch2circle.quant import type_of
from torch2circle.targets import TARGETS

EACH = pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
INSTALLED = [pytest.param(r, marks=pytest.mark.skipif(not runtimes.available(r), reason=f"{r} is not installed")) for r in RUNTIMES]

# Lowerings that no case calls, and why.
UNCALLED = dict.fromkeys(("aten::dropout", "aten::feature_dropout", "aten::lift_fresh"), "gives back its own argument, which is no call")
# Files that must not change by a byte: a convolution, a weight whose columns moved, requantized operands, and several inputs.
BYTES = ("conv", "linear.behind_conv", "cat", "edge.two_in")


def exported(case: Case) -> ExportedModel:
    model, args = case.make()
    return torch2circle.export(model, args)


@EACH
@pytest.mark.parametrize("runtime", INSTALLED)
def test_each_operator_computes_what_pytorch_does(case: Case, runtime: str) -> None:
    report = exported(case).verify(runtime)
    near = case.near if runtime in case.near.targets else EXACT
    # end to end, a step of an operand may be two of a finer result
    for c, steps in [*((c, near.lsb) for c in report.operators), *((c, 2 * near.lsb) for c in report.outputs)]:
        allowed = 0 if near.share == 1 else max(1, (1 - near.share) * c.size)  # in a small tensor, one is more than the share
        assert c.lsb <= steps, f"{c.op} {c.name} is off by {c.lsb} LSB, allowed: {steps} ({near.reason})"
        assert c.size - c.equal <= allowed, f"{c.op} {c.name}: {c.size - c.equal} of {c.size} differ, allowed: {allowed:g} ({near.reason})"


@EACH
@pytest.mark.parametrize("target", RUNTIMES)
def test_graph_text(case: Case, target: str, golden: Callable[[str, str], None]) -> None:
    graph = exported(case).for_target(target)
    golden(f"{case.id}.{target}.txt", str(graph))
    if case.id in BYTES:
        content = fileformat.to_bytes(graph, identifier=TARGETS[target].identifier)
        golden(f"{case.id}.{target}.sha256", f"{hashlib.sha256(content).hexdigest()} {len(content)} bytes\n")


@EACH
def test_edges_have_the_shapes_and_types_of_the_model(case: Case) -> None:
    model, args = case.make()
    with torch.inference_mode():
        outputs = [leaf for leaf in pytree.tree_leaves(model(*(arg.clone() for arg in args))) if isinstance(leaf, torch.Tensor)]
    made = torch2circle.export(model, args)
    targets = RUNTIMES if case.id.startswith("int64") else TARGETS  # the toolchain's own convention has no int64
    for graph in map(made.for_target, targets):
        for values, tensors in ((graph.inputs, args), (graph.outputs, outputs)):
            assert [v.type for v in values] == [type_of(t) for t in tensors]


def test_every_lowering_is_called() -> None:
    called = {call.op for case in CASES for call in exported(case).recording.needed()}
    ours = {op for op, lowering in LOWERINGS.items() if lowering.body.__module__.startswith("torch2circle.")}
    assert sorted(ours - called) == sorted(UNCALLED)


def test_cases_and_expected_graphs_belong_together(request: pytest.FixtureRequest) -> None:
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))
    expected = {f"{i}.{target}.txt" for i in ids for target in RUNTIMES} | {f"{i}.{target}.sha256" for i in BYTES for target in RUNTIMES}
    assert {path.name for path in GOLDEN.iterdir()} == expected
