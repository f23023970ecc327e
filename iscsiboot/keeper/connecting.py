# SPDX-License-Identifier: LGPL-2.1-or-later
"""A TCP connection on the event loop to a portal that may be away: several tries side by side.

The kernel repeats a SYN after 1, 3, 7, 15, ... seconds. A target that comes back would be noticed up to eight seconds
late, so a new socket begins each second beside the older ones, and the first that is answered wins. A refusal is an
answer too and ends them all: when to try again is the policy's.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable

from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import Portal
from iscsiboot.session.connector import ConnectError, begin, refusal

SYN_EVERY = 1.0
"""Seconds between the beginnings."""
SIDE_BY_SIDE = 4
"""Sockets at a time, the oldest goes first: an answer that takes more than four seconds is none."""
_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What hinders one more socket says nothing of those at work."""


async def connect(
    portal: Portal, *, deadline: Deadline, now: Callable[[], float], window_size: int, netdev: str | None
) -> socket.socket:
    """A connected, non-blocking socket, the caller's to close; options as in :mod:`iscsiboot.session.connector`.

    :class:`ConnectError` when the portal refuses or does not answer in time. Cancelled, it leaves no socket.
    """
    race = _Race(portal, now=now, window_size=window_size, netdev=netdev)
    winner = None
    try:
        winner = await race.run(deadline)
    finally:
        race.end(winner)
    return winner


class _Race:
    def __init__(self, portal: Portal, *, now: Callable[[], float], window_size: int, netdev: str | None) -> None:
        self._portal = portal
        self._now = now
        self._window_size = window_size
        self._netdev = netdev
        self._began = now()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[socket.socket] = self._loop.create_future()
        self._racing: deque[socket.socket] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, deadline: Deadline) -> socket.socket:
        late = self._loop.call_later(deadline.remaining(self._now()), self._lose, errno.ETIMEDOUT)
        try:
            self._one_more()
            return await self._done
        finally:
            late.cancel()

    def end(self, winner: socket.socket | None) -> None:
        """Close all but the winner; also one that has won and nobody took, being cancelled in that moment."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._done.cancel() and not self._done.cancelled() and self._done.exception() is None:
            self._racing.append(self._done.result())
        for sock in self._racing:
            if sock is not winner:
                self._drop(sock)
        self._racing.clear()

    def _one_more(self) -> None:
        self._timer = None
        if self._done.done():
            return
        try:
            sock, number = begin(self._portal, window_size=self._window_size, netdev=self._netdev)
        except ConnectError as error:
            if not (self._racing and error.number in _NO_MORE):
                self._done.set_exception(error)
                return
        else:
            self._racing.append(sock)
            if number == errno.EINPROGRESS:
                self._loop.add_writer(sock.fileno(), self._answered, sock)
            else:
                self._settle(sock, number)
        if not self._done.done():
            if len(self._racing) > SIDE_BY_SIDE:
                self._drop(self._racing.popleft())
            self._timer = self._loop.call_later(SYN_EVERY, self._one_more)

    def _answered(self, sock: socket.socket) -> None:
        self._settle(sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _settle(self, sock: socket.socket, number: int) -> None:
        self._loop.remove_writer(sock.fileno())
        if number or _connected_to_itself(sock):
            self._lose(number or errno.ECONNREFUSED)
        elif not self._done.done():
            self._racing.remove(sock)
            self._done.set_result(sock)

    def _lose(self, number: int) -> None:
        if not self._done.done():
            self._done.set_exception(refusal(number, self._portal, self._netdev, self._now() - self._began))

    def _drop(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock.fileno())
        # A target may have accepted it meanwhile: a reset tells it at once that nothing will follow.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def _connected_to_itself(sock: socket.socket) -> bool:
    """TCP's simultaneous open: tried often enough, a port of this machine where nobody listens answers with itself."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False
