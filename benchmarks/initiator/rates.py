# SPDX-License-Identifier: LGPL-2.1-or-later
"""Work repeated in one process, ours and libiscsi's in turn: no program is started, so what is left is the protocol.

Both do the same on the wire: a login is connect, login of a normal session, disconnect; a discovery is connect,
discovery login, SendTargets=All, logout. They talk to the same tgtd, which has one thread and so bounds both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.initiator import ours
from benchmarks.initiator.contest import LIBISCSI, OURS, rotated
from benchmarks.initiator.farm import LOOPBACK, SECRET, USER, Farm
from benchmarks.initiator.libiscsi import LibIscsi, LibIscsiError
from iscsiboot.errors import IscsiBootError
from tests.qemu.harness.process import Tell

LOGIN, LOGIN_CHAP = "login, no authentication", "login, CHAP with MD5"
DISCOVERY = "discovery, targets: {size:,}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """One contestant's pace over one round."""

    work: str
    contestant: str
    per_second: float
    """0 when it cannot do it."""
    failure: str = ""


Works = Mapping[str, Mapping[str, Callable[[], object]]]
"""Work, contestant, the call that does it once."""


def login_works(farm: Farm, library: LibIscsi) -> Works:
    """Logins to ``farm``, whose last target demands CHAP."""
    plain, guarded = Farm.name(1), Farm.name(farm.size)
    portal = f"{LOOPBACK}:{farm.port}"
    return {
        LOGIN: {
            OURS: lambda: ours.login(LOOPBACK, farm.port, plain),
            LIBISCSI: lambda: library.login(portal, ours.INITIATOR, plain),
        },
        LOGIN_CHAP: {
            OURS: lambda: ours.login(LOOPBACK, farm.port, guarded, (USER, SECRET)),
            LIBISCSI: lambda: library.login(portal, ours.INITIATOR, guarded, (USER, SECRET)),
        },
    }


def discovery_works(farm: Farm, library: LibIscsi) -> Works:
    """Discoveries of ``farm``; a list that is not complete is an error."""

    def complete(found: int) -> None:
        if found != farm.size:
            raise LibIscsiError(f"{found} of {farm.size} targets")

    return {
        DISCOVERY.format(size=farm.size): {
            OURS: lambda: complete(ours.discover(LOOPBACK, farm.port, lambda _: None)),
            LIBISCSI: lambda: complete(library.discover(f"{LOOPBACK}:{farm.port}", ours.INITIATOR)),
        }
    }


def pace(do: Callable[[], object], seconds: float, now: Callable[[], float] = time.perf_counter) -> float:
    """How often a second ``do`` can be done: repeated until ``seconds`` are over, at least once."""
    started = now()
    count = 0
    while True:
        do()
        count += 1
        spent = now() - started
        if spent >= seconds:
            return count / spent


def rates(works: Works, *, rounds: int, seconds: float, tell: Tell) -> list[Rate]:
    """Each work ``rounds`` times, contestants in turn, after one call each that does not count."""
    found: list[Rate] = []
    for work, calls in works.items():
        able = dict(calls)
        for name, call in calls.items():
            try:
                call()
            except (LibIscsiError, IscsiBootError) as error:
                found.append(Rate(work=work, contestant=name, per_second=0.0, failure=str(error)))
                del able[name]
        for number in range(rounds):
            for name in rotated(list(able), number):
                found.append(Rate(work=work, contestant=name, per_second=pace(able[name], seconds)))
                tell(f"{work}, {name}: {found[-1].per_second:.1f} a second")
    return found
