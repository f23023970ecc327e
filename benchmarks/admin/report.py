# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contest's figures as a table, lines of a chart, and what could not be done. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.admin.contest import BARE, OURS, PEER, Run
from benchmarks.charts import Chart, Points
from benchmarks.document import NOTHING, ratio_text, seconds_text, table


def seconds_of(runs: Sequence[Run], work: str, size: int, contestant: str) -> list[float]:
    """The times that count, in the order of the rounds."""
    return [
        run.seconds
        for run in runs
        if (run.work, run.size, run.contestant) == (work, size, contestant) and not run.failure
    ]


def work_table(runs: Sequence[Run]) -> str:
    """One line for each work and size."""
    lines = []
    for work, size in dict.fromkeys((run.work, run.size) for run in runs):
        mine, theirs = (seconds_of(runs, work, size, contestant) for contestant in (OURS, PEER))
        lines.append([work, f"{size:,}", seconds_text(mine), seconds_text(theirs), ratio_text(mine, theirs)])
    return table(["command", "objects", OURS, PEER, "ratio: median (range)"], lines)


def start_table(runs: Sequence[Run]) -> str:
    """The start of a command beside what the interpreter alone takes."""
    lines = []
    for contestant in (OURS, PEER, BARE):
        values = [run.seconds for run in runs if run.contestant == contestant and not run.failure]
        shown = f"{statistics.median(values) * 1000:.1f} ms" if values else NOTHING
        ends = f"{min(values) * 1000:.1f} to {max(values) * 1000:.1f} ms" if values else NOTHING
        lines.append([contestant, shown, ends])
    return table(["program", "median", "range"], lines)


def chart(runs: Sequence[Run], *, title: str, across: str) -> Chart:
    """Time against the number of objects, a line for each work and contestant."""
    lines: dict[str, Points] = {}
    for work in dict.fromkeys(run.work for run in runs):
        for contestant in (OURS, PEER):
            sizes = sorted({run.size for run in runs if run.work == work and run.size})
            points = [
                (float(size), statistics.median(values))
                for size in sizes
                if (values := seconds_of(runs, work, size, contestant))
            ]
            if points:
                lines[f"{work}: {contestant}"] = points
    return Chart(title=title, unit="s", lines=lines, across=across)


def failures(runs: Sequence[Run]) -> str:
    """What does not count, one line each."""
    told = [f"{run.contestant}, {run.work}, {run.size:,}: {run.failure}" for run in runs if run.failure]
    return "".join(f"* {line}\n" for line in dict.fromkeys(told))
