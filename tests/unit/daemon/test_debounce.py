# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many reasons, one run; on a clock by hand."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from iscsiboot.daemon.debounce import LONGEST_SECONDS, Debounced
from tests.doubles.virtual_time import VirtualLoop, run_virtually


class Work:
    """Records when it ran; takes as long as it is told."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.at: list[float] = []
        self.ended = 0

    async def __call__(self) -> None:
        loop = asyncio.get_running_loop()
        self.at.append(round(loop.time() - 1000.0, 3))
        await asyncio.sleep(self.takes)
        self.ended += 1


def test_a_storm_is_one_run_after_it_has_begun() -> None:
    async def main() -> None:
        work = Work()
        debounced = Debounced(work, settle=0.2, pause=1.0)
        for _ in range(1000):
            debounced.ask()
        await asyncio.sleep(10)
        assert work.at == [0.2]

    run_virtually(main())


def test_a_storm_that_goes_on_is_a_run_a_pause() -> None:
    async def main() -> None:
        work = Work()
        debounced = Debounced(work, settle=0.2, pause=1.0)
        for _ in range(100):
            debounced.ask()
            await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        assert work.at == [0.2, 1.2, 2.2, 3.2, 4.2, 5.2]

    run_virtually(main())


def test_a_reason_while_it_runs_is_another_run() -> None:
    async def main() -> None:
        work = Work(takes=0.01)
        debounced = Debounced(work, settle=0.2, pause=1.0)
        debounced.ask()
        await asyncio.sleep(0.205)
        assert work.at
        assert work.ended == 0
        debounced.ask()
        debounced.ask()
        await asyncio.sleep(5)
        assert work.at == [0.2, 1.21]

    run_virtually(main())


@pytest.mark.parametrize(("takes", "pause"), [(0.01, 1.0), (0.1, 2.0), (2.0, LONGEST_SECONDS), (30.0, LONGEST_SECONDS)])
def test_long_work_gets_long_pauses_and_none_beyond_the_longest(takes: float, pause: float) -> None:
    async def main() -> None:
        work = Work(takes=takes)
        debounced = Debounced(work, settle=0.2, pause=1.0)
        for _ in range(1200):
            debounced.ask()
            await asyncio.sleep(0.1)
        gaps = [late - early for early, late in pairwise(work.at)]
        assert gaps
        assert {round(gap - takes, 2) for gap in gaps} == {pause}

    run_virtually(main())


def test_at_rest_nothing_wakes_up() -> None:
    async def main() -> None:
        debounced = Debounced(Work())
        debounced.ask()
        await asyncio.sleep(5)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        jumps = loop.jumps
        await asyncio.sleep(1000)
        assert loop.jumps == jumps + 1
        debounced.close()

    run_virtually(main())


def test_closed_it_runs_no_more_and_ends_what_runs() -> None:
    async def main() -> None:
        idle, at_work = Work(), Work(takes=5)
        first, second = Debounced(idle), Debounced(at_work)
        first.ask()
        second.ask()
        await asyncio.sleep(0.1)
        first.close()
        await asyncio.sleep(0.2)
        second.close()
        first.ask()
        second.ask()
        await asyncio.sleep(50)
        assert (idle.at, at_work.at, at_work.ended) == ([], [0.2], 0)

    run_virtually(main())
