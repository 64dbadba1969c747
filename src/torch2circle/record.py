"""Run a model once and write down what PyTorch's dispatcher executed.

A ``TorchDispatchMode`` under ``torch.inference_mode()`` sees the same vocabulary whatever a model came as. The recording
is in single-assignment form: every tensor that depends on an input has a number, a write in place makes a new number,
and what depends on no input is a constant and leaves no call behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from .errors import RecordError, UserError, together
from .ir import Finding, Where
from .mutation import Aliases, functional_name, operator_of, storage_of, write_back
from .one_scale import cost, with_one_scale
from .plain import deviation, formula_for
from .provenance import Provenance, place_of_part
from .trees import Path, has_names, hides_tensors, leaves, mapped, parts, replaced
from .unfused import UNFUSED, padded_encoders, without_fast_path

# Facts about a tensor that no value can change: reading them on the host does not make a model depend on its data.
METADATA = {
    "aten::q_scale", "aten::q_zero_point", "aten::q_per_channel_scales", "aten::q_per_channel_zero_points",
    "aten::q_per_channel_axis", "aten::qscheme", "aten::size", "aten::size.int", "aten::stride", "aten::stride.int", "aten::dim",
    "aten::sym_size", "aten::sym_size.int", "aten::sym_stride", "aten::sym_stride.int", "aten::sym_numel", "aten::numel",
    "aten::storage_offset", "aten::sym_storage_offset", "aten::is_same_size", "aten::is_contiguous", "aten::is_contiguous.memory_format",
    # results that have only the shape and type of their argument
    "aten::zeros_like", "aten::ones_like", "aten::full_like", "aten::empty_like", "aten::new_zeros", "aten::new_ones", "aten::new_full",
    "aten::new_empty",
}  # fmt: skip
# tolist() and numpy() reach the dispatcher only as this, which a model has no other use for
HOST_READS = {"aten::resolve_neg"}
WRITES_ONE_VALUE = {"aten::copy_", "aten::zero_", "aten::fill_.Scalar", "aten::fill_.Tensor"}
# A change of shape in place -> the view it makes of the tensor.
VIEWS_IN_PLACE = {
    "aten::squeeze_": "aten::squeeze", "aten::squeeze_.dim": "aten::squeeze.dim", "aten::squeeze_.dims": "aten::squeeze.dims",
    "aten::unsqueeze_": "aten::unsqueeze", "aten::transpose_": "aten::transpose.int", "aten::t_": "aten::t",
}  # fmt: skip
# For operators whose result has the shape of one argument's values: that argument.
SHAPED_BY = {"aten::index.Tensor": "indices", "aten::masked_select": "mask"}
PACKED = "run the layer on the padded tensor, all samples at one length: in one direction it gives the same up to the end of each"
# Made of operators that write in place, so that the message would be about these; and what they make is complex.
SPECTRA = {"aten::stft", "aten::stft.center", "aten::istft"}
TRAINING = (
    "it trains: call model.eval(), before torch.export.export if that made it, and pass training=self.training to F.dropout; "
    "for a graph there is torchao.quantization.pt2e.move_exported_model_to_eval(model)"
)
STATISTICS = {"num_batches_tracked", "running_mean", "running_var"}
STATELESS = "state cannot live in the file: take it as an argument and return it instead (docs/signatures.md)"
FUNCTIONAL = "use the form that returns a new tensor"
ONTO_ITSELF = "copy a clone of it"
# Composite, but they say more whole: see lower/rejoin.py.
OF_ROWS = {f"torchao::{name}_affine" for name in ("choose_qparams", "quantize", "dequantize")}
# Tensors of torchao whose arithmetic is known; and what makes them.
READABLE = {"Int8Tensor", "IntxUnpackedToInt8Tensor"}
QUANTIZE_WITH = (
    "quantize_ with Int8WeightOnlyConfig, Int8DynamicActivationInt8WeightConfig, IntxWeightOnlyConfig or "
    "Int8DynamicActivationIntxWeightConfig"
)
CASTS = {"aten::to.dtype", "aten::_to_copy"}
CHANNELS = (torch.per_channel_affine, torch.per_channel_symmetric)
RESHAPES = {"aten::reshape", "aten::view"}
# Layers whose weight the file may hold in another type than PyTorch computes in.
WEIGHTED = re.compile(r"aten::(linear|conv\dd|conv_transpose\dd|_?convolution)\b")
WEIGHTS = ("stored", "float16")
REQUANTIZED = "per_tensor"
OBSERVING = {"ObserverBase", "FakeQuantizeBase", "AffineQuantizedObserverBase"}
"""Classes by name: torchao has some of its own, and need not be installed."""


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
    stored: Mapping[int, Tensor] = field(default_factory=dict)
    turned: Mapping[int, Tensor] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def needed(self) -> list[Call]:
        """The calls that the outputs depend on, in the order they ran."""
        return self._needed[0]

    def read(self) -> set[int]:
        """The tensors that an output depends on; of the results of one call often only some are."""
        return self._needed[1]

    @cached_property
    def _needed(self) -> tuple[list[Call], set[int]]:
        wanted = {out.index for out in self.outputs if isinstance(out, Ref)}
        kept = []
        for call in reversed(self.calls):
            if wanted.intersection(call.outs):
                kept.append(call)
                wanted.update(leaf.index for leaf in parts(call.args) if isinstance(leaf, Ref))
        return kept[::-1], wanted

    def value_of(self, out: Ref | Tensor) -> Tensor:
        """The numbers of an output."""
        value = self.tensors[out.index] if isinstance(out, Ref) else out
        return value.dequantize() if value.is_quantized else value

    def name_of(self, tensor: Tensor) -> str | None:
        """The state_dict name of a parameter or buffer of the model."""
        return self.names.get(id(tensor))

    def stored_as(self, tensor: Tensor) -> Tensor:
        """The quantized or float16 constant that a float constant was dequantized from; else the constant itself."""
        stored = self.stored.get(id(tensor), tensor)
        return stored if stored.shape == tensor.shape else tensor

    def groups_of(self, tensor: Tensor) -> Tensor | None:
        """The quantized matrix whose rows are the parts, with a scale each, of the rows of a float matrix dequantized from it."""
        stored = self.stored.get(id(tensor), tensor)
        if not (tensor.dim() == stored.dim() == 2 and stored.is_quantized and stored.qscheme() in CHANNELS):
            return None
        parts = stored.q_per_channel_axis() == 0 and stored.shape != tensor.shape and tensor.shape[1] % stored.shape[1] == 0
        return stored if parts else None

    def __str__(self) -> str:
        lines = [f"t{i} = input {name}" for i, name in zip(self.inputs, self.input_names, strict=True)]
        for call in self.calls:
            args = ", ".join(f"{k}={_brief(v)}" for k, v in call.args.items())
            lines.append(f"{', '.join(f't{i}' for i in call.outs)} = {call.op}({args})  # {call.where}")
        lines.append("return " + ", ".join(_brief(out) for out in self.outputs))
        return "\n".join(lines) + "\n"


def record(
    run: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    names: Sequence[str] = (),
    specialize: bool = False,
    whole: Container[str] | None = None,
    weights: str = "stored",
) -> Recording:
    """Record one call of ``run`` on the example inputs; neither the model nor the inputs are changed.

    Args:
        run: a Module, ScriptModule or GraphModule, a method of one, or a plain function.
        args: positional example inputs, tensors or anything else, nested or not: in lists, dictionaries, dataclasses.
        kwargs: example inputs by name.
        names: one for each of ``args`` and then of ``kwargs``; what the inputs are called.
        specialize: let a value that is read from an input on the host become a constant, which is otherwise refused.
        whole: operators to record as they are. Another one that PyTorch can decompose is recorded as what it is made of;
            None records all of them whole.
        weights: ``"float16"`` computes linear layers and convolutions on float32 weights rounded to that type, ``REQUANTIZED`` those
            with a weight scale for each channel on one scale for all, but for depthwise convolutions.

    Raises:
        RecordError: train mode, unconverted observers, a branch on data, state that is written, or an error of the model itself.
    """
    module = owner_of(run)
    if module is not None:
        refuse_unfinished(module)
    recorder = _Recorder(module, specialize, whole, weights)
    recorder.findings += [] if module is None else padded_encoders(module)
    args, kwargs = tuple(args), dict(kwargs or {})
    names = names if len(names) == len(args) + len(kwargs) else [*(f"input_{i}" for i in range(len(args))), *kwargs]
    # a copy of each input: a model that writes into its input must not write into the caller's tensor
    args, kwargs = replaced((args, kwargs), lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf)
    arguments = zip(((name,) for name in names), (*args, *kwargs.values()), strict=True)
    given = recorder.only_tensors(_named(*arguments), "input", "its value is fixed in the file")
    inputs = tuple(recorder.new(leaf) for _, leaf in given)
    try:
        with torch.inference_mode(), without_fast_path(), recorder:
            result = run(*args, **kwargs)
    except Exception as error:
        if recorder.refusal or isinstance(error, UserError):
            raise (recorder.refusal or error) from None
        message, where = recorder.provenance.of_error(error, recorder.failure)
        raise RecordError(f"the model cannot run on these inputs: {message}", where=where) from error
    if recorder.refusal:  # which the model's own code caught
        raise recorder.refusal
    recorder.refuse_kept_state(module)
    root = () if has_names(result) else ("output",)
    outputs = recorder.only_tensors(_named((root, result)), "output", "the file does not give it")
    returned = {id(leaf) for _, leaf in outputs}
    for name, leaf in given:
        if recorder.aliases.is_written(leaf) and id(leaf) not in returned:
            message = "the model writes into this input, which the file leaves as it is: what the caller needs must be returned"
            recorder.findings.append(Finding("warning", "input-written", name, message))
    if not outputs:
        raise RecordError(f"the model returns no tensor: {type(result).__name__}")
    return Recording(
        inputs=inputs,
        outputs=tuple(recorder.as_arg(leaf) for _, leaf in outputs),
        input_names=_unique([name for name, _ in given]),
        output_names=_unique([name for name, _ in outputs]),
        calls=tuple(recorder.calls),
        tensors=recorder.tensors,
        names=recorder.provenance.names,
        stored=recorder.stored,
        turned=recorder.turned,
        findings=tuple(recorder.findings),
    )


def owner_of(run: Callable[..., Any]) -> nn.Module | None:
    """The module that is called, or one of whose methods is."""
    owner = run if isinstance(run, nn.Module) else getattr(run, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def refuse_unfinished(module: nn.Module) -> None:
    """Refuse a model that still trains or still observes, or has weights of a kind that no file holds.

    Raises:
        RecordError: naming the module; the others are its ``also``.
    """
    if errors := list(_unfinished(module)):
        raise together(errors)


def _unfinished(module: nn.Module) -> Iterator[RecordError]:
    training_matters = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)
    for name, part in module.named_modules():
        if OBSERVING.intersection(base.__name__ for base in type(part).__mro__):
            eager = type(part).__module__.startswith("torch.ao.")
            convert = "torch.ao.quantization.convert(model.eval(), inplace=True)" if eager else "convert_pt2e(model) of torchao"
            yield RecordError(
                f"the model is prepared but not converted, it still holds an observer: {name} ({type(part).__name__})",
                where=place_of_part(module, name),
                hint=f"after calibration or training call {convert}",
            )
        # convert() leaves `training` set on the modules it makes, to no effect; elsewhere only those count whose result depends on it
        matters = part is module or (isinstance(part, training_matters) and not type(part).__module__.startswith("torch.ao."))
        if part.training and matters and not isinstance(part, fx.GraphModule):
            message = f"the model is in train mode: {name or '<top>'} ({type(part).__name__})"
            yield RecordError(message, where=Where(module=name), hint="call model.eval() first")
    for name, weight in module.named_parameters():
        kind = type(weight)
        if kind.__module__.startswith("torchao.") and kind.__name__ not in READABLE:
            message = f"weights of a kind that no file holds: {name} ({kind.__name__})"
            yield RecordError(message, where=Where(module=name.rpartition(".")[0]), hint=QUANTIZE_WITH)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, module: nn.Module | None, specialize: bool, whole: Container[str] | None, weights: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.specialize, self.whole, self.weights = specialize, whole, weights
        self.halves: dict[int, Tensor] = {}  # id of a float32 weight -> its numbers rounded to float16
        self.provenance = Provenance(module)
        self.state = {storage_of(tensor): name for name, tensor in self.provenance.state.items()}
        self.tensors: list[Tensor] = []
        self.calls: list[Call] = []
        self.findings: list[Finding] = []
        self.refusal: UserError | None = None  # both kept, because TorchScript replaces exceptions by its own, without the message
        self.failure: Exception | None = None
        self.aliases = Aliases()
        self.number: dict[int, int] = {}  # id of a tensor -> its current number
        self.alive: list[Tensor] = []  # id() identifies a tensor only as long as it lives
        self.living: dict[int, list[int]] = {}  # storage -> numbers whose tensors still lie in it
        self.stored: dict[int, Tensor] = {}  # id of a dequantized constant -> what it was dequantized from
        self.turned: dict[int, Tensor] = {}  # id of a transposed one -> the dequantized constant
        self.widened: MutableMapping[Tensor, Tensor] = WeakIdKeyDictionary()  # constant integers as float32 -> the int8 tensor
        self.constants: dict[int, list[int]] = {}  # storage -> calls with a constant that lies in it

    # -- numbers

    def new(self, tensor: Tensor) -> int:
        """A number for what the tensor holds now."""
        number = len(self.tensors)
        self.tensors.append(tensor)
        self.alive.append(tensor)
        self.number[id(tensor)] = number
        self.living.setdefault(storage_of(tensor), []).append(number)
        return number

    def as_arg(self, leaf: Any) -> Any:
        """What stands in a call for a tensor: its number if it depends on an input."""
        if not isinstance(leaf, Tensor):
            return leaf
        self.bring_up_to_date(leaf)
        return Ref(self.number[id(leaf)]) if id(leaf) in self.number else leaf

    def bring_up_to_date(self, tensor: Tensor) -> None:
        """Take a view anew from its base if the memory was written to since."""
        if not self.aliases.is_stale(tensor):
            return
        view = self.aliases.views.get(id(tensor))
        if view is None or not view.key:
            self.refuse("a tensor is read whose memory was written to in a way that cannot be followed", view.op if view else "", {})
        self.bring_up_to_date(view.base)
        self.add(view.op, pytree.tree_map(self.as_arg, dict(view.args)), tensor, self.provenance.here(view.op, view.args))

    def add(self, op: str, args: Mapping[str, Any], out: Tensor, where: Where) -> None:
        """A call that makes ``out``; without an argument that depends on an input ``out`` is a constant."""
        if any(isinstance(leaf, Ref) for leaf in pytree.tree_leaves(args)):
            self.append(Call(op, args, (self.new(out),), where))
        else:
            self.number.pop(id(out), None)
        self.aliases.refresh(out)

    def append(self, call: Call) -> None:
        for leaf in parts(call.args):
            if isinstance(leaf, Tensor) and (storage := storage_of(leaf)) not in self.state:
                self.constants.setdefault(storage, []).append(len(self.calls))
        self.calls.append(call)

    def refuse(self, message: str, op: str, args: Mapping[str, Any], hint: str | None = None) -> NoReturn:
        self.refusal = RecordError(f"{message}: {op}" if op else message, where=self.provenance.here(op, args), hint=hint)
        raise self.refusal

    # -- the dispatcher's calls

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        op, bound = full_name(func), _bind(func, args, kwargs or {})
        if self.weights == "float16" and WEIGHTED.match(op) and self.is_wide(bound.get("weight")):
            bound["weight"] = self.rounded(bound["weight"], op, bound)
            args, kwargs = (), bound
        if self.weights == REQUANTIZED and (changed := self.requantized(func, op, bound)):
            bound = changed
            args, kwargs = (), bound
        run = partial(self.run, func, args, kwargs or {})
        tensors = [leaf for leaf in parts(bound) if isinstance(leaf, Tensor)]
        for tensor in tensors:
            self.bring_up_to_date(tensor)
        computed = any(id(t) in self.number for t in tensors)
        if formula := formula_for(op, bound, lambda tensor: id(tensor) not in self.number):
            return self.by_formula(formula, func, op, bound, args, kwargs or {})
        if op == "aten::batch_norm" and bound["training"] and bound["running_mean"] is not None:
            self.refuse("the graph was exported in train mode, its batch norm takes the statistics of the batch", op, bound, TRAINING)
        written = [bound[a.name] for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        if written and op != "aten::detach_":
            return self.write(func, op, bound, written, run)
        if computed and (made_of := self.decomposition(func, op, tensors)):
            with self:
                return made_of(*args, **(kwargs or {}))
        result = self.deterministic(op, bound, run) if torch.Tag.nondeterministic_seeded in func.tags else run()
        outs = [result] if isinstance(result, Tensor) else [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        self.aliases.add(op, bound, outs, tensors)
        if op == "torchao::dequantize_affine" and not computed:
            where, blocks = self.provenance.here(op, bound), "x".join(map(str, bound["block_size"]))
            message = f"weights with a scale for blocks of {blocks}, which no file holds: they are float32 constants ({where})"
            self.findings.append(Finding("warning", "float-weights", where.module or "<top>", message))
        if op not in METADATA and computed:
            self.keep(func, op, bound, result, outs)
        elif op == "aten::dequantize.self" or (op in RESHAPES and id(bound["self"]) in self.stored):
            self.stored[id(result)] = self.stored.get(id(bound["self"]), bound["self"])
            self.alive.append(result)
        elif op == "aten::t" and id(bound["self"]) in self.stored:
            self.turned[id(result)] = bound["self"]
            self.alive.append(result)
        elif op in CASTS and bound["self"].dtype is torch.int8 and result.dtype is torch.float32:
            self.widened[result] = bound["self"]
        return result

    def by_formula(
        self, formula: Callable[..., Tensor], func: Any, op: str, bound: Mapping[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        try:
            with self:
                made = formula(*bound.values())
        except UserError as error:
            error.where = error.where or self.provenance.here(op, bound)
            raise
        self.compare(deviation(made, func, args, kwargs), op, bound)
        return made

    def decomposition(self, func: Any, op: str, tensors: Sequence[Tensor]) -> Callable[..., Any] | None:
        """What computes an operator that is not recorded whole: its composite kernel, or PyTorch's own decomposition into its core.

        The latter knows no quantized tensors.
        """
        if self.whole is None or op in self.whole or op in METADATA | HOST_READS | SPECTRA | OF_ROWS:
            return None
        quantized, composite = any(tensor.is_quantized for tensor in tensors), torch._C.DispatchKey.CompositeImplicitAutograd
        if func.has_kernel_for_dispatch_key(composite):
            # decompose() prefers decompositions in Python, which know no quantized tensors either
            return partial(func._op_dk, composite) if quantized else cast("Callable[..., Any]", func.decompose)
        if op in UNFUSED:
            return UNFUSED[op]
        table = {} if quantized else _core_decompositions()
        return table[func] if func in table else None  # noqa: SIM401  # its get() looks elsewhere

    def is_wide(self, weight: Any) -> bool:
        """Whether it is a float32 constant, and no integers stand behind it."""
        constant = isinstance(weight, Tensor) and weight.dtype is torch.float32 and id(weight) not in self.number
        return constant and id(weight) not in self.stored

    def rounded(self, weight: Tensor, op: str, bound: Mapping[str, Any]) -> Tensor:
        """The numbers of ``weight`` in float16, as float32; itself where one is too large for that."""
        if id(weight) not in self.halves:
            half = weight.half()
            where = self.provenance.here(op, bound)
            if not half.isfinite().all():
                message = f"a weight is too large for float16, and the layer keeps float32: {float(weight.abs().max()):g} ({where})"
                self.findings.append(Finding("warning", "float16-range", where.module or "<top>", message))
                return weight
            self.halves[id(weight)] = made = half.float()
            self.stored[id(made)] = half
            self.alive += [weight, made]
        return self.halves[id(weight)]

    def requantized(self, func: Any, op: str, bound: dict[str, Any]) -> dict[str, Any] | None:
        """The arguments of a layer with one weight scale in place of one for each channel."""
        found = with_one_scale(op, bound, lambda weight: self.integers_of(weight, bound))
        if found is None:
            return None
        name, new, weight, made = found
        if isinstance(new, Tensor):
            self.stored[id(new)] = made
            self.alive += [new, made]
        changed = {**bound, name: new}
        where = self.provenance.here(op, bound)
        message = f"{cost(weight, made, func(**bound), func(**changed))} ({where})"
        self.findings.append(Finding("note", "requantized", where.module or "<top>", message))
        return changed

    def integers_of(self, weight: Any, bound: Mapping[str, Any]) -> Tensor | None:
        """The quantized constant behind a float weight, next to an activation that comes out of integers, too."""
        data = self.number.get(id(bound.get("input")))
        made = next((call for call in reversed(self.calls) if data in call.outs), None)
        return self.stored.get(id(weight)) if made is not None and made.op == "aten::dequantize.self" else None

    def compare(self, off: str, op: str, bound: Mapping[str, Any]) -> None:
        if off:
            where = self.provenance.here(op, bound)
            message = f"PyTorch's own kernel overflows, and is up to {off} off; the file is not ({where})"
            self.findings.append(Finding("warning", "kernel-overflow", where.module or "<top>", message))

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return func(*args, **kwargs)
        except Exception as error:
            self.failure = error
            raise

    def deterministic(self, op: str, bound: Mapping[str, Any], run: Callable[[], Any], tries: int = 10) -> Any:
        """Many operators could draw random numbers, as dropout; only one that does is refused."""
        first = torch.get_rng_state()
        for _ in range(tries):
            before = torch.get_rng_state()
            result = run()
            if bound.get("generator") is None and torch.equal(before, torch.get_rng_state()):
                break  # the generator is one for all threads: who draws does so each time
        else:
            torch.set_rng_state(first)
            hint = TRAINING if "dropout" in op else "make the model deterministic in eval mode"
            self.refuse("the model draws random numbers", op, bound, hint)
        return result

    def keep(self, func: Any, op: str, bound: Mapping[str, Any], result: Any, outs: Sequence[Tensor]) -> None:
        if result is None:
            return None  # an assertion
        if op == "aten::_pack_padded_sequence":
            self.refuse("a packed sequence gives each sample a length of its own, which the operators of a file cannot", op, bound, PACKED)
        if not outs or op in HOST_READS:
            return self.read_on_host(op, bound, result)
        if torch.Tag.dynamic_output_shape in func.tags and self.shape_varies(op, bound):
            self.refuse("the shape of a result depends on the data", op, bound)
        if all(id(out) in self.number for out in outs):
            return None  # the operator gave back its own argument (dropout in eval mode, contiguous)
        args = {name: mapped(self.as_arg, value) for name, value in bound.items()}
        if op == "aten::mm" and (integers := self.widened.get(bound["mat2"])) is not None:
            args["mat2"] = integers  # in float they would take four times the memory: rejoin.py knows what to do with them
        numbers = tuple(self.number[id(out)] if id(out) in self.number else self.new(out) for out in outs)
        return self.append(Call(op, args, numbers, self.provenance.here(op, bound)))

    def shape_varies(self, op: str, bound: Mapping[str, Any]) -> bool:
        shaping = [leaf for leaf in pytree.tree_leaves(bound[SHAPED_BY.get(op, "self")]) if isinstance(leaf, Tensor)]
        return any(id(t) in self.number and (op != "aten::index.Tensor" or t.dtype in (torch.bool, torch.uint8)) for t in shaping)

    def read_on_host(self, op: str, bound: Mapping[str, Any], result: Any) -> None:
        read = "its elements" if isinstance(result, Tensor) else f"{op} = {result!r}"
        if not self.specialize:
            self.refuse(
                f"the model reads a value that depends on its input, so its path may differ for other inputs: {read}", "", bound,
                "rewrite the branch with tensor operators, or pass specialize=True (--specialize) to fix it to this example",
            )  # fmt: skip
        where = self.provenance.here(op, bound)
        self.findings.append(Finding("warning", "specialized", where.module or "<top>", f"fixed to the example's value: {read} at {where}"))

    def only_tensors(self, named: Sequence[tuple[str, Any]], kind: str, otherwise: str) -> list[tuple[str, Tensor]]:
        """The tensors among the inputs or outputs, and a note for each of the others but an argument that is left out."""
        for name, leaf in named:
            if hides_tensors(leaf):
                hint = "use a dataclass, a dictionary or a tuple, or register the class with torch.utils._pytree.register_pytree_node"
                raise RecordError(f"{kind} {name} holds tensors in an object of unknown structure: {type(leaf).__name__}", hint=hint)
            if not isinstance(leaf, Tensor) and (leaf is not None or kind == "output"):
                self.findings.append(Finding("note", f"{kind}-not-a-tensor", name, f"{leaf!r:.60} is no tensor, {otherwise}"))
        return [(name, leaf) for name, leaf in named if isinstance(leaf, Tensor)]

    # -- writes in place

    def write(self, func: Any, op: str, bound: dict[str, Any], written: Sequence[Any], run: Callable[[], Any]) -> Any:
        """Run an operator that writes, and record one that makes a new tensor."""
        target = written[0]
        if len(written) != 1 or not isinstance(target, Tensor):
            self.refuse("an operator that writes several tensors cannot be recorded", op, bound)
        storage = storage_of(target)
        if (name := self.state.get(storage)) is not None:
            hint = TRAINING if name.rpartition(".")[2] in STATISTICS else STATELESS
            self.refuse(f"the model writes its own state while it runs: {name}", op, bound, hint)
        if torch.Tag.nondeterministic_seeded in func.tags:
            run = partial(self.deterministic, op, bound, run, 1)  # what has written cannot be tried again
        if storage not in self.living and not any(id(leaf) in self.number for leaf in pytree.tree_leaves(bound)):
            self.freeze(storage)
            return run()  # constants among themselves
        if (made_of := self.functional(op)) is not None:
            with self:
                return target.copy_(made_of(**bound))
        if op in VIEWS_IN_PLACE and id(target) in self.number:
            return self.reshape(op, bound, target, run)
        if torch.Tag.inplace_view in func.tags:
            self.refuse("a change of shape in place cannot be recorded", op, bound, FUNCTIONAL)
        where = self.provenance.here(op, bound)
        above = self.aliases.above(target)
        before = {id(t): self.as_arg(t) if id(t) in self.number else t.clone() for t in (target, *(view.base for view in above))}
        args = {name: pytree.tree_map(lambda leaf: before.get(id(leaf), self.as_arg(leaf)), value) for name, value in bound.items()}
        self.freeze(storage)
        source = bound["src"].clone() if op == "aten::copy_" and storage_of(bound["src"]) == storage else None
        result = run()
        if source is not None and not torch.equal(target.nan_to_num(), source.to(target.dtype).expand_as(target).nan_to_num()):
            self.refuse("a tensor is copied onto a part of itself, and PyTorch leaves open what then is in it", op, bound, ONTO_ITSELF)
        self.alive.append(target)
        self.aliases.overtake(storage)
        try:
            self.assign(op, args, target, where)
            for view in above:
                self.add(*write_back(view, before[id(view.base)], self.as_arg(view.out), where), view.base, where)
        except UserError as error:
            self.refusal = error
            raise
        return result

    def reshape(self, op: str, bound: Mapping[str, Any], target: Tensor, run: Callable[[], Any]) -> Any:
        """The tensor becomes a view of what it was; another object stands for that from now on."""
        old = torch.ops.aten.alias(target)
        number = self.number[id(old)] = self.number[id(target)]
        self.tensors[number] = old
        self.alive.append(old)
        self.aliases.rename(target, old)
        result = run()
        name, where = VIEWS_IN_PLACE[op], self.provenance.here(op, bound)
        args = {key: old if value is target else value for key, value in bound.items()}
        self.aliases.add(name, args, [target], [old])
        self.add(name, {key: self.as_arg(value) for key, value in args.items()}, target, where)
        return result

    def functional(self, op: str) -> Callable[..., Any] | None:
        """The form of an operator in place that makes a new tensor, if that is not recorded whole but as what it is made of."""
        name = functional_name(op)
        if self.whole is None or name is None or name in self.whole or op in WRITES_ONE_VALUE:
            return None
        return cast("Callable[..., Any] | None", operator_of(name))

    def assign(self, op: str, args: Mapping[str, Any], target: Tensor, where: Where) -> None:
        """Give the target of a write its new number."""
        source = args.get({"aten::copy_": "src", "aten::fill_.Tensor": "value"}.get(op, ""))
        if op in ("aten::zero_", "aten::fill_.Scalar") or (source is not None and not isinstance(source, Ref)):
            self.number.pop(id(target), None)
        elif source is None:
            name = functional_name(op)
            if name is None:
                raise RecordError(f"a write in place that cannot be recorded: {op}", where=where, hint=FUNCTIONAL)
            self.add(name, args, target, where)
        elif target.is_quantized or (value := self.tensors[source.index]).is_quantized:
            raise RecordError(f"a write into a part of a quantized tensor cannot be recorded: {op}", where=where)
        elif value.dtype != target.dtype:
            to = {"dtype": target.dtype, "non_blocking": False, "copy": False, "memory_format": None}
            self.add("aten::to.dtype", {"self": source, **to}, target, where)
        elif value.shape != target.shape:
            self.add("aten::expand", {"self": source, "size": list(target.shape), "implicit": False}, target, where)
        else:
            self.number[id(target)] = source.index
        self.aliases.refresh(target)

    def freeze(self, storage: int) -> None:
        """Copy what is recorded of this memory, before it changes."""
        for number in self.living.pop(storage, ()):
            self.tensors[number] = self.tensors[number].clone()
        self.living[storage] = []

        def copied(leaf: Any) -> Any:
            return leaf.clone() if isinstance(leaf, Tensor) and storage_of(leaf) == storage else leaf

        for index in self.constants.pop(storage, ()):
            self.calls[index] = replace(self.calls[index], args=pytree.tree_map(copied, dict(self.calls[index].args)))

    def refuse_kept_state(self, module: nn.Module | None) -> None:
        """A buffer that was replaced by a result is state, too."""
        for name, tensor in () if module is None else module.named_buffers():
            if id(tensor) in self.number:
                self.refuse(f"the model keeps a result in its own state: {name}", "", {}, STATELESS)


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


def is_decomposed(func: Any) -> bool:
    """Whether an operator that is not recorded whole is recorded as others."""
    composite = func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    return composite or full_name(func) in UNFUSED or func in _core_decompositions()


@cache
def _core_decompositions() -> Mapping[Any, Callable[..., Any]]:
    from torch._decomp import core_aten_decompositions  # late: it takes a quarter of a second, and few models need it

    return cast("Mapping[Any, Callable[..., Any]]", core_aten_decompositions())


def full_name(func: Any) -> str:
    """``aten::mean.dim``; the overload ``default`` has no name."""
    name = cast(str, func._schema.name)
    return f"{name}.{func._schema.overload_name}" if func._schema.overload_name else name


def _named(*roots: tuple[Path, Any]) -> list[tuple[str, Any]]:
    """The leaves below the roots, each called by its path."""
    return [("_".join(path), leaf) for root, tree in roots for path, leaf in leaves(tree, root)]


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, those that are there several times with the first free numbers behind them."""
    free = dict.fromkeys(names, 0)
    made = []
    for name in names:
        wanted = name
        while names.count(name) > 1 and (wanted == name or wanted in free):
            wanted, free[name] = f"{name}_{free[name]}", free[name] + 1
        free.setdefault(wanted, 0)
        made.append(wanted)
    return tuple(made)


def _brief(value: Any) -> str:
    if isinstance(value, Ref):
        return f"t{value.index}"
    if isinstance(value, Tensor):
        return f"<{str(value.dtype).removeprefix('torch.')}{list(value.shape)}>"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_brief, value))}]"
    return f"<{type(value).__name__}>" if isinstance(value, torch.ScriptObject) else repr(value)
