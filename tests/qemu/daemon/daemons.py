# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: our iscsid and the peer's as processes that are started, killed and looked at."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.qemu.daemon.processes import command_lines
from tests.qemu.daemon.sessions import OURS, PEER, TrialFailed, until

SOCKET = "\0ISCSIADM_ABSTRACT_NAMESPACE"
PID_FILE = Path("/run/iscsid.pid")
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
GUARD = "@iscsi"
"""How the command line of a guard begins, and of its child that writes its log; the "@" keeps whoever ends processes at
shutdown away from them."""
LOG = Path("/tmp/iscsid.log")


def listens() -> bool:
    """Whether an iscsid, ours or the peer's, takes connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as peer:
        try:
            peer.connect(SOCKET)
        except ConnectionRefusedError:
            return False
    return True


class Daemon:
    """Our iscsid in the foreground; ready when it says so as it says it to systemd. All its lines go to a file."""

    def __init__(self, *words: str, log: str = str(LOG)) -> None:
        self.log = Path(log)
        self._words = words
        self._child: subprocess.Popen[bytes] | None = None
        self.starts: list[float] = []
        """Seconds each start took until READY=1."""

    @property
    def pid(self) -> int:
        """Its process id; TrialFailed when it does not run."""
        if self._child is None or self._child.poll() is not None:
            raise TrialFailed(f"iscsid is not there: {self.lines()[-6:]}")
        return self._child.pid

    def start(self) -> None:
        """Start it and wait until it is ready."""
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="notify-") as place,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.bind(f"{place}/socket")
            self.spawn({"NOTIFY_SOCKET": f"{place}/socket"})
            self._await_ready(notify)
        self.starts.append(round(time.monotonic() - began, 2))

    def spawn(self, environment: dict[str, str] | None = None) -> None:
        """Start it and wait for nothing."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [OURS + "iscsid", "-f", *self._words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )

    def _await_ready(self, notify: socket.socket) -> None:
        ends = time.monotonic() + READY_SECONDS
        descriptor = os.pidfd_open(self.pid)
        try:
            while (left := ends - time.monotonic()) > 0:
                ready = select.select([notify, descriptor], [], [], left)[0]
                if notify in ready:
                    if b"READY=1" in notify.recv(4096).split(b"\n"):
                        return
                elif ready:
                    break
        finally:
            os.close(descriptor)
        raise TrialFailed(f"iscsid is not ready: {self.lines()[-6:]}")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self._gone()

    def stop(self) -> float:
        """SIGTERM; the seconds until it was gone."""
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        self._gone()
        return round(time.monotonic() - began, 2)

    def _gone(self) -> None:
        if self._child is None:
            return
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            raise TrialFailed("iscsid did not end") from None
        finally:
            self._child = None

    def outcome(self) -> dict[str, object]:
        """How one ends that is not to stay: its status and what it said."""
        if self._child is None:
            raise TrialFailed("iscsid was not started")
        status = self._child.wait(STOP_SECONDS)
        return {"status": status, "lines": self.lines()}

    def lines(self) -> list[str]:
        """What it said so far."""
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    def status(self) -> dict[str, int]:
        """Memory in KiB, threads and voluntary context switches, from /proc/PID/status."""
        return status_of(self.pid)

    def where(self) -> dict[str, object]:
        """Where it is at this moment, for a trial that waits in vain: its state, kernel stack, time and lines."""
        place = Path(f"/proc/{self.pid}")
        fields = (place / "stat").read_text().rpartition(")")[2].split()
        stack = (place / "stack").read_text().split("\n")
        return {"state": fields[0], "stack": stack, "ticks": fields[11:13], "lines": self.lines()[-20:]}

    def outside(self) -> dict[str, object]:
        """What keeps it from waiting for the disks it guards, as the kernel shows it of every process."""
        # The second field, a name in parentheses, may have blanks in it.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return {
            "name": Path(f"/proc/{self.pid}/comm").read_text().strip(),
            "flags": int(fields[6]),
            "nice": int(fields[16]),
            "out of memory": int(Path(f"/proc/{self.pid}/oom_score_adj").read_text()),
            "memory": self.status(),
        }


def status_of(pid: int) -> dict[str, int]:
    """The numbers of /proc/PID/status that trials and the benchmark look at; memory in KiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    names = ("VmRSS", "VmLck", "VmHWM", "Threads", "voluntary_ctxt_switches")
    return {name: int(found[1]) for name in names if (found := re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE))}


@contextmanager
def ours(*words: str, log: str = str(LOG)) -> Iterator[Daemon]:
    """Our daemon, ready, for the time of the block; afterwards nobody guards any more."""
    Path(log).unlink(missing_ok=True)
    daemon = Daemon(*words, log=log)
    try:
        daemon.start()
        yield daemon
    finally:
        with suppress(TrialFailed):
            daemon.stop()
        end_guards()


def guards() -> dict[int, str]:
    """The guards there are, without their children: what our iscsistart or our daemon leaves behind."""
    found = {pid: line for pid, line in command_lines().items() if line.startswith(GUARD)}
    return {pid: line for pid, line in found.items() if parent_of(pid) not in found}


def parent_of(pid: int) -> int:
    """The process it is a child of, 0 for one that has ended meanwhile."""
    try:
        # The second field, a name in parentheses, may have blanks in it.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def end_guards() -> None:
    """Kill them, as no machine would but a trial that is over must."""
    for pid in guards():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until("the end of the guards", lambda: not guards())


@contextmanager
def peer() -> Iterator[int]:
    """The peer's daemon, its process id, for the time of the block."""
    PID_FILE.unlink(missing_ok=True)
    child = subprocess.Popen([PEER + "iscsid", "-f"], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)
    try:
        until("the peer's iscsid", listens)
        yield child.pid
    finally:
        child.kill()
        child.wait()
        PID_FILE.unlink(missing_ok=True)
        until("nobody to listen", lambda: not listens())
