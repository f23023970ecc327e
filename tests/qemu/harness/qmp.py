# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client of the QEMU Machine Protocol over a connected stream socket (docs/interop/qmp-spec in QEMU's tree).

JSON objects, one a line. The server greets, the client answers ``qmp_capabilities``, then commands and answers
alternate, with events in between at any time; events met on the way are kept for :meth:`Qmp.events`.
"""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Callable
from typing import Any

from iscsiboot.model.deadline import Deadline

Message = dict[str, Any]
"""A QMP object: its members are the protocol's, free-form by nature."""

_BUFFER_LIMIT = 1 << 20


class QmpError(Exception):
    """The peer went away, answered late, spoke no QMP, or refused a command."""


class QmpRefused(QmpError):
    """The command was understood and refused; ``kind`` is QMP's error class."""

    def __init__(self, command: str, kind: str, description: str) -> None:
        super().__init__(f"{command}: {description} ({kind})")
        self.kind = kind


class Qmp:
    """One connection. The socket is the caller's to close; ``now`` is the clock deadlines are measured on."""

    def __init__(self, connection: socket.socket, now: Callable[[], float]) -> None:
        self._connection = connection
        self._now = now
        self._buffer = b""
        self._events: list[Message] = []
        self._serial = 0

    def greet(self, deadline: Deadline) -> Message:
        """Take the greeting and leave negotiation mode. Returns the greeting's ``QMP`` member."""
        greeting = self._receive(deadline).get("QMP")
        if not isinstance(greeting, dict):
            raise QmpError("the peer does not greet as QMP does")
        self.execute("qmp_capabilities", deadline=deadline)
        return greeting

    def execute(self, command: str, arguments: Message | None = None, *, deadline: Deadline) -> Any:
        """Run ``command`` and return its ``return`` member."""
        self._serial += 1
        request: Message = {"execute": command, "id": self._serial}
        if arguments is not None:
            request["arguments"] = arguments
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"{command}: cannot be sent: {error.strerror}") from error
        while True:
            message = self._receive(deadline)
            if "event" in message:
                self._events.append(message)
            elif message.get("id") != self._serial:
                continue  # the answer to a command whose deadline had passed
            elif "error" in message:
                raise QmpRefused(command, str(message["error"].get("class")), str(message["error"].get("desc")))
            else:
                return message.get("return")

    def events(self) -> list[Message]:
        """Events met so far, oldest first; each is handed out once."""
        taken, self._events = self._events, []
        return taken

    def _receive(self, deadline: Deadline) -> Message:
        while b"\n" not in self._buffer:
            self._fill(deadline)
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise QmpError("the peer sends no JSON") from error
        if not isinstance(message, dict):
            raise QmpError("the peer sends JSON that is no object")
        return message

    def _fill(self, deadline: Deadline) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, selectors.EVENT_READ)
            if not selector.select(deadline.remaining(self._now())):
                raise QmpError(f"no answer in time: {deadline.reason}")
        try:
            chunk = self._connection.recv(65536)
        except OSError as error:
            raise QmpError(f"the connection broke: {error.strerror}") from error
        if not chunk:
            raise QmpError("the peer closed the connection")
        self._buffer += chunk
        if len(self._buffer) > _BUFFER_LIMIT:
            raise QmpError("the peer sends a line without end")
