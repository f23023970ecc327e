# SPDX-License-Identifier: LGPL-2.1-or-later
"""One session for one place: the lock between commands, and its end with whoever holds it."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from iscsiboot.admin.login_lock import LoginLocks
from iscsiboot.database.names import NodeKey
from iscsiboot.errors import IscsiBootError

KEY = NodeKey("iqn.2026-01.org.example:a", "10.0.0.1", 3260, 1, "default")


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[LoginLocks]:
    with closing(LoginLocks(str(tmp_path))) as made:
        yield made


@pytest.fixture
def others(tmp_path: Path) -> Iterator[LoginLocks]:
    """Another command's: a file description of its own, as a process of its own would have."""
    with closing(LoginLocks(str(tmp_path))) as made:
        yield made


def test_a_place_is_taken_once(locks: LoginLocks, others: LoginLocks) -> None:
    assert locks.take(KEY)
    assert locks.take(KEY), "for one command it is one place"
    assert not others.take(KEY)
    locks.release(KEY)
    assert others.take(KEY)


@pytest.mark.parametrize(
    "key",
    [
        NodeKey("iqn.2026-01.org.example:b", "10.0.0.1", 3260, 1, "default"),
        NodeKey("iqn.2026-01.org.example:a", "10.0.0.2", 3260, 1, "default"),
        NodeKey("iqn.2026-01.org.example:a", "10.0.0.1", 3261, 1, "default"),
        NodeKey("iqn.2026-01.org.example:a", "10.0.0.1", 3260, 1, "other"),
        NodeKey("iqn.2026-01.org.example:a1", "0.0.0.1", 3260, 1, "default"),
    ],
    ids=str,
)
def test_other_places_are_free(locks: LoginLocks, others: LoginLocks, key: NodeKey) -> None:
    assert locks.take(KEY)
    assert others.take(key)


def test_the_tag_makes_no_other_place(locks: LoginLocks, others: LoginLocks) -> None:
    """Records with and without it lead to one session."""
    assert locks.take(KEY)
    assert not others.take(NodeKey(KEY.target, KEY.address, KEY.port, -1, KEY.iface))


def test_it_dies_with_its_holder(tmp_path: Path, others: LoginLocks) -> None:
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            LoginLocks(str(tmp_path)).take(KEY)
            os.write(writing, b"!")
            signal.pause()
        finally:
            os._exit(0)
    os.read(reading, 1)
    assert not others.take(KEY)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    assert others.take(KEY)
    os.close(reading)
    os.close(writing)


def test_forked_logins_keep_it_when_the_command_is_killed(tmp_path: Path, others: LoginLocks) -> None:
    """The command takes the place and forks; killed, it leaves the login at work, and the place taken."""
    reading, writing = os.pipe()
    command = os.fork()
    if command == 0:
        try:
            LoginLocks(str(tmp_path)).take(KEY)
            login = os.fork()
            if login == 0:
                signal.pause()
            os.write(writing, login.to_bytes(4, "little"))
            signal.pause()
        finally:
            os._exit(0)
    login = int.from_bytes(os.read(reading, 4), "little")
    os.kill(command, signal.SIGKILL)
    os.waitpid(command, 0)
    assert not others.take(KEY)
    descriptor = os.pidfd_open(login)
    os.kill(login, signal.SIGKILL)
    os.set_blocking(descriptor, True)
    import select

    select.select([descriptor], [], [], 10)
    assert others.take(KEY)
    for number in (reading, writing, descriptor):
        os.close(number)


def test_names_of_any_bytes(locks: LoginLocks) -> None:
    assert locks.take(NodeKey("iqn.2026-01.org.example:\udcff", "10.0.0.1", 3260, 1, "default"))


def test_the_file_is_roots_alone(tmp_path: Path, locks: LoginLocks) -> None:
    assert stat.S_IMODE((tmp_path / "iscsiboot" / "logins.lock").stat().st_mode) == 0o600


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "iscsiboot").mkdir()
    (tmp_path / "iscsiboot" / "logins.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IscsiBootError, match="cannot be made"):
        LoginLocks(str(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


def test_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "iscsiboot").write_text("a file")
    with pytest.raises(IscsiBootError, match="cannot be made"):
        LoginLocks(str(tmp_path))
