# SPDX-License-Identifier: LGPL-2.1-or-later
"""The conversation with the kernel: one request at a time, its answer, and every event that came between, in order.

Rules the kernel sets (drivers/scsi/scsi_transport_iscsi.c):

* A request runs inside ``sendto``; its answer is queued before ``sendto`` returns. Every wait has a deadline still.
* Events go to everybody in group 1, also those of sessions of other processes and threads: a reader filters by sid.
* The socket exists in every network namespace, the kernel listens in the initial one only: elsewhere ``sendto`` says
  ECONNREFUSED.
* The creator of a session is remembered by port id, so every user has a socket of its own (the kernel picks the id).

One socket belongs to one thread.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable

from iscsiboot.errors import ExitCode, IscsiBootError, Stage
from iscsiboot.model.deadline import Deadline
from iscsiboot.netlink.messages import Event, EventsLost, Refusal, Reply, Request, Statistics, decode
from iscsiboot.netlink.uapi import ISCSI_NL_GRP_ISCSID, NETLINK_ISCSI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

RECEIVE_BUFFER = 4 << 20
"""Bytes asked of SO_RCVBUFFORCE, a limit and no allocation, which the kernel doubles: room for ten thousand events, or
for the login PDUs of some thousand sessions that come back at once, while this thread is busy."""

DATAGRAM_MAX = 1 << 16
"""More than the largest login PDU (8 KiB) with its headers."""

FULL = 1 << 14
"""Datagrams; more than the buffer holds. One reading ends here however fast others come: a target can send messages
without an end, and who read until there is none would do nothing else, and keep them all."""

_ISSUES = {
    errno.EPERM: ("the kernel refused for want of CAP_SYS_ADMIN", "run it as root"),
    errno.EACCES: ("the kernel refused for want of CAP_SYS_ADMIN", "run it as root"),
    errno.EPROTONOSUPPORT: ("this kernel has no scsi_transport_iscsi", "modprobe iscsi_tcp"),
    errno.EAFNOSUPPORT: ("this kernel has no netlink", "boot a kernel with CONFIG_NET"),
    errno.ECONNREFUSED: (
        "the kernel does not answer NETLINK_ISCSI in this network namespace",
        "run it in the initial network namespace, with iscsi_tcp loaded",
    ),
}


class NetlinkError(IscsiBootError):
    """The socket itself failed, or an answer did not come."""


class RequestRefused(IscsiBootError):
    """The kernel refused a request; ``errno`` says how (positive)."""

    def __init__(self, request: Request, number: int) -> None:
        super().__init__(
            f"the kernel refused {request.describe()}: {errno_words(number)}",
            stage=Stage.HANDOFF,
            subject="NETLINK_ISCSI",
            hint=_ISSUES[number][1] if number in _ISSUES else "see dmesg",
            exit_code=ExitCode.ACCESS if number in (errno.EPERM, errno.EACCES) else ExitCode.INTERNAL,
            # The kernel answers so while it still cleans the connection up or is short of memory for a moment.
            retryable=number in (errno.ENOTCONN, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS),
        )
        self.errno = number


def errno_words(number: int) -> str:
    """``ENOTCONN (Transport endpoint is not connected)``; the number alone when nobody knows it."""
    name = errno.errorcode.get(number)
    return f"{name} ({os.strerror(number)})" if name else f"error {number}"


class Transport(Protocol):
    """What :class:`IscsiNetlink` needs of a socket; a datagram socketpair does as well."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        """Send one datagram to (port id, groups)."""

    def recvfrom(self, size: int, flags: int, /) -> tuple[bytes, tuple[int, int]]:
        """One datagram and its sender (port id, groups)."""

    def getsockname(self) -> tuple[int, int]:
        """Our own (port id, groups)."""

    def close(self) -> None:
        """Close it."""


def make_room(raw: socket.socket) -> None:
    """Have a socket hold what comes while its reader is busy; as much as the system's limit where more is refused."""
    try:
        raw.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), RECEIVE_BUFFER)
    except PermissionError:
        # Root without CAP_NET_ADMIN. What is lost then is told by the kernel, and read from sysfs.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def _kernel_transport() -> Transport:
    raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ISCSI)
    try:
        make_room(raw)
        raw.bind((0, 1 << (ISCSI_NL_GRP_ISCSID - 1)))
    except OSError:
        raw.close()
        raise
    return raw


class IscsiNetlink:
    """A bound NETLINK_ISCSI socket. A context manager; :meth:`close` is idempotent."""

    def __init__(self, transport: Transport, *, now: Callable[[], float]) -> None:
        self._transport = transport
        self._now = now
        self._events: deque[Event] = deque()
        self._answers: deque[Reply | Refusal] = deque()
        self._selector = selectors.DefaultSelector()
        self._selector.register(transport.fileno(), selectors.EVENT_READ)
        self._clean = True
        """No answer is on its way: none was asked for since the last one came."""
        self._closed = False
        self.port = transport.getsockname()[0]
        """Our port id, unsigned: what sysfs shows (signed) as a session's ``creator``."""

    @classmethod
    def open(cls, *, now: Callable[[], float]) -> IscsiNetlink:
        """A socket to this machine's kernel, in the event group. :class:`NetlinkError` says what is missing."""
        try:
            transport = _kernel_transport()
        except OSError as error:
            raise _socket_error(error) from error
        return cls(transport, now=now)

    def request(self, request: Request, deadline: Deadline) -> Reply:
        """Send and wait for the answer; events that come meanwhile are kept for :meth:`next_event`.

        :class:`RequestRefused` when the kernel says no, :class:`NetlinkError` when it says nothing.
        """
        self._send(request)
        for _ in range(FULL):  # the answer is among these, or it was lost
            while self._answers:
                answer = self._answers.popleft()
                if answer.request != request.type:
                    continue
                self._clean = True
                if isinstance(answer, Refusal):
                    raise RequestRefused(request, answer.errno)
                return answer
            if not self._wait(deadline):
                break
        raise _unanswered(request, deadline)

    def _send(self, request: Request) -> None:
        if not self._clean:
            # An answer still queued here belongs to a request whose caller was interrupted before reading it.
            self._drain()
            self._answers.clear()
        self._clean = False
        try:
            self._transport.sendto(request.pack(self.port), (0, 0))
        except OSError as error:
            raise _socket_error(error) from error

    def statistics(self, request: Request, deadline: Deadline) -> Statistics:
        """Send a GET_STATS and wait for the counters of the session it names; other events are kept.

        The kernel multicasts them, so those somebody else asked for may come first: they are younger than our request
        and as good. Errors as those of :meth:`request`.
        """
        self._drain()
        self._events = deque(event for event in self._events if not isinstance(event, Statistics))
        self._send(request)
        for _ in range(FULL):
            for event in self._events:
                if isinstance(event, Statistics) and (event.sid, event.cid) == request.args:
                    self._events.remove(event)
                    return event
            refused = next((answer for answer in self._answers if answer.request == request.type), None)
            if isinstance(refused, Refusal):
                raise RequestRefused(request, refused.errno)
            if not self._wait(deadline):
                break
        raise _unanswered(request, deadline)

    def next_event(self, deadline: Deadline) -> Event | None:
        """The oldest event not yet taken, waiting for one until the deadline; None when it passes."""
        while not self._events:
            if not self._wait(deadline):
                return None
        return self._events.popleft()

    def fileno(self) -> int:
        """The descriptor that becomes readable when something comes; but see :attr:`pending`."""
        return self._transport.fileno()

    @property
    def pending(self) -> bool:
        """Whether a request has read events that nobody has taken: the descriptor does not tell of those any more."""
        return bool(self._events)

    def take_events(self, at_most: int = FULL) -> list[Event]:
        """Every event there is, without waiting; of ``at_most`` datagrams, the rest stays to be announced again."""
        self._drain(at_most)
        taken = list(self._events)
        self._events.clear()
        return taken

    def _wait(self, deadline: Deadline) -> bool:
        """Read the next datagram, or what has come when it had to be waited for; False when the deadline passes first.

        The answer to a request is there as sendto(2) returns: a hundred logins are three thousand of them.
        """
        if self._read():
            return True
        if not self._selector.select(deadline.remaining(self._now())):
            return False
        self._drain()
        return True

    def _drain(self, at_most: int = FULL) -> None:
        """Sort what the socket holds into answers and events."""
        for _ in range(at_most):
            if not self._read():
                return

    def _read(self) -> bool:
        """One datagram, sorted; False when there is none."""
        try:
            datagram, sender = self._transport.recvfrom(DATAGRAM_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise _socket_error(error) from error
            # Overflow: the kernel dropped events of the group. Whoever waits for a PDU must know.
            self._events.append(EventsLost())
            return True
        # Another process may send us datagrams; only the kernel (port id 0) is believed.
        for message in decode(datagram) if sender[0] == 0 else ():
            if isinstance(message, Reply | Refusal):
                self._answers.append(message)
            else:
                self._events.append(message)
        return True

    def close(self) -> None:
        """Close the socket; sessions it created live on."""
        if not self._closed:
            self._closed = True
            self._selector.close()
            self._transport.close()

    def __enter__(self) -> IscsiNetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unanswered(request: Request, deadline: Deadline) -> NetlinkError:
    return NetlinkError(
        f"no answer to {request.describe()} in time ({deadline.reason})",
        stage=Stage.HANDOFF,
        subject="NETLINK_ISCSI",
        hint="see dmesg for a kernel fault",
        exit_code=ExitCode.INTERNAL,
    )


def _socket_error(error: OSError) -> NetlinkError:
    number = error.errno or 0
    cause, hint = _ISSUES.get(number, (errno_words(number), "see dmesg"))
    permission = number in (errno.EPERM, errno.EACCES)
    return NetlinkError(
        cause,
        stage=Stage.HANDOFF,
        subject="NETLINK_ISCSI",
        hint=hint,
        exit_code=ExitCode.ACCESS if permission else ExitCode.TRANS_NOT_FOUND,
    )
