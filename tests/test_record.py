"""Recording: what a model executed, whatever it came as and however it writes, and every refusal with the user's line."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao import quantization as Q
from torch.utils import _pytree as pytree

import torch2circle
from torch2circle import trees
from torch2circle.errors import RecordError
from torch2circle.quant import array_of
from torch2circle.record import Call, Recording, Ref, record

HERE = "test_record.py"
X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def ops(recording: Recording) -> list[str]:
    return [call.op for call in recording.needed()]


def replay(recording: Recording, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run the calls of a recording, with other inputs than those it was made with; no call may write."""
    values: dict[int, Tensor] = dict(zip(recording.inputs, inputs, strict=True))

    def value(leaf: Any) -> Any:
        return values[leaf.index] if isinstance(leaf, Ref) else leaf

    for call in recording.needed():
        name, _, overload = call.op.partition(".")
        namespace, _, base = name.partition("::")
        func = getattr(getattr(getattr(torch.ops, namespace), base), overload or "default")
        args = pytree.tree_map(value, dict(call.args))
        before = {key: leaf.clone() for key, leaf in args.items() if isinstance(leaf, Tensor)}
        results = [leaf for leaf in pytree.tree_leaves(func(**args)) if isinstance(leaf, Tensor)]
        assert all(torch.equal(args[key], old) for key, old in before.items())
        values.update(zip(call.outs, (result.clone() for result in results), strict=True))
    return [value(out) for out in recording.outputs]


def line_of(function: Callable[..., Any], text: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


def refused(run: Callable[..., Any], *args: Any, says: str, **options: Any) -> RecordError:
    with pytest.raises(RecordError) as caught:
        record(run, args, **options)
    assert says in str(caught.value)
    assert not caught.value.message.endswith(".")
    return caught.value


# -- calls


def test_defaults_are_bound_and_overloads_named() -> None:
    recording = record(lambda x: x.mean(1) + torch.cat([x, x], 1).sum(), (X,))
    mean, cat, total, add = recording.calls
    assert (mean.op, dict(mean.args)) == ("aten::mean.dim", {"self": Ref(0), "dim": [1], "keepdim": False, "dtype": None})
    assert (cat.op, dict(cat.args)) == ("aten::cat", {"tensors": [Ref(0), Ref(0)], "dim": 1})
    assert (total.op, add.op, add.args["alpha"]) == ("aten::sum", "aten::add.Tensor", 1)


def test_what_depends_on_no_input_is_a_constant() -> None:
    def forward(x: Tensor) -> Tensor:
        return x + torch.arange(6) * 2 + torch.zeros_like(x) + x.new_full((6,), 3.0)

    recording = record(forward, (X,))
    assert ops(recording) == ["aten::add.Tensor"] * 3
    assert torch.equal(cast(Tensor, recording.calls[0].args["other"]), torch.arange(6) * 2)


def test_a_constant_output_leaves_no_call() -> None:
    recording = record(lambda x: (x, torch.ones(3)), (X,))
    assert recording.outputs[0] == Ref(0)
    assert torch.equal(cast(Tensor, recording.outputs[1]), torch.ones(3))
    assert not recording.calls


def test_metadata_is_no_dependence_on_data() -> None:
    recording = record(lambda x: x.reshape(x.shape[0], -1) if x.dim() > 2 and x.is_floating_point() and x.numel() else x, (X,))
    assert ops(recording) == ["aten::reshape"]


def test_an_operator_that_gives_its_argument_back_leaves_no_call() -> None:
    assert ops(record(lambda x: F.dropout(x.contiguous(), 0.5, False) + 1, (X,))) == ["aten::add.Tensor"]


def test_the_text_of_a_recording() -> None:
    text = str(record(lambda x: x * 2, (X,), names=("image",)))
    assert text.splitlines()[0] == "t0 = input image"
    assert "t1 = aten::mul.Tensor(self=t0, other=2)" in text
    assert text.endswith("return t1\n")


# -- writes in place: the calls, run again on other inputs without any write, give what the model gives


def relu_in_place(x: Tensor) -> Tensor:
    y = x * 2
    y.relu_().add_(1)
    return y


def into_a_slice(x: Tensor) -> Tensor:
    y = x * 1
    y[:, 1:3] = x[:, :2] * 3
    return y


def into_a_row(x: Tensor) -> Tensor:
    y = x * 1
    y[0] += 1
    y[:, 2].mul_(5)
    return y


def through_a_transpose(x: Tensor) -> Tensor:
    y = x * 1
    y.transpose(1, 2).add_(x.transpose(1, 2))
    y.permute(2, 0, 1).mul_(2)
    return y


def through_a_reshape(x: Tensor) -> Tensor:
    y = x * 1
    y.view(8, 6)[3] = 7
    y.flatten(1).unsqueeze(0).neg_()
    return y


def through_a_chain(x: Tensor) -> Tensor:
    y = x * 1
    y[1].transpose(0, 1)[2:4].unsqueeze(0)[0, 1, 1:3].add_(x[0, 0, :2])
    return y


def an_old_view_of_a_written_base(x: Tensor) -> Tensor:
    y = x * 1
    view = y[:, 1]
    y.add_(10)
    return view * 2


def out_of_order(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 1
    first, second = y[:, :2], y[:, 1:]
    early = first + 0
    second.mul_(2)
    middle = first + 0
    first.add_(1)
    return early, middle, second + 0, y, first


def a_fresh_buffer(x: Tensor) -> Tensor:
    out = torch.zeros(2, 4, 6)
    for i in range(4):
        out[:, i] = x[:, 3 - i] * i
    return out


def an_rnn(x: Tensor) -> Tensor:
    out, h = torch.zeros(2, 4, 6), torch.zeros(2, 6)
    for i in range(4):
        h = torch.tanh(h + x[:, i])
        out[:, i] = h
    return out + out[:, 3:]


def a_constant_used_before_it_is_written(x: Tensor) -> Tensor:
    scale = torch.ones(6)
    y = x * scale
    scale.add_(1)
    z = y * scale
    scale.add_(x[0, 0])
    return z + scale


def filled(x: Tensor) -> tuple[Tensor, ...]:
    y, z = x * 1, x * 1
    view = y[0]
    y.zero_()
    z[0].fill_(3)
    z[:, 0] = x.sum()
    return y + view, z


def broadcast(x: Tensor) -> Tensor:
    y = x * 1
    y[:] = x[0, :1]
    return y


def parts(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 1
    left, right = y.chunk(2, 2)
    right.mul_(left)
    rows = y.unbind(0)
    rows[1].neg_()
    return left, right, *rows, y


def the_input_itself(x: Tensor) -> Tensor:
    return x.mul_(2) + x


def detached(x: Tensor) -> Tensor:
    y = x * 1
    y.data.add_(1)
    y.detach_()
    return y * 2


def masked(x: Tensor) -> Tensor:
    y = x * 1
    y[1].masked_fill_(x[0] > 0, -1)
    return y


WRITES = [
    relu_in_place, into_a_slice, into_a_row, through_a_transpose, through_a_reshape, through_a_chain,
    an_old_view_of_a_written_base, out_of_order, a_fresh_buffer, an_rnn, a_constant_used_before_it_is_written, filled, broadcast,
    parts, the_input_itself, detached, masked,
]  # fmt: skip


@pytest.mark.parametrize("forward", WRITES, ids=lambda f: f.__name__)
def test_writes_become_operators_that_make_new_tensors(forward: Callable[[Tensor], Any]) -> None:
    before = X.clone()
    recording = record(forward, (X,))
    assert torch.equal(before, X)
    assert not any(call.op.partition(".")[0].endswith("_") for call in recording.calls)
    other = torch.randn(X.shape, generator=torch.Generator().manual_seed(2))
    want = [leaf for leaf in pytree.tree_leaves(forward(other.clone())) if isinstance(leaf, Tensor)]
    got = replay(recording, [other])
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("forward", WRITES, ids=lambda f: f.__name__)
def test_recorded_values_stay_what_they_were(forward: Callable[[Tensor], Any]) -> None:
    """Each call, given the recorded values, gives the recorded result: no later write changed either."""
    recording = record(forward, (X,))
    for call in recording.calls:
        alone = Recording(_refs(call), tuple(Ref(i) for i in call.outs), (), (), (call,), recording.tensors)
        got = replay(alone, [recording.tensors[i] for i in alone.inputs])
        for out, tensor in zip(call.outs, got, strict=True):
            torch.testing.assert_close(recording.tensors[out], tensor, rtol=0, atol=0)


def _refs(call: Call) -> tuple[int, ...]:
    return tuple(sorted({leaf.index for leaf in pytree.tree_leaves(dict(call.args)) if isinstance(leaf, Ref)}))


def test_a_loop_of_writes_records_as_many_calls_as_it_makes() -> None:
    def forward(x: Tensor) -> Tensor:
        out = torch.zeros(50, 6)
        for i in range(50):
            out[i] = x[0, 0] * i
        return out

    assert len(record(forward, (X,)).calls) < 5 * 50


def test_quantized_in_place() -> None:
    def forward(x: Tensor) -> Tensor:
        y = torch.quantize_per_tensor(x, 0.1, 100, torch.quint8)
        return torch.relu_(y).dequantize()

    recording = record(forward, (X,))
    assert ops(recording) == ["aten::quantize_per_tensor", "aten::relu", "aten::dequantize.self"]
    assert (array_of(recording.tensors[1]) < 100).any()
    assert not (array_of(recording.tensors[2]) < 100).any()


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(6))
        self.plain = torch.zeros(6)
        self.how = "buffer"

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "buffer":
            self.count += 1
        elif self.how == "plain":
            self.plain.add_(x[0, 0])
        elif self.how == "kept":
            self.count = x[0, 0]
        return x + self.count


@pytest.mark.parametrize(("how", "name"), [("buffer", "count"), ("plain", "plain"), ("kept", "count")])
def test_state_that_is_written_is_refused(how: str, name: str) -> None:
    model = Stateful().eval()
    model.how = how
    error = refused(model, X, says=f"own state{' while it runs' if how != 'kept' else ''}: {name}")
    assert "return it instead" in str(error)
    assert torch.equal(model.plain, torch.zeros(6))


def test_writes_that_cannot_be_recorded_are_refused() -> None:
    def out(x: Tensor) -> Tensor:
        return torch.add(x, x, out=torch.empty(2, 4, 6))

    def diagonal(x: Tensor) -> Tensor:
        y = x * 1
        y.diagonal(0, 1, 2).add_(1)
        return y

    def reshaped(x: Tensor) -> Tensor:
        return (x * 1).resize_(4, 2)

    assert cast(Any, refused(out, X, says="cannot be recorded: aten::add.out").where).line == line_of(out, "out=")
    assert "aten::diagonal" in str(refused(diagonal, X, says="a view that cannot be undone"))
    refused(reshaped, X, says="a change of shape in place")


# -- refusals, with the user's line


def reads_item(x: Tensor) -> Tensor:
    y = x.sum() * 2
    return x * y.item()


def branches(x: Tensor) -> Tensor:
    if x.sum() > 100:
        return x * 2
    return x * 3


def lists(x: Tensor) -> Tensor:
    return x + x.max().tolist()


def to_numpy(x: Tensor) -> Tensor:
    return x + float(x.numpy().max())


def catches(x: Tensor) -> Tensor:
    try:
        return x * x.max().item()
    except Exception:  # the model must not be able to hide a refusal
        return x


@pytest.mark.parametrize(
    ("forward", "text"), [(reads_item, ".item"), (branches, "if x"), (lists, "tolist"), (to_numpy, "x.numpy"), (catches, ".item")]
)
def test_a_value_read_on_the_host(forward: Callable[[Tensor], Tensor], text: str) -> None:
    error = refused(forward, X, says="depends on its input")
    assert error.where is not None
    assert (Path(error.where.file).name, error.where.line) == (HERE, line_of(forward, text))
    assert "specialize" in str(error)
    with torch.inference_mode():
        recording = record(forward, (X,), specialize=True)
    assert torch.equal(recording.tensors[cast(Ref, recording.outputs[0]).index], forward(X))
    finding = recording.findings[0]
    assert (finding.severity, finding.code) == ("warning", "specialized")
    assert f"{HERE}:{line_of(forward, text)}" in finding.message


def test_a_value_read_from_state_is_a_constant() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale.item() if self.scale > 1 else x

    assert ops(record(Scaled().eval(), (X,))) == ["aten::mul.Tensor"]


def test_random_numbers_are_refused_and_an_idle_dropout_is_not() -> None:
    state = torch.get_rng_state()
    error = refused(lambda x: x + torch.rand(6), X, says="the model draws random numbers: aten::rand")
    assert error.where is not None
    refused(lambda x: x.bernoulli_(), X, says="random numbers")
    refused(lambda x: F.dropout(x, 0.5), X, says="random numbers: aten::dropout")
    assert torch.equal(torch.get_rng_state(), state)
    record(lambda x: F.dropout(F.scaled_dot_product_attention(x, x, x), 0.5, False), (X,))


def test_a_shape_that_depends_on_data_is_refused() -> None:
    refused(lambda x: x.nonzero(), X, says="the shape of a result depends on the data: aten::nonzero")
    refused(lambda x: x[x > 0], X, says="the shape of a result depends on the data: aten::index.Tensor")
    # in older releases of PyTorch the colon is a call of its own
    assert [op for op in ops(record(lambda x: x[:, torch.tensor([2, 0])], (X,))) if op != "aten::slice.Tensor"] == ["aten::index.Tensor"]
    assert ops(record(lambda x: x[torch.tensor([True, False])], (X,))) == ["aten::index.Tensor"]


def prepared() -> nn.Module:
    model = nn.Sequential(Q.QuantStub(), nn.Conv2d(3, 4, 3), Q.DeQuantStub()).eval()
    model.qconfig = Q.default_qconfig  # type: ignore[assignment]
    made: nn.Module = Q.prepare(model)
    return made


def test_unfinished_models_are_refused_by_name() -> None:
    error = refused(nn.Sequential(nn.Conv2d(3, 3, 1)), IMAGE, says="the model is in train mode: <top> (Sequential)")
    assert "model.eval()" in str(error)
    part = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    part[1].train()
    refused(part, IMAGE, says="the model is in train mode: 1 (BatchNorm2d)")
    refused(prepared(), IMAGE, says="prepared but not converted, it still holds an observer: 0.activation_post_process")
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).train()
    model.qconfig = Q.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    refused(Q.prepare_qat(model).eval(), IMAGE, says="still holds an observer: 0.weight_fake_quant")


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.tail = nn.Sequential(nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return cast(Tensor, self.tail(x))


def test_an_error_of_the_model_names_module_and_line() -> None:
    model = nn.Sequential(nn.Identity(), Inner()).eval()
    error = refused(model, IMAGE, says="mat1 and mat2 shapes cannot be multiplied")
    assert error.where is not None
    assert (error.where.module, Path(error.where.file).name) == ("1.tail.1", HERE)
    assert error.where.line == line_of(Inner, "self.tail(x)")
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    refused(model, says="TypeError")
    refused(model, IMAGE[0, 0], says="RuntimeError")
    refused(lambda x: None, X, says="the model returns no tensor: NoneType")


# -- inputs and outputs


def test_nested_inputs_and_outputs_have_stable_names() -> None:
    def forward(x: Tensor, pair: list[Tensor], flag: bool, options: Any = None, *, table: dict[str, Tensor], n: int = 1) -> Any:
        return {"sum": x + pair[0] * n, "rest": [pair[1], (table["b"], None, 3)], "flag": flag}

    args = (X, [X + 1, X + 2], True, None)
    recording = record(forward, args, {"table": {"b": X + 3, "a": X + 4}, "n": 2}, names=("x", "pair", "flag", "options", "table", "n"))
    assert recording.input_names == ("x", "pair_0", "pair_1", "table_b", "table_a")
    assert recording.output_names == ("sum", "rest_0", "rest_1_0")
    assert recording.outputs[1:] == (Ref(2), Ref(3))
    assert ops(recording) == ["aten::mul.Tensor", "aten::add.Tensor"]


def test_names_without_a_signature_and_names_that_collide() -> None:
    assert record(lambda a, b, c: a + b + c, (X, X), {"c": X}).input_names == ("input_0", "input_1", "c")
    assert record(lambda a, b: a + b[0], (X, [X]), names=("a_0", "a")).input_names == ("a_0_0", "a_0_1")


def test_one_tensor_as_two_inputs_or_outputs() -> None:
    recording = record(lambda a, b: (a + b, a, (y := a * b), y), (X, X))
    assert recording.inputs == (0, 1)
    assert recording.outputs[2] == recording.outputs[3]
    assert len(set(recording.output_names)) == 4


# -- the four ways a model arrives


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.add = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.add.add_relu(x, self.conv2(self.relu(self.conv1(x))))
        return out


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = Q.QuantStub(), Q.DeQuantStub()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.pool = nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(Block(8), Block(8))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(self.quant(x)))
        x = self.layer1(x)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)
        out: Tensor = self.dequant(self.fc(x))
        return out


def quantized_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net().eval()
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    made = Q.prepare(model)
    made(IMAGE)
    return cast(nn.Module, Q.convert(made))


MODULES = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2", "fc"]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("way", ["scripted", "traced", "loaded"])
def test_torchscript_is_recorded_as_the_module_it_was_made_of(way: str, tmp_path: Path) -> None:
    eager = quantized_net()
    script: Any = torch.jit.trace(eager, (IMAGE,)) if way == "traced" else torch.jit.script(eager)
    if way == "loaded":
        torch.jit.save(script, str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
        script = torch2circle.load(tmp_path / "net.pt")
    want, got = record(eager, (IMAGE,)), record(script, (IMAGE,))
    assert ops(got) == ops(want)
    assert [call.where.module for call in got.calls if "conv2d" in call.op or "linear" in call.op] == MODULES
    exported = torch2circle.export(script, (IMAGE,))
    names = {value.name for value in exported.graph.values()}
    assert {f"{module}.weight" for module in MODULES} <= names
    bits = [e.to_bytes("onert") for e in (exported, torch2circle.export(script, (IMAGE,)))]
    assert bits[0] == bits[1]


def test_float_torchscript_has_its_parameters_names() -> None:
    script = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval())
    recording = record(script, (IMAGE,))
    assert [call.where.module for call in recording.calls] == ["0", "", "2"]
    assert recording.name_of(recording.calls[2].args["weight"]) == "2.weight"


def test_twins_in_torchscript_are_told_apart_by_their_order() -> None:
    model = nn.Sequential(Q.QuantStub(), nn.Linear(6, 6), nn.Linear(6, 6), Q.DeQuantStub()).eval()
    model[2].load_state_dict(model[1].state_dict())
    model.qconfig = Q.default_qconfig  # type: ignore[assignment]
    made = Q.prepare(model)
    made(X)
    recording = record(torch.jit.script(Q.convert(made)), (X,))
    assert [call.where.module for call in recording.calls][1:3] == ["1", "2"]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 100):
            x = x * 2
        return x


class Wrong(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        return y.view(7, 7)


def test_refusals_and_errors_pass_through_torchscript() -> None:
    refused(torch.jit.script(Branching().eval()), X, says="depends on its input")
    error = refused(torch.jit.script(Wrong().eval()), X, says="RuntimeError: shape '[7, 7]' is invalid")
    assert error.where is not None
    assert (Path(error.where.file).name, error.where.line) == (HERE, line_of(Wrong, "view(7, 7)"))


class Float(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.ReLU6(inplace=True),
            nn.Hardswish(),
        )
        self.relu = nn.ReLU()
        self.drop = nn.Dropout()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor, options: Any = None, *, table: dict[str, list[Tensor]]) -> Any:
        a = self.relu(self.layers(x))
        a = self.relu(a + table["k"][0])
        a = F.adaptive_avg_pool2d(torch.cat([a, a * 2], 1), 1)
        return {"out": self.fc(self.drop(torch.flatten(a, 1))), "rest": [a, (a.mean((2, 3)),)]}


TABLE = {"table": {"k": [torch.tensor([2.0])]}}


@pytest.mark.parametrize("way", ["exported", "strict", "loaded"])
def test_an_exported_program_is_recorded_as_the_module_it_was_made_of(way: str, tmp_path: Path) -> None:
    model = Float().eval()
    program = torch.export.export(model, (IMAGE, None), TABLE, strict=way == "strict")
    if way == "loaded":
        torch.export.save(program, tmp_path / "net.pt2")
        program = cast(Any, torch2circle.load(tmp_path / "net.pt2"))
    want, got = record(model, (IMAGE, None), TABLE), record(program.module(), (IMAGE, None), TABLE)
    assert ops(got) == ops(want)
    assert [call.where.module for call in got.calls] == [call.where.module for call in want.calls]
    assert [call.where.line for call in got.calls] == [call.where.line for call in want.calls]
    assert {Path(call.where.file).name for call in got.calls} == {HERE}
    assert got.output_names == want.output_names == ("out", "rest_0", "rest_1_0")
    assert got.name_of(got.calls[0].args["weight"]) == "layers.0.weight"
    for ours, theirs in zip(got.outputs, want.outputs, strict=True):
        assert torch.equal(got.tensors[cast(Ref, ours).index], want.tensors[cast(Ref, theirs).index])
    exported, eager = torch2circle.export(program), torch2circle.export(model, (IMAGE, None), TABLE)
    assert str(exported.graph) == str(eager.graph)


def test_an_exported_program_refuses_other_shapes_in_our_words() -> None:
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), (IMAGE,))
    refused(program.module(), IMAGE[..., 1:], says="the model cannot run on these inputs")


def test_assertions_of_an_exported_program_leave_no_call() -> None:
    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to(torch.float16)

    recording = record(torch.export.export(Cast().eval(), (X,)).module(), (X,))
    assert ops(recording) == ["aten::to.dtype"]


def test_a_traced_graph_knows_module_and_operator() -> None:
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    made = prepare_fx(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), Q.get_default_qconfig_mapping("fbgemm"), (IMAGE,))
    made(IMAGE)
    recording = record(convert_fx(made), (IMAGE,))
    quantize, conv, dequantize = recording.calls
    assert (quantize.op, conv.op) == ("aten::quantize_per_tensor.tensor_qparams", "quantized::conv2d_relu.new")
    assert dequantize.op == "aten::dequantize.self"
    assert recording.calls[1].where.module == "0"


def test_a_factory_is_recorded_at_its_own_lines(tmp_path: Path) -> None:
    source = tmp_path / "some_model.py"
    source.write_text(
        "import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return x * 2\ndef make():\n    return M().eval()\n"
    )
    recording = record(torch2circle.load(f"{source}:make"), (X,))  # type: ignore[arg-type]
    assert (recording.calls[0].where.file, recording.calls[0].where.line) == (str(source), 4)


# -- places


def test_the_line_is_the_users_also_through_sequential() -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU(), Block(3)))
    recording = record(model.eval(), (IMAGE,))
    assert [call.where.module for call in recording.calls] == ["1.0", "1.1.conv1", "1.1.relu", "1.1.conv2", "1.1.add", "1.1.add"]
    line = line_of(Block, "self.add.add_relu")
    assert [call.where.line for call in recording.calls] == [0, line, line, line, line, line]


def test_torchvision_counts_as_the_users_code() -> None:
    import zoo

    zoo.torchvision()
    from torchvision.models import squeezenet1_1

    recording = record(squeezenet1_1().eval(), (torch.randn(1, 3, 64, 64),))
    assert {Path(call.where.file).name for call in recording.calls} == {"squeezenet.py"}


def test_a_shared_module_has_its_first_name() -> None:
    relu = nn.ReLU()
    recording = record(nn.Sequential(relu, nn.Flatten(), relu).eval(), (X,))
    assert [call.where.module for call in recording.calls] == ["0", "1", "0"]


def test_two_threads_record_one_module() -> None:
    model, results = quantized_net(), []

    def work() -> None:
        results.append(torch2circle.export(model, (IMAGE,)).to_bytes("onert"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1


def test_parts_of_arguments_are_found_wherever_they_are() -> None:
    a, b, c, d = (torch.zeros(i) for i in range(4))
    arguments = {"a": a, "number": 1, "list": [b, None, 2], "dict": {"x": c}, "nested": [[d], (1, 2)], "name": "n", "sizes": [1, 2]}
    tensors = [part for part in trees.parts(arguments) if isinstance(part, torch.Tensor)]
    assert [id(t) for t in tensors] == [id(t) for t in (a, b, c, d)]

    def length(leaf: object) -> object:
        return leaf.shape[0] if isinstance(leaf, torch.Tensor) else leaf

    changed = {name: trees.mapped(length, value) for name, value in arguments.items()}
    assert changed == {**arguments, "a": 0, "list": [1, None, 2], "dict": {"x": 2}, "nested": [[3], (1, 2)]}
