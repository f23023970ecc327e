# SPDX-License-Identifier: LGPL-2.1-or-later
"""Connecting over loopback: the options a session's socket has, and every failure in words."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iscsiboot.errors import ExitCode, Stage, quoted
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import Portal, parse_ip
from iscsiboot.session import connector
from iscsiboot.session.cancel import Cancellation, Cancelled
from iscsiboot.session.connector import ConnectError, connect
from tests.unit.session.links import black_hole, in_a_moment


def in_seconds(seconds: float) -> Deadline:
    return Deadline.after(seconds, now=time.monotonic(), reason="a connection")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def portal_of(listener: socket.socket) -> Portal:
    return Portal(address=parse_ip("127.0.0.1"), port=listener.getsockname()[1])


@pytest.fixture
def descriptors() -> Iterator[None]:
    """No descriptor is left open by a failure."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_the_socket_of_a_session(listener: socket.socket) -> None:
    with connect(portal_of(listener), deadline=in_seconds(5), now=time.monotonic, window_size=65536) as sock:
        assert sock.getpeername() == listener.getsockname()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 65536
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * 65536
        assert not sock.getblocking()
        assert fcntl.fcntl(sock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        portal = Portal(address=parse_ip("::1"), port=listener.getsockname()[1])
        with connect(portal, deadline=in_seconds(5), now=time.monotonic, window_size=65536) as sock:
            assert sock.getpeername()[0] == "::1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", ("10.0.0.1", 3260)),
        ("fd00::1", ("fd00::1", 3260, 0, 0)),
        ("fe80::1%lo", ("fe80::1", 3260, 0, socket.if_nametoindex("lo"))),
        ("fe80::1%7", ("fe80::1", 3260, 0, 7)),
    ],
)
def test_addresses(text: str, address: tuple[object, ...]) -> None:
    assert connector._address(Portal(address=parse_ip(text))) == address


@pytest.mark.parametrize("scope", ["nosuch0", "much-too-long-for-an-interface", "99999999999999", "\x1b[2J"])
def test_a_scope_that_is_no_interface(scope: str, descriptors: None) -> None:
    portal = Portal(address=parse_ip(f"fe80::1%{scope}"))
    with pytest.raises(ConnectError) as caught:
        connect(portal, deadline=in_seconds(5), now=time.monotonic, window_size=65536)
    assert caught.value.cause == f"no such network interface {quoted(scope)}"
    assert (caught.value.exit_code, caught.value.retryable) == (ExitCode.TRANS_TIMEOUT, True)
    assert caught.value.line().isprintable()


def test_a_link_local_address_without_its_interface(descriptors: None) -> None:
    with pytest.raises(ConnectError) as caught:
        connect(Portal(address=parse_ip("fe80::1")), deadline=in_seconds(5), now=time.monotonic, window_size=65536)
    assert "fe80::1%eth0" in caught.value.hint or "no route" in caught.value.cause


def test_nobody_listens(listener: socket.socket, descriptors: None) -> None:
    portal = portal_of(listener)
    listener.close()
    with pytest.raises(ConnectError) as caught:
        connect(portal, deadline=in_seconds(5), now=time.monotonic, window_size=65536)
    error = caught.value
    assert error.line().startswith(f"connect: {portal.endpoint}: connection refused: nobody listens on that port")
    assert (error.stage, error.exit_code, error.retryable) == (Stage.CONNECT, ExitCode.TRANS_TIMEOUT, True)


def test_a_full_queue_times_out(descriptors: None) -> None:
    with black_hole() as portal:
        began = time.monotonic()
        with pytest.raises(ConnectError, match="packets are dropped on the way") as caught:
            connect(portal, deadline=in_seconds(0.3), now=time.monotonic, window_size=65536)
        assert 0.25 < time.monotonic() - began < 3
        assert caught.value.retryable


def test_cancelled_while_connecting(descriptors: None) -> None:
    with black_hole() as portal, Cancellation() as cancellation:
        with in_a_moment(cancellation.cancel) as began, pytest.raises(Cancelled) as caught:
            connect(portal, deadline=in_seconds(20), now=time.monotonic, window_size=65536, cancellation=cancellation)
        assert time.monotonic() - began < 10
    assert (caught.value.stage, caught.value.subject) == (Stage.CONNECT, portal.endpoint)


def test_a_cancellation_nobody_uses(listener: socket.socket, descriptors: None) -> None:
    with Cancellation() as cancellation:
        portal = portal_of(listener)
        deadline = in_seconds(5)
        with connect(
            portal, deadline=deadline, now=time.monotonic, window_size=65536, cancellation=cancellation
        ) as sock:
            assert sock.getpeername() == listener.getsockname()


@pytest.mark.parametrize(
    ("number", "words", "retryable"),
    [
        (errno.EHOSTUNREACH, "no route to host", True),
        (errno.ENETUNREACH, "network unreachable", True),
        (errno.ETIMEDOUT, "packets are dropped", True),
        (errno.ENETDOWN, "interface is down", True),
        (errno.EPERM, "firewall", False),
        (errno.EINVAL, "cannot be used", False),
        (errno.EPIPE, "Broken pipe", True),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("raised", [False, True], ids=["returned", "raised"])
def test_every_errno_has_words(
    monkeypatch: pytest.MonkeyPatch,
    listener: socket.socket,
    descriptors: None,
    number: int,
    words: str,
    retryable: bool,
    raised: bool,
) -> None:
    class Refusing(socket.socket):
        def connect_ex(self, address: object, /) -> int:
            if raised:
                raise OSError(number, os.strerror(number))
            return number

    monkeypatch.setattr(socket, "socket", Refusing)
    with pytest.raises(ConnectError) as caught:
        connect(portal_of(listener), deadline=in_seconds(5), now=time.monotonic, window_size=65536)
    assert words in caught.value.cause
    assert caught.value.hint
    assert caught.value.retryable is retryable


def test_binding_to_an_interface_that_does_not_exist(listener: socket.socket, descriptors: None) -> None:
    with pytest.raises(ConnectError) as caught:
        connect(portal_of(listener), deadline=in_seconds(5), now=time.monotonic, window_size=65536, netdev="nosuch\nif")
    # Without privilege the kernel refuses before it looks for the interface.
    assert 'no such network interface "nosuch\\nif"' in caught.value.cause or not caught.value.retryable


def test_an_interruption_closes_the_socket(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, descriptors: None
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connector, "_outcome", interrupt)
    with pytest.raises(KeyboardInterrupt):
        connect(portal_of(listener), deadline=in_seconds(5), now=time.monotonic, window_size=65536)
