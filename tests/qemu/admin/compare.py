# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two transcripts of one script: what differs, after the named rules took out what must differ.

Pure. A difference is one run of lines that one program wrote and the other did not, in one stream of one step. The
table of :mod:`.differences` has to explain each.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.qemu.admin.guest import Result
from tests.qemu.admin.identity import Identities
from tests.qemu.admin.steps import Step

MISSING = Result(failed="the step was not run")


@dataclass(frozen=True, slots=True)
class Rule:
    """Text that differs between two runs of one program, and what stands for it in the comparison."""

    name: str
    command: str
    """Regular expression searched in the step's words; the rule is for these steps only."""
    pattern: str
    """Replaced wherever it is found in a line."""
    replacement: str | None
    """None: the line is left out."""
    why: str


RULES = (
    Rule(
        "counters",
        r"-s\b|--stats",
        r"^(\t\w+): \d+$",
        r"\1: N",
        "how many PDUs went over the wire depends on when a NOP was due",
    ),
    Rule(
        "local ports",
        r"^kernel$",
        r"^(iscsi_connection \S+ local_port)=\d+$",
        r"\1=N",
        "the kernel takes a free one",
    ),
    Rule(
        "sessions that vanish",
        r" (-l|-L|--login|--loginall)\b",
        r"^iscsiadm: could not (read session \w+: 5|find session info for session\d+)$",
        None,
        "open-iscsi looks at every session after each login, and stumbles over one whose login just failed, or not",
    ),
    Rule(
        "places in C sources",
        r"^iscsiadm ",
        r"^(iSCSI [A-Z]+: .*?) *# \w+\.c:\w+\(\):\d+$",
        r"\1",
        "open-iscsi's library ends its messages with blanks and the file, function and line they come from",
    ),
)


@dataclass(frozen=True, slots=True)
class Order:
    """Steps where only the order of whole objects may differ; each is compared as it is, wherever it stands."""

    name: str
    command: str
    """Regular expression searched in the step's words."""
    why: str


ORDERS = (
    Order(
        "order of links",
        r"-m discovery(db)? -P 1$|-T \S+ -o new$",
        "open-iscsi goes through these in the order of the directory, which nobody can foresee; ours goes by name",
    ),
    Order(
        "order of rescans",
        r" -R$",
        "open-iscsi rescans each session in a process of its own, which says so when its turn comes",
    ),
)
_HEADING = re.compile(r"[A-Za-z]+:$|DiscoveryAddress: ")
"""Lines that stay where they are."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Lines of the peer and of ours that stand in each other's place; one of the two may be empty."""

    step: Step
    stream: str
    """``stdout``, ``stderr``, ``status``, ``tree`` or ``section`` (it could not go on)."""
    peer: tuple[str, ...]
    ours: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"line {self.step.line}, {self.step.section}: {self.step.words}: {self.stream}"]
        lines += [f"  peer  {line}" for line in self.peer]
        lines += [f"  ours  {line}" for line in self.ours]
        return "\n".join(lines)


def normal(step: Step, lines: Sequence[str]) -> list[str]:
    """The lines after everything of :data:`RULES` and :data:`ORDERS` that is for this step."""
    found = list(lines)
    for rule in RULES:
        if not re.search(rule.command, step.words):
            continue
        if rule.replacement is None:
            found = [line for line in found if not re.search(rule.pattern, line)]
        else:
            found = [re.sub(rule.pattern, rule.replacement, line) for line in found]
    return in_order(found) if any(re.search(order.command, step.words) for order in ORDERS) else found


def in_order(lines: Sequence[str]) -> list[str]:
    """The objects between two headings by name. An object is a line and the indented ones below it."""
    ordered: list[str] = []
    objects: list[list[str]] = []
    for line in lines:
        if _HEADING.match(line):
            ordered += [*itertools.chain.from_iterable(sorted(objects)), line]
            objects = []
        elif line.startswith("\t") and objects:
            objects[-1].append(line)
        else:
            objects.append([line])
    return [*ordered, *itertools.chain.from_iterable(sorted(objects))]


def _streams(step: Step, result: Result, names: Identities) -> dict[str, list[str]]:
    tree: list[str] = []
    for path, entry in result.tree.items():
        if entry is None:
            tree.append(f"{path}: removed")
            continue
        kind, mode, content = entry
        tree.append(f"{path}: {kind} {mode}".rstrip())
        tree += [f"{path}: {line}" for line in content.splitlines()]
    return {
        "section": [result.failed] if result.failed else [],
        "stdout": names.rename(normal(step, _lines(result.stdout))),
        "stderr": names.rename(normal(step, _lines(result.stderr))),
        "status": [str(result.status)],
        "tree": tree,
    }


def _lines(text: str) -> list[str]:
    """Lines, of which one without an end is told from one with."""
    lines = text.split("\n")
    last = lines.pop()
    return [*lines, f"{last}(no newline)"] if last else lines


def differences(steps: Sequence[Step], peer: Mapping[int, Result], ours: Mapping[int, Result]) -> Iterator[Difference]:
    """Every difference, in the script's order."""
    names = (Identities(), Identities())
    for step in steps:
        left, right = peer.get(step.line), ours.get(step.line)
        if left is None and right is None:
            continue  # a preparation, or a section that failed in both
        both = (left or MISSING, right or MISSING)
        for known, result in zip(names, both, strict=True):
            known.learn(step.section, result.sessions)
        theirs, mine = (_streams(step, result, known) for known, result in zip(names, both, strict=True))
        if theirs["section"] != mine["section"]:
            # A step only one of them ran differs in everything, and that says no more.
            theirs, mine = {"section": theirs["section"]}, {"section": mine["section"]}
        for stream in theirs:
            yield from _hunks(step, stream, theirs[stream], mine[stream])


def _hunks(step: Step, stream: str, peer: list[str], ours: list[str]) -> Iterator[Difference]:
    matcher = difflib.SequenceMatcher(None, peer, ours, autojunk=False)
    for tag, first, last, start, stop in matcher.get_opcodes():
        if tag != "equal":
            yield Difference(step, stream, tuple(peer[first:last]), tuple(ours[start:stop]))
