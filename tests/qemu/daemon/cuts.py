# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: the target is cut off while a daemon is there, while none is, and while one hands over to the next.

The running system stands on the session (/var), under load, so that it may never see an error and a guard has to be
there at every moment. What is measured begins when the target is back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial

from tests.qemu.daemon.bench import Bench, Seen, Trial, cut, system_on
from tests.qemu.daemon.daemons import end_guards, guards, ours
from tests.qemu.daemon.load import after, load
from tests.qemu.daemon.sessions import (
    OURS,
    disk_of,
    good,
    healthy,
    kernel_log,
    node,
    record,
    sessions,
    start_by_iscsistart,
    until,
)
from tests.qemu.daemon.storage import link

Cut = Callable[..., Seen]
"""Makes one cut; its keyword is that of :func:`.bench.cut`."""
Moment = Callable[[Cut], Seen]
OFF_SECONDS = 3.0
PINGS = 2
"""Seconds of both NOP times: without a carrier only they tell the kernel that the target is gone."""
NOBODY_SECONDS = 5.0
NEAR_SECONDS = 1.0
SEED = 6201


def ways(bench: Bench) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """How a target is cut off and comes back."""
    one = bench.one
    return {
        "gone": (one.close, one.open),
        "refusing": (one.refuse, one.open),
        "cable": (lambda: link(False), lambda: link(True)),
    }


def cuts(bench: Bench, *moments: Moment) -> Seen:
    """Each way at each moment, in the short form one way at each moment in turn, with one load over all of them."""
    seen: Seen = {"cuts": {}}
    every = list(ways(bench).items())
    with system_on("one") as place, load(place, seen):
        # The daemon looks at what is mounted no more often than a twentieth of its time allows, which here is seconds.
        seen["standby"] = until("a standby", lambda: bool(guards()))
        for number, moment in enumerate(moments):
            for way, (end, restore) in every if bench.long else [every[number % len(every)]]:
                name = f"{moment.__name__}: {way}"
                seconds = bench.seconds(OFF_SECONDS, 20.0)
                make = partial(cut, name, bench.one, seconds, end, restore)
                seen["cuts"][name] = moment(make)
    for said in seen["cuts"].values():
        said["resumed"] = after(seen["load"]["gaps"], said["restored"])
    return {**seen, "errors": kernel_log()}


def while_up_and_dead(bench: Bench) -> Seen:
    """The daemon runs; it is killed and its standby guards; the next one takes over in the middle of the cut."""
    record("one", pings=PINGS, recovery=5)
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("one", "-l"))
        disk_of("one")

        def up(make: Cut) -> Seen:
            return make()

        def dead(make: Cut) -> Seen:
            daemon.kill()
            said = make()
            said["guards"] = list(guards().values())
            daemon.start()
            return said

        def handed_over(make: Cut) -> Seen:
            daemon.kill()
            return make(meanwhile=daemon.start)

        def stopped(make: Cut) -> Seen:
            daemon.stop()
            said = make()
            said["guards"] = list(guards().values())
            daemon.start()
            return said

        seen = cuts(bench, up, dead, handed_over, stopped)
        seen["lines"] = daemon.lines()
    return seen


def killed_around(bench: Bench) -> Seen:
    """The daemon is killed just before or just after a cut, so that each falls anywhere into the other's work.

    Half the time the next daemon is there before the target is, else the standby heals alone.
    """
    record("one", pings=PINGS, recovery=5)
    chance, every = random.Random(SEED), list(ways(bench).items())
    with ours() as daemon:
        good(OURS + "iscsiadm", *node("one", "-l"))
        seen: Seen = {"cuts": {}}
        with system_on("one") as place, load(place, seen):
            seen["standby"] = until("a standby", lambda: bool(guards()))
            for number in range(bench.times(2, 40)):
                way, (end, restore) = every[number % len(every)]
                lead, early = chance.uniform(-NEAR_SECONDS, NEAR_SECONDS), number % 2 == 0

                def meanwhile(lag: float = max(0.0, -lead), next_one: bool = early) -> None:
                    if lag:
                        time.sleep(lag)
                        daemon.kill()
                    if next_one:
                        daemon.start()

                if lead >= 0.0:
                    daemon.kill()
                    time.sleep(lead)
                name = f"{number + 1}: {way}, killed {lead:+.2f} s before, {'the next one' if early else 'standby'}"
                seen["cuts"][name] = cut(name, bench.one, 0.0, end, restore, meanwhile=meanwhile)
                if not early:
                    daemon.start()
        for said in seen["cuts"].values():
            said["resumed"] = after(seen["load"]["gaps"], said["restored"])
        return {**seen, "errors": kernel_log(), "lines": daemon.lines()}


def before_the_first_daemon(bench: Bench) -> Seen:
    """What our iscsistart leaves behind guards alone, as between switch-root and the daemon; then it hands over."""
    start_by_iscsistart(OURS, "one", "--keeper")
    seen: Seen = {"guards before": list(guards().values())}
    # The initramfs knows nothing of this record's times: the pings are the session's own defaults.

    def alone(make: Cut) -> Seen:
        return make()

    seen |= cuts(bench, alone)
    with ours() as daemon:
        until("the end of the keeper", lambda: len(guards()) <= 1)
        seen |= {"guards after": list(guards().values()), "lines": daemon.lines()}
    return seen


def nobody(bench: Bench) -> Seen:
    """The control: with no guard of any kind the same cut is not healed, until a daemon comes."""
    record("one", pings=PINGS)
    good(OURS + "iscsiadm", *node("one", "-l"))
    end_guards()
    before = bench.one.logins()
    bench.one.close()
    until("the break", lambda: healthy() == 0)
    bench.one.open()
    time.sleep(NOBODY_SECONDS)
    seen: Seen = {"alone": sessions(), "logins alone": bench.one.logins() - before}
    with ours():
        seen["healed"] = until("the session", lambda: healthy() == 1)
        seen |= {"logins": bench.one.logins() - before, "after": sessions()}
    return seen


TRIALS: tuple[Trial, ...] = (while_up_and_dead, killed_around, before_the_first_daemon, nobody)
