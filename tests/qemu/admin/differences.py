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
        name="Half of the CHAP settings of a discovery",
        why=Why.DECIDED,
        reason="With `username_in` and no `password_in` the target cannot prove itself. open-iscsi finds that out when"
        " the target has taken our secret, and says 24 when it has not; ours says what is missing, and 19, before it"
        " tells the target anything.",
        command=r"^discovery that fails: iscsiadm -m discoverydb \S+ \S+ \S+ \S+ -D$",
        stream=r"stderr|status",
        peer=r"iscsiadm: Login failed to authenticate with target \n[^\n]+ initiator failed authorization\n[^\n]+|24",
        ours=r"iscsiadm: failing authentication, no incoming password [^\n]+\n([^\n]+\n){3}"
        r"iscsiadm: discovery: CHAP is half configured: [^\n]+|19",
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


AT_TERMINAL: tuple[tuple[str, str], ...] = (
    (
        "Names cannot move the cursor",
        "Names of targets, the words of a target and records edited by hand are not trusted. Where stdout is a"
        " terminal, control characters and bytes that are no text are shown as escapes (`\\x1b`), so that no name can"
        " clear the screen or hide a line. Into a file or a pipe results go byte for byte, as with open-iscsi. Lines on"
        " stderr have the escapes everywhere: a name with a line break is still one line. open-iscsi passes all of it"
        " through.",
    ),
    (
        "Hints",
        "Behind a refusal comes one line of ours where stderr is a terminal, with `-d` and in the `notices` of"
        " `--json`: the values a setting takes, names that are near an unknown one, which of `-p` and `-T` is likely"
        " mistaken, what of the command line was not looked at. Scripts get open-iscsi's lines alone.",
    ),
)
"""Heading, text: what the comparison cannot show, for its commands write into files. Held by unit tests of the admin
package (test_main.py, test_hints.py)."""

ELSEWHERE: tuple[tuple[str, str], ...] = (
    (
        "A daemon is used, not needed",
        "Without iscsid open-iscsi's command logs in and out of nothing (20). Ours does it itself when nobody listens"
        " and `iscsid.startup` is not set, as in a rescue shell. Where it is set and starts none, both end with 20; the"
        " line that tells of it says how the command ended. Both commands can talk to our daemon; open-iscsi's cannot"
        " hand it a login (16).",
    ),
    (
        "Half of the CHAP settings",
        "What this side proves is the target's to demand: with a name or a secret alone no CHAP is offered (open-iscsi"
        " offers it with an empty name when there is a secret), and a target that wants it ends both with 24. What the"
        " target proves is ours to demand: where `username_in` or `password_in` is set and one of the four is not, both"
        " discoveries end with 22 or 19. open-iscsi's daemon and iscsistart log in without any authentication when this"
        " side's secret is what lacks; ours refuse, and say which setting to make. iscsiadm and iscsistart go by one"
        " rule.",
    ),
    (
        "Time-outs while a discovery logs in",
        "open-iscsi 2.1.8 waits `active_timeout` for each answer of the login; `login_timeout` is for the connection"
        " alone and `auth_timeout` for nothing. Ours takes the names at their word: `login_timeout` lasts from the"
        " connection to the end of the login, `auth_timeout` until the authentication is over, whichever is sooner.",
    ),
    (
        "The initiator name of iscsistart",
        "open-iscsi's iscsistart needs `-i` for a login by arguments and ignores it with `-b`. In ours `-i` wins;"
        " without it the name is the table's, else that of initiatorname.iscsi, else the one made from the machine, as"
        " in iscsiadm, and a line on the console says which.",
    ),
)
"""Heading, text: what other tests show (tests/unit/test_half_chap.py, tests/unit/admin/test_discovery_session.py,
tests/unit/boot/test_naming.py; tests/interop/test_admin_discovery.py has both programs)."""


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
