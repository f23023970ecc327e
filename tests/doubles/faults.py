# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lies in full feature phase: small functions of an honest PDU, put together and aimed at the Nth of a kind.

``on(DataIn, fields(datasn=plus(1)), nth=2)`` makes one entry of a plan's faults. What nobody asked for is a builder of
an Outgoing here; it goes into ``followed_by``, ``preceded_by``, a plan's greeting or ``FullTarget.push``. The faults of
login are in :mod:`tests.doubles.target`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from iscsiboot.initiator.pdu.control import AsyncEvent, AsyncMessage, LogoutResponse, NopIn, TextResponse
from iscsiboot.initiator.pdu.header import RESERVED_TAG, Pdu
from iscsiboot.initiator.pdu.login import LoginResponse
from iscsiboot.initiator.pdu.reject import Reject
from iscsiboot.initiator.pdu.scsi import DataIn, ReadyToTransfer, ScsiResponse, TaskManagementResponse
from tests.doubles.directory import record
from tests.doubles.session import SessionFault
from tests.doubles.wire import Close, Item, Outgoing, Override, Send, Wait

Change = Callable[[Outgoing], Sequence[Item]]
EVERY = -1
STRANGER = 0xDEAD0001
"""A tag no honest conversation of the tests comes to."""


def on(kind: type[Pdu], *changes: Change, nth: int = 0) -> Callable[[], SessionFault]:
    """These changes, one after the other, to the ``nth`` PDU of this kind, counted from 0; EVERY for all of them."""

    def make() -> SessionFault:
        seen = 0

        def fault(items: Sequence[Item]) -> Sequence[Item]:
            nonlocal seen
            done: list[Item] = []
            for item in items:
                if not isinstance(item, Outgoing) or not isinstance(item.pdu, kind):
                    done.append(item)
                    continue
                done += _changed(item, changes) if nth in (seen, EVERY) else [item]
                seen += 1
            return done

        return fault

    return make


def _changed(first: Outgoing, changes: Sequence[Change]) -> list[Item]:
    items: list[Item] = [first]
    for change in changes:
        items = [new for item in items for new in (change(item) if isinstance(item, Outgoing) else [item])]
    return items


def plus(count: int) -> Callable[[int], int]:
    """The honest value and ``count``, on 32 bits."""
    return lambda value: (value + count) % (1 << 32)


# What happens to a PDU.


def dropped(outgoing: Outgoing) -> Sequence[Item]:
    """Never made: no number is used up."""
    return []


def lost(outgoing: Outgoing) -> Sequence[Item]:
    """Made and numbered, and not sent."""
    return [replace(outgoing, copies=0)]


def twice(outgoing: Outgoing) -> Sequence[Item]:
    """Sent again, byte for byte."""
    return [replace(outgoing, copies=2)]


def late(seconds: float) -> Change:
    """Sent after this time."""
    return lambda outgoing: [Wait(seconds), outgoing]


def closed_before(outgoing: Outgoing) -> Sequence[Item]:
    """The connection ends instead."""
    return [Close()]


def closed_after(outgoing: Outgoing) -> Sequence[Item]:
    """The connection ends behind it."""
    return [outgoing, Close()]


def closed_inside(length: int) -> Change:
    """The connection ends after so many bytes of it."""
    return lambda outgoing: [replace(outgoing, cut=length)]


def fields(**overrides: Override) -> Change:
    """Other header fields; a function gets the honest value."""
    return lambda outgoing: [outgoing.changed(**overrides)]


def holding(data: bytes) -> Change:
    """Another data segment."""
    return lambda outgoing: [replace(outgoing, data=data)]


def without_data(outgoing: Outgoing) -> Sequence[Item]:
    """No data segment."""
    return [replace(outgoing, data=b"")]


def announcing(length: int) -> Change:
    """A DataSegmentLength that is not the data's."""
    return lambda outgoing: [replace(outgoing, announced=length)]


def announcing_headers(length: int) -> Change:
    """A TotalAHSLength of so many bytes that do not come."""
    return lambda outgoing: [replace(outgoing, announced_ahs=length)]


def with_headers(ahs: bytes) -> Change:
    """Additional headers, which no PDU of a target has."""
    return lambda outgoing: [replace(outgoing, ahs=ahs)]


def spoiled(what: str) -> Change:
    """A wrong digest: ``header`` or ``data``."""
    return lambda outgoing: [replace(outgoing, spoil=what)]


def bytes_instead(wire: bytes) -> Change:
    """Any bytes."""
    return lambda outgoing: [Send(wire)]


def pdu_instead(other: Outgoing) -> Change:
    """Another PDU."""
    return lambda outgoing: [other]


def preceded_by(*items: Item) -> Change:
    """More before it."""
    return lambda outgoing: [*items, outgoing]


def followed_by(*items: Item) -> Change:
    """More after it."""
    return lambda outgoing: [outgoing, *items]


# What nobody asked for.


def ping(ttt: int = 0x77, *, lun: bytes = bytes(8), data: bytes = b"") -> Outgoing:
    """A NOP-In that wants an answer."""
    return Outgoing(pdu=NopIn(lun=lun, ttt=ttt), data=data)


def news() -> Outgoing:
    """A NOP-In that tells the numbers and wants nothing."""
    return Outgoing(pdu=NopIn())


def stray_pong(itt: int = STRANGER) -> Outgoing:
    """The answer to a ping nobody sent."""
    return Outgoing(pdu=NopIn(itt=itt))


def event(
    number: int,
    *,
    lun: bytes = bytes(8),
    vcode: int = 0,
    parameters: tuple[int, int, int] = (0, 0, 0),
    data: bytes = b"",
) -> Outgoing:
    """An Asynchronous Message; for a SCSI event ``data`` is the sense data."""
    if number == AsyncEvent.SCSI:
        data = len(data).to_bytes(2, "big") + data
    one, two, three = parameters
    return Outgoing(
        pdu=AsyncMessage(event=number, lun=lun, vcode=vcode, parameter1=one, parameter2=two, parameter3=three),
        data=data,
    )


def rejecting(reason: int, header: bytes = bytes(48)) -> Outgoing:
    """A Reject of the PDU with this header."""
    return Outgoing(pdu=Reject(reason=reason), data=header)


def stray_data_in(itt: int = STRANGER, data: bytes = b"stray", *, status: bool = False) -> Outgoing:
    """Data for a task that is not there, with its status or without."""
    return Outgoing(pdu=DataIn(itt=itt, final=True, status_present=status), data=data)


def stray_r2t(itt: int = STRANGER, *, offset: int = 0, length: int = 512) -> Outgoing:
    """A call for data nobody offered."""
    return Outgoing(pdu=ReadyToTransfer(itt=itt, ttt=0x99, buffer_offset=offset, desired_length=length))


def stray_response(itt: int = STRANGER, status: int = 0) -> Outgoing:
    """The end of a task that is not there."""
    return Outgoing(pdu=ScsiResponse(itt=itt, status=status))


def stray_text(itt: int = STRANGER, data: bytes = b"X-stray=1\0") -> Outgoing:
    """The answer to a request nobody made."""
    return Outgoing(pdu=TextResponse(itt=itt), data=data)


def stray_task_response(itt: int = STRANGER) -> Outgoing:
    """The answer to a task management request nobody made."""
    return Outgoing(pdu=TaskManagementResponse(itt=itt))


def stray_logout_response(itt: int = STRANGER) -> Outgoing:
    """The answer to a logout nobody asked for."""
    return Outgoing(pdu=LogoutResponse(itt=itt))


def login_response() -> Outgoing:
    """A Login Response long after login."""
    return Outgoing(pdu=LoginResponse(transit=True, csg=1, nsg=3, tsih=7))


def unknown_pdu(opcode: int = 0x2A, data_length: int = 0) -> Send:
    """A header with an opcode the RFC does not assign, without digests."""
    header = bytearray(48)
    header[0], header[1], header[5:8] = opcode, 0x80, data_length.to_bytes(3, "big")
    header[16:24] = RESERVED_TAG.to_bytes(4, "big") * 2
    return Send(bytes(header))


GOOD_NAME = b"iqn.2004-01.com.example:good"

HOSTILE_RECORDS: dict[str, bytes] = {
    "path": record(b"../../etc/passwd", b"192.0.2.1:3260,1"),
    "path in a name": record(b"iqn.2004-01.com.example:../../x", b"192.0.2.1:3260,1"),
    "slash": record(b"iqn.2004-01.com.example:a/b", b"192.0.2.1:3260,1"),
    "escape": record(b"iqn.2004-01.com.example:\x1b[2J", b"192.0.2.1:3260,1"),
    "line break": record(b"iqn.2004-01.com.example:a\nb", b"192.0.2.1:3260,1"),
    "300 bytes": record(b"iqn.2004-01.com.example:" + b"a" * 276, b"192.0.2.1:3260,1"),
    "not UTF-8": record(b"iqn.2004-01.com.example:\xff\xfe", b"192.0.2.1:3260,1"),
    "empty name": record(b"", b"192.0.2.1:3260,1"),
    "dots": record(b"..", b"192.0.2.1:3260,1"),
    "space": record(b"iqn.2004-01.com.example:a b", b"192.0.2.1:3260,1"),
    "port 0": record(GOOD_NAME, b"192.0.2.1:0,1"),
    "port 65536": record(GOOD_NAME, b"192.0.2.1:65536,1"),
    "group 65536": record(GOOD_NAME, b"192.0.2.1:3260,65536"),
    "no address": record(GOOD_NAME, b"999.0.2.1:3260,1"),
    "zone of ours": record(GOOD_NAME, b"[fe80::1%eth0]:3260,1"),
    "address is a path": record(GOOD_NAME, b"../../dev/mem"),
    "address not UTF-8": record(GOOD_NAME, b"\xff\xff:3260,1"),
    "address without a target": b"TargetAddress=192.0.2.1:3260,1\0",
    "no equals sign": b"TargetName\0",
    "another key": b"InitiatorName=iqn.2004-01.com.example:evil\0",
}
"""What no record may be; each is one SendTargets answer."""
