# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands on databases and machines of several sizes, run by both programs in turn.

Every contestant runs in namespaces of its own on its own copy of the tree (``tests.interop.peer_admin``). Time is that
of the whole program, its start included. A run counts only when the command ended with the status it should and wrote
nothing to stderr that it should not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.admin import trees
from tests.interop.peer_admin import Program, Result, run

OURS, PEER, BARE = "iscsiboot", "open-iscsi", "bare interpreter"


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is measured at one size."""

    name: str
    argv: tuple[str, ...]
    status: int = 0
    lines: int | None = None
    """Lines it has to print; None: not looked at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One command, once."""

    work: str
    size: int
    contestant: str
    seconds: float
    failure: str = ""
    """Why it does not count; empty when it does."""


START = Work(name="session, none there", argv=("-m", "session"), status=21)


def record_works(size: int) -> tuple[Work, ...]:
    """Listing all records, showing one, changing all, and changing them again at once.

    The first change finds the records on the disk; the second finds those of a program that does not ask the disk in
    memory alone, where writing over them costs it least.
    """
    address, port, _ = trees.portal(0)
    one = ("-m", "node", "-T", trees.target(0), "-p", f"{address}:{port}")
    change = ("-m", "node", "-o", "update", "-n", "node.session.timeo.replacement_timeout", "-v")
    return (
        Work(name="list all records", argv=("-m", "node"), lines=size),
        Work(name="show one record", argv=one),
        Work(name="update all records", argv=(*change, "60")),
        Work(name="update them again", argv=(*change, "90")),
    )


def session_works(size: int) -> tuple[Work, ...]:
    """Listing sessions, flat and with everything."""
    return (
        Work(name="list sessions", argv=("-m", "session"), lines=size),
        Work(name="list sessions, -P 3", argv=("-m", "session", "-P", "3")),
    )


def judged(work: Work, size: int, contestant: str, result: Result) -> Run:
    """The result as a figure, or with the reason why it is none."""
    failure = ""
    printed = result.stdout.count(b"\n")
    if result.status != work.status:
        failure = f"exit status {result.status}: {result.stderr.decode(errors='replace').strip()[-200:]}"
    elif work.lines is not None and printed != work.lines:
        failure = f"{printed} lines, not {work.lines}"
    return Run(work=work.name, size=size, contestant=contestant, seconds=result.seconds, failure=failure)


def rotated(programs: Sequence[Program], number: int) -> list[Program]:
    """The order of round ``number``: each contestant goes first in its turn."""
    at = number % len(programs)
    return [*programs[at:], *programs[:at]]


def contest(
    programs: Sequence[Program],
    works: Sequence[Work],
    size: int,
    *,
    rounds: int,
    tree: Path | None = None,
    sysfs: Path | None = None,
) -> Iterator[Run]:
    """Every work by every program, ``rounds`` times. A first round warms the page cache and is not told."""
    for number in range(rounds + 1):
        for program in rotated(programs, number):
            # Without its daemon the peer falls back to compiled-in values after a second's wait; with it it is itself.
            # And a database has been on its disk for long: the copy made for this run must not be what is timed.
            commands = [work.argv for work in works]
            outcome = run(program, commands, tree=tree, sysfs=sysfs, daemon=0, at_rest=True)
            for work, result in zip(works, outcome.results, strict=True):
                if number:
                    yield judged(work, size, program.name, result)
