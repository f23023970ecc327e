# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a NETLINK_ISCSI socket open: ``/proc/net/netlink``.

The kernel remembers a session's creator by netlink port id. The first socket of a process gets its pid, every other one
a number out of the air, and a pid may since belong to somebody else: whether a creator still works on its session is
told by this table and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from iscsiboot.netlink.uapi import ISCSI_NL_GRP_ISCSID, NETLINK_ISCSI


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPort:
    """One open socket."""

    port: int
    """Unsigned, 32 bits."""
    hears_events: bool
    """It is in the event group, so its owner may be recovering sessions (as iscsid does) or logging in."""
    ours: bool
    """It belongs to this process (another thread of it, perhaps)."""


def open_ports(proc: Path) -> tuple[OpenPort, ...]:
    """Every NETLINK_ISCSI socket of this network namespace, the kernel's own (port 0) left out.

    OSError when ``proc`` has no ``net/netlink``; lines of a form this does not know are skipped.
    """
    own = _own_inodes(proc)
    ports = []
    for line in (proc / "net" / "netlink").read_text("ascii", "replace").splitlines()[1:]:
        # sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
        words = line.split()
        if len(words) < 10 or not (words[1].isdigit() and words[2].isdigit()):
            continue
        if int(words[1]) != NETLINK_ISCSI or int(words[2]) == 0:
            continue
        try:
            groups = int(words[3], 16)
        except ValueError:
            continue
        hears = bool(groups & 1 << (ISCSI_NL_GRP_ISCSID - 1))
        ports.append(OpenPort(port=int(words[2]), hears_events=hears, ours=words[9] in own))
    return tuple(ports)


def _own_inodes(proc: Path) -> frozenset[str]:
    """The inode numbers of this process's sockets, as text."""
    inodes = set()
    for entry in (proc / "self" / "fd").iterdir():
        try:
            link = str(entry.readlink())
        except OSError:
            continue  # the descriptor of this very listing, or one another thread has just closed
        if link.startswith("socket:["):
            inodes.add(link[len("socket:[") : -1])
    return frozenset(inodes)
