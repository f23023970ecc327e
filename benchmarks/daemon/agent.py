# SPDX-License-Identifier: LGPL-2.1-or-later
"""In the guest: the same life of many sessions with our daemon and with the peer's, turn by turn, one JSON object each.

Arguments: ``sessions-N``, ``rounds-N``, ``idle-N`` (seconds). Both use the same records, made by ours; the targets are
LIO's, each with a disk, and no udev runs, which would be most of the time in an emulated machine.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tests.qemu.admin.agent import emit, note
from tests.qemu.daemon.agent import storage
from tests.qemu.daemon.bench import Seen
from tests.qemu.daemon.daemons import end_guards, guards, ours, peer, status_of
from tests.qemu.daemon.sessions import (
    OURS,
    PEER,
    TrialFailed,
    end_all,
    forget,
    good,
    healthy,
    is_whole,
    record_crowd,
    sessions,
    until,
)
from tests.qemu.daemon.storage import Target

PINGS = 60
OFF_SECONDS = 10.0
SETTLE_SECONDS = 10.0
"""Longer than our daemon keeps a child for the next errand (keeper.hand.KEPT_SECONDS)."""
WAIT_SECONDS = 900.0
"""For one command."""
WHOLE_SECONDS = 300.0
"""For all sessions to work; who has not got them by then does not get them."""
LOOKS, LOOK_SECONDS = 8, 0.03
"""So many sessions that are not whole are looked at before this pause."""
FAILED_CHARACTERS = 300

Daemon = Callable[[], AbstractContextManager[int]]
"""Runs a daemon for the time of a block, gives its process id."""


@contextmanager
def our_daemon() -> Iterator[int]:
    """Ours, its process id; its guards are looked for when they are needed."""
    with ours() as daemon:
        yield daemon.pid


def memory(pid: int) -> Seen:
    """Resident and locked memory of a daemon, and all of its processes together (Pss), KiB."""
    own = status_of(pid)
    return {"resident": own["VmRSS"], "locked": own["VmLck"], "all": sum(_each(processes(pid), proportional).values())}


def processes(pid: int) -> set[int]:
    """A daemon, those it has started (open-iscsi's has one more for its log, ours its hands), and guards."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid, *map(int, children), *guards()}


def proportional(pid: int) -> int:
    """Memory of a process in KiB, what it shares divided among those who share it (Pss)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _each(pids: Iterable[int], value: Callable[[int], int]) -> dict[int, int]:
    """A number of each process; one that has ended meanwhile is left out: a hand whose work is done."""
    found = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = value(pid)
    return found


def wake_ups(pid: int, seconds: float) -> int:
    """How often a daemon's processes were woken up in so many seconds."""

    def switches(pid: int) -> int:
        return status_of(pid)["voluntary_ctxt_switches"]

    before = _each(processes(pid), switches)
    time.sleep(seconds)
    return sum(count - before.get(each, 0) for each, count in _each(processes(pid), switches).items())


def life(targets: list[Target], admin: str, daemon: Daemon, idle: float, seen: Seen) -> None:
    """Log in to all, sit idle, lose all, get all back, log out of all; each figure stands in ``seen`` at once."""
    began = time.monotonic()
    with daemon() as pid:
        seen["start"] = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        seen["empty"] = memory(pid)
        began = time.monotonic()
        good(admin, "-m", "node", "-L", "all", seconds=WAIT_SECONDS)
        whole(len(targets))
        seen["login"] = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        seen["full"] = memory(pid)
        seen["wake-ups"] = wake_ups(pid, idle)
        recovery(targets, seen)
        seen["after"] = memory(pid)
        began = time.monotonic()
        good(admin, "-m", "node", "-U", "all", seconds=WAIT_SECONDS)
        seen["logout"] = time.monotonic() - began


def whole(wanted: int) -> None:
    """Wait until so many sessions are; TrialFailed with how many there were."""
    try:
        until("the sessions", lambda: healthy() >= wanted, WHOLE_SECONDS)
    except TrialFailed:
        raise TrialFailed(f"{healthy()} of {wanted} sessions whole {WHOLE_SECONDS:g} s after the login") from None


def recovery(targets: list[Target], seen: Seen) -> None:
    """All targets away and back; seconds from there until all sessions, and until the first half of them, are whole."""
    numbers = sessions()
    for target in targets:
        target.close()
    until("every break", lambda: healthy() == 0, WAIT_SECONDS)
    time.sleep(OFF_SECONDS)
    for target in targets:
        target.open()
    began, took = time.monotonic(), 0.0
    with urgent():
        for count in counted(numbers):
            took = time.monotonic() - began
            if took > WHOLE_SECONDS:
                raise TrialFailed(f"{count} of {len(numbers)} sessions whole {took:.0f} s after their targets' return")
            if count >= len(numbers) // 2:
                seen.setdefault("half", took)
    seen["recovery"] = took


@contextmanager
def urgent() -> Iterator[None]:
    """What is seen meanwhile is seen at once, although an initiator is more urgent than others, too."""
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def counted(numbers: Iterable[str]) -> Iterator[int]:
    """How many of these sessions are whole, again and again until all are.

    Some are looked at in turn, and those that are whole no more: a look at a hundred takes as long as several
    recoveries, and the processor it takes is the initiator's.
    """
    waiting = deque(numbers)
    known = list(waiting)
    while waiting:
        missed = 0
        while waiting and missed < LOOKS:
            number = waiting.popleft()
            if not is_whole(number):
                waiting.append(number)
                missed += 1
        if not waiting:
            waiting.extend(number for number in known if not is_whole(number))  # it broke again
        yield len(known) - len(waiting)
        if waiting:
            time.sleep(LOOK_SECONDS)


def main(words: Iterable[str]) -> int:
    """The rounds."""
    asked = {name: int(number) for name, _, number in (word.partition("-") for word in words)}
    bench = storage(long=False)
    targets = bench.crowd(asked["sessions"])
    contestants = {"ours": (OURS + "iscsiadm", our_daemon), "peer": (PEER + "iscsiadm", peer)}
    for count in range(asked["rounds"]):
        for name, (admin, daemon) in contestants.items():
            forget()
            record_crowd(pings=PINGS)
            said: Seen = {}
            try:
                life(targets, admin, daemon, asked["idle"], said)
            except Exception as error:  # noqa: BLE001  # the other's turn shall come, and its fault is the finding
                traceback.print_exc()
                said["failed"] = str(error)[:FAILED_CHARACTERS] or type(error).__name__
            end_guards()
            end_all()
            note(f"round {count + 1}, {name}: {said}")
            emit({"check": f"{count + 1} {name}", **said})
    emit({"end": Path("/harness/nonce").read_text()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
