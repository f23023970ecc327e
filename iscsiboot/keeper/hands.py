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
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from enum import Enum

from iscsiboot.keeper import hygiene, seal
from iscsiboot.keeper.log import Level, Log
from iscsiboot.session.workers import (
    ENDING_SIGNALS,
    KILL_SECONDS,
    UNDO_SECONDS,
    Answer,
    Ended,
    Job,
    be_child,
    ended,
    keep_ended_children,
)

WIDTH = 16
PLACE_SECONDS = 3.0
"""A job holds its place for so long; those that do not hang are done by then."""
MOST = 128
"""Children at work at a time, however long they take; those left alone do not count."""
ANSWER_BYTES = 4 << 20
"""More than the largest answer, a whole database's records; a hand that says more is ended."""
HANGS = "it hangs in the kernel and cannot be ended"


class _Stage(Enum):
    RUNNING = "running"
    TOLD = "told to end"
    KILLED = "killed"
    LEFT = "left alone"
    OVER = "over"


class Hands:
    """Runs blocking jobs for one event loop; :meth:`close` ends them all."""

    def __init__(self, *, log: Log, width: int = WIDTH) -> None:
        self._log = log
        self._width = width
        self._places = asyncio.Semaphore(width)
        self._hands: set[_Hand] = set()
        self._hanging: dict[str, int] = {}
        self._freed = asyncio.Event()
        self._closed = False

    @property
    def at_work(self) -> int:
        """How many children there are, those that hang included."""
        return len(self._hands)

    @property
    def hanging(self) -> tuple[str, ...]:
        """The names of the jobs that hang in the kernel."""
        return tuple(self._hanging)

    async def run(self, job: Job, *, seconds: float, what: str) -> Ended:
        """Do ``job`` in a child, for ``seconds`` at most; ``what`` names it for people: ``the scan of host3``.

        Never raises for what happens to the job: :class:`Ended` tells. The child sees the memory of this moment and no
        descriptor; what it opens, imports or changes is its own.
        """
        await self._places.acquire()
        place = _Place(self._places, self._may_grow)
        try:
            if self._closed:
                return Ended(answer=None, problem=f"{what} was not begun: this program is ending")
            if what in self._hanging:
                problem = (
                    f"{what} was not begun: the last one still hangs in the kernel (process {self._hanging[what]})"
                )
                return Ended(answer=None, problem=problem, late=True)
            started = await self._start(job, seconds, what)
            if isinstance(started, Ended):
                return started
            try:
                return await started.done
            finally:
                # Cancelled, or nothing to do.
                started.tell()
        finally:
            place.leave()

    def _may_grow(self) -> bool:
        return len(self._hands) - len(self._hanging) < max(MOST, self._width)

    async def _start(self, job: Job, seconds: float, what: str) -> _Hand | Ended:
        """Fork; where the system lets no process be made, after one of ours has ended."""
        keep_ended_children()
        while True:
            try:
                hand = _Hand(job, seconds=seconds, what=what, moved=self._moved)
            except OSError as error:
                if len(self._hands) == len(self._hanging):
                    return Ended(answer=None, problem=f"{what} was not begun: {error.strerror}")
                self._freed.clear()
                await self._freed.wait()
            else:
                self._hands.add(hand)
                return hand

    def _moved(self, hand: _Hand) -> None:
        """A hand hangs from now on, or is over."""
        if hand.stage is _Stage.LEFT:
            self._hanging[hand.what] = hand.pid
            self._log(Level.WARNING, f"{hand.what}: process {hand.pid} hangs in the kernel; it is left alone")
        else:
            self._hands.discard(hand)
            if self._hanging.get(hand.what) == hand.pid:
                del self._hanging[hand.what]
                self._log(Level.NOTICE, f"{hand.what}: process {hand.pid} hung in the kernel and has ended now")
        self._freed.set()

    async def close(self, seconds: float = KILL_SECONDS) -> None:
        """Begin none any more; tell all to end and give them ``seconds``, then kill them. Returns within that time."""
        self._closed = True
        working = [hand for hand in self._hands if not hand.done.done()]
        for hand in working:
            hand.tell()
        if working:
            await asyncio.wait([hand.done for hand in working], timeout=seconds)
        for hand in tuple(self._hands):
            hand.abandon()
        self._hands.clear()


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


class _Hand:
    """One child, driven by callbacks of the loop; ``done`` is its result. OSError when it cannot be made."""

    def __init__(self, job: Job, *, seconds: float, what: str, moved: Callable[[_Hand], None]) -> None:
        self.what = what
        self.stage = _Stage.RUNNING
        self._seconds = seconds
        self._moved = moved
        self._late = False
        self._received = bytearray()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Ended] = self._loop.create_future()
        self.pid, self._pipe = _fork(job)
        self._process = _watch(self.pid)
        self._loop.add_reader(self._pipe, self._readable)
        if self._process is not None:
            self._loop.add_reader(self._process, self._over)
        self._timer = self._loop.call_later(seconds, self._is_late)

    def tell(self) -> None:
        """Told to end, unless it is ending; SIGKILL follows when it does not."""
        if self.stage is _Stage.RUNNING:
            self._move(_Stage.TOLD, signal.SIGTERM, UNDO_SECONDS)

    def abandon(self) -> None:
        """Killed, and not looked after any more: the loop ends. Process 1 reaps it."""
        if self.stage is not _Stage.OVER:
            self._signal(signal.SIGKILL)
            self._release()
            self._settle(Ended(answer=None, problem="this program is ending"))

    def _is_late(self) -> None:
        if self.stage is _Stage.RUNNING:
            self._late = True
            self.tell()
        elif self.stage is _Stage.TOLD:
            self._move(_Stage.KILLED, signal.SIGKILL, KILL_SECONDS)
        else:
            self.stage = _Stage.LEFT
            self._moved(self)
            self._settle(Ended(answer=None, problem=HANGS, late=True))

    def _move(self, stage: _Stage, number: signal.Signals, seconds: float) -> None:
        self.stage = stage
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._is_late)
        self._signal(number)

    def _signal(self, number: signal.Signals) -> None:
        """To this process and no other that has its number: it is not reaped before :meth:`_over`."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def _readable(self) -> None:
        """Take what it says; where the kernel has no process descriptors (before Linux 5.3), its silence is its end."""
        try:
            chunk = os.read(self._pipe, 1 << 16)
        except BlockingIOError:
            return
        self._received += chunk
        if not chunk:
            self._loop.remove_reader(self._pipe)
            if self._process is None:
                self._over()
        elif len(self._received) > ANSWER_BYTES and self.stage is not _Stage.KILLED:
            self._move(_Stage.KILLED, signal.SIGKILL, KILL_SECONDS)

    def _over(self) -> None:
        """It has ended: the rest of its answer, its status."""
        while True:
            try:
                chunk = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                break  # a process of its own holds the pipe
            if not chunk:
                break
            self._received += chunk
        # Ends at once: the process is over, or has closed its last file on the way out.
        _, status = os.waitpid(self.pid, 0)
        self._release()
        self._settle(self._result(os.waitstatus_to_exitcode(status)))
        self._moved(self)

    def _result(self, status: int) -> Ended:
        if len(self._received) > ANSWER_BYTES:
            return Ended(answer=None, problem=f"its answer has more than {ANSWER_BYTES} bytes")
        return ended(bytes(self._received), status, self._late, self._seconds)

    def _release(self) -> None:
        self.stage = _Stage.OVER
        self._timer.cancel()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        if self._process is not None:
            self._loop.remove_reader(self._process)
            os.close(self._process)

    def _settle(self, result: Ended) -> None:
        if not self.done.done():
            self.done.set_result(result)


def _fork(job: Job) -> tuple[int, int]:
    """The child's number and the end of its pipe to read, non-blocking. OSError when there is no room for one more."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    # Blocked over the fork: a signal before the child has handlers of its own would run the parent's in the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            be_child(lambda: _in_child(job), writing, before, shut=lambda: _hold_nothing(writing))
    except OSError:
        os.close(reading)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writing)
    os.set_blocking(reading, False)
    return pid, reading


def _watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where there is none to have."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _hold_nothing(pipe: int) -> None:
    """Close what is the parent's.

    Its garbage stays what it is: a socket collected here would close whatever file of ours has its number by then.
    """
    gc.freeze()
    hygiene.close_descriptors({0, 1, 2, pipe})


def _in_child(job: Job) -> Answer:
    hygiene.for_child()
    seal.lift()
    return job()
