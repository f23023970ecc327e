# SPDX-License-Identifier: LGPL-2.1-or-later
"""The time of one login among many: what it waits for its turn is not counted as long as others get through.

A portal takes so many logins at once (:mod:`.turns`). With hundreds of orders the last ones would be late before they
have begun, though nothing is wrong. So each login that gets through at a portal has the time of those that wait there
count anew. Where nobody gets through, it goes on from the order, and all of them end in their time: a portal that is
dead is told as such, however many there are. Nobody waits for ever: turns are given in the order in which they were
asked for, and each has a limit of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType


class Patience:
    """An ``async with`` block that ends by TimeoutError when its time is over. To be used once."""

    def __init__(self, seconds: float, prolonged: Callable[[], None] | None) -> None:
        """``prolonged`` is told when the time counts from now on; None: it counts from the beginning alone."""
        self._seconds = seconds
        self._prolonged = prolonged
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._bound = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._place = ""
        self._served: Callable[[], float] | None = None
        self.words = ""
        """Why its time is over, where it was not its own work."""

    async def __aenter__(self) -> Patience:
        await self._bound.__aenter__()
        self._since = self._loop.time()
        self._timer = self._loop.call_at(self._since + self._seconds, self._look)
        self.prolong()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._bound.__aexit__(kind, error, trace)

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._since + self._seconds - self._loop.time())

    def prolong(self) -> None:
        """Tell that the time counts from now on, or that what is left of it does not count before something else."""
        if self._prolonged is not None:
            self._prolonged()

    @contextmanager
    def waiting(self, place: str, served: Callable[[], float]) -> Iterator[None]:
        """While in it, it waits for its turn at ``place``, where somebody got through at ``served`` last, by the loop's
        clock.
        """
        self._place, self._served = place, served
        try:
            yield
            if self._others_got_through():
                self._since = self._loop.time()
                self.prolong()
        finally:
            self._served = None

    def _others_got_through(self) -> bool:
        """Since its time began to count."""
        return self._prolonged is not None and self._served is not None and self._served() > self._since

    def _look(self) -> None:
        """Only when the time would be over: each of hundreds that get through concerns hundreds that wait."""
        if self._served is not None and self._others_got_through():
            self._since = self._served()
            self.prolong()
        if self.left:
            self._timer = self._loop.call_at(self._since + self._seconds, self._look)
            return
        self._timer = None
        if self._served is not None:
            nobody = "" if self._prolonged is None else ", where no other login got through meanwhile"
            self.words = f"it waited for its turn at {self._place}{nobody}"
        self._bound.reschedule(self._loop.time())
