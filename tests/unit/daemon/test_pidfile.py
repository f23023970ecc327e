# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pid file: what scripts read, the lock that dies with its holder, races at the end of one and start of another."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iscsiboot.daemon import pidfile
from iscsiboot.daemon.pidfile import AlreadyRunning, NotWritten, PidFile
from iscsiboot.errors import ExitCode, IscsiBootError

ROOT = Path(__file__).resolve().parents[3]
OURS = "from iscsiboot.daemon.pidfile import PidFile; PidFile(sys.argv[1]).claim()"
PEER = (
    "import fcntl; fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644); fcntl.lockf(fd, fcntl.LOCK_EX);"
    "os.write(fd, f'{os.getpid()}\\n'.encode())"
)


@contextmanager
def holder(path: Path, code: str = OURS) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the file until it is killed."""
    program = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); {code}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_its_first_line_is_our_number_and_it_goes_with_us(tmp_path: Path) -> None:
    path = tmp_path / "iscsid.pid"
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@pytest.mark.parametrize("code", [OURS, PEER], ids=["ours", "the peer's"])
def test_a_second_one_is_told_who_runs(tmp_path: Path, code: str) -> None:
    path = tmp_path / "iscsid.pid"
    with holder(path, code) as other:
        with pytest.raises(AlreadyRunning, match=f"process {other.pid} holds it") as caught:
            PidFile(path).claim()
        assert caught.value.pid == other.pid
        assert caught.value.exit_code is ExitCode.ERR
        assert path.read_text() == f"{other.pid}\n"


def test_our_lock_is_seen_by_the_peer(tmp_path: Path) -> None:
    path = tmp_path / "iscsid.pid"
    with holder(path), path.open("r+") as file, pytest.raises(BlockingIOError):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_one_that_was_killed_leaves_a_file_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "iscsid.pid"
    with holder(path) as other:
        os.kill(other.pid, signal.SIGKILL)
        other.wait(10)
        assert path.read_text() == f"{other.pid}\n"
        with PidFile(path):
            assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("left", ["", "1\n", "9" * 5000, "rubbish\0"])
def test_what_was_left_behind_means_nothing(tmp_path: Path, left: str) -> None:
    path = tmp_path / "iscsid.pid"
    path.write_text(left)
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_that_was_taken_away_between_open_and_lock_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon before us ends in that moment: a lock on a file nobody finds keeps nobody out."""
    path = tmp_path / "iscsid.pid"
    lock = pidfile._lock
    moments = iter([path.unlink])

    def late(descriptor: int, name: str) -> None:
        next(moments, bool)()
        lock(descriptor, name)

    monkeypatch.setattr(pidfile, "_lock", late)
    with PidFile(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_one_that_always_vanishes_is_an_error_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "iscsid.pid"
    monkeypatch.setattr(pidfile, "_lock", lambda descriptor, name: path.unlink())
    before = descriptors()
    with pytest.raises(IscsiBootError, match="again and again"):
        PidFile(path).claim()
    assert descriptors() == before


def test_somebody_elses_file_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "iscsid.pid"
    file = PidFile(path)
    file.claim()
    path.unlink()
    path.write_text("somebody else\n")
    file.release()
    file.release()
    assert path.read_text() == "somebody else\n"


@pytest.mark.parametrize("place", ["no/such/folder/iscsid.pid", "folder"])
def test_a_place_that_cannot_be_written_says_so(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IscsiBootError, match=r"cannot be written.*-n"):
        PidFile(tmp_path / place).claim()


def test_one_that_cannot_be_filled_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full /run: the file can be made, the number finds no room, and a script would read an empty one."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotWritten, match="No space left"):
        PidFile(tmp_path / "iscsid.pid").claim()
    assert not [*tmp_path.iterdir()]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    (tmp_path / "iscsid.pid").symlink_to(tmp_path / "passwd")
    with pytest.raises(IscsiBootError, match="cannot be written"):
        PidFile(tmp_path / "iscsid.pid").claim()
    assert (tmp_path / "passwd").read_text() == "root"


def test_a_holder_that_cannot_be_named_is_still_one() -> None:
    assert "cannot be seen from here" in AlreadyRunning("/run/iscsid.pid", 0).line()
