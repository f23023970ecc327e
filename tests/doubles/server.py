# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scripted target on a loopback port: one thread, one connection after the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from iscsiboot.initiator.pdu.header import BHS_LENGTH
from tests.doubles.target import ScriptedTarget

JOIN_SECONDS = 5.0


class TargetServer:
    """Serves ``make_target()`` to each connection; ``piece`` is how many bytes it sends at a time (0: all)."""

    def __init__(self, make_target: Callable[[], ScriptedTarget], *, piece: int = 0, host: str = "127.0.0.1") -> None:
        self._make_target = make_target
        self._piece = piece
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self.targets: list[ScriptedTarget] = []
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="scripted-target", daemon=True)

    def __enter__(self) -> TargetServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shutdown() wakes the thread out of accept() and recv(); close() alone would leave it there.
        for sock in (self._listener, self._connection):
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(JOIN_SECONDS)
        self._listener.close()
        assert not self._thread.is_alive(), "the scripted target hangs"

    def connect(self) -> socket.socket:
        """A client socket."""
        return socket.create_connection((self.host, self.port), timeout=JOIN_SECONDS)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._connection = connection
                target = self._make_target()
                self.targets.append(target)
                with suppress(OSError):
                    self._talk(connection, target)
                self._connection = None

    def _talk(self, connection: socket.socket, target: ScriptedTarget) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while len(bhs := _read(connection, BHS_LENGTH)) == BHS_LENGTH:
            length = int.from_bytes(bhs[5:8], "big")
            reply = target.receive(bhs, _read(connection, -(-length // 4) * 4))
            wire = reply.wire()
            step = self._piece or len(wire) or 1
            for start in range(0, len(wire), step):
                connection.sendall(wire[start : start + step])
            if reply.close:
                return


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length and (chunk := connection.recv(length - len(data))):
        data += chunk
    return data
