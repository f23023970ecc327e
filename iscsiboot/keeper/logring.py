# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a guard's lines go: a ring in memory first, from there to syslog, standard error or the kernel's log.

A guard that waited for its own log would stand still with the disk the log is on. So a line is put into a ring, and
each sink is offered what waits for it, never waiting itself: what a sink does not take now it is offered again when it
can be written to, or after a while. A ring that is full loses its oldest line and counts it; the count is told when the
sink takes lines again. What a sink loses, the others do not.

No time stands in a line: each of the three adds it, and localtime(3) reads a file.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque

from iscsiboot.errors import printable
from iscsiboot.keeper.log import Level
from iscsiboot.keeper.sinks import Sink, Took

CAPACITY = 512
"""Lines that wait for one sink; with lines of 200 characters a ring is below 150 KiB."""
LINE_CHARACTERS = 900
"""A line is cut to this: the kernel's log takes 976 bytes (LOG_LINE_MAX), syslog more."""
AGAIN_SECONDS = (1.0, 60.0)
"""Until a sink that is not there is tried again: doubled from the first to the second."""


class LogRing:
    """A :data:`iscsiboot.keeper.log.Log`: takes lines from anywhere in the process, never blocks, never fails.

    Without a loop lines are offered when the next one comes and by :meth:`flush`; :meth:`attach` makes the loop offer
    them as soon as they can be taken.

    It belongs to the process that made it, or attached it last. In a fork it says nothing: the sinks' descriptors are
    closed there, and their numbers may be anybody's.
    """

    def __init__(self, *sinks: Sink, level: Level = Level.INFO, capacity: int = CAPACITY) -> None:
        self.level = level
        self._owner = os.getpid()
        self._queues = tuple(_Queue(sink, capacity) for sink in sinks)

    def __call__(self, level: Level, text: str) -> None:
        """One line without secrets; less important ones than ``self.level`` are passed over."""
        if level > self.level or os.getpid() != self._owner:
            return
        line = printable(text[:LINE_CHARACTERS])[:LINE_CHARACTERS]
        for queue in self._queues:
            queue.add(level, line)

    @property
    def lost(self) -> int:
        """Lines no sink ever saw, summed over the sinks."""
        return sum(queue.lost for queue in self._queues)

    @property
    def waiting(self) -> int:
        """Lines some sink has not taken yet."""
        return max((len(queue.lines) for queue in self._queues), default=0)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have ``loop`` offer what waits."""
        self._owner = os.getpid()
        for queue in self._queues:
            queue.attach(loop)

    def detach(self) -> None:
        """The loop ends, or this process is a fork of the one that has it."""
        for queue in self._queues:
            queue.detach()

    def flush(self) -> bool:
        """Offer everything once, without waiting; whether all of it was taken."""
        if os.getpid() != self._owner:
            return False
        taken = [queue.offer() for queue in self._queues]
        return all(taken)

    def close(self) -> None:
        """Offer once more and close the sinks."""
        self.detach()
        self.flush()
        for queue in self._queues:
            queue.sink.close()


class _Queue:
    """What waits for one sink."""

    def __init__(self, sink: Sink, capacity: int) -> None:
        self.sink = sink
        self.lines: deque[tuple[Level, str]] = deque(maxlen=capacity)
        self.lost = 0
        self._untold = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watched: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause = AGAIN_SECONDS[0]

    def add(self, level: Level, line: str) -> None:
        if len(self.lines) == self.lines.maxlen:
            self.lost += 1
            self._untold += 1
        self.lines.append((level, line))
        # A sink that could not take the last line is asked again when it can, not once a line.
        if self._watched is None and self._timer is None:
            self.offer()

    def offer(self) -> bool:
        """Whether everything was taken."""
        while self.lines:
            took = self._take_count()
            if took is Took.YES:
                level, line = self.lines[0]
                took = self.sink.write(level, line)
            if took is not Took.YES:
                self._ask_later(took)
                return False
            self.lines.popleft()
        self._ask_no_more()
        self._pause = AGAIN_SECONDS[0]
        return True

    def _take_count(self) -> Took:
        """Tell first what was lost in front of the oldest line that is left."""
        if not self._untold:
            return Took.YES
        took = self.sink.write(Level.WARNING, f"{self._untold} log lines were lost here")
        if took is Took.YES:
            self._untold = 0
        return took

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.offer()

    def detach(self) -> None:
        self._ask_no_more()
        self._loop = None

    def _ask_later(self, took: Took) -> None:
        if self._loop is None:
            return
        descriptor = self.sink.fileno()
        if took is Took.NOT_NOW and descriptor is not None:
            if self._watched != descriptor:
                self._ask_no_more()
                self._loop.add_writer(descriptor, self.offer)
                self._watched = descriptor
            return
        self._ask_no_more()
        self._timer = self._loop.call_later(self._pause, self._again)
        self._pause = min(self._pause * 2, AGAIN_SECONDS[1])

    def _again(self) -> None:
        self._timer = None
        self.offer()

    def _ask_no_more(self) -> None:
        if self._watched is not None and self._loop is not None:
            self._loop.remove_writer(self._watched)
        self._watched = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
