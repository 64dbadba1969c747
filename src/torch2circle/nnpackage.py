"""ONE's nnpackage: a model, a MANIFEST that names it, and a test case, as ``onert_run`` and ``nnpkg-test`` take it.

    NAME/NAME.circle
    NAME/metadata/MANIFEST
    NAME/metadata/tc/input.h5       what the model was recorded on
    NAME/metadata/tc/expected.h5    what it must compute of that

The HDF5 files have a dataset for each input or output in the group ``value``, called by its position, in the file's own order of
dimensions, and in the group ``name`` an attribute of the same name with that of the tensor (Samsung/ONE: ``nnpackage/spec``,
``onert_run``'s ``h5formatter.cc``, ``gen_golden.py``).
"""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import runtimes
from .errors import FormatError, MissingRuntime, TargetError, UserError
from .format import archive, whole_file, whole_folder
from .format import save as save_model
from .ir import Array
from .targets.base import Target
from .verify import outputs_of, recorded

if TYPE_CHECKING:
    from .pipeline import ExportedModel

MANIFEST_VERSION = {"major-version": "1", "minor-version": "2", "patch-version": "0"}
EXPECTED = ("torch", "onert")
TOLERANCE = 0.001
"""What ``nnpkg-test`` passes to h5diff: the largest difference that is none."""
# Element type -> how it is stored. onert_run reads float32 in either order of bytes and writes the big endian one, and takes bool as uint8.
STORED = {"float32": ">f4", "bool": "u1", "uint8": "u1", "int8": "i1", "int16": "<i2", "int32": "<i4", "int64": "<i8"}


@dataclass(frozen=True)
class Package:
    """A package that was written: ``path``, its ``name``, the ``size`` of the model file in bytes.

    ``custom_ops``: the custom operators of the model, whose kernels the application puts into the folder ``custom_op``.
    """

    path: Path
    name: str
    size: int
    custom_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A test case run in onert: elements of the outputs, those that are off by more than ``TOLERANCE``, and the largest difference."""

    size: int
    off: int
    largest: float

    @property
    def passed(self) -> bool:
        """Whether ``nnpkg-test`` says Pass."""
        return not self.off


def save(exported: ExportedModel, path: str | os.PathLike[str], target: Target, metadata: Mapping[str, bytes], expected: str) -> Package:
    """Write a package; see ``ExportedModel.save_nnpackage``."""
    must_have(target, expected)
    to = Path(path)
    name = package_name(to)
    if exported.twin is not None:
        hint = "export without dynamic_batch, and with dynamic_shapes={} (--static-shapes)"
        raise UserError("the test case of an nnpackage is of one size", hint=hint)
    graph = exported.for_target(target)
    inputs = [recorded(exported.recording, value) for value in graph.inputs]

    def fill(folder: Path) -> int:
        model = folder / f"{name}{target.suffix}"
        size = save_model(graph, model, identifier=target.identifier, metadata=metadata)
        outputs = outputs_of(exported, graph) if expected == "torch" else runtimes.run(expected, model, [inputs]).outputs[0]
        manifest = {**MANIFEST_VERSION, "configs": [], "models": [model.name], "model-types": [target.suffix[1:]]}
        case = folder / "metadata" / "tc"
        case.mkdir(parents=True)
        (case.parent / "MANIFEST").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        _write(case / "input.h5", graph.input_names, inputs)
        _write(case / "expected.h5", graph.output_names, outputs)
        return size

    if is_archive(to):
        with tempfile.TemporaryDirectory(prefix="torch2circle-") as scratch, whole_file(to) as sink:
            size = fill(Path(scratch))
            archive(Path(scratch), sink, name)
    else:
        with whole_folder(to) as part:
            size = fill(part)
    codes = dict.fromkeys(node.attrs["custom_code"] for node in graph.nodes() if node.op == "CUSTOM")
    return Package(to, name, size, tuple(codes))


def is_archive(path: Path) -> bool:
    """Whether ``path`` names an archive: one that ends in .zip, as any other names a folder."""
    return path.suffix.lower() == ".zip"


def package_name(path: Path) -> str:
    """What a package at ``path`` is called, and its model file.

    Raises:
        UserError: ONE's scripts would take the name apart.
    """
    whole = path.resolve()
    name = whole.stem if is_archive(whole) else whole.name
    if not re.fullmatch(r"[\w+][\w.+-]*", name):
        hint = "use letters, digits and _ + - . as ONE's scripts do not quote names"
        raise UserError(f"not a name for an nnpackage: {name or whole}", hint=hint)
    return name


def must_have(target: Target, expected: str) -> None:
    """Refuse a ``target`` without packages, and a test case that cannot be made here.

    Raises:
        TargetError: the target writes no Circle file.
        MissingRuntime: h5py is not installed, or ``expected`` names a runtime that is not, or that the target does not have.
        ValueError: ``expected`` is none of ``EXPECTED``.
    """
    if expected not in EXPECTED:
        raise ValueError(f"expected must be one of {EXPECTED}: {expected!r}")
    if target.suffix != ".circle":
        hint = "choose target onert or one: what onert makes of .tflite files was not measured"
        raise TargetError(f"an nnpackage is not written for target {target.name}", hint=hint)
    _h5py()
    if expected != "torch" and (target.runtime != expected or not runtimes.available(expected)):
        why = "is not installed" if target.runtime == expected else f"does not run what is written for target {target.name}"
        hint = 'let the test case expect what PyTorch computed: expected="torch" (--expected torch)'
        raise MissingRuntime(f"{expected} {why}", hint=hint)


def check(path: str | os.PathLike[str]) -> Outcome:
    """Run the test case of a package, a folder or an archive, in onert, and compare as ``nnpkg-test`` does.

    Raises:
        MissingRuntime: onert or h5py is not installed.
        FormatError: the package is none, or its test case does not fit the model.
        TargetError: onert cannot run the package.
    """
    path = Path(path)
    if is_archive(path) and path.is_file():
        with tempfile.TemporaryDirectory(prefix="torch2circle-") as scratch:
            return _check(_unpacked(path, Path(scratch)))
    return _check(path)


def _unpacked(path: Path, scratch: Path) -> Path:
    try:
        with zipfile.ZipFile(path) as packed:
            packed.extractall(scratch)
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"cannot read {path}: {error}") from error
    roots = [child for child in scratch.iterdir() if child.is_dir()]
    return roots[0] if len(roots) == 1 else scratch


def _check(folder: Path) -> Outcome:
    inputs, wanted = (_read(folder / "metadata" / "tc" / f"{file}.h5") for file in ("input", "expected"))
    made = runtimes.run("onert", folder, [inputs]).outputs[0]
    if [array.shape for array in made] != [array.shape for array in wanted]:
        shapes = (", ".join(str(list(array.shape)) for array in arrays) for arrays in (wanted, made))
        raise FormatError("{}: expected.h5 has outputs of the shapes {}, the model makes {}".format(folder, *shapes))
    size, off, largest = 0, 0, 0.0
    for got, want in zip(made, wanted, strict=True):
        real, right = got.astype(np.float64), want.astype(np.float64)
        same = (real == right) | (np.isnan(real) & np.isnan(right))  # h5diff, too, takes one NaN for another
        difference = np.where(same, 0.0, np.abs(np.subtract(real, right, out=np.zeros(real.shape), where=~same)))
        difference = np.where(np.isnan(difference), np.inf, difference)
        size, off = size + want.size, off + int((difference > TOLERANCE).sum())
        largest = max(largest, float(difference.max(initial=0.0)))
    return Outcome(size, off, largest)


# -- HDF5


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        hint = 'pip install "torch2circle[nnpackage]"'
        raise MissingRuntime("h5py, which writes the test case of an nnpackage, is not installed", hint=hint) from error


def _write(path: Path, names: Sequence[str], arrays: Sequence[Array]) -> None:
    # "earliest" has neither times nor anything else that changes from run to run, and ONE's HDF5 of any age reads it
    with _h5py().File(path, "w", libver=("earliest", "v108")) as file:
        values, called = file.create_group("value"), file.create_group("name")
        for index, (name, array) in enumerate(zip(names, arrays, strict=True)):
            values.create_dataset(str(index), data=array, dtype=STORED[array.dtype.name], track_times=False)
            called.attrs[str(index)] = name


def _read(path: Path) -> list[Array]:
    try:
        with _h5py().File(path, "r") as file:
            values = file["value"]
            arrays = [values[str(index)][()] for index in range(len(values))]
    except (OSError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is no test case of an nnpackage: {error}") from error
    return [np.asarray(array).astype(np.asarray(array).dtype.newbyteorder("=")) for array in arrays]
