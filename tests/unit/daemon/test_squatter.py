# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whose process has the daemon's address: by who made the socket, without a word to whoever it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.daemon import squatter as module
from iscsiboot.daemon.squatter import Squatter, squatter, when_free
from iscsiboot.ipc.server import listening_socket
from iscsiboot.keeper import endings
from iscsiboot.keeper.log import Level

USER = 1234


@pytest.fixture
def address() -> str:
    """One of this test's own: who is killed at the end of the one before may have its address a moment longer."""
    return f"\0ISCSIBOOT_TEST_SQUATTER_{uuid.uuid4()}"


@pytest.fixture
def listener(address: str) -> Iterator[socket.socket]:
    with listening_socket(address) as made:
        yield made


def proc(root: Path, address: str, *pids: int, flags: str = "00010000") -> str:
    """A /proc in which these processes, made by :func:`owned`, have the socket."""
    (root / "net").mkdir()
    table = "Num RefCount Protocol Flags Type St Inode Path\n"
    (root / "net" / "unix").write_text(f"{table}0: 00000002 00000000 {flags} 0001 01 4711 @{address[1:]}\n")
    for pid in pids:
        (root / str(pid) / "fd").mkdir(parents=True)
        (root / str(pid) / "fd" / "3").symlink_to("socket:[4711]")
    return str(root)


def owned(monkeypatch: pytest.MonkeyPatch, **users: int) -> None:
    """Have sockets be made by users; ``p17=0``: root made the one process 17 has."""
    real = os.stat

    class Status:
        def __init__(self, user: int) -> None:
            self.st_uid = user

    def stat(path: str, **more: bool) -> object:
        pid, _, socket_of = str(path).rpartition("/fd/")
        name = f"p{pid.rpartition('/')[2]}" if socket_of else ""
        return Status(users[name]) if name in users else real(path, **more)

    monkeypatch.setattr(os, "stat", stat)


@pytest.mark.parametrize(("maker", "found"), [(0, None), (USER, Squatter(17, USER))])
def test_it_counts_who_made_it_and_nobody_is_connected_to(
    tmp_path: Path,
    address: str,
    listener: socket.socket,
    maker: int,
    found: Squatter | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A connection to systemd's socket would start a daemon."""
    owned(monkeypatch, p17=maker)
    assert squatter(proc=proc(tmp_path, address, 16, 17), address=address) == found
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def as_user(address: str, *, root_again: bool = False, hand_on: bool = False) -> int:
    """A process that has a user's listening socket: one of root's (a setuid program), or a child of its maker's."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(USER, USER, 0 if root_again else USER)
            made = listening_socket(address)
            if root_again:
                os.setresuid(USER, 0, 0)
            if not hand_on or os.fork() == 0:
                os.write(writing, b"%d" % os.getpid())
                signal.pause()
            made.close()
        finally:
            os._exit(0)
    os.close(writing)
    holder = int(os.read(reading, 20))
    os.close(reading)
    if hand_on:
        os.waitpid(pid, 0)
    return holder


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes another user")
def test_a_program_of_roots_that_inherited_a_users_is_no_daemon(address: str) -> None:
    pid = as_user(address, root_again=True)
    try:
        assert Path(f"/proc/{pid}").stat().st_uid == 0
        assert squatter(address=address) == Squatter(pid, USER)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes another user")
def test_one_who_handed_it_on_and_has_ended_keeps_nobody_busy(address: str) -> None:
    pid = as_user(address, hand_on=True)
    lines: list[str] = []

    async def life() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(when_free(lambda level, text: lines.append(text), address=address), 0.5)

    try:
        began = time.monotonic()
        asyncio.run(life())
        assert time.monotonic() - began < 60, "the loop was free"
        assert [line.partition(" sits on")[0] for line in lines] == [f"process {pid} of user {USER}"]
    finally:
        os.kill(pid, signal.SIGKILL)


def test_one_that_is_bound_and_does_not_listen(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owned(monkeypatch, p17=USER)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(address)
        assert squatter(proc=proc(tmp_path, address, 17, flags="00000000"), address=address) == Squatter(17, USER)


def test_when_nobody_can_tell_it_is_none(tmp_path: Path, address: str, listener: socket.socket) -> None:
    assert squatter(proc=str(tmp_path), address=address) is None
    assert squatter(proc=proc(tmp_path, address), address=address) is None


def test_the_address_is_taken_when_it_is_free_and_each_who_has_it_is_told_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    there: list[Squatter | None] = [Squatter(17, USER), Squatter(17, USER), None, Squatter(18, USER)]
    waited: list[int] = []
    holder = listening_socket(address)

    async def process_end(pid: int) -> None:
        waited.append(pid)
        if not there:
            holder.close()

    def found(*, address: str) -> Squatter | None:
        return there.pop(0)

    monkeypatch.setattr(module, "squatter", found)
    monkeypatch.setattr(endings, "process_end", process_end)

    def log(level: Level, text: str) -> None:
        lines.append(text.partition(" sits on")[0])

    with asyncio.run(when_free(log, address=address)) as made:
        assert made.getsockname() == address.encode()
    assert lines == ["process 17 of user 1234", "process 18 of user 1234"]
    assert waited == [17, 17, 0, 18]


def test_any_other_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(address: str, *, backlog: int) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "listening_socket", refused)
    with pytest.raises(PermissionError):
        asyncio.run(when_free(lambda level, text: None))
