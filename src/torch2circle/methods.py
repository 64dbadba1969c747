"""Several methods of one model in one file, each with a signature of its own; what they have in common is written once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import LoadError, TargetError, Torch2CircleError, UserError, together
from .format import is_as_written, save, to_bytes
from .ir import Finding, Graph
from .pipeline import ExportedModel, export, metadata_of
from .targets import Target, target_for

if TYPE_CHECKING:
    from .verify import Report


def export_many(methods: Mapping[str, Sequence[Any]], **options: Any) -> ExportedMethods:
    """Record several methods of a model, to be written into one file.

    >>> both = export_many({"encode": (model.encode, (x,)), "decode": (model.decode, (y,))})      # doctest: +SKIP
    >>> both.save("model.tflite")                                                                 # doctest: +SKIP

    Args:
        methods: what each is called in the file -> what ``export`` takes: the method (or a module), its ``args`` and, if any, ``kwargs``.
        options: those of ``export``, for all of them.

    Returns:
        What can be saved and verified like an ``ExportedModel``; one of them by itself is ``[name]``.

    Raises:
        LoadError: no method, or one that is not given with its inputs.
        UserError: as ``export``, naming the method; what is wrong with the other methods is its ``also``.
    """
    if not methods:
        raise LoadError("no method to export", hint='pass {"name": (model.method, args)}')
    exported: dict[str, ExportedModel] = {}
    errors: list[Torch2CircleError] = []
    for name, given in methods.items():
        if not isinstance(given, (tuple, list)) or not 1 < len(given) <= 3:
            raise LoadError(f"method {name} is not given with its example inputs", hint="pass (method, args) or (method, args, kwargs)")
        made = _exported(given, options)
        if isinstance(made, ExportedModel):
            exported[name] = made
            continue
        for error in made:
            error.message = f"method {name}: {error.message}"
        errors += made
    if errors:
        raise together(errors)
    return ExportedMethods(exported)


def _exported(given: Sequence[Any], options: Mapping[str, Any]) -> ExportedModel | list[Torch2CircleError]:
    """A method's export, or all that is wrong with it."""
    try:
        return export(*given, **options)
    except UserError as error:
        return [error, *error.also]


@dataclass(frozen=True)
class ExportedMethods:
    """Recordings by the name of their method, ready to be written into one file."""

    methods: Mapping[str, ExportedModel]

    def __getitem__(self, name: str) -> ExportedModel:
        return self.methods[name]

    def for_target(self, target: str | Target) -> dict[str, Graph]:
        """The graph of each method as it is written for ``target``.

        Raises:
            TargetError: no such target, its runtime cannot call more than one method of a file, or it cannot run an operator.
        """
        target = target_for(None, target) if isinstance(target, str) else target
        if len(self.methods) > 1 and not target.calls_methods:
            hint = 'write a .tflite file, or each method to a file of its own: exported["name"].save("name.circle")'
            names = ", ".join(self.methods)
            raise TargetError(f"target {target.name} can call only one method of a file, which has {len(self.methods)}: {names}", hint=hint)
        return {name: method.for_target(target) for name, method in self.methods.items()}

    def save(self, path: str | os.PathLike[str], target: str | None = None) -> int:
        """Write all methods to one file and return its size, as ``ExportedModel.save`` does.

        Raises:
            TargetError: as for ``for_target``, or the target writes files with another suffix.
            WriteError: a missing folder, a full disk, a file over 2 GiB.
        """
        chosen = target_for(Path(path), target)
        graphs = self.for_target(chosen)
        return save(graphs, path, identifier=chosen.identifier, metadata=metadata_of(list(graphs.values()), chosen))

    def is_in(self, path: str | os.PathLike[str], target: str) -> bool:
        """Whether the file at ``path`` has the bytes that ``save`` would write, as ``ExportedModel.is_in``."""
        chosen = target_for(None, target)
        graphs = self.for_target(chosen)
        return is_as_written(path, graphs, identifier=chosen.identifier, metadata=metadata_of(list(graphs.values()), chosen))

    def to_bytes(self, target: str) -> bytes:
        """The content of the file that ``save`` would write.

        Raises:
            TargetError: as for ``for_target``.
        """
        chosen = target_for(None, target)
        graphs = self.for_target(chosen)
        return to_bytes(graphs, identifier=chosen.identifier, metadata=metadata_of(list(graphs.values()), chosen))

    def diagnostics(self, target: str | None = None) -> tuple[Finding, ...]:
        """Those of the methods, each behind the method's name."""
        found = ((name, finding) for name, method in self.methods.items() for finding in method.diagnostics(target))
        return tuple(replace(finding, path=f"{name}: {finding.path}") for name, finding in found)

    def verify(self, target: str, path: str | os.PathLike[str] | None = None, *, timeout: float = 600) -> Report:
        """Call each method of the file through its signature, and run its operators one by one, as ``ExportedModel.verify`` does.

        Args:
            target: its runtime is used.
            path: a file saved for that target, whose own operators are judged; None writes a temporary one.
            timeout: seconds that one run of a method may take.

        Raises:
            MissingRuntime, TargetError, FormatError, VerifyFailed: as ``ExportedModel.verify``.
        """
        from .verify import verify_methods

        return verify_methods(self, target_for(None, target), None if path is None else Path(path), timeout)

    def explain(self, folder: str | os.PathLike[str], target: str) -> list[Path]:
        """Write every stage of each method into a folder below ``folder``, called like the method."""
        return [path for name, method in self.methods.items() for path in method.explain(Path(folder) / name, target)]
