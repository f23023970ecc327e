# SPDX-License-Identifier: LGPL-2.1-or-later
"""The writers' lock: who holds it is told, it ends with its holder, waiting ends in time and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from iscsiboot.database.failure import DatabaseError
from iscsiboot.database.lock import holder, is_locked
from iscsiboot.database.store import Database
from iscsiboot.errors import ExitCode
from tests.unit.database.samples import filled, node

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys
from iscsiboot.database.store import Database
with Database(sys.argv[1]).change():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root), "-v", "hunter2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def put(root: Path, timeout: float) -> None:
    with Database(str(root)).change(timeout=timeout) as change:
        change.put_node(node("iqn.new"))


def test_a_wait_that_is_too_long_names_the_holder_and_no_argument_of_it(tmp_path: Path) -> None:
    filled(tmp_path)
    with held(tmp_path) as process:
        started = time.monotonic()
        with pytest.raises(DatabaseError) as caught:
            put(tmp_path, 0.3)
        assert 0.3 <= time.monotonic() - started < 5
    assert f"pid {process.pid} (" in caught.value.line()
    assert "hunter2" not in caught.value.line()
    assert caught.value.exit_code == ExitCode.BUSY
    put(tmp_path, 5)


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    filled(tmp_path)
    with held(tmp_path) as process:
        timer = threading.Timer(0.2, lambda: os.kill(process.pid, signal.SIGKILL))
        timer.start()
        put(tmp_path, 20)
        timer.join()
    assert len(Database(str(tmp_path)).node_keys()) == 4


def test_a_wait_that_was_given_up_takes_no_lock_later(tmp_path: Path) -> None:
    filled(tmp_path)
    with held(tmp_path), pytest.raises(DatabaseError):
        put(tmp_path, 0.1)
    for thread in threading.enumerate():
        if thread.name == "iscsiboot-lock":
            thread.join(10)
    assert not is_locked(str(tmp_path))
    put(tmp_path, 0.1)


def test_readers_take_no_lock(tmp_path: Path) -> None:
    database = filled(tmp_path)
    with held(tmp_path):
        assert is_locked(str(tmp_path))
        assert len(list(database.nodes())) == 3
        assert len(database.ifaces()) == 3


def test_a_holder_the_kernel_does_not_tell_is_unknown(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        assert holder(fd, str(tmp_path)) == ""
        (tmp_path / "locks").write_text("1: FLOCK\nnonsense\n\n2: -> FLOCK ADVISORY WRITE 7 00:1:2 0 EOF\n")
        assert holder(fd, str(tmp_path)) == ""
        inode = os.fstat(fd).st_ino
        (tmp_path / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE 42 00:ff:{inode} 0 EOF\n")
        assert holder(fd, str(tmp_path)) == "pid 42"
        assert holder(fd, "/proc").startswith(f"pid {os.getpid()} (")
    finally:
        os.close(fd)


def test_a_root_that_does_not_exist_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(str(tmp_path / "none"))
