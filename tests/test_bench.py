"""The benchmark's arithmetic, its models, and what it times."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import torch2circle

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.insert(0, str(TOOLS))

from benchmarks import exporting, growing, models, showing  # noqa: E402

STAGES = ["record", "lower", "optimize", "legalize", "write", "judge"]


@pytest.fixture
def mlp() -> Iterator[tuple[torch.nn.Module, torch.Tensor]]:
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    yield models.mlp(3, 64)
    torch.backends.quantized.engine = engine


def test_the_exponent_of_a_power_is_its_own() -> None:
    sizes = [10, 20, 50, 300]
    for power in (0, 0.5, 1, 2):
        assert growing.exponent(sizes, [7 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_ratios() -> None:
    found = exporting.ratios({"t_forward": 2.0, "t_write": 3.0, "t_unpack": 5.0, "t_export_save": 20.0})
    assert (found["ratio"], found["ratio_to_floor"]) == (4, 2)


def test_activations_keep_their_spread_through_a_made_mlp(mlp: tuple[torch.nn.Module, torch.Tensor]) -> None:
    """Else the layers at the end would multiply zeros."""
    model, x = mlp
    out = model(x)
    assert out.unique().numel() > 30 and 1 / 4 < out.std() / x.std() < 4


def test_every_stage_is_timed_once_in_order(mlp: tuple[torch.nn.Module, torch.Tensor], tmp_path: Path) -> None:
    found = exporting.stages(*mlp, tmp_path / "model.circle")
    assert list(found) == STAGES == list(showing.STAGES)
    assert min(found.values()) >= 0


def test_export_tells_its_stages_as_they_begin(mlp: tuple[torch.nn.Module, torch.Tensor]) -> None:
    told: list[str] = []
    torch2circle.export(mlp[0], (mlp[1],), progress=told.append)
    assert told == STAGES[:3]


def test_what_is_measured_of_a_model(mlp: tuple[torch.nn.Module, torch.Tensor], tmp_path: Path) -> None:
    found = exporting.times(*mlp, tmp_path / "model.circle", 1)
    assert found["file_mib"] * 2**20 == (tmp_path / "model.circle").stat().st_size == (tmp_path / "model.raw").stat().st_size
    assert found["largest_mib"] == 64 * 64 / 2**20
    text = showing.table([{"model": "small", "engine": "fbgemm", **found}])
    assert "small" in text and len(text.splitlines()) >= 2


def test_growth_has_a_row_for_each_size() -> None:
    engine, threads = torch.backends.quantized.engine, torch.get_num_threads()
    try:
        rows = growing.growth(models.deep, (2, 4), 1)
    finally:
        torch.backends.quantized.engine = engine
        torch.set_num_threads(threads)
    assert [row["size"] for row in rows] == [2, 4]
    assert rows[1]["operators"] - rows[0]["operators"] == 2 and rows[1]["bytes"] > rows[0]["bytes"]
    kinds: dict[str, Any] = {"layers": {"over": "operators", "exponent": 1.0, "rows": rows}}
    assert "exponent over operators: 1.00" in showing.growth_table(kinds)


def test_progress_is_shown_before_torch_is_imported(tmp_path: Path) -> None:
    """Which cannot be imported here at all."""
    words = [str(tmp_path / "model.pt"), str(tmp_path / "model.circle"), "--input", "1x4"]
    code = f"import sys; sys.modules['torch'] = None; from torch2circle.cli import main; main({words!r})"
    terminal, end = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=end, stdout=end, stderr=end, env={**os.environ, "TERM": "xterm"})
    os.close(end)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # what Linux says when the other end is closed
        pass
    finally:
        os.close(terminal)
    assert process.wait() == 70
    assert b"import torch" in shown and b"torch" in shown.partition(b"import torch")[2]
