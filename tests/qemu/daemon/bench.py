# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: what every trial is given, and the pieces several of them are made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.qemu.admin.agent import note
from tests.qemu.daemon.control import login_seconds
from tests.qemu.daemon.load import BLOCK, BLOCKS
from tests.qemu.daemon.sessions import disk_of, healthy, until
from tests.qemu.daemon.storage import Disk, Target, command

Seen = dict[str, Any]
LOAD = "/var/load"
FLOWING_SECONDS = 0.5
"""Writes go on this long after a session is whole again, so that the end of the gap is in the load's record."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The storage machine and how much time there is."""

    long: bool
    one: Target
    two: Target
    chap: Target
    left: Target
    right: Target
    """Two that show one disk."""
    crowd_disk: Disk
    made: list[Target] = field(default_factory=list)
    """The crowd so far; a target is there for the rest of the run, closed when its trial is over."""

    def times(self, short: int, long: int) -> int:
        """How often something is done."""
        return long if self.long else short

    def seconds(self, short: float, long: float) -> float:
        """How long something lasts."""
        return long if self.long else short

    def crowd(self, number: int) -> list[Target]:
        """So many open targets more, which show one disk."""
        while len(self.made) < number:
            self.made.append(Target(f"crowd-{len(self.made) + 1}", self.crowd_disk))
        for target in self.made[:number]:
            target.open()
        return self.made[:number]

    def reset(self) -> None:
        """The crowd is closed, every other target open, whatever a trial left."""
        for target in self.made:
            target.close()
        for target in (self.one, self.two, self.chap, self.left, self.right):
            target.open()


Trial = Callable[[Bench], Seen]


@contextmanager
def system_on(name: str) -> Iterator[str]:
    """The running system stands on this target's disk. The file for the load is given."""
    with mounted(disk_of(name)) as place:
        yield place


@contextmanager
def mounted(disk: str) -> Iterator[str]:
    """The running system stands on this disk: it is mounted on /var. The file for the load is given."""
    command("mke2fs", "-q", "-F", "-t", "ext4", disk)
    command("mount", disk, "/var")
    try:
        Path(LOAD).write_bytes(bytes(BLOCK * BLOCKS))
        command("sync")
        yield LOAD
    finally:
        command("umount", "-l", "/var")


def cut(
    name: str,
    target: Target,
    seconds: float,
    end: Callable[[], None],
    restore: Callable[[], None],
    *,
    meanwhile: Callable[[], None] | None = None,
) -> Seen:
    """A cut of so many seconds: when it was over, how long the session took from there, and by how many logins.

    ``control`` is what a login by hand takes on this machine just after. ``meanwhile`` happens as soon as it is cut.
    The session has to break of it: a cut nobody noticed shows nothing.
    """
    before, there = target.logins(), healthy()
    end()
    began = time.monotonic()
    if meanwhile is not None:
        meanwhile()
    until(f"{name}: the break", lambda: healthy() < there)
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    restore()
    restored = time.monotonic()
    spent = until(f"{name}: the session", lambda: healthy() == there and target.logins() > before)
    control = login_seconds()
    time.sleep(FLOWING_SECONDS)
    note(f"{name}: off {restored - began:.1f} s, healed {spent:.2f} s after; a login by hand takes {control:.2f} s")
    said = {"restored": restored, "off": restored - began, "healed": spent, "control": control}
    return {**said, "logins": target.logins() - before}
