"""The command line: ``torch2circle MODEL OUTPUT``, and commands, a module each.

Data goes to standard output, progress and errors to standard error. torch is imported only by the commands that need it.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import click

from ..errors import Bug, Torch2CircleError, WriteError
from ..text import lines
from . import batch, bundles, export, files, inspect, ops, report, verify  # noqa: F401  # each adds its commands to the group
from .group import cli


def main(args: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns every error into a message and its exit code.

    Args:
        args: the command line without the program's name; None takes the process's own.

    Raises:
        SystemExit: with an error's own exit code, 0 without one, 130 after Ctrl-C, 143 after SIGTERM.
    """
    argv = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in argv
    for stream in (sys.stdout, sys.stderr):  # names may have letters that the terminal's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    quiet(debug)
    try:
        with _ended_by_signals():
            result = cli.main(argv, prog_name="torch2circle", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        _exit(130, "interrupted: no file was left half written")
    except _Ended as ended:
        _exit(128 + ended.args[0], "ended: no file was left half written")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        ours = error if isinstance(error, Torch2CircleError) else _no_room(error) or Bug(f"{type(error).__name__}: {error}")
        _exit(ours.exit_code, f"{click.style('error:', fg='red', bold=True)} {lines(click.unstyle(str(ours)))}")
    sys.exit(result if isinstance(result, int) else 0)  # an int is how click hands on what --help and --version exit with


def quiet(debug: bool = False) -> None:
    """Let standard error have errors alone; with ``debug`` all that happens."""
    warnings.filterwarnings("default" if debug else "ignore")
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(name)s: %(message)s")
    logging.getLogger("torch2circle").setLevel(logging.DEBUG if debug else logging.ERROR)


def _no_room(error: Exception) -> WriteError | None:
    """A disk that is full, or may not be written, is no bug of ours; what a command writes itself is told by its path."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return None
    import tempfile

    hint = f"free some space, or have TMPDIR name another folder than {tempfile.gettempdir()}"
    return WriteError(f"cannot write temporary files: {error.strerror}", hint=hint)


class _Ended(BaseException):
    """By the signal that is its argument. No Exception, so that nobody takes it for a failure of what ran."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What asks the process to end is raised, so that what is half done is undone: Python itself would end at once."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # nothing is to interrupt that
        raise _Ended(number)

    if threading.current_thread() is not threading.main_thread():
        yield  # others may not handle signals
        return
    asked = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in asked if signal.getsignal(number) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(code: int, message: str) -> None:
    click.echo(message, err=True)
    sys.exit(code)


__all__ = ["main", "quiet"]
