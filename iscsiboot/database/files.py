# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each single thing a change does to the disk, and nothing else: the seam where tests make one of them fail.

All are relative to an open folder and follow no symbolic link. Modes do not depend on the umask.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_EXCHANGE = 2
"""linux/fs.h."""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@cache
def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the C library that Python has not, returning int; None where the library does not have it either.

    It sets the errno of :func:`_c_error`, and other threads run while it is at work.
    """
    try:
        import ctypes  # only changes of many records come here

        function: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (ImportError, OSError, AttributeError):
        return None
    return function


def _encoded(name: str) -> bytes:
    """What os.fsencode makes of it, for thousands of names."""
    return name.encode("utf-8", "surrogateescape")


def _c_error() -> OSError:
    """Why the last such function failed in this thread."""
    import ctypes

    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class Files:
    """The system's own."""

    def create(self, folder: int, name: str, data: bytes, *, durable: bool) -> None:
        """A new file with ``data``, on the disk when ``durable``; OSError leaves nothing behind that is not a temp."""
        fd = os.open(name, _NEW, FILE_MODE, dir_fd=folder)
        try:
            os.fchmod(fd, FILE_MODE)
            _write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)

    def overwrite(self, folder: int, name: str, data: bytes, *, durable: bool) -> bool:
        """Give a file of ours other contents in place, on the disk when ``durable``.

        False, and nothing done, when anybody else can see it change.

        Somebody who opened the file when it still was a record may read it any time later, and a copy made of hard
        links shares it. A write lease is granted on a file that nobody else has open (fcntl(2)), so asking for one
        tells; it ends with the descriptor. Whoever a record was given to (chown) could read what is put into it.
        """
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            state = os.fstat(fd)
            if state.st_nlink != 1 or state.st_uid != os.geteuid():
                return False
            try:
                # Who opens it now is told to wait, and we would be told by a signal that ends a process: not by this.
                fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError:
                return False
            if stat.S_IMODE(state.st_mode) != FILE_MODE:
                os.fchmod(fd, FILE_MODE)
            _write_all(fd, data)
            if state.st_size > len(data):
                os.ftruncate(fd, len(data))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        return True

    def mkdir(self, folder: int, name: str) -> None:
        """A new folder; FileExistsError when something has the name."""
        os.mkdir(name, FOLDER_MODE, dir_fd=folder)
        os.chmod(name, FOLDER_MODE, dir_fd=folder)

    def rename(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        """Move a name, replacing what has the new one: atomic."""
        os.rename(name, new_name, src_dir_fd=folder, dst_dir_fd=new_folder)

    def exchange(self, folder: int, name: str, new_folder: int, new_name: str) -> None:
        """Swap two files: atomic. OSError with ENOSYS or EINVAL where the system or its file system cannot."""
        renameat2 = _c_function("renameat2")
        if renameat2 is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if renameat2(folder, _encoded(name), new_folder, _encoded(new_name), _RENAME_EXCHANGE) != 0:
            raise _c_error()

    def symlink(self, folder: int, name: str, target: str) -> None:
        """A new symbolic link."""
        os.symlink(target, name, dir_fd=folder)

    def unlink(self, folder: int, name: str) -> None:
        """Remove a file or a link."""
        os.unlink(name, dir_fd=folder)

    def rmdir(self, folder: int, name: str) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=folder)

    def chmod(self, folder: int, name: str, mode: int) -> None:
        """Change the mode of a file or folder."""
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def sync(self, fd: int) -> None:
        """What was done to one file or folder is on the disk."""
        os.fsync(fd)

    def sync_all(self, fd: int) -> bool:
        """Everything on the file system of ``fd`` is on the disk. False where the C library cannot be asked."""
        syncfs = _c_function("syncfs")
        if syncfs is None:
            return False
        if syncfs(fd) != 0:
            raise _c_error()
        return True
