# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsid.startup``: the administrator's command that starts the daemon when a client finds none."""

from __future__ import annotations

import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SHELL = "/bin/sh"
START_SECONDS = 90.0
"""For the command: systemd's own bound of a unit's start."""
LISTEN_SECONDS = 5.0
"""For a daemon that goes to the background before it listens. The peer waits for one second, then gives up."""
_STEP_SECONDS = 0.1
_GOOD = "iscsid.startup was run"


def start_daemon(command: str, listens: Callable[[], bool], *, now: Callable[[], float] = time.monotonic) -> str:
    """Run ``command`` by the shell, then wait until somebody ``listens``; what became of the command, in words.

    Its output goes to stderr: stdout is for results. It may leave processes behind, that is what it is for.
    """
    try:
        child = os.posix_spawn(
            SHELL,
            ["sh", "-c", command],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, 2, 1),
            ],
            # The interpreter ignores these, and a program that is run would go on with that.
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    except OSError as error:
        return f"iscsid.startup could not be run: {error.strerror}"
    ended = _ended(child)
    if ended != _GOOD and not listens():
        return ended
    _wait_until(listens, now)
    return ended


def _ended(child: int) -> str:
    """Wait for the command; a bound, because it may wait for what waits for us."""
    try:
        descriptor = os.pidfd_open(child)
    except ProcessLookupError:
        return _GOOD  # whoever started us has children reaped unseen
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(START_SECONDS * 1000):
            return f"iscsid.startup is not done after {START_SECONDS:g} s"
    finally:
        os.close(descriptor)
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:
        return _GOOD
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return _GOOD
    return f"iscsid.startup ended with status {code}" if code > 0 else f"iscsid.startup ended by signal {-code}"


def _wait_until(listens: Callable[[], bool], now: Callable[[], float]) -> None:
    """Nothing tells when an abstract name comes to life, so this asks from time to time."""
    limit = now() + LISTEN_SECONDS
    while not listens() and now() < limit:
        select.poll().poll(_STEP_SECONDS * 1000)
