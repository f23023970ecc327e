# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the booted root on iSCSI: the daemon's units as ``make install`` puts them, under the systemd that booted."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.qemu.guest.daemon_machine import (
    ASK_SECONDS,
    UNIT,
    Seen,
    disk_of,
    guards,
    is_ready,
    output,
    pid_of_the_daemon,
    properties,
    since,
    state,
    status_of,
    tool,
    until,
)

AUTOMATIC, SOCKET = "iscsi.service", "iscsid.socket"
NODES = Path("/etc/iscsi/nodes")


def as_booted() -> Seen:
    """What systemd made of the units in this boot: states, times, the sandbox, and what it complains of."""
    until("the daemon", is_ready, ASK_SECONDS)
    until("the order for automatic nodes", lambda: since(AUTOMATIC, "ExecMainExit") > 0, ASK_SECONDS)
    names = ("ActiveState", "SubState", "Result", "NRestarts", "StatusText", "WatchdogUSec", "UnitFileState")
    seen: Seen = {unit: properties(unit, *names, "ExecMainStatus") for unit in (UNIT, SOCKET, AUTOMATIC)}
    seen |= {"ready at": since(), "multi-user at": since("multi-user.target")}
    automatic = {"began": "ExecMainStart", "active": "ActiveEnter", "ordered": "ExecMainExit"}
    seen["automatic"] = {words: since(AUTOMATIC, what) for words, what in automatic.items()}
    seen["process"] = status_of(pid_of_the_daemon(), "Seccomp", "NoNewPrivs", "CapBnd", "VmLck", "VmRSS")
    everything = output("journalctl", "-b", "-q", "--no-pager", "-o", "cat").splitlines()
    seen["cycles"] = [line for line in everything if "ordering cycle" in line]
    denied = ("not permitted", "ermission denied", "refused to load", "memory is not locked")
    ours = output("journalctl", "-b", "-q", "--no-pager", "-o", "cat", "-u", UNIT, "-u", AUTOMATIC).splitlines()
    seen["denied"] = [line for line in ours if any(sign in line for sign in denied)]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", UNIT, SOCKET, AUTOMATIC], capture_output=True, text=True, check=False
    )
    seen["verify"] = [line for line in verified.stderr.splitlines() if "iscsi" in line]
    return seen


def node(target: str, port: int, *words: str) -> Seen:
    """Iscsiadm about the second target's node."""
    return tool("iscsiadm", "-m", "node", "-T", target, "-p", f"10.0.2.2:{port}", *words)


def first_client(name: str, port: int) -> Seen:
    """The unit is stopped; the first iscsiadm that needs the daemon starts it through the socket, and has its login."""
    seen: Seen = {"new": node(name, port, "-o", "new")}
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    seen |= {"stopped": properties(UNIT, "ActiveState", "Result"), "guards": guards()}
    seen["login"] = node(name, port, "--login")
    seen |= {"after": properties(UNIT, "ActiveState", "SubState"), "state": state(), "pid": pid_of_the_daemon()}
    until("its disk", lambda: bool(disk_of(name)))
    return seen


def automatic(target: str, port: int) -> Seen:
    """iscsi.service logs in an automatic node beside one nobody answers for, and logs out what is not the system's."""
    seen: Seen = {"logout": node(target, port, "--logout"), "left": state()}
    seen["update"] = node(target, port, "-o", "update", "-n", "node.startup", "-v", "automatic")
    seen["nodes"] = sorted(path.name for path in NODES.iterdir())
    seen["start"] = tool("systemctl", "restart", AUTOMATIC)
    seen["logged in"] = until("the automatic node", lambda: bool(disk_of(target)))
    seen["during"] = state()
    seen["stop"] = tool("systemctl", "stop", AUTOMATIC)
    return {**seen, "after": state(), "unit": properties(AUTOMATIC, "ActiveState", "Result")}
