# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the booted root on iSCSI: its daemon is killed, replaced, hung, cut off and starved while root is written to."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.qemu.daemon.load import BLOCK, BLOCKS, Load
from tests.qemu.guest.daemon_machine import (
    ASK_SECONDS,
    UNIT,
    Harness,
    Seen,
    disk_of,
    exchange,
    full_memory,
    guards,
    is_ready,
    next_daemon,
    output,
    pid_of_the_daemon,
    properties,
    tool,
    until,
    up,
)

LIBRARY = Path("/usr/lib/iscsiboot/iscsiboot")
DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/trial.conf")
WATCHDOG_SECONDS = 10
RECORDS = Path("/etc/iscsi")
DEVICE = "trial"
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878


class Trials:
    """Everything that is done to the daemon; each answers what it saw. ``second`` is the target of another disk."""

    def __init__(self, harness: Harness, *, long: bool, kills: int, second: str) -> None:
        self._harness = harness
        self._long = long
        self._kills = kills
        self._second = second

    def bystanders(self) -> Seen:
        """What the emulated processor makes of as many starts of the same program that do not come to any session: a
        second daemon loads all it needs and ends, because there is one.
        """
        return {"statuses": [tool("iscsid", "-f")["status"] for _ in range(min(self._kills, 10))]}

    def kills(self) -> Seen:
        """SIGKILL again and again; systemd starts it anew each time."""
        before, at, starts = properties(UNIT, "NRestarts")["NRestarts"], [], []
        for _ in range(self._kills):
            old = pid_of_the_daemon()
            at.append(time.monotonic())
            os.kill(old, signal.SIGKILL)
            starts.append(next_daemon(old))
        return {"starts": starts, "at": at, "by systemd": int(properties(UNIT, "NRestarts")["NRestarts"]) - int(before)}

    def restarts(self) -> Seen:
        """Systemctl restart, as packages do it when they are upgraded."""
        for _ in range(10 if self._long else 2):
            subprocess.run(["systemctl", "restart", UNIT], check=True)
        return {"ready": is_ready()}

    def upgrade(self) -> Seen:
        """Another version's files in the place of the one that runs, a cut, then the restart; and back again."""
        seen: Seen = {}
        before = (LIBRARY / "__init__.py").read_text()
        for name, text in (("there", before.replace('__version__ = "', '__version__ = "9.')), ("back", before)):
            replace_files(text)
            seen[name] = {"cut": self._cut(2.0)}
            subprocess.run(["systemctl", "restart", UNIT], check=True)
            seen[name]["version"] = version()
        return {**seen, "refused": journal_with("was not loaded at the start")}

    def hung(self) -> Seen:
        """Its signs of life reach systemd; when they stay away it is ended and the next one takes over."""
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text(f"[Service]\nWatchdogSec={WATCHDOG_SECONDS}\n")
        try:
            subprocess.run(["systemctl", "daemon-reload"], check=True)
            subprocess.run(["systemctl", "restart", UNIT], check=True)
            first = sign_of_life()
            seen: Seen = {"fed": until("a sign of life", lambda: sign_of_life() not in ("0", first), ASK_SECONDS)}
            old = pid_of_the_daemon()
            os.kill(old, signal.SIGSTOP)
            seen["next"] = next_daemon(old)
            return {**seen, "words": journal_with("Watchdog timeout")}
        finally:
            DROP_IN.unlink()
            subprocess.run(["systemctl", "daemon-reload"], check=True)
            subprocess.run(["systemctl", "restart", UNIT], check=True)

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
        seen["next"] = next_daemon(old)
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
        """Root's file system is frozen and the device below the records of another session is suspended while the
        daemon must reconnect both: it may neither write nor wait there.
        """
        with suspended_device(self._second) as seen:
            load = Load(str(RECORDS / "load"))
            dmsetup("suspend", DEVICE)
            descriptor = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, FIFREEZE, 0)
                try:
                    seen |= self._cut(3.0)
                finally:
                    fcntl.ioctl(descriptor, FITHAW, 0)
            finally:
                os.close(descriptor)
                dmsetup("resume", DEVICE)
            seen["load"] = load.end()
        return seen

    def _cut(self, seconds: float) -> Seen:
        began = time.monotonic()
        said = self._harness.please("cut", seconds=seconds)
        returned = time.monotonic()
        healed = until("every session", up)
        return {"off": said["off"], "cut": said["cut"], "from": began, "returned": returned, "healed": healed}


def sign_of_life() -> str:
    """When the last one came, by systemd."""
    return properties(UNIT, "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]


def journal_with(words: str) -> list[str]:
    """What was said with these words in it, by the daemon or about it."""
    return [line for line in output("journalctl", "-b", "-q", "-u", UNIT).splitlines() if words in line]


def version() -> str:
    """What the daemon that answers says it is."""
    said = json.loads(output("iscsiboot", "status", "--json"))
    return str(said["guard"]["version"])


def replace_files(init: str) -> None:
    """Every source file of the library anew, one by one, as a package manager unpacks: new file, then rename."""
    for path in sorted(LIBRARY.rglob("*.py")):
        new = path.with_name(path.name + ".dpkg-new")
        shutil.copy2(path, new)
        new.replace(path)
    exchange(LIBRARY / "__init__.py", init)


@contextmanager
def suspended_device(target: str) -> Iterator[Seen]:
    """A device of the device-mapper on the disk of ``target``, with the records of the daemon on it."""
    disk = disk_of(target)
    sectors = Path(f"/sys/class/block/{disk}/size").read_text().strip()
    subprocess.run(["dmsetup", "create", DEVICE, "--table", f"0 {sectors} linear /dev/{disk} 0"], check=True)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", f"/dev/mapper/{DEVICE}"], check=True)
        with mounted("/mnt"):
            shutil.copytree(RECORDS, "/mnt", dirs_exist_ok=True)
            Path("/mnt/load").write_bytes(bytes(BLOCK * BLOCKS))
        with mounted(str(RECORDS)):
            yield {"disk": disk}
    finally:
        subprocess.run(["dmsetup", "remove", "--retry", DEVICE], check=True)


@contextmanager
def mounted(place: str) -> Iterator[None]:
    """The device is mounted there for the time of the block."""
    subprocess.run(["mount", f"/dev/mapper/{DEVICE}", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def dmsetup(*words: str) -> None:
    """Without udev, which is not to be waited for while its root is frozen."""
    subprocess.run(["dmsetup", "--noudevrules", "--noudevsync", *words], check=True)
