# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tells that something about the network has changed: a link, an address, a route. What it was does not matter.

The socket is open only while somebody waits for the network: a machine whose sessions all work is not woken by the
router advertisements and lease renewals of its other links.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

from iscsiboot.keeper.log import Level, Log

RTMGRP_LINK = 0x1
RTMGRP_IPV4_IFADDR = 0x10
RTMGRP_IPV4_ROUTE = 0x40
RTMGRP_IPV6_IFADDR = 0x100
RTMGRP_IPV6_ROUTE = 0x400
"""``<linux/rtnetlink.h>``."""
GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE

GATHER_SECONDS = 0.1
"""One change comes as several messages: the link, its addresses, their routes."""
APART_SECONDS = 1.0
"""Between two reports at least, whatever a link that flaps does."""


def _listen() -> socket.socket:
    raw = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    try:
        raw.bind((0, GROUPS))
    except OSError:
        raw.close()
        raise
    return raw


class NetworkWatch:
    """Calls ``changed`` while :meth:`watch` was told to; in the thread of the loop."""

    def __init__(
        self, changed: Callable[[], None], *, log: Log, open_socket: Callable[[], socket.socket] = _listen
    ) -> None:
        self._changed = changed
        self._log = log
        self._open_socket = open_socket
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last = float("-inf")

    @property
    def watching(self) -> bool:
        """Whether the socket is open."""
        return self._socket is not None

    def watch(self, wanted: bool) -> None:
        """Begin or end; saying the same again does nothing."""
        if wanted and self._socket is None:
            try:
                self._socket = self._open_socket()
            except OSError as error:
                # Attempts come without it as well, some seconds later.
                self._log(Level.DEBUG, f"changes of the network are not noticed: {error.strerror}")
                return
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
        elif not wanted and self._socket is not None:
            self._end()

    def _end(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            while self._socket.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        except OSError as error:
            # More changes than the socket holds are changes all the more.
            if error.errno != errno.ENOBUFS:
                self._log(Level.DEBUG, f"changes of the network are not noticed any more: {error.strerror}")
                self._end()
                return
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time() + GATHER_SECONDS, self._last + APART_SECONDS), self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._last = asyncio.get_running_loop().time()
        self._changed()
