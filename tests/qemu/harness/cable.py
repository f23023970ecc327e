# SPDX-License-Identifier: LGPL-2.1-or-later
"""The way between a guest and its target on the host: a port that counts logins, and that can be cut and mended.

A connection counts as a login when its first PDU is a Login Request that begins one for a session (RFC 7143 11.12.5);
a target of tgt's has no counter of its own.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from tests.doubles.peers import LOOPBACK, free_port

LOGIN_REQUEST = 0x03
_OPCODE = 0x3F
_CHUNK = 1 << 18
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


@dataclass(slots=True)
class Log:
    """What went over the cable. Times are monotonic seconds."""

    logins: list[float] = field(default_factory=list)
    cuts: list[tuple[float, float]] = field(default_factory=list)
    """When each cut began and ended."""


class Cable:
    """Forwards connections to ``target`` (a port of the loopback) for the time of a ``with`` block, in a thread."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self.log = Log()
        self._selector = selectors.DefaultSelector()
        self._ends: dict[socket.socket, socket.socket] = {}
        """Each end of a connection -> the other."""
        self._new: set[socket.socket] = set()
        """Guests' ends nothing has been read from yet."""
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="cable", daemon=True)
        self._over = False

    def __enter__(self) -> Cable:
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._listen()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._wake.send(b".")
        self._thread.join()
        self._drop()
        self._wake.close()
        self._woken.close()
        self._selector.close()

    def cut(self) -> None:
        """Every connection is reset, and nobody listens."""
        with self._lock:
            self._drop()
            self.log.cuts.append((time.monotonic(), 0.0))
        self._wake.send(b".")

    def mend(self) -> None:
        """Connections are taken again."""
        with self._lock:
            self._listen()
            began, _ = self.log.cuts.pop()
            self.log.cuts.append((began, time.monotonic()))
        self._wake.send(b".")

    def _listen(self) -> None:
        self._listener = socket.create_server((LOOPBACK, self.port))
        self._selector.register(self._listener, selectors.EVENT_READ)

    def _drop(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        for end in list(self._ends):
            self._close(end)

    def _close(self, end: socket.socket) -> None:
        other = self._ends.pop(end, None)
        for each in (end, other):
            if each is not None and each.fileno() >= 0:
                self._selector.unregister(each)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.close()
        if other is not None:
            self._ends.pop(other, None)
        self._new.discard(end)

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select():
                with self._lock:
                    self._ready(key.fileobj)

    def _ready(self, ready: object) -> None:
        if ready is self._woken:
            self._woken.recv(64)
        elif ready is self._listener and self._listener is not None:
            self._accept(self._listener)
        elif isinstance(ready, socket.socket) and ready in self._ends:
            self._forward(ready)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            guest = listener.accept()[0]
            try:
                target = socket.create_connection((LOOPBACK, self._target))
            except OSError:
                guest.close()
                return
            for end, other in ((guest, target), (target, guest)):
                self._ends[end] = other
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(end, selectors.EVENT_READ)
            self._new.add(guest)

    def _forward(self, end: socket.socket) -> None:
        try:
            data = end.recv(_CHUNK)
            if data:
                if end in self._new:
                    self._new.discard(end)
                    if data[0] & _OPCODE == LOGIN_REQUEST:
                        self.log.logins.append(time.monotonic())
                self._ends[end].sendall(data)
                return
        except OSError:
            data = b""
        self._close(end)
