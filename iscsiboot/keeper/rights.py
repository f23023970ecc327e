# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what, held by the kernel: the right to act on sessions, and the place where a guard is asked.

Each is a byte of ``guard.lock`` under a POSIX record lock (fcntl(2), F_SETLK). That is the lock that fits: it belongs
to a process and not to a descriptor, so a forked child that hangs in the kernel does not keep it; it ends with its
process however that ends; the kernel tells whose it is (F_GETLK); and the file is root's alone (0600, in a folder only
root writes to), so nobody else can hold it. A process waits for a right by waiting for its holder's end (pidfd), not
for the lock.

The lock would also be lost when *any* descriptor of that file in the process is closed: it is opened here and nowhere
else, once in a process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from iscsiboot.keeper.log import Level, Log

FILE = "guard.lock"
_FLOCK = struct.Struct("@hhqqi")
_ROOM = 64
"""More than any struct flock."""


class Right(IntEnum):
    """The byte that stands for it."""

    ACT = 0
    """Stop, bind, log in and remove. Held by the daemon, or by the guard process that acts in its stead."""
    PLACE = 1
    """Listen where a guard is asked. Held by one guard process, also while it only stands behind the daemon."""


class Rights:
    """The rights of this process; :meth:`close`, like its end, gives all of them back."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, run: Path, log: Log) -> Rights:
        """Of the folder ``run``, which is made when it is not there. What is wrong with it is one warning: a guard that
        cannot lock still guards.
        """
        try:
            return cls(_open(run))
        except OSError as error:
            log(
                Level.WARNING,
                f"{run}: {error.strerror}: nothing keeps two guards from acting at once;"
                " next: see that it is a folder of root's alone on a tmpfs",
            )
            return cls(None)

    @property
    def kept(self) -> bool:
        """Whether there is anything that keeps others off."""
        return self._descriptor is not None

    def claim(self, right: Right) -> bool:
        """Have it, now or already; False when another process has it."""
        if self._descriptor is None:
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(right), os.SEEK_SET)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True

    def release(self, right: Right) -> None:
        """Give it back; nothing when we do not have it."""
        if self._descriptor is not None:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, int(right), os.SEEK_SET)

    def holder(self, right: Right) -> int | None:
        """The process that has it and is not us; None when nobody has. 0 for one of another PID namespace."""
        if self._descriptor is None:
            return None
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, int(right), 1, 0).ljust(_ROOM, b"\0")
        kind, _, _, _, pid = _FLOCK.unpack_from(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else max(0, pid)

    def close(self) -> None:
        """Give everything back; twice is fine."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def own_folder(path: Path, *, make: bool, mode: int = 0o755) -> int:
    """An open descriptor of a folder only we write to; ``make``: with its parents, and ``mode``, when it is not there.

    OSError, also when it is somebody else's or a link.
    """
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"it belongs to user {status.st_uid}", str(path))
        if status.st_mode & 0o022:
            # Closing it now would not undo what others may have put there.
            raise PermissionError(errno.EPERM, f"others may write to it (mode {stat.S_IMODE(status.st_mode):04o})")
        if make and stat.S_IMODE(status.st_mode) & ~mode:
            os.fchmod(descriptor, mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _open(run: Path) -> int:
    folder = own_folder(run, make=True)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(FILE, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
