"""Every operator in every way of ``cases``: run in the real runtimes, compared with PyTorch, and held against the expected graph."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import torch2circle
from cases import CASES, FAMILIES
from cases.making import EXACT, RUNTIMES, Case
from conftest import GOLDEN, every, pinned
from torch2circle import format as fileformat
from torch2circle import runtimes
from torch2circle.errors import TargetError
from torch2circle.ir import Graph
from torch2circle.lower import LOWERINGS
from torch2circle.pipeline import ExportedModel
from torch2circle.quant import type_of
from torch2circle.targets import TARGETS
from torch2circle.verify import Report

EACH = pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
ENGINE = "torch2circle.optimize.engine"  # where rules say that they fired
FAMILY = {case.id: family for family, cases in FAMILIES.items() for case in cases}

# Lowerings that no case calls, and why.
UNCALLED = dict.fromkeys(("aten::dropout", "aten::feature_dropout", "aten::lift_fresh"), "gives back its own argument, which is no call")
# Files that must not change by a byte: a convolution, a weight whose columns moved, requantized operands, and several inputs.
BYTES = ("conv", "linear.behind_conv", "cat", "edge.two_in")


@EACH
def test_case(case: Case, golden: Callable[[str, str], None], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, ENGINE)
    model, args = case.make()
    exported = torch2circle.export(model, args, **case.options)
    graphs = {target: exported.for_target(target) for target in RUNTIMES if target not in case.refused}
    if pinned("torch"):  # another PyTorch records some models as other operators; what counts there is that the numbers are right
        written = "".join(text(case, target, graphs[target]) for target in graphs)
        golden(f"{FAMILY[case.id]}/{case.id}.txt", tried(exported, caplog) + written)
    edges_are_the_models(model, args, graphs.values())
    for target, said in case.refused.items():
        with pytest.raises(TargetError) as raised:
            exported.for_target(target)
        assert said in raised.value.message
    for runtime in filter(runtimes.available, graphs):
        near_enough(case, runtime, exported.verify(runtime))


def tried(exported: ExportedModel, caplog: pytest.LogCaptureFixture) -> str:
    """The lowerings and the rules that a case tries: ``every`` asks all cases for them."""
    calls = {call.op for call in exported.recording.needed()}
    fired = (record.args for record in caplog.records if record.name == ENGINE)
    rules = {str(args[0]) for args in fired if isinstance(args, tuple)}
    return f"calls  {' '.join(sorted(calls))}\nrules  {' '.join(sorted(rules))}\n".replace(" \n", "\n")


def text(case: Case, target: str, graph: Graph) -> str:
    shown = f"-- {target}\n{graph}"
    if case.id not in BYTES:
        return shown
    content = fileformat.to_bytes(graph, identifier=TARGETS[target].identifier)
    return f"{shown}file   {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}\n"


def edges_are_the_models(model: nn.Module, args: Sequence[Any], graphs: Iterable[Graph]) -> None:
    """Inputs and outputs have the shapes and types of the model's, whether a file takes other sizes, too, or not."""
    with torch.inference_mode():
        result = model(*pytree.tree_map_only(torch.Tensor, torch.clone, args))
    ins, outs = ([type_of(leaf) for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)] for tree in (args, result))
    for graph in graphs:
        assert [replace(v.type, open=()) for v in graph.inputs] == ins
        assert [replace(v.type, open=()) for v in graph.outputs] == outs


def near_enough(case: Case, runtime: str, report: Report) -> None:
    near = case.near if runtime in case.near.targets else EXACT
    # end to end, a step of an operand may be two of a finer result
    for c, steps in [*((c, near.lsb) for c in report.operators), *((c, 2 * near.lsb) for c in report.outputs)]:
        name = f"{c.op} {c.name} in {runtime}"
        allowed = 0 if near.share == 1 else max(1, (1 - near.share) * c.size)  # in a small tensor, one is more than the share
        assert c.lsb <= steps, f"{name} is off by {c.lsb} LSB, allowed: {steps} ({near.reason})"
        assert c.size - c.equal <= allowed, f"{name}: {c.size - c.equal} of {c.size} differ, allowed: {allowed:g} ({near.reason})"
    for c in report.operators:
        assert c.sqnr >= near.sqnr, f"{c.op} {c.name} in {runtime} has {c.sqnr:.1f} dB, wanted: {near.sqnr} ({near.reason})"


def test_every_lowering_is_called() -> None:
    called = every("calls")
    ours = {op for op, lowering in LOWERINGS.items() if lowering.body.__module__.startswith("torch2circle.")}
    assert sorted(ours - called) == sorted(UNCALLED)


def test_cases_and_expected_graphs_belong_together() -> None:
    assert len(FAMILY) == len(CASES)
    assert {str(path.relative_to(GOLDEN)) for path in GOLDEN.glob("*/*.txt")} == {f"{family}/{id_}.txt" for id_, family in FAMILY.items()}
