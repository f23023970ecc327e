# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one exception of the database, and how an errno becomes a line an administrator can act on."""

from __future__ import annotations

import errno

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, printable

_ADVICE = {
    errno.EROFS: ("the file system is read-only", "mount it read-write, then run the command again"),
    errno.ENOSPC: ("no space is left on the file system", "make room; nothing was changed"),
    errno.EDQUOT: ("the disk quota is used up", "make room; nothing was changed"),
    errno.EACCES: ("permission denied", "run it as root"),
    errno.EPERM: ("permission denied", "run it as root; an immutable flag (lsattr) also has this effect"),
    errno.EIO: ("the disk reports an input/output error", "look at the kernel log"),
    errno.ELOOP: ("it is a symbolic link, and the database follows none", "put a real file or folder there"),
}
"""Cause and hint of the errors people meet; every other errno is told in the C library's words."""


class DatabaseError(IscsiBootError):
    """The database could not be read or written. The subject is a path; contents of records are never in it."""

    def __init__(self, cause: str, *, subject: str = "", hint: str = "", exit_code: ExitCode = ExitCode.IDBM) -> None:
        super().__init__(cause, stage=Stage.DATABASE, subject=printable(subject), hint=hint, exit_code=exit_code)


def failure(error: OSError, path: str, doing: str) -> DatabaseError:
    """``error`` that came from ``doing`` (a phrase: "writing the record") at ``path`` as a :class:`DatabaseError`."""
    cause, hint = _ADVICE.get(error.errno or 0, (error.strerror or str(error), ""))
    return DatabaseError(f"{doing} failed: {cause}", subject=path, hint=hint)
