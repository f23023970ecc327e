# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns at a portal: how many at once, who is next, and that nobody's going away costs a place."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from iscsiboot.keeper.turns import Turns

HERE, THERE = "10.0.0.1:3260", "10.0.0.2:3260"


class Queue:
    """People who want a turn; ``inside`` are those who have one."""

    def __init__(self, width: int) -> None:
        self.turns = Turns(width)
        self.inside: list[str] = []
        self.served: list[str] = []
        self._end: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str, endpoint: str = HERE) -> None:
        for name in names:
            self._end[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._one(name, endpoint))
        await settled()

    async def _one(self, name: str, endpoint: str) -> None:
        async with self.turns.at(endpoint):
            self.inside.append(name)
            self.served.append(name)
            try:
                await self._end[name].wait()
            finally:
                self.inside.remove(name)

    async def go(self, *names: str) -> None:
        for name in names:
            self._end[name].set()
        await settled()

    async def give_up(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()
        await settled()


async def settled() -> None:
    """Everybody who can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 10))


def test_so_many_at_once_and_first_come_first_served() -> None:
    async def story() -> None:
        queue = Queue(2)
        await queue.come("a", "b", "c", "d")
        assert queue.inside == ["a", "b"]
        await queue.go("b")
        assert queue.inside == ["a", "c"]
        await queue.go("a", "c", "d")
        assert queue.served == ["a", "b", "c", "d"]
        assert len(queue.turns) == 0

    run(story())


def test_another_endpoint_has_its_own() -> None:
    async def story() -> None:
        queue = Queue(1)
        await queue.come("a", "b")
        await queue.come("c", endpoint=THERE)
        assert queue.inside == ["a", "c"]
        assert len(queue.turns) == 2
        await queue.go("a", "b", "c")
        assert len(queue.turns) == 0

    run(story())


def test_who_gives_up_waiting_or_at_work_leaves_the_place_to_the_next() -> None:
    async def story() -> None:
        queue = Queue(1)
        await queue.come("a", "b", "c", "d")
        await queue.give_up("b")
        assert queue.inside == ["a"]
        await queue.give_up("a")
        assert queue.inside == ["c"]
        await queue.go("c", "d")
        assert queue.served == ["a", "c", "d"]
        assert len(queue.turns) == 0

    run(story())


def test_who_waits_for_quiet_waits_for_everybody_there_and_for_nobody_elsewhere() -> None:
    async def story() -> None:
        queue = Queue(1)
        await asyncio.wait_for(queue.turns.quiet(HERE), 1)
        await queue.come("a", "b")
        waiting = asyncio.create_task(queue.turns.quiet(HERE))
        await asyncio.wait_for(queue.turns.quiet(THERE), 1)
        await queue.come("c", endpoint=THERE)
        await queue.go("a")
        assert not waiting.done(), "one is still at work"
        await queue.give_up("b")
        assert waiting.done()
        await queue.go("c")

    run(story())
