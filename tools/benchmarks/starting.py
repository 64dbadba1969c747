"""How long the command line takes to say something: on a terminal, since progress is shown there alone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import ROOT


def first_output(words: Sequence[str]) -> float:
    """Seconds from starting a process to the first byte that it prints on a terminal."""
    terminal, end = pty.openpty()
    begun = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-m", "torch2circle", *words], stdin=end, stdout=end, stderr=end, env=environment)
    os.close(end)
    try:
        os.read(terminal, 1)
        return time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def starting(runs: int) -> dict[str, float]:
    """The least of several runs of: ``--help``, ``inspect`` of a small file, and the first progress of an export."""
    from torch2circle.format import save
    from torch2circle.ir import Constant, DType, Graph, Node, Type, Value

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.circle"
        x = Value(Type((4,), DType.FLOAT32), "x")
        node = Node.make("ADD", [x, Value(x.type, "c", data=Constant.of(np.ones(4, np.float32)))], [Value(x.type, "y")])
        save(Graph((x,), (node.out,), ("x",), ("y",)), path, identifier="CIR0")
        commands = {
            "t_help": ["--help"],
            "t_inspect": ["inspect", str(path)],
            "t_first_progress": [str(Path(folder) / "model.pt"), str(Path(folder) / "model.circle"), "--input", "1x4"],
        }
        return {name: min(first_output(words) for _ in range(runs)) for name, words in commands.items()}
