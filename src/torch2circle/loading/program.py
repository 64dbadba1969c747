"""A model in hand, with its example inputs, as a program that can be run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.export import ExportedProgram
from torch.jit import ScriptModule

from ..errors import LoadError
from .common import READING, Runnable
from .healing import heal
from .inputs import example_inputs, infer_inputs


@dataclass(frozen=True)
class Program:
    """A model, or a method of one, that can be called with ``args`` and ``kwargs``.

    ``names`` has one entry for each of ``args`` and then each of ``kwargs``, as the model's own signature calls them.
    ``kind`` is "module", "method", "torchscript" or "exported".
    """

    module: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    kind: str
    names: tuple[str, ...]


def program(model: Runnable, *, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None) -> Program:
    """Make ``model`` ready to run; its train or eval mode is left alone.

    Args:
        model: an nn.Module, a ScriptModule, an ExportedProgram, or a method of an nn.Module.
        args: example inputs; if both are None, those the model itself fixes.
        kwargs: example inputs by name.

    Raises:
        LoadError: ``model`` is something else, or no example inputs were given and the model does not fix them.
    """
    if isinstance(model, ExportedProgram):
        return _exported(model, args, kwargs)
    if inspect.ismethod(model) and isinstance(model.__self__, nn.Module):
        heal(model.__self__)
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        return Program(model, args, kwargs, "method", _names(_parameters(model), args, kwargs))
    if not isinstance(model, nn.Module):
        hint = "pass an nn.Module or a method of one, a ScriptModule or an ExportedProgram; torch2circle.load() reads one from a file"
        raise LoadError(f"not a PyTorch model: {type(model).__name__}", hint=hint)
    scripted = isinstance(model, ScriptModule)
    if not scripted:
        heal(model)
    if args is None and kwargs is None:
        args = infer_inputs(model)
    args, kwargs = tuple(args or ()), dict(kwargs or {})
    names = _script_parameters(model) if scripted else _parameters(model.forward)
    return Program(model, args, kwargs, "torchscript" if scripted else "module", _names(names, args, kwargs))


def _exported(model: ExportedProgram, args: tuple[Any, ...] | None, kwargs: Mapping[str, Any] | None) -> Program:
    if args is None and kwargs is None:
        args, kwargs = example_inputs(model)
    args, kwargs = tuple(args or ()), dict(kwargs or {})
    with READING:  # the names of generated code are counted without a lock
        module = model.module()
    # The signature has one name an argument; graph_signature.user_inputs has one a leaf.
    return Program(module, args, kwargs, "exported", _names(_parameters(module.forward), args, kwargs))


def _names(parameters: list[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """A name for each input: the parameter it binds to, with a number behind for those a ``*args`` takes."""
    rest = "input" if not parameters else parameters[-1].lstrip("*")
    named = [name for name in parameters if not name.startswith("*")]
    positional = [named[i] if i < len(named) else f"{rest}_{i - len(named)}" for i in range(len(args))]
    return (*positional, *kwargs)


def _parameters(forward: Any) -> list[str]:
    """Positional parameters; a ``*args`` comes last, with its star."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    prefix = {inspect.Parameter.POSITIONAL_ONLY: "", inspect.Parameter.POSITIONAL_OR_KEYWORD: "", inspect.Parameter.VAR_POSITIONAL: "*"}
    return [prefix[parameter.kind] + parameter.name for parameter in parameters if parameter.kind in prefix]


def _script_parameters(module: Any) -> list[str]:
    return [str(argument.name) for argument in module.forward.schema.arguments[1:]]
