# SPDX-License-Identifier: LGPL-2.1-or-later
"""A fault of ours, or a socket that fails, costs one session a moment and no other session anything."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from iscsiboot.errors import IscsiBootError, Stage
from iscsiboot.keeper import live
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.port import KernelPort
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.subject import NOTES_MAX
from iscsiboot.keeper.values import Known
from iscsiboot.netlink.messages import Event, Reply, Request
from iscsiboot.netlink.socket import IscsiNetlink, NetlinkError
from iscsiboot.netlink.uapi import UEvent
from tests.doubles.iscsi_kernel import Pdu, redirecting, refusing
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SETTLED, SYSTEM, PortalServer, World


async def several(world: World, number: int) -> list[int]:
    """So many guarded sessions that work."""
    sids = [world.session().sid for _ in range(number)]
    await world.adopt(*sids, role=SYSTEM)
    await asyncio.sleep(SETTLED)
    return sids


@pytest.mark.parametrize(
    "fault",
    [ValueError("a fault of ours"), IscsiBootError("the transport is not there", stage=Stage.HANDOFF)],
    ids=lambda fault: type(fault).__name__,
)
def test_a_stop_that_fails_in_an_unknown_way_is_asked_for_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    ask, faults = KernelPort.ask, [fault]

    def faulty(self: KernelPort, request: Request) -> Reply:
        if request.type is UEvent.ISCSI_UEVENT_STOP_CONN and faults:
            raise faults.pop()
        return ask(self, request)

    async def test(world: World) -> None:
        await several(world, 1)
        monkeypatch.setattr(KernelPort, "ask", faulty)
        world.kernel.break_connection(1)
        await world.until_healed(seconds=30)
        assert not faults

    run(test)


def test_a_fault_in_one_sessions_listener_takes_no_event_from_the_others(run: Run) -> None:
    def faulty(_: Event) -> None:
        raise ValueError("a fault of ours")

    async def test(world: World) -> None:
        first, *others = await several(world, 3)
        world.keeper._port.listen(first, faulty)
        for sid in (first, *others):
            world.kernel.break_connection(sid)
        for sid in others:
            await world.until_healed(sid, seconds=5)
        world.kernel.overflow()
        await asyncio.sleep(10)
        # For the break, for the look a second later, for the overflow; a look that failed is not made again.
        assert sum("a fault of this program: ValueError" in line for line in world.said()) == 3

    run(test)


def test_a_socket_that_fails_and_cannot_be_had_anew_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, refusals, opening = KernelPort.open, [1, 2, 3], IscsiNetlink.take_events

    def refused(self: KernelPort) -> None:
        if refusals:
            refusals.pop()
            raise NetlinkError("no memory", stage=Stage.HANDOFF)
        opened(self)

    def unreadable(self: IscsiNetlink, at_most: int) -> list[Event]:
        monkeypatch.setattr(IscsiNetlink, "take_events", opening)
        raise NetlinkError("no memory", stage=Stage.HANDOFF)

    async def test(world: World) -> None:
        await several(world, 1)
        monkeypatch.setattr(KernelPort, "open", refused)
        monkeypatch.setattr(IscsiNetlink, "take_events", unreadable)
        world.kernel.break_connection(1)
        await asyncio.sleep(0.5)
        with pytest.raises(NetlinkError, match="refused another"):
            await world.keeper.statistics(1)
        await world.until_healed(seconds=30)
        assert not refusals

    run(test)


def test_closing_while_a_socket_is_asked_for_ends_that(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refused(_: KernelPort) -> None:
        asked.append(1)
        raise NetlinkError("no memory", stage=Stage.HANDOFF)

    def unreadable(_: IscsiNetlink, at_most: int) -> list[Event]:
        raise NetlinkError("no memory", stage=Stage.HANDOFF)

    async def test(world: World) -> None:
        await several(world, 1)
        monkeypatch.setattr(KernelPort, "open", refused)
        monkeypatch.setattr(IscsiNetlink, "take_events", unreadable)
        world.kernel.break_connection(1)
        await asyncio.sleep(2.5)
        before = len(asked)
        await world.keeper.close()
        await asyncio.sleep(5)
        assert 2 <= before == len(asked)

    run(test)


def test_a_redirect_that_leads_nowhere_is_told_once(run: Run) -> None:
    away = PortalServer()
    dead = away.port
    away.close()

    async def test(world: World) -> None:
        await several(world, 1)
        world.kernel.target = redirecting(f"127.0.0.1:{dead}")
        world.kernel.break_connection(1)
        await asyncio.sleep(120)
        assert world.status().attempts > 100
        assert sum("the target is at" in text for _, text in world.lines) == 1

    run(test)


def test_a_record_that_cannot_be_read_is_told_once_an_hour(run: Run) -> None:
    def unreadable(_: Known) -> Known:
        raise IscsiBootError("its disk is gone", stage=Stage.DATABASE)

    def told(world: World) -> int:
        return sum(level <= Level.INFO and "cannot be read" in text for level, text in world.lines)

    async def test(world: World) -> None:
        await several(world, 1)
        world.renewals.append(unreadable)
        world.kernel.target = refusing((2, 1))
        world.kernel.break_connection(1)
        await asyncio.sleep(3000)
        assert world.status().attempts > 50
        assert told(world) == 1
        await asyncio.sleep(3600)
        assert told(world) == 2

    run(test)


def test_a_target_that_sends_us_somewhere_else_each_time_fills_no_log(run: Run) -> None:
    away = PortalServer()
    dead = away.port
    away.close()
    hops = iter(range(1, 1 << 20))

    def elsewhere(bhs: bytes, data: bytes) -> list[Pdu]:
        hop = next(hops)
        return redirecting(f"127.{hop >> 16}.{hop >> 8 & 0xFF}.{hop & 0xFF}:{dead}")(bhs, data)

    async def test(world: World) -> None:
        await several(world, 1)
        world.kernel.target = elsewhere
        world.kernel.break_connection(1)
        await asyncio.sleep(240)
        assert world.status().attempts > 3 * NOTES_MAX
        assert sum("the target is at" in text for _, text in world.lines) == NOTES_MAX

    run(test)


def test_counting_sessions_reads_nothing_and_following_them_reads_each_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = live.read_timers, [0]

    def counted(*where: Any) -> tuple[int | None, int | None, int | None]:
        reads[0] += 1
        return read(*where)

    async def test(world: World) -> None:
        sids = await several(world, 40)
        seen: list[tuple[int, int]] = []

        async def follow() -> None:
            async with aclosing(world.keeper.changes()) as changes:
                async for _ in changes:
                    seen.append(world.keeper.counts())

        following = asyncio.create_task(follow())
        await asyncio.sleep(1)
        monkeypatch.setattr(live, "read_timers", counted)
        for sid in sids:
            world.kernel.break_connection(sid)
        await asyncio.sleep(5)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert max(down for _, down in seen) > 1
        assert seen[-1] == (40, 0)
        assert reads[0] == len(seen) < 40 * 20
        assert world.phase(sids[0]) is Phase.UP

    run(test)
