# SPDX-License-Identifier: LGPL-2.1-or-later
"""One socket, many listeners; without the socket, one line and nothing else."""

from __future__ import annotations

import asyncio
import errno
import socket

from iscsiboot.daemon.uevents import Uevents
from iscsiboot.keeper.log import Level
from iscsiboot.sysfs.uevent import Uevent, UeventsLost, UeventSocket

DATAGRAM = b"change@/devices/x\0SUBSYSTEM=block\0"


class Kernel(UeventSocket):
    """Datagrams of a socketpair, whose sender has no port id to look at; ``fault`` is raised by a read."""

    fault: OSError | None = None

    def read(self) -> list[Uevent | UeventsLost]:
        if self.fault is not None:
            raise self.fault
        return super().read()


def pair() -> tuple[Kernel, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return Kernel(ours), theirs


class Lines(list[str]):
    def __call__(self, level: Level, text: str) -> None:
        self.append(f"{level.name}: {text}")


def test_everybody_hears_everything() -> None:
    first: list[Uevent | UeventsLost] = []
    second: list[Uevent | UeventsLost] = []
    lines = Lines()

    async def main() -> None:
        ours, theirs = pair()
        uevents = Uevents(lines, first.append, second.append, open_socket=lambda: ours)
        uevents.attach(asyncio.get_running_loop())
        for _ in range(3):
            theirs.send(DATAGRAM)
        await asyncio.sleep(0.05)
        uevents.close()
        uevents.close()
        theirs.close()

    asyncio.run(main())
    assert [event.path for event in first if isinstance(event, Uevent)] == ["/devices/x"] * 3
    assert first == second
    assert not lines


def test_a_container_without_the_socket_says_so_once() -> None:
    lines = Lines()

    def refuse() -> UeventSocket:
        raise OSError(errno.EPERM, "Operation not permitted")

    async def main() -> None:
        uevents = Uevents(lines, open_socket=refuse)
        uevents.attach(asyncio.get_running_loop())
        uevents.close()

    asyncio.run(main())
    assert len(lines) == 1
    assert lines[0].startswith("WARNING: the kernel's announcements cannot be heard: Operation not permitted")


def test_a_socket_that_fails_is_given_up_and_not_asked_in_a_circle() -> None:
    lines = Lines()

    async def main() -> None:
        ours, theirs = pair()
        ours.fault = OSError(errno.EBADF, "Bad file descriptor")
        uevents = Uevents(lines, open_socket=lambda: ours)
        uevents.attach(asyncio.get_running_loop())
        theirs.send(DATAGRAM)
        await asyncio.sleep(0.05)
        theirs.close()

    asyncio.run(main())
    assert lines == ["WARNING: the kernel's announcements are not heard any more: Bad file descriptor"]
