# SPDX-License-Identifier: LGPL-2.1-or-later
"""More logins at a portal than it takes at once: whose time counts while they wait, and that all come to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.keeper import connecting
from iscsiboot.keeper.turns import WIDTH
from iscsiboot.session.connector import ConnectError
from iscsiboot.session.values import Attached
from tests.doubles.virtual_time import virtual_loop
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import World

SLOW = 10.0
"""Seconds of a login of this target's."""
SECONDS = 28.0
"""Of an order."""

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Each connection takes :data:`SLOW` seconds; the first ones fail with these."""
    real: Connect = connecting.connect
    failures: list[Exception] = []

    async def connect(*values: Any, **options: Any) -> Any:
        await asyncio.sleep(SLOW)
        if failures:
            raise failures.pop(0)
        return await real(*values, **options)

    monkeypatch.setattr("iscsiboot.keeper.attempt.connect", connect)
    monkeypatch.setattr("iscsiboot.keeper.units.scan_whole_host", lambda sysfs, host: None)
    return failures


class Crowd:
    """Orders given at once, and how long each took."""

    def __init__(self, world: World, *, patient: bool, give_up: float = 0.0) -> None:
        self._world = world
        self._patient = patient
        self._order = world.order(give_up=give_up)
        self.took: list[float] = []
        self.prolonged: list[float] = []
        self._began = virtual_loop().time()

    def _prolong(self) -> None:
        self.prolonged.append(virtual_loop().time() - self._began)

    async def _one(self) -> Attached:
        try:
            return await self._world.keeper.login(
                self._order,
                record=None,
                seconds=SECONDS,
                wanted=0,
                prolonged=self._prolong if self._patient else None,
            )
        finally:
            self.took.append(virtual_loop().time() - self._began)

    async def come(self, count: int) -> list[Attached | BaseException]:
        return await asyncio.gather(*(self._one() for _ in range(count)), return_exceptions=True)


def failed(results: list[Attached | BaseException]) -> list[str]:
    """Why, in the order of the orders."""
    assert all(isinstance(result, Attached | IscsiBootError) for result in results), results
    return [result.cause for result in results if isinstance(result, IscsiBootError)]


def test_nobody_is_late_for_those_who_get_through_before(run: Run, slow: list[Exception]) -> None:
    async def test(world: World) -> None:
        crowd = Crowd(world, patient=True)
        assert failed(await crowd.come(5 * WIDTH)) == []
        assert max(crowd.took) == pytest.approx(5 * SLOW, abs=1)
        # Twice each, at the beginning and before the scan, and once more who has waited for a turn.
        assert len(crowd.prolonged) < 4 * 5 * WIDTH

    run(test)


def test_who_says_a_time_for_all_of_it_gets_no_more(run: Run, slow: list[Exception]) -> None:
    async def test(world: World) -> None:
        crowd = Crowd(world, patient=False)
        causes = failed(await crowd.come(5 * WIDTH))
        assert len(causes) == 3 * WIDTH
        assert causes[-1].startswith("no session after 28 s: it waited for its turn at 127.0.0.1:")
        assert max(crowd.took) == pytest.approx(SECONDS, abs=1)

    run(test)


def test_where_nobody_gets_through_all_end_in_their_time(run: Run, slow: list[Exception]) -> None:
    """However many there are: a portal that is dead is told as such."""

    async def test(world: World) -> None:
        slow.extend(IscsiBootError("it does not answer", stage=Stage.CONNECT) for _ in range(5 * WIDTH))
        crowd = Crowd(world, patient=True)
        causes = failed(await crowd.come(5 * WIDTH))
        assert causes[:WIDTH] == ["it does not answer"] * WIDTH
        assert "where no other login got through meanwhile" in causes[-1]
        assert max(crowd.took) == pytest.approx(SECONDS, abs=1)

    run(test)


def test_the_time_to_try_again_in_counts_from_the_first_try(run: Run, slow: list[Exception]) -> None:
    async def test(world: World) -> None:
        first = asyncio.create_task(Crowd(world, patient=True).come(2 * WIDTH))
        await asyncio.sleep(1)
        last = Crowd(world, patient=True, give_up=SLOW + 5)
        # Its turn comes when those before are through; its first try fails.
        waiting = asyncio.create_task(last.come(1))
        await asyncio.sleep(2 * SLOW)
        slow.append(ConnectError("refused", portal=world.server.portal, hint="", retryable=True))
        assert failed(await waiting) == []
        assert failed(await first) == []

    run(test)


def test_who_gives_up_waiting_leaves_the_turn_to_the_next(run: Run, slow: list[Exception]) -> None:
    """A client's Ctrl-C, in the middle of the queue."""

    async def test(world: World) -> None:
        tasks = [asyncio.create_task(Crowd(world, patient=True).come(1)) for _ in range(2 * WIDTH + 1)]
        await asyncio.sleep(1)
        for task in tasks[WIDTH:-1]:
            task.cancel()
        began = virtual_loop().time()
        assert failed(await tasks[-1]) == []
        assert virtual_loop().time() - began < 2 * SLOW
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(world.keeper.guarded()) == WIDTH + 1

    run(test)
