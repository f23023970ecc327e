# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines of JSON between two guard processes, over a stream socket on the loop.

Both ends are root's own programs, perhaps of different versions, and either may die or stand still at any moment. So
sending never waits, what was not taken yet may be replaced by something newer, what is read is bounded, and an end of
the peer is an answer like any other (None).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections import deque

from iscsiboot.keeper.document import LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict

LINE_LIMIT = LIMIT + 4096
"""A document as one value of a message."""
UNREAD = 8
"""Messages kept for a reader that is busy; more stay in the socket, and then in the sender."""
_CREDENTIALS = struct.Struct("=iII")


class Garbage(ValueError):
    """The peer does not speak this language."""


class Channel:
    """One connection. Belongs to the running loop; :meth:`close` is idempotent."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._messages: deque[Message] = deque()
        self._outbox: deque[_Parcel] = deque()
        self._garbage = ""
        self._ended = False
        self._reading = False
        self._closed = False
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self._read_on()

    def send(self, message: Message, *, replaces: str = "") -> None:
        """Queue a message. One of the same non-empty ``replaces`` that has not begun to go out is left out."""
        self.send_json(json.dumps(message, separators=(",", ":")).encode(), replaces=replaces)

    def send_json(self, message: bytes, *, replaces: str = "") -> None:
        """The same of a message that is JSON already, in one line."""
        if self._closed:
            return
        if replaces:
            self._outbox = deque(item for item in self._outbox if item.kind != replaces or item.begun)
        self._outbox.append(_Parcel(replaces, memoryview(message + b"\n")))
        self._sent.clear()
        self._write()

    async def sent(self) -> None:
        """Wait until everything queued is the kernel's; also when the peer is gone and nothing will be."""
        await self._sent.wait()

    async def receive(self) -> Message | None:
        """The next message; None when the peer has closed or died. :class:`Garbage` when it is none of ours."""
        while not self._messages:
            if self._garbage:
                raise Garbage(self._garbage)
            if self._ended or self._closed:
                return None
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        self._read_on()
        return message

    def close(self) -> None:
        """Close the socket; who waits for a message gets None."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._outbox.clear()
        self._sent.set()
        self._news.set()

    def _read_on(self) -> None:
        if not (self._reading or self._ended or self._closed):
            self._reading = True
            self._loop.add_reader(self._sock, self._readable)

    def _read_no_more(self) -> None:
        self._reading = False
        self._loop.remove_reader(self._sock)

    def _readable(self) -> None:
        try:
            chunk = self._sock.recv(1 << 16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""  # ECONNRESET: it closed with something of ours unread
        if chunk:
            self._buffer += chunk
            self._take_lines()
        else:
            self._ended = True
        if self._ended or len(self._messages) >= UNREAD:
            self._read_no_more()
        self._news.set()

    def _take_lines(self) -> None:
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                self._fail("it sent a line that is no JSON object")
                return
            self._messages.append(message)
        if len(rest) > LINE_LIMIT:
            self._fail(f"it sent a line of more than {LINE_LIMIT} bytes")

    def _fail(self, words: str) -> None:
        self._garbage = words
        self._ended = True
        self._buffer.clear()

    def _write(self) -> None:
        while self._outbox:
            parcel = self._outbox[0]
            try:
                count = self._sock.send(parcel.rest, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError:
                self._outbox.clear()  # the peer is gone: the reading side says so
                break
            parcel.begun = True
            parcel.rest = parcel.rest[count:]
            if not parcel.rest:
                self._outbox.popleft()
        self._loop.remove_writer(self._sock)
        self._sent.set()


class _Parcel:
    """One message on its way out."""

    def __init__(self, kind: str, rest: memoryview) -> None:
        self.kind = kind
        self.rest = rest
        self.begun = False


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as they were when it connected (or listened): SO_PEERCRED, unix(7)."""
    pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, user


def trusted(user: int) -> bool:
    """Whether a peer of this user is believed: root, and ourselves."""
    return user in (0, os.geteuid())
