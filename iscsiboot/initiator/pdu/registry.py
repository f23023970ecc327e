# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every PDU class by opcode and direction, and the decoder for whatever comes (RFC 7143 section 11.2.1.2)."""

from __future__ import annotations

from iscsiboot.initiator.errors import ProtocolViolation
from iscsiboot.initiator.pdu import control, login, reject, scsi
from iscsiboot.initiator.pdu.header import Header, Opcode, Pdu

INITIATOR_PDUS: dict[int, type[Pdu]] = {
    kind.OPCODE: kind
    for kind in (
        control.NopOut,
        scsi.ScsiCommand,
        scsi.TaskManagementRequest,
        login.LoginRequest,
        control.TextRequest,
        scsi.DataOut,
        control.LogoutRequest,
        scsi.SnackRequest,
    )
}
"""What an initiator sends."""

TARGET_PDUS: dict[int, type[Pdu]] = {
    kind.OPCODE: kind
    for kind in (
        control.NopIn,
        scsi.ScsiResponse,
        scsi.TaskManagementResponse,
        login.LoginResponse,
        control.TextResponse,
        scsi.DataIn,
        control.LogoutResponse,
        scsi.ReadyToTransfer,
        control.AsyncMessage,
        reject.Reject,
    )
}
"""What a target sends."""


def decode(bhs: bytes, kinds: dict[int, type[Pdu]]) -> Pdu:
    """The PDU in 48 bytes, of the direction ``kinds`` stands for.

    :class:`ProtocolViolation` for another length, an opcode the RFC does not assign, or one of the other direction.
    """
    header = Header.decode(bhs)
    kind = kinds.get(header.opcode)
    if kind is None:
        side = "a target" if kinds is TARGET_PDUS else "an initiator"
        raise ProtocolViolation(f"{Opcode.words(header.opcode)} is nothing {side} sends")
    return kind.decode(bhs)
