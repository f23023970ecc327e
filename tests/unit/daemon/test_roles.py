# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each session carries: from a machine's sysfs and /proc to roles, and when it is looked again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from iscsiboot.daemon import roles as watch
from iscsiboot.daemon.roles import RoleWatch, Tables, find_roles, roles_from
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.values import Role
from iscsiboot.session.workers import Ended, Job
from iscsiboot.sysfs.uevent import Uevent, UeventsLost
from tests.doubles.sysfs_tree import SysfsTree
from tests.doubles.virtual_time import VirtualLoop, run_virtually


class Machine:
    """Two sessions: root on the first one's disk, data on the second's."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.proc, self.run = root / "sys", root / "proc", root / "run"
        self.tree = SysfsTree(self.sysfs)
        for sid, disk in ((1, "sda"), (2, "sdb")):
            self.tree.add_session(sid)
            unit = self.tree.add_unit(sid, 1, block=disk)
            (unit / "block" / disk / "dev").write_text(f"8:{16 * (sid - 1)}\n")
        for process in ("self", "1"):
            (self.proc / process).mkdir(parents=True)
        self.mounts("8:0 / / ", "8:16 / /srv/data ")
        (self.proc / "swaps").write_text("Filename Type Size Used Priority\n")

    def mounts(self, *lines: str) -> None:
        text = "".join(f"{number} 1 {line}rw - ext4 none rw\n" for number, line in enumerate(lines, 20))
        for process in ("self", "1"):
            (self.proc / process / "mountinfo").write_text(text)

    def roles(self) -> dict[int, Role]:
        return roles_from(find_roles(str(self.sysfs), str(self.proc), str(self.run)))

    def multipath(self, *paths: str) -> None:
        """A multipath device above these disks, root on it."""
        device = self.sysfs / "devices" / "virtual" / "block" / "dm-0"
        (device / "slaves").mkdir(parents=True)
        (device / "dm").mkdir()
        (device / "dm" / "uuid").write_text("mpath-36001405\n")
        (device / "dev").write_text("253:0\n")
        for path in paths:
            (device / "slaves" / path).symlink_to(self.sysfs / "class" / "block" / path)
        (self.sysfs / "class" / "block" / "dm-0").symlink_to(device)
        self.mounts("253:0 / / ")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_root_and_data(machine: Machine) -> None:
    roles = machine.roles()
    assert roles[1].waits_for_ever
    assert roles[1].carries == ("/",)
    assert roles[1].system == ("sda is mounted on /",)
    assert roles[2] == Role()


def test_multipath_that_appears_changes_the_role(machine: Machine) -> None:
    machine.multipath("sda", "sdb")
    roles = machine.roles()
    assert [roles[sid].multipath for sid in (1, 2)] == [True, True]
    assert [bool(roles[sid].system) for sid in (1, 2)] == [True, True]
    assert not any(role.waits_for_ever for role in roles.values())


def test_multipath_with_one_path_left_waits_for_ever(machine: Machine) -> None:
    machine.multipath("sda")
    assert machine.roles()[1].waits_for_ever


def test_a_machine_without_sessions_is_not_looked_at(tmp_path: Path) -> None:
    assert find_roles(str(tmp_path), str(tmp_path), str(tmp_path)) == {"roles": {}}


class Watched:
    """A watch with hands that count, and what it says."""

    def __init__(self, machine: Machine) -> None:
        self.looks: list[float] = []
        self.problem = ""
        self.roles: list[Mapping[int, Role]] = []
        self.lines: list[tuple[Level, str]] = []
        self.watch = RoleWatch(
            sysfs=str(machine.sysfs),
            proc=str(machine.proc),
            run=str(machine.run),
            hands=self,
            log=lambda level, text: self.lines.append((level, text)),
            set_roles=self.roles.append,
        )

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        self.looks.append(asyncio.get_running_loop().time() - 1000)
        assert seconds == watch.LOOK_SECONDS
        return Ended(answer=None, problem=self.problem) if self.problem else Ended(answer=job())


def block(action: str = "change") -> Uevent:
    return Uevent(action, "/devices/virtual/block/dm-0", "block", {})


def test_the_start_knows_the_roles(machine: Machine) -> None:
    watched = Watched(machine)

    async def main() -> None:
        await watched.watch.start()
        assert watched.roles[0][1].waits_for_ever
        watched.watch.close()

    run_virtually(main())


@pytest.mark.parametrize("event", [block("add"), block("remove"), block(), UeventsLost()])
def test_a_block_device_that_changes_is_a_reason(machine: Machine, event: Uevent | UeventsLost) -> None:
    watched = Watched(machine)

    async def main() -> None:
        await watched.watch.start()
        machine.multipath("sda", "sdb")
        watched.watch.uevent(event)
        watched.watch.uevent(event)
        await asyncio.sleep(1)
        assert len(watched.roles) == 2
        assert watched.roles[1][1].multipath
        watched.watch.close()

    run_virtually(main())


def test_sessions_are_a_reason_and_other_things_are_not(machine: Machine) -> None:
    watched = Watched(machine)

    async def main() -> None:
        await watched.watch.start()
        watched.watch.uevent(Uevent("add", "/devices/x", "net", {}))
        await asyncio.sleep(10)
        assert len(watched.looks) == 1
        watched.watch.sessions_changed()
        await asyncio.sleep(10)
        assert len(watched.looks) == 2
        watched.watch.close()

    run_virtually(main())


def test_at_rest_it_sleeps(machine: Machine) -> None:
    watched = Watched(machine)

    async def main() -> None:
        await watched.watch.start()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        turns, jumps = loop.turns, loop.jumps
        await asyncio.sleep(10_000)
        assert loop.jumps == jumps + 1
        assert loop.turns <= turns + 4
        watched.watch.close()

    run_virtually(main())
    assert len(watched.looks) == 1


def test_a_look_that_fails_leaves_the_roles_and_is_tried_again(machine: Machine) -> None:
    watched = Watched(machine)

    async def main() -> None:
        await watched.watch.start()
        watched.problem = "it was not done after 30 s"
        watched.watch.sessions_changed()
        await asyncio.sleep(200)
        assert len(watched.roles) == 1
        assert len(watched.lines) == 1
        assert "roles stay as they are" in watched.lines[0][1]
        assert 3 <= len(watched.looks) <= 5
        watched.problem = ""
        await asyncio.sleep(100)
        assert len(watched.roles) == 2
        watched.problem = "again"
        watched.watch.sessions_changed()
        await asyncio.sleep(5)
        assert len(watched.lines) == 2
        watched.watch.close()

    run_virtually(main())


def test_closed_it_looks_no_more(machine: Machine) -> None:
    watched = Watched(machine)

    async def main() -> None:
        await watched.watch.start()
        watched.watch.sessions_changed()
        watched.watch.close()
        watched.watch.close()
        await asyncio.sleep(100)
        assert len(watched.looks) == 1

    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir()))
    run_virtually(main())
    assert len(list(folder.iterdir())) == before


def test_tables_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    tables = Tables(str(tmp_path))
    tables.take()
    tables.close()


def test_the_tables_of_this_machine_are_quiet_at_rest() -> None:
    """They are always readable for themselves: a loop that waited for that would turn in a circle."""

    async def main() -> int:
        calls = 0
        tables = Tables("/proc")
        tables.take()

        def ready() -> None:
            nonlocal calls
            calls += 1
            tables.take()

        loop = asyncio.get_running_loop()
        loop.add_reader(tables.fileno(), ready)
        await asyncio.sleep(0.3)
        loop.remove_reader(tables.fileno())
        tables.close()
        return calls

    # Somebody may mount something at this very moment; a circle has thousands of turns.
    assert asyncio.run(main()) <= 20
