# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of TCP links share."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import Portal, parse_ip
from tests.doubles.server import TargetServer

SOON = 0.3
"""Seconds after which a test's own deadline passes."""
LONG = 20.0
"""Seconds a test never waits unless it fails."""


def within(seconds: float = LONG, reason: str = "an answer of the scripted target") -> Deadline:
    """A deadline from now."""
    return Deadline.after(seconds, now=time.monotonic(), reason=reason)


def portal_of(server: TargetServer) -> Portal:
    """Where a scripted target listens."""
    return Portal(address=parse_ip(server.host), port=server.port)


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fails when more is open afterwards. To be the outermost, so that the servers of a test are closed before."""
    before = descriptors()
    yield
    assert descriptors() == before


@contextmanager
def in_a_moment(action: Callable[[], object], seconds: float = 0.1) -> Iterator[float]:
    """``action`` comes from another thread while the body waits; gives the time at which it begins to wait."""
    timer = threading.Timer(seconds, action)
    timer.start()
    try:
        yield time.monotonic()
    finally:
        timer.cancel()
        timer.join()


@contextmanager
def black_hole() -> Iterator[Portal]:
    """A portal that takes no connection and refuses none, as behind a firewall that drops packets.

    Its accept queue is full, so the kernel drops every further SYN.
    """
    with ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield Portal(address=parse_ip("127.0.0.1"), port=full.getsockname()[1])
