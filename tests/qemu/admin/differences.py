# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where ours does not do what open-iscsi 2.1.8 does: each case with its reason. docs/compatibility.md is made of it.

A row explains differences, it does not hide steps: its patterns have to match all of what the one wrote and all of
what the other wrote in its place. A row no difference needs is a mistake as much as a difference without a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from tests.qemu.admin.compare import Difference


class Why(Enum):
    """Who is right; the value is the heading in docs/compatibility.md."""

    BUG = "Mistakes of open-iscsi that are not copied"
    DECIDED = "Decided otherwise"
    NOT_YET = "Not there yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One kind of difference."""

    name: str
    """Short, unique; the heading of its paragraph."""
    why: Why
    reason: str
    """For docs/compatibility.md: what differs and why, in whole sentences."""
    command: str = ""
    """Regular expression searched in "SECTION: COMMAND"."""
    stream: str = r"stdout|stderr|status|tree"
    peer: str = ""
    """Regular expression for all of the peer's lines, joined by newlines; empty for no line."""
    ours: str = ""

    def explains(self, difference: Difference) -> bool:
        """Whether this row is the reason of that difference."""
        where = f"{difference.step.section}: {difference.step.words}"
        return (
            re.search(self.command, where) is not None
            and re.fullmatch(self.stream, difference.stream) is not None
            and re.fullmatch(self.peer, "\n".join(difference.peer)) is not None
            and re.fullmatch(self.ours, "\n".join(difference.ours)) is not None
        )


_NEXT = r"iscsiadm: [^\n]*\b(arguments|connect|login|discovery|scan|device)\b: [^\n]+; next: [^\n]+"
"""A line of ours behind the peer's: stage, portal, the target's words and what to do next."""
_RECORD = r"(nodes/[^\n]+\n?)+"

ROWS: tuple[Row, ...] = (
    # -- mistakes -----------------------------------------------------------------------------------------------------
    Row(
        name="Nothing added is an error",
        why=Why.BUG,
        reason="`-m node -o new` that finds nothing to add prints an error without text and exits 0 in open-iscsi. Ours"
        " says `no objects found` and exits 21, as every other command that found nothing.",
        command=r"-m node .*-o new",
        stream=r"stderr|status",
        peer=r"iscsiadm: Error while adding record: |0",
        ours=r"iscsiadm: Error while adding record: no objects found|21",
    ),
    Row(
        name="A bracket that is not closed",
        why=Why.BUG,
        reason="open-iscsi takes `-p [fd00::1` for no portal, so the command means every record. Ours refuses it.",
        command=r"-p \[fd00::1$",
        stream=r"stderr|status",
        peer=r"iscsiadm: No records found|21",
        ours=_NEXT + r"|7",
    ),
    Row(
        name="Numbers are numbers",
        why=Why.BUG,
        reason="open-iscsi stores 0 for a number it cannot read (`-n node.session.queue_depth -v many`) and exits 0:"
        " the next login fails or is slow. Ours names the range, changes nothing and exits 7.",
        command=r"-v many$|queue_depth -v 32$",
        stream=r"stderr|status|tree",
        peer=r"|0|" + _RECORD,
        ours=r"iscsiadm: unknown value format 'many'[\s\S]*invalid parameter|7|",
    ),
    Row(
        name="Keys of a newer release",
        why=Why.BUG,
        reason="One record with a key it does not know makes open-iscsi 2.1.8 refuse to list any record (exit 7), and"
        " an update drops the key. Ours lists all records and keeps unknown keys where they are.",
        command=r"^records: ",
        stream=r"stdout|stderr|status|tree",
        peer=r"iSCSI ERROR: Unknown parameter name [\s\S]*|7|",
        ours=r"10\.1\.0\.1:3260,1 iqn\.2026-01\.org\.example:one|0|"
        r"nodes/[^\n]*: node\.session\.sess_reopen_log_freq = 7|",
    ),
    Row(
        name="A refused change of an interface is an error",
        why=Why.BUG,
        reason="`-m iface -o update` that says `Could not update iface` exits 0 in open-iscsi; `-o new` with parameters"
        " it refuses leaves an interface behind and says it was added. Ours exits with the error and adds nothing.",
        command=r"^interfaces: iscsiadm -m iface -I \w+ -o (update|new) ",
        peer=r"0|New interface wrong added|(ifaces/wrong: [^\n]+\n?)+|",
        ours=r"7|iscsiadm: Could not create new interface wrong\.|",
    ),
    Row(
        name="Leading logins without an interface of their own",
        why=Why.BUG,
        reason="open-iscsi tries leading logins through stored interfaces only: with none, `-L automatic` logs in to no"
        " such target and exits 19. Ours uses the default interface then.",
        command=r"^leading login: iscsiadm -m (node --loginall=automatic|session -P 0)$",
        stream=r"stdout|stderr|status",
        peer=r"iscsiadm: Could not login all leading-login portals|iscsiadm: No active sessions\.|19|21|",
        ours=r"((Logging in|Login) to \[iface: default, target: iqn\.2026-01\.org\.example:one, [^\n]+\n?){4}|"
        r"(tcp: [^\n]+ iqn\.2026-01\.org\.example:one \(non-flash\)\n?){2}|0|",
    ),
    # -- decisions ----------------------------------------------------------------------------------------------------
    Row(
        name="Looking creates nothing",
        why=Why.DECIDED,
        reason="open-iscsi makes the folder `ifaces` when it lists interfaces or reads a node's. Ours makes it with the"
        " first interface, so that looking works on a read-only file system.",
        stream=r"tree",
        peer=r"(ifaces: directory 0o700)?",
        ours=r"(ifaces: directory 0o700)?",
    ),
    Row(
        name="Help",
        why=Why.DECIDED,
        reason="`-h` lists the options of each mode from the table that also parses them, and the exit codes.",
        command=r": iscsiadm (-h|--help)$",
        stream=r"stdout",
        peer=r"iscsiadm -m discoverydb [\s\S]*",
        ours=r"iscsiadm -m discoverydb [\s\S]*",
    ),
    Row(
        name="Debug messages",
        why=Why.DECIDED,
        reason="What `-d` prints is for the people who wrote the program; the words are not the same.",
        command=r" -d [0-9]",
        stream=r"stderr",
        peer=r"[\s\S]*",
        ours=r"[\s\S]*",
    ),
    Row(
        name="Failures say what to do next",
        why=Why.DECIDED,
        reason="Behind open-iscsi's lines of a failure comes one of ours with the stage, the portal, the words of the"
        " target, the likely cause and what to do next. The lines before it are unchanged, and so is the exit status.",
        stream=r"stderr",
        ours=rf"({_NEXT}\n?)+",
    ),
    Row(
        name="Modules are loaded in silence",
        why=Why.DECIDED,
        reason="open-iscsi passes on what libkmod says about a module that is not there, before its own message.",
        stream=r"stderr",
        peer=r"libkmod: ERROR [\s\S]*Kmod error -2",
    ),
    Row(
        name="Discovery keeps what an administrator changed",
        why=Why.DECIDED,
        reason="A second discovery writes open-iscsi's records anew: every `-o update` since the first is lost. Ours"
        " leaves a record's own settings alone; `-o update` at the discovery resets them, as documented.",
        command=r": iscsiadm -m discovery -t (st|sendtargets) -p \S+$",
        stream=r"tree",
        peer=_RECORD,
    ),
    Row(
        name="Records of the firmware start at boot",
        why=Why.DECIDED,
        reason="open-iscsi 2.1.8 writes records of the firmware with both startup settings `manual`, and with `onboot`"
        " when they are discovered again; since 2.1.11 they are `onboot` from the first time, and so they are in ours.",
        command=r"^firmware: ",
        stream=r"stdout|tree",
        peer=r"[^\n]*node\.(conn\[0\]\.)?startup = manual|" + _RECORD,
        ours=r"[^\n]*node\.(conn\[0\]\.)?startup = onboot|",
    ),
    Row(
        name="The configuration is read without the daemon",
        why=Why.DECIDED,
        reason="open-iscsi asks iscsid where its configuration is. Without iscsid it waits a second, says so, and makes"
        " records from compiled-in values (login_timeout 30, initial_login_retry_max 4) instead of the file's. Ours"
        " reads the file.",
        command=r"^without the daemon: iscsiadm -m node ",
        stream=r"stdout|stderr|tree",
        peer=r"sh: 1: /bin/systemctl: not found\niscsiadm: can not connect to iSCSI daemon \(111\)!|"
        r"([^\n]*node\.conn\[0\]\.timeo\.login_timeout = 30|[^\n]*node\.session\.initial_login_retry_max = 4)",
        ours=r"|[^\n]*node\.conn\[0\]\.timeo\.login_timeout = 15|[^\n]*node\.session\.initial_login_retry_max = 8",
    ),
    # -- not yet ------------------------------------------------------------------------------------------------------
    Row(
        name="Host mode",
        why=Why.NOT_YET,
        reason="`-m host` comes with the offload drivers; until then it says so and exits 27.",
        command=r": iscsiadm -m host",
        peer=r"[\s\S]*",
        ours=r"iscsiadm: host mode is not supported yet; [^\n]+|27|",
    ),
    Row(
        name="iSNS",
        why=Why.NOT_YET,
        reason="Discovery through an iSNS server has its own issue; until then `-t isns` says so and exits 17.",
        command=r": iscsiadm -m discovery -t isns -p 10",
        stream=r"stderr|status",
        peer=r"[\s\S]*",
        ours=r"iscsiadm: Could not perform iSNS discovery: iSNS service not supported\n"
        r"iscsiadm: this release [^\n]+|17",
    ),
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is left when the table was applied."""

    unexplained: tuple[Difference, ...]
    unused: tuple[Row, ...]
    explained: int


def judge(found: Iterable[Difference], rows: tuple[Row, ...] = ROWS) -> Judgement:
    """Every difference against every row; the first row that explains it counts."""
    used: set[str] = set()
    unexplained: list[Difference] = []
    explained = 0
    for difference in found:
        row = next((row for row in rows if row.explains(difference)), None)
        if row is None:
            unexplained.append(difference)
        else:
            explained += 1
            used.add(row.name)
    return Judgement(tuple(unexplained), tuple(row for row in rows if row.name not in used), explained)
