"""A job in its process: what ``torch2circle export`` does, with its words, and what came of it as data."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

from ..errors import Bug, Torch2CircleError, UserError
from .reads import Reads


def run(order: dict[str, Any], log: int, answers: BinaryIO) -> NoReturn:
    """Do the job of ``order``, say everything to the descriptor ``log``, write lines of JSON to ``answers``, and end the process.

    The lines are {"stage": ...} for each stage that begins, and then the result. A process that ends without one was ended.
    """
    signal.signal(signal.SIGTERM, _end)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def answer(line: dict[str, Any]) -> None:
        answers.write(json.dumps(line).encode() + b"\n")
        answers.flush()

    code = 1
    try:
        os.chdir(order["folder"])
        tempfile.tempdir = os.environ["TMPDIR"] = order["temporary"]
        answer(_result(order, lambda stage: _begins(stage, answer)))
        code = 0
    except _Ended:
        code = 128 + signal.SIGTERM
    except SystemExit as error:  # of the model's own code
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)  # what is to be done at exit is the parent's


class _Ended(BaseException):
    """SIGTERM: unwinds, so that no file is left half written, and is no error that anybody else should see."""


def _end(_signal: int, _frame: Any) -> None:
    raise _Ended


def _begins(stage: str, answer: Callable[[dict[str, Any]], None]) -> None:
    logging.getLogger("torch2circle.cli").debug(stage)
    answer({"stage": stage})


def _result(order: dict[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    import torch

    from ..cli import quiet
    from ..cli.dry_run import error_facts
    from ..cli.export import export, exported_file, print_summary
    from ..cli.verify import fail_if_wrong

    quiet(order["debug"])
    torch.set_num_threads(order["threads"])
    reads = Reads(but=[order["temporary"]])
    for path in order["reads"]:
        reads.add(path)
    summary: dict[str, Any] | None = None
    try:
        given = export.make_context("torch2circle export", list(order["arguments"])).params
        for name in ("dry", "as_json", "debug"):
            del given[name]
        summary, why, report = exported_file(**given, stage=stage)
        print_summary(summary, why)
        fail_if_wrong(report)
    except Exception as error:
        if order["debug"]:
            traceback.print_exc()
        ours = _ours(error)
        click.echo(f"error: {ours}", err=True)
        return {"error": {"kind": type(ours).__name__, **error_facts(ours)}, "summary": summary}
    return {"error": None, "summary": summary, "reads": reads.digests(Path.cwd(), order["reads"])}


def _ours(error: Exception) -> Torch2CircleError:
    if isinstance(error, click.ClickException):
        return UserError(error.format_message())
    return error if isinstance(error, Torch2CircleError) else Bug(f"{type(error).__name__}: {error}")
