# SPDX-License-Identifier: LGPL-2.1-or-later
"""A connection of the initiator and a scripted target back to back in memory, with a clock that only tests move."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from iscsiboot.initiator.connection import Connection
from iscsiboot.initiator.events import LoginSucceeded
from iscsiboot.initiator.timers import Timers
from tests.doubles.conversation import config
from tests.doubles.session import FullTarget, Plan
from tests.doubles.wire import Action, Close, Item, Send, Wait


class Machine(Protocol):
    """What is driven: the interface of ``iscsiboot.initiator.connection.Connection``."""

    def start(self) -> None: ...
    def receive(self, data: bytes, now: float) -> None: ...
    def data_to_send(self) -> bytes: ...
    def next_event(self) -> Any: ...
    def next_deadline(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def connection_lost(self, cause: str, now: float) -> None: ...


Wanted = TypeVar("Wanted")
Driven = TypeVar("Driven", bound=Machine)


class Link(Generic[Driven]):
    """Carries bytes both ways in portions of ``piece`` bytes (0: as they come), and time when nothing moves."""

    def __init__(self, machine: Driven, target: FullTarget, *, piece: int = 0, now: float = 1000.0) -> None:
        self.machine = machine
        self.target = target
        self.now = now
        self.events: list[Any] = []
        """Everything the machine told, in order."""
        self.sent = 0
        """Bytes the target sent."""
        self.closed = False
        self._piece = piece
        self._due: deque[Action] = deque()
        self._blocked: float | None = None

    def start(self) -> None:
        """Begin the login and carry on until nothing moves."""
        self.machine.start()
        self.pump()

    def push(self, *items: Item) -> None:
        """Make the target say something nobody asked for."""
        self._due.extend(self.target.push(*items))
        self.pump()

    def push_at_once(self, *items: Item) -> None:
        """The same in one segment, before the machine can answer the first of it."""
        self._due.append(Send(b"".join(action.data for action in self.target.push(*items) if isinstance(action, Send))))
        self.pump()

    def pump(self) -> None:
        """Move bytes until both sides are quiet, the target waits, or it ended the connection."""
        while not self.closed:
            moved = self._to_target()
            if self._blocked is None and self._due:
                self._perform(self._due.popleft())
            elif not moved:
                break
            self._collect()

    def until(self, kind: type[Wanted], *, after: int = 0, seconds: float = 300.0) -> Wanted:
        """The first event of this kind among those after number ``after``, waiting for it on the clock.

        Whatever the machine raises on the way comes through.
        """

        def found() -> Wanted | None:
            return next((event for event in self.events[after:] if isinstance(event, kind)), None)

        self.wait(lambda: found() is not None, seconds=seconds)
        event = found()
        assert event is not None
        return event

    def wait(self, holds: Callable[[], bool], *, seconds: float = 300.0) -> None:
        """Let things happen until it holds; AssertionError when nothing will happen any more, or not in time."""
        end = self.now + seconds
        self.pump()
        while not holds():
            moment = self._next_moment()
            assert moment is not None, f"nothing will happen any more; events: {self.events}"
            assert moment <= end, f"nothing happened in {seconds} s; events: {self.events}"
            self._pass_to(moment)

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that is due in it."""
        end = self.now + seconds
        self.pump()
        while not self.closed and (moment := self._next_moment()) is not None and moment <= end:
            self._pass_to(moment)
        self.now = max(self.now, end)

    def _next_moment(self) -> float | None:
        moments = [at for at in (self.machine.next_deadline(), self._blocked) if at is not None]
        return min(moments, default=None)

    def _pass_to(self, moment: float) -> None:
        self.now = max(self.now, moment)
        if self._blocked is not None and self._blocked <= self.now:
            self._blocked = None
        deadline = self.machine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.machine.handle_timer(self.now)
            after = self.machine.next_deadline()
            assert after is None or after > self.now, "a timer stays due after it was handled"
        self._collect()
        self.pump()

    def _to_target(self) -> bool:
        data = self.machine.data_to_send()
        for part in self._parts(data):
            if not self.target.closed:
                self._due.extend(self.target.receive(part))
        return bool(data)

    def _perform(self, action: Action) -> None:
        match action:
            case Send(data):
                for part in self._parts(data):
                    self.sent += len(part)
                    self.machine.receive(part, self.now)
            case Wait(seconds):
                self._blocked = self.now + seconds
            case Close():
                self.closed = True
                self.machine.connection_lost("the target closed the connection", self.now)

    def _parts(self, data: bytes) -> list[bytes]:
        step = self._piece or len(data) or 1
        return [data[at : at + step] for at in range(0, len(data), step)]

    def _collect(self) -> None:
        while (event := self.machine.next_event()) is not None:
            self.events.append(event)


def entropy(length: int) -> bytes:
    """The same bytes each time."""
    return bytes(range(1, length + 1))


def link(plan: Plan | None = None, *, piece: int = 0, timers: Timers | None = None, **values: Any) -> Link[Connection]:
    """A connection of the initiator to a target of this plan, not started; ``values`` are for its configuration."""
    connection = Connection(config(**values), entropy=entropy, timers=timers or Timers())
    return Link(connection, FullTarget(plan), piece=piece)


def logged_in(plan: Plan | None = None, **values: Any) -> Link[Connection]:
    """The same in full feature phase; the event of the login is taken."""
    ready = link(plan, **values)
    ready.start()
    ready.until(LoginSucceeded)
    return ready
