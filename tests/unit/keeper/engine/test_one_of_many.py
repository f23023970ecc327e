# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is done for every session is done for the others too when a fault of ours hits one; and that one looks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from iscsiboot.keeper.guard import Guard
from iscsiboot.keeper.places import STRANGERS_MAX
from iscsiboot.keeper.situation import NetworkChanged, Phase
from iscsiboot.keeper.values import Role
from iscsiboot.netlink.messages import ConnError
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SETTLED, SYSTEM, World


@pytest.fixture
def break_method(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """``break_method(name, sid, takes=...)``: raise in the first call of that method for that session."""

    def install(name: str, sid: int, *, takes: Callable[..., bool] = lambda *_: True) -> list[int]:
        real = getattr(Guard, name)
        raised: list[int] = []

        def faulty(self: Guard, *values: Any) -> Any:
            if self.subject.sid == sid and not raised and takes(*values):
                raised.append(sid)
                raise ValueError("a fault of ours")
            return real(self, *values)

        monkeypatch.setattr(Guard, name, faulty)
        return raised

    return install


def faults(world: World) -> int:
    """How many were told."""
    return sum("a fault of this program: ValueError: a fault of ours" in line for line in world.said())


@pytest.mark.parametrize("method", ["look", "set_timers", "_begin"])
def test_an_adoption(run: Run, break_method: Callable[..., list[int]], method: str) -> None:
    raised = break_method(method, 1)

    async def test(world: World) -> None:
        works = method == "set_timers"
        first = world.session() if works else world.session(connection="failed", state="FAILED")
        second = world.session(connection="failed", state="FAILED")
        await world.adopt(first.sid, second.sid, role=SYSTEM)
        assert raised == [1]
        assert faults(world) == 1
        await world.until_healed(2, seconds=5)
        # The second look finds what the fault has hidden.
        await asyncio.sleep(SETTLED)
        assert world.phase(1) is Phase.UP
        assert world.status(1).recoveries == (0 if works else 1)

    run(test)


def test_the_second_look(run: Run, break_method: Callable[..., list[int]]) -> None:
    async def test(world: World) -> None:
        sids = [world.session().sid for _ in range(2)]
        await world.adopt(*sids, role=SYSTEM)
        # A break the kernel told of before we listened: only sysfs shows it.
        world.kernel.break_connection(2, told=False)
        raised = break_method("look", 1)
        await world.until_healed(2, seconds=SETTLED)
        assert raised == [1]
        assert faults(world) == 1

    run(test)


def test_roles(run: Run, break_method: Callable[..., list[int]]) -> None:
    async def test(world: World) -> None:
        sids = await world.pair()
        raised = break_method("set_role", 1)
        world.keeper.set_roles(dict.fromkeys(sids, SYSTEM))
        assert raised == [1]
        assert [world.status(sid).role for sid in sids] == ["data", "root"]
        world.keeper.set_roles({sids[0]: SYSTEM, sids[1]: Role()})
        assert [world.status(sid).role for sid in sids] == ["root", "data"]

    run(test)


def test_a_change_of_the_network(run: Run, break_method: Callable[..., list[int]]) -> None:
    async def test(world: World) -> None:
        sids = await world.pair()
        world.server.close()
        for sid in sids:
            world.kernel.break_connection(sid)
        await asyncio.sleep(60)
        assert [world.phase(sid) for sid in sids] == [Phase.WAITING] * 2
        raised = break_method("tell", 1, takes=lambda happening: isinstance(happening, NetworkChanged))
        world.server.open()
        world.keeper.network_changed()
        assert raised == [1]
        assert await world.until_healed(2, seconds=5) < 0.5
        await world.until_healed(1, seconds=10)

    run(test)


def test_going_on_after_a_hand_over_that_failed(run: Run, break_method: Callable[..., list[int]]) -> None:
    async def test(world: World) -> None:
        sids = await world.pair()
        await asyncio.sleep(SETTLED)
        await world.keeper.stop_acting()
        for sid in sids:
            world.kernel.break_connection(sid)
        await asyncio.sleep(1)
        raised = break_method("resume", 1)
        await world.keeper.resume()
        assert raised == [1]
        await world.until_healed(2, seconds=5)

    run(test)


def test_a_session_that_lost_an_event_by_a_fault_looks_what_it_was(
    run: Run, break_method: Callable[..., list[int]]
) -> None:
    async def test(world: World) -> None:
        raised = break_method("on_event", 1, takes=lambda event: isinstance(event, ConnError))
        sids = [world.session().sid for _ in range(3)]
        await world.adopt(*sids, role=SYSTEM)
        await asyncio.sleep(SETTLED)
        for sid in sids:
            world.kernel.break_connection(sid)
        for sid in sids:
            await world.until_healed(sid, seconds=3)
        assert raised == [1]
        assert faults(world) == 1

    run(test)


def test_roles_of_sessions_that_are_gone_are_forgotten_and_those_to_come_are_not(run: Run) -> None:
    """They are told before an adoption, and a look that began before a session went may tell of it afterwards."""

    async def test(world: World) -> None:
        sid = world.session().sid
        world.keeper.set_roles({sid: SYSTEM})
        for gone in range(1000, 1000 + 2 * STRANGERS_MAX):
            world.keeper.set_roles({gone: SYSTEM})
        assert len(world.keeper._roles) <= STRANGERS_MAX + 1
        await world.adopt(sid)
        assert world.status(sid).role == "root"

    run(test)


def test_two_hundred_break_at_once_and_the_kernel_could_tell_of_none(run: Run) -> None:
    """The socket was full: one word that something is missing is all there is, and each is read from sysfs once."""

    async def test(world: World) -> None:
        sids = [world.session().sid for _ in range(200)]
        await world.adopt(*sids, role=SYSTEM)
        await asyncio.sleep(SETTLED)
        for sid in sids:
            world.kernel.break_connection(sid, told=False)
        for _ in range(50):
            world.kernel.overflow()
        await world.until_healed(sids[-1], seconds=5)
        await world.until_up(*sids, seconds=5)
        assert {world.status(sid).recoveries for sid in sids} == {1}
        assert sum("more events than the socket could hold" in line for line in world.said()) == 1
        assert not faults(world)

    run(test)
