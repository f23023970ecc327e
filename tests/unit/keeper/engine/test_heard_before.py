# SPDX-License-Identifier: LGPL-2.1-or-later
"""Breaks heard of while the guard before us still acts: what it has healed is not broken once more."""

from __future__ import annotations

from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, World


async def waited(world: World) -> None:
    """Two sessions break in the kernel's events alone: sysfs shows that both work (healed, or not shown yet)."""
    for sid in (1, 2):
        world.session()
        world.kernel.break_connection(sid, shown=False)
        world.kernel.sessions[sid].cleaning = False


def test_a_break_the_guard_before_has_healed_is_none(run: Run) -> None:
    async def test(world: World) -> None:
        await waited(world)
        heard = world.keeper.heard()
        assert set(heard) == {1, 2}
        world.keeper.dismiss(heard, {1, 7})
        world.kernel.requests.clear()
        world.keeper.set_roles({1: SYSTEM, 2: SYSTEM})
        await world.keeper.adopt({1: world.known(), 2: world.known()})
        await world.until_healed(2)
        assert world.status(1).recoveries == 0
        assert {request.args[0] for request in world.kernel.requests if "CONN" in request.type.name} == {2}

    run(test)


def test_a_break_that_comes_after_is_one(run: Run) -> None:
    async def test(world: World) -> None:
        await waited(world)
        heard = world.keeper.heard()
        world.kernel.break_connection(1, shown=False)
        world.keeper.heard()
        world.keeper.dismiss(heard, {1, 2})
        await world.keeper.adopt({1: world.known(), 2: world.known()})
        await world.until_healed(1)
        assert world.status(2).recoveries == 0

    run(test)


def test_what_is_heard_of_at_the_end_shows_in_the_phase(run: Run) -> None:
    """The guard that hands over says which sessions work: an event that waits in its socket counts."""

    async def test(world: World) -> None:
        world.session()
        await world.adopt(1, role=SYSTEM)
        world.kernel.break_connection(1, shown=False)
        await world.keeper.stop_acting()
        assert world.status(1).phase != "up"

    run(test)
