# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the booted root on iSCSI: what its trials look at and ask for. The harness is at the other end of a port."""

from __future__ import annotations

import json
import mmap
import re
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tests.qemu.daemon.processes import command_lines

UNIT = "iscsid.service"
PID_FILE = Path("/run/iscsid.pid")
SESSIONS = Path("/sys/class/iscsi_session")
WAIT_SECONDS = 120.0
LOOK_SECONDS, ASK_SECONDS = 0.05, 0.3
"""Between two looks, and between two questions to systemd: each is a process, which an emulated processor feels."""
LEFT_KIB = 60_000
"""Memory that stays available when it is filled up; the kernel's own reserves are below that."""

Seen = dict[str, Any]


class Harness:
    """The other end of the port. Everything said carries our clock, so that the harness knows how the two run."""

    def __init__(self, port: BinaryIO) -> None:
        self._port = port

    def please(self, what: str, **more: object) -> Seen:
        """Ask for something and wait until it is done."""
        self._say({"please": what, **more})
        said: Seen = json.loads(self._port.readline())
        return said

    def tell(self, result: Seen) -> None:
        """The result."""
        self._say({"result": result})

    def _say(self, what: Seen) -> None:
        self._port.write(json.dumps({**what, "at": time.monotonic()}).encode() + b"\n")


def words() -> dict[str, str]:
    """The kernel command line as a dictionary."""
    return {key: value for key, _, value in (word.partition("=") for word in Path("/proc/cmdline").read_text().split())}


def output(*argv: str) -> str:
    """What a command says, whatever its status."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout.strip()


def tool(*argv: str) -> Seen:
    """A command that must end by itself: its status, its words, how long it took."""
    began = time.monotonic()
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS
    )
    said = (done.stdout + done.stderr).strip()
    return {"status": done.returncode, "said": said[-600:], "took": round(time.monotonic() - began, 2)}


def until(what: str, there: Callable[[], bool], pause: float = LOOK_SECONDS) -> float:
    """Wait for what nobody tells of; the seconds it took. TimeoutError when it is late."""
    began = time.monotonic()
    while not there():
        if time.monotonic() - began > WAIT_SECONDS:
            raise TimeoutError(f"{what}: not within {WAIT_SECONDS:g} s")
        time.sleep(pause)
    return round(time.monotonic() - began, 2)


def properties(unit: str, *names: str) -> dict[str, str]:
    """What systemd says of a unit."""
    lines = output("systemctl", "show", *(f"-p{name}" for name in names), unit).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def pid_of_the_daemon() -> int:
    """The unit's main process, 0 when it has none."""
    return int(properties(UNIT, "MainPID")["MainPID"])


def is_ready() -> bool:
    """Whether the unit has said READY=1."""
    return properties(UNIT, "ActiveState")["ActiveState"] == "active"


def since(unit: str = UNIT, what: str = "ActiveEnter") -> float:
    """When something last became of a unit, by our clock: of the daemon, when it said READY=1; 0 when it never did."""
    name = f"{what}TimestampMonotonic"
    return int(properties(unit, name)[name]) / 1e6


def _has_another(old: int) -> bool:
    """Whether the pid file names another process: cheap to look at, and not much is left to be done then."""
    try:
        return int(PID_FILE.read_text()) != old
    except (OSError, ValueError):
        return False


def _is_another(old: int) -> bool:
    found = properties(UNIT, "MainPID", "ActiveState")
    return found["ActiveState"] == "active" and int(found["MainPID"]) not in (0, old)


def next_daemon(old: int) -> float:
    """Wait until another daemon than that process is ready; the seconds it took."""
    took = until("the next daemon", partial(_has_another, old))
    return round(took + until("its readiness", partial(_is_another, old), ASK_SECONDS), 2)


def status_of(pid: int, *names: str) -> dict[str, str]:
    """Lines of /proc/PID/status."""
    lines = dict(re.findall(r"^(\w+):\s*(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    return {name: lines[name] for name in names}


def guards() -> list[str]:
    """The guards there are."""
    return sorted(line for line in command_lines().values() if line.startswith("@iscsiboot-keeper"))


def state() -> list[str]:
    """State of every session and its connection, and its replacement timeout."""
    found = []
    for path in sorted(SESSIONS.glob("session*")):
        number = path.name.removeprefix("session")
        connection = Path(f"/sys/class/iscsi_connection/connection{number}:0/state")
        recovery = (path / "recovery_tmo").read_text().strip()
        found.append(f"{(path / 'state').read_text().strip()} {connection.read_text().strip()} {recovery}")
    return found


def up() -> bool:
    """Whether every session works."""
    found = state()
    return bool(found) and all(text.startswith("LOGGED_IN up") for text in found)


def disk_of(target: str) -> str:
    """The kernel's name of the disk of a session with this target; empty when there is none yet."""
    for path in SESSIONS.glob("session*"):
        if (path / "targetname").read_text().strip() == target:
            return next((found.name for found in path.glob("device/target*/*/block/*")), "")
    return ""


def trouble() -> list[str]:
    """What the kernel says of errors on disks and file systems."""
    signs = ("I/O error", "Remounting filesystem read-only", "EXT4-fs error", "rejecting I/O")
    return [line for line in output("dmesg").splitlines() if any(sign in line for sign in signs)]


def stuck() -> list[str]:
    """Tasks that waited for a disk for more than the kernel's two minutes, as is right while there is none; the guards
    may not be among them.
    """
    return re.findall(r"task (\S+):\d+ blocked for more than", output("dmesg"))


def journal(*more: str) -> list[str]:
    """What the daemons and guards of this boot have said, each line with the seconds since the kernel's start."""
    unit = ("-u", UNIT, "-t", "iscsid", "-t", "iscsiboot-keeper", "-t", "iscsistart")
    return output("journalctl", "-b", "-q", "--no-pager", "-o", "short-monotonic", *unit, *more).splitlines()


def full_memory() -> mmap.mmap:
    """Memory, touched, so that little more than LEFT_KIB is available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    hog = mmap.mmap(-1, max(1, (available - LEFT_KIB) >> 10) << 20)
    for place in range(0, len(hog), mmap.PAGESIZE):
        hog[place] = 1
    return hog


def exchange(path: Path, text: str) -> None:
    """Another file in the place of one, as a package manager does it."""
    new = path.with_name(path.name + ".dpkg-new")
    new.write_text(text)
    new.replace(path)
