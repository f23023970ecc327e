# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guarded session that breaks comes back, whatever the way is like."""

from __future__ import annotations

import asyncio
import errno
import time
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.keeper.attempt import Attempt
from iscsiboot.keeper.backoff import SOON
from iscsiboot.keeper.connecting import SIDE_BY_SIDE
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.situation import Phase
from iscsiboot.keeper.values import Known, Role
from iscsiboot.keeper.work import CROWD_SECONDS
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.netlink.uapi import KEvent, Param, StopFlag, UEvent
from tests.doubles.iscsi_kernel import Pdu, granting, kernel_event, login_response, redirecting, refusing
from tests.doubles.virtual_time import virtual_loop
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, PortalServer, World

RECOVERY = ["STOP_CONN", "BIND_CONN", "SET_PARAM", "SEND_PDU", "SET_PARAM", "START_CONN"]


def stops(world: World) -> list[int]:
    """The flags of the STOP_CONNs so far."""
    return [request.args[3] for request in world.asked(UEvent.ISCSI_UEVENT_STOP_CONN)]


def test_a_break_is_healed_at_once(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        assert await world.until_healed() < 0.2
        assert world.kernel.names == RECOVERY
        assert len(world.kernel.requests) == STEPS
        assert stops(world) == [StopFlag.STOP_CONN_RECOVER]
        session = world.kernel.sessions[1]
        assert (session.state, session.connection) == ("LOGGED_IN", "up")
        assert world.hands.done == ["the units of session 1"]
        assert len(world.said()) == 2, "one line for the break, one for its end"
        place = f"[target: iqn.2026-01.org.example:disk, portal: 127.0.0.1,{world.server.port}]"
        assert all(f" {place}: " in line for line in world.said())

    run(test)


ANEW = {Param.ISCSI_PARAM_HDRDGST_EN, Param.ISCSI_PARAM_DATADGST_EN, Param.ISCSI_PARAM_EXP_STATSN}
"""What a stop resets, and the number of the login itself."""


def test_a_second_recovery_does_not_tell_the_kernel_again_what_it_knows(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        await world.until_healed()
        world.kernel.requests.clear()
        await asyncio.sleep(60)
        world.kernel.break_connection(1)
        await world.until_healed(times=2)
        assert {request.args[2] for request in world.asked(UEvent.ISCSI_UEVENT_SET_PARAM)} == ANEW

    run(test)


def test_what_the_target_agrees_to_another_time_is_told(run: Run) -> None:
    """A target may come back with another firmware."""

    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        await world.until_healed()
        world.kernel.requests.clear()
        text = b"TargetPortalGroupTag=3\0MaxRecvDataSegmentLength=4096\0"
        world.kernel.target = lambda bhs, _: [login_response(bhs, text)]
        await asyncio.sleep(60)
        world.kernel.break_connection(1)
        await world.until_healed(times=2)
        told = {request.args[2]: request.data for request in world.asked(UEvent.ISCSI_UEVENT_SET_PARAM)}
        assert told.keys() == ANEW | {Param.ISCSI_PARAM_MAX_XMIT_DLENGTH}
        assert told[Param.ISCSI_PARAM_MAX_XMIT_DLENGTH] == b"4096\0"

    run(test)


def test_what_another_program_may_have_told_the_kernel_is_told_anew(run: Run) -> None:
    """It has logged the session in beside us, with values of its own, and is ended now."""

    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        await world.until_healed()
        await asyncio.sleep(60)
        world.kernel.say(1, *granting(bytes(48), b""))
        await asyncio.sleep(1)
        world.kernel.requests.clear()
        world.kernel.break_connection(1)
        await world.until_healed(times=2)
        told = {request.args[2] for request in world.asked(UEvent.ISCSI_UEVENT_SET_PARAM)}
        assert {Param.ISCSI_PARAM_MAX_RECV_DLENGTH, Param.ISCSI_PARAM_FIRST_BURST} <= told

    run(test)


def test_what_was_not_told_for_a_failure_is_told_by_the_next_attempt(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.refuse[4] = errno.ENOMEM  # after STOP_CONN, BIND_CONN and the target's name
        world.kernel.break_connection(1)
        await world.until_healed()
        told = [request.args[2] for request in world.asked(UEvent.ISCSI_UEVENT_SET_PARAM)]
        assert told.count(Param.ISCSI_PARAM_TARGET_NAME) == 1
        assert told.count(Param.ISCSI_PARAM_PERSISTENT_ADDRESS) == 2

    run(test)


def test_an_attempt_whose_target_is_no_more_is_not_waited_for(run: Run) -> None:
    """It was connected when the target went away: another session was refused since then, and gets in now."""

    async def test(world: World) -> None:
        sids = await world.pair()
        world.kernel.target = lambda bhs, data: []
        world.kernel.break_connection(sids[0])
        await world.until(lambda: "logging in" in world.status(sids[0]).detail)
        world.server.close()
        world.kernel.target = granting
        world.kernel.break_connection(sids[1])
        await world.until(lambda: "connection refused" in world.status(sids[1]).last_error)
        world.server.open()
        await world.until_healed(sids[1])
        assert await world.until_healed(sids[0]) < 1.0
        assert world.status(sids[0]).attempts == 0

    run(test)


def test_an_attempt_of_now_is_left_to_itself_when_another_gets_in(run: Run) -> None:
    """A slow target is none that is gone: nobody was refused at the portal since the attempt began."""

    async def test(world: World) -> None:
        sids = await world.pair()
        world.server.close()
        for sid in sids:
            world.kernel.break_connection(sid)
        await world.until(lambda: all("connection refused" in world.status(sid).last_error for sid in sids))
        world.kernel.target = lambda bhs, data: granting(bhs, data) if bhs[13] == sids[1] else []
        world.server.open()
        await world.until_healed(sids[1])
        await world.until(lambda: "logging in" in world.status(sids[0]).detail)
        asked = len(world.asked(UEvent.ISCSI_UEVENT_BIND_CONN))
        world.kernel.break_connection(sids[1])
        await world.until_healed(sids[1], times=2)
        await asyncio.sleep(3.0)
        assert len(world.asked(UEvent.ISCSI_UEVENT_BIND_CONN)) == asked + 1, "that of the other one"

    run(test)


def test_an_attempt_that_was_connected_since_is_left_to_itself(run: Run) -> None:
    """It began while nobody answered: its connection is to who answers now, as the other's that gets in first."""

    async def test(world: World) -> None:
        sids = await world.pair()
        world.server.swallow()
        world.kernel.break_connection(sids[1])
        await asyncio.sleep(10.2)  # so that its next try is before that of the other one
        world.kernel.break_connection(sids[0])
        await world.until(lambda: world.phase(sids[1]) is Phase.WAITING)
        world.kernel.target = lambda bhs, data: granting(bhs, data) if bhs[13] == sids[1] else []
        world.server.open()
        await world.until_healed(sids[1])
        assert "logging in" in world.status(sids[0]).detail
        await asyncio.sleep(3.0)
        assert len(world.asked(UEvent.ISCSI_UEVENT_BIND_CONN)) == 2, "one each"

    run(test)


def test_the_last_refusal_counts_and_none_at_a_portal_that_is_not_used_any_more(run: Run) -> None:
    async def test(world: World) -> None:
        sids = await world.pair()
        world.server.close()
        for sid in sids:
            world.kernel.break_connection(sid)
            await asyncio.sleep(20)
        await world.until(lambda: world.phase(sids[0]) is Phase.WAITING)
        (last,) = world.keeper._refused.values()
        world.keeper.set_roles({sids[1]: SYSTEM})
        assert list(world.keeper._refused.values()) == [last]
        for sid in sids:
            world.kernel.vanish(sid)
        await world.until(lambda: not world.keeper.guarded())
        assert not world.keeper._refused

    run(test)


@pytest.mark.parametrize(("role", "waits"), [(Role(), True), (SYSTEM, False)])
def test_units_wait_for_the_logins_of_others_at_their_portal(run: Run, role: Role, waits: bool) -> None:
    """Not those of the system, and not for ever: the other's target says nothing."""

    async def test(world: World) -> None:
        sids = [world.session().sid for _ in range(2)]
        await world.adopt(sids[0], role=role)
        await world.adopt(sids[1])
        world.kernel.target = lambda bhs, data: granting(bhs, data) if bhs[13] == sids[0] else []
        for sid in sids:
            world.kernel.break_connection(sid)
        await world.until_healed(sids[0])
        assert world.hands.done == ([] if waits else ["the units of session 1"])
        await asyncio.sleep(CROWD_SECONDS)
        assert world.phase(sids[1]) is Phase.TRYING
        assert world.hands.done == ["the units of session 1"]

    run(test)


def test_the_login_continues_the_numbers_of_the_session(run: Run) -> None:
    """The ISID is the old one, TSIH 0 (reinstatement), ExpStatSN the kernel's."""

    async def test(world: World) -> None:
        headers: list[bytes] = []

        def target(bhs: bytes, data: bytes) -> list[Pdu]:
            headers.append(bhs)
            return granting(bhs, data)

        world.kernel.target = target
        world.session(exp_statsn=0x01020304)
        await world.adopt(1)
        world.kernel.break_connection(1)
        await world.until_healed()
        (bhs,) = headers
        assert (bhs[8:14], bhs[14:16], bhs[28:32]) == (bytes.fromhex("00023d000001"), b"\0\0", b"\1\2\3\4")

    run(test)


@pytest.mark.parametrize("away", [30.0, 300.0])
def test_a_target_that_is_away_is_found_again_within_two_seconds(run: Run, away: float) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.server.close()
        world.kernel.break_connection(1)
        await asyncio.sleep(away)
        assert world.phase() in (Phase.WAITING, Phase.TRYING)
        assert world.status().attempts >= away / 2
        assert time.time() - world.status().since == pytest.approx(away, abs=1.0), "how long it is broken, not for what"
        assert "connection refused" in world.status().last_error
        world.server.open()
        assert await world.until_healed() <= 2.0
        assert list(world.kernel.sessions) == [1]
        assert len(world.said()) <= 3
        assert world.status().last_error_at > 0

    run(test)


def test_a_network_that_swallows_everything_is_tried_each_second(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.server.swallow()
        world.kernel.break_connection(1)
        await asyncio.sleep(25)
        assert world.phase() is Phase.TRYING
        assert world.status().attempts == 2, "an attempt takes the whole login timeout"
        world.server.accept()
        assert await world.until_healed() <= 2.0

    run(test)


def test_no_socket_is_left_by_tries_side_by_side(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        before = len(list(Path("/proc/self/fd").iterdir()))
        world.server.swallow()
        held = len(list(Path("/proc/self/fd").iterdir())) - before
        world.kernel.break_connection(1)
        await asyncio.sleep(10)
        racing = len(list(Path("/proc/self/fd").iterdir())) - before - held
        assert racing == SIDE_BY_SIDE + 1, "those side by side, and the watch over the network"
        taken = len(world.server.taken)
        world.server.accept()
        taken = len(world.server.taken) - taken
        await world.until_healed()
        await asyncio.sleep(1)
        assert len(list(Path("/proc/self/fd").iterdir())) - before - held == taken

    run(test)


def test_two_hundred_break_at_once_and_come_back_side_by_side(run: Run) -> None:
    async def test(world: World) -> None:
        sids = range(1, 201)
        for _ in sids:
            world.session()
        world.keeper.set_roles(dict.fromkeys(sids, SYSTEM))
        await world.keeper.adopt({sid: world.known(world.request(iface_name=f"i{sid}")) for sid in sids})
        world.kernel.requests.clear()
        turns = virtual_loop().turns
        for sid in sids:
            world.kernel.break_connection(sid)
        took = await world.until(
            lambda: all(guard.recoveries == 1 and guard.phase == "up" for guard in world.keeper.statuses())
        )
        assert took < 1.0, "one after the other would be seconds"
        assert len(world.asked(UEvent.ISCSI_UEVENT_START_CONN)) == 200
        each = len(world.kernel.requests) / 200
        assert each < 45, "what one session costs does not grow with the others"
        assert virtual_loop().turns - turns < 200 * 20

    run(test)


def test_what_is_up_costs_no_wake_up(run: Run) -> None:
    async def test(world: World) -> None:
        for _ in range(50):
            world.session()
        await world.keeper.adopt({sid: world.known() for sid in range(1, 51)})
        await asyncio.sleep(10)  # past the second look
        loop = virtual_loop()
        turns = loop.turns
        await asyncio.sleep(24 * 3600)
        assert loop.turns - turns <= 2, "our own sleep"
        assert world.kernel.requests == [], "not a request for a session that works"
        assert world.lines == []
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, "no task for a session that works"

    run(test)


# The kernel's own ways. -----------------------------------------------------------------------------------------------


def test_a_bind_during_the_kernels_own_clean_up_is_made_again(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.bind_answers.append(errno.ENOTCONN)
        world.kernel.break_connection(1)
        assert await world.until_healed() < 0.2
        assert world.kernel.names[:4] == ["STOP_CONN", "BIND_CONN", "STOP_CONN", "BIND_CONN"]
        assert world.status().attempts == 0

    run(test)


def test_a_bind_that_is_refused_twice_is_a_failed_attempt(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.bind_answers.extend([errno.EAGAIN, errno.EAGAIN])
        world.kernel.break_connection(1)
        assert await world.until_healed() > 0.2
        assert stops(world) == [StopFlag.STOP_CONN_RECOVER] * 3
        assert "BIND_CONN" in world.status().last_error

    run(test)


def test_a_break_that_sysfs_shows_only_later_is_seen(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1, shown=False)
        await world.until_healed()

    run(test)


def test_a_stop_that_is_refused_is_asked_for_again(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.stop_refusals.extend([errno.ENOMEM] * 3)
        world.kernel.break_connection(1)
        await world.until_healed()
        assert stops(world) == [StopFlag.STOP_CONN_RECOVER] * 4

    run(test)


def test_a_kernel_without_some_parameters(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.unknown_params = {Param.ISCSI_PARAM_DISCOVERY_SESS, Param.ISCSI_PARAM_TGT_RESET_TMO}
        world.kernel.break_connection(1)
        await world.until_healed()

    run(test)


STEPS = 28
"""Requests of one recovery, held by the first test."""


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_refusal_at_any_step_is_one_failed_attempt(run: Run, step: int) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.refuse[step] = errno.EPROTO
        world.kernel.break_connection(1)
        await world.until_healed()
        assert "EPROTO" in world.status().last_error
        assert world.kernel.sessions[1].connection == "up"
        binds = [
            index
            for index, request in enumerate(world.kernel.requests)
            if request.type is UEvent.ISCSI_UEVENT_BIND_CONN
        ]
        before = world.kernel.requests[binds[-1] - 1]
        assert before.type is UEvent.ISCSI_UEVENT_STOP_CONN, "stopped before it is bound anew"

    run(test)


def test_the_connection_breaks_in_the_login(run: Run) -> None:
    async def test(world: World) -> None:
        answers: list[int | None] = [1020, 1011, None]

        def target(bhs: bytes, data: bytes) -> list[Pdu] | int:
            answer = answers.pop(0)
            return granting(bhs, data) if answer is None else answer

        await world.guarded(SYSTEM)
        world.kernel.target = target
        world.kernel.break_connection(1)
        await world.until_healed()
        assert "TCP_CONN_CLOSE" in world.said()[1] or "CONN_FAILED" in world.status().last_error
        assert stops(world) == [StopFlag.STOP_CONN_RECOVER] * 3

    run(test)


def test_the_connection_breaks_with_the_word_that_it_works(run: Run) -> None:
    """The error comes in the same moment as the answer to START_CONN."""

    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        broken: list[int] = []

        def when_started() -> None:
            session = world.kernel.sessions[1]
            if session.connection == "up" and not broken and world.kernel.names[-1] == "START_CONN":
                broken.append(1)
                world.kernel.break_connection(1)

        plain = world.kernel.show

        def show(session: object) -> None:
            plain(session)  # type: ignore[arg-type]
            when_started()

        world.kernel.show = show  # type: ignore[method-assign]
        world.kernel.break_connection(1)
        await world.until_healed(times=2)
        assert broken

    run(test)


def test_a_login_that_is_answered_late(run: Run) -> None:
    async def test(world: World) -> None:
        asked: list[bytes] = []

        def target(bhs: bytes, data: bytes) -> list[Pdu]:
            asked.append(bhs)
            return []

        await world.guarded(SYSTEM)
        world.kernel.target = target
        world.kernel.break_connection(1)
        await asyncio.sleep(10)
        assert world.phase() is Phase.TRYING
        assert world.status().detail.startswith("logging in at 127.0.0.1:")
        world.kernel.say(1, *granting(asked[0], b""))
        assert await world.until_healed() < 0.2
        assert len(asked) == 1

    run(test)


def test_a_login_that_is_never_answered(run: Run) -> None:
    async def test(world: World) -> None:
        asked: list[float] = []

        def target(bhs: bytes, data: bytes) -> list[Pdu]:
            asked.append(virtual_loop().time())
            return [] if len(asked) < 3 else granting(bhs, data)

        await world.guarded(SYSTEM)
        world.kernel.target = target
        world.kernel.break_connection(1)
        await world.until_healed()
        assert asked[1] - asked[0] >= 15, "the login timeout"
        assert asked[2] - asked[0] <= 34

    run(test)


# Events that are lost. ------------------------------------------------------------------------------------------------


def test_a_break_nobody_was_told_of_is_found_in_sysfs(run: Run) -> None:
    async def test(world: World) -> None:
        for _ in range(3):
            world.session()
        await world.keeper.adopt({sid: world.known() for sid in (1, 2, 3)})
        world.kernel.requests.clear()
        await asyncio.sleep(5)  # past the second look
        world.kernel.break_connection(2, told=False)
        await asyncio.sleep(5)
        assert world.status(2).recoveries == 0
        world.kernel.overflow()
        await world.until_healed(2)
        assert {request.args[0] for request in world.kernel.requests} == {2}, "who works is left alone"

    run(test)


def test_a_session_that_vanished_untold_is_found_missing(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.vanish(1, told=False)
        world.kernel.overflow()
        await world.until(lambda: world.phase() is None)
        assert world.keeper.guarded() == {}

    run(test)


def test_events_lost_in_a_login_begin_it_anew(run: Run) -> None:
    async def test(world: World) -> None:
        silent = [True]

        def target(bhs: bytes, data: bytes) -> list[Pdu]:
            if silent:
                silent.clear()
                asyncio.get_running_loop().call_soon(world.kernel.overflow)
                return []
            return granting(bhs, data)

        await world.guarded(SYSTEM)
        world.kernel.target = target
        world.kernel.break_connection(1)
        assert await world.until_healed() < 5, "not the whole login timeout"
        assert "more events than the socket could hold" in world.status().last_error

    run(test)


def test_events_lost_while_connecting_are_made_up_for_when_it_works(run: Run) -> None:
    """A connection being made looks down in sysfs; a break of the new one must not be lost with that."""

    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.server.swallow()
        world.kernel.break_connection(1)
        await asyncio.sleep(3)
        world.kernel.overflow()
        await asyncio.sleep(0.1)
        assert stops(world) == [StopFlag.STOP_CONN_RECOVER]
        plain = world.kernel.show

        def show(session: object) -> None:
            plain(session)  # type: ignore[arg-type]
            if world.kernel.sessions[1].connection == "up":
                world.kernel.show = plain  # type: ignore[method-assign]
                world.kernel.break_connection(1, told=False)

        world.kernel.show = show  # type: ignore[method-assign]
        world.server.accept()
        await world.until(lambda: world.status().recoveries == 1)
        world.server.open()
        await world.until_healed(times=2)

    run(test)


# Adoption. ------------------------------------------------------------------------------------------------------------


def test_adopting_a_session_that_works_asks_for_nothing(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        await world.adopt(1)
        await asyncio.sleep(30)
        assert world.kernel.requests == []
        assert world.phase() is Phase.UP
        assert world.status().connected == f"127.0.0.1:{world.server.port}"
        assert world.status().source == "/run state"

    run(test)


@pytest.mark.parametrize(
    ("state", "connection"), [("FAILED", "failed"), ("FAILED", "bound"), ("FREE", "down"), ("LOGGED_IN", "failed")]
)
def test_adopting_one_that_is_down_recovers_it_at_once(run: Run, state: str, connection: str) -> None:
    async def test(world: World) -> None:
        world.session(state=state, connection=connection)
        await world.adopt(1)
        assert await world.until_healed() < 0.2

    run(test)


def test_a_break_before_the_adoption_that_sysfs_does_not_show_yet(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        world.kernel.break_connection(1, shown=False)
        await asyncio.sleep(0.1)
        await world.adopt(1)
        await world.until_healed()

    run(test)


def test_a_break_that_sysfs_and_the_event_tell_of_is_one_break(run: Run) -> None:
    """The event is in the socket when sysfs is read: it is about the connection before, whenever it is heard."""

    async def test(world: World) -> None:
        world.session()
        world.kernel.break_connection(1)
        await world.adopt(1)
        await world.until_healed()
        await asyncio.sleep(30)
        assert len(world.asked(UEvent.ISCSI_UEVENT_START_CONN)) == 1
        assert world.status().recoveries == 1

    run(test)


@pytest.mark.parametrize("away", [0.0, 3.0])
def test_a_late_word_about_the_connection_before_ends_no_new_one(run: Run, away: float) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.server.swallow()
        world.kernel.break_connection(1)
        await world.until(lambda: world.phase() is Phase.TRYING)
        await asyncio.sleep(away)
        world.kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 1, 0, 1011))
        await asyncio.sleep(0.5)
        world.server.accept()
        await world.until(lambda: world.status().recoveries == 1)
        await asyncio.sleep(30)
        assert len(world.asked(UEvent.ISCSI_UEVENT_START_CONN)) == 1
        assert world.status().recoveries == 1

    run(test)


def test_a_break_before_the_subscription_that_sysfs_does_not_show_yet(run: Run) -> None:
    """Neither event nor state: the second look finds it."""

    async def test(world: World) -> None:
        world.session()
        world.kernel.break_connection(1, told=False, shown=False)
        await world.adopt(1)
        assert world.phase() is Phase.UP
        world.kernel.show_break(1)
        assert await world.until_healed() < 3

    run(test)


def test_what_is_gone_is_not_guarded(run: Run) -> None:
    async def test(world: World) -> None:
        await world.adopt(7)
        assert world.keeper.guarded() == {}

    run(test)


def test_adopting_twice_changes_nothing(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        await world.adopt(1)
        await world.adopt(1, known=world.known(reopen_max=5))
        assert world.keeper.guarded()[1].reopen_max == 0

    run(test)


# What the target answers. ---------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_and_the_next_recovery_begins_at_the_first_portal(run: Run) -> None:
    async def test(world: World) -> None:
        elsewhere = PortalServer()
        bound: list[int] = []

        def target(bhs: bytes, data: bytes) -> list[Pdu]:
            bound.append(1)
            if len(bound) % 2:
                return redirecting(f"127.0.0.1:{elsewhere.port},1")(bhs, data)
            return granting(bhs, data)

        await world.guarded(SYSTEM)
        world.kernel.target = target
        world.kernel.break_connection(1)
        await world.until_healed()
        assert world.status().connected == f"127.0.0.1:{elsewhere.port}"
        assert world.status().portal == f"127.0.0.1:{world.server.port}"
        stored = world.kernel.sessions[1].params[Param.ISCSI_PARAM_PERSISTENT_PORT]
        assert stored == str(world.server.port)
        assert stops(world) == [StopFlag.STOP_CONN_RECOVER] * 2, "the bound connection is stopped between the two"
        await asyncio.sleep(60)
        world.kernel.break_connection(1)
        await world.until_healed(times=2)
        assert len(bound) == 4
        elsewhere.close()

    run(test)


def test_a_redirect_to_a_name_is_looked_up_in_a_hand(run: Run) -> None:
    async def test(world: World) -> None:
        elsewhere = PortalServer()
        world.resolved["disks.example"] = "127.0.0.1"
        answers = [redirecting(f"disks.example:{elsewhere.port},1"), granting]
        world.kernel.target = lambda bhs, data: answers.pop(0)(bhs, data)
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        await world.until_healed()
        assert "the look-up of disks.example" in world.hands.done
        assert world.status().connected == f"127.0.0.1:{elsewhere.port}"
        elsewhere.close()

    run(test)


def test_a_name_service_that_hangs_costs_one_attempt(run: Run) -> None:
    async def test(world: World) -> None:
        world.hands.late.add("the look-up of disks.example")
        answers = [redirecting("disks.example:3260,1"), granting]
        world.kernel.target = lambda bhs, data: answers.pop(0)(bhs, data)
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        await world.until_healed()
        assert "disks.example" in world.status().last_error

    run(test)


@pytest.mark.parametrize("status", [(2, 1), (2, 2), (2, 3), (3, 1), (2, 0)], ids=str)
def test_no_refusal_makes_a_system_session_be_given_up(run: Run, status: tuple[int, int]) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.target = refusing(status)
        world.kernel.break_connection(1)
        await asyncio.sleep(300)
        assert world.phase() in (Phase.WAITING, Phase.TRYING)
        world.kernel.target = granting
        await world.until_healed()
        assert len(world.said()) <= 6

    run(test)


def test_a_changed_secret_is_read_again_and_used(run: Run) -> None:
    async def test(world: World) -> None:
        def with_secret(known: Known) -> Known:
            chap = Credentials(outgoing=Chap(name="user", secret=Secret(b"the new secret!")))
            return replace(known, request=replace(known.request, credentials=chap))

        def target(bhs: bytes, data: bytes) -> list[Pdu]:
            # No credentials, no entry; with them no proof is wanted.
            if b"AuthMethod" not in data:
                return [login_response(bhs, status=(2, 1))] if b"InitiatorName" in data else granting(bhs, data)
            return [login_response(bhs, b"AuthMethod=None\0TargetPortalGroupTag=3\0", flags=0x81)]

        await world.guarded(SYSTEM)
        world.kernel.target = target
        world.renewals.append(with_secret)
        world.kernel.break_connection(1)
        await world.until_healed(seconds=40)
        assert world.keeper.guarded()[1].request.credentials is not None
        assert "the new secret!" not in str(world.lines)
        assert world.kernel.sessions[1].params[Param.ISCSI_PARAM_PASSWORD] == "the new secret!"

    run(test)


def test_a_record_read_again_that_says_the_same_changes_nothing(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.renewals.append(lambda known: known)
        await world.keeper.renew()
        await world.keeper.renew(1)
        await asyncio.sleep(1)
        assert world.kernel.requests == []
        assert world.lines == []

    run(test)


def test_another_portal_group_is_told(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        await world.adopt(1, known=world.known(tpgt=9))
        world.kernel.break_connection(1)
        await world.until_healed()
        assert any("portal group 3 now, before it was 9" in line for line in world.said(least=Level.INFO))
        assert world.keeper.guarded()[1].tpgt == 3

    run(test)


# Ends. ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["up", "waiting", "connecting", "logging in"])
def test_a_session_somebody_removes_is_guarded_no_more(run: Run, when: str) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.hinder(when)
        if when != "up":
            world.kernel.break_connection(1)
            await asyncio.sleep(5)
        world.kernel.vanish(1)
        await asyncio.sleep(30)
        assert world.keeper.guarded() == {}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test)


def test_an_attempt_that_finds_no_session_ends_the_guard(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.server.close()
        world.kernel.break_connection(1)
        await asyncio.sleep(5)
        world.kernel.vanish(1, told=False)
        world.server.open()
        await world.until(lambda: world.phase() is None)

    run(test)


def test_a_data_session_is_given_up_when_its_record_says_so(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        await world.adopt(1, known=world.known(reopen_max=3))
        world.server.close()
        world.kernel.break_connection(1)
        await world.until(lambda: not world.kernel.sessions, seconds=3600)
        assert world.keeper.guarded() == {}

    run(test)


def test_a_host_that_is_removed_ends_its_session(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1, 1018)
        await world.until(lambda: not world.kernel.sessions)
        assert len(world.asked(UEvent.ISCSI_UEVENT_BIND_CONN)) == 0

    run(test)


def test_a_fault_of_ours_in_one_session_is_one_failed_attempt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        plain = Attempt.run
        faults = [KeyError("a fault")]

        async def faulty(attempt: Attempt) -> object:
            if faults:
                raise faults.pop()
            return await plain(attempt)

        monkeypatch.setattr(Attempt, "run", faulty)
        await world.guarded(SYSTEM)
        world.kernel.break_connection(1)
        await world.until_healed()
        assert any("a fault of this program: KeyError" in line for line in world.said())

    run(test)


def test_a_portal_that_serves_one_session_again_is_asked_for_its_others_at_once(run: Run) -> None:
    """However long they were to wait; one elsewhere waits as before."""

    async def test(world: World) -> None:
        elsewhere = PortalServer()
        here, there = [world.session().sid for _ in range(3)], world.session().sid
        await world.adopt(*here)
        await world.adopt(there, known=world.known(world.request(portal=elsewhere.portal)))
        world.server.close()
        elsewhere.close()
        for sid in (*here, there):
            world.kernel.break_connection(sid)
            await asyncio.sleep(2.0)
        await asyncio.sleep(600)  # six seconds between two attempts by now, each session at its own moments
        await world.until(lambda: all(world.phase(sid) is Phase.WAITING for sid in (*here, there)))
        world.server.open()
        elsewhere.open()
        first = await world.until(lambda: any(world.phase(sid) is Phase.UP for sid in here))
        assert first > 0.2
        assert await world.until_up(*here) < 2 * SOON
        assert world.phase(there) is Phase.WAITING
        await world.until_up(there, seconds=10)
        elsewhere.close()

    run(test)
