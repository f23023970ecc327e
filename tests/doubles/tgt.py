# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real target, tgt (Debian's package), run for one test: its own process, control socket and port.

Nothing is shared with another tgtd of the machine: the control number is drawn anew for each, and one that is in use
makes ours exit at once, which is noticed before any ``tgtadm`` could speak to the other. tgtd says when it listens as
it says it to systemd (``NOTIFY_SOCKET``), so nobody has to try until it answers. LUN 0 is always tgt's own controller.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from tests.doubles.peers import LOOPBACK, TargetSpec, account, await_word, free_port, runtime_directory
from tests.qemu.harness.errors import HarnessError
from tests.qemu.harness.process import Process

__all__ = ["DISK_LUN", "TGTD", "TargetSpec", "TgtFailed", "TgtTarget", "Tgtd", "admin_commands", "free_port"]

DISK_LUN = 1
ADMIN_SECONDS = 20.0
RUN = Path("/var/run/tgtd")
"""Where tgtd has its control sockets, by control number."""
TGTD = shutil.which("tgtd", path="/usr/sbin:/usr/bin:/sbin:/bin")
_CONTROLS = 32768
"""tgtd takes control numbers below this."""


class TgtFailed(HarnessError):
    """tgtd did not start or tgtadm refused; the message holds what it printed, never what it was given."""


def admin_commands(specs: Sequence[TargetSpec]) -> list[list[str]]:
    """The arguments of ``tgtadm`` that make the targets, in the order tgt needs; the first is target id 1.

    Accounts are tgtd's and not a target's: one user name can have only one secret. ValueError when it has two.
    """
    commands: list[list[str]] = []
    accounts: dict[str, str] = {}
    for tid, spec in enumerate(specs, 1):
        target = _words("target", tid)
        commands.append([*target, "--op", "new", "--targetname", spec.name])
        for lun in (spec.luns or (DISK_LUN,)) if spec.disk is not None else ():
            unit = [*_words("logicalunit", tid), "--op", "new", "--lun", str(lun)]
            commands.append([*unit, "--backing-store", str(spec.disk)])
        for chap, direction in ((spec.chap, ()), (spec.mutual, ("--outgoing",))):
            if chap is None:
                continue
            secret = chap.secret.reveal().decode()
            if accounts.setdefault(chap.name, secret) != secret:
                raise ValueError(f"the user {chap.name} has two secrets")
            new = ["--lld", "iscsi", "--mode", "account", "--op", "new", "--user", chap.name, "--password", secret]
            if new not in commands:
                commands.append(new)
            commands.append([*_words("account", tid), "--op", "bind", "--user", chap.name, *direction])
        commands += [[*target, "--op", "update", "--name", key, "--value", text] for key, text in spec.keys.items()]
        commands.append([*target, "--op", "bind", "--initiator-address", "ALL"])
    return commands


def _words(mode: str, tid: int) -> list[str]:
    return ["--lld", "iscsi", "--mode", mode, "--tid", str(tid)]


class Tgtd:
    """tgtd with these targets; a context manager. The process dies by its own id, and with its parent."""

    def __init__(
        self,
        *specs: TargetSpec,
        runtime: Path | None = None,
        address: str = LOOPBACK,
        port: int | None = None,
        control: int | None = None,
    ) -> None:
        self._specs = specs
        self._runtime = runtime
        self.address = address
        self.port = free_port(address) if port is None else port
        self.control = secrets.randbelow(_CONTROLS) if control is None else control
        self.lun = DISK_LUN
        self._stack = ExitStack()

    def __enter__(self) -> Tgtd:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Run tgtd, wait until it listens, make the targets; TgtFailed leaves nothing behind."""
        if TGTD is None:
            raise TgtFailed("tgtd is not installed (package tgt)")
        host = f"[{self.address}]" if ":" in self.address else self.address
        with ExitStack() as stack:
            runtime = self._runtime or runtime_directory(stack)
            notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
            notify.bind(str(runtime / "tgtd.notify"))
            stack.callback((runtime / "tgtd.notify").unlink)
            argv = [TGTD, "-f", "-C", str(self.control), "--iscsi", f"portal={host}:{self.port}"]
            env = {**os.environ, "NOTIFY_SOCKET": str(runtime / "tgtd.notify")}
            # tgtd ignores SIGTERM, and what it wrote to a disk's file is the kernel's already: it is killed.
            process = Process(argv, log=runtime / "tgtd.log", env=env, graceful=False)
            stack.enter_context(process)
            if not await_word(notify.fileno(), process.child.pid, reason="tgtd to be ready"):
                status = process.child.wait()
                raise TgtFailed(f"tgtd -C {self.control} ended with status {status}: {process.output().strip()}")
            # Only now the control socket is ours: a tgtd whose number is taken ends without one.
            stack.callback(self._forget)
            for command in admin_commands(self._specs):
                self.admin(*command)
            self._stack = stack.pop_all()

    def stop(self) -> None:
        """End tgtd, whatever it is doing; a second call does nothing."""
        self._stack.close()

    def admin(self, *arguments: str) -> str:
        """Run ``tgtadm``; its output. The error names mode and operation only: a secret may be among the rest."""
        done = subprocess.run(
            ["tgtadm", "-C", str(self.control), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ADMIN_SECONDS,
            check=False,
        )
        if done.returncode:
            named = [arguments[at + 1] for at, word in enumerate(arguments[:-1]) if word in ("--mode", "--op")]
            raise TgtFailed(f"tgtadm {' '.join(named)}: {done.stderr.strip()}")
        return done.stdout

    def initiators(self) -> list[str]:
        """Names of the initiators that have a session now."""
        shown = self.admin("--lld", "iscsi", "--mode", "target", "--op", "show")
        return re.findall(r"^\s+Initiator: (\S+)", shown, re.MULTILINE)

    def _forget(self) -> None:
        for suffix in ("", ".lock"):
            (RUN / f"socket.{self.control}{suffix}").unlink(missing_ok=True)


class TgtTarget(Tgtd):
    """tgtd with one target. ``chap`` is what initiators have to prove, ``mutual`` what the target proves itself with:
    each a user name and a secret. ``parameters`` are session keys.
    """

    def __init__(
        self,
        *,
        name: str,
        port: int | None = None,
        control: int | None = None,
        backing: Path | None = None,
        luns: Sequence[int] = (DISK_LUN,),
        chap: tuple[str, str] | None = None,
        mutual: tuple[str, str] | None = None,
        address: str = LOOPBACK,
        parameters: Mapping[str, str] | None = None,
        runtime: Path | None = None,
    ) -> None:
        spec = TargetSpec(
            name=name,
            disk=backing,
            luns=tuple(luns),
            chap=account(chap) if chap else None,
            mutual=account(mutual) if mutual else None,
            keys=parameters or {},
        )
        super().__init__(spec, runtime=runtime, address=address, port=port, control=control)
        self.name = name

    def __enter__(self) -> TgtTarget:
        self.start()
        return self
