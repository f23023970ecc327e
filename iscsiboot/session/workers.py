# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many blocking jobs at once, a child process each: logins, logouts, rescans.

Why processes and not threads: a write to sysfs or a netlink request may hang in the kernel for minutes when a target is
dead, and a signal has to become an exception inside every login under way so that each takes its half-made session
back; Python delivers signals to one thread only. A fork after the imports costs a millisecond.

Rules:

* At most ``width`` children at a time; each has its own time, counted from its own start.
* Jobs may be at a place (a target's portal): at most ``room`` at one place begin together, the others wait for their
  turn there. One that takes longer than :data:`PLACE_SECONDS` gives its place to the next: behind a portal that does
  not answer nobody waits for all the time the first ones have.
* A child that is late is told to end (SIGTERM, which raises KeyboardInterrupt in it once; the next one is ignored, so
  that its clean-up runs to the end), then killed, then left alone: one that hangs in the kernel cannot be waited for.
* Where the system lets no more processes be made, the jobs wait for those at work; with none at work they fail.
* Leaving the loop early, also by an exception, ends all children in the same way.
* A parent that is killed leaves its children at work, as a command that is killed leaves open-iscsi's daemon at work;
  they hold none of its standard files, so who reads those from a pipe sees their end.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum

from iscsiboot.model.deadline import Deadline
from iscsiboot.session.forking import ENDING_SIGNALS, fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TextIO
else:
    Any = NoReturn = TextIO = object

Answer = dict[str, Any]
"""What a job hands back: a dictionary JSON can hold."""
Job = Callable[[], Answer]

UNDO_SECONDS = 15.0
"""For the clean-up of a child that was told to end."""
KILL_SECONDS = 2.0
PLACE_SECONDS = 10.0
"""Longer than a login takes that is served, behind all of those that began with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How one job ended: with an answer, or with a problem in words."""

    answer: Answer | None
    problem: str = ""
    late: bool = False
    """Its time was over."""


class _Stage(Enum):
    RUNNING = "running"
    TOLD = "told to end"
    KILLED = "killed"


@dataclass(slots=True)
class _Child:
    index: int
    pid: int
    pipe: int
    limit: Deadline
    place: str
    holds: Deadline
    """Its place."""
    stage: _Stage = _Stage.RUNNING
    received: bytearray = field(default_factory=bytearray)
    late: bool = False


class Workers:
    """Runs jobs; a context manager whose end no child outlives, unless it hangs in the kernel."""

    def __init__(self, *, now: Callable[[], float], width: int = 64, room: int = 64, seconds: float) -> None:
        self._now = now
        self._width = width
        self._room = room
        self._seconds = seconds
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Workers:
        keep_ended_children()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for child in self._children.values():
                if child.stage is _Stage.RUNNING:
                    self._tell(child)
            for _ in self._finish():
                pass
        finally:
            for child in self._children.values():
                os.close(child.pipe)
            self._children.clear()
            self._selector.close()

    def run(
        self, jobs: Sequence[Job], *, places: Sequence[str] = (), tick: Callable[[], None] | None = None
    ) -> Generator[tuple[int, Ended], None, None]:
        """Do them all; each result as soon as it is there, with the job's index. ``tick`` is called every second.

        ``places``: where each job is; without it they are in nobody's way.
        """
        waiting = deque((index, job, places[index] if places else "") for index, job in enumerate(jobs))
        while waiting or self._children:
            while len(self._children) < self._width and (number := self._first(waiting)) is not None:
                try:
                    self._start(*waiting[number])
                except OSError as error:
                    if self._children:
                        break
                    problem = f"no process can be made for it: {error.strerror}"
                    yield waiting[number][0], Ended(answer=None, problem=problem)
                del waiting[number]
            if self._children:
                yield from self._step(1.0 if tick else None, turns=bool(waiting))
            if tick:
                tick()

    def _first(self, waiting: Sequence[tuple[int, Job, str]]) -> int | None:
        """Of those that wait the first whose turn it is, by its number in the line."""
        now = self._now()
        taken: dict[str, int] = {}
        for child in self._children.values():
            if child.place and not child.holds.passed(now):
                taken[child.place] = taken.get(child.place, 0) + 1
        return next((number for number, job in enumerate(waiting) if taken.get(job[2], 0) < self._room), None)

    def _finish(self) -> Iterator[tuple[int, Ended]]:
        while self._children:
            yield from self._step(None)

    def _step(self, at_most: float | None, *, turns: bool = False) -> Iterator[tuple[int, Ended]]:
        """One wait; whatever ended in it. ``turns``: somebody waits for a place to be given up."""
        now = self._now()
        wait = min(child.limit.remaining(now) for child in self._children.values())
        if turns:
            held = [child.holds for child in self._children.values() if child.place and not child.holds.passed(now)]
            wait = min([wait, *(holds.remaining(now) for holds in held)])
        for key, _ in self._selector.select(wait if at_most is None else min(wait, at_most)):
            child: _Child = key.data
            chunk = os.read(child.pipe, 1 << 16)
            child.received += chunk
            if not chunk:
                # Forgotten first: an interruption here, or whoever takes the result, may leave the loop, and then the
                # pid belongs to nobody.
                self._forget(child)
                _, status = os.waitpid(child.pid, 0)
                result = ended(bytes(child.received), os.waitstatus_to_exitcode(status), child.late, self._seconds)
                yield child.index, result
        now = self._now()
        for child in [child for child in self._children.values() if child.limit.passed(now)]:
            if child.stage is _Stage.RUNNING:
                child.late = True
                self._tell(child)
            elif child.stage is _Stage.TOLD:
                self._move(child, _Stage.KILLED, signal.SIGKILL, KILL_SECONDS)
            else:
                self._forget(child)
                yield child.index, Ended(answer=None, problem="it hangs in the kernel and cannot be ended", late=True)

    def _tell(self, child: _Child) -> None:
        self._move(child, _Stage.TOLD, signal.SIGTERM, UNDO_SECONDS)

    def _move(self, child: _Child, stage: _Stage, number: signal.Signals, seconds: float) -> None:
        child.stage = stage
        child.limit = Deadline.after(seconds, now=self._now(), reason=f"a child process that was {stage.value}")
        os.kill(child.pid, number)

    def _forget(self, child: _Child) -> None:
        self._children.pop(child.index, None)
        self._selector.unregister(child.pipe)
        os.close(child.pipe)

    def _shut_siblings(self) -> None:
        for child in self._children.values():
            os.close(child.pipe)

    def _start(self, index: int, job: Job, place: str) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)

        def live(mask: Set[int]) -> NoReturn:
            os.close(reading)
            be_child(job, writing, mask, shut=self._shut_siblings)

        def born(pid: int) -> None:
            now = self._now()
            limit = Deadline.after(self._seconds, now=now, reason="a child process")
            holds = Deadline.after(PLACE_SECONDS, now=now, reason=f"its turn at {place}")
            made = _Child(index=index, pid=pid, pipe=reading, limit=limit, place=place, holds=holds)
            self._children[index] = made
            self._selector.register(reading, selectors.EVENT_READ, made)

        try:
            fork(live, born)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)


def ended(received: bytes, status: int, late: bool, seconds: float) -> Ended:
    """What became of a child, by what it wrote and its exit status (negative: the signal); ``seconds``: it had."""
    if status == 0 and received:
        try:
            answer = json.loads(received)
        except ValueError:
            # A process the job has left behind wrote to the pipe as well.
            return Ended(answer=None, problem="its answer is damaged")
        if "traceback" in answer:
            return Ended(answer=None, problem=f"a fault of this program: {answer['traceback']}")
        return Ended(answer=answer)
    if late:
        return Ended(answer=None, problem=f"it was not done after {seconds:g} s", late=True)
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    return Ended(answer=None, problem=f"its process ended without a result ({how})")


def keep_ended_children() -> None:
    """Have children that ended stay until they are asked for; before the first is made.

    Who started us may ignore SIGCHLD, which exec hands down: then nobody would learn how a child ended, and its number
    might be another process's when a signal is sent there.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _interrupt(*_: object) -> None:
    """The first signal ends the work, the clean-up that follows is not disturbed by a second one."""
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def be_child(job: Job, pipe: int, mask: Set[int], *, shut: Callable[[], None]) -> NoReturn:
    """The whole life of a child; never returns into the parent's code.

    ``shut`` closes what the child got from its parent and shall not hold. The signals of :data:`ENDING_SIGNALS` are
    blocked on entry; ``mask`` is what is blocked afterwards.
    """
    status = 1
    try:
        enter_child(mask, shut)
        answer = answer_of(job)
        # From here on the parent shall learn it: an end now would deny what has been done.
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        os.set_blocking(pipe, True)
        data = memoryview(json.dumps(answer).encode())
        while data:
            data = data[os.write(pipe, data) :]
        status = 0
    except KeyboardInterrupt:
        status = 2  # ended by the parent, or by the terminal that ends both; the job has undone itself on the way here
    finally:
        os._exit(status)


def enter_child(mask: Set[int], shut: Callable[[], None]) -> None:
    """The first thing in a child: nothing of the parent's is held or heard any more; see :func:`be_child`."""
    # Where a parent's event loop hears of signals: the child's own would be taken for the parent's.
    signal.set_wakeup_fd(-1)
    leave_standard_files()
    shut()
    for number in ENDING_SIGNALS:
        # What our caller has us ignore (nohup, a shell's background) is no reason to end; SIGTERM is our parent's.
        if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def answer_of(job: Job) -> Answer:
    """What a job hands back; a fault of ours in it is an answer too, that :func:`ended` knows."""
    try:
        return job()
    except Exception:  # noqa: BLE001 - a fault of ours stays in this process and is told by the parent
        import traceback  # 18 ms, and never in a run that goes well

        return {"traceback": traceback.format_exc(limit=-6)}


def hold_standard_files() -> None:
    """Open on nothing what is closed of the three standard files, before anything else is opened.

    Some who start us (an initramfs without a console, old init scripts) leave them closed. The next socket would then
    be descriptor 0, 1 or 2, and end where standard output is written to or pointed elsewhere.
    """
    descriptor = 0
    while descriptor <= 2:
        try:
            descriptor = os.open(os.devnull, os.O_RDWR)
        except OSError:
            return  # a place without /dev/null
        if descriptor <= 2:
            # As any standard file, for modprobe and others we start.
            os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = _writer(1)
    if sys.stderr is None:
        sys.stderr = _writer(2)


def _writer(number: int) -> TextIO:
    """A stream as Python makes it where the descriptor is open at its start."""
    return os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def leave_standard_files() -> None:
    """Point the three standard files to nothing: who reads ours from a pipe must not wait for a process behind us."""
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(nothing, number)
    os.close(nothing)
