"""All of PyTorch's operators on quantized tensors and all of its core, and why those without a lowering have none.

Both vocabularies are closed: PyTorch's own registry and tags list them. A test fails when there is an operator that is neither lowered,
nor recorded as others, nor named here.
"""

from __future__ import annotations

import re
from functools import cache

import torch

from ..plain import FORMULAS
from ..record import OF_ROWS, QUANTIZE_WITH, full_name, is_decomposed
from .registry import LOWERINGS, operator

# What computes nothing that a file could hold. A name is what its first matching pattern says.
NOT_COMPUTING = {
    r"prepack(?!ed)|pack_gemm|make_quantized_cell_params": "makes packed parameters, before the model runs",
    r"_unpack(?!ed)|::conv\w*_(stride|padding|dilation|groups|output_padding|transpose|unpack_sizes)$": "reads packed parameters",
    r"_out(\.\w+)?$|[._]out$|\.\w+_out$": "writes into a tensor given by the caller; models call the form that returns one",
    r"::(?!_)\w+_(\.\w+)?$|::_index_put_impl_": "writes in place; recorded as the operator that returns a new tensor",
    r"::(q_\w+|qscheme)$": "a fact about a tensor that is known when the file is written",
    r"::_?empty\w*": "memory without values",
}

# What computes, and is refused: why, and what to do instead.
REFUSED: dict[str, str] = {
    "quantized::int4mm_packed_weight_cpu": "4-bit weights in groups: neither runtime has such a kernel",
    "quantized::dropout": "gives back its own argument, which is no call",
    "aten::resize_": "a change of shape in place",
    "aten::equal": "gives Python a truth value: a branch on data",
    "aten::int_repr": "integers without a scale, for which the files have no type: dequantize instead",
    **dict.fromkeys(("_quantized::conv3d", "_quantized::conv3d_relu"), "declared by PyTorch, without a kernel"),
    "sparse::qlinear_relu_dynamic": "declared by PyTorch, without a kernel that works",
    "_quantized::_wrapped_quantized_linear_prepacked": "its weights are an address in this process, which nothing unpacks",
}  # fmt: skip


# The same of the core, to which everything else that PyTorch computes in float is decomposed.
NOT_IN_A_FILE = {
    r"_backward$": "training",
    r"::rand": "draws random numbers",
    r"::nonzero$": "the shape of its result depends on the data",
    r"::_local_scalar_dense$": "gives Python a number: a branch on data, which `specialize` fixes to the example's",
    r"::_fft_": "complex numbers, for which the files have no type",
    r"::sym_": "a fact about a tensor that is known when the file is written",
    r"::(arange|full|scalar_tensor)\b|::full_like$": "depends on no input: a constant of the file",
    r"::_native_batch_norm_legit$": "keeps statistics for training; models call batch_norm",
}


@cache
def core_operators() -> list[str]:
    """Every operator that this PyTorch tags as its core, with overload, sorted."""
    names = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::")}
    packets = [packet for name in names if (packet := getattr(torch.ops.aten, name.removeprefix("aten::"), None)) is not None]
    overloads = (getattr(packet, name) for packet in packets for name in packet.overloads())
    return sorted(full_name(op) for op in overloads if torch.Tag.core in op.tags)


def recorded_as_others(op: str) -> bool:
    """Whether PyTorch itself computes ``op`` by others, as which it is recorded."""
    return op not in LOWERINGS and is_decomposed(operator(op))


def quantized_operators() -> list[str]:
    """Every operator that this PyTorch registers for quantized tensors or packed weights, with overload, sorted."""
    namespaces = ("quantized::", "_quantized::", "sparse::", "onednn::")
    schemas = ((schema.name, schema.overload_name) for schema in torch._C._jit_get_all_schemas())
    names = {f"{name}.{overload}" if overload else name for name, overload in schemas if name.startswith(namespaces)}
    return sorted(names | {op for op in torch._C._dispatch_get_all_op_names() if _on_quantized_cpu(op)})


def _on_quantized_cpu(op: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(op, "QuantizedCPU")


def reason(op: str) -> str | None:
    """Why ``op`` has no lowering; None if it has one, or if nobody has thought about it."""
    if op in LOWERINGS:
        return None
    if op in OF_ROWS or op == "aten::_int_mm":
        return f"not a linear layer by rows, as torchao makes them: {QUANTIZE_WITH}"
    if op in FORMULAS:
        return "recorded as a formula of other operators"
    patterns = {**NOT_COMPUTING, **NOT_IN_A_FILE}
    return REFUSED.get(op) or next((why for pattern, why in patterns.items() if re.search(pattern, op)), None)
