# SPDX-License-Identifier: LGPL-2.1-or-later
"""rtnetlink: the real kernel's picture, and a kernel that answers strangely."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iscsiboot.network import rtnl as rtnl_module
from iscsiboot.network.rtnl import Rtnl
from iscsiboot.network.steps import Device, LinkUp

LINK_UP = LinkUp(device=Device(index=2, name="eth0"))


class Answers:
    """A socket whose every ``recv`` is scripted: type, flags, distance to the request's sequence number, body."""

    def __init__(self, *batches: list[tuple[int, int, int, bytes]]) -> None:
        self._batches = list(batches)
        self.requests: list[bytes] = []

    def sendto(self, data: bytes, address: Any) -> int:
        self.requests.append(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        (sequence,) = struct.unpack_from("=I", self.requests[-1], 8)
        parts = [
            struct.pack("=IHHII", 16 + len(body), kind, flags, sequence + shift, 0) + body
            for kind, flags, shift, body in self._batches.pop(0)
        ]
        return b"".join(parts)

    def close(self) -> None:
        pass


@pytest.fixture
def rtnl() -> Iterator[Rtnl]:
    made = Rtnl(sysfs=Path("/sys"))
    yield made
    made.close()


def scripted(rtnl: Rtnl, *batches: list[tuple[int, int, int, bytes]]) -> Answers:
    rtnl._requests.close()
    answers = Answers(*batches)
    rtnl._requests = answers  # type: ignore[assignment] # a fake in place of the socket
    return answers


def error(code: int) -> bytes:
    return struct.pack("=i", -code) + bytes(16)


def test_loopback_is_in_the_picture(rtnl: Rtnl) -> None:
    facts = rtnl.snapshot()
    loopback = facts.named("lo")
    assert loopback is not None
    assert (loopback.index, loopback.kind, loopback.device_path) == (1, "", "")
    assert all(link.mtu > 0 for link in facts.links)


def test_nothing_happened_nothing_to_drain(rtnl: Rtnl) -> None:
    rtnl.drain()
    assert rtnl.fileno() >= 0


def test_acknowledged_existing_and_refused(rtnl: Rtnl) -> None:
    scripted(rtnl, [(2, 0, 0, error(0))], [(2, 0, 0, error(errno.EEXIST))], [(2, 0, 0, error(errno.EPERM))])
    assert rtnl.execute(LINK_UP) is True
    assert rtnl.execute(LINK_UP) is False
    with pytest.raises(PermissionError):
        rtnl.execute(LINK_UP)


def test_answers_to_earlier_requests_are_passed_over(rtnl: Rtnl) -> None:
    scripted(rtnl, [(2, 0, -1, error(errno.EPERM)), (2, 0, 0, error(0))])
    assert rtnl.execute(LINK_UP) is True


def test_torn_dump_is_asked_again(rtnl: Rtnl) -> None:
    torn, whole = [(3, 0x10, 0, bytes(4))], [(3, 0, 0, bytes(4))]
    answers = scripted(rtnl, torn, torn, whole, whole, whole)
    assert rtnl.snapshot().links == ()
    assert len(answers.requests) == 5
    asked = {request[:8] + request[12:] for request in answers.requests[:3]}
    assert len(asked) == 1, "the same question each time"


def test_dump_that_never_settles_is_an_error(rtnl: Rtnl) -> None:
    scripted(rtnl, *[[(3, 0x10, 0, bytes(4))] for _ in range(9)])
    with pytest.raises(OSError, match="changed during every dump"):
        rtnl.snapshot()


def test_refused_dump_is_an_error(rtnl: Rtnl) -> None:
    scripted(rtnl, [(2, 0, 0, error(errno.EACCES))])
    with pytest.raises(PermissionError):
        rtnl.snapshot()


def test_impossible_length_is_an_error(rtnl: Rtnl, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = scripted(rtnl)
    monkeypatch.setattr(answers, "recv", lambda size: struct.pack("=IHHII", 8, 2, 0, 1, 0))
    with pytest.raises(OSError, match="impossible length"):
        rtnl.execute(LINK_UP)


def test_overrun_is_no_error(rtnl: Rtnl) -> None:
    class Overrun:
        def __init__(self) -> None:
            self.calls = 0

        def recv(self, size: int) -> bytes:
            self.calls += 1
            if self.calls == 1:
                raise OSError(errno.ENOBUFS, "No buffer space available")
            raise BlockingIOError

        def close(self) -> None:
            pass

    rtnl._events.close()
    rtnl._events = overrun = Overrun()  # type: ignore[assignment] # a fake in place of the socket
    rtnl.drain()
    assert overrun.calls == 2


@pytest.mark.parametrize(("value", "state"), [(6, "UP"), (2, "DOWN"), (99, "UNKNOWN"), ("UP", "UP"), (None, "UNKNOWN")])
def test_operstate_of_either_pyroute2(value: object, state: str) -> None:
    assert rtnl_module._operstate(value) == state
