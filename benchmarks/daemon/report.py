# SPDX-License-Identifier: LGPL-2.1-or-later
"""The turns of both daemons as a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from benchmarks.document import memory_text, ratio_text, seconds_text, table

Turn = Mapping[str, Any]
"""What :mod:`benchmarks.daemon.agent` measured in one turn."""
OURS, PEER = "ours", "peer"


def figures(seen: Mapping[str, Turn], contestant: str, value: Callable[[Turn], float]) -> dict[str, float]:
    """One figure of one daemon by round; a turn that failed has those of before."""
    found = {}
    for name, turn in seen.items():
        count, who = name.split()
        with suppress(KeyError):
            if who == contestant:
                found[count] = value(turn)
    return found


def count_text(values: Sequence[float]) -> str:
    """Each of them: they are few and small."""
    return ", ".join(f"{value:g}" for value in values) or "-"


def work_table(seen: Mapping[str, Turn], sessions: int, idle: float) -> str:
    """One line for each thing measured."""
    works: tuple[tuple[str, Callable[[Turn], float], Callable[[Sequence[float]], str]], ...] = (
        ("start with no session", lambda turn: turn["start"], seconds_text),
        (f"log in to {sessions} targets", lambda turn: turn["login"], seconds_text),
        (f"{sessions} sessions whole again after their targets came back", lambda turn: turn["recovery"], seconds_text),
        ("half of them", lambda turn: turn["half"], seconds_text),
        ("log out of all", lambda turn: turn["logout"], seconds_text),
        ("resident, no session", lambda turn: turn["empty"]["resident"], memory_text),
        (f"resident, {sessions} sessions", lambda turn: turn["full"]["resident"], memory_text),
        (f"locked, {sessions} sessions", lambda turn: turn["full"]["locked"], memory_text),
        ("all its processes (Pss)", lambda turn: turn["full"]["all"], memory_text),
    )
    lines = []
    for name, value, show in works:
        ours, peer = (figures(seen, who, value) for who in (OURS, PEER))
        both = sorted(ours.keys() & peer.keys(), key=int)
        ratio = ratio_text([ours[count] for count in both], [peer[count] for count in both])
        lines.append([name, show(list(ours.values())), show(list(peer.values())), ratio])
    wakes = [list(figures(seen, who, lambda turn: turn["wake-ups"]).values()) for who in (OURS, PEER)]
    lines.append([f"wake-ups in {idle:g} idle seconds", count_text(wakes[0]), count_text(wakes[1]), "-"])
    return table(["", "ours", "open-iscsi", "ratio: median (range)"], lines)


def failures(seen: Mapping[str, Turn]) -> str:
    """What could not be done, one line each."""
    return "".join(f"* round {name}: {turn['failed']}\n" for name, turn in seen.items() if "failed" in turn)
