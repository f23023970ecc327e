# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's figures as text."""

from __future__ import annotations

from typing import Any

from benchmarks.daemon.report import failures, turns, work_table


def turn(scale: float) -> dict[str, Any]:
    memory = {"resident": 1024 * scale, "locked": 2048 * scale, "all": 512 * scale, "wake-ups": 0}
    times = dict.fromkeys(("start", "login", "recovery", "half", "logout"), scale)
    return {**times, "empty": memory, "full": memory, "wake-ups": int(scale)}


SEEN = {"1 ours": turn(1.0), "1 peer": turn(4.0), "2 ours": turn(3.0), "2 peer": {"failed": "no answer"}}


def test_a_turn_that_failed_counts_for_nothing() -> None:
    assert [len(turns(SEEN, name)) for name in ("ours", "peer")] == [2, 1]
    assert failures(SEEN) == "* round 2 peer: no answer\n"


def test_ratios_are_ours_over_the_peers_in_the_same_round() -> None:
    lines = work_table(SEEN, 100, 60.0).splitlines()
    assert lines[3] == "| log in to 100 targets | 2.0 s | 4.0 s | 0.25 (0.25 to 0.25) |"
    assert lines[-1] == "| wake-ups in 60 idle seconds | 1, 3 | 4 | - |"
    assert "| resident, 100 sessions | 2.0 MiB | 4.0 MiB | 0.25 (0.25 to 0.25) |" in lines
