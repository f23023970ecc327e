# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files with secrets: read when nobody else can read or change them, refused with the next step otherwise.

A secret that others could read is none any more, so an open file is an error with the command that closes it, and not a
warning. Everything is checked on the open file: no swap of the path between the check and the reading can fool it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from iscsiboot.errors import ExitCode, IscsiBootError, Stage

_OWNED_BY_OTHERS = "run this as the file's owner, or make a copy of your own with mode 0600"


class SecretsError(IscsiBootError):
    """Credentials that cannot be used: exit code 7."""

    def __init__(self, cause: str, *, subject: str, hint: str) -> None:
        super().__init__(cause, stage=Stage.ARGUMENTS, subject=subject, hint=hint, exit_code=ExitCode.INVAL)


def read_private(path: Path, *, limit: int) -> bytes:
    """The content of a regular file of ours or root's, closed to all others; :class:`SecretsError` otherwise.

    ``limit`` is how many bytes it may have.
    """
    subject = str(path)
    try:
        # O_NONBLOCK: a FIFO must not hold us up before it is refused.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise _unreadable(error, subject) from error
    try:
        _check(os.fstat(descriptor), subject)
        # Only now: for a directory fdopen would raise and leave the descriptor open.
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(error, subject) from error
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise SecretsError(f"is larger than {limit} bytes", subject=subject, hint="name another file")
    return content


def _unreadable(error: OSError | ValueError, subject: str) -> SecretsError:
    """ValueError is that of a path with a NUL in it."""
    if not isinstance(error, OSError):
        return SecretsError(f"cannot be read: {error}", subject=subject, hint="check the path")
    hint = _OWNED_BY_OTHERS if error.errno in (errno.EACCES, errno.EPERM) else "check the path"
    return SecretsError(f"cannot be read: {os.strerror(error.errno or 0)}", subject=subject, hint=hint)


def _check(status: os.stat_result, subject: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SecretsError("is no regular file", subject=subject, hint="name a file with the secret in it")
    if status.st_mode & 0o077:
        raise SecretsError(
            f"holds a secret, and others may read it (mode {stat.S_IMODE(status.st_mode):04o})",
            subject=subject,
            hint=f"chmod 0600 {subject}, and change the secret",
        )
    if status.st_uid not in (0, os.geteuid()):
        raise SecretsError(
            f"belongs to user {status.st_uid}, who can change it", subject=subject, hint="use a file of your own"
        )
