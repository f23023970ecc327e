# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon's end of the socket: who may come in, how many, and that nobody harms anybody else.

Only root gives orders (``SO_PEERCRED``; the socket is abstract, so everybody can connect). A client that may is taken
as long as fewer than :attr:`Limits.clients` have nothing at work; further ones wait in the listening socket's queue,
unseen, until one leaves or its order begins. A client that may not is told why, by a desk of its own that a thousand of
them can fill without harm.

Everything happens in the loop that called :meth:`Server.start`; nothing here blocks.
"""

from __future__ import annotations

import asyncio
import json  # noqa: F401 - the protocol imports it late; a daemon without its disk cannot
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable

from iscsiboot import __version__
from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.ipc.connection import Connection, Stranger
from iscsiboot.ipc.protocol import ACTIONS, ADDRESS, Answer, Request, refusal, welcome_line
from iscsiboot.ipc.serving import ERROR, NOTICE, WARNING, Handler, Limits, Log, Reply, Work

BACKLOG = 128
TURN_MAX = 16
"""Connections taken before clients that are in have their turn."""
FULL_SECONDS = 1.0
"""Before the next try when the process has no descriptor left for a connection."""
DENIED_SECONDS = 60.0
"""Between two lines about users without the right: they can make as many as they like."""
_PEER = struct.Struct("3i")
FEATURES = ("cancel", "detach", "legacy", "trace")
"""Capabilities beside the words of ``do``."""


def listening_socket(address: str = ADDRESS, *, backlog: int = BACKLOG) -> socket.socket:
    """A socket that listens at ``address`` (a leading NUL: abstract). OSError (EADDRINUSE) when somebody else does."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


class Server:
    """Takes requests at a listening socket, and hands each to ``handler``."""

    def __init__(
        self,
        handler: Handler,
        log: Log,
        now: Callable[[], float] = time.monotonic,
        *,
        capabilities: Iterable[str] = ACTIONS,
        users: frozenset[int] = frozenset({0}),
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.log = log
        self.now = now
        self._handler = handler
        self._capabilities = (*capabilities, *FEATURES)
        self._users = users
        self._listener: socket.socket | None = None
        self._listening = False
        self._clients: set[Connection] = set()
        self._strangers: set[Stranger] = set()
        self._running: dict[asyncio.Task[None], Work] = {}
        self._arriving: set[asyncio.Task[None]] = set()
        self._empty: asyncio.Future[None] | None = None
        self._room: asyncio.TimerHandle | None = None
        self._watchers = 0
        self._denied = 0
        self._denied_said: float | None = None

    async def start(self, listener: socket.socket) -> None:
        """Take clients from ``listener``, which belongs to the server from now on."""
        listener.setblocking(False)
        self._listener = listener
        self._listen()

    async def close(self) -> None:
        """Take no more clients, end requests, let the last answers go out. Orders that are detached end too."""
        if self._listener is not None:
            self._pause()
            self._listener.close()
            self._listener = None
        for work in self._running.values():
            work.end(refusal("iscsid is ending", code=ExitCode.ISCSID_COMM_ERR, hint="order it again when it runs"))
        tasks = set(self._running) | self._arriving
        if tasks:
            await asyncio.wait(tasks, timeout=self.limits.close_seconds)
        for client in tuple(self._clients):
            client.farewell()
        for stranger in tuple(self._strangers):
            stranger.abort()
        await self._flushed()

    async def _flushed(self) -> None:
        """Wait for the clients to take their last answers, and end those that do not."""
        self._empty = empty = asyncio.get_running_loop().create_future()
        self._look_empty()
        await asyncio.wait({empty}, timeout=self.limits.close_seconds)
        for client in tuple(self._clients):
            client.abort()

    def _look_empty(self) -> None:
        if self._empty is not None and not self._clients and not self._empty.done():
            self._empty.set_result(None)

    # Who comes in. ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._listener is not None and not self._listening and self._has_place():
            self._listening = True
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def _has_place(self) -> bool:
        """Whether one more client can be taken."""
        if len(self._clients) < self.limits.clients:
            return True
        if len(self._clients) >= self.limits.connections:
            return False
        return sum(not client.busy for client in self._clients) < self.limits.clients

    def _pause(self) -> None:
        if self._listener is not None and self._listening:
            self._listening = False
            asyncio.get_running_loop().remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        for _ in range(TURN_MAX):
            if self._listener is None:
                return
            if not self._has_place():
                self._pause()
                self._make_room()
                return
            try:
                link, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # The connection stays in the queue, and the socket readable: without a pause this would spin.
                self.log(ERROR, f"no client can be taken: {error.strerror}")
                self._pause()
                asyncio.get_running_loop().call_later(FULL_SECONDS, self._listen)
                return
            self._admit(link)

    def _make_room(self) -> None:
        """Every place is taken: as long as somebody waits, clients that ask nothing have to go before their time."""
        if self._room is not None:
            self._room.cancel()
            self._room = None
        if self._listener is None or self._listening or self._has_place():
            return
        now, waiting = self.now(), select.poll()
        waiting.register(self._listener, select.POLLIN)
        if waiting.poll(0):
            for client in tuple(self._clients):
                if client.idle(now) >= self.limits.spare_seconds:
                    client.yield_place()
        self._room = asyncio.get_running_loop().call_later(self.limits.spare_seconds, self._make_room)

    def _admit(self, link: socket.socket) -> None:
        link.setblocking(False)
        pid, uid, _ = _PEER.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        client: Connection | Stranger
        if uid in self._users:
            client = Connection(self, uid=uid, pid=pid)
            self._clients.add(client)
        else:
            self._tell_denied(uid, pid)
            if len(self._strangers) >= self.limits.strangers:
                link.close()
                return
            client = Stranger(uid, self.limits.stranger_seconds, self._gone)
            self._strangers.add(client)
        task = asyncio.get_running_loop().create_task(self._arrive(link, client))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _arrive(self, link: socket.socket, client: Connection | Stranger) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: client, link)
        except OSError as error:
            link.close()
            self.log(WARNING, f"a client cannot be taken: {error.strerror}")
            self._clients.discard(client) if isinstance(client, Connection) else self._gone(client)

    def _tell_denied(self, uid: int, pid: int) -> None:
        self._denied += 1
        now = self.now()
        if self._denied_said is not None and now < self._denied_said + DENIED_SECONDS:
            return
        more = f", {self._denied} times since the last such line" if self._denied > 1 else ""
        self.log(WARNING, f"Unauthorized user with UID={uid} (process {pid}) was refused{more}")
        self._denied, self._denied_said = 0, now

    def _gone(self, stranger: Stranger) -> None:
        self._strangers.discard(stranger)

    def left(self, connection: Connection) -> None:
        """See :class:`~iscsiboot.ipc.connection.Desk`."""
        self._clients.discard(connection)
        self._look_empty()
        self._listen()

    # What they ask. ---------------------------------------------------------------------------------------------------

    def welcome(self, number: int | None, spoken: int) -> bytes:
        """See :class:`~iscsiboot.ipc.connection.Desk`."""
        return welcome_line(number, spoken, self._capabilities, __version__, self.limits.pending)

    def begin(self, request: Request, reply: Reply, ended: Callable[[Answer], None]) -> Work:
        """See :class:`~iscsiboot.ipc.connection.Desk`."""
        if len(self._running) >= self.limits.running:
            raise _full(f"iscsid has {len(self._running)} requests at work")
        if request.action == "watch":
            if self._watchers >= self.limits.watchers:
                raise _full(f"{self._watchers} clients are watching")
            self._watchers += 1
        work = Work(self._handler, request, reply, self.limits, self.log)
        task = asyncio.get_running_loop().create_task(self._run(work, ended))
        self._running[task] = work
        task.add_done_callback(self._running.pop)
        if not self._listening:
            # Its client leaves its place to others, as soon as it has noted the work.
            asyncio.get_running_loop().call_soon(self._listen)
        return work

    async def _run(self, work: Work, ended: Callable[[Answer], None]) -> None:
        try:
            answer = await work.run()
        finally:
            self._watchers -= work.request.action == "watch"
        if work.request.detach:
            for line in answer.notes:
                self.log(NOTICE, f"{work.request.action}: {line}")
            if answer.failure is not None:
                self.log(ERROR, f"{work.request.action}: {answer.failure.line()}")
        ended(answer)


def _full(cause: str) -> IscsiBootError:
    return refusal(cause, code=ExitCode.AGAIN, hint="try again when some of them are done")
