# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: a target that comes and goes at random moments, a bad network, changed secrets. Data is verified."""

from __future__ import annotations

import os
import random
import signal
import time

from tests.qemu.daemon.bench import Bench, Seen, Trial, cut, system_on
from tests.qemu.daemon.control import login_seconds
from tests.qemu.daemon.daemons import Daemon, ours
from tests.qemu.daemon.load import after, load
from tests.qemu.daemon.sessions import (
    OURS,
    disk_of,
    disks_of,
    good,
    healthy,
    identity,
    kernel_log,
    node,
    record,
    tool,
    until,
)
from tests.qemu.daemon.storage import OTHER_SECRET, SECRET, cable_out, losing

SEED = 3720
LONGEST_SECONDS = 4.0
"""Between two restarts, and of one; each is drawn between nothing and this."""
FLAP_SECONDS = 1.0
DENIED_SECONDS = 4.0
"""A target that refuses a secret is asked again after at most thirty seconds; for this long it refuses here."""
PINGS = 2


def kept(daemon: Daemon, seen: Seen, before: dict[str, str]) -> Seen:
    """What has to be as it was after all of it: the same sessions with the same disks, no error, few lines."""
    until("every session", lambda: healthy() == len(before))
    return {**seen, "identity": [before, identity()], "errors": kernel_log(), "lines": daemon.lines()}


def restarts(bench: Bench) -> Seen:
    """The target ends and starts at random moments, the system on it and under load."""
    chance, times = random.Random(SEED), bench.times(3, 50)
    record("one", pings=PINGS)
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("one", "-l"))
        seen: Seen = {"times": times, "healed": [], "off": [], "control": []}
        with system_on("one") as place:
            before, restored = identity(), []
            with load(place, seen):
                for number in range(times):
                    time.sleep(chance.uniform(0.0, LONGEST_SECONDS))
                    name, off = f"restart {number + 1}", chance.uniform(0.0, LONGEST_SECONDS)
                    said = cut(name, bench.one, off, bench.one.close, bench.one.open)
                    restored.append(said["restored"])
                    seen["healed"].append(said["healed"])
                    seen["off"].append(round(said["off"], 1))
                    seen["control"].append(said["control"])
            seen["resumed"] = [after(seen["load"]["gaps"], moment) for moment in restored]
            return kept(daemon, seen, before)


def flapping(bench: Bench) -> Seen:
    """The link goes and comes again and again, also faster than anybody notices; then packets get lost."""
    record("one", pings=PINGS)
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("one", "-l"))
        seen: Seen = {"logins": bench.one.logins()}
        with system_on("one") as place:
            before = identity()
            with load(place, seen):
                for _ in range(bench.times(3, 50)):
                    with cable_out():
                        time.sleep(FLAP_SECONDS)
                    time.sleep(FLAP_SECONDS)
                with losing(20):
                    time.sleep(bench.seconds(5.0, 120.0))
                with losing(100):
                    until("the break", lambda: healthy() == 0)
                    time.sleep(bench.seconds(2.0, 25.0))
                # Only now: two runs of tc are half a second there.
                dark = time.monotonic()
                seen["healed"] = until("the session", lambda: healthy() == 1)
                seen["control"] = login_seconds()
                time.sleep(1.0)
                seen["breaks"] = bench.one.logins() - seen["logins"]
            seen["resumed"] = after(seen["load"]["gaps"], dark)
            return kept(daemon, seen, before)


def port_closed(bench: Bench) -> Seen:
    """The connection breaks when nobody listens any more; later somebody does."""
    record("one", pings=PINGS)
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("one", "-l"))
        seen: Seen = {}
        with system_on("one") as place:
            before = identity()
            with load(place, seen):
                bench.one.close_port()
                seen["cut"] = cut("port", bench.one, 3.0, bench.one.close, bench.one.open)
            seen["resumed"] = after(seen["load"]["gaps"], seen["cut"]["restored"])
            return kept(daemon, seen, before)


def secrets(bench: Bench) -> Seen:
    """The target's secret changes while it is away, and back again; then for good, and the record follows."""
    record("chap", secret=SECRET, pings=PINGS)
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("chap", "-l"))
        seen: Seen = {}
        with load(disk_of("chap"), seen):
            before = identity()
            bench.chap.close()
            bench.chap.take(OTHER_SECRET)
            bench.chap.open()
            time.sleep(DENIED_SECONDS)
            seen["denied"] = {"healthy": healthy(), "lines": daemon.lines()}
            bench.chap.take(SECRET)
            seen["back"] = until("the session with its old secret", lambda: healthy() == 1)
            bench.chap.close()
            bench.chap.take(OTHER_SECRET)
            bench.chap.open()
            time.sleep(DENIED_SECONDS)
            update = node("chap", "-o", "update", "-n", "node.session.auth.password", "-v", OTHER_SECRET)
            seen["update"] = tool(OURS + "iscsiadm", *update)["status"]
            os.kill(daemon.pid, signal.SIGHUP)
            seen["new"] = until("the session with its new secret", lambda: healthy() == 1)
            time.sleep(1.0)
        bench.chap.take(SECRET)
        return kept(daemon, seen, before)


def new_unit(bench: Bench) -> Seen:
    """The target gets one disk more and says so by a unit attention: it is there without anybody's rescan.

    What the daemon looks like from outside is seen on the way: it may not wait for the disks it guards.
    """
    record("one")
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("one", "-l"))
        seen: Seen = {"outside": daemon.outside()}
        with load(disk_of("one"), seen):
            bench.one.add_unit(bench.crowd_disk)
            try:
                seen["there"] = until("the new disk", lambda: len(disks_of("one")) > 1)
            finally:
                bench.one.drop_unit()
        return {**seen, "lines": daemon.lines()}


TRIALS: tuple[Trial, ...] = (restarts, flapping, port_closed, secrets, new_unit)
