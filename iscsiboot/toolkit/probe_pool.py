# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bounded number of threads for jobs that mostly wait for the network, and few of them for one place at once.

A portal with a thousand targets must not get a thousand connections in one moment: small targets refuse what is beyond
their number of sessions, and the probe would report failures of its own making. A thousand portals may have one each.

Not ``concurrent.futures``: its threads are joined when the interpreter ends, and a thread in ``getaddrinfo`` cannot be
woken, so Ctrl-C would wait for a name server that does not answer. These threads are daemons: after the grace they are
given, the process ends without them.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from iscsiboot.model.deadline import Deadline

T = TypeVar("T")

WORKERS_MAX = 128
"""Threads at once: more portals than a target of any size has, so that dead ones never queue behind each other."""
PER_PLACE_MAX = 4
"""Jobs at once for one place."""
GRACE = 1.0
"""Seconds that jobs get to end in good order after Ctrl-C."""


class _Outcome(Generic[T]):
    """What a job returned, or what it raised."""

    def __init__(self, number: int, value: T | None = None, error: BaseException | None = None) -> None:
        self.number = number
        self.value = value
        self.error = error


class _Agenda:
    """Which job is next: each place's jobs in their order, the places in turn.

    A place has as many turns as it may have jobs at once; whoever takes one gives it back when the job is done.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._places = places
        self._waiting: dict[str, deque[int]] = {}
        for number, place in enumerate(places):
            self._waiting.setdefault(place, deque()).append(number)
        rounds = range(PER_PLACE_MAX)
        self._turns = deque(place for turn in rounds for place, jobs in self._waiting.items() if turn < len(jobs))
        self._offered = Counter(self._turns)
        self._left = len(places)
        self._changed = threading.Condition()

    @property
    def width(self) -> int:
        """How many jobs can ever run at once."""
        return len(self._turns)

    def take(self) -> int | None:
        """The next job's number, once a place has room; None when there is none any more."""
        with self._changed:
            while self._left and not self._turns:
                self._changed.wait()
            if not self._left:
                return None
            place = self._turns.popleft()
            self._offered[place] -= 1
            number = self._waiting[place].popleft()
            self._left -= 1
            if not self._left:
                self._changed.notify_all()
            return number

    def finish(self, number: int) -> None:
        """A job is done, and its place has room again."""
        place = self._places[number]
        with self._changed:
            # As many turns as jobs: one that is out for a job that is not there would be a turn for nothing.
            if len(self._waiting[place]) > self._offered[place]:
                self._turns.append(place)
                self._offered[place] += 1
                self._changed.notify()

    def stop(self) -> None:
        """Begin no other job."""
        with self._changed:
            self._left = 0
            self._changed.notify_all()


def run_all(
    jobs: Sequence[Callable[[], T]],
    *,
    places: Sequence[str] | None = None,
    now: Callable[[], float],
    cancel: Callable[[], None],
    done: Callable[[T], None],
    workers: int = WORKERS_MAX,
) -> list[T]:
    """The jobs' results, in the order of the jobs; ``done`` is called here with each as it comes.

    ``places`` says of each job where it goes; None: each to a place of its own. A job that raises makes this raise,
    once. When anything is raised here, Ctrl-C above all, ``cancel`` is called, the jobs under way get :data:`GRACE`
    seconds, and the others are not begun.
    """
    outcomes: queue.SimpleQueue[_Outcome[T]] = queue.SimpleQueue()
    agenda = _Agenda([str(number) for number in range(len(jobs))] if places is None else places)

    def work() -> None:
        while (number := agenda.take()) is not None:
            outcome = _run(number, jobs[number])
            agenda.finish(number)
            outcomes.put(outcome)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, agenda.width))]
    started: list[threading.Thread] = []
    results: dict[int, T] = {}
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        for _ in jobs:
            outcome = outcomes.get()
            if outcome.error is not None:
                raise outcome.error
            value: T = outcome.value  # type: ignore[assignment]  # a job without error has its value
            results[outcome.number] = value
            done(value)
    except BaseException:
        agenda.stop()
        cancel()
        deadline = Deadline.after(GRACE, now=now(), reason="the jobs under way")
        for thread in started:
            thread.join(deadline.remaining(now()))
        raise
    return [results[number] for number in range(len(jobs))]


def _run(number: int, job: Callable[[], T]) -> _Outcome[T]:
    """A job's end as a value: whatever it raises belongs to the thread that waits for it."""
    try:
        return _Outcome(number, job())
    except BaseException as error:  # noqa: BLE001  (raised again by run_all, in the caller's thread)
        return _Outcome(number, error=error)
