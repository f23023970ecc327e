# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tgt target on the host's loopback, which QEMU's user network shows to the guest as 10.0.2.2.

One ``tgtd`` a boot, on a free port and with a control number of its own, so runs do not meet. LUN 0 is tgt's own
controller; the disk is LUN 1.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from iscsiboot.model.credentials import Chap
from iscsiboot.model.deadline import Deadline
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Process

LOOPBACK = "127.0.0.1"
DISK_LUN = 1
START_SECONDS = 15.0
_CONTROL_SOCKETS = Path("/var/run/tgtd")


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSpec:
    """What the target is and whom it lets in."""

    name: str
    disk: Path
    """Exported writable: give it a copy."""
    chap: Chap | None = None
    """What an initiator must prove."""
    mutual: Chap | None = None
    """What the target proves in return."""


def admin_commands(spec: TargetSpec) -> list[list[str]]:
    """The arguments of ``tgtadm`` that make ``spec``, in order."""
    target = ["--lld", "iscsi", "--mode", "target"]
    account = ["--lld", "iscsi", "--mode", "account"]
    unit = ["--lld", "iscsi", "--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", str(DISK_LUN)]
    commands = [[*target, "--op", "new", "--tid", "1", "--targetname", spec.name], [*unit, "-b", str(spec.disk)]]
    for chap, direction in ((spec.chap, ()), (spec.mutual, ("--outgoing",))):
        if chap is not None:
            secret = chap.secret.reveal().decode()
            commands.append([*account, "--op", "new", "--user", chap.name, "--password", secret])
            commands.append([*account, "--op", "bind", "--tid", "1", "--user", chap.name, *direction])
    return [*commands, [*target, "--op", "bind", "--tid", "1", "-I", "ALL"]]


class Target:
    """The running target for the time of a ``with`` block."""

    def __init__(self, spec: TargetSpec, *, runtime: Path) -> None:
        self._spec = spec
        self._runtime = runtime
        self._control = 1000 + secrets.randbelow(30000)
        self._stack = ExitStack()
        self.port = free_port()

    def __enter__(self) -> Target:
        with ExitStack() as stack:
            notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            notify.bind(str(self._runtime / "tgtd.notify"))
            argv = ["tgtd", "-f", "-C", str(self._control), "--iscsi", f"portal={LOOPBACK}:{self.port}"]
            # tgtd says READY=1 there as to systemd, so nobody has to try until it answers.
            env = {**os.environ, "NOTIFY_SOCKET": str(self._runtime / "tgtd.notify")}
            stack.callback(self._forget)
            process = stack.enter_context(Process(argv, log=self._runtime / "tgtd.log", env=env))
            self._await_ready(notify, process)
            for command in admin_commands(self._spec):
                self.admin(*command)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def admin(self, *arguments: str) -> str:
        """Run ``tgtadm``; its output. The error names the operation, not the arguments: a secret may be among them."""
        argv = ["tgtadm", "-C", str(self._control), *arguments]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HarnessError(f"tgtadm {' '.join(arguments[2:6])}: {done.stderr.strip()}")
        return done.stdout

    def log(self) -> str:
        """What tgtd says."""
        return (self._runtime / "tgtd.log").read_text(errors="replace")

    def _await_ready(self, notify: socket.socket, process: Process) -> None:
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
        for left in _CONTROL_SOCKETS.glob(f"socket.{self._control}*"):
            left.unlink(missing_ok=True)


def free_port() -> int:
    """A TCP port of the loopback nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    return port
