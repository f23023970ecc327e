# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guard process at work, with the real Keeper over the kernel double: one spell of acting, and the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from iscsiboot.keeper import adoption, engine, state_files
from iscsiboot.keeper.actor import Event
from iscsiboot.keeper.adoption import REMOVAL_SECONDS
from iscsiboot.keeper.engine import KeeperEngine, NothingLeft
from iscsiboot.keeper.hands import Hands
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.untold import UNTOLD
from iscsiboot.keeper.values import Known, Role, Source
from iscsiboot.model.portal import Portal
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.netlink.uapi import Param
from iscsiboot.session.login import UNRESOLVED
from iscsiboot.session.values import Environment
from tests.doubles.iscsi_kernel import granting
from tests.doubles.virtual_time import run_virtually, virtual_loop
from tests.unit.keeper.engine.world import SYSTEM, World, world
from tests.unit.keeper.guard_kit import no_kernel


class Spell:
    """An engine in a world."""

    def __init__(self, there: World, run: Path) -> None:
        self.world = there
        self.run = run
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.engine = self._new()

    def _new(self) -> KeeperEngine:
        kernel, loop = self.world.kernel, virtual_loop()
        environment = Environment(
            open_netlink=lambda: IscsiNetlink(kernel.transport(), now=loop.time),
            open_monitor=no_kernel,
            sysfs=kernel.sysfs,
            proc=kernel.proc,
            now=loop.time,
            entropy=bytes,
        )
        return KeeperEngine(environment, lambda level, text: self.world.lines.append((level, text)), self.run)

    async def start(self, known: dict[int, Known] | None = None, roles: dict[int, Role] | None = None) -> None:
        await self.engine.start(known or {}, roles or {}, self.events)

    async def again(self, **options: dict[int, Known]) -> None:
        """The next spell, with what this one knew."""
        known = self.engine.guarded()
        self.engine = self._new()
        await self.start(known)

    def phases(self) -> dict[int, str]:
        return {item["sid"]: item["phase"] for item in self.engine.status()}

    async def until_up(self, seconds: float = 60.0) -> float:
        return await self.world.until(lambda: set(self.phases().values()) == {"up"}, seconds=seconds)

    async def left(self) -> str:
        """Why it says that nothing is left."""
        event = await asyncio.wait_for(self.events.get(), 60)
        assert isinstance(event, NothingLeft)
        assert event.spell is self.engine
        return event.words


Test = Callable[[Spell], Coroutine[None, None, None]]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Plays a test in a world whose own keeper is out of the way, and sees that nothing is left."""

    @asynccontextmanager
    async def stage() -> AsyncIterator[Spell]:
        async with world(tmp_path) as there:
            await there.keeper.close()
            monkeypatch.setattr(engine, "Hands", lambda log: InlineHandsThatClose(there))
            spell = Spell(there, tmp_path / "run")
            try:
                yield spell
            finally:
                await spell.engine.stop()

    def play(test: Test) -> None:
        async def inside() -> None:
            async with stage() as spell:
                await test(spell)

        run_virtually(inside())

    return play


class InlineHandsThatClose:
    """The world's, with the end real ones have."""

    def __init__(self, there: World) -> None:
        self.run = there.hands.run

    async def close(self) -> None:
        """Nothing hangs."""


def test_the_real_hands_have_what_is_used_of_them() -> None:
    assert callable(Hands.run)
    assert callable(Hands.close)


def test_healthy_sessions_are_guarded_without_a_word(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        for _ in range(3):
            spell.world.session()
        await spell.start(roles=dict.fromkeys((1, 2, 3), Role()))
        assert spell.phases() == {1: "up", 2: "up", 3: "up"}
        assert spell.world.kernel.names == [], "nothing was sent and nothing stopped"
        assert set(spell.engine.guarded()) == {1, 2, 3}

    play(test)


def test_a_session_that_is_down_is_recovered_at_once(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session(connection="down", state="FAILED")
        await spell.start({1: spell.world.known()})
        assert await spell.until_up() < 0.5
        assert spell.world.kernel.sessions[1].state == "LOGGED_IN"

    play(test)


def test_a_break_while_it_acts_is_healed(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session()
        await spell.start({1: spell.world.known()})
        spell.world.kernel.break_connection(1)
        await asyncio.sleep(0.01)
        assert await spell.until_up() < 0.5

    play(test)


def test_a_break_between_two_spells_is_healed_by_the_next(play: Callable[[Test], None]) -> None:
    """The cut falls when the one has stopped and the other has not begun: nobody hears of it, sysfs shows it."""

    async def test(spell: Spell) -> None:
        spell.world.session()
        await spell.start({1: spell.world.known()})
        await spell.engine.stop()
        spell.world.kernel.break_connection(1)
        await asyncio.sleep(5)
        assert spell.world.kernel.sessions[1].connection != "up"
        await spell.again()
        assert await spell.until_up() < 0.5

    play(test)


def test_an_attempt_cut_off_by_a_hand_over_is_made_by_the_next(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session()
        await spell.start({1: spell.world.known()}, {1: SYSTEM})
        spell.world.server.swallow()
        spell.world.kernel.break_connection(1)
        await spell.world.until(lambda: spell.phases() == {1: "trying"})
        await spell.engine.stop()
        spell.world.server.open()
        await spell.again()
        assert await spell.until_up() < 1.5

    play(test)


def test_what_the_state_files_say_is_used(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session()
        state_files.write(spell.run, 1, spell.world.known(reopen_max=17), Role())
        await spell.start()
        assert spell.engine.guarded()[1].reopen_max == 17
        assert spell.engine.guarded()[1].source is Source.STATE

    play(test)


def test_what_nobody_told_counts_as_the_systems(play: Callable[[Test], None]) -> None:
    """A data session would be let fail after its time; for one that may be root's the kernel waits for ever."""

    async def test(spell: Spell) -> None:
        for _ in range(3):
            spell.world.session()
        state_files.write(spell.run, 3, spell.world.known(), Role())
        known = {sid: spell.world.known() for sid in (1, 2)}
        await spell.start(known, {1: Role()})
        uses = {item["sid"]: tuple(item["uses"]) for item in spell.engine.status()}
        assert uses == {1: (), 2: UNTOLD.system, 3: ()}

    play(test)


def test_a_half_made_session_is_removed(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session()
        spell.world.kernel.leftover(creator=992, connection="bound", state="FREE", params={})
        await spell.start()
        await spell.world.until(lambda: set(spell.world.kernel.sessions) == {1})
        assert set(spell.engine.guarded()) == {1}

    play(test)


def test_a_removal_that_hangs_keeps_no_other_session_waiting(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session(connection="failed", state="FAILED")
        left = spell.world.kernel.leftover(creator=992, connection="bound", state="FREE", params={})
        spell.world.hands.late.add(f"removal of session {left.sid}")
        began = virtual_loop().time()
        await spell.start({1: spell.world.known()})
        assert virtual_loop().time() == began, "who asks now is answered: the removal is waited for behind it"
        assert await spell.world.until(lambda: spell.world.kernel.sessions[1].state == "LOGGED_IN") < 2.0
        assert set(spell.engine.guarded()) == {1}
        await spell.world.until(lambda: any("stays" in line for line in spell.world.said(least=Level.WARNING)))
        assert virtual_loop().time() >= began + REMOVAL_SECONDS

    play(test)


def test_a_hand_over_does_not_wait_for_a_removal(play: Callable[[Test], None]) -> None:
    """Asked in the middle of it: the removal is given up and found again by the next one."""

    async def test(spell: Spell) -> None:
        spell.world.session()
        left = spell.world.kernel.leftover(creator=992, connection="bound", state="FREE", params={})
        spell.world.hands.late.add(f"removal of session {left.sid}")
        await spell.start()
        await asyncio.sleep(0.1)
        assert spell.world.hands.at_work == 1
        began = virtual_loop().time()
        await spell.engine.stop()
        assert virtual_loop().time() - began < 0.1
        assert spell.world.hands.at_work == 0
        assert set(spell.engine.guarded()) == {1}
        spell.world.hands.late.clear()
        await spell.again()
        await spell.world.until(lambda: set(spell.world.kernel.sessions) == {1})

    play(test)


def test_what_is_known_of_a_session_whose_name_is_looked_up_is_handed_over_too(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session()
        named = replace(spell.world.request(), portal=Portal(address=UNRESOLVED, port=3260), stored_address="san")
        session = spell.world.session(connection="failed", state="FAILED")
        session.params[Param.ISCSI_PARAM_PERSISTENT_ADDRESS] = "san"
        session.params[Param.ISCSI_PARAM_PERSISTENT_PORT] = "3260"
        spell.world.kernel.show(session)
        spell.world.hands.late.add("look-up of session 2's portal")
        known = {1: spell.world.known(), 2: spell.world.known(named, reopen_max=17)}
        await spell.start(known)
        assert set(spell.phases()) == {1}
        assert spell.engine.guarded()[2].reopen_max == 17
        await spell.engine.stop()
        assert spell.engine.guarded()[2].reopen_max == 17

    play(test)


def test_no_session_waits_for_the_removal_of_another_that_only_sysfs_tells_of(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session(connection="failed", state="FAILED")
        left = spell.world.kernel.leftover(creator=992, connection="bound", state="FREE", params={})
        spell.world.hands.late.add(f"removal of session {left.sid}")
        await spell.start()
        assert await spell.until_up() < 1.0

    play(test)


def test_the_last_session_that_goes_while_a_removal_is_waited_for(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        spell.world.session()
        left = spell.world.kernel.leftover(creator=992, connection="bound", state="FREE", params={})
        spell.world.hands.late.add(f"removal of session {left.sid}")
        await spell.start()
        spell.world.kernel.vanish(1)
        await asyncio.sleep(0.1)
        assert spell.events.empty(), "there may be one still to be guarded"
        assert await spell.left() == "there is no session to guard"
        assert spell.events.empty()

    play(test)


def test_a_fault_in_what_goes_on_behind_costs_no_session_that_is_guarded(
    play: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fault(*_: object, **__: object) -> dict[int, Known]:
        raise ZeroDivisionError

    monkeypatch.setattr(adoption, "settle", fault)

    async def test(spell: Spell) -> None:
        spell.world.session()
        await spell.start()
        await asyncio.sleep(0.1)
        assert spell.phases() == {1: "up"}
        assert any("ZeroDivisionError" in line for line in spell.world.said(least=Level.ERROR))

    play(test)


def test_it_ends_with_the_last_session(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        for _ in range(2):
            spell.world.session()
        await spell.start()
        for sid in (1, 2):
            assert spell.events.empty()
            spell.world.kernel.vanish(sid)
            await asyncio.sleep(0.1)
        assert await spell.left() == "the last session is gone"

    play(test)


def test_without_a_session_it_has_nothing_to_do(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        await spell.start({7: spell.world.known()})
        assert await spell.left() == "there is no session to guard"

    play(test)


def test_another_daemon_that_logs_in_is_left_alone_with_it(play: Callable[[Test], None]) -> None:
    """The real iscsid takes every session over with a new login: two would recover the next break."""

    async def test(spell: Spell) -> None:
        spell.world.session()
        await spell.start()
        spell.world.kernel.say(1, *granting(bytes(48), b""))
        assert await spell.left() == "session 1 was logged in by another program, which guards it now"

    play(test)


def test_stopping_twice_and_without_a_start(play: Callable[[Test], None]) -> None:
    async def test(spell: Spell) -> None:
        await spell.engine.stop()
        spell.world.session()
        await spell.start({1: spell.world.known()})
        await spell.engine.stop()
        await spell.engine.stop()
        assert set(spell.engine.guarded()) == {1}
        assert spell.engine.status() == []

    play(test)
