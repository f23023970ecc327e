# SPDX-License-Identifier: LGPL-2.1-or-later
"""The invariants of the daemon's socket, as functions: the property tests and the long runs hold them.

*client*: any bytes a client sends, cut anywhere, give what they give in one piece: lines of JSON or one reply of the
peer's, an answer for each request that was begun and for none twice; the connection ends after what is no request;
nothing that was sent is repeated but names of actions and members; never more than a request is kept.

*daemon*: any bytes a daemon answers are objects, or one failure of the talk.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, cast

from iscsiboot.errors import IscsiBootError
from iscsiboot.ipc import legacy
from iscsiboot.ipc.connection import Connection
from iscsiboot.ipc.protocol import (
    ANSWER_MAX,
    REQUEST_MAX,
    Answer,
    Lines,
    Request,
    answer_line,
    answer_of,
    decode,
    encode,
    event_line,
    failure_of,
    hello_line,
    number_of,
    welcome_line,
)
from iscsiboot.ipc.serving import Handler, Limits, Reply, Work
from tests.fuzz.discovery_invariant import ACCEPTED, REFUSED, pieces_of

SECRET = "never-to-be-seen-again"
_NAMED = re.compile(rb'unknown request \\"[^\n]*?\\"(\.\.\.)?')


class Pipe:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        assert not self.closed, "written behind the end"
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Nobody:
    """A handler that is never asked."""

    async def handle(self, request: Request, reply: Reply) -> dict[str, Any]:
        raise AssertionError


class Desk:
    """Answers each request with its number, all of them at the end: so nothing depends on how the bytes were cut."""

    def __init__(self) -> None:
        self.limits = Limits(pending=1 << 20)
        self.begun: list[Request] = []
        self.answers: list[Callable[[], None]] = []
        self.told: list[str] = []

    def log(self, level: int, text: str) -> None:
        assert SECRET not in text
        assert text.isprintable()
        self.told.append(text)

    def now(self) -> float:
        return 1.0

    def welcome(self, number: int | None, spoken: int) -> bytes:
        return welcome_line(number, spoken, ["login"], "0", 256)

    def left(self, connection: Connection) -> None:
        """Nothing to do."""

    def begin(self, request: Request, reply: Reply, ended: Callable[[Answer], None]) -> Work:
        assert repr(request) == f"Request({request.action!r}, number={request.number})"
        self.begun.append(request)
        self.answers.append(lambda: ended(Answer({"number": request.number})))
        return Work(cast(Handler, Nobody()), request, reply, self.limits, self.log)


async def _play(pieces: list[bytes]) -> tuple[bytes, bool, list[tuple[str, int]]]:
    """What the connection writes, whether it ends, and what it begins."""
    desk, pipe = Desk(), Pipe()
    connection = Connection(desk, uid=0, pid=1)
    connection.connection_made(cast(asyncio.Transport, pipe))
    for piece in pieces:
        while pipe.paused and not pipe.closed:
            await asyncio.sleep(0)  # as the loop does: a transport that is paused brings nothing
        if pipe.closed:
            break
        connection.data_received(piece)
        assert len(connection._lines._bytes) <= REQUEST_MAX + len(piece)
    while pipe.paused and not pipe.closed:
        await asyncio.sleep(0)
    for answer in desk.answers:
        answer()
    closed = pipe.closed
    connection.connection_lost(None)
    return bytes(pipe.written), closed, [(request.action, request.number) for request in desk.begun]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def client(data: bytes, rng: random.Random) -> str:
    """Any bytes of a client."""
    written, closed, begun = _loop().run_until_complete(_play([data]))
    cut = _loop().run_until_complete(_play(pieces_of(data, rng)))
    assert (sorted(cut[0].splitlines()), cut[1], cut[2]) == (sorted(written.splitlines()), closed, begun)
    # An action nobody knows is named to who asked for it.
    assert SECRET.encode() not in _NAMED.sub(b"", written)
    if legacy.is_legacy(data):
        assert len(written) in (0, legacy.REPLY_BYTES)
        return ACCEPTED if begun else REFUSED
    assert written.isascii()
    items = [json.loads(line) for line in written.splitlines()]
    assert written.count(b"\n") == len(items)
    whole = [item["id"] for item in items if item.get("result", {}).keys() == {"number"}]
    detached = sum(item.get("result") == {"accepted": True} for item in items)
    assert closed or len(whole) + detached == len(begun)
    refused = [item for item in items if item["id"] is None and not item["ok"]]
    assert len(refused) <= 1
    assert bool(refused) == closed
    return REFUSED if refused else ACCEPTED


def clients() -> list[bytes]:
    """What clients say."""
    record = {"node.name": "iqn.2026-01.org.example:a", "node.session.auth.password": SECRET}
    requests: list[dict[str, Any]] = [
        {"do": "login", "record": record, "wanted": 1, "boot": ["", "", ""], "seconds": 3.5},
        {"do": "login", "record": record, "detach": True, "trace": True},
        {"do": "logout", "sid": 3, "insist": True},
        {"do": "status"},
        {"do": "cancel", "of": [0, 1]},
        {"do": "cancel"},
        {"do": "fly", "secret": SECRET},
    ]
    lines = [encode({"iscsiboot": 1, "id": number, **request}) for number, request in enumerate(requests)]
    heads = [struct.pack("=IIi", command, 0, 3).ljust(100, b"\0") for command in (1, 2, 7, 10, 11, 13, 99)]
    short = hello_line().replace(b" ", b"")
    return [short + b"".join(lines), *lines, *heads, b"".join(lines * 20), encode({"iscsiboot": [2, 3], "do": "hello"})]


def daemon(data: bytes, rng: random.Random) -> str:
    """Any bytes of a daemon."""
    lines = Lines(ANSWER_MAX)
    for piece in pieces_of(data, rng):
        lines.feed(piece)
        try:
            while (line := lines.take()) is not None:
                item = decode(line)
                number_of(item)
                answer = answer_of(item)
                assert answer is None or answer.failure is None or answer.failure.exit_code
                assert failure_of(item).line().isprintable()
        except IscsiBootError as error:
            words = error.line()
        else:
            continue
        assert words.isprintable()
        return REFUSED
    return ACCEPTED


def daemons() -> list[bytes]:
    """What daemons answer."""
    failure = IscsiBootError("c", stage=failure_of({}).stage, subject="s", hint="h")
    return [
        welcome_line(None, 1, ["a"], "1", 2),
        answer_line(1, Answer({"sid": 3}, notes=["n"], steps=["s"])),
        answer_line(2, Answer(failure=failure)) + event_line(3, {"session": {"sid": 1}}),
    ]
