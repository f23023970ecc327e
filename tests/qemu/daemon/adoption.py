# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: sessions of every origin pass to our daemon, and ours to the peer's. LIO's counter is the judge."""

from __future__ import annotations

import time
from collections.abc import Collection

from tests.qemu.daemon.bench import Bench, Seen, Trial
from tests.qemu.daemon.control import start_something
from tests.qemu.daemon.daemons import Daemon, end_guards, guards, ours, peer
from tests.qemu.daemon.load import Load, load
from tests.qemu.daemon.sessions import (
    OURS,
    PEER,
    disk_of,
    good,
    healthy,
    identity,
    node,
    record,
    sessions,
    start_by_iscsistart,
    tool,
    until,
)
from tests.qemu.daemon.storage import SECRET, Target

CONTROLS = 5
UNDISTURBED_SECONDS = 1.0
"""Beside and between the starts of something that touches no session."""
SETTLE_SECONDS = 1.0
"""After "ready", for whatever a daemon might still do to a session."""


def taken_over(name: str, target: Target, times: int, *, guard: Collection[int] = ()) -> Seen:
    """Under load: our daemon starts, is killed, starts again; what the target saw of it, and how long writes stood.

    First the load goes on beside programs that start and do nothing: that is what its second phase is compared with.
    ``guard``: processes that guard the session so far and end once the first daemon is there.
    """
    seen: Seen = {"identity": identity(), "logins": target.logins()}
    daemon = Daemon()
    daemon.log.unlink(missing_ok=True)
    with load(disk_of(name), seen) as writes:
        for _ in range(min(times, CONTROLS)):
            start_something()
            time.sleep(UNDISTURBED_SECONDS)
        writes.mark()
        daemon.start()
        until("the end of the guard before", lambda: not set(guard) & set(guards()))
        for _ in range(times):
            time.sleep(SETTLE_SECONDS)
            daemon.kill()
            daemon.start()
        time.sleep(SETTLE_SECONDS)
        seen |= {"stop": daemon.stop(), "starts": daemon.starts}
    seen |= {"identity after": identity(), "logins after": target.logins(), "sessions": sessions()}
    end_guards()
    return {**seen, "lines": daemon.lines()}


def of_our_iscsiadm(bench: Bench) -> Seen:
    """Made by our iscsiadm without any daemon."""
    record("one")
    good(OURS + "iscsiadm", *node("one", "-l"))
    return taken_over("one", bench.one, bench.times(3, 100))


def of_our_daemon(bench: Bench) -> Seen:
    """Made by our daemon at iscsiadm's order, with CHAP."""
    record("chap", secret=SECRET)
    with ours():
        good(OURS + "iscsiadm", *node("chap", "-l"))
    return taken_over("chap", bench.chap, bench.times(1, 20))


def of_our_iscsistart(bench: Bench) -> Seen:
    """Made by our iscsistart, which leaves a guard behind: the first daemon takes over from it and it ends."""
    start_by_iscsistart(OURS, "one", "--keeper")
    found = guards()
    return {"guards": list(found.values()), **taken_over("one", bench.one, bench.times(1, 20), guard=found)}


def of_peers_iscsistart(bench: Bench) -> Seen:
    """Made by the real iscsistart, as Debian's initramfs does it; there is no record of it."""
    start_by_iscsistart(PEER, "one")
    return taken_over("one", bench.one, bench.times(1, 20))


def of_peers_daemon(bench: Bench) -> Seen:
    """Made by the real iscsid, which then is gone."""
    record("one")
    with peer():
        good(PEER + "iscsiadm", *node("one", "-l"))
    return taken_over("one", bench.one, bench.times(1, 20))


def peer_takes_ours(bench: Bench) -> Seen:
    """The other way round; also the control: the real iscsid's start does raise the counter that ours leaves alone."""
    record("one")
    with ours():
        good(OURS + "iscsiadm", *node("one", "-l"))
    end_guards()
    seen: Seen = {}
    before = bench.one.logins()
    writes = Load(disk_of("one"))
    with peer():
        try:
            until("the peer's login", lambda: bench.one.logins() > before)
            until("its session", lambda: healthy() == 1)
            time.sleep(SETTLE_SECONDS)
        finally:
            seen["load"] = writes.end()
        seen |= {"during": sessions(), "logins": bench.one.logins() - before}
        # Our words mean nothing to it, and it may not take them for some of its own.
        seen["ours asks"] = tool(OURS + "iscsiadm", "-k", "0")
        seen["logout"] = good(PEER + "iscsiadm", *node("one", "-u"))
    return {**seen, "left": sessions()}


def upgrade(bench: Bench) -> Seen:
    """A daemon of a new version takes the old one's place: stop and start at once, and what listens in between."""
    record("one", "two")
    daemon = Daemon()
    daemon.log.unlink(missing_ok=True)
    daemon.start()
    for name in ("one", "two"):
        good(OURS + "iscsiadm", *node(name, "-l"))
    seen: Seen = {}
    before = bench.one.logins() + bench.two.logins()
    with load(disk_of("one"), seen):
        for _ in range(bench.times(1, 20)):
            daemon.stop()
            daemon.start()
            time.sleep(SETTLE_SECONDS)
    seen |= {"logins": bench.one.logins() + bench.two.logins() - before, "sessions": sessions()}
    second = Daemon(log="/tmp/second.log")
    second.spawn()
    seen["second"] = second.outcome()
    daemon.stop()
    end_guards()
    return {**seen, "lines": daemon.lines()}


TRIALS: tuple[Trial, ...] = (
    of_our_iscsiadm,
    of_our_daemon,
    of_our_iscsistart,
    of_peers_iscsistart,
    of_peers_daemon,
    peer_takes_ours,
    upgrade,
)
