# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions that are ended: in good order, by force, in whatever state they are."""

from __future__ import annotations

import asyncio
import errno

import pytest

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.keeper.situation import Phase
from iscsiboot.netlink.uapi import KEvent, StopFlag, UEvent
from tests.doubles.iscsi_kernel import kernel_event, logout_response
from tests.doubles.virtual_time import virtual_loop
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import World

REMOVAL = ["STOP_CONN", "DESTROY_CONN", "DESTROY_SESSION_ASYNC"]


async def log_out(world: World, *, force: bool = False, seconds: float = 120.0) -> float:
    """The virtual seconds it took."""
    began = virtual_loop().time()
    await world.keeper.logout(1, force=force, seconds=seconds)
    return virtual_loop().time() - began


async def stays(world: World, *, force: bool = False, seconds: float = 120.0) -> IscsiBootError:
    with pytest.raises(IscsiBootError) as caught:
        await world.keeper.logout(1, force=force, seconds=seconds)
    return caught.value


def last_stop(world: World) -> int:
    return world.asked(UEvent.ISCSI_UEVENT_STOP_CONN)[-1].args[3]


def test_in_good_order(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        assert await log_out(world) < 0.1
        assert world.kernel.names == ["UNBIND_SESSION", "SEND_PDU", *REMOVAL]
        bhs = world.kernel.requests[1].data
        assert (bhs[0], bhs[1]) == (0x46, 0x80), "an immediate Logout Request that closes the session"
        assert last_stop(world) == StopFlag.STOP_CONN_TERM
        assert world.kernel.sessions == {}
        assert world.keeper.guarded() == {}

    run(test)


def test_an_older_kernel_destroys_it_in_the_request(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.destroys_async = False
        await log_out(world)
        assert world.kernel.names[-2:] == ["DESTROY_SESSION_ASYNC", "DESTROY_SESSION"]
        assert world.kernel.sessions == {}

    run(test)


def test_by_force_nobody_is_asked(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.unbinds = False
        world.kernel.logout = lambda bhs: []
        assert await log_out(world, force=True) < 0.1
        assert world.kernel.names == REMOVAL

    run(test)


def test_a_target_that_does_not_answer_is_waited_for_so_long(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.logout = lambda bhs: []
        assert await log_out(world) == pytest.approx(15, abs=0.2)
        assert any("did not answer the logout within 15 s" in text for _, text in world.lines)

    run(test)


def test_a_target_that_refuses_is_told(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.logout = lambda bhs: [logout_response(3)]
        await log_out(world)
        assert any("answered the logout with CLEANUP_FAILED" in text for _, text in world.lines)

    run(test)


def test_a_connection_that_ends_instead_of_an_answer(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.logout = lambda bhs: 1020
        assert await log_out(world) < 0.1
        assert any("ended before the target answered the logout (TCP_CONN_CLOSE)" in text for _, text in world.lines)

    run(test)


def test_a_logout_that_cannot_be_sent(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.unsent = 1
        await log_out(world)
        assert any("the target could not be told" in text for _, text in world.lines)

    run(test)


def test_a_connection_that_breaks_while_the_disks_go(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.unbinds = False
        world.kernel.on_unbind = [kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 1, 0, 1011)]
        assert await log_out(world) < 0.1
        assert "SEND_PDU" not in world.kernel.names
        assert any("data may be lost" in text for _, text in world.lines)

    run(test)


def test_disks_that_do_not_go(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.unbinds = False
        assert await log_out(world, seconds=90.0) == pytest.approx(60, abs=0.2)
        assert any("not gone after 60 s" in text for _, text in world.lines)

    run(test)


def test_force_ends_a_gentle_one_that_hangs(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.unbinds = False
        error = await stays(world, seconds=5.0)
        assert error.exit_code is ExitCode.REQ_TIMEDOUT
        assert world.phase() is Phase.LEAVING
        assert await log_out(world, force=True) < 0.1
        assert world.kernel.sessions == {}

    run(test)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("when", ["waiting", "connecting", "logging in", "stopping"])
def test_in_the_middle_of_a_recovery(run: Run, when: str, force: bool) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.hinder(when)
        if when == "stopping":
            world.kernel.stop_refusals.extend([errno.ENOMEM] * 20)
        world.kernel.break_connection(1)
        await asyncio.sleep(2.3)
        if when == "stopping" and not force:
            assert "ENOMEM" in (await stays(world)).cause
            await world.until(lambda: not world.kernel.sessions)
        else:
            assert await log_out(world, force=force) < 0.1
        assert world.kernel.sessions == {}
        assert "UNBIND_SESSION" not in world.kernel.names, "nothing to flush to"

    run(test)


def test_a_removal_that_is_refused_is_told_and_gone_on_with(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.refuse[5] = errno.EBUSY
        error = await stays(world)
        assert error.exit_code is ExitCode.LOGOUT
        assert "EBUSY" in error.cause
        await world.until(lambda: not world.kernel.sessions)
        assert world.keeper.guarded() == {}

    run(test)


def test_a_removal_that_never_ends_is_told(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.destroys = False
        error = await stays(world)
        assert error.exit_code is ExitCode.LOGOUT
        assert "has not removed it after 30 s" in error.cause
        world.kernel.destroys = True
        await world.until(lambda: not world.kernel.sessions, seconds=120)

    run(test)


def test_the_word_of_its_end_is_lost(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.destroys = False
        order = asyncio.create_task(log_out(world))
        await asyncio.sleep(1)
        world.kernel.vanish(1, told=False)
        world.kernel.overflow()
        assert await order < 2

    run(test)


def test_an_unknown_session(run: Run) -> None:
    async def test(world: World) -> None:
        error = await stays(world)
        assert error.exit_code is ExitCode.SESS_NOT_FOUND

    run(test)


def test_a_hundred_at_once(run: Run) -> None:
    async def test(world: World) -> None:
        sids = range(1, 101)
        for _ in sids:
            world.session()
        await world.keeper.adopt({sid: world.known() for sid in sids})
        world.kernel.logout = lambda bhs: []
        began = virtual_loop().time()
        await asyncio.gather(*(world.keeper.logout(sid, force=False, seconds=60) for sid in sids))
        assert virtual_loop().time() - began < 16, "side by side, whatever the target does"
        assert world.kernel.sessions == {}

    run(test)


def test_whose_waiting_ends_does_not_end_the_logout(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded()
        world.kernel.logout = lambda bhs: []
        order = asyncio.create_task(log_out(world))
        await asyncio.sleep(1)
        order.cancel()
        await world.until(lambda: not world.kernel.sessions)

    run(test)
