# SPDX-License-Identifier: LGPL-2.1-or-later
"""NETLINK_ISCSI messages as frozen values, and their bytes. No socket here.

A request is ``nlmsghdr`` + ``struct iscsi_uevent`` + data. The kernel answers a request by sending the same uevent back
with its union ``r`` filled; a refusal has ``type`` IF_ERROR and a negative errno in ``iferror``. Events carry what they
say in ``r`` too. So everything received is one shape (GET_STATS alone is answered to the whole group, and names its
session in ``u``), and ``ev.type`` alone tells what it is: ``nlmsg_type`` does not
(drivers/scsi/scsi_transport_iscsi.c, ``iscsi_if_rx`` and ``iscsi_multicast_skb``).

:func:`decode` takes any bytes, always ends, and turns what it cannot read into :class:`Malformed` values.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from iscsiboot.netlink.uapi import (
    BHS_SIZE,
    NLMSGHDR,
    REQUEST_LAYOUTS,
    UEVENT_HEAD,
    UEVENT_REPLY_SIZE,
    UEVENT_REQUEST_SIZE,
    UEVENT_SIZE,
    HostParam,
    KEvent,
    Param,
    StopFlag,
    UEvent,
    name_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

_REPLY = struct.Struct("=IIII")
_UNION_R = UEVENT_HEAD.size + UEVENT_REQUEST_SIZE


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request: ``args`` are the numbers of its layout in :data:`REQUEST_LAYOUTS`, ``data`` what follows."""

    type: UEvent
    handle: int
    """The transport's handle from sysfs, 64 bits."""
    args: tuple[int, ...]
    data: bytes = field(default=b"", repr=False)
    """A parameter's text or a PDU: may be a CHAP secret, so it never shows."""

    def pack(self, port: int) -> bytes:
        """The whole netlink message, sent from port id ``port``. ValueError when a number does not fit its field."""
        layout, _ = REQUEST_LAYOUTS[self.type]
        try:
            head = UEVENT_HEAD.pack(self.type, 0, self.handle)
            union = layout.pack(*self.args)
        except struct.error as error:
            raise ValueError(f"{self.type.name}: {error}") from None
        body = head + union.ljust(UEVENT_REQUEST_SIZE, b"\0") + bytes(UEVENT_REPLY_SIZE) + self.data
        return NLMSGHDR.pack(NLMSGHDR.size + len(body), self.type, 0, 0, port & 0xFFFFFFFF) + body

    def describe(self) -> str:
        """``SET_PARAM sid=1 cid=0 param=ISCSI_PARAM_TARGET_NAME len=12``; never the data."""
        _, names = REQUEST_LAYOUTS[self.type]
        words = [f"{name}={value}" for name, value in zip(names, self.args, strict=True)]
        if self.type is UEvent.ISCSI_UEVENT_SET_PARAM:
            words[2] = f"param={name_of(Param, self.args[2])}"
        return " ".join([self.type.name.removeprefix("ISCSI_UEVENT_"), *words])

    @classmethod
    def unpack(cls, message: bytes) -> Request:
        """The inverse of :meth:`pack`, as the kernel reads it (for doubles and traces). ValueError otherwise."""
        if len(message) < NLMSGHDR.size + UEVENT_SIZE:
            raise ValueError(f"{len(message)} bytes are too short for a request")
        length, _, _, _, _ = NLMSGHDR.unpack_from(message)
        if not NLMSGHDR.size + UEVENT_SIZE <= length <= len(message):
            raise ValueError(f"the header says {length} bytes, the message has {len(message)}")
        number, _, handle = UEVENT_HEAD.unpack_from(message, NLMSGHDR.size)
        layout, _ = REQUEST_LAYOUTS[UEvent(number)]
        args = layout.unpack_from(message, NLMSGHDR.size + UEVENT_HEAD.size)
        return cls(type=UEvent(number), handle=handle, args=args, data=message[NLMSGHDR.size + UEVENT_SIZE : length])


def create_session(handle: int, *, initial_cmdsn: int, cmds_max: int, queue_depth: int) -> Request:
    """A new SCSI host and session. Reply: ``first`` is the sid, ``second`` the host number."""
    return Request(type=UEvent.ISCSI_UEVENT_CREATE_SESSION, handle=handle, args=(initial_cmdsn, cmds_max, queue_depth))


def destroy_session(handle: int, *, sid: int) -> Request:
    """Remove a session and its host; EBUSY while it has connections."""
    return Request(type=UEvent.ISCSI_UEVENT_DESTROY_SESSION, handle=handle, args=(sid,))


def destroy_session_async(handle: int, *, sid: int) -> Request:
    """The same without waiting for the end, which the event DESTROY_SESSION tells. ENOSYS before Linux 5.6."""
    return Request(type=UEvent.ISCSI_UEVENT_DESTROY_SESSION_ASYNC, handle=handle, args=(sid,))


def unbind_session(handle: int, *, sid: int) -> Request:
    """Remove the session's SCSI devices, flushing their caches; ended by the event UNBIND_SESSION."""
    return Request(type=UEvent.ISCSI_UEVENT_UNBIND_SESSION, handle=handle, args=(sid,))


def create_conn(handle: int, *, sid: int, cid: int) -> Request:
    """A connection of the session. Reply: ``second`` is the cid, -1 as u32 on failure."""
    return Request(type=UEvent.ISCSI_UEVENT_CREATE_CONN, handle=handle, args=(sid, cid))


def destroy_conn(handle: int, *, sid: int, cid: int) -> Request:
    """Remove a stopped (or never bound) connection."""
    return Request(type=UEvent.ISCSI_UEVENT_DESTROY_CONN, handle=handle, args=(sid, cid))


def bind_conn(handle: int, *, sid: int, cid: int, endpoint: int) -> Request:
    """Give the connection its TCP socket: ``endpoint`` is the file descriptor in the calling process."""
    return Request(type=UEvent.ISCSI_UEVENT_BIND_CONN, handle=handle, args=(sid, cid, endpoint, 1))


def set_param(handle: int, *, sid: int, cid: int, param: Param, value: str | bytes) -> Request:
    """One parameter as NUL-terminated text. ValueError when the value itself holds a NUL."""
    data = _text(value)
    return Request(type=UEvent.ISCSI_UEVENT_SET_PARAM, handle=handle, args=(sid, cid, param, len(data)), data=data)


def set_host_param(handle: int, *, host: int, param: HostParam, value: str) -> Request:
    """One parameter of the SCSI host, for people who look at sysfs later."""
    data = _text(value)
    return Request(type=UEvent.ISCSI_UEVENT_SET_HOST_PARAM, handle=handle, args=(host, param, len(data)), data=data)


def start_conn(handle: int, *, sid: int, cid: int) -> Request:
    """The login is done: the connection takes commands from now on."""
    return Request(type=UEvent.ISCSI_UEVENT_START_CONN, handle=handle, args=(sid, cid))


def stop_conn(handle: int, *, sid: int, cid: int, flag: StopFlag) -> Request:
    """The connection takes no more commands; its socket is let go."""
    return Request(type=UEvent.ISCSI_UEVENT_STOP_CONN, handle=handle, args=(sid, cid, 0, flag))


def send_pdu(handle: int, *, sid: int, cid: int, bhs: bytes, data: bytes) -> Request:
    """A PDU of ours; ``data`` is padded to four bytes, the header's DataSegmentLength is not. ValueError otherwise."""
    if len(bhs) != BHS_SIZE or len(data) % 4:
        raise ValueError(f"a PDU needs {BHS_SIZE} header bytes and padded data, not {len(bhs)} and {len(data)}")
    args = (sid, cid, len(bhs), len(data))
    return Request(type=UEvent.ISCSI_UEVENT_SEND_PDU, handle=handle, args=args, data=bhs + data)


def get_stats(handle: int, *, sid: int, cid: int) -> Request:
    """The counters of a connection. The answer is a :class:`Statistics` event; only a refusal comes as an answer."""
    return Request(type=UEvent.ISCSI_UEVENT_GET_STATS, handle=handle, args=(sid, cid))


def _text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    if b"\0" in raw:
        raise ValueError("a parameter cannot hold a NUL byte")
    return raw + b"\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """The kernel's answer to a request it took: the first two numbers of the union ``r``."""

    request: int
    first: int
    second: int

    @property
    def retcode(self) -> int:
        """``r.retcode`` of BIND_CONN, START_CONN and SEND_PDU: 0 or a negative errno."""
        return self.first - (1 << 32) if self.first & 0x80000000 else self.first


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The kernel's answer to a request it did not take."""

    request: int
    """``nlmsg_type``, because ``ev.type`` is overwritten by IF_ERROR."""
    errno: int
    """Positive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecvPdu:
    """A PDU for us: login, text, logout, asynchronous and ping PDUs, not SCSI ones."""

    sid: int
    cid: int
    bhs: bytes
    data: bytes = field(repr=False)
    """Rounded up to four bytes by the kernel; the header's DataSegmentLength says how much counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnError:
    """The kernel gave a connection up; ``error`` is an :class:`IscsiErr`."""

    sid: int
    cid: int
    error: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEvent:
    """A session was created, unbound from its devices, or destroyed."""

    kind: KEvent
    sid: int
    host: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """The counters of a connection, told to everybody because somebody asked (``struct iscsi_stats`` and more)."""

    sid: int
    cid: int
    data: bytes
    """For :func:`iscsiboot.netlink.statistics.decode_statistics`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherEvent:
    """An event nobody here acts on (host adapters, later kernels), kept so that it can be told."""

    type: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EventsLost:
    """The socket's buffer overflowed: events are missing, and nobody knows which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Malformed:
    """Bytes that are no message; ``why`` names the field."""

    why: str


Answer: TypeAlias = Reply | Refusal
Event: TypeAlias = RecvPdu | ConnError | SessionEvent | Statistics | OtherEvent | EventsLost | Malformed


def decode(datagram: bytes) -> Iterator[Answer | Event]:
    """Every message of one datagram, in order. Each turn consumes at least a header, so it ends for any input."""
    at = 0
    while at < len(datagram):
        if len(datagram) - at < NLMSGHDR.size:
            yield Malformed(why=f"{len(datagram) - at} bytes left at {at}, a header has {NLMSGHDR.size}")
            return
        length, kind, _, _, _ = NLMSGHDR.unpack_from(datagram, at)
        if not NLMSGHDR.size <= length <= len(datagram) - at:
            yield Malformed(why=f"nlmsg_len {length} at {at} with {len(datagram) - at} bytes left")
            return
        yield _decode_one(kind, datagram[at + NLMSGHDR.size : at + length])
        at += (length + 3) & ~3


def _decode_one(kind: int, body: bytes) -> Answer | Event:
    if len(body) < UEVENT_SIZE:
        return Malformed(why=f"a uevent has {UEVENT_SIZE} bytes, this one {len(body)}")
    number, iferror, _ = UEVENT_HEAD.unpack_from(body)
    first, second, third, _ = _REPLY.unpack_from(body, _UNION_R)
    if number == KEvent.ISCSI_KEVENT_IF_ERROR:
        return Refusal(request=kind, errno=-_signed(iferror))
    if number == UEvent.ISCSI_UEVENT_GET_STATS:
        sid, cid = REQUEST_LAYOUTS[UEvent.ISCSI_UEVENT_GET_STATS][0].unpack_from(body, UEVENT_HEAD.size)
        return Statistics(sid=sid, cid=cid, data=body[UEVENT_SIZE:])
    if number < KEvent.ISCSI_KEVENT_RECV_PDU:
        return Reply(request=number, first=first, second=second)
    if number == KEvent.ISCSI_KEVENT_RECV_PDU:
        data = body[UEVENT_SIZE:]
        if len(data) < BHS_SIZE:
            return Malformed(why=f"RECV_PDU with {len(data)} bytes, a header has {BHS_SIZE}")
        return RecvPdu(sid=first, cid=second, bhs=data[:BHS_SIZE], data=data[BHS_SIZE:])
    if number == KEvent.ISCSI_KEVENT_CONN_ERROR:
        return ConnError(sid=first, cid=second, error=third)
    if number in (KEvent.ISCSI_KEVENT_CREATE_SESSION, KEvent.ISCSI_KEVENT_UNBIND_SESSION):
        return SessionEvent(kind=KEvent(number), sid=first, host=second)
    if number == KEvent.ISCSI_KEVENT_DESTROY_SESSION:
        return SessionEvent(kind=KEvent(number), sid=second, host=first)
    return OtherEvent(type=number)


def _signed(number: int) -> int:
    return number - (1 << 32) if number & 0x80000000 else number
