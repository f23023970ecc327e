# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the fork of iscsistart becomes: from a child in a unit of the initramfs to a process that needs nothing of it.

In this order, because each step takes away what the next may no longer need:

1. out of the session, the signals and the control group of whoever started iscsistart;
2. the standard streams to the kernel's log, every other descriptor closed;
3. the state files for the daemon, and every module the guard will need, out of the initramfs;
4. a root directory of its own (:mod:`iscsiboot.boot.private_root`), and in it the child that writes its log;
5. memory locked, the ``@`` in front of the name (:mod:`iscsiboot.keeper.hygiene`), imports sealed;
6. the word to iscsistart, which then ends, and the guard's work.

The lock comes after the fork of the log's child: it gives the guard a copy of its own of what the two would share, so
that no page has to be found for it later. Until that child is there, lines wait in memory.

The control group: systemd ends a unit by killing what is in its group, whatever the name begins with, and it ends the
initramfs' units at switch-root. In the root group, where the kernel's threads are, nobody kills anything; a systemd
that starts takes what it finds there into ``init.scope``, its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from iscsiboot.boot.keeper import FOLDER, SEALED, Roots, Session
from iscsiboot.boot.known import known_sessions, save
from iscsiboot.boot.private_root import enter
from iscsiboot.keeper import hygiene, seal
from iscsiboot.keeper.guardian import guard
from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.logring import LogRing
from iscsiboot.keeper.sinks import KmsgSink
from iscsiboot.session.forking import ENDING_SIGNALS
from iscsiboot.session.machine import this_machine

NAME = "iscsiboot-keeper"
TITLE = f"@{NAME}"
LATE = ("hashlib", "hmac", "iscsiboot.sysfs.disk_use")
"""What a guard's modules import where they first need it: CHAP, and who uses a disk."""
CGROUPS = ("sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/systemd")
"""Roots of the hierarchies systemd keeps its units in: the unified one alone, or beside the old ones."""
_IGNORED = (*ENDING_SIGNALS, signal.SIGQUIT, signal.SIGPIPE)
_STANDARD = ((0, "/dev/null", os.O_RDONLY), (1, "/dev/kmsg", os.O_WRONLY), (2, "/dev/kmsg", os.O_WRONLY))


def live(sessions: Sequence[Session], roots: Roots, ready: int) -> None:
    """The whole life of the keeper; ``ready`` is where :data:`SEALED` goes."""
    leave_starter()
    redirect_standard_files(keep=ready)
    early: list[tuple[Level, str]] = []

    def note(level: Level, text: str) -> None:
        early.append((level, text))

    leave_control_group(note, roots.root)
    known = known_sessions(sessions)
    save(known, roots.run, note=lambda text: note(Level.WARNING, text))
    seal.preload(LATE)
    own_root(roots.run / FOLDER, note)
    log = LogRing(KmsgSink(NAME))
    for level, text in early:
        log(level, text)
    hygiene.harden(log, comm=NAME, title=(TITLE,))
    seal.seal(log)
    os.write(ready, SEALED)
    os.close(ready)
    guard(known, environment=this_machine(), log=log, run=roots.run / FOLDER)


def leave_starter() -> None:
    """A session and a process group of its own, no terminal, no signal that means somebody else."""
    os.setsid()
    os.chdir("/")
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    # What came since the fork meant iscsistart.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)


def redirect_standard_files(*, keep: int) -> None:
    """What Python itself prints goes to the kernel's log; nothing of the starter stays open but ``keep``.

    Its console or journal connection would be one thing more that ends with the initramfs.
    """
    for number, path, flags in _STANDARD:
        try:
            descriptor = os.open(path, flags)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)
        os.dup2(descriptor, number)
        if descriptor > 2:
            os.close(descriptor)
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))


def leave_control_group(log: Log, root: Path = Path("/")) -> None:
    """Into the root group of each hierarchy that is there; see the module's text."""
    for place in CGROUPS:
        path = root / place / "cgroup.procs"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            _cannot_leave(log, path, error)
            continue
        try:
            os.write(descriptor, b"0")
        except OSError as error:
            _cannot_leave(log, path, error)
        finally:
            os.close(descriptor)


def _cannot_leave(log: Log, path: Path, error: OSError) -> None:
    cost = "the keeper stays in the control group of whoever started it, and may end with it"
    log(Level.WARNING, f"{path}: {error.strerror}: {cost}")


def own_root(folder: Path, log: Log) -> None:
    """Into a mount namespace of its own. Without one it goes on: it sees no sysfs any more after switch-root."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        enter(folder)
    except OSError as error:
        cost = "after switch-root the keeper sees no sessions and can recover none"
        log(Level.WARNING, f"no mount namespace of its own: {error}; {cost}")
