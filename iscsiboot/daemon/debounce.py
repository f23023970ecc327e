# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many reasons, one run: work that is asked for in storms and done once after each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

SETTLE_SECONDS = 0.2
"""After the first reason: those of one change come within milliseconds."""
SHARE = 20.0
"""Between two runs this many times as long as the last one took: 5 % of the time goes into them in a storm."""
PAUSE_SECONDS = 1.0
"""And never less than this."""
LONGEST_SECONDS = 3.0
"""Nor more, however slow the machine is: what has just become the system's is not looked after before it is seen."""


class Debounced:
    """Runs ``work`` some time after :meth:`ask`; reasons that come while it runs cause another run after it.

    ``work`` must not raise. Nothing is waiting when nothing was asked for.
    """

    def __init__(
        self, work: Callable[[], Awaitable[None]], *, settle: float = SETTLE_SECONDS, pause: float = PAUSE_SECONDS
    ) -> None:
        self._work = work
        self._settle = settle
        self._pause = pause
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False
        self._closed = False
        self._not_before = 0.0

    @property
    def rests(self) -> bool:
        """Whether nothing was asked for and no pause is kept: a new one would do the same."""
        busy = self._task is not None or self._timer is not None
        return not busy and asyncio.get_running_loop().time() >= self._not_before

    def ask(self) -> None:
        """There is a reason."""
        self._asked = True
        if self._closed or self._task is not None or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        at = max(loop.time() + self._settle, self._not_before)
        self._timer = loop.call_at(at, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._asked = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._work()
        finally:
            took = loop.time() - began
            self._not_before = loop.time() + max(self._pause, min(took * SHARE, LONGEST_SECONDS))
            self._task = None
            if self._asked:
                self.ask()

    def close(self) -> None:
        """No run any more; one at work is cancelled."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
