"""What is in a model file, as plain data: for ``inspect``, its JSON and its tables."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .checks import SEVERITIES, check
from .format.survey import Operator, Signature, Subgraph, Survey, Tensor
from .spec import has_scheme, scheme
from .targets import TARGETS
from .text import shown

RUNTIMES = ("onert", "litert")


def summary(whole: Survey) -> dict[str, Any]:
    """The facts of a file in a few lines; ``bytes`` is its size. Several methods have theirs below ``methods``."""
    methods = {signature.key: _facts(whole.subgraphs[signature.subgraph], signature) for signature in callable_signatures(whole)}
    main = next(iter(methods.values()), None) or _facts(whole.subgraphs[0], None)
    return {
        "file": whole.label,
        "identifier": whole.identifier,
        "version": whole.version,
        "description": whole.description,
        "bytes": whole.size,
        **({"methods": methods} if len(methods) > 1 else main),
        "metadata": {name: "" if data is None else readable(data.tobytes()) for name, data in whole.metadata.items()},
    }


def overview(whole: Survey) -> dict[str, Any]:
    """``summary``, and all of the file: signatures, and each subgraph with its tensors and operators. It is fit for JSON."""
    found = Counter(finding.severity for finding in check(whole))
    return summary(whole) | {
        "signatures": [
            {"key": s.key, "subgraph": s.subgraph, "inputs": dict(s.inputs), "outputs": dict(s.outputs)} for s in whole.signatures
        ],
        "subgraphs": [_subgraph(subgraph) for subgraph in whole.subgraphs],
        "check": {severity: found[severity] for severity in SEVERITIES},
    }


def callable_signatures(whole: Survey) -> list[Signature]:
    """Those that call a subgraph that exists."""
    return [signature for signature in whole.signatures if signature.subgraph < len(whole.subgraphs)]


def readable(data: bytes) -> str:
    """Text as it is; of other data, how much."""
    try:
        text = data.decode("utf-8").rstrip("\0")
    except UnicodeDecodeError:
        return f"<{len(data)} bytes>"
    return text if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable() else f"<{len(data)} bytes>"


def ends(subgraph: Subgraph, signature: Signature | None, key: str) -> dict[str, str]:
    """Name and type of each input or output (``key``); a name is the signature's, else the tensor's."""
    indices: tuple[int, ...] = getattr(subgraph, key)
    names: dict[int, list[str]] = {}
    for name, index in getattr(signature, key) if signature else ():
        names.setdefault(index, []).append(name)
    shown: dict[str, str] = {}
    for index in indices:
        name = names[index].pop(0) if names.get(index) else _raw(subgraph, index)
        shown[name if name not in shown else f"{name} (tensor {index})"] = str(subgraph.tensor(index) or "which does not exist")
    return shown


def _raw(subgraph: Subgraph, index: int) -> str:
    tensor = subgraph.tensor(index)
    return f"tensor {index}" if tensor is None or not tensor.name else tensor.name


def verdicts(subgraph: Subgraph, operator: Operator) -> tuple[str, dict[str, str]]:
    """The operator's scheme, and what each runtime was measured to make of it; empty where the table cannot tell."""
    if operator.op == "CUSTOM":
        return "", dict.fromkeys(RUNTIMES, "custom")
    node = subgraph.node(operator)
    if node is None or not has_scheme(node):
        return "", dict.fromkeys(RUNTIMES, "unknown")
    return scheme(node), {runtime: TARGETS[runtime].verdict(node) for runtime in RUNTIMES}


def operator_rows(subgraph: Subgraph) -> list[tuple[str, str, str, str, str, str]]:
    """(operator, version, scheme, how many, what onert makes of them, what LiteRT does), the most frequent first."""
    kinds: Counter[tuple[str, int, str, str, str]] = Counter()
    for operator in subgraph.operators:
        key, said = verdicts(subgraph, operator)
        kinds[shown(operator.label), operator.version, key, said["onert"], said["litert"]] += 1
    return [(label, str(version), key, str(count), onert, litert) for (label, version, key, onert, litert), count in kinds.most_common()]


def each_operator(subgraph: Subgraph) -> Iterator[tuple[str, str, str, str, str]]:
    """(number, operator, options, what it reads, what it makes)."""
    for operator in subgraph.operators:
        options = " ".join(f"{k}={f'<{len(v)} bytes>' if isinstance(v, bytes) else v}" for k, v in sorted(operator.options.items()))
        reads = ", ".join("-" if index == -1 else subgraph.name_of(index) for index in operator.inputs)
        yield str(operator.index), shown(operator.label), options, reads, ", ".join(map(subgraph.name_of, operator.outputs))


def tensor_rows(subgraph: Subgraph) -> Iterator[tuple[str, str, str, str, str, str]]:
    """(number, type, bytes, what it is or who makes it, operators that read it, name)."""
    for tensor in subgraph.tensors:
        readers = ", ".join(str(operator.index) for operator in subgraph.readers.get(tensor.index, ()))
        size = tensor.nbytes
        yield str(tensor.index), str(tensor), "" if size is None else f"{size:,}", _origin(subgraph, tensor), readers, shown(tensor.name)


def largest(subgraph: Subgraph, count: int = 5) -> list[tuple[str, str, str]]:
    """(bytes, type, name) of the largest constants."""
    sizes = [(len(data), tensor) for tensor in subgraph.tensors if (data := subgraph.data(tensor)) is not None]
    first = sorted(sizes, key=lambda pair: (-pair[0], pair[1].index))[:count]
    return [(f"{size:,}", str(tensor), shown(tensor.name)) for size, tensor in first]


def weights(subgraph: Subgraph) -> dict[str, int]:
    """Bytes of constants by element type."""
    sizes: Counter[str] = Counter()
    for tensor in subgraph.tensors:
        data = subgraph.data(tensor)
        if data is not None:
            sizes[tensor.kind.lower()] += len(data)
    return dict(sizes.most_common())


def _facts(subgraph: Subgraph, signature: Signature | None) -> dict[str, Any]:
    return {
        "inputs": ends(subgraph, signature, "inputs"),
        "outputs": ends(subgraph, signature, "outputs"),
        "operators": dict(Counter(operator.label for operator in subgraph.operators).most_common()),
        "weights": weights(subgraph),
    }


def _origin(subgraph: Subgraph, tensor: Tensor) -> str:
    if tensor.index in subgraph.given:
        return "input"
    if tensor.variable:
        return "variable"
    if subgraph.data(tensor) is not None:
        return "constant"
    maker = subgraph.producers.get(tensor.index)
    return "nobody" if maker is None else f"operator {maker.index}"


def _subgraph(subgraph: Subgraph) -> dict[str, Any]:
    return {
        "name": subgraph.name,
        "inputs": list(subgraph.inputs),
        "outputs": list(subgraph.outputs),
        "tensors": [_tensor(subgraph, tensor) for tensor in subgraph.tensors],
        "operators": [_operator(subgraph, operator) for operator in subgraph.operators],
    }


def _tensor(subgraph: Subgraph, tensor: Tensor) -> dict[str, Any]:
    maker = subgraph.producers.get(tensor.index)
    quantized = tensor.scale is not None or bool(tensor.details)
    quantization = {
        "scale": [] if tensor.scale is None else plain(tensor.scale.tolist()),
        "zero_point": [] if tensor.zero_point is None else tensor.zero_point.tolist(),
        "dimension": tensor.axis,
        "details": tensor.details or None,
    }
    return {
        "index": tensor.index,
        "name": tensor.name,
        "type": tensor.kind.lower(),
        "shape": list(tensor.shape),
        "shape_signature": list(tensor.signature) or None,
        "quantization": quantization if quantized else None,
        "bytes": tensor.nbytes,
        "constant": subgraph.data(tensor) is not None,
        "variable": tensor.variable,
        "sparse": tensor.sparse,
        "made_by": None if maker is None else maker.index,
        "read_by": [operator.index for operator in subgraph.readers.get(tensor.index, ())],
    }


def _operator(subgraph: Subgraph, operator: Operator) -> dict[str, Any]:
    key, said = verdicts(subgraph, operator)
    return {
        "index": operator.index,
        "op": operator.op,
        "custom_code": operator.custom or None,
        "version": operator.version,
        "inputs": list(operator.inputs),
        "outputs": list(operator.outputs),
        "options": plain(operator.options),
        "scheme": key,
        **said,
    }


def plain(value: Any) -> Any:
    """``value`` as JSON has it: bytes in hexadecimal, and numbers that are not finite as words."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bytes, os.PathLike)):
        return value.hex() if isinstance(value, bytes) else str(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
