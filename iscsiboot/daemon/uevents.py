# SPDX-License-Identifier: LGPL-2.1-or-later
"""One socket for the kernel's announcements, and everybody in the daemon who hears them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from iscsiboot.keeper.log import Level, Log
from iscsiboot.sysfs.uevent import Uevent, UeventsLost, UeventSocket

Listener = Callable[[Uevent | UeventsLost], None]
"""Called in the loop; does not block and does not raise."""


class Uevents:
    """Reads while attached. Without the socket, which a container may refuse, it says so once and nobody hears any."""

    def __init__(
        self, log: Log, *listeners: Listener, open_socket: Callable[[], UeventSocket] = UeventSocket.open
    ) -> None:
        self._log = log
        self._listeners = listeners
        self._open = open_socket
        self._socket: UeventSocket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear everything from now on."""
        try:
            self._socket = self._open()
        except OSError as error:
            self._log(
                Level.WARNING,
                f"the kernel's announcements cannot be heard: {error.strerror}; new units are found by a rescan only",
            )
            return
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        if self._socket is None:
            return
        try:
            events = self._socket.read()
        except OSError as error:
            self._log(Level.WARNING, f"the kernel's announcements are not heard any more: {error.strerror}")
            self.close()
            return
        for event in events:
            for listener in self._listeners:
                listener(event)

    def close(self) -> None:
        """Hear nothing any more."""
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
