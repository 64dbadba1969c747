"""``inspect``, and what the commands on files say of bad ones."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tables import changed, main, tensor
from test_cli import Run, run  # noqa: F401  # a fixture
from test_format import CONTRADICTIONS, F32, convolution, graph_of, packed, quantized_convolution
from torch2circle.checks import check
from torch2circle.difference import diff
from torch2circle.dot import dot
from torch2circle.errors import FormatError
from torch2circle.format import read, save, survey, to_bytes
from torch2circle.format.facts import ENUMS
from torch2circle.ir import Node, Type, Value
from torch2circle.overview import RUNTIMES, each_operator, operator_rows, overview, tensor_rows
from torch2circle.targets.base import measured

COMMANDS = [["inspect"], ["inspect", "--json"], ["inspect", "--dot"], ["check"], ["check", "--target", "onert"], ["view", "--no-browser"]]


# -- surveys


@pytest.mark.parametrize("identifier", ["CIR0", "TFL3"])
@pytest.mark.parametrize("graph", [convolution(), quantized_convolution()], ids=["float", "int8"])
def test_a_survey_has_what_the_reader_has(graph: Any, identifier: str) -> None:
    data = to_bytes(graph, identifier=identifier, metadata={"about": b"{}"})
    whole, contents = survey(data), read(data)
    (subgraph,) = whole.subgraphs
    values = {value.name: value for value in contents.graph.values()}
    assert [t.type for t in subgraph.tensors] == [values[t.name].type for t in subgraph.tensors]
    for found, wanted in zip(subgraph.operators, contents.graph.nodes(), strict=True):
        assert (found.op, dict(found.options)) == (wanted.op, wanted.attrs)
        node = subgraph.node(found)
        assert node is not None
        for a, b in zip(node.inputs, wanted.inputs, strict=True):
            assert a is not None
            assert b is not None
            assert (a.type, a.name, a.data is None) == (b.type, b.name, b.data is None)
            if a.data is not None:
                np.testing.assert_array_equal(a.array(), b.array())
    assert (whole.identifier, whole.description, list(whole.metadata)) == (identifier, "torch2circle", ["about"])


def test_a_survey_shows_what_the_reader_refuses() -> None:
    """All but what cannot be decoded."""
    for name, data in CONTRADICTIONS.items():
        with pytest.raises(FormatError):
            read(data)
        if name in ("no subgraph", "neither a Circle nor", "the file is empty", "there is no operator code 3"):
            with pytest.raises(FormatError):
                survey(data)
        else:
            overview(survey(data))
            dot(survey(data))


def test_numbers_that_the_schema_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in files of newer schemas: UINT4 is 20 in LiteRT's."""
    monkeypatch.setitem(ENUMS["TensorType"], "UINT4", 20)
    data = changed(to_bytes(convolution(), identifier="TFL3"), lambda m: tensor(m, "y").update(type="UINT4"))
    assert str(survey(data).subgraphs[0].tensors[3]) == "tensortype 20[1,2,2,3]"
    assert [f.message for f in check(data) if f.code == "unknown-type"] == ["not checked: CONV_2D on tensortype 20"]
    unknown = packed([{"inputs": [0], "outputs": [1]}], [{"deprecated_builtin_code": -77}])
    (operator,) = survey(unknown).subgraphs[0].operators
    assert operator.op == "BuiltinOperator -77"
    assert operator_rows(survey(unknown).subgraphs[0]) == [("BuiltinOperator -77", "1", "", "1", "unknown", "unknown")]


# -- what is shown


def test_the_facts_of_operators_and_tensors() -> None:
    (subgraph,) = survey(to_bytes(quantized_convolution(), identifier="TFL3")).subgraphs
    verdicts = [measured(runtime)["CONV_2D"]["i8/i8pc"] for runtime in RUNTIMES]
    assert operator_rows(subgraph) == [("CONV_2D", "3", "i8/i8pc", "1", *verdicts)]
    assert list(each_operator(subgraph)) == [("0", "CONV_2D", "padding=VALID stride_h=1 stride_w=1", "x, weight, bias", "y")]
    rows = {row[-1]: row for row in tensor_rows(subgraph)}
    assert rows["x"] == ("0", "int8[1,4,4,2] q(0.5, -3)", "32", "input", "0", "x")
    assert rows["weight"][1:5] == ("int8[3,1,1,2] q(axis=0 n=3 0.1..0.3, 0)", "6", "constant", "0")
    assert rows["y"][3:5] == ("operator 0", "")


def test_the_text(run: Run, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "model.circle"
    save(quantized_convolution(), path, identifier="CIR0", metadata={"about": b"{}", "binary": b"\xff\xfe"})
    code, out, err = run("inspect", str(path))
    assert (code, err) == (0, "")
    assert "identifier   CIR0" in out
    assert "metadata     binary: <2 bytes>" in out
    assert "check        nothing wrong was found" in out
    assert "signature    serving_default" in out
    assert "input        in_x int8[1,4,4,2] q(0.5, -3)" in out
    assert "operators    1: 1 CONV_2D" in out
    assert re.search(r"^CONV_2D +3  i8/i8pc +1  ", out, re.MULTILINE)
    assert "largest constants" in out
    assert "made by" not in out
    assert "made by" in run("inspect", str(path), "--tensors")[1]
    assert "x, weight, bias" in run("inspect", str(path), "--operators")[1]


def test_the_json_is_whole_and_strict(run: Run, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "model.tflite"
    data = changed(to_bytes(quantized_convolution(), identifier="TFL3"), lambda m: tensor(m, "x")["quantization"].update(scale=[np.nan]))
    path.write_bytes(data)
    code, out, _ = run("inspect", str(path), "--json")
    assert code == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    facts = json.loads(out, parse_constant=refuse)  # NaN is no JSON
    assert facts["inputs"] == {"in_x": "int8[1,4,4,2] q(nan, -3)"}
    assert facts["check"]["error"] > 0
    (subgraph,) = facts["subgraphs"]
    assert [t["name"] for t in subgraph["tensors"]] == ["x", "weight", "bias", "y"]
    assert subgraph["tensors"][0]["quantization"] == {"scale": ["nan"], "zero_point": [-3], "dimension": 0, "details": None}
    assert subgraph["tensors"][1]["read_by"] == [0]
    assert subgraph["operators"][0]["options"]["padding"] == "VALID"
    assert facts["signatures"] == [{"key": "serving_default", "subgraph": 0, "inputs": {"in_x": 0}, "outputs": {"out_y": 3}}]


def test_several_methods(run: Run, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "model.tflite"
    save({"encode": convolution(), "decode": quantized_convolution()}, path, identifier="TFL3")
    _, out, _ = run("inspect", str(path))
    assert [line for line in out.splitlines() if line in ("encode", "decode")] == ["encode", "decode"]
    facts = json.loads(run("inspect", str(path), "--json")[1])
    assert list(facts["methods"]) == ["encode", "decode"]
    assert facts["methods"]["decode"]["operators"] == {"CONV_2D": 1}


def test_names_cannot_break_the_drawing() -> None:
    """Quotes, backslashes and line breaks stay within their label: each line is a statement, each string whole."""
    x = Value(Type((2,), F32), 'a"];\n b -> "c\\')
    graph = graph_of(Node.make("RELU", [x], [Value(x.type, "y\\")]), x)
    text = dot(survey(to_bytes({"one": graph, "two": graph}, identifier="TFL3")))
    string = r'"(?:[^"\\\n]|\\.)*"'
    attributes = rf"\[(?:\w+=(?:\w+|{string})(?:, )?)+\]"
    line = re.compile(
        rf"\s*(?:digraph model \{{|\}}|subgraph cluster_\d+ \{{|label={string};|(?:node|edge) {attributes};"
        rf"|\w+(?: -> \w+)? {attributes};|\w+ -> \w+;)"
    )
    assert [row for row in text.splitlines() if not line.fullmatch(row)] == []
    assert text.count("->") - text.count("b ->") == 4
    assert text.count("{") == text.count("}") == 3


# -- bad files


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_bad_files_are_clear_errors(command: list[str], run: Run, tmp_path: Path) -> None:  # noqa: F811
    whole = to_bytes(quantized_convolution(), identifier="CIR0", metadata={"m": b"123"})
    (tmp_path / "empty.circle").touch()
    (tmp_path / "random.circle").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "named.circle").write_bytes(whole[:8] + np.random.default_rng(1).bytes(5000))
    with open(tmp_path / "huge.circle", "wb") as file:
        file.truncate(2 << 30)
    for length in (7, 8, 50, len(whole) // 2):
        (tmp_path / f"cut{length}.circle").write_bytes(whole[:length])
    for path in (*sorted(tmp_path.iterdir()), tmp_path / "absent.circle", tmp_path):
        code, out, err = run(command[0], str(path), *command[1:])
        assert (code, out) == (12, ""), path.name
        assert err.startswith("error: cannot read ")
        assert "Traceback" not in err


def test_bad_files_in_commands_on_two(run: Run, tmp_path: Path) -> None:  # noqa: F811
    good, bad = str(tmp_path / "good.tflite"), str(tmp_path / "bad.tflite")
    save(convolution(), good, identifier="TFL3")
    Path(bad).write_bytes(b"TFL3" * 9)
    for args, code, said in (
        (["diff", good, bad], 12, "cannot read"),
        (["diff", bad, good], 12, "cannot read"),
        (["convert", bad, str(tmp_path / "out.circle")], 12, "cannot read"),
        (["convert", bad, str(tmp_path / "out.circle"), "--keep"], 12, "cannot read"),
        (["convert", good, str(tmp_path / "out.onnx")], 8, "does not tell a format"),
        (["convert", good, str(tmp_path / "no" / "out.circle")], 9, "create the folder first"),
        (["convert", good, str(tmp_path / "no" / "out.circle"), "--keep"], 9, "create the folder first"),
        (["convert", good, str(tmp_path / "out.circle"), "--keep", "--method", "a"], 2, "--keep writes the whole file"),
        (["convert", good, str(tmp_path / "out.circle"), "--method", "a"], 12, "the file has no method a"),
    ):
        got, _, err = run(*args)
        assert (got, said in err, "Traceback" in err) == (code, True, False), (args, err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tflite", "good.tflite"]


def test_a_file_that_may_not_be_read(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The superuser, whom tests in containers run as, may read everything: the refusal is made up."""
    path = tmp_path / "secret.circle"
    save(convolution(), path, identifier="CIR0")

    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("torch2circle.format.reader.open", refused, raising=False)
    for command in COMMANDS:
        code, _, err = run(command[0], str(path), *command[1:])
        assert (code, err) == (12, f"error: cannot read {path}: Permission denied\n")


def test_exit_codes_of_check_and_diff(run: Run, tmp_path: Path) -> None:  # noqa: F811
    whole, broken, other = (tmp_path / f"{name}.circle" for name in ("whole", "broken", "other"))
    save(convolution(), whole, identifier="CIR0")
    broken.write_bytes(changed(whole.read_bytes(), lambda m: main(m)["operators"][0].update(inputs=[0, 1, 9])))
    save(graph_of(Node.make("HARD_SWISH", [x := Value(Type((2,), F32), "x")], [Value(x.type, "y")]), x), other, identifier="CIR0")
    assert run("check", str(whole))[:2] == (0, f"{whole}: 0 errors, 0 warnings, 0 notes\n")
    assert run("check", str(broken))[0] == 12
    assert run("check", str(other))[0] == 0
    assert run("check", str(other), "--target", "onert")[0] == 8
    found = json.loads(run("check", str(broken), "--json")[1])["findings"]
    assert {"severity": "error", "code": "index", "path": "operator 0 CONV_2D: tensor 9", "message": found[0]["message"]} == found[0]
    assert run("diff", str(whole), str(whole))[0] == 0
    assert run("diff", str(whole), str(broken))[0] == 1
    assert json.loads(run("diff", str(whole), str(other), "--json")[1])["different"] is True
    assert run("diff", str(whole), str(broken), "--ignore", "topology", "--ignore", "types", "--ignore", "weights")[0] == 0


def test_only_the_first_findings_of_a_code_are_printed(run: Run, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "model.circle"
    path.write_bytes(
        changed(
            to_bytes(convolution(), identifier="CIR0"),
            lambda m: main(m)["tensors"].extend([{"name": f"t{i}", "shape": [1]} for i in range(9)]),
        )
    )
    _, out, _ = run("check", str(path))
    assert out.count("note[unused-tensor]") == 6
    assert "note[unused-tensor] ... and 4 more (--all lists them)" in out
    assert run("check", str(path), "--all")[1].count("note[unused-tensor]") == 9


def looked_at(data: bytes) -> None:
    """Whatever the bytes are, every look at them ends with facts or with a FormatError."""
    try:
        whole = survey(data)
    except FormatError:
        return
    json.dumps(overview(whole), allow_nan=False)
    for target in (None, "onert", "litert", "one"):
        for finding in check(whole, target):
            str(finding)
    dot(whole)
    for subgraph in whole.subgraphs:
        for rows in (operator_rows(subgraph), each_operator(subgraph), tensor_rows(subgraph)):
            list(rows)
    str(diff(data, WHOLE))
    str(diff(WHOLE, data))


WHOLE = to_bytes(quantized_convolution(), identifier="TFL3", metadata={"m": b"123"})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"CIR0", b"TFL3"]), st.integers(8, 200))
@example(b"", b"CIR0", 8)
def test_random_bytes(data: bytes, identifier: bytes, root: int) -> None:
    looked_at(data)
    looked_at(root.to_bytes(4, "little") + identifier + data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_files(places: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, byte in places:
        data[at] = byte
    looked_at(bytes(data))


@pytest.mark.parametrize("identifier", ["CIR0", "TFL3"])
def test_every_truncation(identifier: str) -> None:
    data = to_bytes(quantized_convolution(), identifier=identifier, metadata={"m": b"123"})
    for length in range(len(data)):
        with pytest.raises(FormatError):
            survey(data[:length])
