"""From what the user names (a file, a factory, a module in hand) to a program that can be run.

Every function here either returns a model with its own weights, or raises a ``LoadError`` that says what to do instead.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import LoadError
from .common import FACTORY_HINT, Methods, Model, Runnable
from .factories import from_factory
from .files import from_file
from .inputs import infer_inputs, load_inputs, parse_input
from .program import Program, program


def load(
    path_or_spec: str | Path, *, trust_pickle: bool = False, state: str | Path | None = None, mmap: bool = False
) -> Model | Methods:
    """Read a model, on the CPU and in the mode it was saved in.

    Args:
        path_or_spec: a file written by torch.save(module), torch.jit.save or torch.export.save, or a factory:
            ``package.module:name`` or ``path/to/file.py:name``, called without arguments, or an nn.Module itself. What
            it gives may also be methods as ``export_many`` takes them.
        trust_pickle: let the file run whatever code its author put in; needed for classes that are not PyTorch's own.
        state: a state_dict for the factory's module: a safetensors file, one of torch.save, or the index (``*.index.json``) of several.
            Parameters that the factory makes on PyTorch's meta device become the file's own tensors, mapped and not read.
        mmap: map the weights of a pickled module instead of reading them. The file must then stay as it is while the model is used.

    Raises:
        LoadError: there is no model to be had from this, or not safely.
        MissingRuntime: a package that reads the state is not installed.
    """
    spec, path = str(path_or_spec), Path(path_or_spec)
    module, colon, attribute = spec.rpartition(":")
    if colon and not path.exists() and attribute.isidentifier():
        return from_factory(module, attribute, None if state is None else Path(state))
    if state is not None:
        raise LoadError(f"--state needs a factory, not a file: {spec}", hint=FACTORY_HINT)
    return from_file(path, trust_pickle, mmap)


__all__ = ["Methods", "Model", "Program", "Runnable", "infer_inputs", "load", "load_inputs", "parse_input", "program"]
