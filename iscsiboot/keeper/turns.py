# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns at a portal: so many logins at once at one endpoint, the others wait until it is theirs.

A target may take logins one after the other (LIO has one thread a portal). A hundred at once would queue there, each
with its time running out; those that give up are still in the target's queue, and the next attempts wait behind them.
Who waits here waits without a connection, and his time has not begun.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

WIDTH = 16
"""Enough to keep any target busy; the last of them is served long before its login timeout (15 s by default)."""


class Turn:
    """An ``async with`` block in which one login at one endpoint is at work."""

    def __init__(self, turns: Turns, endpoint: str) -> None:
        self._turns = turns
        self._endpoint = endpoint

    async def __aenter__(self) -> None:
        await self._turns.take(self._endpoint)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.give(self._endpoint)


class Turns:
    """The turns at all endpoints. To be used in one loop's thread."""

    def __init__(self, width: int = WIDTH) -> None:
        """``width`` logins at once at each endpoint."""
        self._width = width
        self._queues: dict[str, asyncio.Semaphore] = {}
        self._people: dict[str, int] = {}
        """How many are at work or wait, by endpoint: an endpoint nobody wants any more is forgotten."""

    def __len__(self) -> int:
        """Endpoints somebody is at."""
        return len(self._people)

    def at(self, endpoint: str) -> Turn:
        """The next turn there."""
        return Turn(self, endpoint)

    async def take(self, endpoint: str) -> None:
        """Wait for a turn; :meth:`give` has to follow, unless this was cancelled."""
        self._people[endpoint] = self._people.get(endpoint, 0) + 1
        queue = self._queues.setdefault(endpoint, asyncio.Semaphore(self._width))
        try:
            await queue.acquire()
        except BaseException:
            self._leave(endpoint)
            raise

    def give(self, endpoint: str) -> None:
        """The turn is over; who waits longest is next."""
        self._queues[endpoint].release()
        self._leave(endpoint)

    def _leave(self, endpoint: str) -> None:
        self._people[endpoint] -= 1
        if not self._people[endpoint]:
            del self._people[endpoint], self._queues[endpoint]
