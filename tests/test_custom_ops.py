"""Operators of the user's own: lowered by a function of the user's, or written as custom operators."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from flatbuffers import flexbuffers
from torch import Tensor, nn

import torch2circle
from cases.making import NCHW, Call, eager, floating, seeded
from torch2circle import runtimes
from torch2circle.cli import main
from torch2circle.errors import TargetError, UnsupportedOps, UnsupportedUse, UserError
from torch2circle.format import read
from torch2circle.format.flex import encode
from torch2circle.implant import implant_qparams
from torch2circle.ir import Node
from torch2circle.lower import LOWERINGS

OP = "testlib::scaled"


@torch.library.custom_op(OP, mutates_args=())
def scaled(x: Tensor, factor: float, bounds: list[float], mode: str = "both", shift: Tensor | None = None) -> Tensor:
    made = torch.clamp(x, *bounds) * factor
    return made if shift is None else made + shift


@torch.library.custom_op("testlib::ends", mutates_args=())
def ends(parts: list[Tensor], last: bool) -> tuple[Tensor, Tensor]:
    return parts[0] * 1, parts[-1 if last else 0] * 2


@torch.library.custom_op("testlib::turned", mutates_args=(), schema="(Tensor x, Scalar by) -> Tensor")
def turned(x: Tensor, by: complex) -> Tensor:
    return x * by.imag


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(torch.ops.testlib.scaled(self.conv(x), 1.5, [-1.0, 0.5], shift=x[:, :1, 1:-1, 1:-1]))


def net() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return floating(seeded(Net()), (1, 3, 7, 6))


@pytest.fixture(autouse=True)
def _no_lowering_is_left() -> Iterator[None]:
    before = dict(LOWERINGS)
    yield
    LOWERINGS.clear()
    LOWERINGS.update(before)


def clamped(c: torch2circle.Context, x: torch2circle.Value, factor: float, bounds: list[float], shift: Any) -> torch2circle.Value:
    low, high = (c.const(bound) for bound in bounds)
    inside = c.emit_as(x.type, "MINIMUM", c.emit_as(x.type, "MAXIMUM", x, low), high)
    return c.emit("ADD", c.emit_as(x.type, "MUL", inside, c.const(factor)), shift, fused_activation_function="NONE")


# -- lowered by the user


def test_a_users_lowering_is_run_and_verified() -> None:
    model, args = net()
    with pytest.raises(UnsupportedOps) as missing:
        torch2circle.export(model, args)
    assert '@torch2circle.register("ns::op")' in str(missing.value)
    assert 'custom_ops=["ns::op"] (--custom-op ns::op)' in str(missing.value)
    torch2circle.register(OP, ignores=("mode",))(clamped)
    torch2circle.register(OP, ignores=("mode",))(clamped)  # a cell of a notebook runs again
    exported = torch2circle.export(model, args)
    assert [node.op for node in exported.graph.nodes() if "scaled" in node.where.op] == ["MAXIMUM", "MINIMUM", "MUL", "ADD"]
    for runtime in filter(runtimes.available, ("onert", "litert")):
        report = exported.verify(runtime)
        assert report.ok(0.05)  # in steps of 2**-16 of the largest magnitude
        assert not report.unverified


def test_a_users_lowering_replaces_ours() -> None:
    torch2circle.register("aten::relu")(lambda c, x: c.emit("MAXIMUM", x, c.const(0.0)))
    (node,) = torch2circle.export(*floating(torch.relu, (2, 3))).graph.nodes()
    assert node.op == "MAXIMUM"


def test_no_argument_is_dropped_unseen() -> None:
    with pytest.raises(ValueError, match=r"drops \['mode'\]"):
        torch2circle.register(OP)(clamped)
    with pytest.raises(ValueError, match=r"wants \['speed'\]"):
        torch2circle.register(OP, ignores=("mode",))(lambda c, x, factor, bounds, shift, speed: x)
    with pytest.raises(ValueError, match="no such operator"):
        torch2circle.register("testlib::nothing")(clamped)


def shorter(c: Any, x: Any) -> Any:
    return c.emit_as(x.type.reshape((5, 20)), "RESHAPE", x, c.const([5, 20]))


MISTAKES: dict[str, Callable[..., Any]] = {
    "returned Tensor, no Value": lambda c, x: torch.ones(3),
    "returned NoneType, no Value": lambda c, x: None,
    "gave 2 results, PyTorch 1": lambda c, x: [x, x],
    "raised ZeroDivisionError: division by zero": lambda c, x: 1 / 0,
    "raised ValueError: the file has no operator SCALE": lambda c, x: c.emit("SCALE", x),
    "raised TypeError: an operand of MUL is a float, no Value": lambda c, x: c.emit("MUL", x, 1.5),
    "written: RELU has no option speed": lambda c, x: c.emit("RELU", x, speed=3),
    "written: ADD has 1 inputs, takes 2 to 2": lambda c, x: c.emit("ADD", x),
    "written: SoftmaxOptions.beta is of type float": lambda c, x: c.emit("SOFTMAX", x, beta="a"),
    "gave float32[5,20] for float32[1,5,5,4]": shorter,
    "gave int32[1,5,5,4] for float32[1,5,5,4]": lambda c, x: c.const(torch.zeros(1, 5, 5, 4, dtype=torch.int32).numpy()),
}


@pytest.mark.parametrize("says", MISTAKES)
def test_a_mistake_in_a_users_lowering_is_the_users(says: str) -> None:
    torch2circle.register(OP, ignores=("factor", "bounds", "mode", "shift"))(MISTAKES[says])
    with pytest.raises(UserError) as raised:
        torch2circle.export(*net())
    assert says in raised.value.message
    assert f"(test_custom_ops.py:{MISTAKES[says].__code__.co_firstlineno}), registered for {OP}, " in raised.value.message
    assert raised.value.where
    assert raised.value.where.op == OP


def test_a_mistake_in_a_callable_object_is_the_users_too() -> None:
    torch2circle.register("aten::relu")(partial(lambda c, x: [x, x]))
    with pytest.raises(UserError, match=r"^functools.partial\(.*\), registered for aten::relu, gave 2 results, PyTorch 1"):
        torch2circle.export(*floating(torch.relu, (2, 3)))


# -- written as a custom operator


def test_a_custom_operator_has_its_arguments_in_the_file() -> None:
    model, args = net()
    for custom_ops, code in (([OP], OP), ({OP: "Scaled"}, "Scaled")):
        exported = torch2circle.export(model, args, custom_ops=custom_ops)
        for target in ("onert", "litert", "one"):
            node = custom(exported.to_bytes(target))
            assert node.attrs["custom_code"] == code
            assert flexbuffers.Loads(node.attrs["custom_options"]) == {"factor": 1.5, "bounds": [-1.0, 0.5], "mode": "both"}
            assert [v and v.type.shape for v in node.inputs] == [(1, 5, 5, 4), (1, 1, 5, 4)]  # in PyTorch's order of dimensions


def custom(content: bytes) -> Node:
    (node,) = (node for node in read(content).graph.nodes() if node.op == "CUSTOM")
    return node


def test_lists_of_tensors_several_results_and_optional_tensors() -> None:
    function = Call(lambda x, y: sum(torch.ops.testlib.ends([x, y, x + y], True)))
    exported = torch2circle.export(function.eval(), (torch.ones(2, 3), torch.ones(2, 3)), custom_ops=["testlib::ends"])
    node = custom(exported.to_bytes("litert"))
    assert (len(node.inputs), len(node.outputs)) == (3, 2)
    assert flexbuffers.Loads(node.attrs["custom_options"]) == {"last": True}
    left_out = Call(lambda x: torch.ops.testlib.scaled(x, 2.0, [0.0, 1.0]))
    node = custom(torch2circle.export(left_out.eval(), (torch.ones(2, 3),), custom_ops=[OP]).to_bytes("onert"))
    assert [v is None for v in node.inputs] == [False, True]


def test_what_surrounds_a_custom_operator_is_verified() -> None:
    body = nn.Sequential(nn.Conv2d(3, 5, 3), Call(lambda x: torch.ops.testlib.scaled(x, 1.5, [-1.0, 0.5])), nn.Conv2d(5, 2, 1))
    exported = torch2circle.export(*floating(body, NCHW), custom_ops=[OP])
    assert [(f.severity, f.code, f.path) for f in exported.diagnostics()] == [("note", "custom-operator", "1")]
    for runtime in filter(runtimes.available, ("onert", "litert")):
        report = exported.verify(runtime)
        assert (report.unverified, report.outputs, report.share) == ([OP], (), 0)
        assert [c.op for c in report.operators if c.op != "TRANSPOSE"] == ["CONV_2D", "CONV_2D"]
        assert report.ok(0.05)  # in steps of 2**-16 of the largest magnitude


def test_a_quantized_operand_has_its_scale() -> None:
    def through(x: Tensor) -> Tensor:
        return torch.ops.aten.channel_shuffle(x, 1)

    model, args = eager(nn.Sequential(nn.Conv2d(3, 4, 1), Call(through)), NCHW)
    exported = torch2circle.export(model, args, custom_ops=["aten::channel_shuffle"])
    (here,) = (node for node in exported.graph.nodes() if node.op == "CUSTOM")
    for target, dtype in (("onert", "uint8"), ("litert", "int8")):
        x = custom(exported.to_bytes(target)).inputs[0]
        assert x is not None and x.type == here.out.type.as_eight_bit(x.type.dtype)
        assert x.type.dtype.value == dtype


def test_arguments_that_have_no_form_are_refused() -> None:
    with pytest.raises(UnsupportedUse, match=r"an argument of testlib::turned not supported: complex 1j"):
        torch2circle.export(Call(lambda x: torch.ops.testlib.turned(x, 1j)).eval(), (torch.ones(2),), custom_ops=["testlib::turned"])
    with pytest.raises(TypeError, match="int 9223372036854775808"):
        encode({"a": [2**63]})
    with pytest.raises(UnsupportedUse, match="custom_ops not supported: testlib::nothing"):
        torch2circle.export(*net(), custom_ops=[OP, "testlib::nothing"])
    (unused, written) = torch2circle.export(*net(), custom_ops=["testlib::ends", OP]).diagnostics()
    assert (unused.code, unused.path, written.code) == ("custom-operator-unused", "testlib::ends", "custom-operator")
    assert torch2circle.export(*net(), custom_ops=OP).diagnostics() == (written,)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"b": 2.5, "a": -7, "yes": True, "no": False, "text": "größer", "none": None, "large": -(2**63)},
        {"ints": [1, 2, 3], "floats": [0.5], "flags": [True, False], "mixed": [1, "x", None, 2.5], "empty": [], "texts": ["a", "bc"]},
        {"nested": [[1, 2], [3]], **{f"k{i}": i for i in range(40)}},
    ],
    ids=["none", "scalars", "lists", "many"],
)
def test_arguments_are_read_by_the_official_package(arguments: dict[str, Any]) -> None:
    assert flexbuffers.Loads(encode(arguments)) == arguments


def test_official_bindings_read_a_custom_operator() -> None:
    exported = torch2circle.export(*net(), custom_ops=[OP])
    for package, target in (("circle_schema.v0_10.circle", "onert"), ("tflite", "litert")):
        module = pytest.importorskip(f"{package}.Model", reason="the official bindings are not installed")
        model = module.Model.GetRootAs(exported.to_bytes(target))
        codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
        assert [code.CustomCode() for code in codes if code.CustomCode()] == [OP.encode()]
        assert importlib.import_module(f"{package}.BuiltinOperator").BuiltinOperator.CUSTOM in [code.BuiltinCode() for code in codes]


def test_a_file_with_a_custom_operator_takes_no_bundle(tmp_path: Path) -> None:
    torch2circle.export(*net(), custom_ops=[OP]).save(tmp_path / "net.circle")
    (tmp_path / "qparam.json").write_text("{}")
    with pytest.raises(TargetError, match="a custom operator: only its application knows"):
        implant_qparams(tmp_path / "net.circle", tmp_path / "qparam.json", tmp_path / "out.circle")


FACTORY = """
import torch

@torch.library.custom_op("clilib::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2

class Net(torch.nn.Module):
    def forward(self, x):
        return torch.relu(torch.ops.clilib.double(x))
    def twice(self, x):
        return torch.relu(x + x)

def build():
    return Net().eval()

def methods():
    net = build()
    return {"relu": (net, (torch.ones(2, 3),)), "twice": (net.twice, (torch.ones(4),))}
"""


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return int(left.value.code or 0), captured.out + captured.err


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Custom operators, and several methods, from a file of the user's."""
    source = tmp_path / "mynet.py"
    source.write_text(FACTORY)
    one = f"{source}:build", tmp_path / "net.tflite", "--input", "2x3"
    code, said = run(capsys, *one, "--custom-op", "clilib::double=Double")
    assert code == 0
    assert "custom-operator in <top>: Double needs a kernel" in said
    if runtimes.available("litert"):
        assert "in part: litert has no kernel for Double, so the file was not run" in said
        code, said = run(capsys, "verify", *one, "--custom-op", "clilib::double=Double")
        assert code == 0
        assert "not verified" in said
    assert run(capsys, *one, "--custom-op", "clilib::triple")[0] == 6
    both = f"{source}:methods", tmp_path / "both.tflite", "--custom-op", "clilib::double"
    code, said = run(capsys, *both)
    assert code == 0
    assert "operators    3: 1 CUSTOM, 1 RELU, 1 ADD" in said
    code, said = run(capsys, "inspect", tmp_path / "both.tflite")
    assert code == 0
    assert [line for line in said.splitlines() if line in ("relu", "twice")] == ["relu", "twice"]
    assert run(capsys, f"{source}:methods", tmp_path / "both.circle", "--custom-op", "clilib::double")[0] == 8
    assert run(capsys, *both, "--input", "2x3")[0] == 2
    assert run(capsys, *both, "--state", "weights.pt")[0] == 3
    assert run(capsys, "qparams", f"{source}:methods", tmp_path / "bundle", "--custom-op", "clilib::double")[0] == 2
