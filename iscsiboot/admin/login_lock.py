# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two commands that log in to one place at once make one session: a lock for each place, which dies with its holder.

One file for all, ``/run/iscsiboot/logins.lock``; a place is the byte at a hash of it, so no file has to be removed.
The locks are open file description locks: the processes a command forks for its logins hold them as well, so a place
stays taken while one of them is at work, even when the command itself was killed. They are asked for, not waited for:
a place that is taken is a session that is being made, which open-iscsi's daemon answers by "session exists" too.
"""

from __future__ import annotations

import fcntl
import os
import struct

from iscsiboot.errors import ExitCode, IscsiBootError, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.database.names import NodeKey

_FLOCK = struct.Struct("hhqqi4x")
"""``struct flock`` on machines with 64-bit file offsets: type, whence, start, length, pid."""


class LoginLocks:
    """The locks of one command. Every copy of the descriptor, also a forked one, keeps them until it is closed."""

    def __init__(self, run: str) -> None:
        directory = f"{run}/iscsiboot"
        path = f"{directory}/logins.lock"
        try:
            os.makedirs(directory, mode=0o755, exist_ok=True)  # noqa: PTH103
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise IscsiBootError(
                f"cannot be made: {error.strerror}",
                stage=Stage.LOGIN,
                subject=path,
                hint="run it as root; /run must be writable",
                exit_code=ExitCode.ACCESS if isinstance(error, PermissionError) else ExitCode.INTERNAL,
            ) from error

    def take(self, key: NodeKey) -> bool:
        """Take a place; False when another command has it."""
        try:
            self._set(key, fcntl.F_WRLCK)
        except BlockingIOError:
            return False
        return True

    def release(self, key: NodeKey) -> None:
        """Give a place back."""
        self._set(key, fcntl.F_UNLCK)

    def close(self) -> None:
        """Give everything back that no forked process holds."""
        os.close(self._fd)

    def _set(self, key: NodeKey, kind: int) -> None:
        place = "\0".join((key.target, key.address, str(key.port), key.iface))
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, _offset(place), 1, 0))


def _offset(place: str) -> int:
    """A number of 62 bits; two places that share one would only keep each other waiting."""
    # What hashlib gives under this name, without OpenSSL, which hashlib loads first: four milliseconds of each login.
    try:
        from _blake2 import blake2b
    except ImportError:  # another Python than CPython
        from hashlib import blake2b

    digest = blake2b(place.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2
