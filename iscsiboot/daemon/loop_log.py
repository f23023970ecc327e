# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the event loop itself complains about, on its way to the daemon's log.

Left alone, asyncio's complaints go to standard error by :mod:`logging`, which waits for it, and once for each packet
that a client does not take: the one is no way to write for a daemon whose disk may be gone, the other is no number of
lines. So they become lines like all others, the same one again at most once a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from iscsiboot.keeper.log import Level, Log
from iscsiboot.keeper.seal import fault_words

AGAIN_SECONDS = 60.0
KINDS_MAX = 64
"""Different complaints remembered; when there are more, the oldest may be told again."""


class LoopLog(logging.Handler):
    """Hands complaints on, each kind once a minute."""

    def __init__(self, log: Log, now: Callable[[], float]) -> None:
        super().__init__(logging.ERROR)
        self._log = log
        self._now = now
        self._told: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """One complaint."""
        text = record.getMessage().partition("\n")[0]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            text = f"{text}: {fault_words(error)}"
        now = self._now()
        if now < self._told.get(text, float("-inf")) + AGAIN_SECONDS:
            return
        self._told.pop(text, None)
        self._told[text] = now
        if len(self._told) > KINDS_MAX:
            del self._told[next(iter(self._told))]
        self._log(Level.WARNING, f"event loop: {text}")


def take_complaints(log: Log, now: Callable[[], float]) -> None:
    """From now on; nothing of :mod:`logging` reaches standard error by itself any more."""
    logger = logging.getLogger("asyncio")
    logger.handlers[:] = [LoopLog(log, now)]
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    # What else logs has no handler, and would go to standard error by the last resort.
    logging.lastResort = None
    logging.raiseExceptions = False
