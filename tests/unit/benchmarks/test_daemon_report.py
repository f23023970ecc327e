# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's figures as text."""

from __future__ import annotations

from typing import Any

from benchmarks.daemon.report import failures, figures, work_table


def turn(scale: float) -> dict[str, Any]:
    memory = {"resident": 1024 * scale, "locked": 2048 * scale, "all": 512 * scale, "wake-ups": 0}
    times = dict.fromkeys(("start", "login", "recovery", "half", "logout"), scale)
    return {**times, "empty": memory, "full": memory, "wake-ups": int(scale)}


SEEN = {
    "1 ours": turn(1.0),
    "1 peer": {"login": 9.0, "failed": "no answer"},
    "2 ours": turn(3.0),
    "2 peer": turn(4.0),
}


def test_of_a_turn_that_failed_what_was_done_before_counts() -> None:
    assert figures(SEEN, "peer", lambda turn: turn["login"]) == {"1": 9.0, "2": 4.0}
    assert figures(SEEN, "peer", lambda turn: turn["logout"]) == {"2": 4.0}
    assert failures(SEEN) == "* round 1 peer: no answer\n"


def test_ratios_are_ours_over_the_peers_in_the_same_round() -> None:
    lines = work_table(SEEN, 100, 60.0).splitlines()
    assert lines[3] == "| log in to 100 targets | 2.0 s | 6.5 s | 0.43 (0.11 to 0.75) |"
    assert lines[-1] == "| wake-ups in 60 idle seconds | 1, 3 | 4 | - |"
    assert "| resident, 100 sessions | 2.0 MiB | 4.0 MiB | 0.75 (0.75 to 0.75) |" in lines
