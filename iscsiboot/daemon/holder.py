# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who listens at the daemon's address when it is taken: asked of /proc, since a connection would start a daemon.

systemd holds the socket for a daemon it has not started yet, and beside the one it has. So a process other than 1 is
told first.
"""

from __future__ import annotations

import os

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.ipc.protocol import ADDRESS
from iscsiboot.sysfs.attributes import names

_LISTENING = 0x10000
"""``__SO_ACCEPTCON`` in /proc/net/unix."""


def second_instance(proc: str = "/proc", address: str = ADDRESS) -> IscsiBootError:
    """What a daemon says that cannot have ``address``; the first words are the peer's."""
    pids = holders(proc, address)
    others = [pid for pid in pids if pid != 1]
    if others:
        name = quoted(_comm(proc, others[0]))
        cause = f"process {others[0]} ({name}) listens there already"
        hint = f"that one guards the sessions; end it first if this one is wanted: kill {others[0]}"
    elif pids:
        cause, hint = "systemd holds it (iscsid.socket)", "start the daemon by its unit: systemctl start iscsid.service"
    else:
        cause, hint = "another process listens there already", "look for it: ss -xlp | grep ISCSIADM"
    return IscsiBootError(f"Can not bind IPC socket: {cause}", stage=Stage.DAEMON, hint=hint, exit_code=ExitCode.ERR)


def holders(proc: str, address: str) -> list[int]:
    """Processes that have the listening socket of an abstract ``address``, by number; empty when nobody can tell."""
    return sorted(descriptors(proc, address))


def descriptors(proc: str, address: str, *, bound: bool = False) -> dict[int, str]:
    """The same, each with the socket as a path below /proc; ``bound``: also of sockets that do not listen."""
    inodes = _inodes(proc, "@" + address.removeprefix("\0"), 0 if bound else _LISTENING)
    if not inodes:
        return {}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found = {int(name): _one_of(f"{proc}/{name}/fd", wanted) for name in names(proc) if name.isdigit()}
    return {pid: path for pid, path in found.items() if path}


def _inodes(proc: str, shown: str, flags: int) -> set[str]:
    """``Num RefCount Protocol Flags Type St Inode Path``, a line each."""
    try:
        with open(f"{proc}/net/unix", encoding="utf-8", errors="surrogateescape") as table:  # noqa: PTH123  # str paths
            rows = [line.rstrip("\n").split(maxsplit=7) for line in table]
    except OSError:
        return set()
    return {row[6] for row in rows[1:] if len(row) == 8 and row[7] == shown and int(row[3], 16) & flags == flags}


def _one_of(folder: str, wanted: set[str]) -> str:
    for name in names(folder):
        path = f"{folder}/{name}"
        try:
            if os.readlink(path) in wanted:  # noqa: PTH115  # as above
                return path
        except OSError:
            continue
    return ""


def _comm(proc: str, pid: int) -> str:
    try:
        with open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123  # as above
            return file.read().strip()
    except OSError:
        return "?"
