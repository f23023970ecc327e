# SPDX-License-Identifier: LGPL-2.1-or-later
"""Anything in any order: in the end every session works or is gone as somebody wanted, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from iscsiboot.errors import IscsiBootError
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.values import Role, Timers
from tests.doubles.iscsi_kernel import Pdu, async_message, granting, redirecting, refusing
from tests.doubles.virtual_time import run_virtually
from tests.unit.keeper.engine.world import SYSTEM, World, world

SESSIONS = 6
SEEDS = 8
"""Hundreds were run when this was written."""
ERRORS = (errno.EPROTO, errno.ENOTCONN, errno.ENOMEM, errno.EAGAIN, errno.EBUSY)
"""Not EINVAL: by that the kernel says that there is no such session, and it is believed."""

Target = Callable[[bytes, bytes], list[Pdu] | int]


def silent(bhs: bytes, data: bytes) -> list[Pdu]:
    """A target that answers no login."""
    return []


def breaking(bhs: bytes, data: bytes) -> int:
    """One whose connection breaks at the first PDU."""
    return 1011


class Chaos:
    """One run's dice and deeds."""

    def __init__(self, made: World, dice: random.Random) -> None:
        self.world = made
        self.dice = dice
        self.tasks: list[asyncio.Task[None]] = []
        self.deeds: list[Callable[[], None]] = [
            self.break_one,
            self.break_one,
            self.break_untold,
            self.break_all,
            self.overflow,
            self.refuse_some,
            self.interrupt_binds,
            self.target_says,
            self.target_changes,
            self.port_changes,
            self.order,
            self.role,
            self.vanish,
            self.hand_over,
        ]

    def sid(self) -> int:
        return self.dice.choice(sorted(self.world.kernel.sessions) or [99])

    def break_one(self) -> None:
        if (sid := self.sid()) != 99:
            self.world.kernel.break_connection(
                sid, self.dice.choice([1011, 1020, 1022]), shown=self.dice.random() < 0.7
            )

    def break_untold(self) -> None:
        if (sid := self.sid()) != 99:
            self.world.kernel.break_connection(sid, told=False)
            self.world.kernel.overflow()

    def break_all(self) -> None:
        for sid in list(self.world.kernel.sessions):
            self.world.kernel.break_connection(sid)

    def overflow(self) -> None:
        self.world.kernel.overflow()

    def refuse_some(self) -> None:
        number = len(self.world.kernel.requests)
        for _ in range(4):
            self.world.kernel.refuse[number + self.dice.randrange(1, 60)] = self.dice.choice(ERRORS)

    def interrupt_binds(self) -> None:
        self.world.kernel.bind_answers.extend(self.dice.choice([0, errno.ENOTCONN]) for _ in range(3))
        self.world.kernel.stop_refusals.append(errno.ENOMEM)

    def target_says(self) -> None:
        event = self.dice.choice([0, 1, 2, 3, 4, 5, 255])
        self.world.kernel.say(self.sid(), async_message(event, p2=self.dice.randrange(3), p3=5))

    def target_changes(self) -> None:
        there = f"127.0.0.1:{self.world.server.port},1"
        targets: list[Target] = [granting, granting, silent, breaking]
        targets += [refusing((3, 1)), refusing((2, 1)), redirecting(there)]
        self.world.kernel.target = self.dice.choice(targets)

    def port_changes(self) -> None:
        server = self.world.server
        changes: list[Callable[[], None]] = [server.close, server.open, server.swallow]
        self.dice.choice(changes)()

    def order(self) -> None:
        keeper, sid = self.world.keeper, self.sid()
        timers = Timers(recovery=self.dice.randrange(100), noop_interval=2, noop_timeout=2)
        orders: list[Callable[[], Awaitable[object]]] = [
            lambda: keeper.reconnect(sid),
            lambda: keeper.set_timers(sid, timers),
            lambda: keeper.rescan(sid, 5.0),
            keeper.renew,
            lambda: keeper.logout(sid, force=self.dice.random() < 0.5, seconds=self.dice.choice([1.0, 60.0])),
            lambda: keeper.login(
                self.world.order(give_up=5), record=None, seconds=self.dice.choice([1.0, 30.0]), wanted=0
            ),
        ]
        self.tasks.append(asyncio.create_task(self.quietly(self.dice.choice(orders)())))

    async def quietly(self, work: Awaitable[object]) -> None:
        with contextlib.suppress(IscsiBootError):
            await work

    def role(self) -> None:
        self.world.keeper.set_roles({self.sid(): self.dice.choice([Role(), SYSTEM])})

    def vanish(self) -> None:
        if self.dice.random() < 0.2 and (sid := self.sid()) != 99:
            self.world.kernel.vanish(sid, told=self.dice.random() < 0.7)

    def hand_over(self) -> None:
        if self.dice.random() < 0.3:
            self.tasks.append(asyncio.create_task(self.quietly(self.there_and_back())))

    async def there_and_back(self) -> None:
        await self.world.keeper.stop_acting()
        await asyncio.sleep(self.dice.random() * 2)
        await self.world.keeper.resume()

    async def calm(self) -> None:
        """Everything works from now on."""
        kernel = self.world.kernel
        await asyncio.gather(*self.tasks, return_exceptions=True)
        kernel.target = granting
        kernel.refuse.clear()
        kernel.bind_answers.clear()
        kernel.stop_refusals.clear()
        self.world.server.open()
        kernel.overflow()
        for sid, session in list(kernel.sessions.items()):
            if session.cleaning and session.connection in ("bound", "up"):
                kernel.show_break(sid)
        kernel.overflow()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_all_is_well_in_the_end(tmp_path: Path, seed: int) -> None:
    async def inside() -> None:
        async with world(tmp_path) as made:
            chaos = Chaos(made, random.Random(seed))
            for _ in range(SESSIONS):
                made.session()
            await made.adopt(*range(1, SESSIONS + 1))
            for _ in range(60):
                chaos.dice.choice(chaos.deeds)()
                await asyncio.sleep(chaos.dice.choice([0, 0, 0.01, 0.3, 2.0]))
            await chaos.calm()
            await made.until(lambda: all_is_well(made), seconds=400)
            await asyncio.sleep(200)
            assert all_is_well(made), "and stays so"
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, "no work without a reason"
            assert not any("fault of this program" in text for _, text in made.lines), made.lines

    run_virtually(inside())


def all_is_well(made: World) -> bool:
    """What is guarded is what the kernel has, and all of it works."""
    kernel = made.kernel.sessions
    if set(made.keeper.guarded()) != set(kernel):
        return False
    works = all(
        (session.connection, session.state, session.cleaning) == ("up", "LOGGED_IN", False)
        for session in kernel.values()
    )
    return works and all(status.phase == Phase.UP.value for status in made.keeper.statuses())
