# SPDX-License-Identifier: LGPL-2.1-or-later
"""One request at work in the daemon: who does it, how it tells what it does, and how it always comes to an end.

Whoever serves raises :class:`IscsiBootError` for what failed. It is cancelled (``asyncio.CancelledError``) when its
time is over, when its client asks for that, or when the daemon ends, and takes back what it has half made before it
lets the cancellation go on; the client is answered after that, so that it hears the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.ipc.protocol import SECONDS_MAX, Answer, Request, refusal
from iscsiboot.model.timeline import Mark

Log = Callable[[int, str], None]
"""Takes a line with its severity, as syslog numbers them (RFC 5424 6.2.1)."""
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
ANEW_SECONDS = 5.0
"""A client is told only of so many: it waits some longer than it has asked for anyway."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What clients can take of the daemon. Only root gets as far as most of these; they keep its mistakes small."""

    clients: int = 64
    """At once that have nothing at work; further ones wait in the listening socket's own queue."""
    connections: int = 512
    """At once in all. Those whose orders are at work may be many for minutes: a command for each of a dead target's
    disks. They must not keep anybody from asking how things stand."""
    strangers: int = 16
    """Clients without the right, being told so."""
    pending: int = 256
    """Requests of one connection at work; it is not read further meanwhile."""
    running: int = 4096
    """Requests at work in all, those included whose clients are gone."""
    watchers: int = 32
    request_seconds: float = 5.0
    """For a request to arrive, from its first byte, and for a client without one to send one."""
    spare_seconds: float = 0.25
    """For the same while every place is taken and somebody waits for one."""
    stranger_seconds: float = 1.0
    unsent: int = 1 << 20
    """Bytes a client has not read, above which one more answer ends its connection."""
    undo_seconds: float = 15.0
    """For what was cancelled to take back what it had made."""
    close_seconds: float = 2.0
    """For the last answers to go out when the daemon ends."""


class Reply:
    """How a request tells what it does, while it does it. A :class:`iscsiboot.model.report.Report` as well."""

    def __init__(self, send: Callable[[Mapping[str, Any]], None], clock: Callable[[], float] | None = None) -> None:
        """``clock`` is given when the client wants the steps."""
        self._send = send
        self._clock = clock
        self._began = clock() if clock else 0.0
        self._told = float("-inf")
        self.since = float("-inf")
        """When the request's seconds began to count, by the loop's clock."""
        self.notes: list[str] = []
        self.steps: list[str] = []

    def event(self, event: Mapping[str, Any]) -> None:
        """Send something that happened, at once. Nothing when the client is gone. Never blocks."""
        self._send(event)

    def begin(self) -> None:
        """The request's seconds count from now on."""
        self.since = self._told = asyncio.get_running_loop().time()

    def count_anew(self) -> None:
        """The same once more: it has waited for others. The client is told, if that is worth a line."""
        self.since = now = asyncio.get_running_loop().time()
        if now >= self._told + ANEW_SECONDS:
            self._told = now
            self._send({"anew": True})

    def note(self, text: str) -> None:
        """A line worth knowing that is no failure: goes with the answer."""
        self.notes.append(text)

    def mark(self, mark: Mark, detail: str = "") -> None:
        """A step that is reached."""
        self.step(f"{mark.value} {detail}".rstrip())

    def step(self, what: str) -> None:
        """A step that is done; goes with the answer when the client wants to know."""
        if self._clock:
            self.steps.append(f"{what} after {self._clock() - self._began:.3f} s")


class Handler(Protocol):
    """Does what is asked; the server knows nothing of sessions."""

    async def handle(self, request: Request, reply: Reply) -> dict[str, Any]:
        """Do it; what it returns is the answer's ``result``. IscsiBootError says why not."""


class Work:
    """A request at work. ``looks``: it ends with its client."""

    def __init__(self, handler: Handler, request: Request, reply: Reply, limits: Limits, log: Log) -> None:
        self.request = request
        self._handler = handler
        self._reply = reply
        self._limits = limits
        self._log = log
        self._ended: asyncio.Future[IscsiBootError] = asyncio.get_running_loop().create_future()

    def end(self, why: IscsiBootError) -> None:
        """Have it end early; ``why`` is the answer unless it is done anyway."""
        if not self._ended.done():
            self._ended.set_result(why)

    async def run(self) -> Answer:
        """Its answer, when it is over."""
        handling = asyncio.ensure_future(self._handler.handle(self.request, self._reply))
        await self._first_of(handling, self._ended)
        why = None
        if not handling.done():
            why = self._ended.result() if self._ended.done() else self._late()
            handling.cancel()
            await asyncio.wait({handling}, timeout=self._limits.undo_seconds)
        if not handling.done():
            # It is left to itself; what it says at last, nobody hears.
            handling.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._log(WARNING, f"request {self.request.action}: it was told to end and did not")
            return self._answer(failure=why)
        return self._outcome(handling, why)

    async def _first_of(self, *both: asyncio.Future[Any]) -> None:
        """Until one is done, or the time is over."""
        loop, reply = asyncio.get_running_loop(), self._reply
        reply.begin()
        whole = reply.since + SECONDS_MAX
        while (left := min(reply.since + self.request.seconds, whole) - loop.time()) > 0:
            done, _ = await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return

    def _outcome(self, handling: asyncio.Future[dict[str, Any]], why: IscsiBootError | None) -> Answer:
        if handling.cancelled():
            return self._answer(failure=why or refusal("it was given up", code=ExitCode.INTERNAL))
        error = handling.exception()
        if error is None:
            return self._answer(handling.result())
        if isinstance(error, IscsiBootError):
            return self._answer(failure=error)
        return self._answer(failure=self.fault(error))

    def fault(self, error: BaseException) -> IscsiBootError:
        """A fault of ours in this request, told; it ends neither the daemon nor the connection."""
        words = f"internal error: {type(error).__name__}: {error}"
        self._log(ERROR, f"request {self.request.action}: {words}")
        return refusal(words, code=ExitCode.INTERNAL, hint="please report it, with the daemon's log")

    def _answer(self, result: dict[str, Any] | None = None, *, failure: IscsiBootError | None = None) -> Answer:
        return Answer(result, failure, notes=self._reply.notes, steps=self._reply.steps)

    def _late(self) -> IscsiBootError:
        return refusal(
            f"it was not done within {self.request.seconds:g} s",
            subject=f"request {self.request.action}",
            code=ExitCode.REQ_TIMEDOUT,
            hint="look at the daemon's log; give it more time with --timeout",
        )
