# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the daemon finds: nothing is begun twice, and what is known of a session is known to who guards next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.daemon import adopting
from iscsiboot.daemon.adopting import Adopting
from iscsiboot.keeper import state_files
from iscsiboot.keeper.adoption import NAME_SECONDS, REMOVAL_SECONDS, no_records
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Known
from iscsiboot.model.portal import Portal
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.netlink.uapi import Param
from iscsiboot.session.login import UNRESOLVED
from iscsiboot.session.values import Environment
from tests.doubles.virtual_time import virtual_loop
from tests.unit.keeper.engine.conftest import Run, run
from tests.unit.keeper.engine.world import World
from tests.unit.keeper.guard_kit import no_kernel

__all__ = ["run"]
NAME = "look-up of session 2's portal"


class Place:
    """A world with an adoption in it."""

    def __init__(self, world: World, run: Path) -> None:
        now = virtual_loop().time
        self.world = world
        self.run = run
        self.changes = 0

        def changed() -> None:
            self.changes += 1

        def log(level: Level, text: str) -> None:
            world.lines.append((level, text))

        environment = Environment(
            open_netlink=lambda: IscsiNetlink(world.kernel.transport(), now=now),
            open_monitor=no_kernel,
            resolve=world.resolve,
            sysfs=world.kernel.sysfs,
            proc=world.kernel.proc,
            now=now,
        )
        self.adopting = Adopting(
            environment=environment,
            run=run,
            keeper=world.keeper,
            records=no_records,
            hands=world.hands,
            changed=changed,
            log=log,
        )

    def half_made(self) -> str:
        """A session whose maker is gone; the name of its removal."""
        left = self.world.kernel.leftover(creator=992, connection="bound", state="FREE", params={})
        return f"removal of session {left.sid}"

    def named(self) -> Known:
        """Session 2, which is down and leads to a name; what is known of it."""
        session = self.world.session(connection="failed", state="FAILED")
        session.params[Param.ISCSI_PARAM_PERSISTENT_ADDRESS] = "san"
        session.params[Param.ISCSI_PARAM_PERSISTENT_PORT] = str(self.world.server.port)
        self.world.kernel.show(session)
        portal = Portal(address=UNRESOLVED, port=self.world.server.port)
        return self.world.known(replace(self.world.request(), portal=portal, stored_address="san"), reopen_max=17)

    async def one_and_a_named(self) -> None:
        """Adopts session 1, which works, and session 2, whose name nobody answers for."""
        self.world.session()
        known = self.named()
        self.world.hands.late.add(NAME)
        await self.adopting.adopt({1: self.world.known(), 2: known}, {})

    def begun(self) -> Sequence[str]:
        """Removals and look-ups that came to an end."""
        return [what for what in self.world.hands.done if "removal" in what or "look-up" in what]


@asynccontextmanager
async def place(world: World, run: Path) -> AsyncIterator[Place]:
    made = Place(world, run)
    try:
        yield made
    finally:
        await made.adopting.close()


def test_a_removal_under_way_is_not_begun_again(run: Run, tmp_path: Path) -> None:
    """Sessions of strangers are looked at again and again; the kernel takes its time to remove one of them."""

    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:
            removal = here.half_made()
            world.hands.late.add(removal)
            here.adopting.stranger(1)
            here.adopting.stranger(1)
            for seconds in (6, 26):  # the first and the second look
                await asyncio.sleep(seconds)
                assert world.hands.at_work == 1
            world.hands.late.clear()
            await asyncio.sleep(REMOVAL_SECONDS)
            assert not here.begun()
            await asyncio.sleep(adopting.STRANGER_SECONDS[-1])
            assert here.begun() == [removal], "the third look finds it again"
            assert not world.kernel.sessions

    run(test)


def test_others_are_looked_at_while_one_is_being_removed(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:
            world.hands.late.add(here.half_made())
            # Its maker is at work on it.
            made = world.kernel.leftover(creator=4711, connection="bound", state="FREE", params={})
            world.kernel.show_ports(4711)
            here.adopting.stranger(made.sid)
            await asyncio.sleep(6)
            assert not world.keeper.guarded()
            known = world.session()
            world.kernel.vanish(known.sid)
            made.params = known.params
            made.state, made.connection = "LOGGED_IN", "up"
            world.kernel.show(made)
            await asyncio.sleep(25)
            assert set(world.keeper.guarded()) == {made.sid}

    run(test)


def test_hundreds_made_by_somebody_else_at_once_are_one_look(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    read = state_files.read

    def counted(folder: Path) -> state_files.State:
        nonlocal looks
        looks += 1
        return read(folder)

    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:
            monkeypatch.setattr(state_files, "read", counted)
            for sid in range(1, 201):
                here.adopting.stranger(sid)
            await asyncio.sleep(6)
            assert looks == 1
            await asyncio.sleep(sum(adopting.STRANGER_SECONDS))
            assert looks == len(adopting.STRANGER_SECONDS), "and later again"

    run(test)


@pytest.mark.parametrize("when", ["meanwhile", "in vain"])
def test_what_is_known_of_a_session_that_waits_for_a_name_is_known_to_the_standby(
    run: Run, tmp_path: Path, when: str
) -> None:
    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:
            await here.one_and_a_named()
            await asyncio.sleep(1 if when == "meanwhile" else NAME_SECONDS + 1)
            assert set(world.keeper.guarded()) == {1}
            assert here.adopting.known()[2].reopen_max == 17
            await here.adopting.close()
            assert here.adopting.known()[2].reopen_max == 17, "the daemon ends"
            world.kernel.vanish(2)
            assert set(here.adopting.known()) == {1}

    run(test)


def test_a_name_that_has_an_address_now(run: Run, tmp_path: Path) -> None:
    """A later look tries again, with what is known, and has it guarded."""

    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:
            await here.one_and_a_named()
            await asyncio.sleep(NAME_SECONDS + 1)
            assert here.changes == 1
            world.hands.late.clear()
            world.resolved["san"] = "127.0.0.1"
            here.adopting.stranger(9)
            await world.until_healed(2)
            assert world.keeper.guarded()[2].reopen_max == 17
            assert here.begun() == [NAME]
            assert here.changes == 2

    run(test)


def test_a_name_is_looked_up_again_at_growing_intervals(run: Run, tmp_path: Path) -> None:
    """Nobody has to make a session for that: the session is down, and nobody guards it."""

    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:
            await here.one_and_a_named()
            await asyncio.sleep(3600)
            told = [line for line in world.said() if line.startswith("session 2 is not guarded")]
            assert 5 < len(told) < 9
            world.hands.late.clear()
            world.resolved["san"] = "127.0.0.1"
            await world.until(lambda: 2 in world.keeper.guarded(), seconds=adopting.NAMES_AGAIN_MAX + 60)
            await world.until_healed(2)
            await asyncio.sleep(3600)
            assert here.begun() == [NAME], "once it has its address, nothing is looked up"

    run(test)


def test_what_cannot_be_looked_at_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:

            def broken(_: Path) -> state_files.State:
                raise KeyError("oops")

            monkeypatch.setattr(state_files, "read", broken)
            here.adopting.stranger(1)
            await asyncio.sleep(6)
            (line,) = world.said()
            assert line.startswith("what was found is not all guarded: a fault of this program: KeyError: 'oops'")

    run(test)


def test_why_a_session_is_left_alone_is_told_once_for_each_reason(run: Run, tmp_path: Path) -> None:
    """Every stranger has all sessions be looked at three times; an HBA's are among them for years."""

    async def test(world: World) -> None:
        async with place(world, tmp_path) as here:
            firmware = world.kernel.leftover(creator=(1 << 32) - 1, connection="up", state="LOGGED_IN", params={})
            told = f"session {firmware.sid} is left alone: firmware or the kernel made it"
            await here.adopting.adopt({}, {})
            here.adopting.stranger(firmware.sid)
            await asyncio.sleep(sum(adopting.STRANGER_SECONDS))
            assert [text for _, text in world.lines if "left alone" in text] == [told]
            other = world.kernel.leftover(creator=(1 << 32) - 1, connection="up", state="LOGGED_IN", params={})
            await here.adopting.adopt({}, {})
            await asyncio.sleep(1)
            assert [text for _, text in world.lines if "left alone" in text] == [
                told,
                told.replace(f"session {firmware.sid} ", f"session {other.sid} "),
            ]

    run(test)
