"""All of PyTorch's operators on quantized tensors, and why those without a lowering have none.

The vocabulary is closed: PyTorch's own registry lists it. A test fails when it has an operator that is neither lowered nor named here.
"""

from __future__ import annotations

import re

import torch

from ..plain import FORMULAS
from ..record import OF_ROWS, QUANTIZE_WITH
from .registry import LOWERINGS

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
    "aten::equal": "gives Python a truth value: a branch on data",
    "aten::int_repr": "integers without a scale, for which the files have no type: dequantize instead",
    **dict.fromkeys(("_quantized::conv3d", "_quantized::conv3d_relu"), "declared by PyTorch, without a kernel"),
    "sparse::qlinear_relu_dynamic": "declared by PyTorch, without a kernel that works",
    "_quantized::_wrapped_quantized_linear_prepacked": "its weights are an address in this process, which nothing unpacks",
}  # fmt: skip


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
    return REFUSED.get(op) or next((why for pattern, why in NOT_COMPUTING.items() if re.search(pattern, op)), None)
