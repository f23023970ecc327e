# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each single thing a change does to the disk, and nothing else: the seam where tests make one of them fail.

All are relative to an open folder and follow no symbolic link. Modes do not depend on the umask.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_EXCHANGE = 2
"""linux/fs.h."""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


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
        tells; it ends with the descriptor.
        """
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if os.fstat(fd).st_nlink != 1:
                return False
            try:
                # Who opens it now is told to wait, and we would be told by a signal that ends a process: not by this.
                fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError:
                return False
            os.fchmod(fd, FILE_MODE)
            _write_all(fd, data)
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
        import ctypes  # Python has no renameat2; only changes of very many records come here

        try:
            renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        except (OSError, AttributeError) as error:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
        if renameat2(folder, os.fsencode(name), new_folder, os.fsencode(new_name), _RENAME_EXCHANGE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

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
        try:
            import ctypes  # Python has no syncfs; only changes of many records come here

            syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        except (ImportError, OSError, AttributeError):
            return False
        if syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return True
