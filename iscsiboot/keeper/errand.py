# SPDX-License-Identifier: LGPL-2.1-or-later
"""Jobs of plain data, and the child that does one after the other.

A fork of a guard costs more than most of what is done in it: its memory is copied page by page as both go on. A hundred
logins are a hundred scans; so a hand that has done an errand is kept a while for the next (:class:`.hands.Hands`).
"""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from iscsiboot.session.forking import ENDING_SIGNALS
from iscsiboot.session.workers import Answer, answer_of

ERRAND_BYTES = 64 << 10
"""Below the room every socket has, so that sending one never waits."""
PART_BYTES = 64 << 10
"""Of an answer, in one message."""
MORE, LAST = b"+", b"."
"""How a message with a part of an answer begins."""

Plain = str | int | float | bool | list[int] | None
"""What JSON hands over unchanged."""


@dataclass(frozen=True, slots=True)
class Errand:
    """A job for any hand: a module's function and plain values. It goes by what it is given and by what it reads.

    Calling it does it here.
    """

    function: Callable[..., Answer]
    values: tuple[Plain, ...]

    def __call__(self) -> Answer:
        """Do it."""
        return self.function(*self.values)

    def encode(self) -> bytes:
        """For :func:`_decode` in a process that has the same modules."""
        return json.dumps([self.function.__module__, self.function.__qualname__, self.values]).encode()


def _decode(data: bytes) -> Errand:
    module, name, values = json.loads(data)
    return Errand(getattr(sys.modules[module], name), tuple(values))


def keep_working(link: socket.socket) -> None:
    """A kept child's life: each message on ``link`` (SOCK_SEQPACKET) is an errand, its answer goes back in parts.

    Returns when the other end is closed. The first SIGTERM is a KeyboardInterrupt; one that comes while an answer is
    on its way waits until it is sent, so that what has been done is never denied.
    """
    while True:
        data = link.recv(ERRAND_BYTES)
        if not data:
            return
        answer = answer_of(_decode(data))
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        rest = json.dumps(answer).encode()
        while rest:
            part, rest = rest[:PART_BYTES], rest[PART_BYTES:]
            link.sendall((MORE if rest else LAST) + part)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
