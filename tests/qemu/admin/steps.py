# SPDX-License-Identifier: LGPL-2.1-or-later
"""The script of commands as values, for the host that compares and the guest that runs it.

The script (script.txt) is plain text, one step a line:

* ``== title``: a new section. Each starts with the same database, no session and the same session numbers;
* ``iscsiadm ...``: a command without a shell; output, exit status and what it did to the database are compared;
* ``$ words``: the same, run by the shell;
* ``% words``: preparation run by the shell, not compared; it must succeed;
* ``@ words``: an action of the agent itself (:data:`ACTIONS`);
* ``# words``: a remark.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

ACTIONS = {
    "kernel": "what the kernel shows of hosts, sessions and disks; compared",
    "sessions": "wait until this many sessions are logged in",
    "stop": "end the daemon, if this round has one",
    "records": "how many node records there are; compared",
}

NATIVE = frozenset(
    {"nothing there", "wrong usage", "records", "interfaces", "discovery", "discovery that fails"},
)
"""Sections without a session: neither kernel nor daemon has a part in them, so they need no guest to be compared."""


class Kind(Enum):
    """What a step is; the value is its mark in the script."""

    COMMAND = ""
    SHELL = "$"
    PREPARE = "%"
    ACTION = "@"


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the script."""

    section: str
    line: int
    """Its line number in the script, from 1."""
    kind: Kind
    words: str

    @property
    def compared(self) -> bool:
        """Whether both programs have to do the same here."""
        return self.kind in (Kind.COMMAND, Kind.SHELL) or self.words.split()[0] in ("kernel", "records")


class BadScript(ValueError):
    """A line of the script is none; the message names it."""


def parse(text: str) -> list[Step]:
    """The steps of a script. :class:`BadScript` for a line that is none."""
    steps: list[Step] = []
    section, titles = "", set()
    for number, line in enumerate(text.splitlines(), 1):
        mark, _, rest = line.partition(" ")
        rest = rest.strip()
        if not line.strip() or mark.startswith("#"):
            continue
        if mark == "==":
            if not rest or rest in titles:
                raise BadScript(f"line {number}: a section needs a title of its own: {rest!r}")
            titles.add(rest)
            section = rest
            continue
        if not section:
            raise BadScript(f"line {number}: the first step comes before any section")
        if mark in ("$", "%", "@"):
            kind = Kind(mark)
            if kind is Kind.ACTION and (not rest or rest.split()[0] not in ACTIONS):
                raise BadScript(f"line {number}: unknown action {rest!r}")
        elif mark.startswith("isc"):
            kind, rest = Kind.COMMAND, line.strip()
        else:
            raise BadScript(f"line {number}: neither a command nor a mark: {line!r}")
        steps.append(Step(section, number, kind, rest))
    return steps
