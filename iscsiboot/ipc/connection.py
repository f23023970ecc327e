# SPDX-License-Identifier: LGPL-2.1-or-later
"""One client of the daemon: its lines in, answers out, and what happens when it is slow, silent, gone or mad."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from iscsiboot.errors import ExitCode, IscsiBootError
from iscsiboot.ipc import legacy
from iscsiboot.ipc.protocol import (
    LOOKS,
    REQUEST_MAX,
    Answer,
    Lines,
    Request,
    answer_line,
    decode,
    event_line,
    number_of,
    refusal,
    request_of,
    version_wanted,
)
from iscsiboot.ipc.serving import WARNING, Limits, Log, Reply, Work

TURN_MAX = 32
"""Requests of one client taken before the others have their turn."""


class Desk(Protocol):
    """What a connection needs of the server."""

    @property
    def limits(self) -> Limits:
        """What it can be made to bear."""

    @property
    def log(self) -> Log:
        """Takes a line."""

    @property
    def now(self) -> Callable[[], float]:
        """The monotonic clock."""

    def begin(self, request: Request, reply: Reply, ended: Callable[[Answer], None]) -> Work:
        """Have a request done; ``ended`` takes its answer. IscsiBootError when there is no room for it."""

    def welcome(self, number: int | None, spoken: int) -> bytes:
        """The answer to ``hello``."""

    def left(self, connection: Connection) -> None:
        """The connection is over."""


class Connection(asyncio.Protocol):
    """A client with the right to ask. JSON or the peer's structure: the first bytes tell."""

    def __init__(self, desk: Desk, *, uid: int, pid: int) -> None:
        self._desk = desk
        self._uid = uid
        self._pid = pid
        self._lines = Lines(REQUEST_MAX)
        self._works: dict[int, Work] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._known = False
        """The first bytes were JSON."""
        self._legacy: int | None = None
        """The peer's command, once it is there."""
        self._surplus = 0
        self._eof = False
        self._made = False
        self._closing = False
        self._scheduled = False
        self._asked_at = desk.now()
        """When it came in, or when its last request was whole."""

    # What the loop calls. ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._made = True
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: nobody needs an answer. Orders go on."""
        del exc
        self._closing = True
        self._disarm()
        for work in self._works.values():
            if work.request.action in LOOKS:
                work.end(_gone())
        self._desk.left(self)

    def eof_received(self) -> bool:
        """No more requests; answers may still be read. Whether to stay open."""
        self._eof = True
        self._disarm()
        for work in self._works.values():
            if work.request.action == "watch":
                # A client that is gone looks the same, and this would wait for its next event.
                work.end(_gone())
        if self._lines.begun and not self._known and self._legacy is None:
            self._refuse(refusal("this is no request", code=ExitCode.INVALID_MGMT_REQ))
        elif not self._works:
            self._close()
        return True

    def data_received(self, data: bytes) -> None:
        """Bytes."""
        if self._closing:
            return
        if self._legacy is not None:
            self._surplus += len(data)
            if self._surplus > legacy.REQUEST_MAX:
                self._transport.abort()
            return
        self._lines.feed(data)
        if self._known or self._recognised():
            self._work()

    # Requests. --------------------------------------------------------------------------------------------------------

    def _recognised(self) -> bool:
        """Whether it is JSON; begins the peer's request when it is that, and the end when it is neither."""
        begun = self._lines.begun
        if begun.startswith(b"{"):
            self._known = True
        elif len(begun) < 4 or (legacy.is_legacy(begun) and len(begun) < legacy.HEAD_BYTES):
            return False  # more has to come
        elif legacy.is_legacy(begun):
            self._begin_legacy(begun)
        else:
            self._refuse(refusal("this is no request", code=ExitCode.INVALID_MGMT_REQ))
        return self._known

    def _work(self) -> None:
        """Take what lines there are, as many as may be at work, some at a time."""
        self._scheduled = False
        taken = 0
        while not self._closing and len(self._works) < self._desk.limits.pending:
            if taken == TURN_MAX:
                self._transport.pause_reading()
                self._schedule()
                return
            try:
                line = self._lines.take()
            except IscsiBootError as error:
                self._refuse(error)
                return
            if line is None:
                self._transport.resume_reading()
                self._watch_time(renew=taken > 0)
                return
            taken += 1
            self._asked_at = self._desk.now()
            self._take(line)
        if not self._closing:
            # It reads on when something is done; the client has all the time until then.
            self._transport.pause_reading()
            self._disarm()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _take(self, line: bytes) -> None:
        number = None
        try:
            item = decode(line)
            number = number_of(item)
            request = request_of(item, uid=self._uid)
            if request.action == "hello":
                self._send(self._desk.welcome(number, version_wanted(item)))
            elif request.action == "cancel":
                self._send(answer_line(number, Answer({"cancelled": self._cancel(request)})))
            else:
                self._begin(request)
        except IscsiBootError as error:
            if number is None:
                self._refuse(error)
            else:
                self._send(answer_line(number, Answer(failure=error)))

    def _begin(self, request: Request) -> None:
        number = request.number
        if number in self._works:
            raise refusal(f"request {number} is at work already", code=ExitCode.INVAL)
        clock = self._desk.now if request.trace else None
        if request.detach:
            self._desk.begin(request, Reply(_nobody, clock), _forget)
            self._send(answer_line(number, Answer({"accepted": True})))
            return
        reply = Reply(lambda event: self._send(event_line(number, event)), clock)
        self._works[number] = self._desk.begin(request, reply, lambda answer: self._ended(number, answer))

    def _ended(self, number: int, answer: Answer) -> None:
        work = self._works.pop(number)
        self._asked_at = self._desk.now()
        try:
            line = answer_line(number, answer)
        except (TypeError, ValueError, RecursionError) as error:
            line = answer_line(number, Answer(failure=work.fault(error)))
        self._send(line)
        self._next()

    def _next(self) -> None:
        if self._closing:
            return
        if self._eof and not self._works:
            self._close()
        elif not self._eof:
            self._schedule()

    def _cancel(self, request: Request) -> list[int]:
        """End requests of this connection; their numbers."""
        wanted = request.fields.get("of", list(self._works))
        if not isinstance(wanted, list):
            raise request.wrong("of", "a list of numbers")
        found = [number for number in self._works if number in wanted]
        for number in found:
            self._works[number].end(_cancelled(self._works[number].request.action))
        return found

    def _begin_legacy(self, begun: bytes) -> None:
        command, sid = legacy.command_of(begun)
        self._legacy = command
        # The rest of the structure has to be taken from the peer before it looks for the reply, and it ends first.
        self._arm()
        try:
            request = legacy.request_of(command, sid, uid=self._uid)
            if request is None:
                self._desk.log(WARNING, f"unknown request {command} of process {self._pid}, which speaks as open-iscsi")
                self._send(legacy.reply(command, ExitCode.INVALID_MGMT_REQ))
                return
            self._works[0] = self._desk.begin(request, Reply(_nobody), lambda answer: self._end_legacy(command, answer))
            self._disarm()
        except IscsiBootError as error:
            self._send(legacy.reply(command, error.exit_code))

    def _end_legacy(self, command: int, answer: Answer) -> None:
        work = self._works.pop(0)
        code = ExitCode.SUCCESS if answer.failure is None else answer.failure.exit_code
        try:
            reply = legacy.reply(command, code, answer.result)
        except (TypeError, ValueError, KeyError, struct.error) as error:
            reply = legacy.reply(command, work.fault(error).exit_code)
        self._send(reply)
        if self._eof:
            self._close()
        elif not self._closing:
            self._arm()

    # Time and bytes. --------------------------------------------------------------------------------------------------

    def _watch_time(self, *, renew: bool) -> None:
        """There is a bound for what has begun to arrive, and for a client that asks nothing."""
        if self._works and not self._lines.begun:
            self._disarm()
        elif renew or self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._disarm()
        if not self._closing and not self._eof:
            seconds = self._desk.limits.request_seconds
            self._timer = asyncio.get_running_loop().call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if self._legacy is not None:
            self._transport.abort()
            return
        seconds = self._desk.limits.request_seconds
        self._refuse(refusal(f"no request within {seconds:g} s", code=ExitCode.REQ_TIMEDOUT))

    def _refuse(self, error: IscsiBootError) -> None:
        """Say why, and end: after this nothing the client sends can be told apart."""
        self._send(answer_line(None, Answer(failure=error)))
        self._close()

    def _close(self) -> None:
        """End it when what there is to say has been read, or is not read."""
        if not self._closing:
            self._closing = True
            self._disarm()
            self._transport.close()
            seconds = self._desk.limits.request_seconds
            self._timer = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def _send(self, line: bytes) -> None:
        if self._closing or self._transport.is_closing():
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent > self._desk.limits.unsent:
            self._closing = True
            self._desk.log(WARNING, f"the client in process {self._pid} is dropped: it leaves {unsent} bytes unread")
            self._transport.abort()
            return
        self._transport.write(line)

    @property
    def busy(self) -> bool:
        """Whether a request of it is at work."""
        return bool(self._works)

    def idle(self, now: float) -> float:
        """Seconds it has had its place for nothing."""
        return 0.0 if self._works or self._closing or not self._made else now - self._asked_at

    def yield_place(self) -> None:
        """Somebody else has something to ask."""
        self._refuse(refusal("others need the place of a client that asks nothing", code=ExitCode.AGAIN))

    def farewell(self) -> None:
        """The daemon ends: no more requests, the last answers go out."""
        if self._made:
            self._close()

    def abort(self) -> None:
        """End it, whatever has not been read."""
        if self._made:
            self._transport.abort()


class Stranger(asyncio.Protocol):
    """A client without the right. It is told so in its own way, which its first bytes show, and thrown out."""

    def __init__(self, uid: int, seconds: float, left: Callable[[Stranger], None]) -> None:
        self._uid = uid
        self._seconds = seconds
        self._left = left
        self._begun = b""
        self._told = False
        self._made = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._made = True
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Bytes; the rest is thrown away until the client has read why."""
        if self._told:
            return
        self._begun += data[:4]
        if self._begun.startswith(b"{") or len(self._begun) >= 4:
            self._told = True
            if legacy.is_legacy(self._begun):
                command = int.from_bytes(self._begun[:4], sys.byteorder)
                self._transport.write(legacy.reply(command, ExitCode.ACCESS))
            else:
                self._transport.write(answer_line(None, Answer(failure=denial(self._uid))))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        del exc
        self._timer.cancel()
        self._left(self)

    def abort(self) -> None:
        """End it."""
        if self._made:
            self._transport.abort()


def denial(uid: int) -> IscsiBootError:
    """Why a client is refused."""
    return refusal(
        f"orders are taken from root only, and this comes from user {uid}", code=ExitCode.ACCESS, hint="run it as root"
    )


def _gone() -> IscsiBootError:
    return refusal("its client is gone", code=ExitCode.ISCSID_COMM_ERR)


def _cancelled(action: str) -> IscsiBootError:
    return refusal("it was cancelled", subject=f"request {action}", code=ExitCode.ERR, hint="order it again")


def _nobody(event: Mapping[str, Any]) -> None:
    """Nobody listens."""


def _forget(answer: Answer) -> None:
    """Nobody waits for it; the server has told the log."""
