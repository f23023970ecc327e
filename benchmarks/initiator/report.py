# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures to tables. Pure.

For paces (so many a second) a ratio is turned round, so that it reads as those of time and memory do.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.document import NOTHING, memory_text, ratio_text, seconds_text, table
from benchmarks.initiator.blackholes import Probe
from benchmarks.initiator.contest import LIBISCSI, OPEN_ISCSI, OPEN_ISCSI_RECORDS, OURS, Run
from benchmarks.initiator.rates import Rate

PEERS = (LIBISCSI, OPEN_ISCSI, OPEN_ISCSI_RECORDS)


def rates_table(rates: Sequence[Rate]) -> str:
    """Paces in one process, ours and the C library's."""

    def of(work: str, contestant: str) -> list[float]:
        return [
            rate.per_second for rate in rates if (rate.work, rate.contestant) == (work, contestant) and not rate.failure
        ]

    lines = []
    for work in dict.fromkeys(rate.work for rate in rates):
        mine, theirs = of(work, OURS), of(work, LIBISCSI)
        shown = [f"{statistics.median(values):,.1f}/s" if values else NOTHING for values in (mine, theirs)]
        lines.append([work, *shown, ratio_text(theirs, mine)])
    return table(["in one process", OURS, "libiscsi", "time, ratio: median (range)"], lines)


def times_table(runs: Sequence[Run]) -> str:
    """Seconds of a whole command, by number of targets."""
    return _runs_table(runs, lambda run: run.seconds, seconds_text)


def memory_table(runs: Sequence[Run]) -> str:
    """Peak memory of a whole command, by number of targets."""
    return _runs_table(runs, lambda run: float(run.peak_kib), memory_text)


def _runs_table(runs: Sequence[Run], value: Callable[[Run], float], show: Callable[[Sequence[float]], str]) -> str:
    def of(size: int, contestant: str) -> list[float]:
        return [value(run) for run in runs if (run.size, run.contestant) == (size, contestant) and not run.failure]

    peers = [peer for peer in PEERS if any(run.contestant == peer for run in runs)]
    lines = []
    for size in sorted({run.size for run in runs}):
        mine = of(size, OURS)
        line = [f"{size:,}", show(mine)]
        for peer in peers:
            line += [show(of(size, peer)), ratio_text(mine, of(size, peer))]
        lines.append(line)
    header = ["targets", OURS]
    for peer in peers:
        header += [peer, "ratio"]
    return table(header, lines)


def failures(runs: Sequence[Run], rates: Sequence[Rate] = ()) -> str:
    """What could not be done, one line each, in the words of who could not."""
    told = [f"{run.contestant}, {run.size:,} targets ({run.family}): {run.failure}" for run in runs if run.failure]
    told += [f"{rate.contestant}, {rate.work}: {rate.failure}" for rate in rates if rate.failure]
    return "".join(f"* {line}\n" for line in dict.fromkeys(told))


def probes_table(probes: Sequence[Probe]) -> str:
    """Probes of many portals."""
    lines = [
        [
            f"{probe.portals}",
            f"{probe.dark}",
            f"{probe.timeout:g} s",
            f"{probe.seconds:.2f} s",
            f"{probe.seconds / probe.timeout:.2f}",
        ]
        for probe in probes
    ]
    return table(["portals", "of them dark", "connect timeout", "probe", "probe, in connect timeouts"], lines)


def points(runs: Sequence[Run], contestant: str, value: Callable[[Run], float]) -> list[tuple[float, float]]:
    """The medians of one contestant by number of targets, for a picture."""
    sizes = sorted({run.size for run in runs if run.contestant == contestant and not run.failure})
    return [
        (
            float(size),
            statistics.median(
                value(run) for run in runs if (run.size, run.contestant) == (size, contestant) and not run.failure
            ),
        )
        for size in sizes
    ]
