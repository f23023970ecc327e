# SPDX-License-Identifier: LGPL-2.1-or-later
"""The end of another process, told by the kernel (pidfd_open(2))."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

AGAIN_SECONDS = 1.0
"""Until one is looked at again whose end the kernel does not tell."""


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None when there is no such process, or none to have
    (before Linux 5.3).
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


async def process_end(pid: int) -> None:
    """Return when that process has ended; where that cannot be watched, after a second."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    timer: asyncio.TimerHandle | None = None
    descriptor = watch(pid)
    if descriptor is None:
        if pid > 0 and not _is_there(pid):
            return
        timer = loop.call_later(AGAIN_SECONDS, _settle, ended)
    else:
        loop.add_reader(descriptor, _settle, ended)
    try:
        await ended
    finally:
        if timer is not None:
            timer.cancel()
        if descriptor is not None:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_there(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
