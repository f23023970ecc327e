# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading below the database's root without ever leaving it.

Every step goes through the descriptor of the folder above and follows no symbolic link, so neither a link somebody
planted in ``nodes/`` nor one that appears between two steps leads elsewhere. The root itself may be reached through
links. A pipe, a device or an endless file where a record belongs is refused before a byte is read.
"""

from __future__ import annotations

import errno
import os
import stat

from iscsiboot.database.failure import DatabaseError, failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the open of a pipe would wait for a writer.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

RECORD_MAX = 1 << 18
"""Bytes of the longest file that is read: a record has two or three thousand."""

_READ_AGAIN = 1000
"""Times a file may be replaced while it is read."""


class Entry:
    """One name in a folder, and what stands there: ``folder``, ``file``, ``link`` or ``other``."""

    __slots__ = ("kind", "name")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind


class Folder:
    """An open folder. Use it in a ``with`` statement."""

    __slots__ = ("fd", "path")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        """For messages only."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def sub(self, name: str) -> Folder | None:
        """The folder ``name`` in this one, None when there is none; DatabaseError for a file or a link."""
        path = f"{self.path}/{name}"
        try:
            return Folder(os.open(name, FOLDER_FLAGS, dir_fd=self.fd), path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return None
            if error.errno == errno.ENOTDIR:
                raise DatabaseError(
                    "a file or a symbolic link stands where a folder belongs",
                    subject=path,
                    hint="`iscsiboot db check` tells what is there; to keep records elsewhere use a bind mount",
                ) from error
            raise failure(error, path, "opening the folder") from error

    def entries(self) -> list[Entry]:
        """What is in it, in the order of the bytes of the names."""
        try:
            with os.scandir(self.fd) as found:
                entries = [Entry(entry.name, _kind(entry)) for entry in found]
        except OSError as error:
            raise failure(error, self.path, "reading the folder") from error
        if len(entries) > 1:
            entries.sort(key=lambda entry: os.fsencode(entry.name))
        return entries

    def read(self, name: str, limit: int = RECORD_MAX, *, locked: bool = False) -> bytes | None:
        """The bytes of a regular file, None when it is missing; DatabaseError for anything else or above ``limit``.

        A change of thousands of records gives a replaced file to another record (:mod:`iscsiboot.database.commit`), so
        what was read counts only if the name still leads to the file it was read from. ``locked``: the writers' lock is
        the caller's, so nobody else does that.
        """
        path = f"{self.path}/{name}"
        try:
            for _ in range(_READ_AGAIN):
                data = self._read_once(name, path, limit, locked)
                if data is not None:
                    return data
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTDIR):
                return None
            if error.errno == errno.ENXIO:
                raise _not_a_file(path) from error
            raise failure(error, path, "reading the record") from error
        raise DatabaseError("it is replaced faster than it can be read", subject=path, hint="run the command again")

    def _read_once(self, name: str, path: str, limit: int, locked: bool) -> bytes | None:
        """What is in the file, None when another took its place meanwhile."""
        try:
            fd = os.open(name, FILE_FLAGS, dir_fd=self.fd)
        except BlockingIOError:
            # The writer looks at this very moment whether anybody has the file it replaced.
            return None
        try:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode):
                raise _not_a_file(path)
            if state.st_size > limit:
                raise DatabaseError(
                    f"it has {state.st_size} bytes, no record has more than {limit}", subject=path, hint="remove it"
                )
            data = _read_all(fd, state.st_size, limit)
        finally:
            os.close(fd)
        same = locked or os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_ino == state.st_ino
        return data if same else None

    def kind_of(self, name: str) -> str:
        """``folder``, ``file``, ``link``, ``other``, or "" when there is nothing."""
        try:
            mode = os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return ""
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return ""
            raise failure(error, f"{self.path}/{name}", "looking at it") from error
        return _KINDS.get(stat.S_IFMT(mode), "other")


_KINDS = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}


def _kind(entry: os.DirEntry[str]) -> str:
    """The kind without a system call, as the folder itself tells it."""
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _not_a_file(path: str) -> DatabaseError:
    return DatabaseError("this is no regular file, so it is no record", subject=path, hint="remove it")


def _read_all(fd: int, size: int, limit: int) -> bytes:
    """Until the end; a file that grows meanwhile is cut at ``limit``. One read suffices for one that does not."""
    data = os.read(fd, size + 1)
    while size < len(data) < limit:
        more = os.read(fd, limit - len(data))
        if not more:
            break
        data += more
    return data


def open_root(root: str) -> Folder | None:
    """The database's root, None when it does not exist: then there are no records."""
    try:
        return Folder(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), root)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise failure(error, root, "opening the database") from error


def descend(root: Folder, *names: str) -> Folder | None:
    """The folder ``names`` below ``root``, None when one of them is missing."""
    here = root
    for name in names:
        try:
            below = here.sub(name)
        finally:
            if here is not root:
                os.close(here.fd)
        if below is None:
            return None
        here = below
    return here
