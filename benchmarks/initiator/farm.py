# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tgtd with many targets on the loopback, for the time of a ``with`` block.

``tgtadm`` is a process a call and tgtd has no other way in, so a shell makes the targets, two calls each: ten thousand
take half a minute.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from iscsiboot.model.deadline import Deadline
from tests.doubles.tgt import free_port
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Process, Tell, run_long

LOOPBACK = "127.0.0.1"
PREFIX = "iqn.2004-01.com.example:bench"
USER, SECRET = "benchmark", "benchmark-secret"
"""Account of the target with CHAP; a throw-away on the loopback."""
START_SECONDS = 15.0
MAKE_SECONDS = 300.0
_CONTROL_SOCKETS = Path("/var/run/tgtd")

_MAKE = """
set -eu
control=$1 count=$2 prefix=$3 user=$4 secret=$5 backing=$6
tgt() { tgtadm -C "$control" --lld iscsi --op "$1" --mode "$2" --tid "$number" $3; }
number=0
while [ "$number" -lt "$count" ]; do
    number=$((number + 1))
    tgt new target "--targetname $prefix-$number"
    tgt bind target "-I ALL"
    if [ "$backing" ]; then tgt new logicalunit "--lun 1 -b $backing"; fi
    if [ $((number % 500)) = 0 ]; then echo "$number of $count"; fi
done
if [ "$user" ]; then
    tgtadm -C "$control" --lld iscsi --op new --mode account --user "$user" --password "$secret"
    tgt bind account "--user $user"
fi
"""


class Farm:
    """``size`` targets, named ``PREFIX-1`` and on; with ``chap`` the last one demands CHAP of USER.

    ``addresses`` are the portals (all on one port), ``backing`` a file each target has as LUN 1.
    """

    def __init__(
        self,
        size: int,
        *,
        tell: Tell,
        chap: bool = False,
        addresses: Sequence[str] = (LOOPBACK,),
        port: int = 0,
        backing: Path | None = None,
    ) -> None:
        self.size = size
        self.port = port or free_port()
        self._tell = tell
        self._chap = chap
        self._addresses = tuple(addresses)
        self._backing = backing
        self._control = 1000 + secrets.randbelow(30000)
        self._stack = ExitStack()

    @staticmethod
    def name(number: int) -> str:
        """The name of target ``number``, from 1."""
        return f"{PREFIX}-{number}"

    def __enter__(self) -> Farm:
        with ExitStack() as stack:
            runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farm-")))
            notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            notify.bind(str(runtime / "notify"))
            portals = ",".join(f"portal={address}:{self.port}" for address in self._addresses)
            argv = ["tgtd", "-f", "-C", str(self._control), "--iscsi", portals]
            stack.callback(self._forget)
            # tgtd says READY=1 there as to systemd, so nobody has to try until it answers.
            env = {**os.environ, "NOTIFY_SOCKET": str(runtime / "notify")}
            # tgtd ignores TERM, and nothing of these targets is worth a clean end.
            process = stack.enter_context(Process(argv, log=runtime / "tgtd.log", graceful=False, env=env))
            self._await_ready(notify, process)
            self._make(runtime)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _make(self, runtime: Path) -> None:
        account = (USER, SECRET) if self._chap else ("", "")
        words = (str(self._control), str(self.size), PREFIX, *account, str(self._backing or ""))
        run_long(
            ["/bin/sh", "-c", _MAKE, "sh", *words],
            what=f"tgtd with {self.size} targets",
            log=runtime / "make.log",
            seconds=MAKE_SECONDS,
            tell=self._tell,
        )

    @staticmethod
    def _await_ready(notify: socket.socket, process: Process) -> None:
        deadline = Deadline.after(START_SECONDS, now=time.monotonic(), reason="tgtd to be ready")
        ended = os.pidfd_open(process.child.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(notify, selectors.EVENT_READ)
                selector.register(ended, selectors.EVENT_READ)
                ready = {key.fd for key, _ in selector.select(deadline.remaining(time.monotonic()))}
        finally:
            os.close(ended)
        if notify.fileno() not in ready:
            raise HarnessError(f"tgtd does not start: {process.output().strip()}")

    def _forget(self) -> None:
        for suffix in ("", ".lock"):
            (_CONTROL_SOCKETS / f"socket.{self._control}{suffix}").unlink(missing_ok=True)
