# SPDX-License-Identifier: LGPL-2.1-or-later
"""The turns of both daemons as a table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.document import memory_text, ratio_text, seconds_text, table

Turn = Mapping[str, Any]
"""What :mod:`benchmarks.daemon.agent` measured in one turn."""
OURS, PEER = "ours", "peer"


def turns(seen: Mapping[str, Turn], contestant: str) -> list[Turn]:
    """Those of one daemon that did not fail, in the order of the rounds."""
    return [turn for name, turn in seen.items() if name.split()[1] == contestant and "failed" not in turn]


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
    mine, theirs = turns(seen, OURS), turns(seen, PEER)
    lines = []
    for name, value, show in works:
        ours, peer = [value(turn) for turn in mine], [value(turn) for turn in theirs]
        lines.append([name, show(ours), show(peer), ratio_text(ours, peer)])
    wakes = [[turn["wake-ups"] for turn in each] for each in (mine, theirs)]
    lines.append([f"wake-ups in {idle:g} idle seconds", count_text(wakes[0]), count_text(wakes[1]), "-"])
    return table(["", "ours", "open-iscsi", "ratio: median (range)"], lines)


def failures(seen: Mapping[str, Turn]) -> str:
    """What could not be done, one line each."""
    return "".join(f"* round {name}: {turn['failed']}\n" for name, turn in seen.items() if "failed" in turn)
