"""Files that are written: whole or not at all, wherever the path leads, and whatever ends the writing."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import torch2circle
from torch2circle import runtimes
from torch2circle.cli import main
from torch2circle.errors import WriteError
from torch2circle.format import whole, whole_file, whole_folder

ROOT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="permissions and pipes of POSIX")


def put(path: Path, data: bytes = b"new") -> None:
    with whole_file(path) as sink:
        sink.write(data)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


# A process may also end before it has the command's handler of SIGTERM, or after.
EXITS = {
    "killed": {0, -9},
    "interrupted": {0, 130},
    "terminated": {0, 143, -15},
    "limit for files": {9},
    "disk full": {9},
    "disk read-only": {9},
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="its trials are forks")
def test_killed_interrupted_and_without_room(tmp_path: Path) -> None:
    """A few of the trials of tools/crash.py, at the same moments each time as far as the machine's speed is the same."""
    call = [sys.executable, str(ROOT / "tools/crash.py"), "--trials", "4", "--json"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    assert {"killed", "interrupted", "terminated", "limit for files", "8 at once"} <= found.keys()
    for case, counts in found.items():
        assert not counts.get("missing"), case
        assert not counts.get("torn"), case
        assert not counts.get("temporary"), case
        assert case.startswith("killed") or not counts.get("part"), case
        codes = {int(key.split()[1]) for key in counts if key.startswith("exit ")}
        assert codes <= EXITS.get(case.partition(",")[0], {0}), case
        if case.startswith(("disk", "limit")):
            assert counts["old"] == 4, case


class Interruption(BaseException):
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")  # an open file that is let go
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_interruption_at_any_line_leaves_the_old_or_the_new(kind: str, tmp_path: Path) -> None:
    """The lines of whole.py one after the other; what even those of the cleaning up leave is removed at exit."""
    outcomes = set()
    for line in range(80):
        folder = tmp_path / str(line)
        folder.mkdir()
        target = folder / "target"
        if kind == "file":
            target.write_bytes(b"old")
        left = line
        armed = True

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal left, armed
            if frame.f_code.co_filename != whole.__file__:
                return None
            if event == "line" and armed:
                left -= 1
                if left < 0:
                    armed = False
                    raise Interruption
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            if kind == "file":
                put(target)
            else:
                with whole_folder(target) as part:
                    (part / "x").write_bytes(b"new")
        except Interruption:
            pass
        finally:
            sys.settrace(before)
        whole._remove_unfinished()
        assert hidden(folder) == []
        held = target.read_bytes() if kind == "file" else (target / "x").read_bytes() if target.exists() else b"old"
        assert held in (b"old", b"new")
        outcomes.add(held)
        if armed:
            break
    else:
        pytest.fail("there are more lines than were tried")
    assert outcomes == {b"old", b"new"}


# Where a path leads


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    for name, target in {"to_old": "far/old", "to_new": "far/new", "to_link": "to_old"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "far/old").write_bytes(b"old")
    for name, target in {"to_old": "far/old", "to_new": "far/new", "to_link": "far/old"}.items():
        put(tmp_path / name, name.encode())
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / target).read_bytes() == name.encode()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("absent/file")
    for name in ("loop", "nowhere"):
        with pytest.raises(WriteError, match=f"cannot write .*{name}"):
            put(tmp_path / name)
    assert hidden(tmp_path) == hidden(tmp_path / "far") == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system")
def test_a_link_to_another_file_system(tmp_path: Path) -> None:
    other = Path(f"/dev/shm/torch2circle-test-{os.getpid()}")
    try:
        (tmp_path / "link").symlink_to(other)
        put(tmp_path / "link")
        assert other.read_bytes() == b"new"
    finally:
        other.unlink(missing_ok=True)


@posix
def test_permissions_are_those_of_the_replaced_file_or_the_users(tmp_path: Path) -> None:
    path = tmp_path / "x"
    before = os.umask(0o027)
    try:
        put(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in (0o600, 0o664, 0o755):
            path.chmod(mode)
            put(path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
        with whole_folder(tmp_path / "folder"):
            pass
        assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750
        (tmp_path / "folder").chmod(0o700)
        with whole_folder(tmp_path / "folder"):
            pass
        assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
    finally:
        os.umask(before)


@posix
def test_the_owner_is_that_of_the_replaced_file(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root may give files away")
    path = tmp_path / "x"
    path.write_bytes(b"old")
    os.chown(path, 65534, 65534)
    path.chmod(0o640)
    put(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o640)


AS_NOBODY = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from torch2circle.cli import main
os.chdir({folder!r})
try:
    main(["convert", "model.circle", "warm.tflite"])  # imports what it needs while it may read Python's files
except SystemExit:
    os.unlink("warm.tflite")
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
main(["convert", "model.circle", sys.argv[1]])
"""


@posix
def test_what_may_not_be_written_is_not(tmp_path: Path, circle: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    for path in (tmp_path, *tmp_path.parents):
        if path.name.startswith(("test_", "popen-", "pytest-")):  # pytest's own folders, which are closed to others
            path.chmod(path.stat().st_mode | 0o755)
    (folder / "model.circle").write_bytes(circle.read_bytes())
    (folder / "protected.tflite").write_bytes(b"old")
    (folder / "protected.tflite").chmod(0o444)
    (folder / "closed").mkdir()
    (folder / "closed").chmod(0o555)
    folder.chmod(0o777)
    code = AS_NOBODY.format(path=[path for path in sys.path if path], folder=str(folder))
    for target, reason in {"protected.tflite": "the file is write-protected", "closed/new.tflite": "Permission denied"}.items():
        done = subprocess.run([sys.executable, "-c", code, target], capture_output=True, text=True, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (WriteError.exit_code, False), done.stderr
        assert reason in done.stderr
    assert (folder / "protected.tflite").read_bytes() == b"old"
    assert [*hidden(folder), *hidden(folder / "closed")] == []


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    reason = "Is a directory" if kind == "folder" else "a pipe or device, not a file"
    with pytest.raises(WriteError, match=f"cannot write {path}: {reason}"):
        put(path)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert not path.is_file()
    assert hidden(tmp_path) == []


NAMES = {
    "long": "x" * 248 + ".tflite",
    "letters of four bytes": "\U0001f600" * 60 + ".tflite",
    "lines": "a\nb\x1b[31m.tflite",
    "spaces": " .tflite",
}


@pytest.fixture
def circle(tmp_path: Path) -> Path:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        from crash import layer
    finally:
        sys.path.pop(0)
    from torch2circle.format import save

    save(layer(0), tmp_path / "model.circle", identifier="CIR0")
    return tmp_path / "model.circle"


@pytest.fixture
def names() -> dict[str, str]:
    return NAMES | ({"no text": os.fsdecode(b"\xff\xfe.tflite")} if os.name == "posix" else {})


def test_names_of_every_kind(names: dict[str, str], circle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for kind, name in names.items():
        with pytest.raises(SystemExit) as left:
            main(["convert", str(circle), str(circle.parent / name)])
        assert left.value.code == 0, (kind, capfd.readouterr())
        assert (circle.parent / name).is_file()
    with pytest.raises(SystemExit) as left:
        main(["convert", str(circle), str(circle.parent / ("x" * 255 + ".tflite"))])
    assert left.value.code == WriteError.exit_code
    assert hidden(circle.parent) == []


@pytest.mark.skipif(os.name != "posix", reason="bytes in names")
def test_a_name_that_is_no_text_is_printed_in_every_locale(circle: Path) -> None:
    name = os.fsdecode(b"\xff.tflite")
    for locale in ("C", "C.UTF-8"):
        environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
        call = [sys.executable, "-m", "torch2circle", "convert", str(circle), name]
        done = subprocess.run(call, cwd=circle.parent, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert b".tflite: " in done.stdout
        assert (circle.parent / name).is_file()


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    put(path, contents[0])
    seen: set[bytes] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    threads = [threading.Thread(target=lambda data=data: [put(path, data) for _ in range(10)]) for data in contents]  # type: ignore[misc]
    reader = threading.Thread(target=look)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reader.join()
    assert seen <= set(contents)
    assert hidden(tmp_path) == []


def test_no_room_for_temporary_files(circle: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``verify`` hands inputs to a runtime through files."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not runtimes.available("onert"):
        pytest.skip("onert is not installed")
    monkeypatch.setattr(runtimes, "_save", full)
    with pytest.raises(SystemExit) as left:
        main(["verify", str(circle), str(circle)])
    assert left.value.code == WriteError.exit_code
    err = capfd.readouterr().err
    assert "cannot write temporary files: No space left on device" in err
    assert "TMPDIR" in err


# What else could write

# The child's results in a folder of its own; what is in a folder that is whole in the end; a golden file that was refused, for whoever
# looks into it; the temporary file of a search for the operator at fault.
WRITES = {
    "runtimes.py", "implant/bundle.py", "nnpackage.py", "testing/golden.py", "verify/blame.py", "format/whole.py",
    "batch/forkserver.py", "batch/run.py", "batch/worker.py",  # a lock, logs as they come, and what ends with the process
}  # fmt: skip


def writes(source: str) -> Iterator[str]:
    """Calls that make or change files."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        modes = [arg.value for arg in (*node.args[:2], *(k.value for k in node.keywords)) if isinstance(arg, ast.Constant)]
        writing = any(isinstance(mode, str) and re.fullmatch(r"[rbt+]*[wxa+][rbt+]*", mode) for mode in modes)
        if called in ("write_text", "write_bytes", "savez", "tofile", "touch", "copyfile") or (called == "open" and writing):
            yield called


def test_nothing_else_writes_files() -> None:
    source = Path(torch2circle.__file__).parent
    found = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if list(writes(path.read_text(encoding="utf-8")))}
    assert found - WRITES == set()
    assert "format/whole.py" in found
