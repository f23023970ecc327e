# SPDX-License-Identifier: LGPL-2.1-or-later
"""Session, host and disk names of two runs made comparable: each number is replaced by what it stands for.

Which of several logins under way at once gets the next session number, and which disk the next letter, is decided by
who is first: two runs of one program differ in it. The agent says after each step which sessions there are; a session
then is its target, portal and interface, a host is its session, a disk its session and LUN.

Only sections with several logins at once have their sessions renamed and put into one order; disks are renamed
everywhere, since the kernel looks at the LUNs of one session at once, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

Sessions = Mapping[str, Sequence[object]]
"""Session number -> target, address, port, interface, host number, {disk: LUN}: what the agent says."""

TOGETHER = frozenset(
    {
        "login and logout",
        "logins that fail",
        "leading login",
        "discovery with login",
        "logging out at shutdown",
        "everyday path",
    }
)
"""Sections with several logins at once."""

_SESSION = re.compile(r"((?<=: \[)|(?<=\bsid: )|(?<=\bSID: )|(?<=\bsession)|(?<=\bconnection))(\d+)\b")
_HOST = re.compile(r"((?<=^\t\tscsi)(?=\d+ Channel)|(?<=\bHost Number: )|(?<=\bhost)|(?<=^scsi_device ))(\d+)\b")
_DISK = re.compile(r"()\b(sd[a-z]+)\b")


class Identities:
    """What the numbers of one round mean, step by step."""

    def __init__(self) -> None:
        self._section = ""
        self._sessions: dict[str, str] = {}
        self._count: dict[str, int] = {}
        self._hosts: dict[str, str] = {}
        self._disks: dict[str, str] = {}

    def learn(self, section: str, sessions: Sessions) -> None:
        """The sessions there are after a step. A session keeps its name in its section; hosts and disks are reused."""
        if section != self._section:
            self._section = section
            for known in (self._sessions, self._count, self._hosts, self._disks):
                known.clear()
        for sid, (target, address, port, iface, host, disks) in sorted(
            sessions.items(), key=lambda entry: int(entry[0])
        ):
            if sid not in self._sessions:
                identity = f"{target} {address},{port} {iface}"
                self._count[identity] = self._count.get(identity, 0) + 1
                self._sessions[sid] = f"{identity} {self._count[identity]}"
            label = self._sessions[sid]
            self._hosts[str(host)] = label
            if isinstance(disks, dict):
                self._disks.update({disk: f"{label} LUN {lun}" for disk, lun in disks.items()})

    def rename(self, lines: Sequence[str]) -> list[str]:
        """The lines with names for numbers, as far as the section has them renamed."""
        together = self._section in TOGETHER
        known = [(_DISK, self._disks)]
        if together:
            known += [(_SESSION, self._sessions), (_HOST, self._hosts)]
        renamed = list(lines)
        for pattern, names in known:
            renamed = [pattern.sub(_replacement(names), line) for line in renamed]
        return [line for found in sorted(objects(renamed)) for line in found] if together else renamed


def _replacement(names: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    return lambda match: f"<{names[match[2]]}>" if match[2] in names else match[2]


def objects(lines: Sequence[str]) -> Iterator[list[str]]:
    """What can change places: a session of a tree with its target, a line with the indented ones below it, the two
    lines of a failed login.

    A tree leaves the target away when the session before had the same, and both portals when they were the same too
    (an empty line stands there): they are put in again.
    """
    target, portals, found = "", list[str](), list[str]()
    for line in lines:
        if line.startswith("\tCurrent Portal: "):
            if found and found != [target]:
                yield found
            portals, found = [line], [target, line]
        elif line == "" and target:
            yield found
            found = [target, *portals]
        elif line.startswith(("\t", "iscsiadm: initiator reported error")):
            if line.startswith("\tPersistent Portal: "):
                portals.append(line)
            found.append(line)
        else:
            if found:
                yield found
            target, found = line if line.startswith("Target: ") else "", [line]
    if found:
        yield found
