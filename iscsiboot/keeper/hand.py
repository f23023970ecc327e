# SPDX-License-Identifier: LGPL-2.1-or-later
"""One child process that does what may block, driven by callbacks of the loop: :class:`JobHand`, :class:`KeptHand`.

What they are for, and the rules: :mod:`iscsiboot.keeper.hands`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Set
from enum import Enum
from typing import NoReturn

from iscsiboot.keeper import endings, hygiene, seal
from iscsiboot.keeper.errand import LAST, PART_BYTES, keep_working
from iscsiboot.session.forking import fork
from iscsiboot.session.workers import (
    KILL_SECONDS,
    UNDO_SECONDS,
    Answer,
    Ended,
    Job,
    be_child,
    ended,
    enter_child,
)

ANSWER_BYTES = 4 << 20
"""More than the largest answer, a whole database's records; a hand that says more is ended."""
KEPT_SECONDS = 5.0
"""An idle hand is kept so long: what comes in bursts comes within it, and then the machine is left alone."""
HANGS = "it hangs in the kernel and cannot be ended"


class Stage(Enum):
    """Where a hand is in its life."""

    RUNNING = "running"
    IDLE = "idle"
    """Kept for the next errand."""
    TOLD = "told to end"
    KILLED = "killed"
    LEFT = "left alone"
    """It hangs in the kernel."""
    OVER = "over"


class Hand(ABC):
    """A child and its end of the wire. OSError when it cannot be made."""

    def __init__(self, pid: int, wire: int, moved: Callable[[Hand], None]) -> None:
        """``moved`` is called when it is idle, ends after that, is left alone or is over; ``stage`` tells."""
        self.pid = pid
        self.what = ""
        self.stage = Stage.IDLE
        self._wire = wire
        self._moved = moved
        self._seconds = 0.0
        self._late = False
        self._received = bytearray()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Ended] = self._loop.create_future()
        """The result of the work at hand; another one for other work."""
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """The process is over, or is looked after no more."""
        self._timer: asyncio.TimerHandle | None = None
        self._process = endings.watch(pid)
        self._loop.add_reader(wire, self._readable)
        if self._process is not None:
            self._loop.add_reader(self._process, self._over)

    def tell(self) -> None:
        """Told to end, unless it is ending; SIGKILL follows when it does not."""
        if self.stage is Stage.RUNNING:
            self._move(Stage.TOLD, signal.SIGTERM, UNDO_SECONDS)

    def abandon(self) -> None:
        """Killed, and not looked after any more: the loop ends. Process 1 reaps it."""
        if self.stage is not Stage.OVER:
            self._signal(signal.SIGKILL)
            self._release()
            self._settle(Ended(answer=None, problem="this program is ending"))

    def _at_work(self, what: str, seconds: float) -> None:
        self.what = what
        self.stage = Stage.RUNNING
        self._seconds = seconds
        self._late = False
        self._received.clear()
        self._set_timer(seconds, self._is_late)

    def _is_late(self) -> None:
        if self.stage is Stage.RUNNING:
            self._late = True
            self.tell()
        elif self.stage is Stage.TOLD:
            self._move(Stage.KILLED, signal.SIGKILL, KILL_SECONDS)
        else:
            self.stage = Stage.LEFT
            self._moved(self)
            self._settle(Ended(answer=None, problem=HANGS, late=True))

    def _move(self, stage: Stage, number: signal.Signals, seconds: float) -> None:
        self.stage = stage
        self._set_timer(seconds, self._is_late)
        self._signal(number)

    def _set_timer(self, seconds: float, due: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, due)

    def _signal(self, number: signal.Signals) -> None:
        """To this process and no other that has its number: it is not reaped before :meth:`_over`."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return

    def _readable(self) -> None:
        """Take what it says; where the kernel has no process descriptors (before Linux 5.3), its silence is its end."""
        try:
            if self._take():
                return
        except BlockingIOError:
            return
        self._loop.remove_reader(self._wire)
        if self._process is None:
            self._over()

    @abstractmethod
    def _take(self) -> bool:
        """Read once and use it; False at the end. BlockingIOError when there is nothing yet."""

    def _receive(self, part: bytes) -> None:
        self._received += part
        if len(self._received) > ANSWER_BYTES and self.stage in (Stage.RUNNING, Stage.TOLD):
            self._move(Stage.KILLED, signal.SIGKILL, KILL_SECONDS)

    def _result(self, status: int) -> Ended:
        if len(self._received) > ANSWER_BYTES:
            return Ended(answer=None, problem=f"its answer has more than {ANSWER_BYTES} bytes")
        return ended(bytes(self._received), status, self._late, self._seconds)

    def _over(self) -> None:
        """It has ended: the rest of what it said, its status."""
        try:
            while self._take():
                continue
        except BlockingIOError:
            pass  # a process of its own holds the wire
        # Ends at once: the process is over, or has closed its last file on the way out.
        _, status = os.waitpid(self.pid, 0)
        self._release()
        self._settle(self._result(os.waitstatus_to_exitcode(status)))
        self._moved(self)

    def _release(self) -> None:
        self.stage = Stage.OVER
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._wire)
        self._close()
        if self._process is not None:
            self._loop.remove_reader(self._process)
            os.close(self._process)
        if not self.gone.done():
            self.gone.set_result(None)

    @abstractmethod
    def _close(self) -> None:
        """Close the wire."""

    def _settle(self, result: Ended) -> None:
        if not self.done.done():
            self.done.set_result(result)


class JobHand(Hand):
    """Does one job, anything that can be called, with the memory of the moment it is made."""

    def __init__(self, job: Job, *, seconds: float, what: str, moved: Callable[[Hand], None]) -> None:
        super().__init__(*_fork_for(job), moved)
        self._at_work(what, seconds)

    def _take(self) -> bool:
        chunk = os.read(self._wire, 1 << 16)
        self._receive(chunk)
        return bool(chunk)

    def _close(self) -> None:
        os.close(self._wire)


class KeptHand(Hand):
    """Does errands, one after the other; idle for :data:`KEPT_SECONDS`, it ends."""

    def __init__(self, *, moved: Callable[[Hand], None]) -> None:
        pid, self._link = _fork_to_keep()
        super().__init__(pid, self._link.fileno(), moved)

    def begin(self, errand: bytes, *, seconds: float, what: str) -> bool:
        """Have it done; False when the child is ending or not there any more, which is seen to by itself."""
        if self.stage is not Stage.IDLE:
            return False
        try:
            self._link.send(errand)
        except OSError:
            return False
        self.done = self._loop.create_future()
        self._at_work(what, seconds)
        return True

    def dismiss(self) -> None:
        """End it, while idle."""
        self.stage = Stage.TOLD
        self._set_timer(KILL_SECONDS, self._is_late)
        self._moved(self)
        self._link.shutdown(socket.SHUT_WR)

    def _take(self) -> bool:
        try:
            message = self._link.recv(len(LAST) + PART_BYTES)
        except ConnectionResetError:
            return True  # told once of a child that ended before it read its errand; its end is behind it
        self._receive(message[len(LAST) :])
        if message.startswith(LAST):
            self._settle(self._result(0))
            self._received.clear()
            if self.stage is Stage.RUNNING:
                self.stage = Stage.IDLE
                self._set_timer(KEPT_SECONDS, self.dismiss)
                self._moved(self)
        return bool(message)

    def _close(self) -> None:
        self._link.close()


def _fork_for(job: Job) -> tuple[int, int]:
    """The child's number and the end of its pipe to read, non-blocking. OSError when there is no room for one more."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pid = fork(
            lambda mask: be_child(lambda: _in_child(job), writing, mask, shut=lambda: _hold_nothing(writing)),
        )
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    os.set_blocking(reading, False)
    return pid, reading


def _fork_to_keep() -> tuple[int, socket.socket]:
    """The child's number and our end of the wire, non-blocking. OSError as above."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = fork(lambda mask: _be_kept(theirs, mask))
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return pid, ours


def _be_kept(link: socket.socket, mask: Set[int]) -> NoReturn:
    status = 1
    try:
        enter_child(mask, lambda: _hold_nothing(link.fileno()))
        hygiene.for_child()
        seal.lift()
        keep_working(link)
        status = 0
    except KeyboardInterrupt:
        status = 2
    finally:
        os._exit(status)


def _hold_nothing(wire: int) -> None:
    """Close what is the parent's.

    Its garbage stays what it is: a socket collected here would close whatever file of ours has its number by then.
    """
    gc.freeze()
    hygiene.close_descriptors({0, 1, 2, wire})


def _in_child(job: Job) -> Answer:
    hygiene.for_child()
    seal.lift()
    return job()
