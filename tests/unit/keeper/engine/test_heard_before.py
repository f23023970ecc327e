# SPDX-License-Identifier: LGPL-2.1-or-later
"""Breaks heard of while the guard before us still acts: what it has healed is not broken once more, and nothing else
is taken for healed.
"""

from __future__ import annotations

import asyncio

import pytest

from iscsiboot.netlink.uapi import KEvent
from tests.doubles.iscsi_kernel import Pdu, kernel_event, login_response
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, World

ASKED = bytes([0x43, 0x87, *bytes(46)])
"""The header of the last Login Request: operational stage, next is full feature."""


def breaks(world: World, sid: int) -> None:
    """In the kernel's events alone: sysfs shows that the session works (healed, or the break not shown yet)."""
    world.kernel.break_connection(sid, shown=False)
    world.kernel.sessions[sid].cleaning = False


def logs_in(world: World, sid: int, answer: Pdu | None = None) -> None:
    """The guard before us does, and its target says so: the kernel tells everybody."""
    header, text = login_response(ASKED) if answer is None else answer
    world.kernel.multicast(kernel_event(KEvent.ISCSI_KEVENT_RECV_PDU, sid, 0, data=header + text))


def touched(world: World) -> set[int]:
    """The sessions whose connections were ended or made."""
    return {request.args[0] for request in world.kernel.requests if "CONN" in request.type.name}


@pytest.mark.parametrize("read", [True, False], ids=["read before", "still in the socket"])
def test_a_break_the_guard_before_has_healed_is_none(run: Run, read: bool) -> None:
    """Whenever it has: also after its taker has heard of the break."""

    async def test(world: World) -> None:
        for sid in (1, 2):
            world.session()
            breaks(world, sid)
        logs_in(world, 1)
        if read:
            await asyncio.sleep(0.1)
        world.keeper.set_roles({1: SYSTEM, 2: SYSTEM})
        await world.keeper.adopt({1: world.known(), 2: world.known()})
        await world.until_healed(2)
        assert world.status(1).recoveries == 0
        assert touched(world) == {2}

    run(test)


def test_a_break_that_comes_after_the_login_is_one(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        breaks(world, 1)
        logs_in(world, 1)
        breaks(world, 1)
        await world.adopt(1)
        await world.until_healed(1)

    run(test)


@pytest.mark.parametrize(
    "answer",
    [
        login_response(ASKED, flags=0x04),
        login_response(ASKED, flags=0x81),
        login_response(ASKED, status=(2, 1)),
        login_response(ASKED, b"TargetAddress=10.0.0.2\0", status=(1, 1)),
        (bytes([0x26, 0x87, *bytes(46)]), b""),
    ],
    ids=["half of it", "the next stage", "refused", "sent elsewhere", "another word of the target"],
)
def test_what_is_no_end_of_a_login_heals_nothing(run: Run, answer: Pdu) -> None:
    async def test(world: World) -> None:
        world.session()
        breaks(world, 1)
        logs_in(world, 1, answer)
        await world.adopt(1)
        await world.until_healed(1)

    run(test)


@pytest.mark.parametrize("state", ["FAILED", "LOGGED_IN"])
def test_a_login_that_was_given_up_before_its_connection_was_started_is_made_anew(run: Run, state: str) -> None:
    """The guard before us was killed between the target's last word and START_CONN: sysfs tells."""

    async def test(world: World) -> None:
        world.session(state=state, connection="bound")
        breaks(world, 1)
        logs_in(world, 1)
        await world.adopt(1)
        await world.until_healed(1)

    run(test)
