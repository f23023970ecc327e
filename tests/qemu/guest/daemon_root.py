# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the booted root on iSCSI: its daemon is killed, restarted, cut off and starved while root is written to.

Runs after multi-user when the kernel's command line has ``iscsiboot.daemon-trials``. The harness and this agent talk
over the verdict port, a line of JSON each way: ``{"please": "cut", "seconds": 5}`` is answered when it is done. The
result is ``{"result": {...}}``, after which the machine is powered off.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tests.qemu.daemon.load import BLOCK, BLOCKS, Load

PORT = Path("/dev/virtio-ports/iscsiboot.verdict")
PLACE = Path("/root/load")
UNIT = "iscsid.service"
SESSIONS = Path("/sys/class/iscsi_session")
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
WAIT_SECONDS = 120.0
LEFT_KIB = 60_000
"""Memory that stays available when it is filled up; the kernel's own reserves are below that."""

Seen = dict[str, Any]


def words() -> dict[str, str]:
    """The kernel command line as a dictionary."""
    return {key: value for key, _, value in (word.partition("=") for word in Path("/proc/cmdline").read_text().split())}


def output(*argv: str) -> str:
    """What a command says, whatever its status."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout.strip()


def until(what: str, there: Callable[[], bool], seconds: float = WAIT_SECONDS) -> float:
    """Wait for what nobody tells of; the seconds it took. TimeoutError when it is late."""
    began = time.monotonic()
    while not there():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
    return round(time.monotonic() - began, 2)


def processes(start: str) -> dict[int, str]:
    """Processes whose command line begins so."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it has ended meanwhile
        if line.startswith(start):
            found[int(path.name)] = line
    return found


def guards() -> list[str]:
    """The guards there are."""
    return sorted(processes("@iscsi").values())


def pid_of_the_daemon() -> int:
    """The unit's main process, 0 when it has none."""
    return int(output("systemctl", "show", "--value", "-p", "MainPID", UNIT) or 0)


def is_ready() -> bool:
    """Whether the unit has said READY=1."""
    return output("systemctl", "is-active", UNIT) == "active"


def state() -> list[str]:
    """State of every session and its connection."""
    found = []
    for path in sorted(SESSIONS.glob("session*")):
        number = path.name.removeprefix("session")
        connection = Path(f"/sys/class/iscsi_connection/connection{number}:0/state")
        recovery = (path / "recovery_tmo").read_text().strip()
        found.append(f"{(path / 'state').read_text().strip()} {connection.read_text().strip()} {recovery}")
    return found


def up() -> bool:
    """Whether the root's session works."""
    return any(text.startswith("LOGGED_IN up") for text in state())


def trouble() -> list[str]:
    """What the kernel says of errors on disks and file systems."""
    signs = ("I/O error", "Remounting filesystem read-only", "EXT4-fs error", "rejecting I/O", "blocked for more than")
    return [line for line in output("dmesg").splitlines() if any(sign in line for sign in signs)]


def another_than(old: int) -> bool:
    """Whether another daemon than that process is ready."""
    return pid_of_the_daemon() not in (0, old) and is_ready()


class Harness:
    """The other end of the port."""

    def __init__(self, port: BinaryIO) -> None:
        self._port = port

    def please(self, what: str, **more: object) -> Seen:
        """Ask for something and wait until it is done."""
        self._port.write(json.dumps({"please": what, **more}).encode() + b"\n")
        said: Seen = json.loads(self._port.readline())
        return said

    def tell(self, result: Seen) -> None:
        """The result."""
        self._port.write(json.dumps({"result": result}).encode() + b"\n")


class Trials:
    """Everything that is done to the daemon; each answers what it saw."""

    def __init__(self, harness: Harness, *, long: bool) -> None:
        self._harness = harness
        self._long = long

    def kills(self) -> Seen:
        """SIGKILL again and again; systemd starts it anew each time."""
        starts = []
        for _ in range(100 if self._long else 3):
            old = pid_of_the_daemon()
            os.kill(old, signal.SIGKILL)
            starts.append(until("the next daemon", partial(another_than, old)))
        return {"starts": starts}

    def restarts(self) -> Seen:
        """Systemctl restart, as packages do it when they are upgraded."""
        for _ in range(20 if self._long else 2):
            subprocess.run(["systemctl", "restart", UNIT], check=True)
        return {"ready": is_ready()}

    def cut_while_up(self) -> Seen:
        """The target goes and comes."""
        return self._cut(3.0)

    def cut_while_dead(self) -> Seen:
        """The same while the unit is stopped: its standby guards."""
        subprocess.run(["systemctl", "stop", UNIT], check=True)
        seen = {"guards": guards(), **self._cut(3.0)}
        subprocess.run(["systemctl", "start", UNIT], check=True)
        return seen

    def cut_in_hand_over(self) -> Seen:
        """It is killed and the target is gone at that moment; the next daemon begins with a broken session."""
        old = pid_of_the_daemon()
        os.kill(old, signal.SIGKILL)
        seen = self._cut(4.0)
        seen["next"] = until("the next daemon", partial(another_than, old))
        return seen

    def stall(self) -> Seen:
        """The target is off for long, caches are dropped and memory is full: nothing may have to be read from root."""
        hog = full_memory()
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3")
            return {"memory": len(hog), **self._cut(300.0 if self._long else 12.0)}
        finally:
            hog.close()

    def frozen(self) -> Seen:
        """The root's file system is frozen while the daemon must reconnect: it may not write there."""
        descriptor = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, FIFREEZE, 0)
            try:
                return self._cut(3.0)
            finally:
                fcntl.ioctl(descriptor, FITHAW, 0)
        finally:
            os.close(descriptor)

    def _cut(self, seconds: float) -> Seen:
        began = time.monotonic()
        said = self._harness.please("cut", seconds=seconds)
        returned = time.monotonic()
        healed = until("root's session", up)
        return {"off": said["off"], "from": began, "returned": returned, "healed": healed}


def full_memory() -> mmap.mmap:
    """Memory, touched, so that little more than LEFT_KIB is available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    hog = mmap.mmap(-1, max(1, (available - LEFT_KIB) >> 10) << 20)
    for place in range(0, len(hog), mmap.PAGESIZE):
        hog[place] = 1
    return hog


def collect(harness: Harness, *, long: bool) -> Seen:
    """All of it, with one load over everything."""
    seen: Seen = {"guards": guards(), "daemon": pid_of_the_daemon(), "state": state(), "journal": 0}
    until("the daemon", is_ready)
    seen["logins"] = harness.please("count")["logins"]
    PLACE.write_bytes(bytes(BLOCK * BLOCKS))
    os.sync()
    undisturbed = Load(str(PLACE))
    time.sleep(5.0)
    seen["undisturbed"] = undisturbed.end()
    load, trials = Load(str(PLACE)), Trials(harness, long=long)
    for trial in (trials.kills, trials.restarts):
        seen[trial.__name__] = trial()
    seen |= {"state after": state(), "logins after": harness.please("count")["logins"], "load": load.end()}
    load = Load(str(PLACE))
    for trial in (trials.cut_while_up, trials.cut_while_dead, trials.cut_in_hand_over, trials.stall, trials.frozen):
        seen[trial.__name__] = trial()
        time.sleep(1.0)
    seen |= {"load in cuts": load.end(), "logins at last": harness.please("count")["logins"]}
    seen["journal"] = len(output("journalctl", "-b", "-o", "cat", "-u", UNIT, "-t", "iscsid").splitlines())
    return {**seen, "trouble": trouble(), "state at last": state(), "guards at last": guards()}


def main() -> None:
    """Everything, then the end of the machine."""
    with PORT.open("r+b", buffering=0) as port:
        harness = Harness(port)
        try:
            result = collect(harness, long="iscsiboot.long" in words())
        except Exception as error:  # noqa: BLE001  # whatever it is, the harness shall have its words
            traceback.print_exc()
            log = output("journalctl", "-b", "-o", "short-monotonic", "-n", "60")
            result = {"failed": f"{type(error).__name__}: {error}", "log": log, "state": state(), "guards": guards()}
        harness.tell(result)
    output("systemctl", "--no-block", "poweroff")


if __name__ == "__main__":
    main()
