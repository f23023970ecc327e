# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks of sessions that wait for ever: what they had before goes from guard to guard, and new ones wait, too."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from iscsiboot.keeper import document, live
from iscsiboot.keeper.async_message import REPORTED_LUNS_CHANGED
from iscsiboot.keeper.keeper import Keeper
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Role
from iscsiboot.netlink.socket import IscsiNetlink
from iscsiboot.session.values import Environment
from tests.doubles.iscsi_kernel import async_message
from tests.doubles.virtual_time import virtual_loop
from tests.unit.keeper.engine.conftest import Run
from tests.unit.keeper.engine.world import SYSTEM, World
from tests.unit.keeper.guard_kit import no_kernel


@pytest.fixture(autouse=True)
def whole_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute has the last value alone; a file would have the rest of the one before, too."""
    monkeypatch.setattr(live, "write_attribute", Path.write_text)


def disk(world: World, lun: int, retries: str) -> Path:
    """The attribute of a disk of session 1."""
    device = f"11:0:0:{lun}"
    place = world.kernel.sysfs / f"class/iscsi_session/session1/device/target11:0:0/{device}/scsi_disk/{device}"
    place.mkdir(parents=True)
    path = place / "max_retries"
    path.write_text(retries)
    return path


def next_keeper(world: World) -> Keeper:
    """The guard after this one."""
    now = virtual_loop().time
    environment = Environment(
        open_netlink=lambda: IscsiNetlink(world.kernel.transport(), now=now),
        open_monitor=no_kernel,
        sysfs=world.kernel.sysfs,
        proc=world.kernel.proc,
        now=now,
    )

    def log(level: Level, text: str) -> None:
        world.lines.append((level, text))

    return Keeper(environment, hands=world.hands, log=log, renew=None, chance=lambda: 0.5)


@pytest.mark.parametrize("told", [True, False], ids=["told", "by an older version, or killed"])
def test_who_comes_next_knows_which_are_an_administrators(run: Run, told: bool) -> None:
    async def test(world: World) -> None:
        world.session()
        ours, theirs = disk(world, 1, "7"), disk(world, 2, "-1")
        await world.adopt(1, role=SYSTEM, known=world.known(retries=()))
        assert (ours.read_text(), theirs.read_text()) == ("-1", "-1")
        handed = document.load(document.dump(world.keeper.guarded()))[1]
        assert handed.retries == (("11:0:0:1", 7),)
        await world.keeper.stop_acting()

        keeper = next_keeper(world)
        await keeper.start()
        keeper.set_roles({1: SYSTEM})
        await keeper.adopt({1: handed if told else world.known()})
        keeper.set_roles({1: Role()})
        await asyncio.sleep(0.1)
        assert (ours.read_text(), theirs.read_text()) == (("7", "-1") if told else ("5", "5"))
        await keeper.close()

    run(test)


def test_a_reloaded_record_does_not_forget_it(run: Run) -> None:
    async def test(world: World) -> None:
        world.session()
        path = disk(world, 1, "7")
        await world.adopt(1, role=SYSTEM)
        world.renewals.append(lambda known: world.known(world.request(initiator_alias="another")))
        await world.keeper.renew()
        await world.until(lambda: world.keeper.guarded()[1].request.initiator_alias == "another")
        assert world.keeper.guarded()[1].retries == (("11:0:0:1", 7),)
        assert path.read_text() == "-1"

    run(test)


def test_a_disk_somebody_else_has_looked_for(run: Run) -> None:
    """The daemon looks at the roles when one is announced: it is told them again, though they are the same."""

    async def test(world: World) -> None:
        await world.guarded(SYSTEM)
        path = disk(world, 1, "6")
        world.keeper.set_roles({1: SYSTEM})
        assert path.read_text() == "-1"
        assert world.keeper.guarded()[1].retries == (("11:0:0:1", 6),)
        world.keeper.set_roles({1: Role()})
        await asyncio.sleep(0.1)
        assert path.read_text() == "6"
        assert not world.kernel.requests or world.kernel.names == ["SET_PARAM"]

    run(test)


def test_the_disks_of_data_are_left_alone(run: Run) -> None:
    async def test(world: World) -> None:
        await world.guarded(Role())
        path = disk(world, 1, "6")
        world.keeper.set_roles({1: Role()})
        await asyncio.sleep(0.1)
        assert path.read_text() == "6"

    run(test)


def test_a_disk_the_target_has_told_of(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody who hears of announcements: a guard process."""
    found: list[Path] = []

    async def test(world: World) -> None:
        monkeypatch.setattr(
            "iscsiboot.keeper.units.scan_whole_host", lambda sysfs, host: found.append(disk(world, 1, "5"))
        )
        await world.guarded(SYSTEM)
        sense = bytes([0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, *REPORTED_LUNS_CHANGED, 0, 0, 0, 0])
        world.kernel.say(1, async_message(0, data=len(sense).to_bytes(2, "big") + sense))
        await world.until(lambda: bool(found) and found[0].read_text() == "-1")

    run(test)
