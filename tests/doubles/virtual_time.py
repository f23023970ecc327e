# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event loop whose clock is moved by nothing but its own timers: five minutes of an outage pass in milliseconds.

Sockets are real. Before the clock jumps to the next timer, what is on its way over loopback gets a moment to arrive.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MOMENT = 0.001
"""Real seconds for a segment to cross loopback."""
PATIENCE = 10.0
"""Real seconds without a timer after which nothing will ever happen."""


class Stuck(Exception):
    """Everybody waits and no timer is set."""


class _Selector(selectors.EpollSelector):
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.turns += 1
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        ready = super().select(PATIENCE if timeout is None else MOMENT)
        if not ready and timeout is None:
            raise Stuck
        if not ready and timeout is not None:
            self.loop.clock += timeout
            self.loop.jumps += 1
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """``clock`` is what ``loop.time()`` says; ``jumps`` counts how often it moved: the wake-ups by timers."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.turns = 0
        self.jumps = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.clock


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on a :class:`VirtualLoop`; tasks left over are cancelled and waited for."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def virtual_loop() -> VirtualLoop:
    """The loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
