# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a target asks for by an Asynchronous Message (RFC 7143 section 11.9), as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu.control import AsyncEvent, AsyncMessage
from iscsiboot.initiator.scsi_sense import parse_sense
from iscsiboot.keeper.situation import Asked, TargetWish
from iscsiboot.netlink.messages import RecvPdu
from iscsiboot.session.steps import CID

REPORTED_LUNS_CHANGED = (0x3F, 0x0E)
"""ASC and ASCQ (SPC-4): REPORTED LUNS DATA HAS CHANGED."""


@dataclass(frozen=True, slots=True)
class UnitsChanged:
    """There are other units than before."""


def read_async_message(pdu: RecvPdu) -> Asked | UnitsChanged | None:
    """What it means for us; None for what concerns nobody here, and for what is none."""
    try:
        message = AsyncMessage.decode(pdu.bhs)
    except ProtocolViolation:
        return None
    wait, within = float(message.parameter2), float(message.parameter3)
    match message.event:
        case AsyncEvent.SCSI:
            return _scsi(pdu)
        case AsyncEvent.LOGOUT_REQUESTED:
            return Asked(TargetWish.LOGOUT, within=within)
        case AsyncEvent.CONNECTION_DROP if message.parameter1 == CID:
            return Asked(TargetWish.DROP_CONNECTION, wait=wait, within=within)
        case AsyncEvent.SESSION_DROP:
            return Asked(TargetWish.DROP_ALL, wait=wait, within=within)
        case AsyncEvent.NEGOTIATION_REQUESTED:
            return Asked(TargetWish.RENEGOTIATE, within=within)
        case _:
            return None


def _scsi(pdu: RecvPdu) -> UnitsChanged | None:
    """The data segment: SenseLength, sense data, event data (section 11.9.3)."""
    data = pdu.data[: int.from_bytes(pdu.bhs[5:8], "big")]
    sense = parse_sense(data[2 : 2 + int.from_bytes(data[:2], "big")])
    return UnitsChanged() if sense is not None and (sense.asc, sense.ascq) == REPORTED_LUNS_CHANGED else None
