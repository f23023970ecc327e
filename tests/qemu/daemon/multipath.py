# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: two sessions that show one disk, and a multipath device on them, made as multipathd would make it.

By dmsetup, so that nothing of multipathd's own, which also writes ``recovery_tmo``, can be taken for the daemon's work.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.qemu.daemon.bench import Bench, Seen, Trial, mounted
from tests.qemu.daemon.daemons import ours
from tests.qemu.daemon.hostile import ask
from tests.qemu.daemon.load import load
from tests.qemu.daemon.sessions import (
    CLASS,
    OURS,
    TrialFailed,
    disk_of,
    good,
    healthy,
    identity,
    kernel_log,
    node,
    number_of,
    record,
    text_of,
    until,
)
from tests.qemu.daemon.storage import command

PATHS = ("left", "right")
MAP = "mpath-of-the-trial"
UUID = "mpath-36001405deadbeef000000000000000000"
BLOCK_CLASS = Path("/sys/class/block")
RECOVERY = 97
"""Seconds the records ask for; a figure nobody else would come to."""
FAST, FOR_EVER = "5", "off"
"""``recovery_tmo`` of a path with another beside it, and of the system's only one."""
SYSTEM_ON_MAP = "/var, multipath"
FLOWING_SECONDS = 1.0


def recoveries() -> dict[str, str]:
    """The live ``recovery_tmo`` of each path."""
    return {name: text_of(CLASS / f"session{number_of(name)}/recovery_tmo") for name in PATHS}


def told_roles() -> dict[str, str]:
    """The role of each path as the daemon tells it."""
    sessions = {str(session["sid"]): session["role"] for session in ask(do="status")["result"]["sessions"]}
    return {name: sessions[number_of(name)] for name in PATHS}


def number_of_disk(disk: str) -> str:
    """MAJOR:MINOR."""
    return text_of(BLOCK_CLASS / Path(disk).name / "dev")


def table(disks: Sequence[str]) -> str:
    """One group of paths, in turn; without a path left an error is one (no ``queue_if_no_path``)."""
    sectors = text_of(BLOCK_CLASS / Path(disks[0]).name / "size")
    paths = " ".join(f"{number_of_disk(disk)} 1" for disk in disks)
    return f"0 {sectors} multipath 0 0 1 1 round-robin 0 {len(disks)} 1 {paths}"


@contextmanager
def mapped(disks: Sequence[str]) -> Iterator[str]:
    """A multipath device on these disks for the time of the block: its name in /dev."""
    command("dmsetup", "create", MAP, "--uuid", UUID, "--noudevrules", "--noudevsync", "--table", table(disks))
    try:
        found = [path.name for path in BLOCK_CLASS.glob("dm-*") if text_of(path / "dm/uuid") == UUID]
        yield f"/dev/{found[0]}"
    finally:
        command("dmsetup", "remove", "--noudevrules", "--noudevsync", "--retry", MAP)


def failed_paths() -> int:
    """Paths device mapper goes on without."""
    return command("dmsetup", "status", MAP).split().count("F")


def reach(seen: Seen, step: str, **wanted: str) -> None:
    """Wait until the kernel's ``recovery_tmo`` is this, path by path; how long it took and what the daemon tells."""
    try:
        took = until(step, lambda: recoveries() == wanted)
    except TrialFailed as failure:
        raise TrialFailed(f"{failure}; {recoveries()}, {told_roles()}") from failure
    seen[step] = {"took": took, "roles": told_roles()}


def failover(bench: Bench, seen: Seen) -> None:
    """One path dies and comes back: how long until device mapper went on without it."""
    left = f"reinstate_path {number_of_disk(disk_of('left'))}"
    time.sleep(FLOWING_SECONDS)
    bench.left.close()
    seen["failed over"] = until("the fail-over", lambda: failed_paths() == 1)
    time.sleep(FLOWING_SECONDS)
    bench.left.open()
    seen["healed"] = until("both paths", lambda: healthy() == len(PATHS))
    command("dmsetup", "message", MAP, "0", left)
    time.sleep(FLOWING_SECONDS)
    seen["failed at last"] = failed_paths()


def multipath(bench: Bench) -> Seen:
    """A map on two paths, the system on it, a path that dies, a map with one path, no map: roles and their timers."""
    record(*PATHS, recovery=RECOVERY)
    alone = dict.fromkeys(PATHS, str(RECOVERY))
    with ours() as daemon:
        for name in PATHS:
            good(OURS + "iscsiadm", *node(name, "-l"))
        disks = [disk_of(name) for name in PATHS]
        seen: Seen = {}
        before = identity()
        reach(seen, "no map", **alone)
        with mapped(disks) as device:
            reach(seen, "a map", **dict.fromkeys(PATHS, FAST))
            with mounted(device) as place:
                with load(place, seen):
                    took = until("the system on a map", lambda: set(told_roles().values()) == {SYSTEM_ON_MAP})
                    seen["the system on a map"] = {"took": took, "recoveries": recoveries()}
                    failover(bench, seen)
                command("dmsetup", "reload", MAP, "--table", table(disks[1:]))
                command("dmsetup", "resume", "--noudevrules", "--noudevsync", MAP)
                reach(seen, "the system on one path", left=str(RECOVERY), right=FOR_EVER)
        reach(seen, "no map any more", **alone)
        return {**seen, "identity": [before, identity()], "errors": kernel_log(), "lines": daemon.lines()}


TRIALS: tuple[Trial, ...] = (multipath,)
