# SPDX-License-Identifier: LGPL-2.1-or-later
"""One line at a terminal that says how far many operations are, and is gone when they are over.

It goes to stderr, because stdout is for results; where stderr is no terminal there is nothing of it.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_ERASE = "\r\x1b[K"


class Progress:
    """Counts what is done. :meth:`clear` before anything else is written, :meth:`show` after it."""

    def __init__(self, err: TextIO, verb: str, total: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._err = err
        self._verb = verb
        self._total = total
        self._now = now
        self._began = now()
        self._done = self._failed = 0
        self._shown = False
        self._on = total > 0 and err.isatty()

    def count(self, *, failed: bool = False) -> None:
        """One more is over."""
        self._done += 1
        self._failed += failed

    def show(self) -> None:
        """Write the line anew."""
        if not self._on or self._done >= self._total:
            return
        failed = f", {self._failed} failed" if self._failed else ""
        seconds = int(self._now() - self._began)
        self._err.write(f"{_ERASE}{self._verb}: {self._done} of {self._total} done{failed}, {seconds} s")
        self._err.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._err.write(_ERASE)
            self._err.flush()
            self._shown = False
