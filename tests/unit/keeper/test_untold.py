# SPDX-License-Identifier: LGPL-2.1-or-later
"""Roles nobody told: the system's, and a path of a multipath device as soon as there is one."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

import pytest

from iscsiboot.keeper.log import Level
from iscsiboot.keeper.untold import UNTOLD, Untold
from iscsiboot.keeper.values import Role
from iscsiboot.sysfs.uevent import Uevent, UeventsLost, UeventSocket
from tests.doubles.sysfs_tree import SysfsTree
from tests.doubles.virtual_time import run_virtually, virtual_loop

PATH = Role(system=UNTOLD.system, multipath=True)


class Machine:
    """Two sessions with a disk each, and somebody who announces."""

    def __init__(self, root: Path) -> None:
        self.tree = SysfsTree(root)
        for sid, disk in ((1, "sda"), (2, "sdb")):
            self.tree.add_session(sid)
            self.tree.add_unit(sid, 0, block=disk)
        self.told: list[dict[int, Role]] = []
        self.lines: list[str] = []
        self.kernel, self.ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def set_roles(self, roles: Mapping[int, Role]) -> None:
        self.told.append(dict(roles))

    def log(self, _: Level, text: str) -> None:
        self.lines.append(text)

    def untold(self, *sids: int, opener: Callable[[], UeventSocket] | None = None) -> Untold:
        return Untold(
            self.tree.root,
            frozenset(sids),
            set_roles=self.set_roles,
            log=self.log,
            open_uevents=opener or (lambda: UeventSocket(self.ours)),
        )

    def map(self, *disks: str, uuid: str = "mpath-3600", name: str = "dm-0") -> None:
        """What multipathd has device mapper make."""
        base = self.tree.root / "devices" / "virtual" / "block" / name
        (base / "dm").mkdir(parents=True, exist_ok=True)
        (base / "dm" / "uuid").write_text(uuid + "\n")
        (base / "slaves").mkdir(exist_ok=True)
        for disk in disks:
            (base / "slaves" / disk).symlink_to(os.fspath(self.tree.root / "class" / "block" / disk))
        (self.tree.root / "class" / "block" / name).symlink_to(base)

    def announce(
        self, path: str = "/devices/virtual/block/dm-0", subsystem: str = "block", action: str = "change"
    ) -> None:
        words = (f"{action}@{path}", f"ACTION={action}", f"SUBSYSTEM={subsystem}", "DEVTYPE=disk")
        self.kernel.send("".join(f"{word}\0" for word in words).encode())


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Callable[[Machine], Coroutine[None, None, None]]], None]:
    def play(test: Callable[[Machine], Coroutine[None, None, None]]) -> None:
        machine = Machine(tmp_path)
        try:
            run_virtually(test(machine))
        finally:
            machine.kernel.close()
            machine.ours.close()

    return play


Play = Callable[[Callable[[Machine], Coroutine[None, None, None]]], None]


def test_without_multipath_it_is_the_systems(play: Play) -> None:
    async def test(machine: Machine) -> None:
        untold = machine.untold(1, 2)
        assert machine.told == [{1: UNTOLD, 2: UNTOLD}]
        assert UNTOLD.waits_for_ever
        untold.close()

    play(test)


def test_a_path_that_is_there_from_the_beginning(play: Play) -> None:
    async def test(machine: Machine) -> None:
        machine.map("sda", "sdb")
        untold = machine.untold(1, 2)
        assert machine.told == [{1: PATH, 2: PATH}]
        assert not PATH.waits_for_ever
        untold.close()

    play(test)


def test_a_multipath_device_that_appears_is_heard_of_once(play: Play) -> None:
    async def test(machine: Machine) -> None:
        untold = machine.untold(1, 2)
        machine.map("sda", "sdb")
        for _ in range(5):
            machine.announce()
        await asyncio.sleep(2)
        assert machine.told[1:] == [{1: PATH, 2: PATH}]
        (machine.tree.root / "class" / "block" / "dm-0").unlink()
        machine.announce()
        await asyncio.sleep(2)
        assert machine.told[2:] == [{1: UNTOLD, 2: UNTOLD}]
        untold.close()

    play(test)


def test_what_changes_nothing_is_not_told(play: Play) -> None:
    async def test(machine: Machine) -> None:
        untold = machine.untold(1)
        machine.announce()
        await asyncio.sleep(2)
        assert len(machine.told) == 1
        untold.close()

    play(test)


def test_a_new_disk_is_a_reason_to_tell_it_again(play: Play) -> None:
    """Who guards the session has it wait for ever, as the others."""

    async def test(machine: Machine) -> None:
        untold = machine.untold(1)
        for _ in range(3):
            machine.announce("/devices/platform/host2/block/sdq", action="add")
        await asyncio.sleep(2)
        assert machine.told == [{1: UNTOLD}] * 2
        machine.announce()
        await asyncio.sleep(2)
        assert len(machine.told) == 2
        untold.close()

    play(test)


@pytest.mark.parametrize(
    ("path", "subsystem"), [("/devices/virtual/net/dm-0", "net"), ("/devices/platform/host2/block/sda", "block")]
)
def test_other_announcements_are_not_worth_a_look(play: Play, path: str, subsystem: str) -> None:
    async def test(machine: Machine) -> None:
        untold = machine.untold(1, 2)
        machine.map("sda", "sdb")
        jumps = virtual_loop().jumps
        machine.announce(path, subsystem)
        machine.kernel.send(b"garbage")
        await asyncio.sleep(0)
        await asyncio.sleep(5)
        assert len(machine.told) == 1
        assert virtual_loop().jumps == jumps + 1, "no timer but this test's"
        untold.close()

    play(test)


def test_one_path_alone_is_none(play: Play) -> None:
    async def test(machine: Machine) -> None:
        machine.map("sda")
        untold = machine.untold(1)
        assert machine.told == [{1: UNTOLD}]
        untold.close()

    play(test)


def test_every_disk_of_the_session_has_to_have_another_path(play: Play) -> None:
    async def test(machine: Machine) -> None:
        machine.tree.add_unit(1, 1, block="sdc")
        machine.map("sda", "sdb")
        untold = machine.untold(1, 2)
        assert machine.told == [{1: UNTOLD, 2: PATH}]
        untold.close()

    play(test)


def test_a_device_mapper_device_of_another_kind(play: Play) -> None:
    async def test(machine: Machine) -> None:
        machine.map("sda", "sdb", uuid="LVM-abc")
        untold = machine.untold(1)
        assert machine.told == [{1: UNTOLD}]
        untold.close()

    play(test)


def test_a_kernel_that_announces_nothing_is_looked_at_once(play: Play) -> None:
    async def test(machine: Machine) -> None:
        machine.map("sda", "sdb")

        def refuse() -> UeventSocket:
            raise PermissionError(1, "Operation not permitted")

        untold = machine.untold(1, opener=refuse)
        assert machine.told == [{1: PATH}]
        assert machine.lines == ["changes of multipath devices are not heard of: Operation not permitted"]
        untold.close()
        untold.close()

    play(test)


def test_a_socket_that_fails_is_given_up(play: Play) -> None:
    async def test(machine: Machine) -> None:
        class Failing(UeventSocket):
            def read(self) -> list[Uevent | UeventsLost]:
                raise OSError(12, "Cannot allocate memory")

        untold = machine.untold(1, opener=lambda: Failing(machine.ours))
        machine.announce()
        await asyncio.sleep(1)
        assert machine.ours.fileno() == -1, "or the loop would come back to it for ever"
        untold.close()

    play(test)


def test_a_look_that_is_due_at_the_end_is_not_made(play: Play) -> None:
    async def test(machine: Machine) -> None:
        untold = machine.untold(1, 2)
        machine.map("sda", "sdb")
        machine.announce()
        await asyncio.sleep(0.1)
        untold.close()
        await asyncio.sleep(2)
        assert len(machine.told) == 1

    play(test)
