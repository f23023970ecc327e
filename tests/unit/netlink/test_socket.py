# SPDX-License-Identifier: LGPL-2.1-or-later
"""The conversation: answers matched, events kept in order, every wait bounded, every errno in words."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode
from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink import messages
from iscsiboot.netlink.messages import ConnError, EventsLost, Malformed, Reply, SessionEvent
from iscsiboot.netlink.socket import FULL, IscsiNetlink, NetlinkError, RequestRefused, errno_words, make_room
from iscsiboot.netlink.uapi import KEvent
from tests.doubles.iscsi_kernel import HANDLE, PORT, FakeKernel, FakeTransport, kernel_event

NEVER = Deadline(at=0.0, reason="nothing")
CREATE = messages.create_session(HANDLE, initial_cmdsn=0, cmds_max=128, queue_depth=32)
ERROR = kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 1, 0, 1011)


class Mute(FakeTransport):
    """A kernel that never answers a request."""

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        return len(data)


class Failing(FakeTransport):
    """A socket whose ``sendto`` fails."""

    number = 0

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def kernel(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


@pytest.fixture
def pair(kernel: FakeKernel) -> Iterator[tuple[IscsiNetlink, FakeTransport]]:
    transport = kernel.transport()
    with IscsiNetlink(transport, now=lambda: 1.0) as netlink:
        yield netlink, transport


def test_a_request_gets_its_answer(pair: tuple[IscsiNetlink, FakeTransport], kernel: FakeKernel) -> None:
    netlink, _ = pair
    assert netlink.port == PORT
    assert netlink.request(CREATE, NEVER) == Reply(request=11, first=1, second=11)
    assert kernel.requests == [CREATE]


def test_events_around_an_answer_are_kept_in_order(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair
    for error in (1, 2, 3):
        transport.deliver(kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 1, 0, error))
    netlink.request(CREATE, NEVER)
    transport.deliver(kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 1, 0, 4))
    events = [netlink.next_event(NEVER) for _ in range(6)]
    first, second, third, fourth = (ConnError(sid=1, cid=0, error=error) for error in (1, 2, 3, 4))
    created = SessionEvent(kind=KEvent.ISCSI_KEVENT_CREATE_SESSION, sid=1, host=11)
    assert events == [first, second, third, created, fourth, None]


def test_all_events_at_once_without_waiting(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair
    assert netlink.take_events() == []
    assert netlink.fileno() == transport.fileno()
    transport.deliver(kernel_event(KEvent.ISCSI_KEVENT_CONN_ERROR, 1, 0, 1))
    pending = [netlink.pending]
    netlink.request(CREATE, NEVER)
    assert [*pending, netlink.pending] == [False, True], "what a request has read the descriptor does not tell any more"
    transport.deliver(errno.ENOBUFS)
    events = netlink.take_events()
    assert events[0] == ConnError(sid=1, cid=0, error=1)
    assert events[-1] == EventsLost()
    assert not netlink.pending
    assert netlink.take_events() == []


class Endless(FakeTransport):
    """A socket whose buffer is never empty: a target sends faster than anybody reads."""

    def recvfrom(self, size: int, flags: int, /) -> tuple[bytes, tuple[int, int]]:
        return ERROR, (0, 0)


def test_a_flood_ends_neither_in_a_loop_nor_in_all_of_memory(kernel: FakeKernel) -> None:
    with IscsiNetlink(Endless(kernel, PORT), now=lambda: 1.0) as netlink:
        assert len(netlink.take_events(100)) == 100
        assert len(netlink.take_events()) == FULL
        assert not netlink.pending


def test_a_flood_does_not_keep_who_waits_for_a_lost_answer(kernel: FakeKernel) -> None:
    """The answer is in the socket before its request has been sent: behind more than fits in there it is not."""
    with IscsiNetlink(Endless(kernel, PORT), now=lambda: 1.0) as netlink:
        with pytest.raises(NetlinkError, match="no answer to CREATE_SESSION"):
            netlink.request(CREATE, NEVER)
        assert len(netlink.take_events(0)) == FULL


def test_what_is_not_taken_is_announced_again(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair
    for _ in range(10):
        transport.deliver(ERROR)
    assert len(netlink.take_events(7)) == 7
    assert select.select([netlink.fileno()], [], [], 0)[0]
    assert len(netlink.take_events(7)) == 3


class Poor(socket.socket):
    """A socket of a root without CAP_NET_ADMIN."""

    def setsockopt(self, level: int, option: int, value: int) -> None:  # type: ignore[override]
        if option == 33:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        super().setsockopt(level, option, value)


def test_where_a_large_buffer_is_refused_the_largest_there_is() -> None:
    with Poor(socket.AF_UNIX, socket.SOCK_DGRAM) as raw, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        make_room(raw)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        rooms = [item.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for item in (raw, other)]
        assert rooms[0] == rooms[1]


def test_a_refusal_names_request_and_errno(pair: tuple[IscsiNetlink, FakeTransport], kernel: FakeKernel) -> None:
    netlink, _ = pair
    kernel.refuse[1] = errno.EBUSY
    with pytest.raises(RequestRefused) as caught:
        netlink.request(messages.destroy_session(HANDLE, sid=3), NEVER)
    assert caught.value.errno == errno.EBUSY
    assert "DESTROY_SESSION sid=3" in caught.value.cause
    assert "EBUSY (Device or resource busy)" in caught.value.cause
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("number", "retryable", "code"),
    [
        (errno.ENOTCONN, True, ExitCode.INTERNAL),
        (errno.ENOMEM, True, ExitCode.INTERNAL),
        (errno.EINVAL, False, ExitCode.INTERNAL),
        (errno.EPERM, False, ExitCode.ACCESS),
    ],
    ids=lambda value: str(value),
)
def test_which_refusals_are_worth_a_retry(
    pair: tuple[IscsiNetlink, FakeTransport], kernel: FakeKernel, number: int, retryable: bool, code: ExitCode
) -> None:
    kernel.refuse[1] = number
    with pytest.raises(RequestRefused) as caught:
        pair[0].request(CREATE, NEVER)
    assert (caught.value.retryable, caught.value.exit_code) == (retryable, code)


def test_the_answer_of_an_interrupted_request_is_not_the_next_one_s(
    pair: tuple[IscsiNetlink, FakeTransport], kernel: FakeKernel
) -> None:
    netlink, _ = pair
    kernel.interrupt[1] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        netlink.request(CREATE, NEVER)
    assert netlink.request(CREATE, NEVER).first == 2
    assert [type(event) for event in netlink.take_events()] == [SessionEvent, SessionEvent]


def test_an_answer_to_another_request_is_passed_over(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair

    class Chatty(FakeTransport):
        def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
            self.answer(messages.unbind_session(HANDLE, sid=9), 77)
            return super().sendto(data, address)

    transport.__class__ = Chatty
    assert netlink.request(CREATE, NEVER).first == 1


def test_only_the_kernel_is_believed(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair
    transport.deliver(ERROR, sender=4711)
    assert netlink.next_event(NEVER) is None
    transport.deliver(ERROR)
    assert netlink.next_event(NEVER) == ConnError(sid=1, cid=0, error=1011)


def test_no_answer_ends_at_the_deadline(kernel: FakeKernel) -> None:
    with IscsiNetlink(Mute(kernel, PORT), now=lambda: 1.0) as netlink, pytest.raises(NetlinkError) as caught:
        netlink.request(CREATE, Deadline(at=1.0, reason="a session"))
    assert "no answer to CREATE_SESSION" in caught.value.cause
    assert "a session" in caught.value.cause


def test_garbage_does_not_hide_the_answer(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair
    transport.deliver(b"\xff" * 33)
    assert netlink.request(CREATE, NEVER).first == 1
    assert isinstance(netlink.next_event(NEVER), Malformed)


def test_an_overflow_is_an_event_and_the_answer_still_comes(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair
    transport.deliver(ERROR)
    transport.deliver(errno.ENOBUFS)
    assert netlink.request(CREATE, NEVER).first == 1
    assert [netlink.next_event(NEVER) for _ in range(2)] == [ConnError(sid=1, cid=0, error=1011), EventsLost()]


def test_another_error_of_the_socket_is_raised(pair: tuple[IscsiNetlink, FakeTransport]) -> None:
    netlink, transport = pair
    transport.deliver(errno.EIO)
    with pytest.raises(NetlinkError, match="EIO"):
        netlink.next_event(NEVER)


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [
        pytest.param(errno.EPERM, "CAP_SYS_ADMIN", ExitCode.ACCESS, id="not-root"),
        pytest.param(errno.ECONNREFUSED, "network namespace", ExitCode.TRANS_NOT_FOUND, id="namespace"),
        pytest.param(errno.ENOBUFS, "ENOBUFS", ExitCode.TRANS_NOT_FOUND, id="other"),
    ],
)
def test_what_sending_fails_with(kernel: FakeKernel, number: int, words: str, code: ExitCode) -> None:
    transport = Failing(kernel, PORT)
    transport.number = number
    with IscsiNetlink(transport, now=lambda: 1.0) as netlink, pytest.raises(NetlinkError) as caught:
        netlink.request(CREATE, NEVER)
    assert words in caught.value.cause
    assert caught.value.exit_code is code
    assert caught.value.hint


def test_opening_says_what_the_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(NetlinkError) as caught:
        IscsiNetlink.open(now=lambda: 0.0)
    assert "scsi_transport_iscsi" in caught.value.cause
    assert "modprobe" in caught.value.hint


def test_a_socket_that_cannot_be_bound_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unbindable:
        closed = False

        def setsockopt(self, *_: object) -> None: ...

        def bind(self, _: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        def close(self) -> None:
            Unbindable.closed = True

    monkeypatch.setattr(socket, "socket", lambda *_: Unbindable())
    with pytest.raises(NetlinkError, match="CAP_SYS_ADMIN"):
        IscsiNetlink.open(now=lambda: 0.0)
    assert Unbindable.closed


def test_close_twice_is_fine(kernel: FakeKernel) -> None:
    netlink = IscsiNetlink(kernel.transport(), now=lambda: 0.0)
    netlink.close()
    netlink.close()


def test_errno_words() -> None:
    assert errno_words(errno.ENOTCONN) == "ENOTCONN (Transport endpoint is not connected)"
    assert errno_words(99999) == "error 99999"
