# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who a guard process has to do with, as events of one queue: the process it stands behind, and those that ask."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from iscsiboot.keeper import endings
from iscsiboot.keeper.channel import Channel, Garbage, Message

REQUEST_SECONDS = 5.0
"""For a peer to say what it wants after it has connected."""
LAST_WORDS_SECONDS = 0.5
"""For what a dead process has said to be read: it is there already. Only a child that inherited its socket keeps us
from coming to the end of it."""
TAKERS_MAX = 8
"""Takers that wait at once; more are turned away, and come again."""
EVENTS_MAX = 64
"""Events nobody has looked at yet, above which a taker is turned away: the guard is at a hand-over or at its start, and
takers come again. Everything else in that queue is of one process's, a few a second."""
HELLO = "iscsiboot-keeper"
VERSION = 1


class Event:
    """Something a guard process has to deal with."""


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The process a guard stands behind is gone."""

    actor: Actor


@dataclass(frozen=True, slots=True)
class Broke(Event):
    """The connection to it has ended; the process may still be there."""

    actor: Actor


@dataclass(frozen=True, slots=True)
class Said(Event):
    """It has sent a message."""

    actor: Actor
    message: Message


@dataclass(frozen=True, slots=True)
class Retry(Event):
    """What failed may be tried again."""


@dataclass(frozen=True, slots=True)
class Taker(Event):
    """A process asks for the sessions."""

    channel: Channel
    pid: int


class Actor:
    """The process a guard stands behind: its end and its words become events until :meth:`close`."""

    def __init__(
        self, pid: int, descriptor: int | None, connection: socket.socket | Channel | None, events: asyncio.Queue[Event]
    ) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._events = events
        self._channel = Channel(connection) if isinstance(connection, socket.socket) else connection
        self._reading: asyncio.Task[None] | None = None
        self._mourning: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        if descriptor is not None:
            loop.add_reader(descriptor, self._ended)
        if self._channel is not None:
            self._reading = loop.create_task(self._read(self._channel))

    @classmethod
    def of_taker(cls, taker: Taker, events: asyncio.Queue[Event]) -> Actor:
        """A taker that has taken."""
        return cls(taker.pid, endings.watch(taker.pid), taker.channel, events)

    @property
    def is_watched(self) -> bool:
        """Whether :class:`Ended` will come; without it, the end of the connection is all there is to go by."""
        return self._descriptor is not None

    def say(self, message: Message) -> None:
        """Tell it something; nothing when it has gone."""
        if self._channel is not None:
            self._channel.send(message)

    def close(self) -> None:
        """No more events of it. Twice is fine."""
        loop = asyncio.get_running_loop()
        for task in (self._reading, self._mourning):
            if task is not None:
                task.cancel()
        self._reading = self._mourning = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._descriptor is not None:
            loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _ended(self) -> None:
        # A pidfd stays readable: once is enough.
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._mourning = asyncio.get_running_loop().create_task(self._mourn())

    async def _mourn(self) -> None:
        """Its words before its end: the last may have been that we may leave, since somebody else stands behind it."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=LAST_WORDS_SECONDS)
        self._events.put_nowait(Ended(self))

    async def _read(self, channel: Channel) -> None:
        try:
            while (message := await channel.receive()) is not None:
                self._events.put_nowait(Said(self, message))
        except Garbage:
            pass  # who stops making sense has said its last word
        channel.close()
        self._events.put_nowait(Broke(self))


class TakerDesk:
    """Hears what those want who connect. Takers become events; who only asks how things are is answered here."""

    def __init__(self, events: asyncio.Queue[Event], *, status: Callable[[], Message]) -> None:
        self._events = events
        self._status = status
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[Taker] = []

    def arrived(self, sock: socket.socket, pid: int) -> None:
        """A connection of root's."""
        if len(self._tasks) >= TAKERS_MAX:
            sock.close()
            return
        task = asyncio.get_running_loop().create_task(self._hear(Channel(sock), pid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(self, taker: Taker) -> None:
        """It has to wait until we act."""
        self._waiting.append(taker)
        if len(self._waiting) > TAKERS_MAX:
            self._waiting.pop(0).channel.close()

    def bring_back(self) -> None:
        """We act: those who waited are heard now. The youngest first: the others may have given up."""
        waiting, self._waiting = self._waiting, []
        for taker in reversed(waiting):
            self._events.put_nowait(taker)

    def close(self) -> None:
        """Turn everybody away."""
        for task in self._tasks:
            task.cancel()
        for taker in self._waiting:
            taker.channel.close()

    async def _hear(self, channel: Channel, pid: int) -> None:
        kept = False
        try:
            request = await asyncio.wait_for(channel.receive(), REQUEST_SECONDS)
            version = None if request is None else request.get(HELLO)
            if request is None or not isinstance(version, int) or isinstance(version, bool) or version < VERSION:
                return
            if request.get("want") == "sessions" and self._events.qsize() < EVENTS_MAX:
                kept = True
                self._events.put_nowait(Taker(channel, pid))
            elif request.get("want") == "status":
                channel.send({HELLO: VERSION, "pid": os.getpid(), **self._status()})
                await asyncio.wait_for(channel.sent(), REQUEST_SECONDS)
        except (Garbage, TimeoutError):
            pass
        finally:
            if not kept:
                channel.close()
