# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsi_fw_login``: logs in to every target of the machine's boot table, ``iscsiadm -m fw -l`` in short.

udev runs it for each target an adapter's firmware shows (hooks/50-iscsi-firmware-login.rules), which may be several at
once: each run waits for the one before, then finds what that one left to do.
"""

from __future__ import annotations

import fcntl
import os

from iscsiboot.admin.context import Paths
from iscsiboot.admin.process import process
from iscsiboot.errors import ExitCode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TextIO

    Command = Callable[[Sequence[str], TextIO, TextIO], int]

PROGRAM = "iscsi_fw_login"
LOCK = "iscsi_fw_login.lock"
ARGUMENTS = ("-m", "fw", "-l")


def main(argv: Sequence[str], out: TextIO, err: TextIO, command: Command, *, paths: Paths | None = None) -> int:
    """One run; the exit status is that of iscsiadm. Arguments change nothing, as in the peer's script."""
    del argv
    path = f"{(paths or Paths()).run}/{LOCK}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        err.write(f"{PROGRAM}: {path} cannot be made: {error.strerror}; run it as root, with /run writable\n")
        return ExitCode.ERR
    try:
        # No limit of its own: who holds it has the limits of its logins, and the lock dies with its holder.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return command(ARGUMENTS, out, err)
    finally:
        os.close(descriptor)


def run() -> NoReturn:
    """The process ``iscsi_fw_login``."""
    from iscsiboot.admin.main import main as iscsiadm  # the function above is for any command

    process(lambda argv, out, err, _: main(argv, out, err, iscsiadm), PROGRAM)
