"""Files that mean harm: each look at them ends soon, in little memory, with facts or an error of ours.

The fuzzer's own judgement (``tools/fuzzing``) on its corpus, on some mutations of it, and on files whose parts are shared; then what no
mutation of bytes is: pipes, odd names, files that change while they are read.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import torch2circle
from cases import CASES
from fuzz import NAMES, inputs
from fuzzing import targets
from fuzzing.bombs import BOMBS, CUSTOM, X, packed
from fuzzing.mutation import mutate, sites
from test_cli import Run, run  # noqa: F401  # a fixture
from test_format import convolution, quantized_convolution
from torch2circle.difference import MOST_BITS, common, diff
from torch2circle.errors import Bug, FormatError, UserError
from torch2circle.format import read, reader, save, survey, to_bytes
from torch2circle.implant.graft import well_formed
from torch2circle.ir import Finding, Where
from torch2circle.junit import junit
from torch2circle.show import WIDEST, columns, labelled
from torch2circle.text import LONGEST, lines, one_line, shown
from torch2circle.verify import Comparison, compare_files
from torch2circle.verify.junit import case

CORPUS = Path(__file__).parent / "corpus"
FILES = inputs(CORPUS)
LOOKS = [name for name in NAMES if name != "verify"]
"""What needs no runtime."""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(targets, "PARTNER", FILES[0])
    return tmp_path


def test_the_targets_are_the_fuzzers() -> None:
    assert set(NAMES) == set(targets.TARGETS)


@pytest.mark.parametrize("target", LOOKS)
def test_the_corpus(target: str, scratch: Path) -> None:
    """Also all that fuzzing ever found (``found.*``)."""
    for path in sorted(CORPUS.iterdir()):
        found = targets.tried(target, path.read_bytes(), scratch, traced=True)
        assert found is None, f"{path.name}: {found.text}"


@pytest.mark.parametrize("target", LOOKS)
def test_mutations(target: str, scratch: Path) -> None:
    @settings(max_examples=100)
    @given(st.integers(0, 2**32))
    def hold(seed: int) -> None:
        rng = random.Random(seed)
        found = targets.tried(target, mutate(rng.choice(FILES), rng, others=FILES), scratch)
        assert found is None, found.text

    hold()


def test_the_tool_counts_what_it_did(tmp_path: Path) -> None:
    command = ["tools/fuzz.py", "--runs", "40", "--target", "survey", "--target", "dot", "--work", str(tmp_path)]
    done = subprocess.run([sys.executable, *command], cwd=CORPUS.parents[1], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [["survey", "40", "executions,"], ["dot", "40", "executions,"]]
    rows = [json.loads(line) for line in (tmp_path / "tally.jsonl").read_text().splitlines()]
    assert [(row["target"], row["executions"], row["findings"]) for row in rows] == [("survey", 40, {}), ("dot", 40, {})]


def test_a_mutation_depends_on_its_seed_alone() -> None:
    made = [[mutate(data, random.Random(f"{seed}"), others=FILES) for seed, data in enumerate(FILES)] for _ in range(2)]
    assert made[0] == made[1]
    assert sum(a != b for a, b in zip(made[0], FILES, strict=True)) > 0.9 * len(FILES)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_no_more_than_their_size_allows(name: str, scratch: Path) -> None:
    """What is quadratic in 4,000 references takes over the allowed megabytes, or seconds."""
    data = BOMBS[name](300 if name.startswith("signatures of") else 1000 if name.startswith(("chain", "inputs")) else 4000)
    for target in ("survey", "dot"):
        found = targets.tried(target, data, scratch, traced=True)
        assert found is None, found.text


@pytest.mark.parametrize("name", ["a long name read by many", "many axes read by many", "tensors of one buffer", "inputs and tensors"])
def test_bombs_in_all_commands(name: str, scratch: Path) -> None:
    for target in ("check", "inspect", "diff", "rewrap"):
        found = targets.tried(target, BOMBS[name](2000), scratch, traced=True)
        assert found is None, found.text


def test_the_judge_sees_what_is_wrong(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or no test above could fail."""

    def bad(how: Callable[[], object]) -> str:
        monkeypatch.setitem(targets.TARGETS, "bad", lambda data, scratch: how() and None)
        found = targets.tried("bad", b"", scratch, traced=True)
        return "" if found is None else found.key

    def fail(error: Exception) -> Callable[[], object]:
        def raised() -> object:
            raise error

        return raised

    def loop() -> object:
        while True:
            pass

    monkeypatch.setattr(targets, "SECONDS", 0.05)
    assert bad(fail(KeyError("x"))).startswith("KeyError targets.py:")
    assert bad(fail(Bug("ours"))).startswith("Bug ")
    assert bad(fail(FormatError("damaged"))) == ""
    assert bad(lambda: bytearray(targets.allowed(0) + targets.MIB)) == "memory"
    assert bad(loop).startswith("Hang ")


# -- bounds


def test_tables_that_are_shared_are_counted() -> None:
    for name in ("tensors", "operators", "buffers", "signatures", "subgraphs of subgraphs"):
        for look in (survey, read):
            with pytest.raises(FormatError, match="too many references"):
                look(BOMBS[name](4000))


def test_a_file_may_have_many_honest_tables() -> None:
    """2,000 operators, each of its own tensors, as an unrolled network has."""
    data = BOMBS["chain"](2000)
    assert len(survey(data).subgraphs[0].operators) == 2000
    assert len(read(data).graph.nodes()) == 2000


def test_there_are_no_more_tables_than_fit_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch2circle.format.walker.MOST_ENTRIES", 100)
    for look in (survey, read):
        with pytest.raises(FormatError, match="over 100 tables, which its size does not make likely"):
            look(BOMBS["chain"](60))


def test_constants_may_be_equal_but_not_overlap() -> None:
    """The first vector begins among the elements of the second, one of which is its length."""
    whole = packed(buffers=[{}, {"data": b""}, {"data": (996).to_bytes(4, "little") * 300}])
    at, (first, *_) = survey(whole).blobs[2].position, sites(whole)["reference [ubyte]"]

    def leading_to(place: int) -> bytes:
        return whole[: first.at] + (place - first.at).to_bytes(4, "little") + whole[first.at + 4 :]

    for look in (survey, read):
        look(leading_to(at - 4))
        with pytest.raises(FormatError, match="constants overlap"):
            look(leading_to(at + 4))


@pytest.mark.parametrize(
    ("shape", "said"), [([0] + [2**31 - 1] * 3, "impossible shape"), ([1] * 33, "33 dimensions"), ([2**31 - 1] * 9, "impossible")]
)
def test_sizes_that_no_array_has(shape: list[int], said: str) -> None:
    data = packed(tensors=[{**X, "shape": shape}, X])
    with pytest.raises(FormatError, match=said):
        read(data)
    if len(shape) <= 32:
        (subgraph,) = survey(data).subgraphs
        assert subgraph.tensors[0].type is None
        assert subgraph.value(0) is None


def test_sequences_too_long_to_compare_have_their_beginning_in_common() -> None:
    count = int(MOST_BITS**0.5) + 1
    a, b = ["a"] * count, ["a"] * (count - 7) + ["b"] * 7
    assert common(a, b) == [(i, i) for i in range(count - 7)]
    assert common(["a", "b"], ["b"]) == [(1, 0)]


def test_a_file_is_equal_to_itself_whatever_it_shares() -> None:
    data = BOMBS["tensors of one buffer"](50)
    assert not diff(data, data)


def test_what_trips_over_a_file_is_the_files_error() -> None:
    for error in (IndexError("list index out of range"), AssertionError("x"), Bug("not in the operator table: X")):
        with pytest.raises(FormatError, match=r"operators of m\.circle do not fit together, or are not"), well_formed("m.circle"):
            raise error
    with pytest.raises(UserError, match="as it was"), well_formed("m.circle"):
        raise UserError("as it was")


# -- what stands under a name


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.circle")
    said: list[str] = []

    def look() -> None:
        with pytest.raises(FormatError) as raised:
            survey(tmp_path / "pipe.circle")
        said.append(raised.value.message)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(60)
    assert said == [f"cannot read {tmp_path / 'pipe.circle'}: it is no regular file"]


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    nowhere = {tmp_path / "a": "Too many levels", tmp_path: "directory", "/dev/zero": "regular", "a\0b": "null", "": "No such"}
    for path, said in nowhere.items():
        for look in (survey, read):
            with pytest.raises(FormatError, match=said):
                look(path)


def test_a_file_that_is_cut_off_after_it_was_read(tmp_path: Path) -> None:
    """A mapped file would end the process; up to ``COPIED`` bytes it is a copy."""
    path = tmp_path / "model.tflite"
    save(convolution(), path, identifier="TFL3")
    assert path.stat().st_size < reader.COPIED
    contents, whole = read(path), survey(path)
    os.truncate(path, 0)
    values = {value.name: value for value in contents.graph.values()}
    wanted = {value.name: value for value in convolution().values()}
    np.testing.assert_array_equal(values["weight"].array(), wanted["weight"].array())
    found = whole.subgraphs[0].value(1)
    assert found is not None
    np.testing.assert_array_equal(found.array(), wanted["weight"].array())


def test_a_large_file_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "COPIED", 10)
    path = tmp_path / "model.tflite"
    save(convolution(), path, identifier="TFL3")
    assert str(read(path).graph) == str(convolution())


# -- what a name may do


NAME = "\x1b[31m[red]a\n\x9b1m\u202eb\x07<script>\u00a0é日"
SAFE = "\\x1b[31m[red]a\\n\\x9b1m\\u202eb\\x07<script>\\xa0é日"


def test_one_line() -> None:
    assert one_line(NAME) == SAFE
    assert one_line(SAFE) == SAFE
    assert one_line("\udcff") == "\\udcff"
    assert lines("a\n\x1b") == "a\n\\x1b"
    assert shown("n" * LONGEST) == "n" * LONGEST
    assert shown("n" * (LONGEST + 1)) == "n" * (LONGEST - 1) + "…"
    assert str(Finding("error", "x", NAME, NAME)) == f"error[x] {SAFE}: {SAFE}"


def test_tables_are_not_filled_up_for_one_wide_cell() -> None:
    rows = [("a", "b"), ("x" * 10_000, "y"), *[("x", "y")] * 100]
    assert len(columns(rows, None)) < 10_000 + 102 * (WIDEST + 10)
    assert columns([("a",), (NAME,)], None) == f"a\n{SAFE}"
    assert labelled("file", NAME, None) == f"  file         {SAFE}"


def hostile_file(folder: Path, name: str = "model.tflite") -> Path:
    """Every name in it is ``NAME``."""
    signature = {"signature_key": NAME, "subgraph_index": 0, "inputs": [{"name": NAME, "tensor_index": 0}],
                 "outputs": [{"name": NAME, "tensor_index": 1}]}  # fmt: skip
    operators = [{"opcode_index": 0, "inputs": [0], "outputs": [2]}, {"opcode_index": 1, "inputs": [2], "outputs": [1]}]
    codes = [{"builtin_code": "RELU", "deprecated_builtin_code": 19}, {**CUSTOM, "custom_code": NAME}]
    more = {"operator_codes": codes, "description": NAME, "metadata": [{"name": NAME, "buffer": 1}], "signature_defs": [signature]}
    tensors = [{**X, "name": NAME}] * 3
    path = folder / name
    path.write_bytes(packed(tensors=tensors, operators=operators, name=NAME, buffers=[{}, {"data": NAME.encode()}], more=more))
    return path


FILE_NAMES = {"plain": "model.tflite", "escape": "x\n\x1b[31m.tflite", "undecodable": os.fsdecode(b"\xff\xfe.tflite")}


@pytest.mark.parametrize("file", FILE_NAMES.values(), ids=list(FILE_NAMES))
def test_no_name_reaches_the_terminal_as_it_is(file: str, run: Run, tmp_path: Path) -> None:  # noqa: F811
    path = str(hostile_file(tmp_path, file))
    other = tmp_path / "other.tflite"
    save(quantized_convolution(), other, identifier="TFL3")
    for args in (
        ["inspect", path, "--operators", "--tensors"], ["inspect", path, "--dot"], ["inspect", path, "--json"], ["check", path, "--all"],
        ["check", path, "--target", "onert", "--json"], ["diff", path, str(other)], ["diff", str(other), path, "--json"],
        ["convert", path, str(tmp_path / "made.circle")], ["convert", path, str(tmp_path / "made.tflite"), "--keep"],
        ["convert", path, str(tmp_path / "made.tflite"), "--method", "\x1b"], ["verify", path, str(other)],
        ["implant", path, str(tmp_path / "absent.json"), str(tmp_path / "made.circle")],
    ):  # fmt: skip
        code, out, err = run(*args)
        assert code != 70, err
        assert (out + err).replace("\n", "").isprintable(), args
        if "--json" in args:
            json.loads(out)
    assert "[red]a\\n" in run("inspect", path)[1]


def test_names_in_junit() -> None:
    c = Comparison(NAME, "RELU", Where(module=NAME, file=NAME, line=1), 4, 2, 3.0, 10.0)
    root = ET.fromstring(junit({f"{NAME}\udcff: operators": [case(c, [NAME])]}))
    assert root[0].get("name") == "�[31m[red]a\n\x9b1m\u202eb�<script>\u00a0é日�: operators"
    assert [element.tag for element in root.iter()] == ["testsuites", "testsuite", "testcase", "failure", "system-out"]


# -- runtimes


@pytest.mark.parametrize("target", ["onert", "litert"])
def test_a_models_file_that_was_tampered_with(target: str, tmp_path: Path) -> None:
    """Another model's file, a damaged one, one that its runtime refuses: a report or an error of ours."""
    pytest.importorskip({"onert": "onert", "litert": "ai_edge_litert"}[target], reason="the runtime is not installed")
    model, args = next(case for case in CASES if case.id == "conv").make()
    exported = torch2circle.export(model, args)
    path = tmp_path / f"model.{'circle' if target == 'onert' else 'tflite'}"
    exported.save(path)
    whole, reports, codes = path.read_bytes(), 0, set()
    for seed in range(25):
        path.write_bytes(mutate(whole, random.Random(seed)))
        try:
            reports += bool(exported.verify(target, path, timeout=20))
        except UserError as error:
            codes.add(error.exit_code)
    assert reports
    assert {12} <= codes <= {8, 10, 12}


def test_inputs_of_a_size_that_only_the_file_claims(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    path = tmp_path / "huge.tflite"
    path.write_bytes(packed(tensors=[{**X, "shape": [2**31 - 1, 64]}, {**X, "shape": [2**31 - 1, 64], "name": "y"}]))
    with pytest.raises(UserError, match="random inputs would take 549,755,813,632 bytes"):
        compare_files(path, path)


@pytest.mark.parametrize(("suffix", "identifier"), [("circle", "CIR0"), ("tflite", "TFL3")])
def test_runtimes_that_a_file_kills_are_told(suffix: str, identifier: str, tmp_path: Path) -> None:
    """Each mutation gives numbers or an error of ours, whatever becomes of the process that runs it."""
    pytest.importorskip({"circle": "onert", "tflite": "ai_edge_litert"}[suffix], reason="the runtime is not installed")
    whole = to_bytes(quantized_convolution(), identifier=identifier)
    path = tmp_path / f"model.{suffix}"
    done = 0
    for seed in range(60):
        path.write_bytes(mutate(whole, random.Random(seed)))
        try:
            compare_files(path, path, timeout=20)
        except UserError:
            continue
        done += 1
    assert done
