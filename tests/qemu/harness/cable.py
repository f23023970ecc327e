# SPDX-License-Identifier: LGPL-2.1-or-later
"""The way between a guest and its target on the host: a port that counts logins, and that can be cut and mended.

A connection counts as a login when its first PDU is a Login Request that begins one for a session (RFC 7143 11.12.5);
a target of tgt's has no counter of its own. What else is sent is followed PDU by PDU, so the host's clock tells when a
target's disk answers again. No digests: the machines under test negotiate none.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

from tests.doubles.peers import LOOPBACK, free_port

SCSI_COMMAND, LOGIN_REQUEST, LOGOUT_REQUEST = 0x01, 0x03, 0x06
SCSI_ANSWERS = frozenset({0x21, 0x25})
"""Response and Data-In."""
_OPCODE = 0x3F
_WRITES = 0x20
"""The W bit of a SCSI Command (RFC 7143 11.3.1)."""
_HEADER = 48
_CHUNK = 1 << 18
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""


@dataclass(slots=True)
class Log:
    """What went over the cable. Times are monotonic seconds."""

    logins: list[float] = field(default_factory=list)
    cuts: list[tuple[float, float]] = field(default_factory=list)
    """When each cut began and ended."""
    answers: list[float] = field(default_factory=list)
    """When the target first answered a SCSI command, one for each connection on which it did."""
    logouts: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)
    """Each command that writes."""

    def recoveries(self) -> list[float | None]:
        """Seconds from the end of each cut until the disk answered on a new connection; None where it did not."""
        return self._after_cuts(self.answers)

    def returns(self) -> list[float | None]:
        """Seconds from the end of each cut until a new connection began to log in."""
        return self._after_cuts(self.logins)

    def _after_cuts(self, moments: Sequence[float]) -> list[float | None]:
        found: list[float | None] = []
        for place, (_, mended) in enumerate(self.cuts):
            end = self.cuts[place + 1][0] if place + 1 < len(self.cuts) else float("inf")
            found.append(next((moment - mended for moment in moments if mended <= moment <= end), None))
        return found


class Pdus:
    """Finds the headers in one direction of a connection, however its bytes are cut."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._rest = 0
        """Bytes still to come of the PDU at hand, behind its header."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The headers that are complete now."""
        at = 0
        while at < len(data):
            if self._rest:
                step = min(self._rest, len(data) - at)
                self._rest -= step
                at += step
                continue
            piece = data[at : at + _HEADER - len(self._header)]
            self._header += piece
            at += len(piece)
            if len(self._header) == _HEADER:
                # TotalAHSLength in words, DataSegmentLength in bytes, padded to words (RFC 7143 11.2.1).
                length = int.from_bytes(self._header[5:8], "big")
                self._rest = 4 * self._header[4] + length + -length % 4
                yield bytes(self._header)
                self._header.clear()


class Cable:
    """Forwards connections to ``target`` (a port of the loopback) for the time of a ``with`` block, in a thread."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.log = Log()
        self._selector = selectors.DefaultSelector()
        self._ends: dict[socket.socket, socket.socket] = {}
        """Each end of a connection -> the other."""
        self._pdus: dict[socket.socket, Pdus] = {}
        self._new: set[socket.socket] = set()
        """Guests' ends nothing has been read from yet."""
        self._guests: set[socket.socket] = set()
        self._unanswered: set[socket.socket] = set()
        """Targets' ends on which no SCSI command has been answered yet."""
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
            if each is not None:
                self._ends.pop(each, None)
                self._pdus.pop(each, None)
                for those in (self._new, self._guests, self._unanswered):
                    those.discard(each)

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
                target = socket.create_connection((LOOPBACK, self.target))
            except OSError:
                guest.close()
                return
            for end, other in ((guest, target), (target, guest)):
                self._ends[end] = other
                self._pdus[end] = Pdus()
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(end, selectors.EVENT_READ)
            self._new.add(guest)
            self._guests.add(guest)
            self._unanswered.add(target)

    def _forward(self, end: socket.socket) -> None:
        try:
            data = end.recv(_CHUNK)
            if data:
                for header in self._pdus[end].feed(data):
                    self._note(end, header)
                self._ends[end].sendall(data)
                return
        except OSError:
            data = b""
        self._close(end)

    def _note(self, end: socket.socket, header: bytes) -> None:
        kind, now = header[0] & _OPCODE, time.monotonic()
        if end in self._guests:
            if end in self._new and kind == LOGIN_REQUEST:
                self.log.logins.append(now)
            self._new.discard(end)
            if kind == LOGOUT_REQUEST:
                self.log.logouts.append(now)
            elif kind == SCSI_COMMAND and header[1] & _WRITES:
                self.log.writes.append(now)
        elif end in self._unanswered and kind in SCSI_ANSWERS:
            self._unanswered.discard(end)
            self.log.answers.append(now)
