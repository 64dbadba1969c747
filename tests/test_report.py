"""The HTML report: its figures are those of the model and the runtimes, and its page works in a browser."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.ao import quantization as Q

import torch2circle
from torch2circle import cli, runtimes
from torch2circle.errors import MissingRuntime, TargetError, UserError, VerifyFailed, WriteError
from torch2circle.ir import DType, Finding, Graph, Node, Quant, Type, Value, Where
from torch2circle.pipeline import ExportedModel
from torch2circle.quant import array_of
from torch2circle.report import doctor, report_facts, write_report
from torch2circle.report.drawing import drawing
from torch2circle.report.layout import HEIGHT, LARGE, WIDTH, layout
from torch2circle.report.page import as_json, page
from torch2circle.report.ranges import clamp_of
from torch2circle.show import weight_bytes

pytestmark = [
    pytest.mark.skipif(not all(map(runtimes.available, ("onert", "litert"))), reason="a runtime is not installed"),
    pytest.mark.usefixtures("fresh_random_and_quiet"),
]

HOSTILE = "</script><script>window.taken=1</script><b onclick='window.taken=2'>"
DEAD = 2


class Net(nn.Module):
    """A dead channel, a float island on LiteRT, both kinds of ReLU, and a module whose name is an attack."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = Q.QuantStub(), Q.DeQuantStub()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.gate, self.product = nn.Hardsigmoid(), torch.ao.nn.quantized.FloatFunctional()
        self.add_module(HOSTILE.replace(".", "_"), nn.Conv2d(8, 4, 1))
        self.last = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.quant(x))
        x = self.product.mul(x, self.gate(x))
        made: Tensor = self.dequant(self.last(getattr(self, HOSTILE.replace(".", "_"))(x)))
        return made


def quantized() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, x = Net().eval(), torch.rand(1, 3, 10, 10) * 2 - 1
    first: Any = model.first
    first[0].weight.data[DEAD] = 0
    model.first = Q.fuse_modules(first, [["0", "1"]])
    model.qconfig = Q.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    Q.prepare(model, inplace=True)(x)
    return Q.convert(model, inplace=True), x * 1.5  # beyond what was calibrated, so that values are cut off


@pytest.fixture(scope="module")
def exported() -> ExportedModel:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = "fbgemm"
        model, x = quantized()
        return torch2circle.export(model, (x,))


@pytest.fixture(scope="module")
def facts(exported: ExportedModel) -> dict[str, Any]:
    return report_facts(exported, model="net")


# -- what it says


def test_each_runtime_verifies_once_and_the_report_says_what_it_found(exported: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}
    verify = ExportedModel.verify

    def counted(self: ExportedModel, target: str, path: Any = None) -> Any:
        assert target not in found
        found[target] = verify(self, target, path)
        return found[target]

    monkeypatch.setattr(ExportedModel, "verify", counted)
    facts = report_facts(exported)
    assert list(found) == ["onert", "litert"]
    for side in facts["targets"]:
        report = found[side["target"]]
        assert [n["name"] for n in side["nodes"] if n["compared"]] == [c.name for c in report.operators]
        assert [n["compared"]["lsb"] for n in side["nodes"] if n["compared"]] == [c.lsb for c in report.operators]
        assert [n["compared"]["equal"] for n in side["nodes"] if n["compared"]] == [c.share for c in report.operators]
        assert side["verified"]["equal"] == report.share
        assert side["bytes"] == len(exported.to_bytes(side["target"]))


def test_what_no_tensor_was_recorded_of_is_measured_behind_it(facts: dict[str, Any]) -> None:
    onert = facts["targets"][0]["nodes"]
    table = [i for i, node in enumerate(onert) if node["module"] == "gate"]  # RESHAPE, CAST, GATHER, RESHAPE: one table
    assert [onert[i]["grade"] for i in table[:-1]] == ["unmeasured"] * 3
    assert {onert[i]["measured_at"] for i in table} == {table[-1]}


def test_runtimes_stand_side_by_side_at_each_recorded_tensor(facts: dict[str, Any]) -> None:
    (gate,) = (row for row in facts["tensors"] if row["module"] == "gate")
    assert {target: at["op"] for target, at in gate["at"].items()} == {"onert": "RESHAPE", "litert": "QUANTIZE"}
    for side in facts["targets"]:
        for row in facts["tensors"]:
            if side["target"] in row["at"]:
                assert side["nodes"][row["at"][side["target"]]["node"]]["compared"] is not None


def test_an_operator_that_is_wrong_is_graded_so(exported: ExportedModel) -> None:
    (number,) = (node.out.origin.tensor for node in exported.graph.nodes() if node.op == "MUL" and node.out.origin)
    wrong = array_of(exported.recording.tensors[number]).copy()
    wrong.flat[0] = 100 if wrong.flat[0] < 50 else 0
    judged = replace(exported.judge(), corrected={number: wrong})
    side = report_facts(replace(exported, judge=lambda: judged), targets=["onert"])["targets"][0]
    assert [node["name"] for node in side["nodes"] if node["grade"] == "off"] == ["product"]
    assert side["verified"]["worst"] == "product"
    assert 'class="node off"' in drawing(side)


def test_a_source_line_is_told_with_its_text(facts: dict[str, Any]) -> None:
    (node,) = (node for node in facts["targets"][1]["nodes"] if node["op"] == "MUL" and node["module"] == "product")
    assert node["text"] == "x = self.product.mul(x, self.gate(x))"
    assert re.fullmatch(r".*test_report\.py:\d+", node["source"])


def test_ranges_are_those_of_the_recorded_tensors(exported: ExportedModel, facts: dict[str, Any]) -> None:
    for row in facts["ranges"]:
        tensor = exported.recording.tensors[row["tensor"]]
        real, q = tensor.dequantize(), array_of(tensor)
        info = np.iinfo(q.dtype)
        assert row["least"] == pytest.approx(float(real.min()))
        assert row["most"] == pytest.approx(float(real.max()))
        assert row["low"] == pytest.approx((info.min - tensor.q_zero_point()) * tensor.q_scale())
        assert row["used"] == (int(q.max()) - int(q.min())) / (info.max - info.min)
        assert (row["at_low"], row["at_high"]) == ((q == info.min).mean(), (q == info.max).mean())


def test_the_zeros_of_a_relu_are_not_saturated_and_inputs_beyond_the_range_are(facts: dict[str, Any]) -> None:
    rows = {row["module"]: row for row in facts["ranges"]}
    assert rows["first.0"]["at_low"] > 0.05
    assert rows["first.0"]["saturated"] == rows["first.0"]["at_high"]
    assert rows["quant"]["saturated"] == rows["quant"]["at_low"] + rows["quant"]["at_high"] > 0


def test_values_at_the_end_of_a_relu6_are_not_saturated() -> None:
    quant = Quant.per_tensor(6 / 255, 0)
    x = Value(Type((4,), DType.UINT8, quant), "x")
    six = Node.make("RELU6", (x,), (replace(x, name="six"),))
    moved = Node.make("RESHAPE", (six.out, None), (replace(x, name="moved"),))
    assert clamp_of(moved.out) == (0, 6)
    assert clamp_of(x) == (-np.inf, np.inf)


def test_a_dead_channel_is_found(facts: dict[str, Any]) -> None:
    first = facts["layers"][0]
    assert (first["module"], first["channels"], first["dead"], first["tiny"]) == ("first.0", 8, 1, 1)
    assert first["peaks"][DEAD] == 0
    assert [layer["dead"] for layer in facts["layers"][1:]] == [0]
    assert first["doubts"][0] == "channels without a weight but zero: 1 of 8"


def test_a_histogram_counts_each_integer(exported: ExportedModel, facts: dict[str, Any]) -> None:
    weights = {doctor.weight_of(node) for node in exported.graph.nodes()} - {None}
    for weight in weights:
        assert weight is not None
        (layer,) = (layer for layer in facts["layers"] if layer["name"] == weight.name)
        values, counts = np.unique(weight.array(), return_counts=True)
        bins = layer["histogram"]
        told = {int(bins["start"] + 0.5) + i: count for i, count in enumerate(bins["counts"]) if count}
        assert told == dict(zip(values.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("array", [np.array([0.0, 1.0, np.inf], np.float32), np.zeros((0, 2), np.int8), np.array([1.5], np.float16)])
def test_histograms_of_other_arrays(array: np.ndarray[Any, Any]) -> None:
    assert sum(doctor.histogram(array, DType.of(array))["counts"]) == np.isfinite(array).sum()


def test_a_sum_that_could_overflow_is_doubtful() -> None:
    def layer(bias: int) -> dict[str, Any]:
        data = Value(Type((1, 4), DType.UINT8, Quant.per_tensor(1, 128)), "x")
        weight = replace(Value(Type((1, 4), DType.INT8, Quant.per_tensor(1, 0)), "w"), data=_constant(np.full((1, 4), 127, np.int8)))
        added = replace(Value(Type((1,), DType.INT32, Quant.per_tensor(1, 0)), "b"), data=_constant(np.array([bias], np.int32)))
        node = Node.make("FULLY_CONNECTED", (data, weight, added), (Value(data.type.reshape((1, 1)), "y"),), where=Where(module="fc"))
        (found,) = doctor.layers(Graph((data,), (node.out,), ("x",), ("y",)), [Finding("note", "x", "fc", f"told ({node.where})")])
        return found

    products = 4 * 127 * 128  # the largest distance of an input from its zero point is 128
    assert layer(2**31 - 1 - products)["doubts"] == []
    assert layer(-(2**31 - products))["doubts"] == ["the sums could overflow int32 on other inputs"]
    assert [f["code"] for f in layer(0)["findings"]] == ["x"]


def _constant(array: np.ndarray[Any, Any]) -> Any:
    from torch2circle.ir import Constant

    return Constant.of(array)


def test_an_island_costs_what_it_converts_and_moves(facts: dict[str, Any]) -> None:
    onert, litert = facts["targets"]
    assert onert["islands"] == []
    (island,) = litert["islands"]
    elements = 8 * 8 * 8
    assert island["operators"] == ["ADD", "MUL"]
    assert island["modules"] == ["gate"]
    assert island["converted"] == 2 * elements
    assert island["bytes"] == (1 + 4) * elements + 2 * (4 + 4) * elements + (4 + 1) * elements
    assert [litert["nodes"][i]["island"] for i in island["nodes"]] == [True, True]


def test_sizes_add_up_to_the_constants(exported: ExportedModel, facts: dict[str, Any]) -> None:
    for side in facts["targets"]:
        total = sum(row["weight"] + row["bias"] + row["other"] for row in side["sizes"])
        assert total == sum(weight_bytes(exported.for_target(side["target"])).values())
        assert {row["module"]: row["weight"] for row in side["sizes"]}["first.0"] == 8 * 3 * 3 * 3


# -- what it does with all kinds of models


def test_a_float_model_has_no_quantized_sections() -> None:
    found = report_facts(torch2circle.export(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), (torch.rand(2, 4),)))
    assert found["ranges"] == []
    assert [layer["type"] for layer in found["layers"]] == ["float32"]
    assert "The model has no quantized activation." in page(found)


def test_a_model_without_weights_and_one_without_operators() -> None:
    for model in (nn.ReLU(), nn.Identity()):
        found = report_facts(torch2circle.export(model.eval(), (torch.rand(2, 4),)))
        assert "The model has no layer with constant weights." in page(found)


def test_a_model_of_any_size_says_with_which_it_was_compared() -> None:
    found = report_facts(torch2circle.export(nn.Linear(4, 3).eval(), (torch.rand(2, 4),), dynamic_batch=True))
    text = page(found)
    ((first, second),) = found["open_sizes"]
    assert f"A dimension of any size was {first}, and {second} in a second run." in text
    assert "float32[2?,4]" in text


def test_several_methods_are_refused() -> None:
    layer = nn.Linear(4, 3).eval()
    both = torch2circle.export_many({"one": (layer, (torch.rand(1, 4),)), "two": (layer, (torch.rand(2, 4),))})
    with pytest.raises(UserError, match="of one method, not of several: one, two"):
        report_facts(both)  # type: ignore[arg-type]
    assert report_facts(both["two"])["targets"][0]["verified"]["lsb"] <= 1


def test_a_custom_operator_is_not_verified_and_said_so() -> None:
    exported = torch2circle.export(nn.Sequential(nn.Linear(4, 4), nn.Softplus(), nn.ReLU()).eval(), (torch.rand(1, 4),),
                                   custom_ops=["aten::softplus"])  # fmt: skip
    found = report_facts(exported, targets=["litert"])
    (side,) = found["targets"]
    assert side["verified"]["unverified"] == ["aten::softplus"]
    assert side["verified"]["equal"] is None
    assert [node["grade"] for node in side["nodes"] if node["op"] == "CUSTOM"] == ["unmeasured"]
    assert "litert has no kernel for aten::softplus" in page(found)


def test_a_runtime_that_is_not_installed_is_said_in_the_page(exported: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "available", lambda runtime: runtime != "onert")
    onert, litert = report_facts(exported)["targets"]
    assert "runtime not installed: onert" in onert["message"]
    assert onert["verified"] is None
    assert {node["grade"] for node in onert["nodes"]} == {"unmeasured"}
    assert litert["verified"]["operator_lsb"] <= 1
    assert "runtime not installed: onert" in page(report_facts(exported))


def test_a_target_without_a_runtime_has_its_graph(exported: ExportedModel) -> None:
    (side,) = report_facts(exported, targets=["one"])["targets"]
    assert "no runtime to verify in" in side["message"]
    assert 'id="graph-one"' in page(report_facts(exported, targets=["one"]))


def test_a_target_that_refuses_the_model_is_said_in_the_page_unless_all_do() -> None:
    halves = torch2circle.export(nn.Linear(4, 3).eval(), (torch.rand(1, 4),), weights="float16")
    onert, litert = report_facts(halves)["targets"]
    assert "reads no float16" in onert["message"]
    assert (onert["nodes"], bool(litert["nodes"])) == ([], True)
    assert "reads no float16" in page(report_facts(halves))
    with pytest.raises(TargetError, match="reads no float16"):
        report_facts(halves, targets=["onert"])


def test_a_file_is_run_itself_and_must_be_of_the_model(exported: ExportedModel, tmp_path: Path) -> None:
    exported.save(tmp_path / "net.tflite")
    found = report_facts(exported, file=tmp_path / "net.tflite")
    assert [side["target"] for side in found["targets"]] == ["litert", "onert"]
    assert found["targets"][0]["bytes"] == (tmp_path / "net.tflite").stat().st_size
    torch2circle.export(nn.Linear(4, 3).eval(), (torch.rand(1, 4),)).save(tmp_path / "other.tflite")
    with pytest.raises(VerifyFailed, match="has other inputs"):
        write_report(exported, tmp_path / "page.html", file=tmp_path / "other.tflite")
    assert not (tmp_path / "page.html").exists()


# -- the page as a file


def test_the_same_model_gives_the_same_bytes(exported: ExportedModel, facts: dict[str, Any], tmp_path: Path) -> None:
    write_report(exported, tmp_path / "a.html", model="net")
    first = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert first == page(facts)
    (tmp_path / "facts.json").write_text(as_json(facts), encoding="utf-8")
    code = ("import json, sys\nfrom torch2circle.report.page import page\n"
            f"sys.stdout.buffer.write(page(json.load(open({str(tmp_path / 'facts.json')!r}, encoding='utf-8'))).encode())")  # fmt: skip
    again = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True, check=True)
    assert again.stdout.decode() == first  # another process, another order of sets


def test_nothing_is_loaded_from_elsewhere_and_names_stay_text(facts: dict[str, Any]) -> None:
    text = page(facts)
    assert HOSTILE.replace(".", "_") not in text
    assert not re.findall(r"<(?:script|img|link|iframe|object|embed)[^>]*\s(?:src|href)=", text)
    assert "default-src 'none'" in html.unescape(text)
    assert text.count("<script") - text[text.index('id="plots"') :].count("<script") == 2  # those of data
    assert len(text.encode()) < 5e6


def test_infinities_are_valid_json() -> None:
    assert json.loads(as_json({"a": [float("inf"), 1.5], "b": float("nan"), "<": "</script>"})) == {
        "a": ["inf", 1.5], "b": "nan", "<": "</script>"
    }  # fmt: skip
    assert "<" not in as_json({"<": "</script>"})


def test_a_folder_that_is_not_there_fails_before_anything_runs(
    exported: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExportedModel, "verify", lambda *_: pytest.fail("it was verified"))
    with pytest.raises(WriteError, match="No such file or directory"):
        write_report(exported, tmp_path / "absent" / "page.html")
    (tmp_path / "folder").mkdir()
    monkeypatch.undo()
    with pytest.raises(WriteError, match="cannot write"):
        write_report(exported, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_without_bokeh_it_says_what_to_install(exported: ExportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch2circle.report.find_spec", lambda name: None)
    with pytest.raises(MissingRuntime, match=r"not installed: bokeh[^$]*pip install .torch2circle\[report\]"):
        write_report(exported, tmp_path / "page.html")


# -- the layout


EDGES = [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (0, 4), (6, 7)]  # a branch, a way around it, one without edges, a part of its own


@pytest.mark.parametrize("sugiyama", [True, False])
def test_boxes_do_not_overlap_and_edges_go_down(sugiyama: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sugiyama:
        monkeypatch.setattr("torch2circle.report.layout.find_spec", lambda name: None)
    plan = layout(8, EDGES)
    places = list(plan.places)
    assert len(places) == 8
    for i, (x, y) in enumerate(places):
        assert WIDTH / 2 <= x <= plan.width - WIDTH / 2
        assert HEIGHT / 2 <= y <= plan.height - HEIGHT / 2
        assert all(abs(x - a) >= WIDTH or abs(y - b) >= HEIGHT for a, b in places[:i])
    for a, b in EDGES:
        heights = [places[a][1], *(y for _, y in plan.ways.get((a, b), ())), places[b][1]]
        assert heights == sorted(heights)
        assert places[a][1] < places[b][1]
    assert bool(plan.ways.get((0, 4))) is sugiyama


def test_a_large_graph_is_laid_out_in_layers_and_a_small_one_can_be_empty() -> None:
    chain = [(i, i + 1) for i in range(4 * LARGE)]
    plan = layout(4 * LARGE + 1, chain)
    assert len({y for _, y in plan.places}) == 4 * LARGE + 1
    assert layout(0, []).places == []
    assert len(layout(1, []).places) == 1


# -- the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.save(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval(), "model.pt")
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
        cli.main(args)
    return int(caught.value.code or 0), *capfd.readouterr()


def test_the_command(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(capfd, "model.pt", "model.circle", "--input", "1x4", "--no-verify")
    code, out, err = run(capfd, "report", "model.pt", "model.circle", "--input", "1x4", "-o", "page.html")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"page.html: {(folder / 'page.html').stat().st_size:,} bytes"
    assert [line.split()[0] for line in lines[1:]] == ["onert", "litert"]
    assert run(capfd, "report", "model.pt", "model.circle", "--input", "1x4")[0] == 0
    assert (folder / "model.html").read_bytes() == (folder / "page.html").read_bytes()


def test_the_command_as_json(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(capfd, "model.pt", "model.circle", "--input", "1x4", "--no-verify")
    code, out, _ = run(capfd, "report", "model.pt", "model.circle", "--input", "1x4", "--json")
    assert code == 0
    assert not list(folder.glob("*.html"))
    assert list(json.loads(out)) == ["json_version", "model", "file", "open_sizes", "targets", "tensors", "ranges", "layers", "findings"]


def test_the_command_refuses_what_it_cannot_do(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(capfd, "model.pt", "model.circle", "--input", "1x4", "--no-verify")
    (folder / "coder.py").write_text(
        "import torch\ndef make():\n    one = torch.nn.Linear(4, 2).eval()\n"
        "    return {'a': (one, (torch.ones(1, 4),)), 'b': (one, (torch.ones(2, 4),))}\n"
    )
    assert run(capfd, "coder.py:make", "coder.tflite")[0] == 0
    for code, says, args in (
        (UserError.exit_code, "coder.py:make gives several: a, b", ["coder.py:make", "coder.tflite"]),
        (WriteError.exit_code, "cannot write absent/page.html", ["model.pt", "model.circle", "--input", "1x4", "-o", "absent/page.html"]),
        (torch2circle.FormatError.exit_code, "absent.circle", ["model.pt", "absent.circle", "--input", "1x4"]),
    ):
        got, out, err = run(capfd, "report", *args)
        assert (got, out) == (code, "")
        assert says in err
        assert "Traceback" not in err
    assert not list(folder.glob("*.html"))


def test_the_command_fails_where_an_operator_is_wrong_and_keeps_the_page(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch2circle.verify import run as module

    run(capfd, "model.pt", "model.circle", "--input", "1x4", "--no-verify")
    compare = module.compare
    monkeypatch.setattr(module, "compare", lambda *args: replace(compare(*args), lsb=3.0))
    code, _, err = run(capfd, "report", "model.pt", "model.circle", "--input", "1x4")
    assert code == VerifyFailed.exit_code
    assert "in onert, " in err
    assert "off by 3 LSB" in err
    assert (folder / "model.html").exists()


def test_a_file_with_another_weight_is_shown_with_the_operator_at_fault(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(capfd, "model.pt", "model.circle", "--input", "1x4", "--no-verify")
    model = torch.load("model.pt", weights_only=False)
    with torch.no_grad():
        model[0].weight[0, 0] += 1
    torch.save(model, "model.pt")
    code, out, err = run(capfd, "report", "model.pt", "model.circle", "--input", "1x4", "--json", "--trust-pickle")
    assert code == VerifyFailed.exit_code
    assert "in onert, FULLY_CONNECTED 1: `0.weight` differs in 1 of 12 elements" in err
    sides = {side["target"]: [node["grade"] for node in side["nodes"]] for side in json.loads(out)["targets"]}
    assert sides["onert"].count("off") == 1
    assert "off" not in sides["litert"]


# -- in a browser


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no browser is installed: make browser")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])  # which root cannot have
        yield opened
        opened.close()


Watched = tuple[Any, list[str], list[str]]


def tab_of(browser: Any, path: Path, text: str) -> Watched:
    """A tab with the page; what it complains about; what it asks for."""
    path.write_text(text, encoding="utf-8")
    tab, said, asked = browser.new_page(viewport={"width": 1300, "height": 900}), list[str](), list[str]()
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]", timeout=30_000)
    return tab, said, asked


@pytest.fixture(scope="module")
def shared(browser: Any, facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return tab_of(browser, tmp_path_factory.mktemp("report") / "page.html", page(facts))


@pytest.fixture
def opened(shared: Watched) -> Iterator[Any]:
    """The page at the beginning of its first graph; whatever it complains about or asks for fails the test."""
    tab, said, asked = shared
    tab.get_by_label("onert", exact=True).check()
    tab.get_by_role("button", name="beginning").click()
    yield tab
    assert said == []
    assert len(asked) == 1


def test_the_figures_are_drawn(opened: Any) -> None:
    for name in ("sqnr", "lsb", "differ", "ranges", "saturation", "sizes"):
        canvas = opened.locator(f"#plot-{name} canvas").first
        assert canvas.bounding_box()["width"] > 800
        assert canvas.evaluate("c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size") > 5  # not blank


def test_a_click_on_an_operator_tells_about_it(opened: Any) -> None:
    opened.locator("#graph-onert .node", has_text="CONV_2D").first.click()
    details = opened.locator("#details")
    told = details.inner_text()
    for text in ("CONV_2D first.0", "quantized::conv2d_relu.new", "x = self.first(self.quant(x))", "uint8[1,8,8,8]", "scale", "1 dead"):
        assert text in told
    for name in ("histogram", "scales"):
        assert opened.locator(f"#plot-{name} canvas").first.bounding_box()["height"] > 50
    counts = opened.evaluate("Bokeh.documents.at(-1).get_model_by_name('histogram-data').data.count")
    assert sum(counts) == 8 * 3 * 3 * 3
    assert "chosen" in opened.locator("#graph-onert .node", has_text="CONV_2D").first.get_attribute("class")
    details.get_by_role("button", name="quant.transposed").click()  # its operand
    assert "TRANSPOSE quant.transposed" in details.inner_text()
    assert not opened.locator("#plot-histogram").is_visible()


def test_the_keyboard_chooses_and_sorts(opened: Any) -> None:
    opened.locator("#graph-onert .node").nth(1).focus()
    opened.keyboard.press("Enter")
    assert "onert, operator 1" in opened.locator("#details").inner_text()
    head = opened.locator("#activations th button", has_text="scale")
    column = "rows => rows.map(row => parseFloat(row.cells[3].textContent))"
    head.press("Enter")
    up = opened.locator("#activations tbody tr").evaluate_all(column)
    head.press("Enter")
    assert up == sorted(up)
    assert opened.locator("#activations tbody tr").evaluate_all(column) == up[::-1]


def test_the_other_runtime_is_shown_by_its_name_and_by_a_link(opened: Any) -> None:
    assert not opened.locator("#graph-litert").is_visible()
    opened.get_by_label("litert", exact=True).check()
    assert opened.locator("#graph-litert").is_visible()
    assert not opened.locator("#graph-onert").is_visible()
    opened.locator("[data-go^='onert:']", has_text="MUL").first.click()
    assert opened.locator("#graph-onert").is_visible()
    assert "MUL product" in opened.locator("#details").inner_text()


def test_points_of_the_figures_and_names_in_the_tables_are_operators(opened: Any) -> None:
    details = opened.locator("#details")
    for source, place, told in (("tensors-litert", 1, "litert, operator"), ("ranges-data", 0, "QUANTIZE quant")):
        opened.evaluate(f"Bokeh.documents.at(-1).get_model_by_name('{source}').selected.indices = [{place}]")  # what a tap does
        assert told in details.inner_text()
    opened.locator("#weights").get_by_role("button", name="first.0.weight").click()
    assert "CONV_2D first.0" in details.inner_text()
    opened.locator("#activations").get_by_role("button", name="product").click()
    assert "MUL product" in details.inner_text()


def test_the_graph_zooms_and_moves(opened: Any) -> None:
    graph = opened.locator("#graph-onert")

    def box() -> list[float]:
        return [float(number) for number in graph.get_attribute("viewBox").split()]

    before = box()
    opened.get_by_role("button", name="zoom in").click()
    assert box()[2] == pytest.approx(before[2] / 1.4)
    opened.get_by_role("button", name="whole graph").click()
    whole = box()
    assert whole[3] >= float(graph.get_attribute("height"))
    place = graph.bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2  # on an operator
    chosen = opened.locator("#details").inner_text()
    opened.mouse.move(x, y)
    opened.mouse.down()
    opened.mouse.move(x + 30, y + 60, steps=3)
    opened.mouse.up()
    moved = box()
    assert moved[0] < whole[0]
    assert moved[1] < whole[1]
    assert opened.locator("#details").inner_text() == chosen  # a drag is no click
    opened.mouse.move(x + 1, y + 1)
    opened.keyboard.down("Control")
    opened.mouse.wheel(0, -100)
    opened.keyboard.up("Control")
    opened.wait_for_function(f"parseFloat(document.getElementById('graph-onert').getAttribute('viewBox').split(' ')[2]) < {moved[2]}")


def test_hostile_names_are_text(opened: Any) -> None:
    name = HOSTILE.replace(".", "_")
    opened.locator("#graph-onert .node", has_text="CONV_2D").nth(1).press("Enter")  # which moves the graph there
    assert name in opened.locator("#details").inner_text()
    assert name in opened.locator("#weights").inner_text()
    assert opened.evaluate("window.taken") is None


def test_a_script_that_is_not_ours_does_not_run(opened: Any, browser: Any, tmp_path: Path, facts: dict[str, Any]) -> None:
    other = tmp_path / "other.html"
    other.write_text(page(facts).replace("</main>", "<script>window.taken = 1</script></main>"), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(other.as_uri())
    assert tab.evaluate("window.taken") is None
    tab.close()


def test_a_page_without_a_graph_or_figures_has_no_errors(browser: Any, tmp_path: Path) -> None:
    nothing = torch2circle.export(nn.Identity().eval(), (torch.rand(2),))
    tab, said, _ = tab_of(browser, tmp_path / "page.html", page(report_facts(nothing)))
    tab.close()
    assert said == []
