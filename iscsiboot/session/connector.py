# SPDX-License-Identifier: LGPL-2.1-or-later
"""The TCP connection a session is made of, with the options open-iscsi gives it and failures told in words."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable
from contextlib import ExitStack

from iscsiboot.errors import ExitCode, IscsiBootError, Stage, quoted
from iscsiboot.model.deadline import Deadline
from iscsiboot.model.portal import Portal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from iscsiboot.session.cancel import Cancellation

# errno: cause, hint, and whether waiting may help without any change on this side
_WORDS: dict[int, tuple[str, str, bool]] = {
    errno.ECONNREFUSED: (
        "connection refused: nobody listens on that port",
        "is the target running, and is the port right?",
        True,
    ),
    errno.EHOSTUNREACH: (
        "no route to host: nobody answers for that address",
        "check the address, the cable and the VLAN",
        True,
    ),
    errno.ENETUNREACH: ("network unreachable: no route leads there", "check address, prefix and gateway", True),
    errno.ETIMEDOUT: ("no answer: packets are dropped on the way", "is the target up? is there a firewall?", True),
    errno.ECONNRESET: ("connection reset while connecting", "see the target's log", True),
    errno.ENETDOWN: ("the network interface is down", "set the link up", True),
    errno.EADDRNOTAVAIL: ("no address of this machine fits", "configure an address of the same family", True),
    errno.ENODEV: ("no such network interface", "check the name of the interface", True),
    errno.EPERM: ("a local firewall or missing privilege forbids it", "run it as root; check nftables", False),
    errno.EACCES: ("a local firewall or missing privilege forbids it", "run it as root; check nftables", False),
    errno.EINVAL: ("the address cannot be used", "a link-local address needs its interface: fe80::1%eth0", False),
}


class ConnectError(IscsiBootError):
    """No TCP connection to the portal; ``number`` is the errno it failed with, ETIMEDOUT when the time was up."""

    def __init__(self, cause: str, *, portal: Portal, hint: str, retryable: bool, number: int = 0) -> None:
        super().__init__(
            cause,
            stage=Stage.CONNECT,
            subject=portal.endpoint,
            hint=hint,
            exit_code=ExitCode.TRANS_TIMEOUT,
            retryable=retryable,
        )
        self.number = number


def connect(
    portal: Portal,
    *,
    deadline: Deadline,
    now: Callable[[], float],
    window_size: int,
    netdev: str | None = None,
    cancellation: Cancellation | None = None,
) -> socket.socket:
    """A connected, non-blocking socket, not inherited by children. :class:`ConnectError` otherwise.

    ``window_size`` is bytes for SO_RCVBUF and SO_SNDBUF, which the kernel doubles and clips to its own limits; 0 leaves
    the kernel's own sizing on;
    ``netdev`` binds the socket to one interface whatever the routes say (SO_BINDTODEVICE). ``cancellation`` ends the
    wait with :class:`~iscsiboot.session.cancel.Cancelled`.
    """
    began = now()
    with ExitStack() as stack:
        sock, number = begin(portal, window_size=window_size, netdev=netdev)
        stack.enter_context(sock)
        try:
            if number == errno.EINPROGRESS:
                number = _outcome(sock, deadline, now, cancellation)
                if cancellation is not None:
                    cancellation.check(stage=Stage.CONNECT, subject=portal.endpoint)
        except OSError as error:
            raise refusal(error.errno or 0, portal, netdev, now() - began) from error
        if number:
            raise refusal(number, portal, netdev, now() - began)
        stack.pop_all()
        return sock


def begin(portal: Portal, *, window_size: int, netdev: str | None) -> tuple[socket.socket, int]:
    """A socket that connects, for who waits in a way of its own, and the errno so far: EINPROGRESS, 0, a failure.

    The caller closes it, also after a failure. :class:`ConnectError` when there is no socket to wait for.
    """
    address = _address(portal)
    family = socket.AF_INET6 if portal.address.version == 6 else socket.AF_INET
    with ExitStack() as stack:
        try:
            sock = stack.enter_context(
                socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            )
            _set_options(sock, window_size, netdev)
            number = sock.connect_ex(address)
        except OSError as error:
            raise refusal(error.errno or 0, portal, netdev, 0.0) from error
        stack.pop_all()
        return sock, number


def refusal(number: int, portal: Portal, netdev: str | None, waited: float) -> ConnectError:
    """The errno a connection failed with in words; ``waited``: seconds since it began."""
    cause, hint, retryable = _WORDS.get(number, (os.strerror(number), "see dmesg", True))
    if number == errno.ETIMEDOUT:
        cause = f"{cause} (waited {waited:.0f} s)"
    if number == errno.ENODEV and netdev:
        cause = f"{cause} {quoted(netdev)}"
    return ConnectError(cause, portal=portal, hint=hint, retryable=retryable, number=number)


def _set_options(sock: socket.socket, window_size: int, netdev: str | None) -> None:
    if netdev:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, netdev.encode() + b"\0")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if window_size:
        # Before connect: the window scale is settled in the handshake.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window_size)


def _address(portal: Portal) -> tuple[str, int] | tuple[str, int, int, int]:
    address = portal.address
    if address.version == 4:
        return (str(address), portal.port)
    scope = address.scope_id
    if scope is None:
        return (str(address), portal.port, 0, 0)
    try:
        # The kernel numbers interfaces with a C int; what if_nametoindex() raises for a bad name has no errno.
        index = int(scope) if scope.isdecimal() and len(scope) < 10 else socket.if_nametoindex(scope)
    except (OSError, ValueError) as error:
        raise refusal(errno.ENODEV, portal, scope, 0.0) from error
    return (str(address).partition("%")[0], portal.port, 0, index)


def _outcome(
    sock: socket.socket, deadline: Deadline, now: Callable[[], float], cancellation: Cancellation | None
) -> int:
    """The errno the connection attempt ended with: 0 connected, ETIMEDOUT when the deadline passes first."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        if cancellation is not None:
            selector.register(cancellation, selectors.EVENT_READ)
        if not selector.select(deadline.remaining(now())):
            return errno.ETIMEDOUT
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
