"""A process that has imported torch and forks one for each job: importing takes twenty times what a small export does.

It never computes, so a forked process is as a new one. Between it and each job is a process that ends the job when it is asked to, or when
nobody is left who waits for it, and says how it ended.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from typing import Any, BinaryIO

GRACE = 5.0
"""Seconds between SIGTERM, at which a job takes its unfinished file away, and SIGKILL."""
_PRELOADED = (
    "torch2circle.batch.child", "torch2circle.cli.export", "torch2circle.pipeline", "torch2circle.methods", "torch2circle.loading",
    "torch2circle.verify", "torch2circle.show", "torch._dynamo", "torch.ao.nn.quantized", "torch.ao.quantization.fx._decomposed",
)  # fmt: skip


class Process:
    """A job that runs."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = b""
        self.ended: dict[str, Any] | None = None
        """How: ``status`` as ``os.waitpid`` gives it, ``cpu`` seconds, ``peak`` bytes; empty if what watched the job is gone."""

    @property
    def started(self) -> bool:
        """Whether it has a process by now."""
        return bool(self._heard)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within this time."""
        if self.ended is None and select.select([self._connection], [], [], seconds)[0]:
            with contextlib.suppress(ConnectionError):
                self._heard += (data := self._connection.recv(4096))
                if data and not self._heard.endswith(b"}\n"):
                    return False
            lines = [json.loads(line) for line in self._heard.splitlines(keepends=True) if line.endswith(b"\n")]
            self.ended = lines.pop() if len(lines) > 1 else {}
            if not self.ended and lines:
                _kill(lines[0], signal.SIGKILL)
        return self.ended is not None

    def stop(self) -> None:
        """Ask that it be ended: SIGTERM, and SIGKILL after ``GRACE``."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._connection.close()


class ForkServer:
    """Starts jobs, from any thread. The server itself is started with the first one, and again if it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._said: BinaryIO | None = None

    def start(self, order: dict[str, Any], log: BinaryIO, answers: BinaryIO) -> Process:
        """Run ``child.run(order, ...)`` in a process of its own, which writes to these two files."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            fds = [theirs.fileno(), log.fileno(), answers.fileno()]
            try:
                socket.send_fds(self._running(), [b"j"], fds)
            except ConnectionError:
                self._close()
                socket.send_fds(self._running(), [b"j"], fds)
        with contextlib.suppress(ConnectionError):  # `wait` tells that nobody reads it
            ours.sendall(json.dumps(order).encode() + b"\n")
        return Process(ours)

    def _running(self) -> socket.socket:
        if self._server is None or self._control is None or self._server.poll() is not None:
            self._close()
            self._control, theirs = socket.socketpair()
            self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the server
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path), "OPENBLAS_NUM_THREADS": "1"}
            code = f"import sys; sys.path[:] = filter(None, sys.path); from {__name__} import serve; serve()"
            with theirs:
                # Its own session: a Ctrl-C is for the batch, which ends its jobs itself.
                self._server = subprocess.Popen(
                    [sys.executable, "-c", code], env=environment, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=self._said,
                    start_new_session=True,
                )  # fmt: skip
        return self._control

    def said(self) -> str:
        """The last line that the server itself wrote to standard error."""
        if self._said is None:
            return ""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - 4096))
        return (self._said.read().decode(errors="replace").strip().splitlines() or [""])[-1]

    def _close(self) -> None:
        for each in (self._control, self._said):
            if each is not None:
                each.close()
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._server = self._control = self._said = None

    def close(self) -> None:
        """End the server. Jobs end with those who wait for them."""
        with self._lock:
            self._close()


SERVER = ForkServer()
"""The process's own."""
atexit.register(SERVER.close)


# ---- what follows runs in the server


def serve() -> None:
    """Fork for each message on the socket that is standard input, until nobody is left to send one."""
    control = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is imported stays shared between the processes
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how the watching processes end
    while True:
        message, fds, *_ = socket.recv_fds(control, 1, 3)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            try:
                _watch(socket.socket(fileno=fds[0]), fds[1], open(fds[2], "wb"))  # noqa: SIM115
            finally:
                os._exit(0)  # whatever happened: the loop is the server's
        for fd in fds:
            os.close(fd)


def _watch(connection: socket.socket, log: int, answers: BinaryIO) -> None:
    """Fork the job, wait for it or for the end of the connection, say how it ended, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rb") as orders:
        order = json.loads(orders.readline())
    pid = os.fork()
    if pid == 0:
        from .child import run

        os.setpgid(0, 0)
        connection.close()
        run(order, log, answers)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # here, too: whoever comes first
    with contextlib.suppress(OSError):
        connection.sendall(f"{pid}\n".encode())
    ended = os.pidfd_open(pid)
    if ended not in select.select([connection.fileno(), ended], [], [])[0]:
        _kill(pid, signal.SIGTERM)
        select.select([ended], [], [], GRACE)
    _kill(pid, signal.SIGKILL)  # and what it started, which is in its group
    _, status, usage = os.wait4(pid, 0)
    facts = {"status": status, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(facts).encode() + b"\n")


def _kill(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, how)
