# SPDX-License-Identifier: LGPL-2.1-or-later
"""What people, targets and other programs ask of a keeper beside logins and logouts."""

from __future__ import annotations

import asyncio
import errno
import struct
from contextlib import aclosing
from dataclasses import replace

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.values import Known, Role, Status, Timers
from iscsiboot.keeper.work import UNITS_SECONDS
from iscsiboot.netlink.statistics import COUNTERS
from iscsiboot.netlink.uapi import Param, StopFlag, UEvent
from tests.doubles.iscsi_kernel import async_message, granting
from tests.doubles.virtual_time import virtual_loop
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, World

MULTIPATH = Role(system=("dm-0 is mounted on /",), multipath=True, carries=("/",))
SENSE_UNITS_CHANGED = bytes([0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3F, 0x0E, 0, 0, 0, 0])
SENSE_CAPACITY = bytes([0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2A, 0x09, 0, 0, 0, 0])


def sent(world: World) -> list[Param]:
    return [Param(item.args[2]) for item in world.asked(UEvent.ISCSI_UEVENT_SET_PARAM)]


# The target asks. -----------------------------------------------------------------------------------------------------


def test_a_target_that_requests_a_logout_gets_one_and_the_session_comes_back(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.say(1, async_message(1, p3=10))
        took = await world.until_healed()
        assert world.kernel.names[:2] == ["SEND_PDU", "STOP_CONN"]
        bhs = world.kernel.requests[0].data
        assert (bhs[0], bhs[1], bhs[20:22]) == (0x46, 0x81, b"\0\0"), "close the connection, CID 0"
        assert took < 4
        assert "10 s" in world.said()[0]

    run(test)


def test_a_target_that_does_not_answer_the_logout_it_asked_for(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.logout = lambda bhs: []
        world.kernel.say(1, async_message(1, p3=10))
        await world.until_healed(seconds=8)

    run(test)


@pytest.mark.parametrize("event", [2, 3])
def test_a_target_that_drops_connections_is_left_alone_as_long_as_it_wants(run: Run, event: int) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        bound: list[float] = []

        def target(bhs: bytes, data: bytes) -> list[tuple[bytes, bytes]]:
            bound.append(virtual_loop().time())
            return granting(bhs, data)

        world.kernel.target = target
        began = virtual_loop().time()
        world.kernel.say(1, async_message(event, p1=0, p2=6, p3=20))
        world.kernel.break_connection(1)
        await world.until_healed()
        assert bound[0] - began == pytest.approx(6, abs=0.2)

    run(test)


def test_a_target_that_wants_to_negotiate_gets_a_new_login(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.say(1, async_message(4, p3=5))
        await world.until_healed()

    run(test)


@pytest.mark.parametrize(
    "pdu", [async_message(2, p1=1, p2=3), async_message(5), async_message(255), async_message(99)], ids=str
)
def test_what_concerns_nobody_here_changes_nothing(run: Run, pdu: tuple[bytes, bytes]) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.say(1, pdu)
        await asyncio.sleep(5)
        assert world.kernel.requests == []
        assert world.phase() is Phase.UP

    run(test)


@pytest.mark.parametrize(
    ("sense", "scan", "rescans"),
    [
        (SENSE_UNITS_CHANGED, True, 1),
        (SENSE_UNITS_CHANGED, False, 0),
        (SENSE_CAPACITY, True, 0),
        (b"", True, 0),
        (b"\x70", True, 0),
    ],
    ids=str,
)
def test_units_that_changed_are_looked_for(run: Run, sense: bytes, scan: bool, rescans: int) -> None:
    async def test(world: World) -> None:
        await world.guarded(scan=scan)
        data = struct.pack(">H", len(sense)) + sense
        world.kernel.say(1, async_message(0, data=data), async_message(0, data=data))
        await asyncio.sleep(1)
        assert world.hands.done == ["the rescan of session 1"] * rescans, "two words in one moment are one rescan"

    run(test)


def test_units_that_change_during_a_rescan_are_looked_for_once_more(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        word = async_message(0, data=struct.pack(">H", len(SENSE_UNITS_CHANGED)) + SENSE_UNITS_CHANGED)
        world.hands.late.add("the rescan of session 1")
        world.kernel.say(1, word)
        await asyncio.sleep(1)
        assert world.hands.at_work == 1
        world.hands.late.clear()
        world.kernel.say(1, word, word)
        await asyncio.sleep(UNITS_SECONDS)
        assert world.hands.done == ["the rescan of session 1"]

    run(test)


def test_sense_that_says_more_than_there_is(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.say(1, async_message(0, data=b"\xff\xff\x70"), async_message(0, data=b"\0"))
        await asyncio.sleep(1)
        assert world.hands.done == []

    run(test)


def test_a_login_response_nobody_asked_for_tells_of_another_program(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.say(1, *granting(bytes(48), b""))
        await asyncio.sleep(0.1)
        assert world.intruders == [1]
        assert world.kernel.requests == []

    run(test)


@pytest.mark.parametrize("late", [0.0, 2.0])
def test_the_late_answer_to_an_attempt_of_ours_is_no_intruder(run: Run, late: float) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.target = lambda bhs, data: []
        world.kernel.break_connection(1)
        await world.until(lambda: "no answer in time" in world.status().last_error)
        await asyncio.sleep(late)
        world.kernel.say(1, *granting(bytes(48), b""))
        await asyncio.sleep(0.1)
        assert world.intruders == []
        world.kernel.target = granting
        await world.until_healed()

    run(test)


# People ask. ----------------------------------------------------------------------------------------------------------


def test_reconnect(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        await world.keeper.reconnect(1)
        assert await world.until_healed() < 0.2
        assert world.kernel.names[0] == "STOP_CONN"
        assert world.kernel.requests[0].args[3] == StopFlag.STOP_CONN_RECOVER

    run(test)


def test_reconnect_while_an_attempt_hangs_begins_a_new_one(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.target = lambda bhs, data: []
        world.kernel.break_connection(1)
        await asyncio.sleep(3)
        world.kernel.target = granting
        await world.keeper.reconnect(1)
        assert await world.until_healed() < 1
        stops = world.asked(UEvent.ISCSI_UEVENT_STOP_CONN)
        assert len(stops) == 2, "the attempt that was ended has stopped what it bound"

    run(test)


@pytest.mark.parametrize("order", ["reconnect", "set_timers", "statistics", "rescan", "renew"])
def test_orders_about_a_session_that_is_not_there(run: Run, order: str) -> None:
    async def test(world: World) -> None:
        more = {"set_timers": (Timers(recovery=1, noop_interval=1, noop_timeout=1),), "rescan": (5.0,)}
        with pytest.raises(IscsiBootError) as caught:
            await getattr(world.keeper, order)(7, *more.get(order, ()))
        assert caught.value.exit_code is ExitCode.SESS_NOT_FOUND

    run(test)


def test_rescan(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        def refused(sysfs: object, host: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        await world.guarded()
        assert await world.keeper.rescan(1, 10.0) == ()
        monkeypatch.setattr("iscsiboot.keeper.units.scan_whole_host", refused)
        assert await world.keeper.rescan(1, 10.0) == ("scanning host11 failed: Input/output error",)
        world.hands.late.add("the rescan of session 1")
        with pytest.raises(IscsiBootError) as caught:
            await world.keeper.rescan(1, 10.0)
        assert caught.value.exit_code is ExitCode.CHILD_TERMINATED

    run(test)


def test_statistics(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.statistics = struct.pack("=QQ19II", *range(1, 22), 0)
        counters = await world.keeper.statistics(1)
        assert dict(counters.counters)[COUNTERS[0]] == 1
        world.kernel.statistics = b"short"
        with pytest.raises(IscsiBootError) as caught:
            await world.keeper.statistics(1)
        assert caught.value.exit_code is ExitCode.INTERNAL
        world.kernel.break_connection(1)
        await world.until_healed()

    run(test)


def test_renew_makes_a_waiting_session_try_with_what_it_read(run: Run) -> None:
    async def test(world: World) -> None:
        def moved(known: Known) -> Known:
            return replace(known, request=replace(known.request, portal=other))

        from tests.unit.keeper.engine.world import PortalServer

        elsewhere = PortalServer()
        other = elsewhere.portal
        await world.guarded(SYSTEM)
        world.server.close()
        world.kernel.break_connection(1)
        await asyncio.sleep(10)
        world.renewals.append(moved)
        await world.keeper.renew()
        assert await world.until_healed() < 2
        assert world.status().connected == elsewhere.portal.endpoint
        elsewhere.close()

    run(test)


def test_a_record_that_cannot_be_read_is_told(run: Run) -> None:
    async def test(world: World) -> None:
        from iscsiboot.errors import Stage

        def unreadable(known: Known) -> Known:
            raise IscsiBootError("no such record", stage=Stage.DATABASE)

        await world.guarded()
        world.renewals.append(unreadable)
        await world.keeper.renew(1)
        await asyncio.sleep(0.1)
        assert any("its record cannot be read: database: no such record" in text for _, text in world.lines)

    run(test)


# Timers and roles. ----------------------------------------------------------------------------------------------------


def test_a_role_sets_the_live_values_without_a_pdu(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.keeper.set_roles({1: SYSTEM})
        await asyncio.sleep(0.1)
        assert set(sent(world)) == {
            Param.ISCSI_PARAM_SESS_RECOVERY_TMO,
            Param.ISCSI_PARAM_PING_TMO,
            Param.ISCSI_PARAM_RECV_TMO,
        }
        status = world.status()
        assert (status.recovery_tmo, status.noop_interval, status.noop_timeout) == (-1, 5, 10)
        assert world.kernel.names == ["SET_PARAM"]
        world.kernel.requests.clear()
        world.keeper.set_roles({1: SYSTEM})
        await asyncio.sleep(0.1)
        assert world.kernel.requests == [], "the same role is no news"
        world.keeper.set_roles({1: MULTIPATH})
        await asyncio.sleep(0.1)
        assert world.status().recovery_tmo == 5
        assert world.status().role == "root, multipath"

    run(test)


def test_a_login_carries_the_values_of_the_role(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        await world.until_healed()
        params = world.kernel.sessions[1].params
        assert params[Param.ISCSI_PARAM_SESS_RECOVERY_TMO] == "-1"
        assert params[Param.ISCSI_PARAM_RECV_TMO] == "5"

    run(test)


def test_timers_by_order_go_before_the_roles_and_stay(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        wanted = Timers(recovery=77, noop_interval=3, noop_timeout=4)
        await world.keeper.set_timers(1, wanted)
        status = world.status()
        assert (status.recovery_tmo, status.noop_interval, status.noop_timeout) == (77, 3, 4)
        world.keeper.set_roles({1: SYSTEM})
        await asyncio.sleep(0.1)
        world.kernel.break_connection(1)
        await world.until_healed()
        assert world.status().recovery_tmo == 77
        assert world.keeper.guarded()[1].pinned == wanted, "and the next guard knows"

    run(test)


def test_pinned_timers_of_the_guard_before_are_kept(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        await world.adopt(1, known=world.known(pinned=Timers(recovery=9, noop_interval=1, noop_timeout=2)))
        assert world.status().recovery_tmo == 9

    run(test)


def test_what_somebody_wrote_in_sysfs_holds_against_a_role_but_not_against_an_order(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        session = world.kernel.sessions[1]
        session.set_by_hand = True
        world.keeper.set_roles({1: SYSTEM})
        await asyncio.sleep(0.1)
        assert world.status().recovery_tmo == 120
        await world.keeper.set_timers(1, Timers(recovery=-1, noop_interval=5, noop_timeout=5))
        path = world.kernel.sysfs / "class" / "iscsi_session" / "session1" / "recovery_tmo"
        assert path.read_text().strip() == "off"

    run(test)


def test_values_that_cannot_be_set_without_a_connection_come_with_the_next_login(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.server.close()
        world.kernel.break_connection(1)
        await asyncio.sleep(3)
        await world.keeper.set_timers(1, Timers(recovery=50, noop_interval=8, noop_timeout=9))
        world.server.open()
        await world.until_healed()
        status = world.status()
        assert (status.recovery_tmo, status.noop_interval, status.noop_timeout) == (50, 8, 9)

    run(test)


# The network. ---------------------------------------------------------------------------------------------------------


def test_a_change_of_the_network_shortens_the_wait(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.server.close()
        world.kernel.break_connection(1)
        await world.until(lambda: world.phase() is Phase.WAITING and world.status().attempts >= 5)
        world.server.open()
        world.keeper.network_changed()
        assert await world.until_healed() < 1.2

    run(test)


def test_the_network_is_watched_only_while_a_session_is_down(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()

        def watching() -> bool:
            return world.keeper._network.watching

        assert not watching()
        world.server.close()
        world.kernel.break_connection(1)
        await asyncio.sleep(1)
        assert watching()
        world.server.open()
        await world.until_healed()
        assert not watching()

    run(test)


# Who watches. ---------------------------------------------------------------------------------------------------------


def test_changes_come_as_the_newest_of_each_session(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        seen: list[Status] = []

        async def watch() -> None:
            async with aclosing(world.keeper.changes()) as changes:
                async for status in changes:
                    seen.append(status)
                    await asyncio.sleep(2)  # slow

        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        world.server.close()
        world.kernel.break_connection(1)
        await asyncio.sleep(20)
        world.server.open()
        await world.until_healed()
        await asyncio.sleep(5)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        assert seen[-1].phase == "up"
        assert seen[-1].recoveries == 1
        assert {"waiting", "up"} <= {status.phase for status in seen}
        assert len(seen) < 15, "not each of the many changes"

    run(test)


def test_the_last_word_about_a_session_is_that_it_is_gone(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        changes = world.keeper.changes()
        reading = asyncio.create_task(anext(changes))
        await asyncio.sleep(0)
        world.kernel.vanish(1)
        status = await reading
        assert (status.sid, status.phase) == (1, "gone")
        await changes.aclose()

    run(test)


# Hand-over. -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["up", "waiting", "connecting", "logging in"])
def test_a_hand_over_ends_what_is_at_work_and_keeps_the_session(run: Run, when: str) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.hinder(when)
        if when != "up":
            world.kernel.break_connection(1)
            await asyncio.sleep(5)
        await world.keeper.stop_acting()
        world.kernel.requests.clear()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert list(world.keeper.guarded()) == [1]
        session = world.kernel.sessions[1]
        assert (session.connection, session.cleaning) == ("up" if when == "up" else "failed", False)
        # From here on it is somebody else's, whatever happens.
        world.kernel.break_connection(1)
        world.keeper.network_changed()
        world.keeper.set_roles({1: MULTIPATH})
        await asyncio.sleep(30)
        assert world.kernel.requests == []
        with pytest.raises(IscsiBootError):
            await world.keeper.reconnect(1)

    run(test)


def test_a_hand_over_that_failed_is_undone(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        await world.keeper.stop_acting()
        world.kernel.break_connection(1)
        await asyncio.sleep(5)
        assert world.kernel.sessions[1].state == "FAILED"
        await world.keeper.resume()
        await world.until_healed()
        await asyncio.sleep(40)
        world.kernel.break_connection(1)
        await world.until_healed(times=2)

    run(test)


def test_a_session_that_went_during_a_hand_over_that_failed(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        await world.keeper.stop_acting()
        world.kernel.vanish(1)
        await asyncio.sleep(1)
        await world.keeper.resume()
        await world.until(lambda: world.phase() is None)

    run(test)


def test_closing_twice_is_fine(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        await world.keeper.close()

    run(test)
