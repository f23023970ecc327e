# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real target, tgt (Debian's package), run for one test: its own process, control socket and port.

Nothing is shared with another tgtd of the machine: a control number in use makes ours exit at once, which is noticed
before any ``tgtadm`` could speak to the other one.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from iscsiboot.model.deadline import Deadline

START_SECONDS = 20.0
RUN = Path("/var/run/tgtd")
"""Where tgtd has its control sockets, by control number."""
TGTD = shutil.which("tgtd", path="/usr/sbin:/usr/bin:/sbin:/bin")


class TgtFailed(Exception):
    """tgtd did not start or tgtadm refused; the message holds what it printed."""


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def _control_of(port: int) -> int:
    """A control number as unlikely to be taken as the port; tgtd allows 0 to 32767."""
    return port if port <= 32767 else port - 30000


class TgtTarget:
    """tgtd with one target; a context manager. The process dies by its own id, also when a test fails.

    ``luns`` are the LUNs ``backing`` appears as (LUN 0 is always tgt's controller). ``chap`` is what initiators have
    to prove, ``mutual`` what the target proves itself with: each a user name and a secret.
    """

    def __init__(
        self,
        *,
        port: int,
        name: str,
        control: int | None = None,
        backing: Path | None = None,
        luns: Sequence[int] = (1,),
        chap: tuple[str, str] | None = None,
        mutual: tuple[str, str] | None = None,
        address: str = "127.0.0.1",
        parameters: dict[str, str] | None = None,
    ) -> None:
        self.control = _control_of(port) if control is None else control
        self.address = address
        self.port = port
        self.name = name
        self._backing = backing
        self._luns = tuple(luns) if backing is not None else ()
        self._chap = chap
        self._mutual = mutual
        self._parameters = parameters or {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> TgtTarget:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Run tgtd, wait until it listens, configure the target; TgtFailed leaves nothing behind."""
        if TGTD is None:
            raise TgtFailed("tgtd is not installed (package tgt)")
        host = f"[{self.address}]" if ":" in self.address else self.address
        self._process = subprocess.Popen(
            [TGTD, "-f", "-C", str(self.control), "--iscsi", f"portal={host}:{self.port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            self._wait_until_listening(self._process)
            self._configure()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End tgtd, whatever it is doing; a second call does nothing.

        tgtd ignores SIGTERM, and what it wrote to the backing file is the kernel's already: it is killed. A socket is
        removed only when it was ours, which it is not when tgtd ended by itself because the number was taken.
        """
        process, self._process = self._process, None
        if process is None:
            return
        ours = process.poll() is None
        process.kill()
        process.communicate()
        if ours:
            for suffix in ("", ".lock"):
                (RUN / f"socket.{self.control}{suffix}").unlink(missing_ok=True)

    def initiators(self) -> list[str]:
        """Names of the initiators that have a session now."""
        shown = self._tgtadm("target", "show")
        return re.findall(r"^\s+Initiator: (\S+)", shown, re.MULTILINE)

    def _wait_until_listening(self, process: subprocess.Popen[str]) -> None:
        deadline = Deadline.after(START_SECONDS, now=time.monotonic(), reason="tgtd to listen")
        while not self._listening():
            try:
                # Waits for the process to die while it comes up: the one event that ends the waiting early.
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                if deadline.passed(time.monotonic()):
                    raise TgtFailed(f"waited {START_SECONDS:.0f} s for {deadline.reason}") from None
                continue
            output = process.stdout.read() if process.stdout else ""
            raise TgtFailed(f"tgtd -C {self.control} ended with status {process.returncode}: {output.strip()}")

    def _listening(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=1):
                return True
        except OSError:
            return False

    def _configure(self) -> None:
        self._tgtadm("target", "new", "--tid", "1", "--targetname", self.name)
        for lun in self._luns:
            self._tgtadm("logicalunit", "new", "--tid", "1", "--lun", str(lun), "--backing-store", str(self._backing))
        for account, extra in ((self._chap, ()), (self._mutual, ("--outgoing",))):
            if account is not None:
                user, secret = account
                self._tgtadm("account", "new", "--user", user, "--password", secret)
                self._tgtadm("account", "bind", "--tid", "1", "--user", user, *extra)
        for name, value in self._parameters.items():
            self._tgtadm("target", "update", "--tid", "1", "--name", name, "--value", value)
        self._tgtadm("target", "bind", "--tid", "1", "--initiator-address", "ALL")

    def _tgtadm(self, mode: str, operation: str, *options: str) -> str:
        if self._process is None or self._process.poll() is not None:
            raise TgtFailed("tgtd does not run")
        done = subprocess.run(
            ["tgtadm", "-C", str(self.control), "--lld", "iscsi", "--mode", mode, "--op", operation, *options],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if done.returncode:
            raise TgtFailed(f"tgtadm {mode} {operation}: {done.stderr.strip()}")
        return done.stdout
