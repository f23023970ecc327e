# SPDX-License-Identifier: LGPL-2.1-or-later
"""The decoder for what a target sends, which makes the classes of SCSI's PDUs when the first of these comes.

:mod:`iscsiboot.initiator.pdu.registry` has them all and costs a discovery more than its whole conversation.
"""

from __future__ import annotations

from iscsiboot.initiator.pdu import control, reject
from iscsiboot.initiator.pdu.header import Pdu

_OPCODE_MASK = 0x3F

_WITHOUT_SCSI: dict[int, type[Pdu]] = {
    kind.OPCODE: kind
    for kind in (control.NopIn, control.TextResponse, control.LogoutResponse, control.AsyncMessage, reject.Reject)
}
"""What every session may hear, discovery sessions included."""


def decode_answer(bhs: bytes) -> Pdu:
    """As :func:`iscsiboot.initiator.pdu.registry.decode` with ``TARGET_PDUS``."""
    kind = _WITHOUT_SCSI.get(bhs[0] & _OPCODE_MASK) if bhs else None
    if kind is not None:
        return kind.decode(bhs)
    from iscsiboot.initiator.pdu.registry import TARGET_PDUS, decode  # for sessions with disks, and for errors

    return decode(bhs, TARGET_PDUS)
