"""The Python in the pages about signatures, custom operators and verification runs, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from torch2circle import runtimes
from torch2circle.lower import LOWERINGS

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module", autouse=True)
def _no_lowering_is_left() -> Any:
    before = dict(LOWERINGS)
    yield
    LOWERINGS.clear()
    LOWERINGS.update(before)


def ran(page: str) -> dict[str, Any]:
    """The names that the page's code leaves behind."""
    names: dict[str, Any] = {"__name__": page}
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], f"docs/{page}.md", "exec"), names)  # a failure names the page's own line
    return names


pytestmark = pytest.mark.skipif(not runtimes.available("litert"), reason="LiteRT is not installed")


def test_signatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = ran("signatures")
    assert {f.path for f in names["torch2circle"].export(names["Net"]().eval(), names["args"], names["kwargs"]).diagnostics()} == {
        "boxes_label",
        "parts_1",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "coder.tflite", "decode.circle", "decoder.tflite", "encode.circle", "net.tflite",
    ]  # fmt: skip
    assert names["words"] == generated(names["decoder"], names["prompt"], names["LENGTH"])
    for method in names["exported"].methods.values():
        if runtimes.available("onert"):
            assert method.verify("onert").ok()


def generated(decoder: Any, prompt: torch.Tensor, length: int) -> list[int]:
    """The words that PyTorch chooses, without a cache: the whole text anew for each."""
    for _ in range(length - prompt.shape[1]):
        prompt = torch.cat([prompt, decoder.prefill(prompt)["logits"][:, -1:].argmax(-1)], 1)
    return prompt[0, -(length - 3) :].tolist()


def test_custom_ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    ran("custom-ops")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.circle", "net.tflite"]


@pytest.mark.skipif(not runtimes.available("onert"), reason="onert is not installed")
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, about its eager quantization
def test_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = ran("verify")
    assert names["report"].samples == 6
    assert len(names["both"].tensors) > 2
