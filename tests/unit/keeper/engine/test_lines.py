# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the log has of whole stories: few lines, each with the session's name, open-iscsi's words where it has any."""

from __future__ import annotations

import asyncio

import pytest

from iscsiboot.keeper.crowd import FEW
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, TARGET, World

MANY = 200


async def many(world: World, *, system: int = 0) -> None:
    """Sessions to one portal; the first ``system`` of them carry the system."""
    sids = range(1, MANY + 1)
    for _ in sids:
        world.session()
    world.keeper.set_roles(dict.fromkeys(range(1, system + 1), SYSTEM))
    await world.keeper.adopt({sid: world.known(world.request(iface_name=f"i{sid}")) for sid in sids})
    await asyncio.sleep(5)


async def outage(world: World, seconds: float) -> None:
    world.server.close()
    for sid in range(1, MANY + 1):
        world.kernel.break_connection(sid)
    await asyncio.sleep(seconds)
    world.server.open()
    await world.until(lambda: all(status.phase == "up" for status in world.keeper.statuses()), seconds=120)


@pytest.mark.parametrize("force", [False, True])
def test_a_logout_by_order_is_one_line(run: Run, force: bool) -> None:
    async def test(world: World) -> None:
        world.session()
        await world.adopt(1)
        await world.keeper.logout(1, force=force, seconds=30)
        place = f"[target: {TARGET}, portal: 127.0.0.1,{world.server.port}] through [iface: default]"
        assert world.said() == [f"Connection1:0 to {place} is shutdown."]

    run(test)


def test_a_restart_of_a_target_with_many_sessions_is_few_lines(run: Run) -> None:
    async def test(world: World) -> None:
        await many(world)
        await outage(world, 600)
        await asyncio.sleep(11)
        kinds = ("Kernel reported iSCSI connection", "no connection for", "is operational after recovery")
        for kind in kinds:
            lines = [line for line in world.said() if kind in line]
            assert FEW < len(lines) <= FEW + 2, lines
            assert lines[FEW].startswith(f"{MANY - FEW} more sessions (") or len(lines) == FEW + 2
        assert len(world.said()) <= 3 * (FEW + 2)

    run(test)


def test_sessions_of_the_system_are_told_each(run: Run) -> None:
    async def test(world: World) -> None:
        await many(world, system=3)
        world.server.close()
        for sid in range(MANY, 0, -1):
            world.kernel.break_connection(sid)
        await asyncio.sleep(1)
        told = [line for line in world.said() if line.startswith("Kernel reported iSCSI connection ")]
        assert {line.split()[4] for line in told} >= {"1:0", "2:0", "3:0"}
        assert len(told) == FEW + 3

    run(test)


def test_what_waits_to_be_told_is_told_at_a_hand_over(run: Run) -> None:
    async def test(world: World) -> None:
        await many(world)
        world.server.close()
        for sid in range(1, MANY + 1):
            world.kernel.break_connection(sid)
        await asyncio.sleep(0.1)
        await world.keeper.stop_acting()
        (summary,) = [line for line in world.said() if "likewise" in line and "Kernel reported" in line]
        assert summary.startswith(f"{MANY - FEW} more sessions (")

    run(test)


def test_and_of_sessions_that_are_gone(run: Run) -> None:
    async def test(world: World) -> None:
        await many(world)
        await asyncio.gather(*(world.keeper.logout(sid, force=True, seconds=30) for sid in range(1, MANY + 1)))
        await world.keeper.close()
        assert [line for line in world.said() if line.startswith(f"{MANY - FEW} more sessions (")]

    run(test)
