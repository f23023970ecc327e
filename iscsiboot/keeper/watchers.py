# SPDX-License-Identifier: LGPL-2.1-or-later
"""Those who watch statuses: each gets the newest of every session that changed, however slowly it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from iscsiboot.keeper.values import Status


class Watchers:
    """Statuses out to any number of readers, none of which holds up the others or makes a queue that grows."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    def __bool__(self) -> bool:
        """Whether anybody watches: else no status need be made."""
        return bool(self._watchers)

    def tell(self, sid: int, status: Callable[[], Status]) -> None:
        """Session ``sid`` has changed; ``status`` is asked once a reader comes to it."""
        for watcher in self._watchers:
            watcher.waiting[sid] = status
            watcher.something.set()

    async def read(self) -> AsyncGenerator[Status, None]:
        """The changes from the first step on, until the reader closes it."""
        with self._watcher() as watcher:
            while True:
                await watcher.something.wait()
                while watcher.waiting:
                    sid = next(iter(watcher.waiting))
                    yield watcher.waiting.pop(sid)()
                watcher.something.clear()

    async def numbers(self) -> AsyncGenerator[frozenset[int], None]:
        """Which sessions have changed, all of them at each step: for who needs no status, which costs to make."""
        with self._watcher() as watcher:
            while True:
                await watcher.something.wait()
                watcher.something.clear()
                changed = frozenset(watcher.waiting)
                watcher.waiting.clear()
                yield changed

    @contextmanager
    def _watcher(self) -> Iterator[_Watcher]:
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    def __init__(self) -> None:
        self.waiting: dict[int, Callable[[], Status]] = {}
        self.something = asyncio.Event()
