# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns at a portal: so many logins at once at one endpoint, the others wait until it is theirs.

A target may take logins one after the other (LIO has one thread a portal). A hundred at once would queue there, each
with its time running out; those that give up are still in the target's queue, and the next attempts wait behind them.
Who waits here waits without a connection, and his time has not begun (:mod:`.patience`).
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from iscsiboot.keeper.patience import Patience

WIDTH = 16
"""Enough to keep any target busy; the last of them is served long before its login timeout (15 s by default)."""


class Turn:
    """An ``async with`` block in which one login at one endpoint is at work."""

    def __init__(self, turns: Turns, endpoint: str, patience: Patience | None) -> None:
        self._turns = turns
        self._endpoint = endpoint
        self._patience = patience

    async def __aenter__(self) -> None:
        await self._turns.take(self._endpoint, self._patience)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.give(self._endpoint, served=error is None)


class Turns:
    """The turns at all endpoints. To be used in one loop's thread."""

    def __init__(self, width: int = WIDTH) -> None:
        """``width`` logins at once at each endpoint."""
        self._width = width
        self._queues: dict[str, asyncio.Semaphore] = {}
        self._people: dict[str, int] = {}
        """How many are at work or wait, by endpoint: an endpoint nobody wants any more is forgotten."""
        self._quiet: dict[str, asyncio.Event] = {}
        self._served: dict[str, float] = {}
        """When somebody got through there last, by the loop's clock."""

    def __len__(self) -> int:
        """Endpoints somebody is at."""
        return len(self._people)

    def at(self, endpoint: str, patience: Patience | None = None) -> Turn:
        """The next turn there. ``patience``: the time of who waits, None when it has none."""
        return Turn(self, endpoint, patience)

    async def take(self, endpoint: str, patience: Patience | None = None) -> None:
        """Wait for a turn; :meth:`give` has to follow, unless this was cancelled."""
        self._people[endpoint] = self._people.get(endpoint, 0) + 1
        queue = self._queues.setdefault(endpoint, asyncio.Semaphore(self._width))
        try:
            if patience is None or not queue.locked():
                await queue.acquire()
            else:
                with patience.waiting(endpoint, lambda: self._served.get(endpoint, float("-inf"))):
                    await queue.acquire()
        except BaseException:
            self._leave(endpoint)
            raise

    def give(self, endpoint: str, *, served: bool) -> None:
        """The turn is over, ``served`` with success; who waits longest is next."""
        if served:
            self._served[endpoint] = asyncio.get_running_loop().time()
        self._queues[endpoint].release()
        self._leave(endpoint)

    async def quiet(self, endpoint: str) -> None:
        """Wait until nobody is at an endpoint, nor waits there."""
        while endpoint in self._people:
            await self._quiet.setdefault(endpoint, asyncio.Event()).wait()

    def _leave(self, endpoint: str) -> None:
        self._people[endpoint] -= 1
        if not self._people[endpoint]:
            del self._people[endpoint], self._queues[endpoint]
            self._served.pop(endpoint, None)
            self._quiet.pop(endpoint, asyncio.Event()).set()
