# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ending waits from outside: another thread, or a signal handler, says so once and every wait at hand ends.

An eventfd is what a selector can wait for beside a socket; a flag would have to be polled. It is never read, so it
stays ready: whoever waits later ends at once, and any number of links may wait for one cancellation.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from types import TracebackType

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline


class Cancelled(IscsiBootError):
    """A wait was ended by :meth:`Cancellation.cancel`. Not retryable: whoever cancels means it."""

    def __init__(self, *, stage: Stage, subject: str = "") -> None:
        super().__init__("cancelled", stage=stage, subject=subject, exit_code=ExitCode.ERR)


class Cancellation:
    """One decision to stop, shared by all who are to stop. Close it when nobody waits any more.

    :meth:`cancel` may come from any thread and from a signal handler, also twice, also after :meth:`close`.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Reentrant: a signal handler may run in the thread that holds it.
        self._lock = threading.RLock()
        self._cancelled = False

    def __enter__(self) -> Cancellation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    def fileno(self) -> int:
        """The descriptor that becomes readable; -1 once closed."""
        return self._fd

    def cancel(self) -> None:
        """End every wait, now and later."""
        # The lock keeps a number that close() has given back from being written to as somebody else's.
        with self._lock:
            if not self._cancelled:
                self._cancelled = True
                if self._fd >= 0:
                    os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Give the descriptor back; a second call does nothing."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def wait(self, deadline: Deadline, now: Callable[[], float]) -> bool:
        """Wait to be cancelled until the deadline; whether it was. This is what a pause between attempts is."""
        with selectors.PollSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            while not (ready := bool(selector.select(deadline.remaining(now())))) and not deadline.passed(now()):
                pass
        return ready

    def check(self, *, stage: Stage, subject: str = "") -> None:
        """Raise :class:`Cancelled` when it is so."""
        if self._cancelled:
            raise Cancelled(stage=stage, subject=subject)
