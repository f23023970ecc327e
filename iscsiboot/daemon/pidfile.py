# SPDX-License-Identifier: LGPL-2.1-or-later
"""``/run/iscsid.pid``: who runs, for scripts (Debian's ``logout-all.sh`` reads it), and a lock that dies with him.

As the real iscsid's: the number and a line end, mode 0644 without group and others, locked by lockf(3) as long as the
daemon lives. The two daemons see each other's lock. A file without a lock is one that was left behind, whatever number
stands in it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage

MODE = 0o600
_FLOCK = struct.Struct("hhqqi4x")
"""``struct flock`` where off_t has 64 bits: type, whence, start, length, pid."""
_TRIES = 16
"""Each means that somebody ended, and took his file away, in the very moment between our open and our lock."""


class AlreadyRunning(IscsiBootError):
    """Another daemon holds the file; ``pid`` is its number, 0 when it is in a process namespace of its own."""

    def __init__(self, path: str, pid: int) -> None:
        who = f"process {pid}" if pid else "a process that cannot be seen from here"
        super().__init__(
            f"another iscsid is running: {who} holds it",
            stage=Stage.DAEMON,
            subject=path,
            hint=f"stop that one first (kill {pid})" if pid else "look on the host of this container",
            exit_code=ExitCode.ERR,
        )
        self.pid = pid


class NotWritten(IscsiBootError):
    """The file cannot be written."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(
            f"cannot be written: {error.strerror}",
            stage=Stage.DAEMON,
            subject=path,
            hint="name another file with -p, or none with -n",
            exit_code=ExitCode.ERR,
        )


class PidFile:
    """The file, held from :meth:`claim` to :meth:`release` or the end of the process; a context manager of both.

    Locks of this kind do not pass to a fork: claim it in the process that stays.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._descriptor: int | None = None

    def claim(self) -> None:
        """Lock it and write our number. :class:`AlreadyRunning`; :class:`NotWritten`."""
        try:
            descriptor = self._locked()
        except OSError as error:
            raise NotWritten(str(self._path), error) from error
        self._descriptor = descriptor

    def _locked(self) -> int:
        for _ in range(_TRIES):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
            try:
                _lock(descriptor, str(self._path))
                if _is_at(descriptor, self._path):
                    self._write(descriptor)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise OSError(errno.EBUSY, "it is replaced again and again")

    def _write(self, descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError:
            # In a full /run it can be made but not filled, and a script takes no number for a number.
            self._path.unlink()
            raise

    def release(self) -> None:
        """Take it away, if it is still ours, and give the lock back."""
        if self._descriptor is None:
            return
        try:
            if _is_at(self._descriptor, self._path):
                self._path.unlink()
        except OSError:
            pass  # a read-only or vanished /run; the lock is what counts
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> PidFile:
        self.claim()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(descriptor: int, path: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise AlreadyRunning(path, _holder(descriptor)) from error


def _holder(descriptor: int) -> int:
    """Who has the lock; 0 when the kernel does not say."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    except OSError:
        return 0
    kind, _, _, _, pid = _FLOCK.unpack(answer)
    return 0 if kind == fcntl.F_UNLCK else max(0, pid)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still stands there: its last holder may have taken it away after we opened it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False
