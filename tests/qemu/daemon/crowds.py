# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: many sessions at once, adopted, cut off for long, recovered together."""

from __future__ import annotations

import time
from pathlib import Path

from tests.qemu.admin.agent import note
from tests.qemu.daemon.bench import Bench, Seen, Trial
from tests.qemu.daemon.daemons import Daemon, end_guards, ours
from tests.qemu.daemon.load import content
from tests.qemu.daemon.sessions import (
    CLASS,
    OURS,
    TrialFailed,
    broken,
    good,
    healthy,
    identity,
    kernel_log,
    record_crowd,
    sessions,
    until,
)
from tests.qemu.daemon.storage import Target, command, logins

PINGS = 60
"""Rare, so that the figures are the daemon's and not those of hundreds of pings in an emulated machine."""
MANY_SECONDS = 120.0


def log_in(targets: list[Target]) -> Seen:
    """A record for each and all of them logged in at once; there may be a daemon or none."""
    record_crowd(pings=PINGS)
    done = good(OURS + "iscsiadm", "-m", "node", "-L", "all")
    until("every session", lambda: healthy() == len(targets), MANY_SECONDS)
    return {"seconds": done["seconds"]}


def readable() -> int:
    """Disks whose first block can be read past the cache right now."""
    count = 0
    for path in CLASS.glob("session*/device/target*/*/block/*"):
        with Path("/dev", path.name).open("rb") as disk:
            count += len(disk.read(len(content(0, 0)))) == len(content(0, 0))
    return count


def returned(targets: list[Target], off: float, daemon: Daemon) -> Seen:
    """All targets away for so many seconds and back; how long until every session is whole again."""
    before = logins(targets)
    for target in targets:
        target.close()
    until("every break", lambda: healthy() == 0, MANY_SECONDS)
    time.sleep(off)
    began = time.monotonic()
    for target in targets:
        target.open()
    opened = time.monotonic()
    try:
        spent = until("every session", lambda: healthy() == len(targets), MANY_SECONDS)
    except TrialFailed as failure:
        raise TrialFailed(f"{failure}; the daemon: {daemon.where()}") from failure
    note(f"{len(targets)} sessions back in {spent:.1f} s; it took {opened - began:.1f} s to open their targets")
    return {"opened": round(opened - began, 2), "healed": spent, "logins": logins(targets) - before}


def outage(bench: Bench) -> Seen:
    """Dozens of sessions lose their targets for long; each is asked for again and again, and nobody says much of it."""
    targets = bench.crowd(bench.times(12, 32))
    with ours() as daemon:
        seen: Seen = {"sessions": len(targets), "login": log_in(targets)}
        before, lines = identity(), len(daemon.lines())
        seen["return"] = returned(targets, bench.seconds(8.0, 600.0), daemon)
        seen |= {"identity": [before, identity()], "readable": readable(), "errors": kernel_log()}
        return {**seen, "lines": daemon.lines()[lines:], "memory": daemon.status()}


def adopted(bench: Bench) -> Seen:
    """Hundreds of sessions that were there before the daemon: adopted with no login, then recovered all at once."""
    targets = bench.crowd(bench.times(12, 200))
    with ours():
        seen: Seen = {"sessions": len(targets), "login": log_in(targets)}
    command("rm", "-rf", "/run/iscsiboot/sessions")  # a daemon that knows nothing but records and sysfs
    before, logged_in = identity(), logins(targets)
    with ours() as daemon:
        seen |= {"start": daemon.starts[0], "logins": logins(targets) - logged_in}
        seen["memory"] = daemon.status()
        daemon.kill()
        daemon.start()
        seen |= {"again": daemon.starts[1], "logins again": logins(targets) - logged_in}
        seen["return"] = returned(targets, bench.seconds(2.0, 30.0), daemon)
        seen |= {"identity": [before, identity()], "readable": readable(), "broken": broken()}
        return {**seen, "lines": daemon.lines(), "memory after": daemon.status()}


def found_down(bench: Bench) -> Seen:
    """Sessions that broke while nobody guarded: a daemon that starts recovers all at once, by one login each."""
    targets = bench.crowd(bench.times(8, 100))
    with ours():
        log_in(targets)
    before = logins(targets)
    for target in targets:
        target.close()
    until("every break", lambda: healthy() == 0, MANY_SECONDS)
    for target in targets:
        target.open()
    daemon = Daemon()
    daemon.log.unlink(missing_ok=True)
    began = time.monotonic()
    daemon.start()
    until("every session", lambda: healthy() == len(targets), MANY_SECONDS)
    seen: Seen = {"sessions": len(targets), "spent": round(time.monotonic() - began, 2), "start": daemon.starts[0]}
    seen |= {"logins": logins(targets) - before, "after": sessions(), "lines": daemon.lines()}
    daemon.stop()
    end_guards()
    return seen


TRIALS: tuple[Trial, ...] = (outage, adopted, found_down)
