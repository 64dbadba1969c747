"""Whether a target gets a file right: by what its runtime was measured to do, and for ONE by the contract of its quantizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..format.limits import SIZE_LIMIT
from ..format.survey import Survey
from ..implant.bundle import shortened
from ..ir import Finding, Node
from ..spec import OPS, has_scheme, scheme
from ..targets import Target
from ..targets.base import RIGHT
from ..text import shown
from .one import contract
from .places import nodes, place


def for_target(whole: Survey, target: Target) -> Iterator[Finding]:
    """What the target refuses, gets wrong, or was never measured to get right."""
    if whole.identifier != target.identifier:
        yield Finding("error", "target-format", "<file>", f"{target.name} reads {target.suffix} files: {whole.format}")
    if len(whole.subgraphs) > 1 and not target.calls_methods:
        others = shortened([shown(subgraph.name) or str(subgraph.index) for subgraph in whole.subgraphs[1:]])
        yield Finding("warning", "target-methods", "<file>", f"{target.name} calls the first subgraph only, never {others}")
    if target.identifier == "CIR0":
        yield from _size(whole, target)
    yield from _operators(whole, target)
    if target.frees_outputs:
        yield from _outputs(whole, target)
    if target.name == "onert":
        for subgraph in whole.subgraphs:
            for tensor in subgraph.tensors:
                if not tensor.name:
                    at = place(whole, subgraph, tensor=tensor.index)
                    yield Finding("error", "target-name", at, "onert crashes on a tensor without a name")
    if target.name == "one":
        yield from contract(whole)


def _size(whole: Survey, target: Target) -> Iterator[Finding]:
    if whole.size > SIZE_LIMIT:
        yield Finding("error", "target-size", "<file>", f"{target.name} reads files of up to 2 GiB: {whole.size:,} bytes")
    if found := [index for index, blob in enumerate(whole.blobs) if blob.by_offset]:
        message = f"{len(found)} buffers are given by an offset in the file, the first is {found[0]}: {target.name} takes their tensors"
        yield Finding("error", "target-buffer", "<file>", f"{message} for none that are constant")


def _operators(whole: Survey, target: Target) -> Iterator[Finding]:
    checked = set()
    for subgraph, operator, node in nodes(whole):
        at = place(whole, subgraph, operator)
        checked.add((subgraph.index, operator.index))
        if operator.op == "CUSTOM":
            yield Finding("note", "target-custom", at, f"{shown(operator.custom)} needs a kernel that the application brings")
        elif not has_scheme(node):
            checked.discard((subgraph.index, operator.index))
        else:
            yield from _verdict(at, node, target)
    left: Counter[str] = Counter()
    for subgraph, operator in whole.operators():
        if (subgraph.index, operator.index) not in checked:
            left[operator.label] += 1
    for label, count in left.items():
        yield Finding("warning", "target-unknown", shown(label), f"{count} of it, which nobody has measured in {target.name}")


def _verdict(at: str, node: Node, target: Target) -> Iterator[Finding]:
    verdict = target.verdict(node)
    if verdict in RIGHT:
        if node.op in OPS and node.attrs.get("weights_format", "DEFAULT") != "DEFAULT":
            yield Finding("warning", "target-unknown", at, f"weights of the format {node.attrs['weights_format']} were not measured")
        return
    if verdict == "unknown":
        missing = "its contract does not have it" if target.runtime is None else f"it was never measured in {target.name}"
        severity = "error" if target.runtime is None else "warning"
        yield Finding(severity, "target-operator" if severity == "error" else "target-unknown", at, f"{scheme(node)}: {missing}")
        return
    yield Finding("error", "target-operator", at, f"{scheme(node)}: {verdict} in {target.name}")


def _outputs(whole: Survey, target: Target) -> Iterator[Finding]:
    for subgraph in whole.subgraphs:
        for index, count in Counter(subgraph.outputs).items():
            at = place(whole, subgraph, tensor=index)
            if count > 1:
                yield Finding("error", "target-output", at, f"{target.name} fills only one of an output that is given {count} times")
            if subgraph.readers.get(index) and index not in subgraph.given:
                reader = subgraph.readers[index][-1]
                message = f"an output that operator {reader.index} {shown(reader.label)} reads: {target.name} lets later ones overwrite it"
                yield Finding("error", "target-output", at, message)
