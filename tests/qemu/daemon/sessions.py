# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: sessions as sysfs shows them, how they are made and ended, and waiting for what nobody tells of."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.qemu.admin.agent import COMMAND_SECONDS, run
from tests.qemu.daemon.storage import ADDRESS, CROWD_PORT, IQN, PORTS, USER, command, port_of

OURS, PEER = "/ours/sbin/", "/usr/sbin/"
CLASS = Path("/sys/class/iscsi_session")
CONNECTIONS = Path("/sys/class/iscsi_connection")
WHOLE = "LOGGED_IN up"
"""A session and its connection, as :func:`state_of` gives them."""
WAIT_SECONDS = 90.0
POLL_SECONDS = 0.02
"""A class of sysfs tells nobody that it changed."""
INITIATOR = "iqn.1993-08.org.debian:01:admin"
PINGS = ("node.conn[0].timeo.noop_out_interval", "node.conn[0].timeo.noop_out_timeout")


class TrialFailed(Exception):
    """The guest could not be put into the state a trial begins with, or never came out of one."""


def text_of(path: Path) -> str:
    """An attribute of sysfs, empty when it is not there (any more)."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def until(what: str, there: Callable[[], bool], seconds: float = WAIT_SECONDS) -> float:
    """Wait until it holds; the seconds it took. TrialFailed when it is late."""
    started = time.monotonic()
    while True:
        began = time.monotonic()
        if there():
            return round(time.monotonic() - started, 2)
        now = time.monotonic()
        if now - started > seconds:
            raise TrialFailed(f"{what}: not within {seconds:g} s; there is {sessions()}")
        # A look at hundreds of sessions takes long, and who is looked at shall have the processor too.
        time.sleep(max(POLL_SECONDS, 4 * (now - began)))


def sessions() -> dict[str, str]:
    """Session number -> "TARGET STATE CONNECTION-STATE"."""
    found = {}
    for path in sorted(CLASS.glob("session*")):
        number = path.name.removeprefix("session")
        name = text_of(path / "targetname").removeprefix(IQN)
        found[number] = f"{name} {state_of(number)}"
    return found


def state_of(number: str) -> str:
    """What the kernel says of a session and of its connection."""
    return f"{text_of(CLASS / f'session{number}/state')} {text_of(CONNECTIONS / f'connection{number}:0/state')}"


def is_whole(number: str) -> bool:
    """Whether a session is logged in, its connection with it."""
    return state_of(number) == WHOLE


def healthy() -> int:
    """How many sessions the kernel says are logged in, their connections with them."""
    return sum(text.endswith(f" {WHOLE}") for text in sessions().values())


def broken() -> int:
    """How many sessions are not."""
    return len(sessions()) - healthy()


def identity() -> dict[str, str]:
    """Session number -> what may not change when somebody else takes it over: host and disks."""
    found = {}
    for path in sorted(CLASS.glob("session*")):
        host = next(part for part in path.resolve().parts if part.startswith("host"))
        disks = sorted(disk.name for disk in path.glob("device/target*/*/block/*"))
        found[path.name.removeprefix("session")] = f"{host} {' '.join(disks)}"
    return found


def disks_of(name: str) -> list[str]:
    """The disks of a target's sessions that are there now."""
    paths = [path for path in CLASS.glob("session*") if text_of(path / "targetname") == IQN + name]
    return sorted(f"/dev/{disk.name}" for path in paths for disk in path.glob("device/target*/*/block/*"))


def disk_of(name: str) -> str:
    """The disk of a target's session, once it is there."""
    until(f"the disk of {name}", lambda: bool(disks_of(name)))
    return disks_of(name)[0]


def number_of(name: str) -> str:
    """The session number of a target."""
    for number, text in sessions().items():
        if text.split(" ", 1)[0] == name:
            return number
    raise TrialFailed(f"no session to {name}")


# -- making and ending them -------------------------------------------------------------------------------------------


def tool(program: str, *words: str, seconds: float = COMMAND_SECONDS) -> dict[str, Any]:
    """One run of a program to its end; killed after so many seconds."""
    out, err, status, spent = run([program, *words], seconds=seconds)
    return {"words": " ".join(words), "out": out, "err": err, "status": status, "seconds": round(spent, 1)}


def good(program: str, *words: str, seconds: float = COMMAND_SECONDS) -> dict[str, Any]:
    """A run that prepares something; TrialFailed when it does not succeed."""
    done = tool(program, *words, seconds=seconds)
    if done["status"] != 0:
        raise TrialFailed(f"{program}: {done}")
    return done


def node(name: str, *words: str) -> tuple[str, ...]:
    """The arguments of node mode for one of the targets."""
    return ("-m", "node", "-T", IQN + name, "-p", f"{ADDRESS}:{port_of(name)}", *words)


def record(*names: str, secret: str = "", pings: int = 5, recovery: int = 120) -> None:
    """A record for each target, as an administrator would make it; ``pings`` are both NOP times in seconds."""
    for name in names:
        good(OURS + "iscsiadm", "-m", "node", "-o", "new", "-T", IQN + name, "-p", f"{ADDRESS}:{port_of(name)},1")
    _update(secret, pings, recovery)


def record_crowd(*, pings: int, recovery: int = 120) -> None:
    """A record for each target that is open on the crowd's port, by discovery."""
    good(OURS + "iscsiadm", "-m", "discovery", "-t", "sendtargets", "-p", f"{ADDRESS}:{CROWD_PORT}")
    # LIO tells of every target it has, on whatever port.
    for name in PORTS:
        command("rm", "-rf", f"/etc/iscsi/nodes/{IQN}{name}")
    _update("", pings, recovery)


def _update(secret: str, pings: int, recovery: int) -> None:
    values = {
        **dict.fromkeys(PINGS, str(pings)),
        "node.session.timeo.replacement_timeout": str(recovery),
        "node.session.initial_login_retry_max": "1",
    }
    if secret:
        values |= {"node.session.auth.authmethod": "CHAP", "node.session.auth.username": USER}
        values |= {"node.session.auth.password": secret}
    words = [word for key, value in values.items() for word in ("-n", key, "-v", value)]
    good(OURS + "iscsiadm", "-m", "node", "-o", "update", *words)


def start_by_iscsistart(where: str, name: str, *more: str, secret: str = "") -> dict[str, Any]:
    """A session as the initramfs makes it, by ours or by the peer's program."""
    argv = ["-i", INITIATOR, "-t", IQN + name, "-g", "1", "-a", ADDRESS, "-p", str(port_of(name)), *more]
    if secret:
        argv += ["-u", USER, "-w", secret]
    done = good(where + "iscsistart", *argv)
    until(f"the session of {name}", lambda: any(text == f"{name} LOGGED_IN up" for text in sessions().values()))
    return done


def end_all() -> None:
    """No session any more, whoever made it: by our iscsiadm, which needs nobody."""
    if sessions():
        tool(OURS + "iscsiadm", "-m", "session", "-u", "--force")
    until("the end of all sessions", lambda: not sessions())


def forget() -> None:
    """No record any more."""
    command("rm", "-rf", "/etc/iscsi/nodes", "/etc/iscsi/send_targets", "/run/iscsiboot")


def kernel_log() -> list[str]:
    """The kernel's lines of errors on disks and file systems since the trial began."""
    words = ("I/O error", "Remounting filesystem read-only", "EXT4-fs error", "rejecting I/O")
    text = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return [line for line in text.splitlines() if any(word in line for word in words)]
