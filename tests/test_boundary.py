"""Integer inputs and outputs by option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torch2circle
import zoo
from torch2circle import runtimes
from torch2circle.boundary import with_integer_io
from torch2circle.ir import DType


@pytest.fixture(scope="module")
def exported() -> torch2circle.ExportedModel:
    model, x = zoo.quantized("resnet18", "fbgemm", 64)
    return torch2circle.export(model, (x,))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("target", ["onert", "litert"])
def test_integers_at_both_ends(target: str, dtype: str) -> None:
    model, x = zoo.quantized("resnet18", "fbgemm", 64)
    export = torch2circle.export(model, (x,), io_dtypes={"x": dtype, "output": dtype})
    graph = export.for_target(target)
    assert [graph.inputs[0].type.dtype, graph.outputs[0].type.dtype] == [DType(dtype)] * 2
    report = export.verify(target)
    assert report.ok()
    ops = [node.op for node in graph.nodes()]
    assert "DEQUANTIZE" not in ops
    # one QUANTIZE at each end where the target's type is the other one
    assert ops.count("QUANTIZE") == (0 if dtype == {"onert": "uint8", "litert": "int8"}[target] else 2)


def test_the_integers_are_the_floats_quantized(exported: torch2circle.ExportedModel, tmp_path: Path) -> None:
    """Feeding the quantized picture to the integer file gives the integers that the float file's outputs stand for."""
    model, x = zoo.quantized("resnet18", "fbgemm", 64)
    integer = torch2circle.export(model, (x,), io_dtypes={"x": "int8", "output": "int8"})
    ends = {}
    for name, export in (("float", exported), ("int8", integer)):
        path = tmp_path / f"{name}.tflite"
        export.save(path)
        graph = export.for_target("litert")
        quant = integer.for_target("litert").inputs[0].type.quant
        assert quant is not None
        picture = x.numpy()
        fed = picture if name == "float" else np.clip(np.rint(picture / quant.scale[0]) + quant.zero_point[0], -128, 127).astype(np.int8)
        out = runtimes.run("litert", path, [[fed]]).outputs[0][0]
        scale = graph.outputs[0].type.quant
        ends[name] = out if scale is None else (out.astype(np.float32) - np.float32(scale.zero_point[0])) * scale.scale[0]
    np.testing.assert_array_equal(ends["float"], ends["int8"])


@pytest.mark.parametrize("dtypes", [{"nothing": "int8"}, {"x": "int16"}])
def test_refused(exported: torch2circle.ExportedModel, dtypes: dict[str, str]) -> None:
    with pytest.raises(torch2circle.UnsupportedUse, match="io_dtypes"):
        with_integer_io(exported.graph, dtypes)


def test_a_float_model_has_no_integers_to_give() -> None:
    export = torch2circle.export(torch.nn.Sequential(torch.nn.Linear(3, 2)).eval(), (torch.zeros(1, 3),))
    with pytest.raises(torch2circle.UnsupportedUse, match="read by FULLY_CONNECTED"):
        with_integer_io(export.graph, {"input": "int8"})
    with pytest.raises(torch2circle.UnsupportedUse, match="made by FULLY_CONNECTED"):
        with_integer_io(export.graph, {"output": "int8"})
