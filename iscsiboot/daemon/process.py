# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process becomes a daemon: the fork whose parent waits until the daemon works, and the user it goes on as.

The peer's parent is gone right after the fork, so a script that starts it learns nothing of what fails later, and asks
for sessions before they are there. Here the parent returns when the daemon is ready, or with its failure.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Callable

from iscsiboot.keeper import libc
from iscsiboot.session.workers import leave_standard_files

READY_SECONDS = 60.0
"""The parent's patience: a daemon that takes longer goes on, and is told to be slow."""
DESCRIPTORS = 16384
"""The peer's number."""
_READY, _FAILED = b"R", b"F"


class Parent:
    """What the daemon tells the process it was forked from; nothing where there is none."""

    def __init__(self, pipe: int | None = None) -> None:
        self._pipe = pipe

    def ready(self) -> None:
        """Everything works: the parent ends with 0, and the terminal is its own again."""
        if self._pipe is not None:
            self._tell(_READY)
            leave_standard_files()

    def failed(self, line: str) -> bool:
        """The parent prints ``line`` and ends with 1; False when there is none, and it is yet to be printed."""
        if self._pipe is None:
            return False
        self._tell(_FAILED + line.encode("utf-8", "replace"))
        return True

    def _tell(self, text: bytes) -> None:
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, text)
        except OSError:
            pass  # it has not waited any longer
        os.close(self._pipe)
        self._pipe = None


def detach(say: Callable[[str], None]) -> tuple[Parent | None, int]:
    """Fork. In the child: its parent and 0. In the parent: None and the status to end with, when that is known.

    ``say`` takes lines for standard error. OSError when no process can be made.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.setsid()
        os.chdir("/")
        return Parent(writing), 0
    os.close(writing)
    return None, _wait(pid, reading, say)


def _wait(pid: int, pipe: int, say: Callable[[str], None]) -> int:
    """The status the parent ends with."""
    ready, _, _ = select.select([pipe], [], [], READY_SECONDS)
    if not ready:
        say(f"iscsid (process {pid}) is not ready after {READY_SECONDS:g} s; it goes on")
        return 0
    told = os.read(pipe, 4096)
    if told.startswith(_READY):
        return 0
    if told.startswith(_FAILED):
        say(told[1:].decode("utf-8", "replace"))
    else:
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        say(f"iscsid ended before it was ready ({how})")
    return 1


def lift_descriptors() -> None:
    """As many open files as the system grants: a session needs several while it recovers, clients need one each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def change_user(uid: int, gid: int, warn: Callable[[str], None]) -> None:
    """Go on as another group and user; 0 keeps it. OSError when that is refused.

    Only root's memory is locked without bounds. Where RLIMIT_MEMLOCK could not be lifted, another user would get no
    more memory at all: then the lock is given up, and ``warn`` is told.
    """
    if uid and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        libc.munlockall()
        warn(
            f"locked memory is given up: user {uid} may not lock what comes later; a stalled root disk may stop the"
            " daemon; next: allow it (LimitMEMLOCK=infinity), or leave out -u"
        )
    if gid:
        os.setgid(gid)
    if uid or gid:
        os.setgroups([])
    if uid:
        os.setuid(uid)
