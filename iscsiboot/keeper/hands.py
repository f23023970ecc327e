# SPDX-License-Identifier: LGPL-2.1-or-later
"""What may block in the kernel or on a disk, done in child processes while the loop goes on.

A scan, a write to a unit's state, a record file, a name to look up: each may take as long as a dead target or a stalled
root disk takes. In the loop it would stop every guard; in a thread it would leave a process that cannot be killed, with
its sockets and locks, and no new daemon could start beside it. So each is a fork ("a hand") that holds nothing of its
parent's but one pipe.

Rules:

* At most ``width`` at work; the others wait. The time of each is counted from its own start. One that takes long gives
  its place to the next: sixteen units that do not answer shall not keep a seventeenth, that does, from being asked.
* One that is late is told to end (SIGTERM, a KeyboardInterrupt in it, so that it undoes what it half did), then killed,
  then left alone: it hangs in the kernel. It is reaped whenever it ends.
* Those left alone take no place. No second job of the same name is begun while one hangs, so they cannot pile up.
* Who awaits a result may be cancelled; the hand is then told to end, and its end is looked after without him.
* A hand that has done an :class:`~iscsiboot.keeper.errand.Errand` is kept some seconds for the next one: a fork is the
  dearest part of a hundred logins. Any other job has a fork of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from iscsiboot.keeper.errand import ERRAND_BYTES, Errand
from iscsiboot.keeper.hand import Hand, JobHand, KeptHand, Stage
from iscsiboot.keeper.log import Level, Log
from iscsiboot.session.workers import KILL_SECONDS, Ended, Job, keep_ended_children

WIDTH = 16
PLACE_SECONDS = 3.0
"""A job holds its place for so long; those that do not hang are done by then."""
MOST = 128
"""Children at work at a time, however long they take; those left alone do not count."""


class Hands:
    """Runs blocking jobs for one event loop; :meth:`close` ends them all."""

    def __init__(self, *, log: Log, width: int = WIDTH) -> None:
        self._log = log
        self._width = width
        self._places = asyncio.Semaphore(width)
        self._hands: set[Hand] = set()
        self._idle: list[KeptHand] = []
        self._hanging: dict[int, str] = {}
        """Process to the name of its job; two that were begun together may have the same."""
        self._freed = asyncio.Event()
        self._closed = False

    @property
    def at_work(self) -> int:
        """How many children there are, those that hang and those that are kept included."""
        return len(self._hands)

    @property
    def hanging(self) -> tuple[str, ...]:
        """The names of the jobs that hang in the kernel."""
        return tuple(dict.fromkeys(self._hanging.values()))

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        """Do ``job`` in a child, for ``seconds`` at most; ``what`` names it for people: ``the scan of host3``.

        Never raises for what happens to the job: :class:`Ended` tells. The child sees the memory of this moment (for an
        errand that of some seconds ago) and no descriptor; what it opens, imports or changes is its own.
        """
        await self._places.acquire()
        place = _Place(self._places, self._may_grow)
        try:
            for pid, name in self._hanging.items():
                if name == what:
                    problem = f"{what} was not begun: the last one still hangs in the kernel (process {pid})"
                    return Ended(answer=None, problem=problem, late=True)
            started = await self._start(job, seconds, what)
            if isinstance(started, Ended):
                return started
            done = started.done
            try:
                return await done
            finally:
                # Cancelled, or nothing to do. A kept one may be at other work by now.
                if started.done is done:
                    started.tell()
        finally:
            place.leave()

    def _may_grow(self) -> bool:
        return len(self._hands) - len(self._hanging) - len(self._idle) < max(MOST, self._width)

    async def _start(self, job: Job, seconds: float, what: str) -> Hand | Ended:
        """Fork; where the system lets no process be made, after one of ours has ended."""
        keep_ended_children()
        while not self._closed:
            try:
                return self._begin(job, seconds, what)
            except OSError as error:
                if len(self._hands) == len(self._hanging):
                    return Ended(answer=None, problem=f"{what} was not begun: {error.strerror}")
                self._freed.clear()
                self._dismiss()
                await self._freed.wait()
        return Ended(answer=None, problem=f"{what} was not begun: this program is ending")

    def _begin(self, job: Job, seconds: float, what: str) -> Hand:
        """OSError when no process can be made."""
        errand = job.encode() if isinstance(job, Errand) else b""
        if 0 < len(errand) <= ERRAND_BYTES:
            # The one that was at work last comes first, so that the others may end.
            while self._idle:
                kept = self._idle.pop()
                if kept.begin(errand, seconds=seconds, what=what):
                    return kept
            kept = KeptHand(moved=self._moved)
            self._hands.add(kept)
            if kept.begin(errand, seconds=seconds, what=what):
                return kept
            kept.dismiss()
        hand = JobHand(job, seconds=seconds, what=what, moved=self._moved)
        self._hands.add(hand)
        return hand

    def _dismiss(self) -> None:
        while self._idle:
            self._idle.pop().dismiss()

    def _moved(self, hand: Hand) -> None:
        """A hand is idle, ends after it was, hangs from now on, or is over."""
        if isinstance(hand, KeptHand):
            if hand in self._idle:
                self._idle.remove(hand)
            if hand.stage is Stage.IDLE and self._closed:
                hand.dismiss()
            elif hand.stage is Stage.IDLE:
                self._idle.append(hand)
        if hand.stage is Stage.LEFT:
            self._hanging[hand.pid] = hand.what
            self._log(Level.WARNING, f"{hand.what}: process {hand.pid} hangs in the kernel; it is left alone")
        elif hand.stage is Stage.OVER:
            self._hands.discard(hand)
            if self._hanging.pop(hand.pid, None) is not None:
                self._log(Level.NOTICE, f"{hand.what}: process {hand.pid} hung in the kernel and has ended now")
        self._freed.set()

    async def close(self, seconds: float = KILL_SECONDS) -> None:
        """Begin none any more; tell all to end and give them ``seconds``, then kill them. Returns within that time."""
        self._closed = True
        self._dismiss()
        ending = [hand for hand in self._hands if hand.stage is not Stage.LEFT]
        for hand in ending:
            hand.tell()
        if ending:
            await asyncio.wait([hand.gone for hand in ending], timeout=seconds)
        for hand in tuple(self._hands):
            hand.abandon()
        self._hands.clear()
        self._freed.set()


class _Place:
    """A place among those at work, held from now on, for a while."""

    def __init__(self, places: asyncio.Semaphore, may_grow: Callable[[], bool]) -> None:
        self._places = places
        self._may_grow = may_grow
        self._held = True
        self._timer = asyncio.get_running_loop().call_later(PLACE_SECONDS, self._late)

    def _late(self) -> None:
        if self._may_grow():
            self.leave()
        else:
            self._timer = asyncio.get_running_loop().call_later(PLACE_SECONDS, self._late)

    def leave(self) -> None:
        """Somebody else's turn; once more does nothing."""
        self._timer.cancel()
        if self._held:
            self._held = False
            self._places.release()
