"""Whether the parts of a file fit together: tensors, operators, buffers, names, signatures. No quantization, no target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..format.packer import ALIGNMENT
from ..format.reader import possible
from ..format.survey import Operator, Subgraph, Survey, Tensor
from ..format.writer import VERSIONS
from ..implant.bundle import shortened
from ..ir import DType, Finding, Node
from ..spec import OPS, check_node, has_scheme, version
from ..text import shown
from .places import nodes, place

# Operators with graphs of their own, which a subgraph's inputs and outputs serve, and the options that name those.
CALLS = {
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
    "CALL_ONCE": ("init_subgraph_index",),
}


def structure(whole: Survey) -> Iterator[Finding]:
    """Everything that is wrong with the wiring of a file."""
    yield from _model(whole)
    for subgraph in whole.subgraphs:
        yield from _wiring(whole, subgraph)
        yield from _tensors(whole, subgraph)
        yield from _unused(whole, subgraph)
        yield from _names(whole, subgraph)
    yield from _operators(whole)
    yield from _signatures(whole)


def _model(whole: Survey) -> Iterator[Finding]:
    if whole.version != VERSIONS[whole.identifier]:
        severity = "error" if whole.identifier == "TFL3" else "note"
        message = f"a {whole.format} file is of version {VERSIONS[whole.identifier]}: {whole.version}"
        yield Finding(severity, "model-version", "<file>", message)
    if not whole.blobs or whole.blobs[0].data is not None:
        yield Finding("warning", "buffer-0", "<file>", "buffer 0 must be there and empty: it is what tensors without data refer to")
    askew = [i for i, blob in enumerate(whole.blobs) if blob.data is not None and blob.position % ALIGNMENT]
    if askew:
        message = f"{len(askew)} buffers do not begin at a multiple of {ALIGNMENT} bytes, the first is {askew[0]}"
        yield Finding("warning", "alignment", "<file>", f"{message}: a runtime that maps the file must copy them, or reads them askew")
    if len(whole.subgraphs) > 1:
        called = {signature.subgraph for signature in whole.signatures} | {0}
        called |= {int(o.options.get(key, 0)) for _, o in whole.operators() for key in CALLS.get(o.op, ())}
        idle = [shown(subgraph.name) or str(subgraph.index) for subgraph in whole.subgraphs if subgraph.index not in called]
        if idle:
            yield Finding("warning", "unused-subgraph", "<file>", f"no signature and no operator calls {shortened(idle)}")


def _wiring(whole: Survey, subgraph: Subgraph) -> Iterator[Finding]:
    """Each tensor is there, is written once, and before it is read."""
    ready = {index for index in subgraph.inputs if subgraph.tensor(index) is not None}
    for what, indices in (("input", subgraph.inputs), ("output", subgraph.outputs)):
        for index in indices:
            if subgraph.tensor(index) is None:
                yield Finding("error", "index", place(whole, subgraph), f"an {what} of the graph is tensor {index}, which does not exist")
    for operator in subgraph.operators:
        for index in operator.inputs:
            if (message := _unreadable(subgraph, index, ready)) is not None:
                code = "index" if subgraph.tensor(index) is None else "no-producer"
                yield Finding("error", code, place(whole, subgraph, operator, index), message)
        for index in operator.outputs:
            tensor = subgraph.tensor(index)
            if tensor is None:
                yield Finding("error", "index", place(whole, subgraph, operator), f"it writes tensor {index}, which does not exist")
            elif index in ready or subgraph.data(tensor) is not None:
                other = "an input" if index in subgraph.given else "another operator's result" if index in ready else "a constant"
                yield Finding("error", "written-twice", place(whole, subgraph, operator, index), f"it writes what is {other}")
            ready.add(index)
    for index in dict.fromkeys(subgraph.outputs):
        if subgraph.tensor(index) is not None and (message := _unreadable(subgraph, index, ready)) is not None:
            yield Finding("error", "no-producer", place(whole, subgraph, tensor=index), f"an output of the graph: {message}")


def _unreadable(subgraph: Subgraph, index: int, ready: set[int]) -> str | None:
    if index == -1 or index in ready:
        return None
    tensor = subgraph.tensor(index)
    if tensor is None:
        return f"it reads tensor {index}, which does not exist"
    if tensor.variable or tensor.kind in ("RESOURCE", "VARIANT") or subgraph.data(tensor) is not None:
        return None
    return "it is read before it is written" if index in subgraph.producers else "it is read, but is neither constant, input nor result"


def _tensors(whole: Survey, subgraph: Subgraph) -> Iterator[Finding]:
    for tensor in subgraph.tensors:
        at = place(whole, subgraph, tensor=tensor.index)
        if any(size < 0 for size in tensor.shape):
            yield Finding("error", "shape", at, f"sizes cannot be negative: {list(tensor.shape)}; the signature says which are open")
        elif not possible(tensor.shape):
            yield Finding("error", "shape", at, f"no tensor has so many elements: {list(tensor.shape)}")
        if tensor.signature and len(tensor.signature) != len(tensor.shape):
            yield Finding("error", "shape", at, f"the shape {list(tensor.shape)} has the signature {list(tensor.signature)}")
        if tensor.buffer >= max(1, len(subgraph.blobs)):
            yield Finding("error", "index", at, f"it has buffer {tensor.buffer}, which does not exist")
            continue
        data, needed = subgraph.data(tensor), tensor.nbytes
        if data is not None and needed is not None and len(data) != needed:
            yield Finding("error", "size", at, f"it has {len(data):,} bytes of data, {tensor} takes {needed:,}")


def _unused(whole: Survey, subgraph: Subgraph) -> Iterator[Finding]:
    """What could be taken out of the file."""
    used = {i for operator in subgraph.operators for i in (*operator.inputs, *operator.outputs, *operator.intermediates)}
    used |= {*subgraph.inputs, *subgraph.outputs}
    for tensor in subgraph.tensors:
        if tensor.index in used:
            continue
        data, at = subgraph.data(tensor), place(whole, subgraph, tensor=tensor.index)
        if data is None:
            yield Finding("note", "unused-tensor", at, "no operator reads or writes it")
        else:
            yield Finding("warning", "unused-constant", at, f"no operator reads it, {len(data):,} bytes")
    read = {i for operator in subgraph.operators for i in operator.inputs} | {*subgraph.outputs}
    for index in subgraph.inputs:
        if index not in read and subgraph.tensor(index) is not None:
            yield Finding("note", "unused-input", place(whole, subgraph, tensor=index), "no operator reads this input")
    for operator in subgraph.operators:
        if operator.index not in subgraph.reached and operator.op not in CALLS:
            yield Finding("warning", "dead-operator", place(whole, subgraph, operator), "none of its results reaches an output")
    counts = Counter(index for operator in subgraph.operators for index in operator.inputs)
    for tensor in subgraph.tensors:
        if tensor.variable and counts[tensor.index] > 1:
            message = f"a variable that {counts[tensor.index]} operands are, each of which an operator may write"
            yield Finding("warning", "variable", place(whole, subgraph, tensor=tensor.index), message)


def _names(whole: Survey, subgraph: Subgraph) -> Iterator[Finding]:
    counts = Counter(tensor.name for tensor in subgraph.tensors)
    if unnamed := counts.pop("", 0):
        yield Finding("warning", "no-name", place(whole, subgraph), f"{unnamed} tensors have no name: onert crashes on such a file")
    for name, count in counts.items():
        if count > 1:
            message = f"{count} tensors are called {shown(name)}: tools tell them apart by it"
            yield Finding("warning", "duplicate-name", place(whole, subgraph), message)


def _operators(whole: Survey) -> Iterator[Finding]:
    """By the table of operators; those that it does not have, or whose operands have no type here, are counted."""
    unknown: dict[tuple[str, str], list[str]] = {}
    for subgraph, operator in whole.operators():
        at = place(whole, subgraph, operator)
        if operator.op not in OPS:
            unknown.setdefault(("unknown-op", operator.label), []).append(at)
        elif subgraph.node(operator) is None and all(i == -1 or subgraph.tensor(i) for i in (*operator.inputs, *operator.outputs)):
            operands = (subgraph.tensor(i) for i in (*operator.inputs, *operator.outputs))
            kinds = ", ".join(sorted({str(t).partition("[")[0] + (" sparse" if t.sparse else "") for t in operands if t and _foreign(t)}))
            unknown.setdefault(("unknown-type", f"{operator.label} on {kinds or 'nothing'}"), []).append(at)
    for (code, what), places in unknown.items():
        yield Finding("note", code, places[0], f"not checked: {what}" + (f", and {len(places) - 1} more" if len(places) > 1 else ""))
    for subgraph, operator, node in nodes(whole):
        if operator.op in OPS:
            yield from _by_the_table(place(whole, subgraph, operator), operator, node)


def _foreign(tensor: Tensor) -> bool:
    return tensor.type is None


def _by_the_table(at: str, operator: Operator, node: Node) -> Iterator[Finding]:
    if operator.op == "RESHAPE" and len(operator.inputs) == 1 and "new_shape" in operator.options:
        return
    found = check_node(node)
    for finding in found:
        yield Finding(finding.severity, finding.code, at, finding.message)
    if found or operator.op == "CUSTOM" or not has_scheme(node):
        return
    needed = version(node)
    if operator.version < needed:
        yield Finding("warning", "version", at, f"version {operator.version} of {operator.op} lacks these types: they came with {needed}")
    if operator.op not in ("CAST", "QUANTIZE") and any(v.type.dtype is DType.FLOAT16 for v in node.outputs):
        yield Finding("note", "float16", at, "a result of float16: the runtimes have kernels for constants of float16 only")


def _signatures(whole: Survey) -> Iterator[Finding]:
    for key, count in Counter(signature.key for signature in whole.signatures).items():
        if count > 1:
            yield Finding("error", "signature", shown(key) or "<no key>", f"{count} signatures have this key")
    for signature in whole.signatures:
        at = shown(signature.key) or "<no key>"
        if signature.subgraph >= len(whole.subgraphs):
            yield Finding("error", "signature", at, f"it calls subgraph {signature.subgraph}, which does not exist")
            continue
        subgraph = whole.subgraphs[signature.subgraph]
        for what, entries, indices in (("input", signature.inputs, subgraph.inputs), ("output", signature.outputs, subgraph.outputs)):
            for name, count in Counter(name for name, _ in entries).items():
                if count > 1 or not name:
                    yield Finding("error", "signature", at, f"{count} {what}s are called {shown(name)!r}")
            there, named = set(indices), {index for _, index in entries}
            for name, index in entries:
                if index not in there:
                    message = f"{what} {shown(name)} is {subgraph.name_of(index)}, which is no {what} of the subgraph"
                    yield Finding("error", "signature", at, message)
            if missing := [subgraph.name_of(index) for index in indices if index not in named]:
                yield Finding("warning", "signature", at, f"{what}s of the subgraph without a name here: {shortened(missing)}")
