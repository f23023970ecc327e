# SPDX-License-Identifier: LGPL-2.1-or-later
"""A fork that no signal meets half-way: what every child process of ours that goes on in Python begins with."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Set

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn
else:
    NoReturn = object

ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""What ends a job: its terminal that goes away, Ctrl-C, the parent."""


def fork(live: Callable[[Set[int]], NoReturn], born: Callable[[int], None] | None = None) -> int:
    """A child that is ``live``, and its number. OSError when no process can be made.

    :data:`ENDING_SIGNALS` are blocked over the fork: one that came before the child has handlers of its own would run
    the parent's in it, and lead it back into the parent's code. ``live`` is given what was blocked before.

    A parent whose handler raises learns no number here. ``born`` is given it before, while the signals are blocked, and
    the child is the caller's from then on; without ``born`` the child is told to end as well.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pid = 0
    try:
        # In here: the handler of a signal that came just before runs in this very call, when they are blocked already.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        pid = os.fork()
        if pid == 0:
            live(before)
        if born is not None:
            born(pid)
    finally:
        _unblock(before, pid if born is None else 0)
    return pid


def _unblock(mask: Set[int], child: int) -> None:
    """What was blocked over the fork is heard now; ``child`` is 0 where none would be lost."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except BaseException:
        if child:
            os.kill(child, signal.SIGTERM)
        raise
