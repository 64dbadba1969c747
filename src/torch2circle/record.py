"""Run a model once and write down what PyTorch's dispatcher executed.

A ``TorchDispatchMode`` under ``torch.inference_mode()`` sees the same vocabulary whatever a model came as. The recording
is in single-assignment form: every tensor that depends on an input has a number, a write in place makes a new number,
and what depends on no input is a constant and leaves no call behind.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import FakeQuantizeBase, ObserverBase
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import RecordError, UserError
from .ir import Finding, Where
from .mutation import Aliases, functional_name, storage_of

# Facts about a tensor that no value can change: reading them on the host does not make a model depend on its data.
METADATA = {
    "aten::q_scale", "aten::q_zero_point", "aten::q_per_channel_scales", "aten::q_per_channel_zero_points",
    "aten::q_per_channel_axis", "aten::qscheme", "aten::size", "aten::size.int", "aten::stride", "aten::stride.int", "aten::dim",
    "aten::sym_size", "aten::sym_size.int", "aten::sym_stride", "aten::sym_stride.int", "aten::sym_numel", "aten::numel",
    "aten::storage_offset", "aten::sym_storage_offset", "aten::is_same_size", "aten::is_contiguous", "aten::is_contiguous.memory_format",
}  # fmt: skip


@dataclass(frozen=True)
class Ref:
    """A recorded tensor by its number."""

    index: int


@dataclass(frozen=True)
class Call:
    """One executed operator: full name, arguments by schema name with the defaults filled in, numbers of the results.

    In ``args`` a ``Ref`` stands for a tensor that depends on an input; any other tensor is a constant.
    """

    op: str
    args: Mapping[str, Any]
    outs: tuple[int, ...]
    where: Where


@dataclass(frozen=True)
class Recording:
    """What one forward pass did. ``tensors[i]`` is the true value of tensor ``i``; an output is a ``Ref`` or a constant tensor."""

    inputs: tuple[int, ...]
    outputs: tuple[Ref | Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    calls: tuple[Call, ...]
    tensors: Sequence[Tensor]
    names: Mapping[int, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def needed(self) -> list[Call]:
        """The calls that the outputs depend on, in the order they ran."""
        wanted = {out.index for out in self.outputs if isinstance(out, Ref)}
        kept = []
        for call in reversed(self.calls):
            if wanted.intersection(call.outs):
                kept.append(call)
                wanted.update(leaf.index for leaf in pytree.tree_leaves(dict(call.args)) if isinstance(leaf, Ref))
        return kept[::-1]

    def name_of(self, tensor: Tensor) -> str | None:
        """The state_dict name of a parameter or buffer of the model."""
        return self.names.get(id(tensor))

    def __str__(self) -> str:
        lines = [f"t{i} = input {name}" for i, name in zip(self.inputs, self.input_names, strict=True)]
        for call in self.calls:
            args = ", ".join(f"{k}={_brief(v)}" for k, v in call.args.items())
            lines.append(f"{', '.join(f't{i}' for i in call.outs)} = {call.op}({args})  # {call.where}")
        lines.append("return " + ", ".join(_brief(out) for out in self.outputs))
        return "\n".join(lines) + "\n"


def record(
    run: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, *, names: Sequence[str] = (), specialize: bool = False
) -> Recording:
    """Record one call of ``run`` (a Module, ScriptModule, GraphModule or plain function) on the example inputs.

    ``names`` has one entry for each of ``args`` and then of ``kwargs``.
    ``specialize`` lets a value that was read from an input on the host become a constant; otherwise that is refused.

    Raises:
        RecordError: train mode, unconverted observers, a branch on data, state that is written, or an error of the model itself.
    """
    if isinstance(run, nn.Module):
        refuse_unfinished(run)
    kwargs = dict(kwargs or {})
    recorder = _Recorder(run if isinstance(run, nn.Module) else None, specialize)
    leaves, spec = pytree.tree_flatten((tuple(args), kwargs))
    # a copy of each input: a model that writes into its input must not write into the caller's tensor
    leaves = [leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    inputs = tuple(recorder.new(leaf) for leaf in leaves if isinstance(leaf, Tensor))
    args, kwargs = pytree.tree_unflatten(leaves, spec)
    with torch.inference_mode(), recorder.following_modules(), recorder:
        try:
            result = recorder.interpret(run)(*args, **kwargs)
        except UserError:
            raise
        except Exception as error:
            raise RecordError(f"the model cannot run on these inputs: {type(error).__name__}: {_first_line(error)}", where=recorder.where("")) from error
    outputs = [(path, leaf) for path, leaf in pytree.tree_flatten_with_path(result)[0] if isinstance(leaf, Tensor)]
    if not outputs:
        raise RecordError(f"the model returns no tensor: {type(result).__name__}")
    return Recording(
        inputs=inputs,
        outputs=tuple(recorder.as_arg(leaf) for _, leaf in outputs),
        input_names=_unique(_input_names(names, args, kwargs)),
        output_names=_unique([_path_name("output", path) for path, _ in outputs]),
        calls=tuple(recorder.calls),
        tensors=recorder.tensors,
        names=recorder.names,
        findings=tuple(recorder.findings),
    )


def refuse_unfinished(module: nn.Module) -> None:
    """Refuse a model that still trains or still observes.

    Raises:
        RecordError: naming the module.
    """
    training_matters = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)
    for name, part in module.named_modules():
        if isinstance(part, (ObserverBase, FakeQuantizeBase)):
            raise RecordError(
                f"the model is prepared but not converted, it still holds an observer: {name} ({type(part).__name__})",
                where=Where(module=name.rpartition(".")[0]),
                hint="after calibration or training call torch.ao.quantization.convert(model.eval(), inplace=True)",
            )
        # convert() leaves `training` set on the modules it makes, to no effect; elsewhere only those count whose result depends on it
        matters = part is module or (isinstance(part, training_matters) and not type(part).__module__.startswith("torch.ao."))
        if part.training and matters and not isinstance(part, fx.GraphModule):
            raise RecordError(f"the model is in train mode: {name or '<top>'} ({type(part).__name__})", where=Where(module=name), hint="call model.eval() first")


class _Recorder(TorchDispatchMode):
    def __init__(self, module: nn.Module | None, specialize: bool) -> None:
        super().__init__()
        self.module, self.specialize = module, specialize
        self.tensors: list[Tensor] = []  # kept alive: id() identifies a tensor only as long as it lives
        self.calls: list[Call] = []
        self.findings: list[Finding] = []
        self.number: dict[int, int] = {}  # id of a tensor -> its current number
        self.aliases = Aliases()
        self.path: list[str] = []
        self.node: fx.Node | None = None
        state = {} if module is None else {**dict(module.named_buffers()), **dict(module.named_parameters())}
        self.names = {id(tensor): name for name, tensor in state.items()}
        self.state_storages = {storage_of(tensor): name for name, tensor in state.items()}

    # -- numbers

    def new(self, tensor: Tensor, value: Tensor | None = None) -> int:
        self.tensors.append(tensor if value is None else value)
        self.number[id(tensor)] = len(self.tensors) - 1
        self.aliases.track(tensor)
        return len(self.tensors) - 1

    def as_arg(self, leaf: Any) -> Any:
        return Ref(self.number[id(leaf)]) if isinstance(leaf, Tensor) and id(leaf) in self.number else leaf

    # -- the dispatcher's calls

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        bound = _bind(func, args, kwargs or {})
        tensors = [leaf for leaf in pytree.tree_leaves(bound) if isinstance(leaf, Tensor)]
        depends = any(id(t) in self.number for t in tensors)
        op = _full_name(func)
        written = [bound[a.name] for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        if written:
            return self.write(func, op, bound, written, depends, args, kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RecordError(f"the model draws random numbers: {op}", where=self.where(op), hint="make the model deterministic in eval mode")
        result = func(*args, **(kwargs or {}))
        outs = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        self.aliases.add_views(op, bound, outs, tensors)
        if depends and op not in METADATA:
            self.keep(func, op, bound, result, outs)
        return result

    def keep(self, func: Any, op: str, bound: Mapping[str, Any], result: Any, outs: Sequence[Tensor]) -> None:
        if not outs:
            return self.read_on_host(op, result)
        if torch.Tag.dynamic_output_shape in func.tags:
            raise RecordError(f"the shape of a result depends on the data: {op}", where=self.where(op))
        if all(id(out) in self.number for out in outs):
            return None  # the operator gave back its own argument (dropout in eval mode, contiguous)
        args = {name: pytree.tree_map(self.as_arg, value) for name, value in bound.items()}
        numbers = tuple(self.number[id(out)] if id(out) in self.number else self.new(out) for out in outs)
        self.calls.append(Call(op, args, numbers, self.where(op)))
        return None

    def read_on_host(self, op: str, result: Any) -> None:
        if not self.specialize:
            raise RecordError(
                f"the model reads a value that depends on its input, so its path may differ for other inputs: {op} = {result!r}",
                where=self.where(op),
                hint="rewrite the branch with tensor operators, or pass specialize=True (--specialize) to fix it to this example",
            )
        self.findings.append(Finding("warning", "specialized", self.where(op).module, f"fixed to the example's value: {op} = {result!r} at {self.where(op)}"))

    def write(self, func: Any, op: str, bound: dict[str, Any], written: list[Any], depends: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        target = written[0]
        where = self.where(op)
        if len(written) != 1 or not isinstance(target, Tensor):
            raise RecordError(f"an operator that writes several tensors cannot be recorded: {op}", where=where)
        if (name := self.state_storages.get(storage_of(target))) is not None:
            raise RecordError(f"the model writes its own state while it runs: {name} ({op})", where=where, hint="state cannot live in the file: return it instead")
        if not depends:
            result = func(*args, **kwargs)
            return result
        before = self.aliases.snapshot(target)
        old_args = {name: pytree.tree_map(lambda leaf: self._before(leaf, before), value) for name, value in bound.items()}
        for tensor, copy in before.items():  # the recorded value of the old number must stay what it was
            if id(tensor) in self.number:
                self.tensors[self.number[id(tensor)]] = copy
        result = func(*args, **kwargs)
        self.calls.append(Call(functional_name(op, where), old_args, (self.new(target),), where))
        self.aliases.propagate(target, before, self.record_view, where)
        return result

    def _before(self, leaf: Any, before: Mapping[Tensor, Tensor]) -> Any:
        arg = self.as_arg(leaf)
        return next((copy for tensor, copy in before.items() if tensor is arg), arg)

    def record_view(self, op: str, args: Mapping[str, Any], out: Tensor, before: Mapping[Tensor, Tensor], where: Where) -> None:
        self.calls.append(Call(op, {name: self._before(value, before) for name, value in args.items()}, (self.new(out),), where))

    # -- where a call comes from

    @contextmanager
    def following_modules(self) -> Iterator[None]:
        """Keep ``path`` the path of the module that runs, by hooks that act for this thread only and are removed again."""
        thread = threading.get_ident()
        with ExitStack() as stack:
            modules = [] if self.module is None or isinstance(self.module, torch.jit.ScriptModule) else list(self.module.named_modules(remove_duplicate=False))
            for name, part in modules:
                if isinstance(part, torch.jit.ScriptModule):
                    continue

                def enter(_m: Any, _args: Any, name: str = name) -> None:
                    if threading.get_ident() == thread:
                        self.path.append(name)

                def leave(_m: Any, _args: Any, _out: Any) -> None:
                    if threading.get_ident() == thread:
                        self.path.pop()

                if part is not self.module or name == "":
                    stack.callback(part.register_forward_pre_hook(enter).remove)
                    stack.callback(part.register_forward_hook(leave).remove)
            yield

    def interpret(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """An exported graph runs node by node, so that each call knows its node and with it the user's source line."""
        if isinstance(run, fx.GraphModule) and any("nn_module_stack" in node.meta for node in run.graph.nodes):
            recorder = self

            class Following(fx.Interpreter):
                def run_node(self, n: fx.Node) -> Any:
                    recorder.node = n
                    return super().run_node(n)

            interpreter = Following(run)
            return lambda *args, **kwargs: _run_exported(run, interpreter, args, kwargs)
        return run

    def where(self, op: str) -> Where:
        if self.node is not None:
            return _where_of_node(self.node, op)
        file, line = _user_frame()
        return Where(op, self.path[-1] if self.path else "", file, line)


def _run_exported(run: fx.GraphModule, interpreter: fx.Interpreter, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    codegen = run.graph._codegen
    flat = codegen.process_inputs(*args, **kwargs)
    return codegen.process_outputs(interpreter.run(*flat, enable_io_processing=False))


def _where_of_node(node: fx.Node, op: str) -> Where:
    stack = node.meta.get("nn_module_stack") or {}
    module = list(stack.values())[-1][0] if stack else ""
    file, line = "", 0
    for text in (node.meta.get("stack_trace") or "").splitlines():
        if text.strip().startswith('File "'):
            name, _, rest = text.strip()[6:].partition('", line ')
            file, line = _short(name), int(rest.split(",")[0])
    return Where(op, _strip_self(module), file, line)


def _strip_self(path: str) -> str:
    return path.removeprefix("L['self']").removeprefix(".").removeprefix("L__self___")


_OWN = str(Path(__file__).parent) + os.sep
_TORCH = str(Path(torch.__file__).parent) + os.sep


def _user_frame() -> tuple[str, int]:
    """File and line of the innermost frame that is neither PyTorch's nor ours; none if only PyTorch's modules ran."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name == __file__ and frame.f_code.co_name == "record":
            break
        if not name.startswith((_OWN, _TORCH, "<")):
            return _short(name), frame.f_lineno
        frame = frame.f_back
    return "", 0


def _short(file: str) -> str:
    """Relative to the working directory where it lies below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _bind(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by schema name; the dispatcher leaves out those that equal their default."""
    bound = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args) and not argument.kwarg_only:
            bound[argument.name] = args[position]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[argument.name] = argument.default_value
    return bound


def _full_name(func: Any) -> str:
    """``aten::mean.dim``; the overload ``default`` has no name."""
    name = cast(str, func._schema.name)
    return f"{name}.{func._schema.overload_name}" if func._schema.overload_name else name


def _input_names(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """One name a tensor: that of its argument, and its path for a tensor inside a list or dict."""
    names = names if len(names) == len(args) + len(kwargs) else [*(f"input_{i}" for i in range(len(args))), *kwargs]
    flat = pytree.tree_flatten_with_path((*args, *kwargs.values()))[0]
    return [_path_name(names[path[0].idx], path[1:]) for path, leaf in flat if isinstance(leaf, Tensor)]


def _path_name(root: str, path: Sequence[Any]) -> str:
    return "_".join([root, *(str(getattr(step, "key", getattr(step, "idx", getattr(step, "name", step)))) for step in path)])


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0].rstrip(".")


def _brief(value: Any) -> str:
    if isinstance(value, Ref):
        return f"t{value.index}"
    if isinstance(value, Tensor):
        return f"<{str(value.dtype).removeprefix('torch.')}{list(value.shape)}>"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_brief, value))}]"
    return f"<{type(value).__name__}>" if isinstance(value, torch.ScriptObject) else repr(value)
