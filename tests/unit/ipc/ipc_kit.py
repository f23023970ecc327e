# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon of the test's own in a thread: the real server, a handler that does what the test says, raw connections."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from iscsiboot.ipc.protocol import Request
from iscsiboot.ipc.server import Server, listening_socket
from iscsiboot.ipc.serving import Limits, Reply

Do = Callable[[Request, Reply], Awaitable[dict[str, Any]]]
T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which a test that waits has failed."""
_NUMBERS = itertools.count()


def address() -> str:
    """An abstract address nobody else has."""
    return f"\0iscsiboot-test-{os.getpid()}-{next(_NUMBERS)}"


def limits(**values: Any) -> Limits:
    """Limits as a test can wait for them."""
    return Limits(**{"undo_seconds": 1.0, "close_seconds": 1.0, **values})


async def echo(request: Request, reply: Reply) -> dict[str, Any]:
    """Answers with the action and its members."""
    return {"action": request.action, **{name: request.fields[name] for name in request.fields if name == "sid"}}


class Daemon:
    """Serves at ``address`` until the end of the ``with``; ``do`` may be replaced at any time."""

    def __init__(self, do: Do = echo, *, users: frozenset[int] = frozenset({0}), limits: Limits | None = None) -> None:
        self.do = do
        self.address = address()
        self.log: list[tuple[int, str]] = []
        self.began: list[str] = []
        self.ended: list[str] = []
        """``action number how``: how each request ended inside the handler."""
        self._users = users
        self._limits = limits or Limits(undo_seconds=1.0, close_seconds=1.0)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    async def handle(self, request: Request, reply: Reply) -> dict[str, Any]:
        name = f"{request.action} {request.number}"
        self.began.append(name)
        try:
            result = await self.do(request, reply)
        except BaseException as error:
            self.ended.append(f"{name} {type(error).__name__}")
            raise
        self.ended.append(f"{name} done")
        return result

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.server = Server(self, lambda level, text: self.log.append((level, text)), time.monotonic,
                             users=self._users, limits=self._limits)  # fmt: skip
        await self.server.start(listening_socket(self.address))
        self._ready.set()
        await self._stop.wait()
        await self.server.close()

    def __enter__(self) -> Daemon:
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; returns when it has."""
        try:
            self.loop.call_soon_threadsafe(self._stop.set)
        except RuntimeError:
            pass  # its loop is closed: it ends already
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in its loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def raw(self) -> Raw:
        """A connection a test has in its own hands."""
        return Raw(self.address)


class Raw:
    """Bytes to and from a daemon."""

    def __init__(self, address: str) -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.link.connect(address)
        self.link.settimeout(PATIENCE)
        self._received = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    def send(self, data: bytes) -> None:
        self.link.sendall(data)

    def ask(self, action: str, number: int = 1, **members: Any) -> None:
        """A request as one line."""
        self.send(line(action, number, **members))

    def flood(self, data: bytes, *, pause: float = 0.0) -> None:
        """Send the same for ever, until the daemon ends the connection or takes no more."""
        while True:
            self.send(data)
            time.sleep(pause)

    def line(self) -> dict[str, Any]:
        """The next answer; EOFError at the end."""
        while b"\n" not in self._received:
            data = self.link.recv(1 << 16)
            if not data:
                raise EOFError(self._received)
            self._received += data
        one, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(one)
        return answer

    def rest(self) -> bytes:
        """Everything until the daemon ends the connection, however it does."""
        while True:
            try:
                data = self.link.recv(1 << 16)
            except ConnectionResetError:
                return self._received
            if not data:
                return self._received
            self._received += data


def line(action: str, number: int = 1, **members: Any) -> bytes:
    """A request."""
    return json.dumps({"iscsiboot": 1, "id": number, "do": action, **members}).encode() + b"\n"


def eventually(condition: Callable[[], object]) -> None:
    """Wait for something another thread does."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.005)
